"""The progress of downloads, on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.status import Status

from bike_cli.cli.terminal.console import can_animate, plain, stderr
from bike_cli.engine.download.progress import Reporter, Transfer
from bike_cli.engine.download.transfer import readable_size

STEP = 0.1  # of the file between two lines, which are also
STEP_S = 5.0  # at least this many seconds apart


class Downloads(Reporter):
    """Shows downloads.

    Args:
        quiet: show nothing.
        status: a spinner on the same terminal, which stops while a bar is shown.
    """

    def __init__(self, *, quiet: bool = False, status: Status | None = None) -> None:
        self._console, self._status = stderr(quiet=quiet), status
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._transfer: Transfer | None = None
        self._line_s, self._line_at = 0.0, 0

    def started(self, transfer: Transfer, done: int) -> None:
        """Announce the download, and show a bar on a terminal."""
        resumed = f"; {readable_size(done)} are on disk" if done else ""
        self._print(f"{transfer.model}: downloading {transfer.file}{_of(transfer)} from {transfer.source}{resumed}")
        self._transfer, self._line_s, self._line_at = transfer, time.monotonic(), done
        if can_animate() and not self._console.quiet:
            if self._status is not None:
                self._status.stop()
            self._bar = _bar(self._console)
            self._task = self._bar.add_task(transfer.model, total=transfer.size, completed=done)
            self._bar.start()

    def progressed(self, done: int) -> None:
        """Move the bar, or print a line every tenth of the file."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
        elif self._transfer is not None and self._transfer.size:
            now, size = time.monotonic(), self._transfer.size
            if now - self._line_s >= STEP_S and done - self._line_at >= STEP * size:
                self._line_s, self._line_at = now, done
                progress = f"{100 * done / size:.0f} %, {readable_size(done)} of {readable_size(size)}"
                self._print(f"{self._transfer.model}: {progress}")

    def waiting(self, transfer: Transfer) -> None:
        """Report that another process downloads the file."""
        self._print(f"{transfer.model}: another process downloads {transfer.file}; waiting for it")

    def stopped(self, transfer: Transfer, done: int, *, is_complete: bool) -> None:
        """Remove the bar, and report how the download ended."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            if self._status is not None:
                self._status.start()
        if is_complete:
            self._print(f"{transfer.model}: downloaded and verified, {readable_size(done)}")
        elif done:
            progress = f"{readable_size(done)}{_of(transfer)}"
            self._print(f"{transfer.model}: stopped at {progress}; the same command continues there")

    def _print(self, line: str) -> None:
        self._console.print(plain(line))


def _bar(console: Console) -> Progress:
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    return Progress(TextColumn("{task.description}", markup=False), *columns, console=console, transient=True)


def _of(transfer: Transfer) -> str:
    return "" if transfer.size is None else f" ({readable_size(transfer.size)})"
