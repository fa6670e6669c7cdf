"""A progress bar: videos done and failed, rate, and remaining time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.text import Text

from bike_cli.cli.terminal.console import display, duration, rate, safe
from bike_cli.cli.terminal.progress_lines import ProgressLines
from bike_cli.cli.terminal.tables import keep_ends
from bike_cli.iterators import closed_at_end
from bike_cli.records import Failure
from bike_cli.wording import count

Answer = TypeVar("Answer")
Total = int | Iterator[object] | None
NOTE_WIDTH = 30  # columns
BAR_WIDTH = 24  # columns; leaves room for large numbers on a line of 80


def show_progress(
    records: Iterable[Answer],
    *,
    console: Console,
    total: Total = None,
    note: Callable[[], str] | None = None,
) -> Iterator[Answer]:
    """Yield the records, and show a bar on the console until the end.

    Args:
        console: rows that are printed on it meanwhile appear above the bar.
        total: a number; or an iterator to count in the background, since listing a million files takes a while; None
            if unknown.
        note: returns a short text that is shown, too.
    """
    notes = () if note is None else (_Note(note),)
    columns = (BarColumn(BAR_WIDTH), _Counts(), _Failed(), *notes, _Rate(), _Time())
    with display(console), Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total if isinstance(total, int) else None, failed=0)
        failed = 0
        with closed_at_end(records), _counting(total, lambda number: bar.update(task, total=number)):
            for record in records:
                failed += isinstance(record, Failure)
                bar.update(task, advance=1, failed=failed)
                yield record


def print_progress(
    records: Iterable[Answer],
    *,
    total: Total = None,
    note: Callable[[], str] | None = None,
) -> Generator[Answer, None, None]:
    """Yield the records, and print lines of progress until the end; see `ProgressLines`.

    Args:
        records: of the videos, as they are done.
        total, note: see `show_progress`.
    """
    done = failed = 0
    lines = ProgressLines("video", wanted=True, total=total if isinstance(total, int) else None, note=note)
    with closed_at_end(records), lines, _counting(total, lambda number: setattr(lines, "total", number)):
        for record in records:
            done, failed = done + 1, failed + isinstance(record, Failure)
            lines.update(done, failed=failed)
            yield record


class _Counts(ProgressColumn):
    def render(self, task: Task) -> Text:
        done = f"{task.completed:,.0f}/" if task.total is not None else ""
        return Text(done + count(round(task.completed if task.total is None else task.total), "video"))


class _Note(ProgressColumn):
    """A text of at most `NOTE_WIDTH` columns, of which the end is kept."""

    max_refresh = 0.5

    def __init__(self, note: Callable[[], str]) -> None:
        super().__init__()
        self._note = note

    def render(self, task: Task) -> Text:
        return Text(keep_ends(safe(self._note()), NOTE_WIDTH))


class _Failed(ProgressColumn):
    def render(self, task: Task) -> Text:
        failed = task.fields["failed"]
        return Text(f"{failed:,} failed" if failed else "", style="red")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(rate(task.speed) if task.speed else "", style="dim")


class _Time(ProgressColumn):
    """The time left; the time so far while the number of videos is unknown."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text(duration(task.elapsed or 0), style="dim")
        return Text("" if task.time_remaining is None else f"{duration(task.time_remaining)} left", style="dim")


@contextmanager
def _counting(total: Total, report: Callable[[int], None]) -> Iterator[None]:
    """Count an iterator in the background, and report its length when it is known."""
    if total is None or isinstance(total, int):
        yield
        return
    ended = threading.Event()

    def count_in_background(things: Iterator[object]) -> None:
        number = 0
        for _ in things:
            number += 1
            if ended.is_set():
                return
        report(number)

    thread = threading.Thread(target=count_in_background, args=(total,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=1)
