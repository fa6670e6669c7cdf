"""The records of a part as a Parquet table: a few columns to query, and each record whole."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bike_cli.data.parts.folder import PartFolder
from bike_cli.errors import UsageError
from bike_cli.json_text import JsonObject, as_json

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("path", "status", "label", "score", "cosine", "error", "message", "frames", "duration_s", "record")
PART_VIDEOS = 512  # in a part, at most


class Found(NamedTuple):
    """What a record of a part is about.

    Args:
        error: the kind of failure; None for an answer.
    """

    path: str
    error: str | None


def schema() -> pa.Schema:
    """Return the schema of a part of answers."""
    import pyarrow as pa

    texts = dict.fromkeys(("path", "status", "label", "error", "message", "record"), pa.string())
    numbers = {"score": pa.float64(), "cosine": pa.float64(), "frames": pa.int32(), "duration_s": pa.float64()}
    types = {**texts, **numbers}
    return pa.schema([(name, types[name]) for name in COLUMNS])


def as_table(records: Sequence[JsonObject], facts: JsonObject) -> pa.Table:
    """Return records, as `as_object` makes them, as a table.

    Args:
        facts: what the records have in common; goes into the metadata of the file, under the key `bike`.
    """
    import pyarrow as pa

    columns: dict[str, list[object]] = {name: [] for name in COLUMNS}
    for record in records:
        row = _row(record)
        for name in COLUMNS:
            columns[name].append(row[name])
    return pa.table(columns, schema=schema().with_metadata({"bike": json.dumps(dict(facts))}))


def as_parquet(table: pa.Table) -> bytes:
    """Return the content of a Parquet file."""
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd")
    return stream.getvalue()


def part_name(names: Sequence[str], settings: str, *, has_retries: bool = False) -> str:
    """Return the name of the part with the records of some videos: a digest of their names and of the settings.

    The same videos with the same settings always make the same part, so it does no harm to write it twice.

    Args:
        settings: stands for all that the records depend on besides the videos.
        has_retries: whether the part holds failures that the next run tries again.
    """
    digest = hashlib.blake2b(settings.encode() + b"\0", digest_size=8)
    for name in names:
        digest.update(name.encode(errors="surrogatepass") + b"\0")
    return f"part-{digest.hexdigest()}{'-retry' if has_retries else ''}.parquet"


def read_found(folder: PartFolder, part: str) -> list[Found]:
    """Return what the records of a part are about, without reading them whole.

    Raises:
        UsageError: the part cannot be read.
    """
    table = read_table(folder, part, ["path", "error"])
    paths, errors = table["path"].to_pylist(), table["error"].to_pylist()
    if any("\\" in path for path in paths):  # some may stand for bytes that are not UTF-8
        paths = [record["path"] for record in read_records(folder, part)]
    return [Found(*pair) for pair in zip(paths, errors, strict=True)]


def read_records(folder: PartFolder, part: str) -> Iterator[dict[str, object]]:
    """Yield the records of a part, as objects of JSON.

    Raises:
        UsageError: the part cannot be read.
    """
    return map(json.loads, read_record_texts(folder, part))


def read_record_texts(folder: PartFolder, part: str) -> list[str]:
    """Return the records of a part as lines of JSON.

    Raises:
        UsageError: the part cannot be read.
    """
    texts: list[str] = read_table(folder, part, ["record"])["record"].to_pylist()
    return texts


def read_table(
    folder: PartFolder, part: str, columns: Sequence[str] | None = None, *, optional: Sequence[str] = ()
) -> pa.Table:
    """Return columns of a part; None: all.

    Args:
        optional: further columns, if the part has them.
    Raises:
        UsageError: the part cannot be read, or is not one of bike.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    way_out = "remove it, and run again"

    def read(file: object) -> pa.Table:
        opened = pq.ParquetFile(file)
        existing = opened.schema_arrow.names
        missing = next((name for name in columns or () if name not in existing), None)
        if missing is not None:
            problem = f"has no column {missing!r}, so it is not a part of bike"
            raise UsageError(f"{folder.file(part)}: {problem}; {way_out}")
        return opened.read(
            columns=None if columns is None else [*columns, *(name for name in optional if name in existing)]
        )

    try:
        return folder.read(part, read)
    except (OSError, pa.ArrowException) as e:
        problem = str(e).partition("\n")[0]
        raise UsageError(f"{folder.file(part)}: cannot be read ({problem}); {way_out}") from e


def _row(record: JsonObject) -> dict[str, object]:
    top, error = record.get("top"), record.get("error")
    first = top[0] if isinstance(top, list) and top else {}
    failed = error if isinstance(error, dict) else {}
    return {
        "path": valid_text(str(record["path"])),
        "status": record["status"],
        "label": record.get("label"),
        "score": first.get("score"),
        "cosine": first.get("cosine"),
        "error": failed.get("type"),
        "message": None if "message" not in failed else valid_text(str(failed["message"])),
        "frames": record.get("frames"),
        "duration_s": record.get("duration_s"),
        "record": as_json(record),
    }


def valid_text(text: str) -> str:
    """Return a text as UTF-8: Parquet has no other, and a file name may hold any bytes, such as `\\xff`."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")
