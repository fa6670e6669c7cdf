"""Lists of paths in Parquet files."""

import logging
import tracemalloc
from io import BufferedReader
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq

from bike_cli.data.remote.parquet_lists import is_parquet, read_parquet_column
from bike_cli.errors import UsageError

NAMES = ["a.mp4", "s3://b/ü 50%.mp4", "sub/c d.mp4"]


def table(file: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), file)
    return file


def read(file: Path, column: str | None) -> list[str]:
    with file.open("rb") as stream:
        assert is_parquet(stream)
        return list(read_parquet_column(stream, column, origin="clips.parquet"))


@pytest.mark.parametrize(
    "column",
    [
        pa.array(NAMES),
        pa.array(NAMES, pa.large_string()),
        pa.array(NAMES).dictionary_encode(),
        pa.array([name.encode() for name in NAMES]),
    ],
    ids=lambda column: str(column.type),
)
def test_a_column_of_text_is_read(tmp_path: Path, column: object) -> None:
    file = table(tmp_path / "clips.parquet", uri=column, n=[1, 2, 3])

    assert read(file, "uri") == NAMES
    assert read(file, " URI ") == NAMES


def test_bytes_that_are_no_utf_8_are_kept(tmp_path: Path) -> None:
    assert read(table(tmp_path / "a.parquet", path=[b"caf\xe9.mp4"]), "path") == ["caf\udce9.mp4"]


def test_rows_without_a_path_are_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = table(tmp_path / "a.parquet", path=["a.mp4", None, "  ", "b.mp4"])

    with caplog.at_level(logging.WARNING):
        assert read(file, "path") == ["a.mp4", "b.mp4"]

    assert caplog.messages == ["clips.parquet: 2 rows have no path in column 'path'; left out (first: row 2)"]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (None, r"clips.parquet: is a Parquet file; name the column of paths with --column \(columns: uri, URI, n\)"),
        ("path", "clips.parquet: has no column 'path', only uri, URI, n; name the one of paths with --column"),
        ("Uri", "clips.parquet: column 'Uri' comes 2 times; rename all but one"),
        ("n", "clips.parquet: column 'n' contains int64, not text; name another one with --column"),
    ],
)
def test_another_column_is_refused(tmp_path: Path, column: str | None, message: str) -> None:
    file = table(tmp_path / "a.parquet", uri=["a"], URI=["b"], n=[1])

    with pytest.raises(UsageError, match=message):
        read(file, column)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    file = table(tmp_path / "a.parquet", uri=NAMES)
    file.write_bytes(file.read_bytes()[:-20])

    with pytest.raises(UsageError, match=r"clips\.parquet: is not a Parquet file that can be read"):
        read(file, "uri")


def test_text_is_not_taken_for_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("PAR,path\n")

    with (tmp_path / "a.csv").open("rb") as stream:
        assert isinstance(stream, BufferedReader)
        assert not is_parquet(stream)


@pytest.mark.slow
def test_a_long_list_takes_little_memory(tmp_path: Path) -> None:
    n_rows = 400_000
    file = tmp_path / "long.parquet"
    names = pa.array([f"s3://bucket/folder/{i:09d}/{i * 7919 % 1_000_003:07d}.mp4" for i in range(n_rows)])
    pq.write_table(pa.table({"uri": names}), file, row_group_size=n_rows, use_dictionary=False)
    size = names.nbytes
    del names
    before = pa.total_allocated_bytes()
    most = rows = 0

    tracemalloc.start()
    with file.open("rb") as stream:
        for rows, _ in enumerate(read_parquet_column(stream, "uri", origin="long.parquet"), start=1):
            if rows % 5000 == 0:
                most = max(most, pa.total_allocated_bytes() - before)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert rows == n_rows
    assert size > 15 * 2**20
    assert most < size / 3
    assert peak < size / 3
