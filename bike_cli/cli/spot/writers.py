"""Write timelines in every format; `table.py` has the table for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, TextIO, assert_never, get_args

from bike_cli.cli.spot.datasets import ActivityNetWriter, FiftyOneWriter, as_label_studio_task
from bike_cli.cli.spot.names import VideoNames
from bike_cli.cli.spot.rows import Record, as_object, as_rows, columns, timeline_of
from bike_cli.cli.spot.subtitles import as_edl, as_ffmetadata, as_srt, as_vtt
from bike_cli.cli.spot.table import TableWriter
from bike_cli.cli.terminal.console import notice, safe
from bike_cli.cli.terminal.record_writers import (
    Cells,
    JsonArray,
    JsonLines,
    RecordWriter,
    check_suffix,
    choose_format,
)
from bike_cli.cli.terminal.targets import ending, explain_unwritable
from bike_cli.errors import UsageError
from bike_cli.records import Failure, Timeline
from bike_cli.wording import count, either

SingleFormat = Literal["srt", "vtt", "ffmetadata", "edl"]  # of one video
Format = Literal[
    "table",
    "jsonl",
    "json",
    "csv",
    "tsv",
    "srt",
    "vtt",
    "ffmetadata",
    "edl",
    "labelstudio",
    "activitynet",
    "fiftyone",
    "parquet",
]
SINGLE_FORMATS: tuple[SingleFormat, ...] = get_args(SingleFormat)
FORMATS_BY_SUFFIX: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".srt": "srt",
    ".vtt": "vtt",
    ".ffmetadata": "ffmetadata",
    ".edl": "edl",
}
OTHER_JSON: tuple[Format, ...] = ("labelstudio", "activitynet")  # they end in .json, too

Writer = RecordWriter[Record]

_AS_TEXT: dict[SingleFormat, Callable[[Timeline], str]] = {
    "srt": as_srt,
    "vtt": as_vtt,
    "ffmetadata": as_ffmetadata,
    "edl": as_edl,
}


def format_of(wanted: Format | None, output: Path | None) -> Format:
    """Return the format: as requested, else by the file's suffix, else a table on a terminal and jsonl elsewhere."""
    return choose_format(wanted, output, FORMATS_BY_SUFFIX, screen="table", other="jsonl")


def check_format_of_name(wanted: Format | None, output: Path) -> None:
    """Raise UsageError if the name of a file ends like another format than the one to write."""
    also = OTHER_JSON if ending(output) == ".json" else ()
    check_suffix(wanted, output, FORMATS_BY_SUFFIX, also=also)


def writes_folder(format_: Format, output: Path | None, *, videos: int | None) -> bool:
    """Return whether the output is a folder, which `make_folder_writer` fills, instead of a file or stdout.

    FiftyOne's data sets are folders. So is what formats of one video write, if the name of the output has no ending or
    is that of a folder; a file or stdout takes only one video.

    Args:
        videos: their number, if known.
    Raises:
        UsageError: the output does not fit the format or the number of videos.
    """
    if format_ == "fiftyone":
        if output is None or ending(output) or (output.exists() and not output.is_dir()):
            where = "" if output is None else f"{output}: is not a folder; "
            raise UsageError(f"{where}--format fiftyone writes a folder; name one, such as -o dataset")
        return True
    if format_ not in SINGLE_FORMATS:
        return False
    if output is not None and (output.is_dir() or (not ending(output) and not output.exists())):
        return True
    if videos != 1:
        given = "any number" if videos is None else count(videos, "video")
        where = "stdout" if output is None else str(output)
        raise UsageError(
            f"--format {format_}: {where} takes the {format_} of one video, and {given} may follow; name a folder, "
            "such as -o found/, for a file per video"
        )
    return False


def make_writer(
    stream: TextIO,
    format_: Format,
    *,
    settings: str | None = None,
    timeline: bool = False,
    cuts: bool = False,
) -> Writer:
    """Return the writer of a format to a stream.

    Args:
        stream: where to write.
        format_: see `format_of`.
        settings: goes into JSON.
        timeline: whether JSON contains the scores of all bins, of records that have them.
        cuts: whether clips are cut, which take columns.
    Raises:
        ValueError: the format is that of a folder.
    """
    if format_ == "table":
        return TableWriter(stream)
    if format_ == "jsonl":
        return JsonLines(stream, partial(as_object, settings=settings, timeline=timeline))
    if format_ == "json":
        return JsonArray(stream, partial(as_object, settings=settings, timeline=timeline))
    if format_ == "csv" or format_ == "tsv":
        return Cells(stream, columns(cuts=cuts), partial(as_rows, cuts=cuts), tabs=format_ == "tsv")
    if format_ == "labelstudio":
        return NamingFailures(JsonArray(stream, partial(as_label_studio_task, settings=settings)))
    if format_ == "activitynet":
        return NamingFailures(ActivityNetWriter(stream))
    if format_ == "fiftyone" or format_ == "parquet":
        raise ValueError(f"{format_} writes a folder; see make_folder_writer and PartOutput")
    if format_ == "srt" or format_ == "vtt" or format_ == "ffmetadata" or format_ == "edl":
        return NamingFailures(_SingleWriter(stream, format_))
    assert_never(format_)


def make_folder_writer(folder: Path, format_: Format, *, arguments: Sequence[str] = ()) -> Writer:
    """Return a writer that fills a folder, which is created if it does not exist; see `writes_folder`.

    Args:
        arguments: the inputs on the command line, whose trees are kept.
    Raises:
        UsageError: the folder cannot be created.
    """
    if format_ == "fiftyone":
        return NamingFailures(FiftyOneWriter(folder))
    if format_ in SINGLE_FORMATS:
        with explain_unwritable(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return NamingFailures(_FileWriter(names_of_files(folder, format_, arguments=arguments), _AS_TEXT[format_]))
    raise ValueError(f"{format_} is not written to a folder; choose from {either(('fiftyone', *SINGLE_FORMATS))}")


def names_of_files(folder: Path, format_: Format, *, arguments: Sequence[str] = ()) -> VideoNames:
    """Return the names of the files in a folder; their `check` finds clashes before work starts."""
    return VideoNames(folder, f".{format_}", arguments)


class NamingFailures:
    """Writes records in a format that has no place for videos that could not be read, and says on stderr why."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def write(self, record: Record) -> None:
        """Write a record, or print the failure."""
        if isinstance(record, Failure):
            notice(record.message, level="error")
        self._writer.write(record)

    def close(self) -> None:
        """Complete the output."""
        self._writer.close()


class _SingleWriter:
    """The text of one video, on a stream."""

    def __init__(self, stream: TextIO, format_: SingleFormat) -> None:
        self._stream, self._format = stream, format_
        self._is_used = False

    def write(self, record: Record) -> None:
        """Write the text; nothing for a video that could not be read."""
        if isinstance(record, Failure):
            return
        if self._is_used:
            raise UsageError(f"--format {self._format}: is of one video; name a folder with -o for several")
        self._is_used = True
        text = _AS_TEXT[self._format](timeline_of(record))
        if self._stream.isatty():
            text = "\n".join(safe(line) for line in text.split("\n"))
        self._stream.write(text)
        self._stream.flush()

    def close(self) -> None:
        """Nothing is left to write."""


class _FileWriter:
    """A file for each video; it appears when it is complete, and replaces an older one."""

    def __init__(self, names: VideoNames, as_text: Callable[[Timeline], str]) -> None:
        self._names, self._as_text = names, as_text

    def write(self, record: Record) -> None:
        """Write the file of a video; none for a video that could not be read."""
        if isinstance(record, Failure):
            return
        file = self._names.path_of(record.source)
        part = file.with_name(f".{file.name}.part")
        text = self._as_text(timeline_of(record))
        with explain_unwritable(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
                part.replace(file)
            finally:
                part.unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing is left to write."""
