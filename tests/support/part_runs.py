"""Runs of `bike classify` that write to a folder of Parquet files, and the records in it."""

from pathlib import Path

from invoke import Ran, bike


def classify(*arguments: object, output: object = "out/") -> Ran:
    return bike("classify", "-m", "tiny", "-L", "red square,blue circle,green cross", "-o", output, *arguments)


def records(folder: Path) -> list[str]:
    import pyarrow.parquet as pq

    return sorted(row["record"] for row in pq.read_table(folder).to_pylist()) if list(folder.glob("*.parquet")) else []


def lines(*arguments: object) -> list[str]:
    """Return the records of a run that writes JSON lines."""
    classify(*arguments, output="whole.jsonl")
    return sorted(Path("whole.jsonl").read_text().splitlines())
