"""Turn records into JSON objects and into flat cells, the same for every format."""

from __future__ import annotations

from bike_cli.cli.terminal.record_writers import Cell, failure_as_object
from bike_cli.cli.videos.existing import DIGEST
from bike_cli.json_text import JsonObject, rounded, significant
from bike_cli.records import Failure, Prediction, Ranked, Rejection

RANKED = ("label", "score", "cosine", "match")  # of each label
REJECTION = ("rejected", "fit", "right", "none")
REJECTION_CELLS = ("rejected", "best", "fit", "right", "none")
EXPLANATION = ("times_s", "positions", "saliency", "spotting")  # the first three: lists of numbers, one for each frame


def as_object(record: Prediction | Failure, settings: str | None = None) -> JsonObject:
    """Return the JSON object of a record, with numbers rounded to their precision.

    Args:
        settings: stands for the labels and settings of the run; None leaves it out.
    """
    if isinstance(record, Failure):
        return failure_as_object(record)
    found: dict[str, object] = {
        "path": record.source.id,
        "status": "ok",
        "label": None if record.is_rejected else record.best.label,
        "score": significant(record.best.score),
        **({} if record.rejection is None else dict(zip(REJECTION, _rejection(record.rejection), strict=True))),
        "top": [dict(zip(RANKED, _numbers(ranked), strict=True)) for ranked in record.ranked],
        "attributes": [{"phrase": a.phrase, "cosine": rounded(a.cosine)} for a in record.attributes],
        "scores": record.scores,
        "model": record.model,
        **({} if record.model_digest is None else {DIGEST: record.model_digest}),
        **({} if settings is None else {"settings": settings}),
        "frames": record.frames,
        "duration_s": None if record.duration_s is None else rounded(record.duration_s, 3),
    }
    if record.warning is not None:
        found["warning"] = record.warning
    if record.saliency is not None:
        found["times_s"] = [rounded(t, 3) for t in record.times_s.tolist()]
        found["positions"] = None if record.positions is None else record.positions.tolist()
        found["saliency"] = [rounded(weight) for weight in record.saliency.tolist()]
        found["spotting"] = record.spotting
    return found


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
    ranked = [cell for ranked in record.ranked for cell in _numbers(ranked)]
    ranked += [None] * (len(RANKED) * top - len(ranked))
    ranked[0] = None if record.is_rejected else ranked[0]
    duration_s = None if record.duration_s is None else rounded(record.duration_s, 3)
    attributes = ", ".join(a.phrase for a in record.attributes)
    rest: list[Cell] = [attributes, record.scores, record.model, record.frames, duration_s, record.warning]
    rest += [None, None]
    if rejects and record.rejection is not None:
        is_rejected, *numbers = _rejection(record.rejection)
        rest += ["true" if is_rejected else "false", record.best.label, *numbers]
    return [record.source.id, "ok", *ranked, *rest, *(_explanation(record) if explains else ())]


def _numbers(ranked: Ranked) -> list[Cell]:
    match = None if ranked.match is None else significant(ranked.match)
    return [ranked.label, significant(ranked.score), rounded(ranked.cosine), match]


def _rejection(rejection: Rejection) -> list[Cell]:
    fit, right = (None if number is None else significant(number) for number in (rejection.fit, rejection.right))
    return [rejection.is_rejected, fit, right, rejection.none]


def _explanation(record: Prediction) -> list[Cell]:
    found = as_object(record)
    lists = [found.get(name) for name in EXPLANATION]
    return [_joined(values) if isinstance(values, list) else values for values in lists]  # type: ignore[misc]


def _joined(numbers: list[object]) -> str:
    return ";".join("" if number is None else str(number) for number in numbers)
