"""Tables for people: a detailed view of a single video, or one row per video."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bike_cli.cli.terminal.console import plain, print_table, safe
from bike_cli.cli.terminal.tables import ASCII_BARS, BARS, Screen, fill_lines, keep_ends, without_path
from bike_cli.records import Failure, Prediction, Ranked
from bike_cli.wording import count, percent

BAR_CELLS, SPARK_CELLS = 20, 48
BARS_FROM = 60  # columns that leave room for bars of full length
MATCH_CELLS = 9  # columns of a match and the space next to it
NOTE_INDENT = 2
NAMED = 3  # frames that are named, at most
ATTRIBUTES_FROM = 110  # columns that leave room for attributes
SECOND_FROM = 41  # columns to the right of the path that leave room for the second label
NONE, REJECTED = "none of these", "bold yellow"  # what a rejected video is called, and its style
WORTH_NAMING = 0.05  # a frame's share of the decision


class TableWriter:
    """Rich tables on a stream.

    Args:
        names: of all videos, if known; a single video gets the detailed view.
        labels: all labels, so that their columns are no wider than necessary; empty if unknown.
        rejects: whether some videos may be none of the labels.
    """

    def __init__(
        self, stream: TextIO, names: Sequence[str] | None, labels: Sequence[str] = (), *, rejects: bool = False
    ) -> None:
        self._console = Screen(stream)
        self._detailed = names is not None and len(names) == 1
        # A path may take nine twentieths of a wide line, and on a narrow line all that the label and the score leave.
        width = self._console.width
        longest = max((cell_len(safe(name)) for name in names or ()), default=width)
        self._path_width = max(5, min(longest, max((width - 8) * 9 // 20, min(width - 31, 48))))
        self._has_second = width - self._path_width >= SECOND_FROM
        self._has_header = False
        answers = [*labels, NONE] if labels and rejects else labels
        self._label_width = max((cell_len(safe(label)) for label in answers), default=width)

    @property
    def screen(self) -> Console:
        """The console that prints the rows, and can show something below them."""
        return self._console

    def write(self, record: Prediction | Failure) -> None:
        """Print a record."""
        if not self._detailed:
            print_table(self._console, self._row(record))
        elif isinstance(record, Failure):
            print_table(self._console, Text.assemble(("failed ", "bold red"), plain(record.message)))
        else:
            print_table(self._console, _detail(record, self._console.width, self._console.is_ascii))
        self._console.file.flush()

    def close(self) -> None:
        """Nothing is left to print."""

    def _label_widths(self) -> tuple[int | None, int | None]:
        """Return the widths of the columns of the best and the second label; None shares what is left."""
        if self._console.width < ATTRIBUTES_FROM:
            return None, None  # the labels are the last columns, and may take all
        share = (self._console.width - self._path_width - 16) // 3
        best = max(cell_len("Label"), min(self._label_width, share))
        second = max(cell_len("Second best"), min(self._label_width + cell_len(" 100.0 %"), share))
        return best, second

    def _row(self, record: Prediction | Failure) -> Group:
        width = self._console.width
        table = Table(box=None, expand=True, show_header=not self._has_header, header_style="bold", pad_edge=False)
        self._has_header = True
        # Only ratios and fixed widths: each row is a separate table, and all must line up.
        table.add_column("Video", width=self._path_width, no_wrap=True)
        label_width, second_width = self._label_widths()
        table.add_column(
            "Label", width=label_width, ratio=None if label_width else 5, no_wrap=True, overflow="ellipsis"
        )
        table.add_column("Score", width=7, justify="right", no_wrap=True)
        if self._has_second:
            table.add_column(
                "Second best",
                width=second_width,
                ratio=None if second_width else 5,
                no_wrap=True,
                overflow="ellipsis",
                style="dim",
            )
        if width >= ATTRIBUTES_FROM:
            table.add_column("Seen", ratio=5, no_wrap=True, overflow="ellipsis", style="cyan")
        path = Text(keep_ends(safe(record.source.id), self._path_width))
        if isinstance(record, Failure):
            failed = Table(box=None, expand=True, show_header=False, pad_edge=False)
            failed.add_column(width=self._path_width, no_wrap=True)
            failed.add_column(ratio=1)
            failed.add_row(path, plain(f"{record.kind}: {without_path(record)}", "red"))
            return Group(table, failed) if table.show_header else Group(failed)
        # A narrow line has only room for the label.
        best: Ranked | None = None if record.is_rejected else record.best
        runner_up = next(iter(record.ranked[0 if best is None else 1 :]), None)
        score = f" {percent(runner_up.score)}" if runner_up and width >= ATTRIBUTES_FROM else ""
        second = plain(runner_up.label if runner_up else "")
        if second_width is not None:  # a long label is cut, not its score
            second.truncate(second_width - cell_len(score), overflow="ellipsis")
        rest = [second.append(score)] if self._has_second else []
        seen = [plain(", ".join(a.phrase for a in record.attributes))] if width >= ATTRIBUTES_FROM else []
        if best is None:
            label = Text.assemble((NONE, REJECTED), *([] if self._has_second else [f" ({safe(record.best.label)})"]))
            table.add_row(path, label, "", *rest, *seen)
        else:
            table.add_row(path, plain(best.label, "bold"), percent(best.score), *rest, *seen)
        notes = _notes(record, width - NOTE_INDENT, self._console.is_ascii)
        return Group(table, *(Padding(note, (0, 0, 0, NOTE_INDENT)) for note in notes))


def _detail(record: Prediction, width: int, ascii_only: bool) -> Group:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("Label", overflow="fold")
    table.add_column("Score", justify="right", no_wrap=True)
    # With sigmoid scores, they are the matches.
    matches = [] if record.scores == "sigmoid" else [one.match for one in record.ranked if one.match is not None]
    room = width - MATCH_CELLS if matches else width
    bar_cells = BAR_CELLS if room >= BARS_FROM else max(0, room - BARS_FROM + BAR_CELLS)
    if bar_cells:
        table.add_column("", no_wrap=True)
    if matches:
        table.add_column("Match", justify="right", no_wrap=True)
    table.add_column("Cosine", justify="right", no_wrap=True)
    for i, ranked in enumerate(record.ranked):
        is_answer = i == 0 and not record.is_rejected
        label, bar = plain(ranked.label, "bold" if is_answer else ""), [_bar(ranked.score, bar_cells, ascii_only)]
        match = [percent(ranked.match)] if matches and ranked.match is not None else []
        table.add_row(label, percent(ranked.score), *(bar if bar_cells else []), *match, f"{ranked.cosine:.3f}")
    about = Table(box=None, show_header=False, pad_edge=False)
    about.add_column(style="dim", no_wrap=True)
    about.add_column(overflow="fold")
    if record.attributes:
        about.add_row("Seen", plain(", ".join(a.phrase for a in record.attributes), "cyan"))
    length = "" if record.duration_s is None else f" of {record.duration_s:.1f} s"
    spotting = f", spotting by {record.spotting}" if record.saliency is not None and record.spotting else ""
    for name, text in _judgement(record):
        about.add_row(name, plain(text))
    about.add_row("Read", plain(f"{count(record.frames, 'frame')}{length}, model {record.model}{spotting}"))
    title = plain(record.source.id, "bold")
    if record.is_rejected:
        title.append(f": {NONE}", REJECTED)
    return Group(title, table, about, *_notes(record, width, ascii_only))


def _judgement(record: Prediction) -> list[tuple[str, str]]:
    """Return what is known of whether the video fits none of the labels: names and texts."""
    rejection, rows = record.rejection, []
    if rejection is None:
        return []
    if rejection.none is not None:
        rows.append(("Rejected", f"{rejection.none} fits better than all labels"))
    elif rejection.is_rejected:
        # A calibration may measure something else than this cosine, which a saved classifier does not decide by.
        is_by_cosine = rejection.fit is None
        reason = f"the cosine {record.best.cosine:.3f} is too low" if is_by_cosine else "the best label fits too badly"
        rows.append(("Rejected", reason))
    if rejection.fit is not None:
        rows.append(("Fit", f"{percent(rejection.fit)} of the calibration's clips, this video included, fit no better"))
    if rejection.right is not None:
        rows.append(("Right", f"{percent(rejection.right)} likely"))
    return rows


def _notes(record: Prediction, width: int, ascii_only: bool) -> list[Text]:
    notes = []
    if record.saliency is not None:
        notes += _decided(record, width, ascii_only)
    if record.warning is not None:
        notes.append(Text.assemble(("warning: ", "yellow"), plain(record.warning)))
    return notes


def _decided(record: Prediction, width: int, ascii_only: bool) -> list[Text]:
    """Return the weights as a sparkline, and the frames with the largest weights after it or, in a narrow line, below.

    Up to `NAMED` frames are named: those of at least `WORTH_NAMING`, and always the heaviest.
    """
    assert record.saliency is not None
    weights, times_s = record.saliency.tolist(), record.times_s.tolist()
    positions = range(len(weights)) if record.positions is None else record.positions.tolist()
    frames: dict[int, tuple[float, float]] = {}  # position -> time, weight; short videos repeat frames
    for position, time_s, weight in zip(positions, times_s, weights, strict=True):
        frames[position] = (time_s, weight + frames.get(position, (0.0, 0.0))[1])
    heaviest = sorted(frames, key=lambda position: -frames[position][1])[:NAMED]
    heaviest = [position for i, position in enumerate(heaviest) if i == 0 or frames[position][1] >= WORTH_NAMING]
    moments = [f"{_moment(frames[i][0], i)} {percent(frames[i][1])}" for i in sorted(heaviest)]
    title, indent = "Decided  ", " " * len("Decided  ")
    room = max(1, width - len(indent))
    cells = min(SPARK_CELLS, room)
    line = sparkline(weights, cells=cells, ascii_only=ascii_only)
    if len(weights) > cells:
        moments.append(f"one bar per {math.ceil(len(weights) / cells)} frames")
    named = fill_lines(moments, " · ", room)
    if len(named) == 1 and len(line) + 2 + cell_len(named[0]) <= room:
        return [Text.assemble((title, "dim"), (line, "green"), "  ", named[0])]
    return [Text.assemble((title, "dim"), (line, "green")), *(Text(indent + text) for text in named)]


def sparkline(values: Sequence[float], *, cells: int = SPARK_CELLS, ascii_only: bool = False) -> str:
    """Return a line of bars, the largest value full; more than `cells` values share bars, the largest shown."""
    bars = ASCII_BARS if ascii_only else BARS
    step = math.ceil(len(values) / cells)
    shown = [max(values[i : i + step]) for i in range(0, len(values), step)]
    highest = max(shown) or 1.0
    return "".join(bars[round(value / highest * (len(bars) - 1))] for value in shown)


def _bar(share: float, cells: int, ascii_only: bool) -> Text:
    full = round(share * cells)
    return Text(("#" if ascii_only else "█") * full, style="green")


def _moment(time_s: float, position: int) -> str:
    return f"frame {position + 1}" if math.isnan(time_s) else f"{time_s:.2f} s"
