"""The loop of a command that answers for each video: open the output, write records, show progress, report the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from bike_cli.cli.terminal.console import notice, plain, stderr, stderr_is_tty
from bike_cli.cli.terminal.record_writers import RecordWriter
from bike_cli.cli.videos.existing import ExistingRecords, Record, read_existing
from bike_cli.cli.videos.parts import FolderFormat, PartOutput, open_parts
from bike_cli.cli.videos.request import InputRequest
from bike_cli.cli.videos.retries import ranges_without
from bike_cli.cli.videos.sources import Sources, name_of
from bike_cli.cli.videos.summary import Tally, summary
from bike_cli.data.parts.folder import part_folder
from bike_cli.errors import ExitCode, UsageError
from bike_cli.json_text import JsonObject
from bike_cli.records import Failure
from bike_cli.wording import count

if TYPE_CHECKING:
    from rich.console import Console

    from bike_cli.cli.terminal.output_file import Resumed
    from bike_cli.cli.videos.progress import Total
    from bike_cli.data.shards import Shard

Answer = TypeVar("Answer", bound=Record)


@dataclass
class Progress:
    """The result of a run so far."""

    tally: Tally = field(default_factory=Tally)
    seconds: float = 0.0
    stopped_by: Failure | None = None
    unseen: Failure | None = None  # the last failure, if no terminal shows the records


@contextmanager
def naming_resume(request: InputRequest, *, is_resumable: bool) -> Iterator[None]:
    """Say in the message of Ctrl-C how to continue, if there are answers and the message does not say it."""
    try:
        yield
    except KeyboardInterrupt as e:
        if is_resumable and e.args and "--resume" not in str(e.args):
            way = "the same command continues" if request.writes_parts else "continue with --resume"
            e.args = (*e.args, way)
        raise


@contextmanager
def opened_output(
    request: InputRequest,
    stdout: TextIO | None,
    wanted: FolderFormat,
    *,
    command: str,
    as_object: Callable[[Any], JsonObject] | None,
    shard: Shard | None = None,
) -> Iterator[tuple[TextIO | None, ExistingRecords]]:
    """Open the output of a run; yield the stream, and the records that the output of an earlier run contains.

    With a folder of Parquet files, the stream is None, and a `PartOutput` takes the place of the records.

    Args:
        command: its name, such as classify.
        as_object: turns a record into JSON; see `PartOutput`.
        shard: the part of the videos that this run processes.
    Raises:
        UsageError: stdout is closed, or the existing records are of another kind.
    """
    from bike_cli.cli.terminal.output_file import open_output, open_resumed

    if request.writes_parts:
        name, tag = request.target or "", "all" if shard is None else str(shard)
        output = PartOutput(
            name, folder=part_folder(name, tag=tag), wanted=wanted, command=command, as_object=as_object, shard=shard
        )
        with open_parts(output):
            yield None, output
    elif request.output is None:
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
            resumed.keep([(0, existing.size)])
            with _dropping_replaced(resumed, existing):
                yield resumed.stream, existing


@contextmanager
def _dropping_replaced(resumed: Resumed, existing: ExistingRecords) -> Iterator[None]:
    """Remove failures whose videos have new records at the end; a killed run leaves that to the next one."""
    is_whole = False
    try:
        yield
        is_whole = True
    finally:
        if existing.retried.replaced:
            with suppress(OSError) if not is_whole else nullcontext():  # it would hide the first error
                resumed.stream.flush()
                resumed.keep(ranges_without(existing.retried.replaced, resumed.path.stat().st_size))


def total_of(names: list[str] | None, sources: Sources[Any], shard: Shard | None, existing: ExistingRecords) -> Total:
    """Return the number of videos to do, or an iterator that finds them once more; None where neither is possible."""
    if names is not None or sources.again is None:
        return None if names is None else len(names)
    again = (source for source in sources.again() if shard is None or shard.holds(name_of(source)))
    return islice(again, existing.tally.total, None)


def write_records(
    answers: Iterable[Answer],
    writer: RecordWriter[Answer],
    done: Progress,
    request: InputRequest,
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
                before.note(record)
                done.tally.add(record)
                if isinstance(record, Failure) and not is_seen:
                    done.unseen = record
                if request.strict and isinstance(record, Failure):
                    done.stopped_by = record
                    break
        except KeyboardInterrupt as e:
            done.seconds = time.monotonic() - start_s
            if done.tally.total:
                e.args = (summary(done.tally, seconds=done.seconds, before=before.kept.total),)
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


def report_end(request: InputRequest, done: Progress, existing: ExistingRecords) -> None:
    """Print how the run ended: the failure that stopped it, and the line of counts."""
    if done.stopped_by is not None:
        failed = f"{done.stopped_by.source.id}: failed ({done.stopped_by.kind})"
        notice(f"{failed}; --strict stopped here, {count(done.tally.total, 'video')} done", level="error")
    if request.quiet:
        return
    before = existing.kept.total
    if before and not done.tally.total:
        stderr().print(
            plain(f"{request.target}: nothing left to do, {count(before, 'record exists', 'records exist')}")
        )
    elif request.target is not None or (stderr_is_tty() and done.tally.total > 1):
        width = stderr().width if stderr_is_tty() else 0
        line = summary(done.tally, seconds=done.seconds, before=before, output=request.target, width=width)
        stderr().print(plain(line, "dim"))
    elif done.unseen is not None and done.stopped_by is None and stderr_is_tty():  # the only video
        notice(done.unseen.message, level="error")


def finish(done: Progress, existing: ExistingRecords, *, is_empty_shard: bool) -> ExitCode:
    """Note in a folder of Parquet files that the run is complete; return the exit code."""
    if done.stopped_by is not None:
        return ExitCode.SOME_FAILED
    tally = existing.kept + done.tally
    code = ExitCode.DONE if is_empty_shard and not tally.total else tally.exit_code()
    if isinstance(existing, PartOutput):
        existing.finish(code)
    return code
