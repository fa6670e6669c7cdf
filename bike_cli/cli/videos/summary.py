"""The summary of a run: records by kind, the exit code, and the lines at the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from rich.cells import cell_len

from bike_cli.cli.terminal.console import duration, rate
from bike_cli.errors import ExitCode
from bike_cli.records import Failure
from bike_cli.wording import outcome


@dataclass
class Tally:
    """The number of answered videos, of those among them that fit none of the labels, and of failures by kind."""

    ok: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    rejected: int = 0

    @property
    def failures(self) -> int:
        """The number of failures."""
        return self.failed.total()

    @property
    def total(self) -> int:
        """The number of all records."""
        return self.ok + self.failures

    def add(self, record: object) -> None:
        """Count a record."""
        if isinstance(record, Failure):
            self.failed[record.kind] += 1
        else:
            self.ok += 1
            self.rejected += getattr(record, "is_rejected", False)

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.ok + other.ok, self.failed + other.failed, self.rejected + other.rejected)

    def exit_code(self) -> ExitCode:
        """Return the exit code for these records."""
        if not self.ok:
            return ExitCode.ALL_FAILED
        return ExitCode.SOME_FAILED if self.failures else ExitCode.DONE


def summary(done: Tally, *, seconds: float, before: int = 0, output: str | None = None, width: int = 0) -> str:
    """Return the line that is printed at the end of a run.

    Args:
        done: the records of this run.
        seconds: how long it took.
        before: records that the file of a resumed run contained already.
        output: the file or folder with the records, if any.
        width: columns that the line may take; details are left out if it is longer. 0: any number.
    """
    speed = f", {rate(done.total / seconds)}" if done.total and seconds > 0 else ""
    counted = [*done.failed.most_common(), *([("rejected", done.rejected)] if done.rejected else [])]
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in counted)
    kinds = f" ({kinds})" if kinds else ""
    existed = f"; {before:,} existed before" if before else ""
    written = "" if output is None else f"; written to {output}"
    counts = outcome(done.ok, done.failures)
    took = f" in {duration(seconds) if seconds >= 90 else f'{seconds:,.1f} s'}"
    lines = [counts + kinds + took + speed + existed + written, counts + took + speed + existed + written]
    lines.append(counts + took + existed + written)
    return next((line for line in lines if not width or cell_len(line) <= width), lines[-1])
