"""The loop of a command that answers for each video: open the output, write records, show progress, report the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, TextIO, TypeVar

from bike_cli.cli.terminal.console import notice, plain, stderr, stderr_is_tty
from bike_cli.cli.terminal.record_writers import RecordWriter
from bike_cli.cli.videos.existing import ExistingRecords, RecordCheck, read_existing
from bike_cli.cli.videos.request import VideosRequest
from bike_cli.cli.videos.sources import Sources, name_of
from bike_cli.cli.videos.summary import Tally, summary
from bike_cli.errors import ExitCode, UsageError
from bike_cli.records import Failure
from bike_cli.wording import count

if TYPE_CHECKING:
    from rich.console import Console

    from bike_cli.cli.videos.progress import Total
    from bike_cli.data.shards import Shard

Answer = TypeVar("Answer")


@dataclass
class Progress:
    """The result of a run so far."""

    tally: Tally = field(default_factory=Tally)
    seconds: float = 0.0
    stopped_by: Failure | None = None
    unseen: Failure | None = None  # the last failure, if no terminal shows the records


@contextmanager
def naming_resume(*, is_resumable: bool) -> Iterator[None]:
    """Name --resume in the message of Ctrl-C, if there are answers and the message does not name it."""
    try:
        yield
    except KeyboardInterrupt as e:
        if is_resumable and e.args and "--resume" not in str(e.args):
            e.args = (*e.args, "continue with --resume")
        raise


@contextmanager
def opened_output(
    request: VideosRequest, stdout: TextIO | None, wanted: RecordCheck
) -> Iterator[tuple[TextIO, ExistingRecords]]:
    """Open the output of a run; yield the stream, and the records that the file of a resumed run contains.

    Raises:
        UsageError: stdout is closed, or the existing records are of another kind.
    """
    from bike_cli.cli.terminal.output_file import open_output, open_resumed

    if request.output is None:
        if stdout is None:
            raise UsageError("stdout: is closed, so the answers have nowhere to go; name a file with -o")
        yield stdout, ExistingRecords()
    elif not request.resume:
        with open_output(request.output) as stream:
            yield stream, ExistingRecords()
    else:
        with open_resumed(request.output) as resumed:
            existing = read_existing(resumed.path, wanted, named=request.output)
            existing.log_retries()
            resumed.keep(existing.ranges)
            yield resumed.stream, existing


def total_of(names: list[str] | None, sources: Sources, shard: Shard | None, existing: ExistingRecords) -> Total:
    """Return the number of videos to do, or an iterator that finds them once more; None where neither is possible."""
    if names is not None or sources.again is None:
        return None if names is None else len(names)
    again = (source for source in sources.again() if shard is None or shard.holds(name_of(source)))
    return islice(again, existing.tally.total, None)


def write_records(
    answers: Iterable[Answer],
    writer: RecordWriter[Answer],
    done: Progress,
    request: VideosRequest,
    *,
    console: Console | None,
    total: Callable[[], Total],
    is_seen: bool,
    before: ExistingRecords,
    note: Callable[[], str] | None = None,
) -> None:
    """Write every answer, with a bar on `console`, or lines of progress where nobody watches.

    Args:
        is_seen: whether a terminal shows the records.
        before: the records that existed before this run.
        note: returns what to show next to the numbers of videos.
    Raises:
        KeyboardInterrupt: with the summary so far as its message.
    """
    with closing(
        _with_progress(answers, console, total, note, prints_lines=request.progress and not request.quiet)
    ) as records:
        start_s = time.monotonic()
        try:
            for record in records:
                writer.write(record)
                done.tally.add(record)
                if isinstance(record, Failure) and not is_seen:
                    done.unseen = record
                if request.strict and isinstance(record, Failure):
                    done.stopped_by = record
                    break
        except KeyboardInterrupt as e:
            done.seconds = time.monotonic() - start_s
            if done.tally.total:
                e.args = (summary(done.tally, seconds=done.seconds, before=before.tally.total),)
            raise
        finally:
            done.seconds = time.monotonic() - start_s
            writer.close()


def _with_progress(
    answers: Iterable[Answer],
    console: Console | None,
    total: Callable[[], Total],
    note: Callable[[], str] | None,
    *,
    prints_lines: bool,
) -> Generator[Answer, None, None]:
    if console is None and (not prints_lines or stderr_is_tty()):
        yield from answers
        return
    from bike_cli.cli.videos.progress import print_progress, show_progress

    if console is None:
        yield from print_progress(answers, total=total(), note=note)
    else:
        yield from show_progress(answers, console=console, total=total(), note=note)


def report_end(request: VideosRequest, done: Progress, existing: ExistingRecords) -> None:
    """Print how the run ended: the failure that stopped it, and the line of counts."""
    if done.stopped_by is not None:
        failed = f"{done.stopped_by.source.id}: failed ({done.stopped_by.kind})"
        notice(f"{failed}; --strict stopped here, {count(done.tally.total, 'video')} done", level="error")
    if request.quiet:
        return
    before = existing.tally.total
    if before and not done.tally.total:
        stderr().print(
            plain(f"{request.output}: nothing left to do, {count(before, 'record exists', 'records exist')}")
        )
    elif request.output is not None or (stderr_is_tty() and done.tally.total > 1):
        width = stderr().width if stderr_is_tty() else 0
        line = summary(done.tally, seconds=done.seconds, before=before, output=request.output, width=width)
        stderr().print(plain(line, "dim"))
    elif done.unseen is not None and done.stopped_by is None and stderr_is_tty():  # the only video
        notice(done.unseen.message, level="error")


def exit_code(done: Progress, existing: ExistingRecords, *, is_empty_shard: bool) -> ExitCode:
    """Return the exit code of a run."""
    if done.stopped_by is not None:
        return ExitCode.SOME_FAILED
    tally = existing.tally + done.tally
    return ExitCode.DONE if is_empty_shard and not tally.total else tally.exit_code()
