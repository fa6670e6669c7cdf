"""The clips to learn motions from: they are what the program renders, and learning from them visibly helps."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from shapes import LEARNED_MOTIONS, NEW_MOTIONS, SIDES, write_motions

import bike_cli as bike
from bike_cli.records import Source
from bike_cli.video.decoding import decode

ROOT = Path(__file__).parents[2]
CLIPS = ROOT / "examples" / "motions"
COMMANDS = re.findall(r"^bike .*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)


def command_of_readme(name: str) -> list[str]:
    """Return the words of the README's command on these clips, without `bike`."""
    (line,) = (line for line in COMMANDS if line.startswith(f"bike {name} examples/motions"))
    return shlex.split(line)[1:]


@pytest.mark.slow
def test_the_clips_are_those_that_the_program_renders(tmp_path: Path) -> None:
    write_motions(tmp_path)

    names = [file.relative_to(tmp_path) for file in sorted(tmp_path.rglob("*.mp4"))]
    assert names == [file.relative_to(CLIPS) for file in sorted(CLIPS.rglob("*.mp4"))]
    for name in names[::7]:
        rendered, there = (decode(Source.at(folder / name), bike.SamplingConfig()) for folder in (tmp_path, CLIPS))
        # Encoders differ by version.
        assert abs(rendered.frames.astype(int) - there.frames).mean() < 2


def test_there_are_enough_small_clips_of_motions_without_a_word_in_the_model() -> None:
    files = sorted(CLIPS.rglob("*.mp4"))

    assert set(LEARNED_MOTIONS) <= set(NEW_MOTIONS)
    for side, count in SIDES.items():
        for motion in LEARNED_MOTIONS:
            assert len([file for file in files if file.parent == CLIPS / side / motion]) == count
    assert len(files) == len(LEARNED_MOTIONS) * sum(SIDES.values())
    assert sum(file.stat().st_size for file in files) < 500_000
    assert bike.load("tiny").encoder.unknown(LEARNED_MOTIONS) == list(range(len(LEARNED_MOTIONS)))


@pytest.mark.slow
def test_a_few_clips_help_by_more_than_the_interval_of_the_gain() -> None:
    words = command_of_readme("fewshot")
    shots, trials = (words[words.index(flag) + 1] for flag in ("--shots", "--trials"))

    result = bike.fewshot(bike.load("tiny"), CLIPS, bike.FewshotConfig(shots=shots, trials=int(trials)))

    gain = result.report.summary("probe", int(shots)).gain
    assert gain.low is not None
    assert gain.low > 0


@pytest.mark.slow
def test_fine_tuning_on_the_clips_helps_significantly(tmp_path: Path) -> None:
    words = command_of_readme("finetune")
    model = tmp_path / words[words.index("--save") + 1]
    words[1], words[words.index("--save") + 1] = str(CLIPS), str(model)
    subprocess.run([sys.executable, "-m", "bike_cli", *words], check=True, cwd=ROOT)

    report = bike.evaluate([bike.load("tiny"), bike.load(str(model))], CLIPS)

    before, after = (system.metrics["top1"].value for system in report.systems)
    (compared,) = (one for one in report.comparisons if one.metric == "top1")
    assert after - before > 0.3
    assert compared.low > 0
    assert compared.significant
