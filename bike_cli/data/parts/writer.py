"""Write records as Parquet files of a folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from bike_cli.data.parts.embeddings import VideoEmbedding
from bike_cli.data.parts.folder import PartFolder
from bike_cli.data.parts.tables import PART_VIDEOS, as_parquet, as_table, part_name
from bike_cli.json_text import JsonObject
from bike_cli.records import Failure

if TYPE_CHECKING:
    import pyarrow as pa

PART_S = 300.0  # a part of slow videos is written after this time, so that a killed run loses little

TableMaker = Callable[[Sequence[Any], JsonObject], "pa.Table"]


class PartWriter:
    """Collects records, and writes a part when it has `PART_VIDEOS` of them or `PART_S` have passed.

    Args:
        folder: where to write.
        settings: stands for all that the records depend on besides the videos.
        facts: what all records have in common; goes into the metadata of each file.
        existing: the names of parts that exist; videos that are named again get a part of another name.
        retried: kinds of failure that the next run tries again.
        before: called with the names of the videos of a part, just before it is written.
        as_table: returns a table of records and facts; records are JSON objects, or what else it takes.
    """

    def __init__(
        self,
        folder: PartFolder,
        settings: str,
        facts: JsonObject,
        *,
        existing: Collection[str] = (),
        retried: Collection[str] = (),
        before: Callable[[Sequence[str]], None] | None = None,
        as_table: TableMaker = as_table,
    ) -> None:
        self._folder, self._settings, self._facts, self._retried = folder, settings, facts, retried
        self._as_table, self._before = as_table, before
        self._records: list[JsonObject | VideoEmbedding | Failure] = []
        self._start_s = 0.0
        self._names = set(existing)
        self._name: str | None = None  # of the part that is being written
        self.parts = 0  # written so far

    def write(self, record: JsonObject | VideoEmbedding | Failure) -> None:
        """Add a record.

        Raises:
            UsageError: the part cannot be written; its records are kept for another attempt.
        """
        if not self._records:
            self._start_s = time.monotonic()
        self._records.append(record)
        if len(self._records) >= PART_VIDEOS or time.monotonic() - self._start_s > PART_S:
            self.flush()

    def flush(self) -> None:
        """Write the records that are not in a part yet."""
        if not self._records:
            return
        # After Ctrl-C between any two of these lines, a second call writes the same part again, or none.
        self._name = self._name or self._free_name()
        if self._before is not None:
            self._before([_path_of(record) for record in self._records])
        self._folder.write(self._name, as_parquet(self._as_table(self._records, self._facts)))
        self._names.add(self._name)
        self.parts += 1
        self._records = []
        self._name = None

    def _free_name(self) -> str:
        names = [_path_of(record) for record in self._records]
        has_retries = any(_error_of(record) in self._retried for record in self._records)
        copies = (part_name(names, f"{self._settings}{' ' * i}", has_retries=has_retries) for i in count())
        return next(name for name in copies if name not in self._names)


def _path_of(record: JsonObject | VideoEmbedding | Failure) -> str:
    if isinstance(record, Failure):
        return record.source.id
    return record.path if isinstance(record, VideoEmbedding) else str(record["path"])


def _error_of(record: JsonObject | VideoEmbedding | Failure) -> str | None:
    if isinstance(record, Failure):
        return record.kind
    error = None if isinstance(record, VideoEmbedding) else record.get("error")
    return str(error.get("type")) if isinstance(error, dict) else None
