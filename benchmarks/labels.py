"""Compare the cost of ten thousand labels with that of encoding: `python -m benchmarks.labels`.

Frames are spotted by the words of each label. Scoring runs on finished features and encoding on frames in memory, in
turns. Extra memory is the peak of scoring, not counting the features of the labels.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.material import engine_of
from bike_cli.config import AttributeConfig, ClassifyConfig, SpottingConfig
from bike_cli.data.lexicons import read_lexicon
from bike_cli.engine.engine import Engine
from bike_cli.inference.classifier import Classifier
from bike_cli.inference.features import EncodedVideo
from bike_cli.inference.prepare import prepare
from bike_cli.records import FrameTimes, Source, VideoFeatures

SHARE_TARGET, MEMORY_TARGET_GIB = 0.05, 2
VIDEOS, FRAMES = 64, 8
CALLS = 40  # more than CUDA has streams


def main() -> None:
    """Print both times, their ratio, and the memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="ViT-B-16", help="model or architecture (default: %(default)s)")
    parser.add_argument("--labels", type=int, default=10_000, help="number of labels (default: %(default)s)")
    options = parser.parse_args()
    engine = engine_of(options.model)
    classifier = prepare(engine, labels(options.labels), config())
    encode_ms, score_ms = in_turns(engine, classifier)
    share = score_ms / encode_ms
    assert classifier.texts.voters is not None
    voters = sum(len(block.tokens) for block in classifier.texts.voters.blocks)
    print(f"{options.model}, {engine.encoder.placement}, {options.labels} labels, {voters} voting tokens")
    print(f"encoding  {encode_ms:8.2f} ms per video")
    print(f"scoring   {score_ms:8.2f} ms per video   {share:.1%}; target: under {SHARE_TARGET:.0%}")
    if engine.encoder.placement.device.type == "cuda":
        extra = extra_memory(classifier)
        print(f"extra     {extra / 2**30:8.2f} GiB           target: under {MEMORY_TARGET_GIB} GiB")


def config() -> ClassifyConfig:
    """Return a config with spotting by the words of labels, and without attributes."""
    return ClassifyConfig(spotting=SpottingConfig(spot="words"), attributes=AttributeConfig("off"))


def labels(count: int) -> list[str]:
    """Return different labels of a few words each."""
    words = read_lexicon("common")
    made = [f"{first} {second}" for first in read_lexicon("kinetics400") for second in words]
    return made[:: len(made) // count][:count]


def in_turns(engine: Engine, classifier: Classifier) -> tuple[float, float]:
    """Return the median milliseconds per video of encoding and of scoring."""
    rng = np.random.default_rng(0)
    few = 2 if engine.encoder.placement.device.type == "cpu" else VIDEOS
    frames = [rng.integers(0, 256, (FRAMES, 240, 320, 3), dtype=np.uint8) for _ in range(few)]
    seen = seen_videos(classifier)
    rounds = [
        (timed(lambda: engine.encoder.encode_videos(frames)) / few, timed(lambda: score(classifier, seen)) / VIDEOS)
        for _ in range(4)
    ][1:]
    encode_s, score_s = (statistics.median(column) for column in zip(*rounds, strict=True))
    return 1000 * encode_s, 1000 * score_s


def score(classifier: Classifier, seen: list[EncodedVideo]) -> None:
    """Score videos as `bike classify` does."""
    classifier.answers(seen, top=ClassifyConfig.top, explain=ClassifyConfig.explain)


def seen_videos(classifier: Classifier) -> list[EncodedVideo]:
    """Return features of videos, on the device."""
    rng = torch.Generator().manual_seed(0)
    classes = classifier.texts.classes
    raw = torch.randn(VIDEOS, 1, FRAMES, classes.shape[1], generator=rng).to(classes.device)
    timeline = FrameTimes(np.zeros((1, FRAMES)))
    return [(VideoFeatures(Source.at(str(i)), frames, timeline),) for i, frames in enumerate(raw)]


def extra_memory(classifier: Classifier) -> int:
    """Return the bytes that scoring reserves on the device, after many calls."""
    seen = seen_videos(classifier)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    for _ in range(CALLS):
        score(classifier, seen)
    return torch.cuda.memory_reserved() - before


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that some work takes, including work on the device."""
    start_s = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start_s


if __name__ == "__main__":
    main()
