"""The bias of a model: only the sigmoid loss trains it, and what it judges follows."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from biased_models import BIAS, biased_engine
from films import drawn, write_video

import bike_cli as bike
from bike_cli.config import (
    AttributeConfig,
    BatchConfig,
    DecodingConfig,
    FinetuneConfig,
    KeepingConfig,
    LearningConfig,
    SamplingConfig,
    StoreConfig,
)
from bike_cli.data.labelled.train_sets import read_labelled
from bike_cli.engine.engine import load
from bike_cli.records import Prediction
from bike_cli.tasks.finetune.run import Finetuning
from bike_cli.tasks.finetune.run_folder import FINE_TUNED
from bike_cli.video.workers.pool import DecodePool

LABELS = ("blue circle", "red square")
CONFIG = FinetuneConfig(
    sampling=SamplingConfig(frames=2),
    decoding=DecodingConfig(workers=1),
    store=StoreConfig(cache=False),
    attributes=AttributeConfig(attributes="off"),
    learning=LearningConfig(epochs=1, lr=1e-3, clip_ratio=1.0, warmup=0.0, freeze="text"),
    batches=BatchConfig(batch_size=2),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of four videos for training and two for validation, of two classes."""
    folder = tmp_path_factory.mktemp("bias")
    rows = ["path,label,split"]
    for label in LABELS:
        for i in range(3):
            file = folder / f"{label.replace(' ', '_')}_{i}.mp4"
            write_video(file, np.roll(drawn(label, frames=4), 3 * i, axis=1))
            rows.append(f"{file},{label},{'val' if i == 2 else 'train'}")
    (folder / "data.csv").write_text("\n".join(rows) + "\n")
    return folder / "data.csv"


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(CONFIG.sampling, CONFIG.decoding, most=1) as pool:
        yield pool


def train(data: Path, pool: DecodePool, folder: Path, loss: str, **keeping: object) -> Finetuning:
    labelled = read_labelled(data, keep_val=True, multi_label=loss == "bce")
    learning = replace(CONFIG.learning, loss=loss)  # type: ignore[arg-type]
    config = replace(CONFIG, learning=learning, keeping=KeepingConfig(**keeping))  # type: ignore[arg-type]
    run = Finetuning(biased_engine(), labelled, config, pool, folder)
    list(run)
    return run


@pytest.mark.parametrize("loss", ["nce", "ds", "ce"])
def test_losses_that_compare_labels_leave_the_bias_bit_by_bit(
    loss: str, data: Path, pool: DecodePool, tmp_path: Path
) -> None:
    train(data, pool, tmp_path / "run", loss)

    trained, before = load(str(tmp_path / "run"), device="cpu"), biased_engine()
    assert trained.logit_bias == BIAS
    assert trained.logit_scale != before.logit_scale  # so it was trained


def test_the_sigmoid_loss_trains_the_bias_and_matches_follow(data: Path, pool: DecodePool, tmp_path: Path) -> None:
    run = train(data, pool, tmp_path / "run", "bce")

    trained = load(str(tmp_path / "run"), device="cpu")
    assert trained.logit_bias is not None
    assert abs(trained.logit_bias - BIAS) > 1e-4
    assert (run.engine.logit_bias, run.engine.logit_scale) == (trained.logit_bias, trained.logit_scale)
    settings = bike.ClassifyConfig(sampling=CONFIG.sampling, store=CONFIG.store, attributes=CONFIG.attributes)
    (answer,) = bike.classify(trained, [drawn("red square", frames=4)], LABELS, settings, pool=pool)
    assert isinstance(answer, Prediction)
    for one in answer.ranked:
        expected = 1 / (1 + math.exp(-(trained.logit_scale * one.cosine + trained.logit_bias)))
        assert one.match == pytest.approx(expected, abs=1e-12)


def test_a_scale_above_the_limit_of_clip_is_not_cut(data: Path, pool: DecodePool, tmp_path: Path) -> None:
    engine = biased_engine()
    with torch.no_grad():
        engine.encoder.model.logit_scale.fill_(math.log(117.3))  # about that of SigLIP
    config = replace(CONFIG, learning=replace(CONFIG.learning, lr=1e-9))

    run = Finetuning(engine.after_training(), read_labelled(data, keep_val=True), config, pool, tmp_path / "run")
    list(run)

    assert run.engine.logit_scale == pytest.approx(117.3, rel=1e-4)


def test_wise_ft_mixes_the_bias_like_the_scale(data: Path, pool: DecodePool, tmp_path: Path) -> None:
    run = train(data, pool, tmp_path / "run", "bce", wise_ft=0.5)

    mixed, best, first = (
        load(str(tmp_path / "run"), device="cpu"),
        load(str(tmp_path / "run" / FINE_TUNED), device="cpu"),
        biased_engine(),
    )
    biases = [engine.logit_bias or 0.0 for engine in (first, mixed, best)]
    logs_of_scales = [math.log(engine.logit_scale) for engine in (first, mixed, best)]
    for start, middle, end in (biases, logs_of_scales):
        assert start != end
        assert middle == pytest.approx((start + end) / 2, abs=1e-6)
    assert run.engine.logit_bias == mixed.logit_bias


@pytest.mark.slow
def test_a_run_that_is_resumed_goes_on_with_its_bias(data: Path, pool: DecodePool, tmp_path: Path) -> None:
    whole = train(data, pool, tmp_path / "whole", "bce")
    labelled = read_labelled(data, keep_val=True, multi_label=True)
    config = replace(CONFIG, learning=replace(CONFIG.learning, loss="bce"))
    first = Finetuning(biased_engine(), labelled, config, pool, tmp_path / "run")
    for _ in first:
        first.stop = True
    first.close()
    assert first.was_stopped

    second = Finetuning(biased_engine(), labelled, config, pool, tmp_path / "run", resume=True)
    list(second)

    assert second.engine.logit_bias == whole.engine.logit_bias != BIAS
    first_weights = second.engine.encoder.model.state_dict()
    assert all(torch.equal(first_weights[n], t) for n, t in whole.engine.encoder.model.state_dict().items())
