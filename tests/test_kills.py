"""Whatever kills bike, whenever: a later run completes the work, nothing is lost or doubled, nothing is left behind.

A failure prints its seed; `KILL_SEED=… pytest -m slow tests/test_kills.py` repeats it.
"""

import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest
from kills import Drill

TINY = ("-m", "tiny", "--workers", "2", "--frames", "4")
LABELS = ("-L", "red square,blue circle,green cross")
TRAINING = ("-m", "tiny", "--workers", "1", "--frames", "2", "--batch-size", "4", "--epochs", "2", "--warmup", "0")
TRAINING = (*TRAINING, "--lr", "1e-3", "--device", "cpu")
CLASSES = ("red square", "blue circle", "green cross")
TIMES = {"seconds", "out", "created", "run", "command", "argv", "time", "times"}
KILLS_EACH = 3  # before a run is left to complete

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux shows processes as files")


@pytest.fixture(scope="module")
def data(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three classes, each of four videos."""
    folder = tmp_path_factory.mktemp("data")
    for name in CLASSES:
        (folder / name).mkdir()
        for i in range(4):
            shutil.copy(clips / f"{name.replace(' ', '_')}.mp4", folder / name / f"{i}.mp4")
            with (folder / name / f"{i}.mp4").open("ab") as file:
                file.write(b"\0\0\0\x09free" + bytes([i]))  # an empty box: another file, the same film
    return folder


def records(file: Path) -> list[dict[str, object]]:
    return sorted((json.loads(line) for line in file.read_text().splitlines()), key=lambda record: str(record["path"]))


def document(file: Path) -> object:
    """Return a report without the times and places of its run."""
    return _without(
        json.loads(file.read_text()), {"seconds", "out", "created", "run", "command", "argv", "time", "times"}
    )


def _without(value: object, names: set[str]) -> object:
    if isinstance(value, dict):
        return {k: _without(v, names) for k, v in value.items() if k not in names and not str(k).endswith("_s")}
    return [_without(one, names) for one in value] if isinstance(value, list) else value


class Job:
    """A command of bike, and how what it made is compared."""

    def __init__(self, data: Path, out: Path) -> None:
        self.data, self.out = data, out
        out.mkdir()

    def command(self, *, again: bool) -> tuple[object, ...]:
        """Return the command, as it is given first or after a kill."""
        raise NotImplementedError

    def result(self) -> object:
        raise NotImplementedError


class Classify(Job):
    resumes_at_once = False

    def command(self, *, again: bool) -> tuple[object, ...]:
        resume = ("--resume",) if again or self.resumes_at_once else ()
        return ("classify", self.data, *TINY, *LABELS, "--no-cache", "-o", self.out / "answers.jsonl", *resume)

    def result(self) -> object:
        assert [path.name for path in self.out.iterdir()] == ["answers.jsonl"]
        return records(self.out / "answers.jsonl")


class ClassifyResumed(Classify):
    resumes_at_once = True


class Fewshot(Job):
    def command(self, *, again: bool) -> tuple[object, ...]:
        files = ("-o", self.out / "report.json", "--save", self.out / "kept.bike")
        return ("fewshot", self.data, *TINY, "--shots", "1", "--trials", "2", *files)

    def result(self) -> object:
        assert {path.name for path in self.out.iterdir()} == {"report.json", "kept.bike"}
        return document(self.out / "report.json")


class Eval(Job):
    def command(self, *, again: bool) -> tuple[object, ...]:
        return ("eval", self.data, *TINY, "-o", self.out / "report.json")

    def result(self) -> object:
        assert {path.name for path in self.out.iterdir()} == {"report.json"}
        return document(self.out / "report.json")


class Finetune(Job):
    def command(self, *, again: bool) -> tuple[object, ...]:
        return ("finetune", self.data, *TRAINING, "-o", self.out / "run", "--resume", "auto")

    def result(self) -> object:
        run = self.out / "run"
        left = [
            path.name for path in run.iterdir() if path.name.startswith(".unfinished") or path.name == "checkpoints"
        ]
        assert left == []
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        weights = (run / "model.safetensors").read_bytes()
        return [_without(line, TIMES) for line in lines], weights


def run_drill(kind: type[Job], data: Path, folder: Path, *, kills: int, seed: int) -> None:
    print(f"\n{kind.__name__}: KILL_SEED={seed}")  # noqa: T201
    drill = Drill(folder, random.Random(seed))
    whole = kind(data, folder / "whole")
    took_s = drill.run(*whole.command(again=False))
    expected = whole.result()
    killed = kind(data, folder / "killed-0")
    for i in range(1, kills + 1):
        drill.kill(*killed.command(again=i % KILLS_EACH != 1), within_s=took_s)
        if i % KILLS_EACH == 0 or i == kills:
            drill.run(*killed.command(again=True))
            if not drill.faults and killed.result() != expected:
                drill.faults.append(f"after {i} kills: not what an unkilled run makes")
            killed = kind(data, folder / f"killed-{i}")
        assert drill.faults == [], f"KILL_SEED={seed}"
    print(f"{kind.__name__}: {sum(drill.kills.values())} kills, {drill.kills}; a whole run takes {took_s:.1f} s")  # noqa: T201


def seed_of_today() -> int:
    return int(os.environ.get("KILL_SEED") or time.time_ns() % 10**6)


def test_a_run_that_is_killed_is_resumed(data: Path, tmp_path: Path) -> None:
    run_drill(ClassifyResumed, data, tmp_path, kills=3, seed=seed_of_today())


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Classify, ClassifyResumed, Fewshot, Finetune, Eval])
def test_nothing_is_lost_by_kills_at_random_moments(kind: type[Job], data: Path, tmp_path: Path) -> None:
    run_drill(kind, data, tmp_path, kills=9, seed=seed_of_today())
