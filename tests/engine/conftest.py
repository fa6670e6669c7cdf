"""Engines, the golden values of the official code, and open_clip with an additional tag."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from numpy.typing import NDArray
from small_models import assembled, register, tiny_checkpoint

from bike_cli.engine.engine import Engine, load
from bike_cli.engine.models.parts import Checkpoint

ROOT = Path(__file__).parents[2]
GOLDEN = next((p for p in (ROOT / "shared/golden", ROOT.parent / "shared/golden") if p.is_dir()), None)
NpzFile = Mapping[str, NDArray[np.generic]]


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    return tiny_checkpoint()


@pytest.fixture(scope="session")
def engine(checkpoint: Checkpoint) -> Engine:
    return assembled(checkpoint)


@pytest.fixture(scope="session")
def golden() -> Path:
    if GOLDEN is None:
        pytest.skip("shared/golden, the values of the official code, is not beside this checkout")
    return GOLDEN


@pytest.fixture(scope="session")
def golden_model(golden: Path) -> NpzFile:
    with np.load(golden / "golden_model.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="session")
def official(golden: Path) -> Callable[[str], Engine]:
    engines: dict[str, Engine] = {}

    def get(name: str) -> Engine:
        if name not in engines:
            engines[name] = load(str(golden / f"{name}.pt"), device="cpu", precision="fp32")
        return engines[name]

    return get


@pytest.fixture
def _registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Add an architecture and a tag to open_clip, and use an empty download cache."""
    register(monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
