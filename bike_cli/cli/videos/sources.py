"""Find the videos to classify: from arguments, lists and stdin, lazily."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import chain, islice
from pathlib import Path
from types import GeneratorType
from typing import BinaryIO, Generic, TypeVar, Union

from bike_cli.cli.terminal.output_file import part_of
from bike_cli.cli.terminal.targets import check_not_media
from bike_cli.data.inputs import looks_like_text, looks_like_video
from bike_cli.data.path_lists import locate, read_column, read_paths
from bike_cli.data.remote.files import buffered, open_file
from bike_cli.data.remote.inputs import find_videos, reads_many_headers
from bike_cli.data.remote.parquet_lists import is_parquet, read_parquet_column
from bike_cli.data.remote.uris import below_uri, uri_of_path
from bike_cli.data.search import Omissions
from bike_cli.data.shards import Shard
from bike_cli.errors import InputError, UsageError
from bike_cli.media import is_store_uri, url_problem
from bike_cli.records import Failure, Source, VideoFeatures
from bike_cli.time_limits import call_on_path

LISTED = 1000  # sources to find before the model is loaded; finding more would delay the first answer
LISTED_SLOWLY = 20  # the same where each takes a request of a store

STDIN = "-"

# What a run takes; features of videos that were embedded before.
Found = Union["Source", "VideoFeatures", "Failure"]
F = TypeVar("F", bound=Found)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """The inputs on the command line; `-` among the videos stands for the paths on stdin.

    Args:
        column: of lists that are CSV, TSV or Parquet.
    """

    videos: tuple[str, ...]
    files_from: Path | None = None
    ends_with_nul: bool = False
    column: str | None = None

    @property
    def arrive(self) -> bool:
        """Whether paths are read from stdin, perhaps one at a time."""
        return STDIN in self.videos or self.files_from == Path(STDIN)


@dataclass
class Done:
    """Which names have a record already, so that nobody needs to look for their files.

    Args:
        has_record: takes the record of a name; None: it is not known yet which records exist.
        skipped: the number of names so far that have one.
    """

    has_record: Callable[[str], bool] | None = None
    skipped: int = 0

    def skips(self, name: str) -> bool:
        """Return whether a name has a record, and count it."""
        if self.has_record is None or not self.has_record(name):
            return False
        self.skipped += 1
        return True


@dataclass
class Sources(Generic[F]):
    """Sources in order.

    Args:
        first: those found already.
        rest: those still to be found.
        are_known: whether `first` contains all.
        arrive: whether they are read from stdin, perhaps one at a time.
        are_listed: whether some are named by a list rather than by an argument.
        again: finds all once more, to count them; None if that is impossible.
        done: what `rest` leaves out.
    """

    first: Sequence[F]
    rest: Iterator[F]
    are_known: bool
    arrive: bool = False
    are_listed: bool = False
    again: Callable[[], Iterator[Source | Failure]] | None = None
    done: Done = field(default_factory=Done)
    _seen: int = field(default=0, init=False)

    @property
    def seen(self) -> int:
        """The number of sources read so far, including those of other shards."""
        return self._seen + self.done.skipped

    def close(self) -> None:
        """Stop searching, and close the list that is being read."""
        if isinstance(self.rest, GeneratorType) and not self.rest.gi_running:  # a thread may be waiting for stdin
            self.rest.close()

    def chosen(self, *, shard: Shard | None, is_done: Callable[[str], bool], output: Path | None) -> Iterator[F]:
        """Yield the sources of a shard that are left to do.

        A list may name the output file, since `find` finds it; it is left out with a warning.

        Raises:
            UsageError: the output is an argument, or a video.
        """
        files = [] if output is None else [output, part_of(output.resolve())]
        written = [file.stat() for file in files if file.is_file()]
        for source in chain(self.first, self._rest_not_in(is_done)):
            self._seen += 1
            name = name_of(source)
            if (shard is not None and not shard.holds(name)) or is_done(name):
                continue
            if output is not None and any(_is_file(source, status) for status in written):
                if not self.are_listed or looks_like_video(output):
                    raise _overwritten(output)
                logger.warning("%s: is the output of this run, and is left out", name)
                continue
            yield source

    def _rest_not_in(self, is_done: Callable[[str], bool]) -> Iterator[F]:
        self.done.has_record = is_done
        yield from self.rest


def name_of(source: Found) -> str:
    """Return the name that the user gave to a source or to a failed input."""
    return source.id if isinstance(source, Source) else source.source.id


def list_sources(inputs: Inputs) -> Sources[Source | Failure]:
    """Return the sources; unless they are read from stdin, the first are found now, to report mistakes at once.

    Raises:
        UsageError: no input, a list that cannot be read, or an argument without a video.
    """
    if not inputs.videos and inputs.files_from is None:
        raise UsageError("videos: missing; name files or folders, or - to read paths from stdin")
    if STDIN in inputs.videos and inputs.files_from == Path(STDIN):
        raise UsageError("stdin: both - and --files-from - read it; give one of them")
    if inputs.column is not None:
        _check_column(inputs)
    lines = _open_list(inputs.files_from)
    done = Done()
    found = _found(_named(inputs, lines), done=done)
    if inputs.arrive:
        if sys.stdin is None:
            raise UsageError("stdin: is closed, and - reads paths from it; pipe some in")
        return Sources([], found, are_known=False, arrive=True, are_listed=True, done=done)
    is_slow = any(map(reads_many_headers, inputs.videos))
    most = LISTED_SLOWLY if is_slow else LISTED
    first = list(islice(found, most + 1))
    _check_first(first, inputs.videos)
    if len(first) <= most:
        return Sources(first, iter(()), are_known=True, are_listed=lines is not None)
    for given in inputs.videos:
        next(find_videos(given, Omissions()), None)  # raises if it holds no video
    again = None if is_slow else _again(inputs)
    return Sources(first, found, are_known=False, are_listed=lines is not None, again=again, done=done)


def check_output(output: Path | None, *, read: Iterable[Path | None]) -> None:
    """Raise UsageError if the output is a folder, a file that is read, or named like a video or image.

    `Sources.chosen` finds out whether an input is the output itself.
    """
    if output is None:
        return
    if output.is_dir():
        raise UsageError(f"{output}: is a folder; name a file, such as {output / 'answers.jsonl'}")
    if output.exists() and any(path is not None and path.exists() and path.samefile(output) for path in read):
        raise _overwritten(output)
    check_not_media(output, suggestion="answers.jsonl")


def _overwritten(output: Path) -> UsageError:
    return UsageError(f"{output}: is read by this command and would be overwritten; choose another name for -o")


def _is_file(source: Found, status: os.stat_result) -> bool:
    if not isinstance(source, Source) or (source.remote is not None and is_store_uri(source.remote.place)):
        return False
    path = source.path if source.remote is None else Path(source.remote.place)
    try:
        return call_on_path(path, lambda: os.path.samestat(path.stat(), status), default=False)
    except (OSError, ValueError):
        return False


def _open_list(file: Path | None) -> BufferedReader | None:
    if file is None or file == Path(STDIN):
        return None
    uri = uri_of_path(file)
    if uri is not None:
        return buffered(open_file(uri))
    try:
        opened = file.open("rb")
        opened.peek()  # fails for a folder, which can be opened
    except OSError as e:
        raise UsageError(f"{file}: cannot be read ({e.strerror}); give a file of paths") from e
    return opened


def _check_column(inputs: Inputs) -> None:
    if not inputs.arrive and inputs.files_from is None:
        raise UsageError("--column: names a column of a list, and there is no list; add --files-from clips.csv, or -")
    if inputs.ends_with_nul:
        raise UsageError("--column: reads CSV, and -0 is for paths that end with NUL; remove one of them")


def _named(inputs: Inputs, lines: BufferedReader | None, *, report: bool = True) -> Iterator[str]:
    """Yield the arguments and the paths of lists.

    Args:
        report: warn about rows of a list that have no path.
    """
    with lines or nullcontext():
        for given in inputs.videos:
            yield from _listed(_stdin(), inputs, report=report) if given == STDIN else [given]
        if lines is not None or inputs.files_from is not None:
            yield from _listed(lines or _stdin(), inputs, inputs.files_from, report=report)


def _listed(stream: BinaryIO, inputs: Inputs, file: Path | None = None, *, report: bool) -> Iterator[str]:
    """Yield the paths of a list; relative ones in a CSV file start in its folder, as in a labelled set."""
    uri = None if file is None else uri_of_path(file)
    origin = uri or ("stdin" if file is None or file == Path(STDIN) else str(file))
    if isinstance(stream, BufferedReader) and is_parquet(stream):
        paths = read_parquet_column(stream, inputs.column, origin=origin, warns=report)
    elif inputs.column is None:
        yield from read_paths(stream, nul=inputs.ends_with_nul, origin=origin)
        return
    else:
        paths = read_column(stream, inputs.column, origin=origin, warns=report)
    folder = "" if file is None or not file.is_file() or file.parent == Path() else str(file.parent)
    for path in paths:
        yield locate(path, folder)[0] if uri is None else below_uri(uri, path)


def _stdin() -> BinaryIO:
    # Unbuffered: a thread that waits here when the program ends would hold the lock of the buffer, and crash it.
    stream: BinaryIO = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    return stream


def _found(named: Iterable[str], *, report: bool = True, done: Done | None = None) -> Iterator[Source | Failure]:
    """Yield the sources of each input; an input without any becomes a failure.

    Args:
        report: warn at the end about files that the search left out.
        done: inputs that are left out.
    """
    omissions = Omissions()
    for given in named:
        if done is not None and done.skips(given):
            continue
        try:
            yield from find_videos(given, omissions)
        except InputError as e:
            yield _Refusal(Source.at(given), e.kind, str(e))
        except UsageError as e:
            yield _Refusal(Source.at(given), "missing" if url_problem(given) else "not_video", str(e))
    if report:
        omissions.report()


def _check_first(first: Sequence[Source | Failure], arguments: Sequence[str]) -> None:
    """Raise UsageError if an argument contains no video; an entry of a list only fails."""
    wrong = next((f for f in first if isinstance(f, _Refusal) and f.source.id in arguments), None)
    if wrong is not None:
        raise UsageError(wrong.message)
    if first and all(isinstance(source, Source) and _is_text(source) for source in first):
        raise UsageError(f"{name_of(first[0])}: is a text file, not a video; a file of labels goes after -l")


def _is_text(source: Source) -> bool:
    return source.remote is None and looks_like_text(source.path)


class _Refusal(Failure):
    """An input that yields no video: a usage error if it is an argument."""


def _again(inputs: Inputs) -> Callable[[], Iterator[Source | Failure]] | None:
    if inputs.files_from is not None and not inputs.files_from.is_file():
        return None  # a pipe can be read only once
    return lambda: _found(_named(inputs, _open_list(inputs.files_from), report=False), report=False)
