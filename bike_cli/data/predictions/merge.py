"""Predictions of several files that are parts of one, as `bike classify --shard` writes them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bike_cli.data.labelled.class_folders import count_of
from bike_cli.data.predictions.predictions import Failed, Predictions
from bike_cli.errors import UsageError

logger = logging.getLogger(__name__)

Number = TypeVar("Number", bound=np.generic)
Rows = Sequence[NDArray[np.bool_]]  # for each part, which of its videos


def merged(parts: Sequence[Predictions]) -> Predictions:
    """Return the predictions of all parts as those of one file, in their order; a part may hold none.

    The same answer in two parts is used once, with a warning. A video that failed in one part and has an answer in
    another has that answer. Parts of other models or settings than the first are told.

    Raises:
        UsageError: another answer for a video in another part; no part holds anything.
        ValueError: no part.
    """
    if not parts:
        raise ValueError("parts is empty; give one or more")
    if not any(part.videos or part.failures for part in parts):
        raise UsageError(f"{parts[0].origin}: is empty, as are all parts; give what bike classify -o wrote")
    _tell_strangers(parts)
    wheres: dict[str, tuple[str, int]] = {}
    for part in parts:
        for label, line in zip(part.labels, part.label_lines, strict=True):
            wheres.setdefault(label, (part.origin, line))
    place_of = {label: i for i, label in enumerate(wheres)}
    places = [np.array([place_of[label] for label in part.labels], dtype=np.int32)[part.places] for part in parts]
    rows = _once(parts, places)
    counts = [np.diff(part.starts) for part in parts]
    labelled = [np.repeat(own, count) for own, count in zip(rows, counts, strict=True)]
    videos = tuple(parts[p].videos[i] for p, own in enumerate(rows) for i in np.flatnonzero(own).tolist())
    return Predictions(
        parts[0].origin,
        videos,
        _joined([part.lines for part in parts], rows),
        tuple(wheres),
        tuple(line for _, line in wheres.values()),
        np.append(0, np.cumsum(_joined(counts, rows))).astype(np.int64),
        _joined(places, labelled),
        _joined([part.scores for part in parts], labelled),
        _joined([part.cosines for part in parts], labelled),
        _failures(parts, videos),
        tuple(dict.fromkeys(chain.from_iterable(part.models for part in parts))),
        tuple(dict.fromkeys(chain.from_iterable(part.settings for part in parts))),
        tuple(origin for origin, _ in wheres.values()),
    )


def _joined(arrays: Sequence[NDArray[Number]], masks: Rows) -> NDArray[Number]:
    return np.concatenate([array[mask] for array, mask in zip(arrays, masks, strict=True)])


def _once(parts: Sequence[Predictions], places: Sequence[NDArray[np.int32]]) -> Rows:
    """Return which videos of each part no earlier one has, or raise UsageError where that has another answer."""
    rows = [np.ones(len(part.videos), dtype=np.bool_) for part in parts]
    first: dict[str, tuple[int, int]] = {}
    again: list[str] = []
    for p, part in enumerate(parts):
        for i, video in enumerate(part.videos):
            q, j = first.setdefault(video, (p, i))
            if (q, j) == (p, i):
                continue
            here, there = f"{part.origin}:{part.lines[i]}", f"{parts[q].origin}:{parts[q].lines[j]}"
            if _answer(part, places[p], i) != _answer(parts[q], places[q], j):
                raise UsageError(f"{here}: {video} has another answer at {there}; keep one")
            rows[p][i] = False
            again.append(here)
    if again:
        logger.warning("%s: %s answered in another part, too, alike, used once", again[0], count_of(again))
    return rows


def _answer(part: Predictions, places: NDArray[np.int32], i: int) -> list[bytes]:
    """Return all numbers of an answer by their bytes, as NaN is unlike itself."""
    its = slice(part.starts[i], part.starts[i + 1])
    return [numbers[its].tobytes() for numbers in (places, part.scores, part.cosines)]


def _failures(parts: Sequence[Predictions], answered: Sequence[str]) -> tuple[Failed, ...]:
    """Return the failures of videos without an answer; of several for a video, the first."""
    known = set(answered)
    first: dict[str, Failed] = {}
    for failure in chain.from_iterable(part.failures for part in parts):
        if failure.path not in known:
            first.setdefault(failure.path, failure)
    return tuple(first.values())


def _tell_strangers(parts: Sequence[Predictions]) -> None:
    """Warn of the first part that is of another model than the first, or of other settings."""
    said = [part for part in parts if part.models]
    other = next((part for part in said if set(part.models) != set(said[0].models)), None)
    if other is not None:
        models, first_models = ", ".join(other.models), ", ".join(said[0].models)
        text = "%s: is of model %s, %s of %s; are they parts of one run?"
        logger.warning(text, other.origin, models, said[0].origin, first_models)
        return
    said = [part for part in parts if part.settings]
    other = next((part for part in said if set(part.settings) != set(said[0].settings)), None)
    if other is not None:
        text = "%s: is of other labels or settings than %s; are they parts of one run?"
        logger.warning(text, other.origin, said[0].origin)
