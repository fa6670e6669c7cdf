"""Tests that need a CUDA device: pytest -m cuda."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_models import tiny_checkpoint
from video_models import clip_of
from whole_towers import ATTENTION_POOLED, coloured_noise, whole_image_tower

from bike_cli.config import Precision
from bike_cli.engine.engine import Engine, assemble, load
from bike_cli.engine.towers.encoder import PIXELS_AT_ONCE
from bike_cli.engine.towers.neighbours import read_neighbours
from bike_cli.engine.towers.placement import place
from bike_cli.engine.towers.transforms import ImageRecipe, views

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]
LABELS = [f"{colour} {shape}" for colour in ("red", "green", "blue") for shape in ("circle", "square", "cross")]


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    """Frames of a growing red square on grey, with noise: uint8 [16, 96, 128, 3]."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(90, 130, (16, 96, 128, 3))
    for i, picture in enumerate(pixels):
        picture[48 - 10 - i : 48 + 10 + i, 64 - 10 - i : 64 + 10 + i] = (220, 30, 30)
    return pixels.astype(np.uint8)


@pytest.fixture(scope="module")
def on_cpu() -> Engine:
    return load("tiny", device="cpu")


def _lowest_cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.cpu(), b.cpu()).min())


def test_auto_is_the_cuda_device() -> None:
    assert load("tiny").encoder.placement.device.type == "cuda"


def test_fp32_features_equal_those_of_the_cpu(frames: NDArray[np.uint8], on_cpu: Engine) -> None:
    on_cuda = load("tiny", device="cuda", precision="fp32")

    lowest = _lowest_cosine(on_cuda.encode_frames(frames), on_cpu.encode_frames(frames))

    assert lowest > 1 - 1e-4


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_close_to_the_cpu(frames: NDArray[np.uint8], on_cpu: Engine, precision: str) -> None:
    on_cuda = load("tiny", device="cuda", precision=precision)  # type: ignore[arg-type]

    lowest = _lowest_cosine(on_cuda.encode_frames(frames), on_cpu.encode_frames(frames))

    assert lowest > 0.995


def test_text_features_equal_those_of_the_cpu(on_cpu: Engine) -> None:
    on_cuda = load("tiny", device="cuda", precision="fp32")

    lowest = _lowest_cosine(on_cuda.encode_texts(LABELS).classes, on_cpu.encode_texts(LABELS).classes)

    assert lowest > 1 - 1e-4


@pytest.mark.parametrize("size", [(96, 128), (128, 96), (480, 640), (40, 50), (1, 1), (3, 700)])
def test_pixels_resized_on_the_device_are_those_of_pil(size: tuple[int, int]) -> None:
    recipe = ImageRecipe(side=224, mean=(0, 0, 0), std=(1, 1, 1), resize_side=256)
    noise = np.random.default_rng(1).integers(0, 256, (2, *size, 3)).astype(np.uint8)

    by_pil = views(noise, recipe, crops=3, device=torch.device("cpu"))
    by_cuda = views(noise, recipe, crops=3, device=torch.device("cuda"))

    assert (by_pil.float() - by_cuda.cpu().float()).abs().mean() < 1


def test_the_result_equals_that_of_the_cpu(frames: NDArray[np.uint8], on_cpu: Engine) -> None:
    from bike_cli.records import Prediction
    from bike_cli.tasks.classify import classify

    answers = [next(iter(classify(engine, [frames], LABELS))) for engine in (load("tiny", device="cuda"), on_cpu)]

    assert all(isinstance(answer, Prediction) for answer in answers)
    assert [a.best.label for a in answers if isinstance(a, Prediction)] == ["red square"] * 2


def test_videos_of_many_sizes_share_batches(on_cpu: Engine) -> None:
    rng = np.random.default_rng(2)
    sizes = [(96, 128), (40, 50), (480, 640), (3, 700), (96, 128)] * 5
    videos = [rng.integers(0, 256, (4, *size, 3), dtype=np.uint8) for size in sizes]
    on_cuda = load("tiny", device="cuda", precision="fp32")

    together = on_cuda.encoder.encode_videos(videos, crops=1)

    assert [len(features) for features in together] == [4] * len(videos)
    for features, frames in zip(together, videos, strict=True):
        assert _lowest_cosine(features, on_cpu.encode_frames(frames)) > 0.999


def test_a_full_device_gets_smaller_batches(frames: NDArray[np.uint8]) -> None:
    on_cuda = load("tiny", device="cuda", precision="fp32")
    many = np.tile(frames, (16, 1, 1, 1))  # two batches of 128
    expected = on_cuda.encode_frames(many)
    torch.cuda.empty_cache()
    spare = 64 * 2**20  # half of what a batch takes in the tower

    try:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + spare) / total)
        features = on_cuda.encode_frames(many)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)

    assert on_cuda.encoder.batches.at_once < 128 or on_cuda.encoder.resizing.at_once < PIXELS_AT_ONCE
    assert _lowest_cosine(features, expected) > 0.999


@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores")  # full fp32 is what is asked for
def test_a_compiled_tower_has_the_same_features(frames: NDArray[np.uint8]) -> None:
    plain, compiled = (load("tiny", device="cuda", precision="fp32", compile=how) for how in (False, True))

    assert compiled.encoder.pads
    assert _lowest_cosine(plain.encode_frames(frames), compiled.encode_frames(frames)) > 0.999


def test_videos_have_the_same_results_as_on_the_cpu_and_are_stored(clips: Path, tmp_path: Path, on_cpu: Engine) -> None:
    from bike_cli.config import ClassifyConfig, StoreConfig
    from bike_cli.records import Prediction, Timings
    from bike_cli.tasks.classify import classify

    films = [str(film) for film in sorted(clips.iterdir())] * 12
    on_cuda, config = load("tiny", device="cuda"), ClassifyConfig(store=StoreConfig(cache_dir=str(tmp_path)))
    best = {}
    for engine in (on_cpu, on_cuda):
        answers = list(classify(engine, films, LABELS, ClassifyConfig(store=StoreConfig(cache=False))))
        best[engine] = [answer.best.label for answer in answers if isinstance(answer, Prediction)]
    list(classify(on_cuda, films, LABELS, config))
    spent = Timings()
    again = [answer.best.label for answer in classify(on_cuda, films, LABELS, config, spent=spent)]  # type: ignore[union-attr]

    assert best[on_cpu] == best[on_cuda] == again
    assert len(again) == len(films)
    assert spent.decoded == 0


@pytest.mark.parametrize(("precision", "lowest"), [("fp16", 0.9995), ("bf16", 0.999)])
@pytest.mark.parametrize("arch", ATTENTION_POOLED)
def test_a_tower_pooled_by_attention_stays_close_in_16_bits(arch: str, precision: Precision, lowest: float) -> None:
    full, half = (whole_image_tower(arch, place("cuda", each)) for each in ("fp32", precision))
    pictures = coloured_noise(16)

    expected, features = full.encode_frames(pictures), half.encode_frames(pictures)

    # The features of a tower without training are similar for all frames; their differences have to be right as well.
    assert _lowest_cosine(features, expected) > lowest
    assert _lowest_cosine(features - features.mean(dim=0), expected - expected.mean(dim=0)) > lowest


@pytest.mark.parametrize(("precision", "lowest"), [("fp32", 1 - 1e-4), ("bf16", 0.995), ("fp16", 0.995)])
def test_clips_whose_frames_attend_to_their_neighbours_do_not_mix(precision: Precision, lowest: float) -> None:
    checkpoint = replace(tiny_checkpoint(), temporal_head=None, attribute_head=None)
    read_neighbours(checkpoint.clip.visual)
    on_cpu = assemble(copy.deepcopy(checkpoint), place("cpu", "fp32"))
    on_cuda = assemble(checkpoint, place("cuda", precision))
    rng = np.random.default_rng(0)
    sizes = [(1, 8), (3, 8), (2, 8), (1, 1), (2, 3)]  # clips and frames per clip
    clips = [clip_of(rng.integers(0, 256, (*size, 40, 56, 3)).astype(np.uint8)) for size in sizes]

    for batch in (clips[:3], clips):
        for crops in (1, 3):
            together = on_cuda.encode_clips(batch, crops=crops)
            for clip, encoded in zip(batch, together, strict=True):
                alone = on_cpu.encode_clip(clip, crops=crops)
                assert encoded.frames.shape == alone.frames.shape
                assert _lowest_cosine(encoded.frames.flatten(0, 1), alone.frames.flatten(0, 1)) > lowest
