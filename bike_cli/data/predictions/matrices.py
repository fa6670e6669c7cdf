"""The scores and cosines of a file of predictions by videos and labels."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bike_cli.data.predictions.named_logits import NamedLogits

if TYPE_CHECKING:
    from bike_cli.data.predictions.predictions import Predictions

logger = logging.getLogger(__name__)

LEAST = float(np.log(np.finfo(np.float64).tiny))  # below the log of every positive score in a file
MOST = 1 - 2.0**-53  # the largest sigmoid below 1
VIDEOS_AT_ONCE = 4096


def logits_of(
    predictions: Predictions, rows: Sequence[int], columns: NDArray[np.int64], *, classes: int
) -> NDArray[np.float64] | NamedLogits:
    """Return the log of the probabilities of some videos; see `MatchedPredictions`."""
    counts = np.diff(predictions.starts)[list(rows)]
    if int(counts.min()) < classes and predictions.score_kind != "sigmoid":
        return _named_logits(predictions, rows, columns, counts, classes=classes)
    logits, is_sigmoid = np.full((len(rows), classes), -np.inf), predictions.score_kind == "sigmoid"
    for at, rank, labelled in _blocks(predictions, rows):
        scores = predictions.scores[labelled]
        logs = _logs(scores, rank)
        if is_sigmoid:
            logs -= np.log1p(-np.minimum(scores, MOST))
        logits[at, columns[predictions.places[labelled]]] = logs
    # Log-odds differ from the logits of the softmax by the bias alone, which cancels.
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True) if is_sigmoid else logits


def _named_logits(
    predictions: Predictions,
    rows: Sequence[int],
    columns: NDArray[np.int64],
    counts: NDArray[np.int64],
    *,
    classes: int,
) -> NamedLogits:
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    places, values = np.empty(starts[-1], dtype=np.int32), np.empty(starts[-1])
    end = 0
    for _, rank, labelled in _blocks(predictions, rows):
        start, end = end, end + len(labelled)
        places[start:end] = columns[predictions.places[labelled]]
        values[start:end] = _logs(predictions.scores[labelled], rank)
    return NamedLogits(starts, places, values, classes)


def _logs(scores: NDArray[np.float64], rank: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the logarithms of scores, [N]; those of scores of 0 descend with their ranks, [N]."""
    return np.log(scores, out=LEAST - 1.0 - rank, where=scores > 0)


def cosines_of(
    predictions: Predictions, rows: Sequence[int], columns: NDArray[np.int64], *, classes: int, ranks: bool
) -> NDArray[np.float64] | None:
    """Return the cosines of some videos with all labels, [V, C]; None if a prediction lacks one.

    Args:
        ranks: whether the cosines are to rank labels; then also None if labels are not in the order of their cosines.
    """
    if int(np.diff(predictions.starts)[list(rows)].min()) < classes:
        return None
    cosines = np.full((len(rows), classes), np.nan)
    for at, rank, labelled in _blocks(predictions, rows):
        given = predictions.cosines[labelled]
        if np.isnan(given).any() or (ranks and (np.diff(given)[rank[1:] > 0] > 0).any()):
            return None
        cosines[at, columns[predictions.places[labelled]]] = given
    return None if np.isnan(cosines).any() else cosines


def best_cosines_of(predictions: Predictions, rows: Sequence[int]) -> NDArray[np.float64] | None:
    """Return the cosine of the best label of some videos, [V]; None if a prediction lacks it."""
    cosines = predictions.cosines[predictions.starts[:-1][list(rows)]].astype(np.float64)
    return None if np.isnan(cosines).any() else cosines


def rejected_of(predictions: Predictions, rows: Sequence[int]) -> NDArray[np.bool_] | None:
    """Return whether some videos are rejected; None if none of their records says so."""
    found = None if predictions.rejected is None else predictions.rejected[list(rows)]
    if found is None or (found < 0).all():
        return None
    if (found < 0).any():
        logger.warning(
            "%s: some records say whether a video fits none of the labels, others do not, so rejection is left out; "
            "classify all videos alike",
            predictions.origin,
        )
        return None
    return np.asarray(found == 1)


def right_of(predictions: Predictions, rows: Sequence[int]) -> NDArray[np.float64] | None:
    """Return the probability that the best label of some videos is right, [V]; None if a record does not say."""
    found = None if predictions.right is None else predictions.right[list(rows)]
    return None if found is None or np.isnan(found).any() else found


def _blocks(predictions: Predictions, rows: Sequence[int]) -> Iterator[tuple[NDArray[np.int64], ...]]:
    """Yield, for some videos at a time, the row and the rank of each of their labels, and its place in `scores`."""
    starts = predictions.starts
    for first in range(0, len(rows), VIDEOS_AT_ONCE):
        block = np.array(rows[first : first + VIDEOS_AT_ONCE], dtype=np.int64)
        counts = starts[block + 1] - starts[block]
        rank = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # from 0 in each video
        at = np.repeat(np.arange(first, first + len(block)), counts)
        yield at, rank, np.repeat(starts[block], counts) + rank
