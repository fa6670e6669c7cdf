"""The program that measures few-shot learning on rendered clips, and what its table promises."""

from argparse import Namespace
from pathlib import Path

import pytest
from measure_fewshot import print_table, print_worse, render, study
from shapes import NEW_MOTIONS

from bike_cli.engine.engine import Engine
from bike_cli.tasks.evaluate.metrics import mean_of
from bike_cli.tasks.fewshot.report import Report


def top1(report: Report, method: str, shots: int) -> float:
    return mean_of([outcome.top1 for outcome in report.of(method, shots)]).value


@pytest.mark.slow
def test_clips_of_each_motion_are_rendered_into_its_folder(tmp_path: Path) -> None:
    render(tmp_path, "new", clips=1)

    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.mp4"))
    assert found == sorted(f"{motion}/0000.mp4" for motion in NEW_MOTIONS)


@pytest.mark.slow
def test_the_probe_loses_nothing_on_known_motions_and_learns_new_ones(
    tiny: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = Namespace(pool="tcs", method="all", trials=5)
    for task in ("known", "new"):
        render(tmp_path / task, task, clips=32)

    known, new = (study(tiny, tmp_path / task, options) for task in ("known", "new"))
    print_table(new, "new")
    print_worse(new, "new")

    assert all(top1(known, "probe", shots) >= top1(known, "zeroshot", shots) - 1e-9 for shots in known.shots)
    # From one clip per motion, five draws differ by 2.5 points; docs/benchmarks.md has more draws.
    tolerance = {1: 0.03}
    assert all(top1(new, "probe", k) >= top1(new, "proto", k) - tolerance.get(k, 0.01) for k in new.shots)
    assert top1(new, "probe", 16) > top1(new, "zeroshot", 16) + 0.3
    written = capsys.readouterr().out
    assert written.count("| new | `probe` |") == 1
    assert "new, 16 shots: probe against proto" in written
