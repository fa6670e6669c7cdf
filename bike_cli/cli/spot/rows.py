"""Turn timelines into JSON objects and into rows of cells, the same for every format.

Times have three decimals, so that they are milliseconds. Scores have six significant digits, or six of their distance
from 1, because rankings depend on them. The scores of single bins have four decimals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bike_cli.cli.terminal.record_writers import Cell
from bike_cli.data.predictions.objects import DIGEST, failure_as_object
from bike_cli.json_text import JsonObject, rounded, significant
from bike_cli.records import Failure, Segment, Source, Timeline

if TYPE_CHECKING:
    from bike_cli.video.cutting import Cut

TIME_DIGITS, BIN_SCORE_DIGITS = 3, 4
OF_SEGMENTS = ("path", "start_s", "end_s", "label", "score", "peak_s")
OF_VIDEOS = ("status", "model", "fps", "frames", "duration_s", "warning", "error", "message")
OF_CLIPS = ("clip", "clip_start_s", "clip_error")  # with --cut


@dataclass(frozen=True)
class CutTimeline:
    """A timeline, and the clips that were cut out of its video.

    Args:
        clips: a clip, or the reason why there is none, for each segment of the timeline.
    """

    timeline: Timeline
    clips: tuple[Cut | Failure, ...]

    def __post_init__(self) -> None:
        if len(self.clips) != len(self.timeline.segments):
            raise ValueError(f"{len(self.clips)} clips do not fit {len(self.timeline.segments)} segments")

    @property
    def source(self) -> Source:
        """The video."""
        return self.timeline.source


Record = Timeline | CutTimeline | Failure


def timeline_of(record: Timeline | CutTimeline) -> Timeline:
    """Return the timeline of a record."""
    return record.timeline if isinstance(record, CutTimeline) else record


def keep_best(timeline: Timeline, top: int) -> Timeline:
    """Return a timeline with the `top` best segments of each label; of equal scores, the earlier ones."""
    kept: set[int] = set()
    for label in timeline.labels:
        of_label = [i for i, segment in enumerate(timeline.segments) if segment.label == label]
        kept |= set(sorted(of_label, key=lambda i: -timeline.segments[i].score)[:top])
    return replace(timeline, segments=tuple(s for i, s in enumerate(timeline.segments) if i in kept))


def as_object(record: Record, settings: str | None = None, *, timeline: bool = False) -> JsonObject:
    """Return the JSON object of a record, with numbers rounded to their precision.

    Args:
        settings: stands for the labels and settings of the run; None leaves it out.
        timeline: include the score of each label in each bin, if the record has them.
    """
    if isinstance(record, Failure):
        return failure_as_object(record)
    found, clips = timeline_of(record), _clips_of(record)
    best: dict[str, object] = {}
    if not found.segments and found.best is None:
        best = {"best": None}
    elif not found.segments and found.best is not None:
        at_s, score = _time(found.best.at_s), significant(found.best.score)
        best = {"best": {"label": found.best.label, "at_s": at_s, "score": score}}
    return {
        "path": found.source.id,
        "status": "ok",
        "segments": [_segment(segment, clip) for segment, clip in zip(found.segments, clips, strict=True)],
        **best,
        "model": found.model,
        **({} if found.model_digest is None else {DIGEST: found.model_digest}),
        **({} if settings is None else {"settings": settings}),
        "fps": rounded(found.fps),
        "frames": found.frames,
        "duration_s": _time(found.duration_s),
        **({} if found.warning is None else {"warning": found.warning}),
        **({"timeline": _bins(found)} if timeline and found.scores is not None else {}),
    }


def columns(*, cuts: bool = False) -> list[str]:
    """Return the names of the columns of `as_rows`.

    Args:
        cuts: whether clips are cut, which take columns.
    """
    return [*OF_SEGMENTS, *OF_VIDEOS, *(OF_CLIPS if cuts else ())]


def as_rows(record: Record, *, cuts: bool = False) -> list[list[Cell]]:
    """Return a row for each segment; a video without one has one row, whose cells of the segment are empty."""
    path, no_segment = record.source.id, [None] * (len(OF_SEGMENTS) - 1)
    if isinstance(record, Failure):
        of_video: list[Cell] = ["error", *([None] * (len(OF_VIDEOS) - 3)), record.kind, record.message]
        return [[path, *no_segment, *of_video, *([None] * len(OF_CLIPS) * cuts)]]
    found = timeline_of(record)
    of_video = ["ok", found.model, rounded(found.fps), found.frames, _time(found.duration_s), found.warning, None, None]
    if not found.segments:
        return [[path, *no_segment, *of_video, *([None] * len(OF_CLIPS) * cuts)]]
    segments = zip(found.segments, _clips_of(record), strict=True)
    return [[path, *_cells(segment), *of_video, *(_clip_cells(clip) if cuts else ())] for segment, clip in segments]


def _clips_of(record: Timeline | CutTimeline) -> Sequence[Cut | Failure | None]:
    return record.clips if isinstance(record, CutTimeline) else [None] * len(record.segments)


def _time(seconds: float | None) -> float | None:
    return None if seconds is None else rounded(seconds, TIME_DIGITS)


def _cells(segment: Segment) -> list[Cell]:
    times = _time(segment.start_s), _time(segment.end_s)
    return [*times, segment.label, significant(segment.score), _time(segment.peak_s)]


def _segment(segment: Segment, clip: Cut | Failure | None) -> JsonObject:
    found: dict[str, object] = {
        "label": segment.label,
        "start_s": _time(segment.start_s),
        "end_s": _time(segment.end_s),
        "score": significant(segment.score),
        "peak_s": _time(segment.peak_s),
    }
    if isinstance(clip, Failure):
        found["clip"] = {"error": {"type": clip.kind, "message": clip.message}}
    elif clip is not None:
        found["clip"] = {"path": str(clip.path), "start_s": _time(clip.start_s), "exact": clip.exact}
    return found


def _clip_cells(clip: Cut | Failure | None) -> list[Cell]:
    if clip is None:
        return [None] * len(OF_CLIPS)
    return [None, None, clip.message] if isinstance(clip, Failure) else [str(clip.path), _time(clip.start_s), None]


def _bins(timeline: Timeline) -> JsonObject:
    assert timeline.scores is not None
    middles = (timeline.edges_s[:-1] + timeline.edges_s[1:]) / 2
    scores = timeline.scores.T.tolist()
    return {
        "times_s": [_time(middle) for middle in middles.tolist()],
        "scores": {
            label: [rounded(score, BIN_SCORE_DIGITS) for score in of_label]
            for label, of_label in zip(timeline.labels, scores, strict=True)
        },
    }
