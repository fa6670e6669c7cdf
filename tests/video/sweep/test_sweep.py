"""The frame promise on a thousand generated files: returned frames are those that ffmpeg shows at their positions."""

import functools
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch  # noqa: F401 - decord loaded before torch crashes the process (dmlc/decord#293)
from sweep_cases import CODECS, Case, cases
from sweep_checks import KNOWN_FAULTS, READINGS, Shown, check, check_shown, shown_by_ffmpeg
from sweep_files import Workshop

from bike_cli.config import DecodingConfig
from bike_cli.records import Source
from bike_cli.video.workers.pool import DecodePool

COUNT, BATCH = 1120, 40
LIMIT_S, LIMIT_MIB, WORKERS = 60, 4096, 2

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("ffmpeg") is None, reason="needs ffmpeg to create the files and to decode the expected frames"
    ),
]


@functools.cache
def all_cases() -> list[Case]:
    return cases(COUNT)


@functools.cache
def encoders() -> frozenset[str]:
    listed = subprocess.run(["ffmpeg", "-v", "error", "-encoders"], check=True, capture_output=True, text=True).stdout
    return frozenset(line.split()[1] for line in listed.splitlines() if line.startswith(" V"))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def pools() -> Iterator[dict[str, DecodePool]]:
    running = {
        reading.name: DecodePool(reading.sampling, DecodingConfig(reading.decoder, WORKERS, LIMIT_S, LIMIT_MIB))
        for reading in READINGS
    }
    yield running
    for pool in running.values():
        pool.close()


def test_cases_are_distinct_and_reproducible() -> None:
    again = cases(COUNT)

    assert again == all_cases()
    assert len({str(case).split(" ", 1)[1] + case.codec + case.container for case in again}) == COUNT
    assert {case.codec for case in again} == set(CODECS)


@pytest.mark.parametrize("first", range(0, COUNT, BATCH))
def test_returned_frames_are_those_that_ffmpeg_shows(
    first: int, workshop: Workshop, pools: dict[str, DecodePool]
) -> None:
    batch = [case for case in all_cases()[first : first + BATCH] if encoder_of(case) in encoders()]

    faults = _faults(batch, workshop, pools)

    assert not faults, "\n\n".join(faults)


def encoder_of(case: Case) -> str:
    """Return the encoder of ffmpeg that a case needs."""
    return CODECS[case.codec].arguments.split()[1]


def _faults(batch: Sequence[Case], workshop: Workshop, pools: dict[str, DecodePool]) -> list[str]:
    """Create files, read each in every way, delete them; return the faults with the commands that create the file."""
    with ThreadPoolExecutor(WORKERS) as makers:
        made = list(makers.map(functools.partial(_make, workshop), batch))
    coming = [
        [pools[reading.name].decode(Source.at(path)) for reading in READINGS]
        for _, path, _ in made  # schedule all before waiting for any
    ]
    reports = []
    for (case, path, shown), readings in zip(made, coming, strict=True):
        faults = check_shown(shown, case)
        for reading, one in zip(READINGS, readings, strict=True):
            outcome = one.result(timeout=LIMIT_S * BATCH)
            faults += [
                f"{reading.name}: {fault}"
                for fault in check(outcome, shown, case, reading).faults
                if not any(known.covers(case, reading, fault) for known in KNOWN_FAULTS)
            ]
        path.unlink()
        if faults:
            reports.append("\n".join([str(case), *map(str, workshop.steps(case)), *faults]))
    return reports


def _make(workshop: Workshop, case: Case) -> tuple[Case, Path, Shown]:
    try:
        path = workshop.make(case)
        return case, path, shown_by_ffmpeg(path, case)
    except subprocess.CalledProcessError as e:
        steps = "\n".join(map(str, workshop.steps(case)))
        pytest.fail(f"{case}\n{steps}\n{e.stderr.decode(errors='replace')}")
