"""A table for people: a block per video, with a bar over the time axis per label, and the segments below it."""

from __future__ import annotations

import math
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, NamedTuple, TextIO

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from bike_cli.cli.spot.clock import clock
from bike_cli.cli.spot.rows import CutTimeline, Record, timeline_of
from bike_cli.cli.terminal.console import plain, print_table, safe
from bike_cli.cli.terminal.tables import ASCII_BARS, BARS, Screen, keep_ends, without_path
from bike_cli.records import Failure, Segment, Timeline
from bike_cli.wording import percent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NARROWEST = 40  # columns that a block needs; narrower terminals wrap it
LABEL_SHARE = 3  # a label takes at most a third of the width
INDENT = "  "
LOWEST = 0.1  # probability that a bar shows


class TableWriter:
    """A block for each video on a stream."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Screen(stream)
        self._is_first = True

    @property
    def screen(self) -> Console:
        """The console that prints the blocks, and can show something below them."""
        return self._console

    def write(self, record: Record) -> None:
        """Print a block, after an empty line between two."""
        parts: list[RenderableType] = [] if self._is_first else [Text()]
        self._is_first = False
        if isinstance(record, Failure):
            name = keep_ends(safe(record.source.id), self._console.width)
            parts += [Text(name, "bold"), _note("failed ", "bold red", without_path(record))]
        else:
            parts += _Block(record, max(NARROWEST, self._console.width), is_ascii=self._console.is_ascii).lines()
        print_table(self._console, Group(*parts))
        self._console.file.flush()

    def close(self) -> None:
        """Nothing is left to print."""


class _Row(NamedTuple):
    """What a label's row shows next to the bar."""

    label: str
    segments: tuple[Segment, ...]

    def cells(self, *, is_ascii: bool) -> tuple[str, str, str]:
        total_s = sum(segment.end_s - segment.start_s for segment in self.segments)
        best = max(segment.score for segment in self.segments)
        return f"{len(self.segments):,}{'x' if is_ascii else '×'}", _length(total_s), percent(best, 0)


class _Block:
    """The lines of one video."""

    def __init__(self, record: Timeline | CutTimeline, width: int, *, is_ascii: bool) -> None:
        self._timeline, self._width, self._is_ascii = timeline_of(record), width, is_ascii
        self._clips = record.clips if isinstance(record, CutTimeline) else ()
        of_label = {label: _segments_of(self._timeline, label) for label in self._timeline.labels}
        self._rows = [_Row(label, segments) for label, segments in of_label.items() if segments]

    def lines(self) -> list[RenderableType]:
        timeline = self._timeline
        length = "" if timeline.duration_s is None else f"  {clock(timeline.duration_s)}"
        name = keep_ends(safe(timeline.source.id), max(1, self._width - len(length)))
        found: list[RenderableType] = [Text.assemble((name, "bold"), (length, "dim"))]
        found += self._bars() if self._rows else [_note("", "", self._nothing())]
        found += [self._segment(segment) for segment in timeline.segments]
        lost = [clip for clip in self._clips if isinstance(clip, Failure)]
        found += [_note("no clip: ", "red", without_path(clip)) for clip in lost]
        if timeline.warning is not None:
            found.append(_note("warning: ", "yellow", timeline.warning))
        return found

    def _nothing(self) -> str:
        best = self._timeline.best
        if best is None:
            return "nothing found; no frame could be read"
        where = f"{best.label} at {clock(best.at_s, digits=0)}, {percent(best.score, 0)}"
        return f"nothing found; the best is {where}"

    def _bars(self) -> list[Text]:
        """Return a row per label that was found: label, bar, number of segments, total time and best score."""
        rest = [row.cells(is_ascii=self._is_ascii) for row in self._rows]
        widths = [max(len(cells[column]) for cells in rest) for column in range(3)]
        label_width = min(max(cell_len(safe(row.label)) for row in self._rows), self._width // LABEL_SHARE)
        cells = max(1, self._width - len(INDENT) - label_width - sum(widths) - 8)
        import numpy as np

        edges_s = np.linspace(0.0, self._end_s(), cells + 1)
        found = []
        for row, (number, total, best) in zip(self._rows, rest, strict=True):
            label = _cut(safe(row.label), label_width)
            gap = " " * (label_width - cell_len(label) + 2)
            line = Text.assemble(INDENT, label, gap, self._bar(row, edges_s))
            line.append(f"  {number:>{widths[0]}}  {total:>{widths[1]}}  {best:>{widths[2]}}")
            found.append(line)
        end = clock(self._end_s(), digits=0)
        axis = "0" + " " * (cells - 1 - len(end)) + end if cells > len(end) + 1 else ""
        if axis:
            found.append(Text(INDENT + " " * (label_width + 2) + axis, "dim"))
        return found

    def _bar(self, row: _Row, edges_s: NDArray[np.float64]) -> Text:
        """Return a cell per part of the time axis, as high as the label's best score in it; bold in segments."""
        bars = ASCII_BARS if self._is_ascii else BARS
        heights = self._heights(row, edges_s)
        shown = []
        for height, (start_s, stop_s) in zip(heights, pairwise(edges_s.tolist()), strict=True):
            is_inside = any(segment.start_s < stop_s and segment.end_s > start_s for segment in row.segments)
            share = (height - LOWEST) / (1 - LOWEST)
            step = min(len(bars) - 1, max(0, math.floor(share * len(bars))))
            shown.append((is_inside, bars[step] if is_inside or share >= 0 else " "))
        bar = Text()
        for is_inside, cells in groupby(shown, key=lambda cell: cell[0]):
            bar.append("".join(sign for _, sign in cells), "bold green" if is_inside else "dim green")
        return bar

    def _heights(self, row: _Row, edges_s: NDArray[np.float64]) -> list[float]:
        timeline = self._timeline
        if timeline.scores is None:
            return [
                max((s.score for s in row.segments if s.start_s < stop_s and s.end_s > start_s), default=0.0)
                for start_s, stop_s in pairwise(edges_s.tolist())
            ]
        import numpy as np

        scores = timeline.scores[:, timeline.labels.index(row.label)]
        first = np.searchsorted(timeline.edges_s, edges_s[:-1], "right") - 1
        last = np.searchsorted(timeline.edges_s, edges_s[1:], "left")
        parts = [scores[max(0, start) : max(start + 1, stop)] for start, stop in zip(first, last, strict=True)]
        return [float(np.fmax.reduce(part, initial=0.0)) for part in parts]

    def _end_s(self) -> float:
        return float(self._timeline.edges_s[-1]) or 1.0

    def _segment(self, segment: Segment) -> Text:
        dash = "-" if self._is_ascii else "–"
        when = f"{INDENT}{clock(segment.start_s)}{dash}{clock(segment.end_s)}  "
        score = f"  {percent(segment.score, 0)}"
        label = _cut(safe(segment.label), max(8, self._width - len(when) - len(score)))
        return Text.assemble((when, "cyan"), label, (score, "dim"))


def _note(title: str, style: str, text: str) -> Padding:
    return Padding(Text.assemble((title, style), plain(text)), (0, 0, 0, len(INDENT)))


def _segments_of(timeline: Timeline, label: str) -> tuple[Segment, ...]:
    return tuple(segment for segment in timeline.segments if segment.label == label)


def _length(seconds: float) -> str:
    """Return a total time: `9.5 s`, `12 min 05 s`, `1 h 02 min`."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return (
        f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    )


def _cut(text: str, width: int) -> str:
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) > width - 1:
        text = text[:-1]
    return f"{text}…"
