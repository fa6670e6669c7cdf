"""Write records as jsonl, json, csv or tsv; `table.py` has the table for people."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, TextIO, assert_never

from bike_cli.cli.classify.rows import as_cells, columns
from bike_cli.cli.classify.table import TableWriter
from bike_cli.cli.terminal.record_writers import (
    Cell,
    Cells,
    JsonArray,
    JsonLines,
    RecordWriter,
    check_suffix,
    choose_format,
)
from bike_cli.data.predictions.objects import as_object
from bike_cli.records import Failure, Prediction

Format = Literal["table", "jsonl", "json", "csv", "tsv", "parquet"]
FORMATS_BY_SUFFIX: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
}

Writer = RecordWriter[Prediction | Failure]


def format_of(wanted: Format | None, output: Path | None) -> Format:
    """Return the format: as requested, else by the file's suffix, else a table on a terminal and jsonl elsewhere."""
    return choose_format(wanted, output, FORMATS_BY_SUFFIX, screen="table", other="jsonl")


def check_format_of_name(wanted: Format | None, output: Path) -> None:
    """Raise UsageError if the name of a file ends like another format than the one to write."""
    check_suffix(wanted, output, FORMATS_BY_SUFFIX)


def make_writer(
    stream: TextIO,
    format_: Format,
    *,
    top: int,
    names: Sequence[str] | None,
    labels: Sequence[str] = (),
    settings: str | None = None,
    explains: bool = False,
    rejects: bool = False,
) -> Writer:
    """Return the writer of a format.

    Args:
        stream: where to write.
        format_: see `format_of`.
        top: labels per record, at most.
        names: of all videos, if known.
        labels: all labels, for the width of a column; empty if unknown.
        settings: goes into JSON.
        explains: whether records have explanations, which take columns.
        rejects: whether records say if a video fits none of the labels, which takes columns.
    """
    if format_ == "parquet":
        raise ValueError("parquet writes a folder; see PartOutput")
    if format_ == "table":
        return TableWriter(stream, names, labels, rejects=rejects)
    if format_ == "jsonl":
        return JsonLines(stream, partial(as_object, settings=settings))
    if format_ == "json":
        return JsonArray(stream, partial(as_object, settings=settings))
    if format_ == "csv" or format_ == "tsv":

        def as_rows(record: Prediction | Failure) -> list[list[Cell]]:
            return [as_cells(record, top, explains=explains, rejects=rejects)]

        return Cells(stream, columns(top, explains=explains, rejects=rejects), as_rows, tabs=format_ == "tsv")
    assert_never(format_)
