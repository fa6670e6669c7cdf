"""Accuracy of `bike spot` on rendered videos with known segments: `python -m benchmarks.spot_accuracy`.

Renders the videos of `examples/long_videos.py`, reads the frame in the middle of each bin, finds segments with the
default settings, and prints one row per set and rate, in per cent: mAP at tIoU 0.3, 0.5, 0.7 and its mean over
0.5:0.05:0.95; frame F1; precision and recall of "nothing here"; precision and recall of segments at tIoU 0.5, and the
median error of their ends in seconds; the share of the time of videos without a label that gets one; and the CPU time
of everything after the encoder. The rows "no head" score frames one by one, as for a model without a temporal head. The
rows "softmax" are the simple way: softmax over the labels, averaged over 1 s, above 0.5, with gaps and segments below
1 s removed.

Videos and features are kept in a folder, so a second run only scores and decodes. 24 and 12 videos take about ten
minutes of CPU time.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bike_cli.config import ClassifyConfig, EngineConfig
from bike_cli.config.thresholds import AUTO, Thresholds
from bike_cli.data.detection.annotation_formats import TrueSegment
from bike_cli.data.detection.detection_sets import AnnotatedVideo, DetectionSet
from bike_cli.data.detection.detections import DetectedVideo, Detections, ScoredSegment
from bike_cli.data.lexicons import read_lexicon
from bike_cli.engine.attributes import encode_lexicon
from bike_cli.engine.engine import Engine, load
from bike_cli.engine.localisation.decoding import RunRule
from bike_cli.engine.localisation.localise import localise
from bike_cli.engine.scoring import unit
from bike_cli.engine.spotting import ClassTexts
from bike_cli.inference.prepare import prepare
from bike_cli.tasks.detection.alignment import align
from bike_cli.tasks.detection.metrics import outcome_of, values_of_all

sys.path.append(str(Path(__file__).parents[1] / "examples"))

from long_videos import Kind, draw_videos

MIN_DURATION_S, THRESHOLD = 1.0, 0.5  # the defaults of `bike spot`
COLUMNS = {  # by the key of the metric
    "map@0.3": "mAP .3",
    "map@0.5": ".5",
    "map@0.7": ".7",
    "map@0.5:0.95": ".5:.95",
    "frame_f1": "F1",
    "nothing_precision": "nothing P",
    "nothing_recall": "R",
    "segment_precision": "segments P",
    "segment_recall": "R",
    "boundary_error_s": "error s",
    "label_free_detected": "label-free",
}


class Found(NamedTuple):
    """A run of bins in which a label was found."""

    label: int
    start: int
    stop: int
    score: float


@dataclass(frozen=True)
class Case:
    """A set of videos at one rate, and how segments are found."""

    kind: Kind
    fps: float
    way: Literal["bike", "exclusive", "no head", "softmax"] = "bike"

    @property
    def name(self) -> str:
        """Its name in the table."""
        return f"{self.kind}, {self.fps:g} fps" + ("" if self.way == "bike" else f", {self.way}")


CASES = (
    Case("objects", 4),
    Case("objects", 4, "no head"),
    Case("objects", 4, "softmax"),
    Case("objects", 2),
    Case("objects", 2, "softmax"),
    Case("motions", 8),
    Case("motions", 8, "exclusive"),
    Case("motions", 8, "softmax"),
)


@dataclass(frozen=True, eq=False)
class VideoSet:
    """Videos of one kind, with their truth."""

    labels: tuple[str, ...]
    files: tuple[Path, ...]
    truth: DetectionSet

    @property
    def seconds(self) -> float:
        """The length of all videos together."""
        return sum(video.duration_s or 0 for video in self.truth.videos)

    @property
    def segments(self) -> int:
        """The number of true segments."""
        return sum(len(video.segments) for video in self.truth.videos)


# -- Videos and features --------------------------------------------------------------------------------------------


def render(kind: Kind, count: int, seed: int, folder: Path) -> VideoSet:
    """Render a set, except for the files that exist."""
    labels, videos = draw_videos(kind, count, seed)
    into = folder / f"{kind}-{seed}"
    unfinished = into / "unfinished"
    unfinished.mkdir(parents=True, exist_ok=True)
    for video in videos:
        if not (into / video.name).exists():
            video.write(unfinished).rename(into / video.name)  # a file that is there is whole
    annotated = [
        AnnotatedVideo(
            video.name,
            video.name,
            tuple(TrueSegment(s.label, s.start_s, s.end_s) for s in video.segments),
            video.duration_s,
        )
        for video in videos
    ]
    truth = DetectionSet(str(into), tuple(sorted(labels)), tuple(annotated))
    return VideoSet(labels, tuple(into / video.name for video in videos), truth)


def frames_at(path: Path, fps: float) -> list[NDArray[np.uint8]]:
    """Return the frame shown in the middle of each bin."""
    frames: list[NDArray[np.uint8]] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        begin, shown, end = None, None, Fraction(0)
        for frame in container.decode(stream):
            assert frame.pts is not None
            now = frame.pts * stream.time_base
            begin = now if begin is None else begin
            while shown is not None and (len(frames) + 0.5) / fps < now - begin:
                frames.append(shown.to_ndarray(format="rgb24"))
            shown = frame
            end = now - begin + Fraction(1, 1) / (stream.average_rate or 1)
        while shown is not None and (len(frames) + 0.5) / fps < end:
            frames.append(shown.to_ndarray(format="rgb24"))
    return frames


def features_of(engine: Engine, path: Path, fps: float) -> Tensor:
    """Return the raw features of the bins of a video, [T, D]; they are kept next to the video."""
    kept = path.with_suffix(f".{engine.encoder.identity[:8]}-{fps:g}.npy")
    if not kept.exists():
        features = engine.encode_frames(np.stack(frames_at(path, fps)), resizer="torch")
        np.save(kept, features.cpu().numpy())
    return torch.from_numpy(np.load(kept))


# -- Ways to find segments ------------------------------------------------------------------------------------------


def find(engine: Engine, texts: ClassTexts, phrases: Tensor, frames: Tensor, case: Case) -> list[Found]:
    """Return the segments of a video with raw features [T, D]."""
    if case.way == "softmax":
        return softmax(engine, texts, frames, case.fps)
    result = localise(
        frames,
        torch.ones(len(frames), dtype=torch.bool),
        texts,
        phrases,
        head=None if case.way == "no head" else engine.temporal_head,
        logit_scale=engine.logit_scale,
        rule=RunRule(case.fps, MIN_DURATION_S, THRESHOLD),
        exclusive=case.way == "exclusive",
    )
    return [Found(run.label, run.start, run.stop, run.score) for run in result.runs]


def softmax(engine: Engine, texts: ClassTexts, frames: Tensor, fps: float) -> list[Found]:
    """Return the segments in which a label has more than half of the probability of all labels, averaged over 1 s."""
    chances = torch.softmax(engine.logit_scale * unit(frames) @ texts.classes.T, dim=1).double().numpy()
    width = round(fps)
    kernel = np.ones(width)
    shares = np.convolve(np.ones(len(chances)), kernel, "same")
    smooth = np.stack([np.convolve(column, kernel, "same") / shares for column in chances.T], axis=1)
    found = []
    for label, column in enumerate(smooth.T):
        runs = []
        for t in np.flatnonzero(column > 0.5).tolist():
            if runs and t - runs[-1][1] < fps:  # gaps below 1 s
                runs[-1][1] = t + 1
            else:
                runs.append([t, t + 1])
        found += [Found(label, a, b, float(column[a:b].mean())) for a, b in runs if b - a >= fps]
    return found


# -- Metrics --------------------------------------------------------------------------------------------------------


def measure(videos: VideoSet, found: Detections) -> dict[str, float]:
    """Return the metrics of `bike eval --protocol detection` by key, without intervals."""
    aligned = align([found], videos.truth, official=False)
    return values_of_all(outcome_of(aligned, aligned.detected[0], Thresholds.parse(AUTO), official=False))


def detections(videos: VideoSet, fps: float, by_video: Sequence[Sequence[Found]]) -> Detections:
    """Return runs of bins as segments; the last bin ends with the video."""
    detected = []
    for video, runs in zip(videos.truth.videos, by_video, strict=True):
        assert video.duration_s is not None
        ends = [min(run.stop / fps, video.duration_s) for run in runs]
        segments = [
            ScoredSegment(videos.labels[run.label], run.start / fps, end, run.score)
            for run, end in zip(runs, ends, strict=True)
        ]
        detected.append(DetectedVideo(video.path, tuple(segments), video.duration_s))
    return Detections("bike", tuple(detected))


# -- The table ------------------------------------------------------------------------------------------------------


def print_row(name: str, videos: VideoSet, found: Detections, seconds: float) -> None:
    """Print a row of the table."""
    values = measure(videos, found)
    cells = [
        f"{values.get(key, math.nan):.2f}" if key.endswith("_s") else f"{100 * values.get(key, math.nan):.1f}"
        for key in COLUMNS
    ]
    print("| " + " | ".join([name, *cells, f"{1000 * seconds / (videos.seconds / 60):.1f}"]) + " |", flush=True)


def main() -> None:
    """Render, read, score, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="model to measure (default: %(default)s)")
    parser.add_argument("--objects", type=int, default=24, help="videos of objects (default: %(default)s)")
    parser.add_argument("--motions", type=int, default=12, help="videos of motions (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=5001, help="seed of the videos (default: %(default)s)")
    default = Path(tempfile.gettempdir(), "bike_spot_accuracy")
    parser.add_argument("--folder", type=Path, default=default, help="videos and features (default: %(default)s)")
    options = parser.parse_args()
    engine = load(options.model, device="cpu")
    phrases = encode_lexicon(engine.encoder, read_lexicon(engine.recipe.lexicon)).features
    counts = {"objects": options.objects, "motions": options.motions}
    sets = {kind: render(kind, count, options.seed, options.folder) for kind, count in counts.items() if count}
    for kind, videos in sets.items():
        size = f"{len(videos.files)} videos, {videos.segments} segments, {videos.seconds:.0f} s"
        print(f"{kind}: {size}, seed {options.seed}")
    print(f"\n| | {' | '.join(COLUMNS.values())} | CPU ms/min |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for case in (case for case in CASES if case.kind in sets):
        videos = sets[case.kind]
        config = ClassifyConfig(engine=EngineConfig(model=options.model))
        texts = prepare(engine, videos.labels, config, shows_attributes=False).texts
        features = [features_of(engine, path, case.fps) for path in videos.files]
        start = time.process_time()
        found = [find(engine, texts, phrases, frames, case) for frames in features]
        spent = time.process_time() - start
        print_row(case.name, videos, detections(videos, case.fps, found), spent)


if __name__ == "__main__":
    main()
