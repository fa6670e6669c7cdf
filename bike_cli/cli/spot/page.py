"""Timelines as one HTML page that loads nothing but the video; `page.html.jinja` is its template."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from urllib.parse import quote

import numpy as np
from jinja2 import Environment
from numpy.typing import NDArray

from bike_cli.cli.pages.environment import digest_of, make_environment, page_script, page_style
from bike_cli.cli.spot.clock import clock
from bike_cli.cli.spot.rows import CutTimeline, Record, timeline_of
from bike_cli.cli.terminal.output_file import open_output
from bike_cli.cli.terminal.tables import without_path
from bike_cli.records import Failure, Segment, Source, Timeline
from bike_cli.wording import count, percent

PACKAGE, TEMPLATE, STYLE, SCRIPT = "bike_cli.cli.spot", "page.html.jinja", "page.css", "page.js"
MOST_PICTURES = 200  # more would make a page of several megabytes
PICTURE_PX = 256
WIDTH = 1000  # points of a curve, at most; more than a screen shows
TICK_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200)
MOST_TICKS = 8
CURVES_OF_NOTHING = 3  # labels whose curves are shown if nothing was found

# Reads the pictures of a video at some times, in seconds, as JPEGs; None where there is none.
ReadPictures = Callable[[Source, Sequence[float]], Sequence[bytes | None]]


@dataclass(frozen=True)
class _Mark:
    """A segment on the page."""

    id: str
    label: str
    start_s: float
    end_s: float
    score: float
    peak_s: float
    clip_url: str | None = None
    lost: str | None = None  # why it has no clip
    picture: str | None = None

    @property
    def when(self) -> str:
        return f"{clock(self.start_s)}–{clock(self.end_s)}"

    @property
    def peak(self) -> str:
        return clock(self.peak_s)


@dataclass(frozen=True)
class _Row:
    """A label with its curve."""

    label: str
    path: str
    segments: tuple[_Mark, ...]
    totals: str


@dataclass(frozen=True)
class _Video:
    """A video on the page."""

    id: str
    source: Source
    failure: Failure | None = None
    known: Mapping[str, str] = field(default_factory=dict)
    warning: str | None = None
    nothing: str = ""
    end_s: float = 1.0
    rows: tuple[_Row, ...] = ()
    others: tuple[str, ...] = ()
    found: tuple[_Mark, ...] = ()
    ticks: tuple[tuple[str, str, str], ...] = ()

    @property
    def path(self) -> str:
        return self.source.id


class PageBuilder:
    """Collects the records of a run, and writes them as a page.

    A record is turned into curves at once, so that the scores of its bins need not be kept.

    Args:
        file: the page; links to videos and clips are relative to its folder.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._videos: list[_Video] = []
        self._model = ""

    def add(self, record: Record) -> None:
        """Add a record; without the scores of bins, the curves show only the segments."""
        name = f"video{len(self._videos) + 1}"
        if isinstance(record, Failure):
            self._videos.append(_Video(name, record.source, record))
            return
        self._model = timeline_of(record).model
        self._videos.append(_video(record, name, self._file.absolute().parent))

    def write(self, read_pictures: ReadPictures | None = None) -> None:
        """Write the page; it appears when it is complete.

        Args:
            read_pictures: for a picture at the peak of each segment, at most `MOST_PICTURES`.
        Raises:
            UsageError: the file cannot be written.
        """
        page = self.render(read_pictures)
        with open_output(self._file) as stream:
            stream.write(page)

    def render(self, read_pictures: ReadPictures | None = None) -> str:
        """Return the page; see `write`."""
        videos, left_out = self._videos, 0
        if read_pictures is not None:
            videos, left_out = _with_pictures(videos, read_pictures)
        style, script = page_style(PACKAGE, STYLE), page_script(PACKAGE, SCRIPT)
        player = self._player()
        media = f"script-src 'sha256-{digest_of(script)}'; media-src 'self' file:; " if player is not None else ""
        answered = [video for video in videos if video.failure is None]
        return (
            _environment()
            .get_template(TEMPLATE)
            .render(
                title="bike spot",
                videos=videos,
                known={
                    "model": self._model,
                    "videos": f"{len(videos):,}",
                    "segments": f"{sum(len(video.found) for video in videos):,}",
                },
                headings={video.id: video.path for video in answered} | {"failures": "Not read"},
                left_out=left_out,
                player=None if player is None else _url(player),
                player_path=player,
                policy=media,
                style=style,
                style_digest=digest_of(style),
                script=script,
            )
        )

    def _player(self) -> str | None:
        """Return the path of the video, relative to the page, if there is exactly one and it is a file."""
        if len(self._videos) != 1 or self._videos[0].failure is not None:
            return None
        path = self._videos[0].source.path
        if self._videos[0].source.remote is not None:
            return None
        return _relative(path, self._file.absolute().parent) if path.is_file() else None


@cache
def _environment() -> Environment:
    environment = make_environment(PACKAGE)
    environment.filters |= {"share": lambda score: percent(score, 0)}
    environment.globals |= {"MOST_PICTURES": MOST_PICTURES, "WIDTH": WIDTH}
    return environment


def _video(record: Timeline | CutTimeline, name: str, folder: Path) -> _Video:
    timeline = timeline_of(record)
    clips = record.clips if isinstance(record, CutTimeline) else [None] * len(timeline.segments)
    found = []
    for number, (segment, clip) in enumerate(zip(timeline.segments, clips, strict=True), start=1):
        mark = _mark(segment, f"{name}-{number}")
        if isinstance(clip, Failure):
            mark = replace(mark, lost=without_path(clip))
        elif clip is not None:
            mark = replace(mark, clip_url=_url(_relative(clip.path, folder)))
        found.append(mark)
    end_s = float(timeline.edges_s[-1]) or 1.0
    shown = _shown_labels(timeline)
    known = {
        "length": "unknown" if timeline.duration_s is None else clock(timeline.duration_s),
        "frames": f"{timeline.frames:,}, {timeline.fps:g} per second",
    }
    return _Video(
        name,
        timeline.source,
        known=known,
        warning=timeline.warning,
        nothing=_nothing(timeline),
        end_s=end_s,
        rows=tuple(_row(timeline, label, [mark for mark in found if mark.label == label]) for label in shown),
        others=tuple(label for label in timeline.labels if label not in shown),
        found=tuple(found),
        ticks=tuple(_ticks(end_s)),
    )


def _mark(segment: Segment, name: str) -> _Mark:
    start_s, end_s, peak_s = (round(seconds, 3) for seconds in (segment.start_s, segment.end_s, segment.peak_s))
    return _Mark(name, segment.label, start_s, end_s, segment.score, peak_s)


def _shown_labels(timeline: Timeline) -> list[str]:
    """Return the labels that were found; of a video without segments, those that came closest."""
    found = {segment.label for segment in timeline.segments}
    if found or timeline.scores is None or np.isnan(timeline.scores).all():
        return [label for label in timeline.labels if label in found]
    peaks = np.fmax.reduce(timeline.scores, axis=0, initial=0.0)
    best = np.argsort(-peaks, kind="stable")[:CURVES_OF_NOTHING].tolist()
    return [timeline.labels[place] for place in best]


def _nothing(timeline: Timeline) -> str:
    best = timeline.best
    if best is None:
        return "Nothing was found; no frame could be read"
    return f"Nothing was found; the best is {best.label} at {clock(best.at_s)}, {percent(best.score, 0)}"


def _row(timeline: Timeline, label: str, marks: Sequence[_Mark]) -> _Row:
    total_s = sum(mark.end_s - mark.start_s for mark in marks)
    totals = f"{count(len(marks), 'segment')}, {total_s:,.1f} s" if marks else ""
    scores = None if timeline.scores is None else timeline.scores[:, timeline.labels.index(label)]
    path = "" if scores is None else curve(scores, timeline.edges_s)
    return _Row(label, path, tuple(marks), totals)


def curve(scores: NDArray[np.float32], edges_s: NDArray[np.float64]) -> str:
    """Return the path of a curve in an area of `WIDTH` by 100: steps from bin to bin, filled down to zero.

    Bins that share one of `WIDTH` columns show the highest score in it. Bins without a score leave a gap.

    Args:
        scores: [T], from 0 to 1; NaN in bins that could not be read.
        edges_s: [T + 1].
    """
    columns = min(WIDTH, len(scores))
    end_s = float(edges_s[-1]) or 1.0
    if columns < len(scores):
        bins = np.minimum((np.arange(len(scores)) * columns) // len(scores), columns - 1)
        highest = np.full(columns, -np.inf)
        np.fmax.at(highest, bins, scores)
        first = np.searchsorted(bins, np.arange(columns + 1))
        heights, edges = np.where(np.isinf(highest), np.nan, highest), edges_s[first]
    else:
        heights, edges = scores.astype(np.float64), edges_s
    places = edges / end_s * WIDTH
    parts, is_open = [], False
    for height, start, stop in zip(heights.tolist(), places[:-1].tolist(), places[1:].tolist(), strict=True):
        if math.isnan(height):
            parts.append("V100" if is_open else "")
            is_open = False
            continue
        top = f"{100 * (1 - min(1.0, max(0.0, height))):.4g}"
        parts.append(f"V{top}H{stop:.6g}" if is_open else f"M{start:.6g} 100V{top}H{stop:.6g}")
        is_open = True
    return "".join(parts) + ("V100" if is_open else "")


def _ticks(end_s: float) -> list[tuple[str, str, str]]:
    """Return ticks of the time axis: where they are, in per cent, what they say, and where their text is anchored."""
    step_s = next((step for step in TICK_STEPS_S if end_s / step <= MOST_TICKS), TICK_STEPS_S[-1])
    step_s *= math.ceil(end_s / step_s / MOST_TICKS)
    found = []
    for place in range(math.floor(end_s / step_s + 1e-9) + 1):
        share = 100 * step_s * place / end_s
        anchor = "start" if share < 3 else "end" if share > 97 else "middle"
        found.append((f"{share:.4g}", _short_clock(step_s * place, step_s), anchor))
    return found


def _short_clock(seconds: float, step_s: float) -> str:
    """Return a time without leading zeros, such as `1:02:03`, `2:03` or `0:02.5`, as exactly as steps need it."""
    text = clock(seconds, digits=1 if step_s < 1 else 0)
    return text[4:] if seconds < 600 and text[:4] == "00:0" else text[3:] if text[:3] == "00:" else text.lstrip("0")


def _with_pictures(videos: Sequence[_Video], read_pictures: ReadPictures) -> tuple[list[_Video], int]:
    """Return the videos with the pictures of the best segments, and the number of segments left out."""
    ranked = sorted((mark for video in videos for mark in video.found), key=lambda mark: -mark.score)
    chosen = {mark.id for mark in ranked[:MOST_PICTURES]}
    found = []
    for video in videos:
        marks = [mark for mark in video.found if mark.id in chosen]
        pictures = read_pictures(video.source, [mark.peak_s for mark in marks]) if marks else []
        urls = {
            mark.id: f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
            for mark, jpeg in zip(marks, pictures, strict=True)
            if jpeg is not None
        }
        found.append(replace(video, found=tuple(replace(mark, picture=urls.get(mark.id)) for mark in video.found)))
    return found, max(0, len(ranked) - MOST_PICTURES)


def _relative(path: Path, folder: Path) -> str:
    try:
        return os.path.relpath(path.absolute(), folder)
    except ValueError:  # another drive of Windows
        return str(path.absolute())


def _url(path: str) -> str:
    """Return a link to a file; one that begins like a scheme, such as `a:b.mp4`, stays a path."""
    if Path(path).is_absolute():
        return Path(path).as_uri()
    return "./" + quote(os.fsencode(path.replace(os.sep, "/")))
