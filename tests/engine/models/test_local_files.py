"""Which files a model on this disk is read from."""

from pathlib import Path

import pytest
from small_models import write_tiny

from bike_cli.engine.models.local_files import local_model


def names(model: str) -> set[str]:
    found = local_model(model)
    assert found is not None
    return {file.name for file in found.files}


@pytest.mark.parametrize("model", ["tiny", "base", "hf-hub:owner/name", "ViT-B-32,openai", "nowhere.pt", ""])
def test_models_of_the_hub_and_missing_ones_have_no_files_here(model: str) -> None:
    assert local_model(model) is None


def test_a_folder_of_bikes_own(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "model")
    (folder / "notes.txt").touch()

    assert names(str(folder)) == {"config.json", "model.safetensors"}


def test_a_repository_has_one_file_of_weights(tmp_path: Path) -> None:
    for name in (
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "open_clip_pytorch_model.bin",
        "tokenizer.json",
    ):
        (tmp_path / name).touch()

    found = local_model(f"local-dir:{tmp_path}")

    assert found is not None
    assert (found.prefix, found.name) == ("local-dir:", "")
    assert names(str(tmp_path)) == {"open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"}


def test_a_file_alone_needs_no_neighbours(tmp_path: Path) -> None:
    for name in ("weights.pt", "tokenizer.json"):
        (tmp_path / name).touch()

    assert names(str(tmp_path / "weights.pt")) == {"weights.pt"}


def test_an_architecture_and_a_file(tmp_path: Path) -> None:
    for name in ("weights.pt", "tokenizer.json", "notes.txt"):
        (tmp_path / name).touch()

    found = local_model(f"ViT-B-32,{tmp_path}/weights.pt")

    assert found is not None
    assert (found.prefix, found.name) == ("ViT-B-32,", "weights.pt")
    assert {file.name for file in found.files} == {"weights.pt", "tokenizer.json"}
