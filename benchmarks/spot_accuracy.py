"""Accuracy of `bike spot` on rendered videos with known segments: `python -m benchmarks.spot_accuracy`.

Renders the videos of `examples/long_videos.py`, reads the frame in the middle of each bin, and prints one row per set
and rate: mAP at tIoU 0.3, 0.5, 0.7 and averaged over 0.5:0.05:0.95; F1 of labels per 0.1 s; precision and recall of
"no label here"; share of found and of true segments with a partner at tIoU 0.5, and the median error of their ends; and
how much of the time of videos without a label gets one. The rows called softmax are what one would do without spotting:
softmax over the labels, averaged over 1 s, above 0.5, with gaps and segments below 1 s removed.

Videos and features are kept in a folder, so a second run only scores and decodes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bike_cli.config import ClassifyConfig, EngineConfig
from bike_cli.data.lexicons import read_lexicon
from bike_cli.engine.attributes import encode_lexicon
from bike_cli.engine.engine import Engine, load
from bike_cli.engine.localisation.decoding import RunRule
from bike_cli.engine.localisation.localise import localise
from bike_cli.engine.scoring import unit
from bike_cli.engine.spotting import ClassTexts
from bike_cli.inference.prepare import prepare

sys.path.append(str(Path(__file__).parents[1] / "examples"))

from long_videos import Kind, LongVideo, draw_videos

MIN_DURATION_S, THRESHOLD = 1.0, 0.5  # the defaults of `bike spot`
STEP_S = 0.1  # of frame metrics
TIOUS = tuple(np.arange(0.5, 0.96, 0.05).round(2))
COLUMNS = "mAP .3|.5|.7|.5:.95|F1|noneP|noneR|segP5|segR5|err s|empty %"


@dataclass(frozen=True)
class Segment:
    """A segment of a label, true or found."""

    video: int
    label: int
    start_s: float
    end_s: float
    score: float = 1.0


@dataclass(frozen=True)
class Case:
    """A set of videos at one rate, and how it is decoded."""

    kind: Kind
    fps: float
    exclusive: bool = False


CASES = (
    Case("objects", 4),
    Case("objects", 2),
    Case("motions", 8),
    Case("motions", 8, exclusive=True),
)


@dataclass(frozen=True, eq=False)
class VideoSet:
    """Videos of one kind, with their truth."""

    labels: tuple[str, ...]
    durations: tuple[float, ...]
    truth: tuple[Segment, ...]
    files: tuple[Path, ...]


# -- Videos and features --------------------------------------------------------------------------------------------


def render(kind: Kind, count: int, seed: int, folder: Path) -> VideoSet:
    """Render a set, except for the files that exist."""
    labels, videos = draw_videos(kind, count, seed)
    files = []
    for video in videos:
        into = folder / f"{kind}-{seed}"
        into.mkdir(parents=True, exist_ok=True)
        if not (into / video.name).exists():
            video.write(into).rename(into / f".{video.name}")  # a file that is there is whole
            (into / f".{video.name}").rename(into / video.name)
        files.append(into / video.name)
    truth = [segment for i, video in enumerate(videos) for segment in _truth(i, video, labels)]
    return VideoSet(labels, tuple(video.duration_s for video in videos), tuple(truth), tuple(files))


def _truth(i: int, video: LongVideo, labels: Sequence[str]) -> list[Segment]:
    return [Segment(i, labels.index(s.label), s.start_s, s.end_s) for s in video.segments]


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
        features = engine.encode_frames(np.stack(frames_at(path, fps)))
        np.save(kept, features.cpu().numpy())
    return torch.from_numpy(np.load(kept))


# -- Ways to find segments ------------------------------------------------------------------------------------------


def spot(
    engine: Engine, texts: ClassTexts, phrases: Tensor, frames: Tensor, case: Case
) -> list[tuple[int, int, int, float]]:
    """Return label, first bin, bin after the last, and score of each segment that bike finds."""
    result = localise(
        frames,
        torch.ones(len(frames), dtype=torch.bool),
        texts,
        phrases,
        head=engine.temporal_head,
        logit_scale=engine.logit_scale,
        rule=RunRule(case.fps, MIN_DURATION_S, THRESHOLD),
        exclusive=case.exclusive,
    )
    return [(run.label, run.start, run.stop, run.score) for run in result.runs]


def softmax(engine: Engine, texts: ClassTexts, frames: Tensor, fps: float) -> list[tuple[int, int, int, float]]:
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
        found += [(label, a, b, float(column[a:b].mean())) for a, b in runs if b - a >= fps]
    return found


# -- Metrics --------------------------------------------------------------------------------------------------------


def tiou(a: Segment, b: Segment) -> float:
    """Return the temporal intersection over union."""
    shared = min(a.end_s, b.end_s) - max(a.start_s, b.start_s)
    return max(0.0, shared) / (max(a.end_s, b.end_s) - min(a.start_s, b.start_s))


def average_precision(truth: Sequence[Segment], found: Sequence[Segment], least: float) -> float:
    """Return ActivityNet's interpolated average precision of one label."""
    free = set(range(len(truth)))
    hits = []
    for segment in sorted(found, key=lambda s: -s.score):
        overlaps = [(tiou(segment, truth[i]), i) for i in free if truth[i].video == segment.video]
        best, i = max(overlaps, default=(0.0, -1))
        hits.append(best >= least)
        free -= {i} if best >= least else set()
    right = np.cumsum(hits)
    recall = np.concatenate([[0], right / len(truth)])
    precision = np.concatenate([right / np.arange(1, len(hits) + 1), [0]])
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall) * precision[:-1]).sum())


def measure(videos: VideoSet, found: Sequence[Segment]) -> list[float]:
    """Return the metrics of `COLUMNS`, in per cent but for the error of ends."""
    labels = sorted({s.label for s in videos.truth})

    def mean_ap(least: float) -> float:
        of_label = [([s for s in videos.truth if s.label == c], [s for s in found if s.label == c]) for c in labels]
        return 100 * float(np.mean([average_precision(true, ours, least) for true, ours in of_label]))

    def partners(some: Sequence[Segment], others: Sequence[Segment]) -> list[tuple[Segment, Segment]]:
        pairs = [(a, b) for a in some for b in others if (a.video, a.label) == (b.video, b.label) and tiou(a, b) >= 0.5]
        return list({a: (a, b) for a, b in pairs}.values())

    true, ours = (grid(videos, some) for some in (videos.truth, found))
    both, none_true, none_ours = (true & ours).sum(), ~true.any(1), ~ours.any(1)
    none_both = (none_true & none_ours).sum()
    matched = partners(found, videos.truth)
    errors = [abs(x - y) for a, b in matched for x, y in ((a.start_s, b.start_s), (a.end_s, b.end_s))]
    empty = set(range(len(videos.durations))) - {s.video for s in videos.truth}
    in_empty = grid(videos, [s for s in found if s.video in empty]).any(1).sum() * STEP_S
    return [
        *(mean_ap(least) for least in (0.3, 0.5, 0.7)),
        float(np.mean([mean_ap(least) for least in TIOUS])),
        100 * 2 * both / (true.sum() + ours.sum()),
        100 * none_both / none_ours.sum(),
        100 * none_both / none_true.sum(),
        100 * len(matched) / max(1, len(found)),
        100 * len(partners(videos.truth, found)) / len(videos.truth),
        float(np.median(errors)) if errors else float("nan"),
        100 * in_empty / sum(videos.durations[i] for i in empty),
    ]


def grid(videos: VideoSet, segments: Sequence[Segment]) -> NDArray[np.bool_]:
    """Return which label is there in each step of all videos, bool [steps, C]."""
    counts = [round(duration / STEP_S) for duration in videos.durations]
    firsts = np.concatenate([[0], np.cumsum(counts)])
    cells = np.zeros((firsts[-1], len(videos.labels)), bool)
    for s in segments:
        middles = (np.arange(counts[s.video]) + 0.5) * STEP_S
        cells[firsts[s.video] : firsts[s.video + 1], s.label] |= (middles >= s.start_s) & (middles < s.end_s)
    return cells


# -- The table ------------------------------------------------------------------------------------------------------


def segments_of(
    videos: VideoSet, fps: float, by_video: Sequence[Sequence[tuple[int, int, int, float]]]
) -> list[Segment]:
    """Return found runs of bins as segments; the last bin ends with the video."""
    return [
        Segment(i, label, start / fps, min(stop / fps, videos.durations[i]), score)
        for i, runs in enumerate(by_video)
        for label, start, stop, score in runs
    ]


def print_row(name: str, videos: VideoSet, found: Sequence[Segment], seconds: float) -> None:
    """Print a row of the table."""
    figures = measure(videos, found)
    cells = [f"{x:.2f}" if i == 9 else f"{x:.1f}" for i, x in enumerate(figures)]
    minutes = sum(videos.durations) / 60
    print("| " + " | ".join([name, *cells, f"{1000 * seconds / minutes:.1f}"]) + " |", flush=True)


def main() -> None:
    """Render, read, score, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="model to measure (default: %(default)s)")
    parser.add_argument("--objects", type=int, default=24, help="videos of objects (default: %(default)s)")
    parser.add_argument("--motions", type=int, default=12, help="videos of motions (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=4_001, help="seed of the videos (default: %(default)s)")
    default = Path(tempfile.gettempdir(), "bike_spot_accuracy")
    parser.add_argument("--folder", type=Path, default=default, help="videos and features (default: %(default)s)")
    options = parser.parse_args()
    engine = load(options.model, device="cpu")
    phrases = encode_lexicon(engine.encoder, read_lexicon(engine.recipe.lexicon)).features
    counts = {"objects": options.objects, "motions": options.motions}
    sets = {kind: render(kind, count, options.seed, options.folder) for kind, count in counts.items() if count}
    for kind, videos in sets.items():
        seconds = sum(videos.durations)
        print(f"{kind}: {len(videos.files)} videos, {len(videos.truth)} segments, {seconds:.0f} s, seed {options.seed}")
    print(f"\n| | {' | '.join(COLUMNS.split('|'))} | CPU ms/min |")
    print("|---" * (len(COLUMNS.split("|")) + 2) + "|")
    for case in (case for case in CASES if case.kind in sets):
        videos = sets[case.kind]
        config = ClassifyConfig(engine=EngineConfig(model=options.model))
        texts = prepare(engine, videos.labels, config, shows_attributes=False).texts
        features = [features_of(engine, path, case.fps) for path in videos.files]
        name = f"{case.kind}, {case.fps:g} fps"
        start = time.process_time()
        found = [spot(engine, texts, phrases, frames, case) for frames in features]
        spent = time.process_time() - start
        print_row(name + ", exclusive" * case.exclusive, videos, segments_of(videos, case.fps, found), spent)
        if not case.exclusive:
            start = time.process_time()
            found = [softmax(engine, texts, frames, case.fps) for frames in features]
            spent = time.process_time() - start
            print_row(f"{name}, softmax", videos, segments_of(videos, case.fps, found), spent)


if __name__ == "__main__":
    main()
