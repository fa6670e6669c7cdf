"""The calibration of a model: what labelled clips say about its scores.

A clip fits none of the labels where its score is lower than those of nearly all known clips. This is split conformal
prediction: if a new clip is exchangeable with the known clips, it is rejected with a probability of at most `promise`,
however good or bad the model is. Nothing is promised about clips that show something else.

Source: conformal p-values, Vovk et al., Algorithmic Learning in a Random World (2005), section 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from bike_cli.errors import UsageError, shorten
from bike_cli.settings import flag_name
from bike_cli.wording import all_of, count

Measure = Literal["cosine", "distance", "logit"]

MOST_VALUES = 10_000
SCALES = (0.2, 2.0)  # a factor outside of these would say more about the few clips than about the model
MOST_PROMISE = 0.5  # exclusive
COSINE_SLACK = 1e-3  # a cosine of two unit vectors in half precision may exceed 1 by this much
SPOTTING = {"spot", "temperature"}  # conditions that follow from the pool where that differs
SHOWN = 60  # characters of a value in a message
PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}  # of flags, by name of the type


@dataclass(frozen=True)
class Curve:
    """The probability that an answer is correct, by its score: a logistic function."""

    slope: float
    offset: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slope) and math.isfinite(self.offset)):
            raise ValueError("the curve is not finite")

    def at(self, value: float) -> float:
        """Return the probability at a score, within 0 to 1."""
        logit = self.slope * value + self.offset
        if logit >= 0:
            return 1 / (1 + math.exp(-logit))
        odds = math.exp(max(logit, -700.0))
        return odds / (1 + odds)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What labelled clips say about the scores of a model.

    Args:
        labels: C labels, whose best score counts.
        conditions: what scores depend on, see `inference.conditions.conditions_of`; `model` only names the model.
        values: float64 [n], ascending, of at most 10,000 known clips: the score of the best label.
        scale: factor on the logits before the softmax, within 0.2 to 2.
        curve: probability of a correct answer by score; None without clips that show none of the labels.
        promise: share of known clips that may be rejected, above 0 and below 0.5.
        contents: SHA-256 of each clip's content, in hex.
        measure: what `values` are: the best cosine with a label, averaged over views; or of a saved classifier, minus
            the distance to the nearest shots, or the highest logit.
    Raises:
        ValueError: values outside of these ranges.
    """

    labels: tuple[str, ...]
    conditions: Mapping[str, object]
    values: NDArray[np.float64]
    scale: float
    curve: Curve | None
    promise: float
    contents: frozenset[str] = field(repr=False)
    measure: Measure = "cosine"

    def __post_init__(self) -> None:
        if not self.labels or len(set(self.labels)) < len(self.labels):
            raise ValueError("labels must be given, each once")
        if self.measure not in get_args(Measure):
            raise ValueError(f"measure is {self.measure!r}, not one of {', '.join(get_args(Measure))}")
        if not SCALES[0] <= self.scale <= SCALES[1]:
            raise ValueError(f"scale is {self.scale}, not a number from {SCALES[0]} to {SCALES[1]}")
        if not 0 < self.promise < MOST_PROMISE:
            raise ValueError(f"promise is {self.promise}, not a number above 0 and below {MOST_PROMISE}")
        values = np.array(self.values, dtype=np.float64)  # a copy
        if values.ndim != 1 or not 1 <= len(values) <= MOST_VALUES:
            raise ValueError(f"values have shape {list(values.shape)}, expected 1 to {MOST_VALUES:,} numbers")
        if not np.isfinite(values).all() or (np.diff(values) < 0).any():
            raise ValueError("values are not finite numbers in ascending order")
        if self.measure == "cosine" and np.abs(values).max() > 1 + COSINE_SLACK:
            raise ValueError("values are not cosines, which lie within -1 to 1")
        values.setflags(write=False)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "conditions", MappingProxyType(dict(self.conditions)))

    def threshold(self, promise: float | None = None) -> float:
        """Return the score below which a clip is rejected, so that at most `promise` of known clips are.

        Args:
            promise: None: the calibration's own.
        Raises:
            UsageError: a promise outside of its range, or too few clips for it.
        """
        promise = self.promise if promise is None else promise
        check_promise(promise, len(self.values))
        return float(self.values[rejected_ranks(promise, len(self.values)) - 1])

    def fit(self, value: float) -> float:
        """Return how well a clip fits: the conformal p-value of its score, above 0 and at most 1.

        That is (1 + known clips whose score is no better) / (n + 1). A clip is rejected where it is at most `promise`,
        which is where `value` is below `threshold()`.

        Raises:
            ValueError: `value` is not a number.
        """
        if math.isnan(value):
            raise ValueError("fit: the value is NaN, which fits nothing; give the score of a clip")
        no_better = int(np.searchsorted(self.values, value, side="right"))
        return (1 + no_better) / (len(self.values) + 1)

    def right(self, value: float) -> float | None:
        """Return the probability that an answer with this score is correct; None without a curve."""
        return None if self.curve is None else self.curve.at(value)

    def shown(self, value: float) -> float:
        """Return a value as people read it: a distance is larger where a video is farther."""
        return -value if self.measure == "distance" else value

    def check(self, conditions: Mapping[str, object]) -> None:
        """Raise UsageError if scores are computed under other conditions than those of the calibration.

        Args:
            conditions: those of this run, see `inference.conditions.conditions_of`.
        """
        here, now = dict(self.conditions), dict(conditions)
        if here.get("fingerprint") != now.get("fingerprint"):
            before, after = here.get("model"), now.get("model")
            problem = f"is of the model {_shown(before)}, but this run uses {_shown(after)}"
            way_out = f"give --model {_shown(before)}, or calibrate again with bike calibrate"
            if before == after:
                problem = f"is of the model {_shown(before)}, whose weights have changed since"
                way_out = "calibrate again with bike calibrate"
            raise UsageError(f"calibration: {problem}; {way_out}", settings=("model",))
        ignored = {"model", "fingerprint"} | (SPOTTING if here.get("pool") != now.get("pool") else set())
        _check_classifier(here.get("classifier"), now.get("classifier"))
        names = [name for name in dict.fromkeys((*here, *now)) if name not in ignored]
        differing = [name for name in names if here.get(name) != now.get(name)]
        if differing:
            before, after = (all_of(f"{name} {_shown(of.get(name))}" for name in differing) for of in (here, now))
            flags = all_of(_flag(name, here.get(name)) for name in differing)
            raise UsageError(
                f"calibration: is of {before}, but this run has {after}; give {flags}, or calibrate again with "
                "bike calibrate",
                settings=differing,
            )


def _check_classifier(calibrated: object, used: object) -> None:
    """Raise UsageError if a calibration is not of the saved classifier that a run uses; None: of labels alone."""
    if calibrated == used:
        return
    if calibrated is None:
        problem, way_out = (
            "is of labels, but this run uses a classifier",
            "calibrate it with bike calibrate --classifier",
        )
    elif used is None:
        problem, way_out = "is of a classifier, but this run uses none", "give it with --classifier"
    else:
        problem, way_out = "is of another classifier", "run bike calibrate --classifier with this one"
    raise UsageError(f"calibration: {problem}; {way_out}", settings=("calibration",))


def rejected_ranks(promise: float, clips: int) -> int:
    """Return the largest k with k / (n + 1) <= promise: a clip is rejected where fewer than k known clips are below."""
    k = int(promise * (clips + 1))
    # The product may be rounded to either side of a whole number; quotients are what clips are compared by.
    if (k + 1) / (clips + 1) <= promise:
        return k + 1
    return k if k / (clips + 1) <= promise else k - 1


def fewest_clips(promise: float) -> int:
    """Return the smallest number of known clips for which a promise can be kept: 19 for 5 %, 9 for 10 %."""
    clips = max(int(1 / promise) - 2, 1)
    while rejected_ranks(promise, clips) < 1:
        clips += 1
    return clips


def check_promise(promise: float, clips: int) -> None:
    """Raise UsageError for a promise outside of its range, or one that this number of known clips cannot keep."""
    if not 0 < promise < MOST_PROMISE:
        raise UsageError(
            f"promise is {promise}; give a number above 0 and below {MOST_PROMISE}, such as 0.05", settings=("promise",)
        )
    fewest = fewest_clips(promise)
    if clips >= fewest:
        return
    looser = next((p for p in (0.05, 0.1, 0.2) if p > promise and clips >= fewest_clips(p)), None)
    way_out = f"calibrate with {fewest - clips} more" + ("" if looser is None else f", or give --promise {looser}")
    raise UsageError(
        f"promise {promise}: needs at least {fewest} known clips, but the calibration has {count(clips, 'clip')}; "
        f"{way_out}",
        settings=("promise",),
    )


def _shown(value: object) -> str:
    if isinstance(value, tuple | list):
        return all_of(repr(shorten(text, SHOWN)) for text in value[:2]) + (" …" if len(value) > 2 else "")
    if isinstance(value, bool):
        return "on" if value else "off"
    return shorten(value, SHOWN)


def _flag(name: str, value: object) -> str:
    """Return the flag that sets a condition, or what to do instead."""
    if name == "descriptions" and value is not None:
        return "the same descriptions"
    if isinstance(value, bool):
        return flag_name(name) if value else f"no {flag_name(name)}"
    if value is None:
        return f"no {flag_name(name)}"
    if isinstance(value, tuple | list):
        return f"{flag_name(name)} {_shown(value)}" if len(value) == 1 else f"the same {flag_name(name)}"
    return f"{flag_name(name)} {_shown(PRECISIONS.get(str(value), value))}"
