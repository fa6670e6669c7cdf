"""Predictions made before, out of the files that `bike classify -o` writes, beside the truth about their videos."""

from __future__ import annotations

import logging
import os
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bike_cli.data.labelled.candidates import finder, nearest
from bike_cli.data.labelled.class_folders import count_of
from bike_cli.data.labelled.eval_sets import Tested
from bike_cli.data.predictions.records import Answer, read_answers
from bike_cli.errors import UsageError
from bike_cli.records import Ranked, Sample

logger = logging.getLogger(__name__)

_LEAST = float(np.log(np.finfo(np.float64).tiny))  # below the log of every score that a file can hold but 0
_VIDEOS_AT_ONCE = 4096


class Failed(NamedTuple):
    """A video without an answer, and why."""

    path: str
    type: str
    message: str


@dataclass(frozen=True, repr=False)
class Predictions:
    """The answers of one file, those of all videos in one row: N labels in all, `starts` tells which are whose.

    Args:
        origin: the file, or the first of several that are one, for messages.
        videos: V names, as the user gave them, in the order of the file.
        lines: int64 [V], beside `videos`: where each stands in its file.
        labels: all that the file names, in the order of their first coming.
        label_lines: beside `labels`: the line that names it first.
        starts: int64 [V + 1]; `places[starts[i] : starts[i + 1]]` are the labels of video i, best first.
        places: int32 [N], among `labels`.
        scores: float64 [N], in [0, 1].
        cosines: float32 [N]; NaN where there is none.
        models, settings: each that made some of the answers, once.
        label_origins: beside `labels`: the file that names it first; empty where that is `origin`.
    """

    origin: str
    videos: tuple[str, ...]
    lines: NDArray[np.int64]
    labels: tuple[str, ...]
    label_lines: tuple[int, ...]
    starts: NDArray[np.int64]
    places: NDArray[np.int32]
    scores: NDArray[np.float64]
    cosines: NDArray[np.float32]
    failures: tuple[Failed, ...]
    models: tuple[str, ...]
    settings: tuple[str, ...]
    label_origins: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Predictions({self.origin!r}, {len(self.videos)} videos, {len(self.labels)} labels)"

    def top(self, i: int) -> list[Ranked]:
        """Return the labels of video `i`, best first."""
        its = slice(self.starts[i], self.starts[i + 1])
        labels = [self.labels[place] for place in self.places[its].tolist()]
        cosines = [round(cosine, 6) for cosine in self.cosines[its].tolist()]
        return [Ranked(*one) for one in zip(labels, self.scores[its].tolist(), cosines, strict=True)]

    def where_named(self, label: int) -> str:
        """Return the file and the line that name a label first, for messages."""
        return f"{self.label_origins[label] if self.label_origins else self.origin}:{self.label_lines[label]}"


@dataclass(frozen=True, repr=False)
class Joined:
    """Predictions beside the truth, for the videos that both sides have.

    Args:
        logits: float64 [V, C], log of the scores; -inf where a label is not named. A score of 0 that is named is
            between: below all others, later ones lower; its exponential is 0 all the same.
        named: int64 [V], how many labels each answer names.
        truth: its V samples are those with an answer, in the order of the rows.
        failures: of videos that the truth has.
        only_predicted, only_labelled: videos that one side has, in its order; one that failed is on both.
        by_file_name: videos that were found by their file name alone.
    """

    logits: NDArray[np.float64]
    named: NDArray[np.int64]
    truth: Tested
    failures: tuple[Failed, ...]
    only_predicted: tuple[str, ...]
    only_labelled: tuple[str, ...]
    by_file_name: int

    def __repr__(self) -> str:
        return f"Joined({list(self.logits.shape)}, {len(self.failures)} failures)"


def read_predictions(path: str | Path, *, copy: Path | None = None, is_part: bool = False) -> Predictions:
    """Return the predictions of a file, in any form that `bike classify -o` writes; others need no cosines.

    The same answer twice for a video is used once, with a warning; so is one that was cut short left out.

    Args:
        copy: where that lies which came through the pipe `path`.
        is_part: whether it may hold no answer, as one of more parts than there are videos.
    Raises:
        UsageError: the file cannot be read or holds no answer; a record that is malformed, has a score outside [0, 1]
            or a label twice; another answer for a video.
    """
    taken = _Taken(str(path))
    for answer in read_answers(Path(path), copy=copy):
        taken.add(answer)
    predictions = taken.whole()
    if not is_part and not predictions.videos and not predictions.failures:
        raise UsageError(f"{path}: is empty, it holds no answer; give what bike classify -o wrote")
    return predictions


def join(predictions: Predictions, truth: Tested, *, unknown: str | None = None) -> Joined:
    """Return the predictions of the videos that the truth knows, as scores of its labels.

    Videos are the same where their names are; of others, where they name the same file from here; of others, where
    their file names are, and no other video on either side has that one. Labels are found as `finder` does.

    Args:
        unknown: the class whose videos are of none of the labels, as somebody named it.
    Raises:
        UsageError: no video in common, a label that the truth does not know, two labels that are one there.
    """
    columns = _columns(predictions, truth, has_unknown=unknown is not None)
    failed = {failure.path: failure for failure in predictions.failures}
    ids = [sample.source.id for sample in truth.samples]
    matched = _matched(ids, [*predictions.videos, *failed])
    by_name = [(id_, name) for id_, name in matched.items() if id_ != name and _from_here(id_) != _from_here(name)]
    if by_name:
        text = "%s: %s matched with labels by file name alone, first %s with %s"
        logger.warning(text, predictions.origin, count_of(by_name), by_name[0][1], by_name[0][0])
    row_of = {name: i for i, name in enumerate(predictions.videos)}
    kept = [i for i, id_ in enumerate(ids) if matched.get(id_) in row_of]
    if not kept:
        raise _nothing_in_common(predictions, ids, matched)
    rows = [row_of[matched[ids[i]]] for i in kept]
    taken = set(matched.values())
    return Joined(
        _logits(predictions, rows, columns, classes=len(truth.labels)),
        np.diff(predictions.starts)[rows],
        _only(truth, kept),
        tuple(failed[matched[id_]] for id_ in ids if matched.get(id_) in failed),
        only_predicted=tuple(name for name in (*predictions.videos, *failed) if name not in taken),
        only_labelled=tuple(id_ for id_ in ids if id_ not in matched),
        by_file_name=len(by_name),
    )


# -- records --------------------------------------------------------------------------------------------------------


class _Taken:
    """The records of a file so far."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self._rows: dict[str, int] = {}
        self._failures: dict[str, tuple[Failed, int]] = {}
        self._places: defaultdict[str, int] = defaultdict()
        self._places.default_factory = self._places.__len__
        self._lines, self._label_lines, self._starts = array("q"), array("q"), array("q", [0])
        self._labelled, self._scores, self._cosines = array("i"), array("d"), array("f")
        self._models: dict[str, None] = {}
        self._settings: dict[str, None] = {}
        self._again: list[int] = []

    def add(self, answer: Answer) -> None:
        """Take a record, or raise UsageError where it is none or unlike an earlier one of its video."""
        where, record = f"{self.origin}:{answer.line}", answer.record
        path = record.get("path") if isinstance(record, dict) else None
        if not isinstance(record, dict) or not isinstance(path, str):
            raise UsageError(f"{where}: is no answer of bike, as it has no 'path'; remove it")
        if record.get("status") == "error":
            self._add_failure(_failed(where, path, record.get("error")), answer.line)
        elif record.get("status") == "ok" and isinstance(record.get("top"), list) and record["top"]:
            self._add_top(path, record["top"], answer.line)
            for known, name in ((self._models, "model"), (self._settings, "settings")):
                if isinstance(record.get(name), str) and record[name]:
                    known[record[name]] = None
        else:
            raise UsageError(f"{where}: is no answer of bike: 'ok' with a 'top', or 'error'; remove it")

    def whole(self) -> Predictions:
        """Return all that was taken."""
        if self._again:
            text = "%s:%d: %s answered more than once, alike, used once"
            logger.warning(text, self.origin, self._again[0], count_of(self._again))
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
        )

    def _add_failure(self, failure: Failed, line: int) -> None:
        if failure.path in self._rows:
            raise self._other(failure.path, line, self._lines[self._rows[failure.path]])
        first, first_line = self._failures.setdefault(failure.path, (failure, line))
        if first != failure:
            raise self._other(failure.path, line, first_line)
        if first_line != line:
            self._again.append(line)

    def _add_top(self, path: str, top: Sequence[Mapping[str, object]], line: int) -> None:
        if path in self._failures:
            raise self._other(path, line, self._failures[path][1])
        its = self._checked(top, line)
        row = self._rows.setdefault(path, len(self._rows))
        if row < len(self._lines):
            start, stop = self._starts[row], self._starts[row + 1]
            before = (self._labelled[start:stop], self._scores[start:stop], self._cosines[start:stop])
            # By their bytes, as NaN is unlike itself.
            if [numbers.tobytes() for numbers in its] != [numbers.tobytes() for numbers in before]:
                raise self._other(path, line, self._lines[row])
            self._again.append(line)
            return
        self._labelled.extend(its[0])
        self._scores.extend(its[1])
        self._cosines.extend(its[2])
        self._lines.append(line)
        self._starts.append(len(self._labelled))

    def _checked(self, top: Sequence[Mapping[str, object]], line: int) -> tuple[array[int], array[float], array[float]]:
        """Return the places, scores and cosines of an answer."""
        where, known = f"{self.origin}:{line}", len(self._places)
        try:
            labels: list[str] = list(map(itemgetter("label"), top))
            scores: array[float] = array("d", map(itemgetter("score"), top))
            cosines = _cosines(top)
            places: array[int] = array("i", map(self._places.__getitem__, labels))
        except (KeyError, TypeError, AttributeError, OverflowError) as e:
            raise UsageError(f"{where}: has a 'top' without labels, each with a number as its score; remove it") from e
        if not all(isinstance(label, str) for label in labels):
            raise UsageError(f"{where}: has a label that is no text; remove the record")
        self._label_lines.extend([line] * (len(self._places) - known))
        if len(set(places)) < len(places):
            twice = Counter(labels).most_common(1)[0][0]
            raise UsageError(f"{where}: names the label {twice!r} twice; remove one")
        numbers = np.asarray(scores)
        wrong = ~((numbers >= 0) & (numbers <= 1))  # NaN, too
        if wrong.any():
            i = int(wrong.argmax())
            raise UsageError(
                f"{where}: score {scores[i]} of {labels[i]!r} is not from 0 to 1; fix or remove the record"
            )
        return places, scores, cosines

    def _other(self, path: str, line: int, first: int) -> UsageError:
        return UsageError(f"{self.origin}:{line}: {path} has another answer at {self.origin}:{first}; keep one")


def _cosines(top: Sequence[Mapping[str, object]]) -> array[float]:
    cosines = [ranked.get("cosine") for ranked in top]  # other programs have none
    return array("f", [float("nan") if cosine is None else cosine for cosine in cosines])  # type: ignore[misc]


def _failed(where: str, path: str, error: object) -> Failed:
    told = error if isinstance(error, dict) else {}
    kind, message = told.get("type"), told.get("message", "")
    if not isinstance(kind, str) or not isinstance(message, str):
        raise UsageError(f"{where}: has the status 'error', and no 'error' with its type; remove it")
    return Failed(path, kind, message)


# -- beside the truth -----------------------------------------------------------------------------------------------


def _columns(predictions: Predictions, truth: Tested, *, has_unknown: bool) -> NDArray[np.int64]:
    """Return the place in the truth of each label of the predictions; warn of those that none stands for."""
    is_by_id = truth.names == tuple(map(str, range(len(truth.names))))
    find = finder(truth.labels) if is_by_id else finder(truth.labels, truth.names)
    columns: dict[int, str] = {}
    for i, label in enumerate(predictions.labels):
        where, place = predictions.where_named(i), find(label)
        if place is None:
            near, count = nearest(label, truth.labels), len(truth.labels)
            fact = f"label {label!r} is none of the {count} that videos may have; the nearest is {near!r}"
            none = "" if has_unknown else ", and with --unknown the one whose videos are of none of them"
            raise UsageError(f"{where}: {fact}; name all classes with --names{none}")
        if columns.setdefault(place, label) != label:
            fact = f"labels {columns[place]!r} and {label!r} are both {truth.labels[place]!r} of the labelled videos"
            raise UsageError(f"{where}: {fact}; keep one")
    never = [label for i, label in enumerate(truth.labels) if i not in columns]
    if never:
        none = "" if has_unknown else "; if its videos are of none of the labels, name it with --unknown"
        text = "%s: names %d of %d labels, so no video can be found to be %r%s"
        logger.warning(text, predictions.origin, len(columns), len(truth.labels), never[0], none)
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
    """Return the whole path without what only spells it otherwise, `./` and `a/../`; nothing is looked up."""
    return os.path.abspath(path)  # noqa: PTH100 - Path.absolute keeps a/../


def _file_name(path: str) -> str:
    return PurePosixPath(path).name


def _unique(paths: Iterable[str], form: Callable[[str], str]) -> Mapping[str, str]:
    """Return the paths whose form no other has, by that form."""
    by_form: dict[str, str | None] = {}
    for path in paths:
        one = form(path)
        by_form[one] = None if one in by_form else path
    return {one: path for one, path in by_form.items() if path is not None}


def _nothing_in_common(predictions: Predictions, ids: Sequence[str], matched: Mapping[str, str]) -> UsageError:
    if matched:
        fact = f"{count_of(list(matched))} with labels failed, none has an answer"
        return UsageError(f"{predictions.origin}: {fact}; fix what failed first: {predictions.failures[0].message}")
    names = (*predictions.videos, *(failure.path for failure in predictions.failures))
    by_file = {_file_name(id_): id_ for id_ in reversed(ids)}
    alike = next(((name, by_file[_file_name(name)]) for name in names if _file_name(name) in by_file), None)
    name, id_ = alike or (names[0], ids[0])
    why = " by name, and file names come more than once" if alike else ""
    fact = f"has no video in common with the labelled ones{why}: {name} here, {id_} there"
    return UsageError(f"{predictions.origin}: {fact}; name videos alike, or check the root")


def _logits(
    predictions: Predictions, rows: Sequence[int], columns: NDArray[np.int64], *, classes: int
) -> NDArray[np.float64]:
    """Return the log of the scores of some videos, [V, C]; see `Joined`."""
    logits = np.full((len(rows), classes), -np.inf)
    starts = predictions.starts
    for first in range(0, len(rows), _VIDEOS_AT_ONCE):
        block = np.array(rows[first : first + _VIDEOS_AT_ONCE], dtype=np.int64)
        counts = starts[block + 1] - starts[block]
        rank = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # from 0 in each video
        labelled = np.repeat(starts[block], counts) + rank
        scores = predictions.scores[labelled]
        logs = np.log(scores, out=_LEAST - 1.0 - rank, where=scores > 0)
        at = np.repeat(np.arange(first, first + len(block)), counts)
        logits[at, columns[predictions.places[labelled]]] = logs
    return logits


def _only(truth: Tested, kept: Sequence[int]) -> Tested:
    new = {old: i for i, old in enumerate(kept)}
    samples: tuple[Sample, ...] = tuple(truth.samples[i] for i in kept)
    splits = tuple(tuple(new[i] for i in split if i in new) for split in truth.splits)
    return replace(truth, samples=samples, splits=splits)
