"""The memory that ten thousand labels take while a video is classified."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from speed import slow_but
from tensor_watch import LargestTensor

from bike_cli.config import AttributeConfig, Recipe, SamplingConfig, VideoConfig
from bike_cli.engine.engine import Engine, assemble
from bike_cli.engine.models.parts import Checkpoint, build_clip
from bike_cli.engine.scoring import unit
from bike_cli.engine.spotting import ClassTexts
from bike_cli.engine.towers.placement import place
from bike_cli.engine.towers.transforms import ImageRecipe
from bike_cli.engine.voters import Voters
from bike_cli.inference.classifier import Classifier
from bike_cli.records import Clip, FrameTimes, Source

GIB = 2**30
DIM, FRAMES, LABELS = 512, 8, 10_000
POSITIONS = {"eot": 1, "words": 6, "all": 77}
STATUS, RESET_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")
needs_proc = pytest.mark.skipif(not RESET_PEAK.exists(), reason="only Linux reports the peak memory of a process")


@pytest.fixture(scope="module")
def engine() -> Engine:
    """A model of random weights with the embedding of CLIP's ViT-B."""
    image = {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    config = {"embed_dim": DIM, "vision_cfg": image, "text_cfg": text, "quick_gelu": True}
    recipe = ImageRecipe(32, (0.5, 0.5, 0.5), (0.3, 0.3, 0.3))
    return assemble(
        Checkpoint("wide", build_clip(config, "test").eval(), config, recipe, Recipe()), place("cpu", "fp32")
    )


def classifier(engine: Engine, *, positions: int, sampling: SamplingConfig) -> Classifier:
    """What `prepare` makes of ten thousand labels of `positions` voting tokens each, without reading them."""
    rng = torch.Generator().manual_seed(0)
    some = unit(torch.randn(LABELS // 10, positions, DIM, generator=rng))
    voters = Voters.among(some.repeat(10, 1, 1), None)
    return Classifier(
        engine=engine,
        labels=tuple(f"label {i}" for i in range(LABELS)),
        texts=ClassTexts(unit(torch.randn(LABELS, DIM, generator=rng)), voters, 0.01),
        words=voters,
        branch=None,
        config=VideoConfig(sampling=sampling, attributes=AttributeConfig("off")),
    )


def clip(*, clips: int) -> Clip:
    frames = np.random.default_rng(0).integers(0, 256, (clips, FRAMES, 32, 40, 3), dtype=np.uint8)
    return Clip(Source.at("noise"), frames, FrameTimes(np.zeros((clips, FRAMES))))


def memory(which: str) -> int:
    """Return VmRSS, the memory held now, or VmHWM, the most held since the peak was reset, in bytes."""
    found = re.search(rf"{which}:\s+(\d+) kB", STATUS.read_text())
    assert found
    return int(found[1]) * 1024


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("positions", slow_but([1], POSITIONS.values()), ids=POSITIONS)
def test_an_answer_takes_less_than_a_gibibyte_more(engine: Engine, positions: int) -> None:
    sampling = SamplingConfig(frames=FRAMES)
    ready, video = classifier(engine, positions=positions, sampling=sampling), clip(clips=1)
    RESET_PEAK.write_text("5")
    before = memory("VmRSS")

    ready.answer(video, top=5, explain=True)

    assert memory("VmHWM") - before < GIB


@pytest.mark.slow
@needs_proc
def test_the_measurement_notices_a_gibibyte() -> None:
    RESET_PEAK.write_text("5")
    before = memory("VmRSS")

    torch.ones(GIB // 4)

    assert memory("VmHWM") - before > 0.95 * GIB


@pytest.mark.parametrize("positions", [POSITIONS["eot"], POSITIONS["words"]])
def test_no_vector_is_made_for_each_view_and_label(engine: Engine, positions: int) -> None:
    sampling = SamplingConfig(frames=FRAMES, clips=4, crops=3)
    ready, video = classifier(engine, positions=positions, sampling=sampling), clip(clips=4)

    with LargestTensor() as largest:
        ready.answer(video, top=5, explain=True)

    # The label's own tokens pass through whole; a vector for each of the twelve views and each label would be larger.
    assert largest.numbers <= max(LABELS * positions * DIM, 12 * LABELS * positions * FRAMES) < 12 * LABELS * DIM
