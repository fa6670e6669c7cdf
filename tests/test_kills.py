"""Whatever kills bike, whenever: a later run completes the work, nothing is lost or doubled, nothing is left behind.

A failure prints its seed; `KILL_SEED=… pytest -m slow tests/test_kills.py` repeats it.
"""

import json
import os
import random
import shutil
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest
from kills import Drill

TINY = ("-m", "tiny", "--workers", "2", "--frames", "4")
LABELS = ("-L", "red square,blue circle,green cross")
TRAINING = ("-m", "tiny", "--workers", "1", "--frames", "2", "--batch-size", "4", "--epochs", "2", "--warmup", "0")
TRAINING = (*TRAINING, "--lr", "1e-3", "--device", "cpu")
CLASSES = ("red square", "blue circle", "green cross")
WITHOUT = Path(__file__).parent / "without"
TIMES = {"seconds", "waited_s"}
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


def without_seconds(value: object) -> object:
    """Return a report or a log without what it says about time, the only difference between equal runs."""
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if k not in TIMES}
    return [without_seconds(one) for one in value] if isinstance(value, list) else value


class Job:
    """A command of bike that runs in a folder of its own, and how what it made is compared.

    Names of outputs are relative, so that equal runs in different folders make equal reports.
    """

    environment: ClassVar[dict[str, str]] = {}

    def __init__(self, data: Path, out: Path) -> None:
        self.data, self.out = data, out
        out.mkdir()

    def command(self, *, again: bool) -> tuple[object, ...]:
        """Return the command, as it is given first or after a kill."""
        raise NotImplementedError

    def result(self) -> object:
        """Return everything in the folder but times; nothing else may be there."""
        raise NotImplementedError


class Classify(Job):
    resumes_at_once = False

    def command(self, *, again: bool) -> tuple[object, ...]:
        resume = ("--resume",) if again or self.resumes_at_once else ()
        return ("classify", self.data, *TINY, *LABELS, "--no-cache", "-o", "answers.jsonl", *resume)

    def result(self) -> object:
        assert [path.name for path in self.out.iterdir()] == ["answers.jsonl"]
        return records(self.out / "answers.jsonl")


class ClassifyResumed(Classify):
    resumes_at_once = True


class ClassifyWithLockFiles(Classify):
    """Where the system has no flock: locks are files beside the answers."""

    environment: ClassVar[dict[str, str]] = {
        "PYTHONPATH": os.pathsep.join([str(WITHOUT), *filter(None, sys.path)]),
        "WITHOUT": "fcntl",
    }


class Fewshot(Job):
    def command(self, *, again: bool) -> tuple[object, ...]:
        files = ("-o", "report.json", "--save", "kept.bike")
        return ("fewshot", self.data, *TINY, "--shots", "1", "--trials", "2", *files)

    def result(self) -> object:
        assert {path.name for path in self.out.iterdir()} == {"report.json", "kept.bike"}
        report = json.loads((self.out / "report.json").read_text())
        return without_seconds(report), (self.out / "kept.bike").read_bytes()


class Eval(Job):
    def command(self, *, again: bool) -> tuple[object, ...]:
        return ("eval", self.data, *TINY, "-o", "report.json")

    def result(self) -> object:
        assert {path.name for path in self.out.iterdir()} == {"report.json"}
        return without_seconds(json.loads((self.out / "report.json").read_text()))


class Finetune(Job):
    def command(self, *, again: bool) -> tuple[object, ...]:
        return ("finetune", self.data, *TRAINING, "--save", "run", "--resume")

    def result(self) -> object:
        run = self.out / "run"
        names = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.name != ".lock")
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        report = json.loads((run / "report.json").read_text())
        others = [(run / name).read_bytes() for name in names if name.endswith((".safetensors", ".yaml", ".txt"))]
        return names, without_seconds(lines), without_seconds(report), others


def run_drill(kind: type[Job], data: Path, folder: Path, *, kills: int, seed: int) -> None:
    """Kill runs until so many kills have reached one, and complete each job after at most `KILLS_EACH`."""
    drill = Drill(folder, random.Random(seed), kind.environment)
    whole = kind(data, folder / "whole")
    took_s = drill.run(whole.out, *whole.command(again=False))
    assert drill.faults == []
    expected = whole.result()
    n_jobs = 0
    while drill.kills.total() < kills:
        n_jobs += 1
        job = kind(data, folder / f"killed-{n_jobs}")
        for i in range(min(KILLS_EACH, kills - drill.kills.total())):
            complete_after_s = drill.kill(job.out, *job.command(again=i > 0), within_s=took_s)
            if complete_after_s is not None:
                if i == 0:  # the machine may have been busier while the first run was timed
                    took_s = min(took_s, complete_after_s)
                break
        else:
            drill.run(job.out, *job.command(again=True))
        if not drill.faults and job.result() != expected:
            drill.faults.append(f"job {n_jobs}: not what an unkilled run makes")
        assert drill.faults == [], f"KILL_SEED={seed}, {dict(drill.kills)}"
        assert n_jobs <= 4 * kills, "runs are too short to be killed"
    print(  # noqa: T201
        f"\n{kind.__name__}: KILL_SEED={seed}, {drill.kills.total()} kills {dict(drill.kills)} over {n_jobs} jobs, "
        f"{drill.n_left} left files that a later run removed; a whole run takes {took_s:.1f} s"
    )


def seed_of_today() -> int:
    return int(os.environ.get("KILL_SEED") or time.time_ns() % 10**6)


@pytest.mark.slow  # .ci/run runs it
def test_a_run_that_is_killed_is_resumed(data: Path, tmp_path: Path) -> None:
    run_drill(ClassifyResumed, data, tmp_path, kills=2, seed=seed_of_today())


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Classify, ClassifyResumed, ClassifyWithLockFiles, Fewshot, Finetune, Eval])
def test_nothing_is_lost_by_kills_at_random_moments(kind: type[Job], data: Path, tmp_path: Path) -> None:
    run_drill(kind, data, tmp_path, kills=9, seed=seed_of_today())
