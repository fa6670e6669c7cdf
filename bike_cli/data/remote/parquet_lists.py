"""Lists of paths in Parquet files."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from io import BufferedReader
from typing import Any

from bike_cli.data.path_lists import SHOWN
from bike_cli.data.remote.stores import check_pyarrow
from bike_cli.errors import UsageError, shorten
from bike_cli.wording import count

MAGIC = b"PAR1"
BATCH_ROWS = 8192
BUFFER_BYTES = 2**20  # of the column that is read: without it, the whole column of a row group would be in memory

logger = logging.getLogger(__name__)


def is_parquet(stream: BufferedReader) -> bool:
    """Return whether a stream begins like a Parquet file; it is not consumed."""
    return stream.peek(len(MAGIC))[: len(MAGIC)] == MAGIC


def read_parquet_column(
    stream: BufferedReader, column: str | None, *, origin: str, warns: bool = True
) -> Iterator[str]:
    """Yield the paths in a column of a Parquet file, of which only a small part is in memory.

    Bytes become text as `os.fsdecode` does it. Rows without a path are left out, with one warning at the end.

    Args:
        column: its name, in any case if only one fits.
        origin: what the file is, for messages.
        warns: whether to warn about rows without a path.
    Raises:
        UsageError: pyarrow is not installed, no such column, it contains no text, or the file is damaged.
    """
    check_pyarrow(origin)
    import pyarrow as pa
    import pyarrow.parquet as pq

    blank, n_rows, first = 0, 0, 0
    try:
        file = pq.ParquetFile(stream, buffer_size=BUFFER_BYTES, pre_buffer=False)
        name = _find_column(file.schema_arrow, column, origin)
        for batch in file.iter_batches(BATCH_ROWS, columns=[name], use_threads=False):
            for value in _texts(batch.column(0)):
                n_rows += 1
                path = "" if value is None else os.fsdecode(value)
                if path.strip():
                    yield path
                else:
                    blank, first = blank + 1, first or n_rows
    except (OSError, pa.ArrowException) as e:
        raise UsageError(f"{origin}: is not a Parquet file that can be read ({shorten(e)}); write it again") from e
    if blank and warns:
        rows_without = count(blank, "row has", "rows have")
        logger.warning("%s: %s no path in column %r; left out (first: row %d)", origin, rows_without, name, first)


def _texts(column: Any) -> Iterator[str | bytes | None]:  # noqa: ANN401
    yield from column.to_pylist()


def _find_column(schema: Any, column: str | None, origin: str) -> str:  # noqa: ANN401
    """Return the name of a column as it is in the file."""
    import pyarrow as pa

    names: list[str] = schema.names
    shown = shorten(", ".join(names), SHOWN) or "none"
    if column is None:
        raise UsageError(f"{origin}: is a Parquet file; name the column of paths with --column (columns: {shown})")
    found = [name for name in names if name == column.strip()]
    found = found or [name for name in names if name.casefold() == column.strip().casefold()]
    if len(found) > 1:
        raise UsageError(f"{origin}: column {column!r} comes {len(found)} times; rename all but one")
    if not found:
        raise UsageError(f"{origin}: has no column {column!r}, only {shown}; name the one of paths with --column")
    type_ = schema.field(found[0]).type
    values = type_.value_type if pa.types.is_dictionary(type_) else type_
    is_text = [pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary]
    is_text += [getattr(pa.types, name) for name in ("is_string_view", "is_binary_view") if hasattr(pa.types, name)]
    if not any(check(values) for check in is_text):
        raise UsageError(f"{origin}: column {found[0]!r} contains {type_}, not text; name another one with --column")
    return found[0]
