"""`bike finetune` trains models of every kind of text tower, and their folders classify."""

from pathlib import Path

import pytest
import torch
from films import drawn, write_video
from invoke import bike
from repositories import write_repository
from safetensors.torch import load_file
from speed import slow_but

from bike_cli.errors import ExitCode

FLAGS = ("--epochs", "1", "--warmup", "0", "--lr", "1e-2", "--batch-size", "2", "--frames", "2", "--device", "cpu")
KINDS = {
    "PE-Core-B-16": (None, "all"),
    "MobileCLIP-S1": (None, "eot"),
    "coca_ViT-B-32": (None, "eot"),
    "ViT-B-16-SigLIP": ("siglip", "eot"),
    "ViT-H-14-worldwide": ("metaclip2", "all"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for label in ("red square", "blue circle"):
        (folder / label).mkdir()
        for i in range(2):
            write_video(folder / label / f"{i}.mp4", drawn(label, frames=6 + i))
    return folder


@pytest.mark.slow  # over a second of a core
@pytest.mark.parametrize("arch", slow_but(["MobileCLIP-S1"], KINDS))
def test_every_kind_of_model_is_trained(arch: str, data: Path, tmp_path: Path) -> None:
    tokenizer, spot = KINDS[arch]
    write_repository(tmp_path / "model", arch, tokenizer)

    ran = bike("finetune", data, "-m", tmp_path / "model", "--save", tmp_path / "out", "--freeze", "none", *FLAGS)

    assert ran.exit_code == ExitCode.DONE, ran.stderr
    before = load_file(tmp_path / "model" / "open_clip_model.safetensors")
    after = load_file(tmp_path / "out" / "model.safetensors")
    same = {name for name, tensor in before.items() if torch.equal(tensor, after[f"clip.{name}"])}
    trained = before.keys() - same
    assert any(name.startswith("visual.") for name in trained)
    assert any("token_embedding" in name for name in trained)
    # CoCa's captioner has no part in features, and a contrastive loss does not depend on a bias.
    assert {name for name in before if name.startswith("text_decoder.") or name == "logit_bias"} <= same
    (record,) = bike("classify", "-m", tmp_path / "out", data / "red square" / "0.mp4", "--explain").records
    assert record["spotting"] == spot
