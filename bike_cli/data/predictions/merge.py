"""Merge files of predictions that are parts of one run, as `bike classify --shard` writes them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bike_cli.data.predictions.files import Origin
from bike_cli.data.predictions.predictions import Predictions
from bike_cli.errors import UsageError
from bike_cli.records import Failure
from bike_cli.wording import count

logger = logging.getLogger(__name__)

Number = TypeVar("Number", bound=np.generic)
Rows = Sequence[NDArray[np.bool_]]  # for each part, which of its videos


def merge_parts(parts: Sequence[Predictions]) -> Predictions:
    """Return the predictions of all parts, in their order, as those of one file; parts may be empty.

    Duplicate answers are used once, with a warning. An answer in one part replaces a failure in another. Parts with
    different models or settings cause a warning.

    Raises:
        UsageError: two different answers for a video; softmax and sigmoid scores; all parts are empty.
        ValueError: `parts` is empty.
    """
    if not parts:
        raise ValueError("parts is empty; give one or more")
    if not any(part.videos or part.failures for part in parts):
        raise UsageError(f"{parts[0].origin}: is empty, like all other parts; give the output of bike classify -o")
    kinds = {part.score_kind: part.origin for part in reversed(parts) if part.videos}
    if len(kinds) > 1:
        (kind, origin), (other_kind, other) = kinds.items()
        raise UsageError(f"{origin}: has {kind} scores, and {other} has {other_kind} scores; classify all parts alike")
    _warn_of_other_runs(parts)
    wheres: dict[str, tuple[Origin, int]] = {}
    for part in parts:
        for label, line in zip(part.labels, part.label_lines, strict=True):
            wheres.setdefault(label, (part.origin, line))
    place_of = {label: i for i, label in enumerate(wheres)}
    places = [np.array([place_of[label] for label in part.labels], dtype=np.int32)[part.places] for part in parts]
    rows = _first_rows(parts, places)
    counts = [np.diff(part.starts) for part in parts]
    labelled = [np.repeat(mask, count) for mask, count in zip(rows, counts, strict=True)]
    videos = tuple(parts[p].videos[i] for p, mask in enumerate(rows) for i in np.flatnonzero(mask).tolist())
    return Predictions(
        parts[0].origin,
        videos,
        _concatenated([part.lines for part in parts], rows),
        tuple(wheres),
        tuple(line for _, line in wheres.values()),
        np.append(0, np.cumsum(_concatenated(counts, rows))).astype(np.int64),
        _concatenated(places, labelled),
        _concatenated([part.scores for part in parts], labelled),
        _concatenated([part.cosines for part in parts], labelled),
        _failures(parts, videos),
        tuple(dict.fromkeys(chain.from_iterable(part.models for part in parts))),
        tuple(dict.fromkeys(chain.from_iterable(part.settings for part in parts))),
        tuple(origin for origin, _ in wheres.values()),
        score_kind=next(iter(kinds), "softmax"),
        rejected=_concatenated([_rejected(part) for part in parts], rows),
        right=_concatenated([_right(part) for part in parts], rows),
    )


def _rejected(part: Predictions) -> NDArray[np.int8]:
    return np.full(len(part.videos), -1, dtype=np.int8) if part.rejected is None else part.rejected


def _right(part: Predictions) -> NDArray[np.float64]:
    return np.full(len(part.videos), np.nan) if part.right is None else part.right


def _concatenated(arrays: Sequence[NDArray[Number]], masks: Rows) -> NDArray[Number]:
    return np.concatenate([array[mask] for array, mask in zip(arrays, masks, strict=True)])


def _first_rows(parts: Sequence[Predictions], places: Sequence[NDArray[np.int32]]) -> Rows:
    """Return a mask per part of the videos that no earlier part has; raise UsageError if their answers differ."""
    rows = [np.ones(len(part.videos), dtype=np.bool_) for part in parts]
    first: dict[str, tuple[int, int]] = {}
    repeated: list[str] = []
    for p, part in enumerate(parts):
        for i, video in enumerate(part.videos):
            q, j = first.setdefault(video, (p, i))
            if (q, j) == (p, i):
                continue
            second, earlier = part.origin.at(int(part.lines[i])), parts[q].origin.at(int(parts[q].lines[j]))
            if _answer(part, places[p], i) != _answer(parts[q], places[q], j):
                raise UsageError(f"{second}: {video} has another answer at {earlier}; keep one")
            rows[p][i] = False
            repeated.append(second)
    if repeated:
        logger.warning(
            "%s: %s with an identical answer in another part, used once", repeated[0], count(len(repeated), "video")
        )
    return rows


def _answer(part: Predictions, places: NDArray[np.int32], i: int) -> list[bytes]:
    """Return the numbers of an answer as bytes, because NaN is not equal to itself."""
    span = slice(part.starts[i], part.starts[i + 1])
    return [numbers[span].tobytes() for numbers in (places, part.scores, part.cosines)]


def _failures(parts: Sequence[Predictions], answered: Sequence[str]) -> tuple[Failure, ...]:
    known = set(answered)
    first: dict[str, Failure] = {}
    for failure in chain.from_iterable(part.failures for part in parts):
        if failure.source.id not in known:
            first.setdefault(failure.source.id, failure)
    return tuple(first.values())


def _warn_of_other_runs(parts: Sequence[Predictions]) -> None:
    """Warn about the first part with another model than the first, or with other settings."""
    with_model = [part for part in parts if part.models]
    other = next((part for part in with_model if set(part.models) != set(with_model[0].models)), None)
    if other is not None:
        models, first_models = ", ".join(other.models), ", ".join(with_model[0].models)
        text = "%s: has predictions of model %s, %s of %s; are they parts of one run?"
        logger.warning(text, other.origin, models, with_model[0].origin, first_models)
        return
    with_settings = [part for part in parts if part.settings]
    other = next((part for part in with_settings if set(part.settings) != set(with_settings[0].settings)), None)
    if other is not None:
        text = "%s: has other labels or settings than %s; are they parts of one run?"
        logger.warning(text, other.origin, with_settings[0].origin)
