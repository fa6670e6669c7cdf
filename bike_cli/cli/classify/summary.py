"""The summary of a run: records by kind, the exit code, and a line with timings."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from bike_cli.cli.terminal.console import rate
from bike_cli.errors import ExitCode
from bike_cli.records import Failure, Prediction, Timings
from bike_cli.wording import count


@dataclass
class Tally:
    """The number of answered videos, and of failures by kind."""

    ok: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def failures(self) -> int:
        """The number of failures."""
        return self.failed.total()

    @property
    def total(self) -> int:
        """The number of all records."""
        return self.ok + self.failures

    def add(self, record: Prediction | Failure) -> None:
        """Count a record."""
        if isinstance(record, Failure):
            self.failed[record.kind] += 1
        else:
            self.ok += 1

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.ok + other.ok, self.failed + other.failed)

    def exit_code(self) -> ExitCode:
        """Return the exit code for these records."""
        if not self.ok:
            return ExitCode.ALL_FAILED
        return ExitCode.SOME_FAILED if self.failures else ExitCode.DONE


def summary(done: Tally, *, seconds: float, spent: Timings, workers: int, before: int = 0) -> str:
    """Return the line that is printed at the end of a run.

    Args:
        done: the records of this run.
        spent: all zero if it was not measured.
        before: records that the file of a resumed run contained already.
    """
    speed = f", {rate(done.total / seconds)}" if done.total and seconds > 0 else ""
    parts = [f"{count(done.total, 'video')}: {_outcome(done)} in {seconds:,.1f} s{speed}"]
    if spent != Timings():
        decoded = f"decode {spent.decode_s:,.1f} s in {count(workers, 'worker')}"
        parts.append(f"{decoded}, encode {spent.encode_s:,.1f} s, waited {spent.wait_s:,.1f} s")
        parts.append(f"{max(0, done.total - spent.decoded):,} from the cache")
    if before:
        parts.append(f"{before:,} existed before")
    return " · ".join(parts)


def _outcome(done: Tally) -> str:
    if not done.failures:
        return f"{done.ok:,} ok"
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in done.failed.most_common())
    return f"{done.ok:,} ok, {done.failures:,} failed ({kinds})"
