"""Turn records into flat cells, for CSV and TSV."""

from __future__ import annotations

from bike_cli.cli.terminal.record_writers import Cell
from bike_cli.data.predictions.objects import RANKED, as_object, ranked_values, rejection_values
from bike_cli.json_text import rounded
from bike_cli.records import Failure, Prediction

REJECTION_CELLS = ("rejected", "best", "fit", "right", "none")
EXPLANATION = ("times_s", "positions", "saliency", "spotting")  # the first three: lists of numbers, one for each frame


def columns(top: int, *, explains: bool = False, rejects: bool = False) -> list[str]:
    """Return the names of the columns of `as_cells`."""
    others = [f"{name}_{i}" for i in range(2, top + 1) for name in RANKED]
    fixed = ["attributes", "scores", "model", "frames", "duration_s", "warning", "error", "message"]
    found = ["path", "status", *RANKED, *others, *fixed]
    return [*found, *(REJECTION_CELLS if rejects else ()), *(EXPLANATION if explains else ())]


def as_cells(record: Prediction | Failure, top: int, *, explains: bool = False, rejects: bool = False) -> list[Cell]:
    """Return the flat row of a record, with a place for each of the `top` labels, even if it stays empty.

    The first label of a rejected video is empty; its score and cosine are those of the label that fits best, `best`.

    Args:
        explains: add a cell for each list of an explanation.
        rejects: add cells that say whether the video fits none of the labels.
    """
    if isinstance(record, Failure):
        empty: list[Cell] = [None] * (len(RANKED) * top + 6)
        further: list[Cell] = [None] * (len(REJECTION_CELLS) * rejects + len(EXPLANATION) * explains)
        return [record.source.id, "error", *empty, record.kind, record.message, *further]
    ranked = [cell for ranked in record.ranked for cell in ranked_values(ranked)]
    ranked += [None] * (len(RANKED) * top - len(ranked))
    ranked[0] = None if record.is_rejected else ranked[0]
    duration_s = None if record.duration_s is None else rounded(record.duration_s, 3)
    attributes = ", ".join(a.phrase for a in record.attributes)
    rest: list[Cell] = [attributes, record.scores, record.model, record.frames, duration_s, record.warning]
    rest += [None, None]
    if rejects and record.rejection is not None:
        is_rejected, *numbers = rejection_values(record.rejection)
        rest += ["true" if is_rejected else "false", record.best.label, *numbers]
    return [record.source.id, "ok", *ranked, *rest, *(_explanation(record) if explains else ())]


def _explanation(record: Prediction) -> list[Cell]:
    found = as_object(record)
    lists = [found.get(name) for name in EXPLANATION]
    return [_joined(values) if isinstance(values, list) else values for values in lists]  # type: ignore[misc]


def _joined(numbers: list[object]) -> str:
    return ";".join("" if number is None else str(number) for number in numbers)
