"""The bundled model on the clips of a renderer that took no part in its training."""

from pathlib import Path

import pytest
import torch
from measure_tiny import FOUR_SHAPES, PAIRS, answer, in_threads, look_at, spotting
from other_renderer import write_clips

from bike_cli.engine.engine import load


def share_right(folder: Path, kind: str, count: int) -> float:
    """Return the share of the other renderer's clips that the bundled model names rightly."""
    engine = load("tiny", device="cpu")
    labels = FOUR_SHAPES if kind == "passers" else PAIRS
    rows = write_clips(folder, kind, count)
    features = torch.stack(in_threads(lambda row: look_at(engine, folder / row["path"], 8)[0], rows))
    truth = torch.tensor([labels.index(f"{row['colour']} {row['shape']}") for row in rows])
    scores = answer(engine, features, labels).scores[spotting(engine.recipe.spot, engine.recipe.temperature)]
    return float((scores.argmax(1) == truth).float().mean())


@pytest.mark.slow
def test_plain_clips_of_another_renderer_are_named(tmp_path: Path) -> None:
    assert share_right(tmp_path, "plain", 64) >= 0.85


@pytest.mark.slow
def test_sparse_clips_of_another_renderer_are_named(tmp_path: Path) -> None:
    assert share_right(tmp_path, "passers", 32) >= 0.8


@pytest.mark.slow
def test_many_plain_clips_of_another_renderer_are_named(tmp_path: Path) -> None:
    assert share_right(tmp_path, "plain", 512) >= 0.85


@pytest.mark.slow
def test_many_sparse_clips_of_another_renderer_are_named(tmp_path: Path) -> None:
    assert share_right(tmp_path, "passers", 256) >= 0.8
