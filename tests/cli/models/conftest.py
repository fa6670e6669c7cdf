"""What the tests of `bike models` share."""

from pathlib import Path

import pytest
from huggingface_hub import constants
from open_clip import hf_model

from bike_cli.engine import engine
from bike_cli.inference import processes


@pytest.fixture(autouse=True)
def _without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same models are listed, whether the optional dependency is installed or not."""
    monkeypatch.setattr(hf_model, "transformers", None)


@pytest.fixture
def _empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Use an empty download cache, allow downloads, and load a model again for each command."""
    load = engine.load.__wrapped__  # type: ignore[attr-defined] # other tests load each model once
    for module in (engine, processes):
        monkeypatch.setattr(module, "load", load)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
