"""The bundled model and clips to run on: what tests of several layers need."""

import functools
import gc
import itertools
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pebble
import pytest
import torch
import typer.main
import typer.testing
from films import drawn, write_video

from bike_cli.engine.engine import Engine, load

# The models of the tests are small: a second thread gains nothing, and waits long where others use the core.
torch.set_num_threads(1)
# Thousands of pools are closed, and each waits for threads that sleep as long as this.
pebble.CONSTS.sleep_unit = 0.02
# No test depends on the time it takes: machines are busy at times.
hypothesis.settings.register_profile("bike", deadline=None)
hypothesis.settings.load_profile("bike")


def pytest_configure() -> None:
    """Let programs under test be interrupted, also where the suite runs in the background or under nohup."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from going through libraries and 10,000 tests again and again."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let all be collected at the end: some libraries print what is left."""
    gc.unfreeze()


def pytest_xdist_auto_num_workers() -> int:
    """Return one more than there are cores: many tests wait for a process or a deadline."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session")
def tiny() -> Engine:
    """The bundled model."""
    return load("tiny", device="cpu", precision="fp32")


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three films of 2 s: a blue circle, a green cross and a red square."""
    folder = tmp_path_factory.mktemp("clips")
    for label in ("red square", "blue circle", "green cross"):
        write_video(folder / f"{label.replace(' ', '_')}.mp4", drawn(label))
    return folder


@pytest.fixture(scope="session", autouse=True)
def _nothing_from_outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep settings and the cache of the user out, of fixtures of a whole file, too."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("BIKE_")]:
            patch.delenv(name)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        # Matplotlib takes seconds to build its cache of fonts.
        patch.setenv("MPLCONFIGDIR", os.environ.get("MPLCONFIGDIR") or f"{tempfile.gettempdir()}/bike-tests-matplotlib")
        yield


@pytest.fixture(scope="session", autouse=True)
def _what_is_always_the_same_is_built_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        # Typer builds the commands for each run, which takes longer than most runs that are told what is wrong.
        built = functools.cache(typer.main.get_command)
        patch.setattr(typer.main, "get_command", built)
        patch.setattr(typer.testing, "_get_command", built)
        yield


@pytest.fixture(scope="session")
def _caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("caches")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _a_cache_of_its_own(monkeypatch: pytest.MonkeyPatch, _caches: Iterator[Path]) -> None:
    # A mktemp() for each test would look through the folders of all tests before it.
    monkeypatch.setenv("XDG_CACHE_HOME", str(next(_caches)))


@pytest.fixture(autouse=True)
def _ordinary_priority() -> Iterator[None]:
    """Undo what SVT-AV1 does for root: it gives its caller real-time priority, which starves every other process."""
    _give_up_real_time()
    yield
    _give_up_real_time()


def _give_up_real_time() -> None:
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
