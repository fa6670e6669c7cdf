"""The summary of a run: records by kind, the exit code, and a line with timings."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from bike_cli.cli.terminal.console import rate
from bike_cli.errors import ExitCode
from bike_cli.records import Failure, Prediction, Timings


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
    parts = [f"{_count(done.total, 'video')}: {_outcome(done)} in {seconds:,.1f} s{_rate(done.total, seconds)}"]
    if spent != Timings():
        decoded = f"decode {spent.decode_s:,.1f} s in {_count(workers, 'worker')}"
        parts.append(f"{decoded}, encode {spent.encode_s:,.1f} s, waited {spent.wait_s:,.1f} s")
        parts.append(f"{max(0, done.total - spent.decoded):,} from the cache")
    if before:
        parts.append(f"{before:,} existed before")
    return " · ".join(parts)


def _outcome(done: Tally) -> str:
    if not done.failures:
        return f"{done.ok:,} ok"
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in done.failed.most_common())
    return f"{done.ok:,} ok, {done.failures:,} failed ({kinds})"


def _rate(videos: int, seconds: float) -> str:
    return f", {rate(videos / seconds)}" if videos and seconds > 0 else ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
