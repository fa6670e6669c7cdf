"""Ten thousand labels and a vocabulary of 901,629 tokens, as that of MetaCLIP 2, fit into memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import assembled
from tensor_watch import LargestTensor
from text_configs import random_model, small_config

import bike_cli as bike
from bike_cli.config import AttributeConfig, Recipe
from bike_cli.engine.engine import Engine
from bike_cli.engine.models.open_clip.tokenizer_files import read_tokenizer
from bike_cli.engine.models.parts import Checkpoint
from bike_cli.engine.towers.transforms import ImageRecipe
from bike_cli.inference.classifier import VIEWS_TOGETHER_ELSEWHERE
from bike_cli.inference.prepare import prepare
from bike_cli.records import FrameTimes, Source, VideoFeatures

TOKENIZER = Path(__file__).parents[1] / "engine" / "towers" / "tokenizers" / "metaclip2" / "tokenizer.json"
VOCABULARY = 901_629
LABELS = [f"{i} bikes" for i in range(10_000)]
CONFIG = bike.ClassifyConfig(
    template="class", attributes=AttributeConfig("off"), spotting=bike.SpottingConfig(spot="words")
)


@pytest.fixture
def engine() -> Engine:
    config = small_config("ViT-H-14-worldwide")
    assert config["text_cfg"]["vocab_size"] == VOCABULARY
    tokenizer = read_tokenizer(TOKENIZER, config["text_cfg"], name="large")
    image = ImageRecipe(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return assembled(Checkpoint("large", random_model(config), config, image, Recipe(), tokenizer=tokenizer))


@pytest.mark.slow
def test_no_vector_is_made_for_each_video_label_and_word(engine: Engine) -> None:
    frames, dim = 4, engine.encoder.dim
    times = FrameTimes(np.arange(frames, dtype=np.float64)[None], np.arange(frames)[None])
    videos = [(VideoFeatures(Source.at(f"{i}"), torch.randn(1, frames, dim), times),) for i in range(64)]

    with LargestTensor() as preparing:
        classifier = prepare(engine, LABELS, CONFIG)
    with LargestTensor() as scoring:
        scores = list(classifier.scores(videos))

    words = max(len(engine.encoder.tokenizer.encode(label)) for label in LABELS)
    assert words >= 3
    assert sum(len(score.logits) for score in scores) == 64
    assert preparing.numbers == VOCABULARY * 32  # the token embedding, which the model has anyway
    together = VIEWS_TOGETHER_ELSEWHERE
    limit = len(LABELS) * words * max(dim, together * frames)
    assert scoring.numbers <= limit < together * len(LABELS) * words * dim / 5


def test_the_text_tower_can_be_dropped_once_labels_are_encoded(engine: Engine) -> None:
    film = np.zeros((4, 32, 32, 3), dtype=np.uint8)
    before = [ranked for answer in bike.classify(engine, [film], LABELS[:50], CONFIG) for ranked in answer.ranked]  # type: ignore[union-attr]

    (answer,) = bike.classify(engine, [film], LABELS[:50], CONFIG, releases_text=True)

    assert list(answer.ranked) == before  # type: ignore[union-attr]
    left = sum(parameter.numel() for parameter in engine.encoder.model.parameters() if not parameter.is_meta)
    assert left < 0.01 * VOCABULARY * 32
