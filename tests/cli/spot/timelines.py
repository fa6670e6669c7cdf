"""Timelines to write."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bike_cli.records import Failure, Peak, Segment, Source, Timeline
from bike_cli.video.cutting import Cut

LABELS = ("corner kick", "goal", "replay")


def segment(label: str, start_s: float, end_s: float, score: float = 0.9) -> Segment:
    return Segment(label, start_s, end_s, score, (start_s + end_s) / 2)


def timeline(
    *segments: Segment,
    path: str = "cup/match.mp4",
    labels: Sequence[str] = LABELS,
    bins: int = 40,
    fps: float = 2.0,
    end_s: float | None = None,
    scores: bool = False,
    **changes: object,
) -> Timeline:
    """A timeline of `bins` bins, the last of which may be short; by default 20 s, with the best label at 2.25 s."""
    edges_s = np.arange(bins + 1) / fps
    edges_s[-1] = end_s if end_s is not None else edges_s[-1]
    found = Timeline(
        Source.at(path),
        tuple(labels),
        tuple(sorted(segments, key=lambda s: (s.start_s, s.end_s, labels.index(s.label)))),
        edges_s,
        Peak(labels[0], 2.25, 0.12),
        model="tiny",
        fps=fps,
        frames=bins,
        duration_s=float(edges_s[-1]),
        scores=curve(segments, labels, edges_s) if scores else None,
    )
    for name, value in changes.items():
        object.__setattr__(found, name, value)
    return found


def curve(segments: Sequence[Segment], labels: Sequence[str], edges_s: np.ndarray) -> np.ndarray:
    """Scores of 0.05, and of a segment's score inside of it."""
    found = np.full((len(edges_s) - 1, len(labels)), 0.05, np.float32)
    middles = (edges_s[1:] + edges_s[:-1]) / 2
    for one in segments:
        found[(middles > one.start_s) & (middles < one.end_s), labels.index(one.label)] = one.score
    return found


def failure(path: str = "b.mp4") -> Failure:
    return Failure(Source.at(path), "damaged", f"{path}: decoding stops inside (bits); repair or replace the file")


def a_cut(name: str = "clips/match/0001_goal.mp4", start_s: float = 1.5, *, exact: bool = False) -> Cut:
    return Cut(Path(name), start_s, exact)
