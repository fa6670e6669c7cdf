"""Every weight that trains receives a gradient: several processes wait for each other's gradients of it."""

from pathlib import Path

import pytest
import torch
from repositories import write_repository

from bike_cli.engine.engine import load
from bike_cli.tasks.finetune.video_branch import freeze


@pytest.mark.parametrize("frozen", ["none", "text", "none,image:1"])
@pytest.mark.parametrize(
    ("arch", "tokenizer"), [("coca_ViT-B-32", None), ("PE-Core-B-16", None), ("ViT-B-16-SigLIP2-256", "siglip2")]
)
def test_every_weight_that_trains_has_a_gradient(tmp_path: Path, arch: str, tokenizer: str | None, frozen: str) -> None:
    engine = load(str(write_repository(tmp_path, arch, tokenizer)), "cpu")
    encoder = engine.encoder
    freeze(engine, frozen)
    encoder.model.logit_scale.requires_grad_(False)  # as in `Learner`, which has its own

    images = encoder.tower(torch.rand(2, 3, 32, 32))
    texts = encoder.read_texts(["riding a bike", "skiing"], positions="eot")
    (images.sum() + texts.classes.sum()).backward()  # type: ignore[no-untyped-call]

    trained = {name: parameter for name, parameter in encoder.model.named_parameters() if parameter.requires_grad}
    assert trained
    assert [name for name, parameter in trained.items() if parameter.grad is None] == []
