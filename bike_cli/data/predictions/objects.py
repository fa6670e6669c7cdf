"""Turn records into JSON objects, the same for every command and format."""

from __future__ import annotations

from bike_cli.json_text import JsonObject, rounded, significant
from bike_cli.records import Failure, Prediction, Ranked, Rejection

RANKED = ("label", "score", "cosine", "match")  # of each label
REJECTION = ("rejected", "fit", "right", "none")
DIGEST = "model_digest"  # key in records; earlier versions did not write it


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
        **({} if record.rejection is None else dict(zip(REJECTION, rejection_values(record.rejection), strict=True))),
        "top": [dict(zip(RANKED, ranked_values(ranked), strict=True)) for ranked in record.ranked],
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


def failure_as_object(failure: Failure) -> JsonObject:
    """Return the JSON object of an input without an answer."""
    error = {"type": failure.kind, "message": failure.message}
    return {"path": failure.source.id, "status": "error", "error": error}


def ranked_values(ranked: Ranked) -> list[str | float | None]:
    """Return the values of `RANKED` for a label."""
    match = None if ranked.match is None else significant(ranked.match)
    return [ranked.label, significant(ranked.score), rounded(ranked.cosine), match]


def rejection_values(rejection: Rejection) -> list[str | float | None]:
    """Return the values of `REJECTION`."""
    fit, right = (None if number is None else significant(number) for number in (rejection.fit, rejection.right))
    return [rejection.is_rejected, fit, right, rejection.none]
