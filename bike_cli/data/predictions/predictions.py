"""Predictions from the files that `bike classify -o` writes, and how they are matched with labelled videos."""

from __future__ import annotations

import logging
import math
import os
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from bike_cli.config import ScoreKind
from bike_cli.data.labelled.candidates import finder
from bike_cli.data.labelled.eval_sets import EvalSet
from bike_cli.data.predictions.files import DataFile, Origin
from bike_cli.data.predictions.matrices import best_cosines_of, cosines_of, logits_of, rejected_of, right_of
from bike_cli.data.predictions.named_logits import NamedLogits
from bike_cli.data.predictions.records import SURE, Answer, failure_in, read_answers, share_in
from bike_cli.errors import UsageError
from bike_cli.records import Failure, Sample
from bike_cli.wording import count, nearest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class Predictions:
    """The predictions of one file. The N labels of all V videos are in flat arrays.

    Args:
        origin: the file, or the first of several merged files, for messages.
        videos: V names, as the user gave them, in the order of the file.
        lines: int64 [V], the line of each video in its file.
        labels: all labels in the file, in the order of their first occurrence.
        label_lines: for each of `labels`, the line of its first occurrence.
        starts: int64 [V + 1]; `places[starts[i] : starts[i + 1]]` are the labels of video i, best first.
        places: int32 [N], places in `labels`.
        scores: float64 [N], in [0, 1].
        cosines: float32 [N]; NaN where the file has none.
        failures: the videos without a prediction.
        models, settings: each distinct value once.
        label_origins: for each of `labels`, the file of its first occurrence; empty if all are in `origin`.
        score_kind: what `scores` are.
        rejected: int8 [V], 1 for a video that fits none of the labels, 0 for another, -1 where its record does not say.
        right: float64 [V], the probability that the best label is right; NaN where a record does not say.
    """

    origin: Origin
    videos: tuple[str, ...]
    lines: NDArray[np.int64]
    labels: tuple[str, ...]
    label_lines: tuple[int, ...]
    starts: NDArray[np.int64]
    places: NDArray[np.int32]
    scores: NDArray[np.float64]
    cosines: NDArray[np.float32]
    failures: tuple[Failure, ...]
    models: tuple[str, ...]
    settings: tuple[str, ...]
    label_origins: tuple[Origin, ...] = ()
    score_kind: ScoreKind = "softmax"
    rejected: NDArray[np.int8] | None = None
    right: NDArray[np.float64] | None = None

    def __repr__(self) -> str:
        return f"Predictions({self.origin!r}, {count(len(self.videos), 'video')}, {count(len(self.labels), 'label')})"

    def where_named(self, label: int) -> str:
        """Return the file and line of a label's first occurrence, for messages."""
        return (self.label_origins[label] if self.label_origins else self.origin).at(self.label_lines[label])


@dataclass(frozen=True, repr=False)
class MatchedPredictions:
    """Predictions next to the true labels, for the videos that both sides have.

    Args:
        logits: log of the probabilities, float64 [V, C]; of the named labels alone if a prediction lacks some. A named
            label with score 0 has a very low finite value, in the order of the labels; its exponential is 0.
        named: int64 [V], how many labels each prediction names.
        truth: its V samples are the videos with a prediction, in the order of the rows.
        failures: of labelled videos.
        only_predicted, only_labelled: videos that only one side has, in its order; failures count as predicted.
        cosines: float64 [V, C], where they were asked for or videos may have several labels; None if a prediction lacks
            one, or, with several labels, if these are not in their order, because a classifier or attributes count.
        best_cosines: float64 [V], of the best label; None if a prediction lacks it.
        rejected: bool [V], whether videos fit none of the labels; None if a prediction does not say.
        right: float64 [V], the probability that the best label is right; None if a prediction does not say.
    """

    logits: NDArray[np.float64] | NamedLogits
    named: NDArray[np.int64]
    truth: EvalSet
    failures: tuple[Failure, ...]
    only_predicted: tuple[str, ...]
    only_labelled: tuple[str, ...]
    cosines: NDArray[np.float64] | None = None
    best_cosines: NDArray[np.float64] | None = None
    rejected: NDArray[np.bool_] | None = None
    right: NDArray[np.float64] | None = None

    def __repr__(self) -> str:
        return f"MatchedPredictions({list(self.logits.shape)}, {count(len(self.failures), 'failure')})"


def read_predictions(file: DataFile | str | Path, *, is_part: bool = False) -> Predictions:
    """Return the predictions of a file in any format that `bike classify -o` writes; cosines may be missing.

    Duplicate answers are used once; a truncated last record is dropped. Both warn.

    Args:
        is_part: whether the file may be empty, as one of more parts than there are videos.
    Raises:
        UsageError: the file cannot be read or is empty; a record is malformed, has a score outside [0, 1] or a label
            twice; two different answers for a video.
    """
    file = file if isinstance(file, DataFile) else DataFile(str(file), str(file))
    collector = _Collector(file.origin)
    for answer in read_answers(file):
        collector.add(answer)
    predictions = collector.predictions()
    if not is_part and not predictions.videos and not predictions.failures:
        raise UsageError(f"{file.name}: is empty; give the output of bike classify -o")
    return predictions


def match(
    predictions: Predictions, truth: EvalSet, *, unknown: str | None = None, keeps_cosines: bool = False
) -> MatchedPredictions:
    """Return the predictions of the labelled videos, as scores of their labels.

    Videos match if their names are equal; otherwise if both names are the same path from the current folder; otherwise
    if their file names are equal and unique on both sides. Labels are looked up as by `finder`.

    Args:
        unknown: the class of videos that have none of the labels, as the user named it.
        keeps_cosines: whether to return the cosines of all labels also where videos have one label each.
    Raises:
        UsageError: no video in common, a label that is not in `truth`, two labels that mean the same one, or sigmoid
            scores of some labels only.
    """
    columns = _columns(predictions, truth, has_unknown=unknown is not None)
    failed = {failure.source.id: failure for failure in predictions.failures}
    ids = [sample.source.id for sample in truth.samples]
    matched = _matched(ids, [*predictions.videos, *failed])
    by_name = [(id_, name) for id_, name in matched.items() if id_ != name and _from_here(id_) != _from_here(name)]
    if by_name:
        text = "%s: %s matched with labels by file name alone, first %s with %s"
        logger.warning(text, predictions.origin, count(len(by_name), "video"), by_name[0][1], by_name[0][0])
    row_of = {name: i for i, name in enumerate(predictions.videos)}
    kept = [i for i, id_ in enumerate(ids) if matched.get(id_) in row_of]
    if not kept:
        raise _nothing_in_common(predictions, ids, matched)
    rows = [row_of[matched[ids[i]]] for i in kept]
    taken = set(matched.values())
    named, classes = np.diff(predictions.starts)[rows], len(truth.labels)
    if predictions.score_kind == "sigmoid" and named.min() < classes:
        problem = (
            f"has sigmoid scores of {named.min()} of {classes} labels, which are not probabilities without the others"
        )
        raise UsageError(f"{predictions.origin}: {problem}; classify with -k {classes}, or with --scores softmax")
    cosines = None
    if truth.multi_label or keeps_cosines:
        cosines = cosines_of(predictions, rows, columns, classes=classes, ranks=truth.multi_label)
    return MatchedPredictions(
        logits_of(predictions, rows, columns, classes=classes),
        named,
        _subset(truth, kept),
        tuple(failed[matched[id_]] for id_ in ids if matched.get(id_) in failed),
        only_predicted=tuple(name for name in (*predictions.videos, *failed) if name not in taken),
        only_labelled=tuple(id_ for id_ in ids if id_ not in matched),
        cosines=cosines,
        best_cosines=best_cosines_of(predictions, rows),
        rejected=rejected_of(predictions, rows),
        right=right_of(predictions, rows),
    )


# -- records --------------------------------------------------------------------------------------------------------


class _Collector:
    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self._rows: dict[str, int] = {}
        self._failures: dict[str, tuple[Failure, int]] = {}
        self._places: defaultdict[str, int] = defaultdict()
        self._places.default_factory = self._places.__len__
        self._lines, self._label_lines, self._starts = array("q"), array("q"), array("q", [0])
        self._labelled, self._scores, self._cosines = array("i"), array("d"), array("f")
        self._models: dict[str, None] = {}
        self._settings: dict[str, None] = {}
        self._score_kinds: dict[ScoreKind, int] = {}  # to the line of its first occurrence
        self._repeated: list[int] = []  # lines
        self._rejected = array("b")
        self._right = array("d")

    def add(self, answer: Answer) -> None:
        """Add a record, or raise UsageError if it is invalid or contradicts an earlier one of the same video."""
        where, record = self.origin.at(answer.line), answer.record
        path = record.get("path") if isinstance(record, dict) else None
        if not isinstance(record, dict) or not isinstance(path, str):
            raise UsageError(f"{where}: is not a prediction, as it has no 'path'; remove it")
        if "label" in record and not {"status", "top"} & record.keys():  # of another program
            record = {**record, "status": "ok", "top": [{"score": SURE, **record}]}
        if record.get("status") == "error":
            self._add_failure(failure_in(where, path, record.get("error")), answer.line)
        elif record.get("status") == "ok" and isinstance(record.get("top"), list) and record["top"]:
            rejected, right = record.get("rejected"), share_in(where, record.get("right"))
            judged = (-1 if not isinstance(rejected, bool) else int(rejected), right)
            self._add_top(path, record["top"], answer.line, judged)
            self._score_kinds.setdefault("sigmoid" if record.get("scores") == "sigmoid" else "softmax", answer.line)
            for known, name in ((self._models, "model"), (self._settings, "settings")):
                if isinstance(record.get(name), str) and record[name]:
                    known[record[name]] = None
        else:
            raise UsageError(f"{where}: is not a prediction: status must be 'ok', with a 'top', or 'error'; remove it")

    def predictions(self) -> Predictions:
        if self._repeated:
            text = "%s: %s with more than one identical answer, used once"
            logger.warning(text, self.origin.at(self._repeated[0]), count(len(self._repeated), "video"))
        kinds = [*self._score_kinds] or ["softmax"]
        if len(kinds) > 1:
            where = self.origin.at(self._score_kinds[kinds[1]])
            raise UsageError(
                f"{where}: has {kinds[1]} scores, and records above have {kinds[0]} scores; split the file"
            )
        return Predictions(
            self.origin,
            tuple(self._rows),
            np.asarray(self._lines, dtype=np.int64),
            tuple(self._places),
            tuple(self._label_lines),
            np.asarray(self._starts, dtype=np.int64),
            np.asarray(self._labelled, dtype=np.int32),
            np.asarray(self._scores, dtype=np.float64),
            np.asarray(self._cosines, dtype=np.float32),
            tuple(failure for failure, _ in self._failures.values()),
            tuple(self._models),
            tuple(self._settings),
            score_kind=kinds[0],
            rejected=np.asarray(self._rejected, dtype=np.int8),
            right=np.asarray(self._right, dtype=np.float64),
        )

    def _add_failure(self, failure: Failure, line: int) -> None:
        path = failure.source.id
        if path in self._rows:
            raise self._contradiction(path, line, self._lines[self._rows[path]])
        first, first_line = self._failures.setdefault(path, (failure, line))
        if first != failure:
            raise self._contradiction(path, line, first_line)
        if first_line != line:
            self._repeated.append(line)

    def _add_top(
        self, path: str, top: Sequence[Mapping[str, object]], line: int, judged: tuple[int, float | None]
    ) -> None:
        rejected, right = judged
        if path in self._failures:
            raise self._contradiction(path, line, self._failures[path][1])
        arrays = self._checked(top, line)
        row = self._rows.setdefault(path, len(self._rows))
        if row < len(self._lines):
            start, stop = self._starts[row], self._starts[row + 1]
            before = (self._labelled[start:stop], self._scores[start:stop], self._cosines[start:stop])
            # Compare bytes, because NaN is not equal to itself.
            is_same = [numbers.tobytes() for numbers in arrays] == [numbers.tobytes() for numbers in before]
            if not is_same or rejected != self._rejected[row]:
                raise self._contradiction(path, line, self._lines[row])
            self._repeated.append(line)
            return
        self._labelled.extend(arrays[0])
        self._scores.extend(arrays[1])
        self._cosines.extend(arrays[2])
        self._lines.append(line)
        self._rejected.append(rejected)
        self._right.append(math.nan if right is None else right)
        self._starts.append(len(self._labelled))

    def _checked(self, top: Sequence[Mapping[str, object]], line: int) -> tuple[array[int], array[float], array[float]]:
        where, known = self.origin.at(line), len(self._places)
        try:
            labels: list[str] = list(map(itemgetter("label"), top))
            given = list(map(itemgetter("score"), top))
            if bool in map(type, given):  # an array would take true for 1
                raise TypeError("score is a bool")
            scores: array[float] = array("d", given)
            cosines = _cosines(top)
            places: array[int] = array("i", map(self._places.__getitem__, labels))
        except (KeyError, TypeError, AttributeError, OverflowError) as e:
            raise UsageError(f"{where}: has a 'top' that is not a list of labels with scores; remove it") from e
        if not all(isinstance(label, str) for label in labels):
            raise UsageError(f"{where}: label must be a string; remove the record")
        self._label_lines.extend([line] * (len(self._places) - known))
        if len(set(places)) < len(places):
            twice = Counter(labels).most_common(1)[0][0]
            raise UsageError(f"{where}: has the label {twice!r} twice; remove one")
        numbers = np.asarray(scores)
        wrong = ~((numbers >= 0) & (numbers <= 1))  # NaN, too
        if wrong.any():
            i = int(wrong.argmax())
            raise UsageError(
                f"{where}: score {scores[i]} of {labels[i]!r} is not from 0 to 1; fix or remove the record"
            )
        return places, scores, cosines

    def _contradiction(self, path: str, line: int, first: int) -> UsageError:
        return UsageError(f"{self.origin.at(line)}: {path} has another answer at {self.origin.at(first)}; keep one")


def _cosines(top: Sequence[Mapping[str, object]]) -> array[float]:
    cosines = [ranked.get("cosine") for ranked in top]  # other programs write none
    return array("f", [float("nan") if cosine is None else cosine for cosine in cosines])  # type: ignore[misc]


# -- matching with labelled videos ------------------------------------------------------------------------------------


def _columns(predictions: Predictions, truth: EvalSet, *, has_unknown: bool) -> NDArray[np.int64]:
    """Return the place in `truth` of each predicted label; warn about labels that are never predicted."""
    is_by_id = truth.names == tuple(map(str, range(len(truth.names))))
    find = finder(truth.labels) if is_by_id else finder(truth.labels, truth.names)
    columns: dict[int, str] = {}
    for i, label in enumerate(predictions.labels):
        where, place = predictions.where_named(i), find(label)
        if place is None:
            near, known = nearest(label, truth.labels), count(len(truth.labels), "label")
            reason = f"label {label!r} is not one of the {known} of the videos; the nearest is {near!r}"
            hint = "" if has_unknown else ", and the class for videos without any of them with --unknown"
            raise UsageError(f"{where}: {reason}; give all classes with --names{hint}")
        if columns.setdefault(place, label) != label:
            reason = f"labels {columns[place]!r} and {label!r} both mean {truth.labels[place]!r} of the labelled videos"
            raise UsageError(f"{where}: {reason}; keep one")
    never = [label for i, label in enumerate(truth.labels) if i not in columns]
    if never:
        hint = "" if has_unknown else "; if its videos have none of the labels, give it with --unknown"
        text, known = "%s: has %d of %s, so no video is predicted to be %r%s", count(len(truth.labels), "label")
        logger.warning(text, predictions.origin, len(columns), known, never[0], hint)
    return np.array(list(columns), dtype=np.int64)


def _matched(ids: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Return the names of predictions by the ids of samples."""
    known = set(names)
    matched = {id_: id_ for id_ in ids if id_ in known}
    for form in (_from_here, _file_name):
        taken = set(matched.values())
        ids_by, names_by = _unique(ids, form), _unique(names, form)
        for alike, id_ in ids_by.items():
            name = names_by.get(alike)
            if id_ not in matched and name is not None and name not in taken:
                matched[id_] = name
    return matched


def _from_here(path: str) -> str:
    """Return the absolute path without `./` and `a/../`; links are not resolved."""
    return os.path.abspath(path)  # noqa: PTH100 - Path.absolute keeps a/../


def _file_name(path: str) -> str:
    return PurePosixPath(path).name


def _unique(paths: Iterable[str], form: Callable[[str], str]) -> Mapping[str, str]:
    """Return the paths by their form, without those that share one."""
    by_form: dict[str, str | None] = {}
    for path in paths:
        formed = form(path)
        by_form[formed] = None if formed in by_form else path
    return {formed: path for formed, path in by_form.items() if path is not None}


def _nothing_in_common(predictions: Predictions, ids: Sequence[str], matched: Mapping[str, str]) -> UsageError:
    if matched:
        reason = f"{count(len(matched), 'video')} with labels failed, none was predicted"
        return UsageError(f"{predictions.origin}: {reason}; fix the first failure: {predictions.failures[0].message}")
    names = (*predictions.videos, *(failure.source.id for failure in predictions.failures))
    by_file = {_file_name(id_): id_ for id_ in reversed(ids)}
    alike = next(((name, by_file[_file_name(name)]) for name in names if _file_name(name) in by_file), None)
    name, id_ = alike or (names[0], ids[0])
    why = " by path, and file names are not unique" if alike else ""
    reason = f"has no video in common with the labelled videos{why}: {name} is predicted, {id_} is labelled"
    return UsageError(f"{predictions.origin}: {reason}; use the same paths, or check --root")


def _subset(truth: EvalSet, kept: Sequence[int]) -> EvalSet:
    new = {old: i for i, old in enumerate(kept)}
    samples: tuple[Sample, ...] = tuple(truth.samples[i] for i in kept)
    splits = tuple(tuple(new[i] for i in split if i in new) for split in truth.splits)
    return replace(truth, samples=samples, splits=splits)
