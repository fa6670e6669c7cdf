"""What tests of the command line share."""

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

from bike_cli.engine import engine
from bike_cli.inference import processes

LABELS = ("red square", "blue circle", "green cross")


@pytest.fixture(scope="session", autouse=True)
def _each_model_is_loaded_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        load = functools.cache(engine.load)
        for module in (engine, processes):  # which calls it by a name of its own
            patch.setattr(module, "load", load)
        yield


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """A file of three labels, each of one of the clips."""
    file = tmp_path / "labels.txt"
    file.write_text("\n".join(LABELS))
    return file


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for all tests of a file: a film that another test has seen is not seen again, which takes seconds."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def one_store_for_all(monkeypatch: pytest.MonkeyPatch, _a_cache_of_its_own: None, store: Path) -> None:
    """Let the cache of a test be that of its file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(store))
