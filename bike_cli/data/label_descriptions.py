"""Descriptions of labels: texts that say what can be seen in a video of a label."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bike_cli.data.lines import Line, check, key, tidy
from bike_cli.errors import UsageError, shorten

logger = logging.getLogger(__name__)

SHOWN = 60  # characters of a text in a message


class DescribedRow(NamedTuple):
    """A label, the numbers of its rows in a table, and its descriptions."""

    label: Line
    rows: list[int]
    descriptions: tuple[str, ...]


def check_description(line: Line, label: str) -> str:
    """Return a description with single spaces; raise UsageError if it is empty or has a control character."""
    text = tidy(line.text)
    if not text:
        raise UsageError(f"{line.where}: a description of {label!r} is empty; fill it in, or remove it")
    check([Line(line.where, text)], origin=line.where, of="descriptions")
    return text


def different(descriptions: Iterable[Line], label: str) -> tuple[str, ...]:
    """Return the descriptions of one label, each once, with a warning for those that are given again."""
    found: dict[str, str] = {}
    for line in descriptions:
        text = check_description(line, label)
        if found.setdefault(key(text), text) is not text:
            shown = shorten(text, SHOWN)
            logger.warning("%s: %r describes %r twice; it counts once, remove one", line.where, shown, label)
    return tuple(found.values())


def group_rows(labels: Sequence[Line], cells: Sequence[str]) -> list[DescribedRow]:
    """Return the labels of a table with one description per row, each once, in the order of their first rows.

    Args:
        labels: the label of each row.
        cells: the description of each row; an empty one is none.
    """
    rows: dict[str, list[int]] = {}
    for i, line in enumerate(labels):
        rows.setdefault(key(line.text), []).append(i)
    grouped = []
    for places in rows.values():
        label = labels[places[0]]
        given = [Line(labels[i].where, cells[i]) for i in places if cells[i].strip()]
        grouped.append(DescribedRow(label, places, different(given, label.text)))
    return grouped
