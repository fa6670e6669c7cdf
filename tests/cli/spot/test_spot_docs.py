"""The page of output formats describes what is written."""

import re
from pathlib import Path
from typing import get_args

import pytest
from timelines import a_cut, failure, segment, timeline

from bike_cli.cli.spot.page import MOST_PICTURES
from bike_cli.cli.spot.rows import OF_CLIPS, CutTimeline, as_object, columns
from bike_cli.cli.spot.writers import FORMATS_BY_SUFFIX, Format

PAGE = (Path(__file__).parents[3] / "docs" / "output.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## Segments\n")[1].split("\n## ")[0]


def documented(table: str) -> set[str]:
    """The names in the first column of a table."""
    rows = SECTION.split(f"<!-- fields: {table} -->\n")[1].split("\n\n")[0].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_the_fields_of_records_are_documented() -> None:
    warned = timeline(segment("goal", 1, 2), scores=True, warning="careful", model_digest="4567abcd")
    records = [as_object(record, "01234567", timeline=True) for record in (warned, timeline(), failure())]

    assert documented("record") == {name for record in records for name in record}


def test_the_fields_of_segments_are_documented() -> None:
    (found,) = as_object(CutTimeline(timeline(segment("goal", 1, 2)), (a_cut(),)))["segments"]  # type: ignore[misc]

    assert documented("segment") == {*found}
    assert all(f"`{name}`" in SECTION for name in found["clip"])


def test_the_columns_are_documented() -> None:
    block = SECTION.split("<!-- columns: segments -->\n```text\n")[1].split("\n")[0]

    assert block == ",".join(columns())
    assert all(f"`{name}`" in SECTION for name in OF_CLIPS)


@pytest.mark.parametrize("format_", get_args(Format))
def test_every_format_is_in_the_table(format_: Format) -> None:
    table = SECTION.split("| `--format` |")[1].split("\n\n")[0]
    row = next(row for row in table.splitlines() if f"`{format_}`" in row)

    suffixes = {suffix for suffix, chosen in FORMATS_BY_SUFFIX.items() if chosen == format_} - {".ndjson"}
    assert suffixes <= set(re.findall(r"`(\.\w+)`", row))


def test_the_number_of_pictures_is_documented() -> None:
    assert f"up to {MOST_PICTURES} segments" in SECTION.replace("\n", " ")
