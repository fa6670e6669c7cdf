"""The clips of a calibration: which of them take part, and what they score."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from bike_cli.config import AttributeConfig, CalibrateConfig
from bike_cli.data.labelled.eval_sets import NONE, EvalSet
from bike_cli.engine.calibration.calibration import MOST_VALUES, check_promise
from bike_cli.engine.engine import Engine
from bike_cli.engine.heads.saved_classifier import SavedClassifier
from bike_cli.errors import UsageError, shorten
from bike_cli.inference.classifier import Scores
from bike_cli.inference.conditions import resolve_attribute_weight
from bike_cli.inference.contents import digests_of
from bike_cli.inference.features import EncodedVideo, Features, Shelf
from bike_cli.inference.label_texts import unknown_labels
from bike_cli.inference.prepare import open_shelf, prepare
from bike_cli.records import Failure, Sample, Timings
from bike_cli.tasks.calibrate.reading import check_single_labels, samples_of_classifier
from bike_cli.video.workers.pool import DecodePool
from bike_cli.wording import all_of, count

logger = logging.getLogger(__name__)

EMPTY = hashlib.sha256().digest()  # of a file without content
SEED = 0  # of the draw among more clips than a calibration keeps
NAMED = 3  # labels in a warning


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores of some clips.

    Args:
        values: float64 [n], how well the best label fits: its cosine, averaged over views, or the measure of a saved
            classifier.
        logits: float64 [n, C].
        truth: int64 [n], index of the label, -1 for a clip that shows none of them.
    """

    values: NDArray[np.float64]
    logits: NDArray[np.float64]
    truth: NDArray[np.int64]

    def at(self, places: NDArray[np.int64] | NDArray[np.bool_]) -> Scored:
        """Return the scores of some of the clips."""
        return Scored(self.values[places], self.logits[places], self.truth[places])

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether the best label of each clip is its own, bool [n]; never for a clip without a label."""
        return np.asarray(self.logits.argmax(axis=1) == self.truth)


@dataclass(eq=False)
class CalibrationClips:
    """Labelled clips, and their scores once `read` is exhausted.

    Raises:
        UsageError: several labels per clip, attributes that count, no label that the model knows, a label that the
            classifier does not have, or fewer known clips than the promise needs.
    """

    engine: Engine
    eval_set: EvalSet
    config: CalibrateConfig
    pool: DecodePool  # running workers, made with the sampling and decoding of the config
    spent: Timings = field(default_factory=Timings)
    saved: SavedClassifier | None = None  # None: cosines with the labels decide

    def __post_init__(self) -> None:
        check_single_labels(self.eval_set)
        _check_attributes(self.engine, self.config, self.saved)
        if self.saved is None:
            self.labels, samples = self._known_labels()
        else:
            self.labels, samples = self.saved.labels, samples_of_classifier(self.eval_set, self.saved.labels)
        self.available = sum(sample.label != NONE for sample in samples)
        self.samples = _drawn(samples)
        check_promise(self.config.promise, min(self.available, MOST_VALUES))
        without_attributes = replace(self.config, attributes=AttributeConfig(attributes="off"))
        descriptions = self.eval_set.descriptions if self.saved is None else {}  # a classifier has its own
        described = {k: v for k, v in descriptions.items() if k in set(self.labels)}
        self.classifier = prepare(self.engine, self.labels, without_attributes, self.saved, descriptions=described)
        self.failures: dict[int, Failure] = {}
        self.learned: list[int] = []  # places of clips that the classifier was fitted to
        self.copies: dict[int, int] = {}  # for each copy, the place of the clip that is used instead
        self.digests: dict[int, bytes] = {}  # SHA-256 of the content
        self._rows: dict[int, tuple[float, NDArray[np.float64]]] = {}  # cosine of the best label, and logits [C]

    def read(self) -> Iterator[tuple[int, int, Failure | None]]:
        """Score the clips; yield how many are done, how many there are, and the failure if there is one."""
        total = len(self.samples)
        with open_shelf([self.engine], self.config) as shelf:
            self._digest_all(shelf)
            done = len(self.copies) + len(self.learned)
            for place in sorted(self.failures):
                done += 1
                yield done, total, self.failures[place]
            left_out = {*self.failures, *self.copies, *self.learned}
            places = [i for i in range(total) if i not in left_out]
            for place, outcome in zip(places, self._score(places, shelf), strict=True):
                done += 1
                if isinstance(outcome, Failure):
                    self.failures[place] = outcome
                else:
                    self._rows[place] = outcome
                yield done, total, outcome if isinstance(outcome, Failure) else None

    @property
    def scored(self) -> Scored:
        """The scores of all clips that could be read, those that show none of the labels last.

        Raises:
            UsageError: no known clip could be read.
        """
        places = sorted(self._rows, key=lambda place: (self.samples[place].label == NONE, place))
        if not places or self.samples[places[0]].label == NONE:
            why = next((self.failures[place].message for place in sorted(self.failures)), "no videos")
            raise UsageError(f"videos: none of the known ones can be used ({why}); fix them")
        rows = [self._rows[place] for place in places]
        return Scored(
            np.array([value for value, _ in rows]),
            np.stack([logits for _, logits in rows]),
            np.array([self.samples[place].label for place in places], dtype=np.int64),
        )

    @property
    def contents(self) -> frozenset[str]:
        """The SHA-256 of each clip with scores, in hex."""
        return frozenset(self.digests[place].hex() for place in self._rows)

    # -- which clips take part ---------------------------------------------------------------------------------------

    def _known_labels(self) -> tuple[tuple[str, ...], list[Sample]]:
        """Return the labels that the model knows a word of, and the clips that have one of them or none."""
        labels, samples = self.eval_set.labels, self.eval_set.samples
        described = {} if self.config.descriptions == "off" else self.eval_set.descriptions
        unknown = set(unknown_labels(self.engine, labels, described))
        if not unknown:
            return labels, list(samples)
        known = tuple(label for label in labels if label not in unknown)
        if not known:
            raise UsageError(f"labels: {self.engine.name} knows none of their words; choose another model")
        place = {label: i for i, label in enumerate(known)} | dict.fromkeys(unknown)
        clips = sum(labels[sample.label] in unknown for sample in samples if sample.label != NONE)
        logger.warning(
            "%s: %s knows none of the words, so %s with %s",
            *(name_some(sorted(unknown), "label"), self.engine.name),
            *("they take no part" if len(unknown) > 1 else "it takes no part", count(clips, "clip")),
        )
        kept = [(s, NONE if s.label == NONE else place[labels[s.label]]) for s in samples]
        return known, [Sample(sample.source, label) for sample, label in kept if label is not None]

    def _digest_all(self, shelf: Shelf | None) -> None:
        """Find clips that cannot be opened, those that the classifier was trained on, and copies of earlier ones."""
        fitted = frozenset[str]() if self.saved is None else self.saved.contents
        first: dict[bytes, int] = {}
        digests = digests_of([sample.source for sample in self.samples], self.pool, shelf)
        for place, digest in enumerate(digests):
            if isinstance(digest, Failure):
                self.failures[place] = digest
                continue
            self.digests[place] = digest
            if digest.hex() in fitted:
                self.learned.append(place)
                continue
            original = place if digest == EMPTY else first.setdefault(digest, place)
            if original != place:
                self._leave_out(place, original)
        if self.learned:
            self._warn_of_learned()

    def _warn_of_learned(self) -> None:
        """Say which clips are left out, as the classifier was fitted to them and knows them too well."""
        names = [self.samples[place].source.id for place in self.learned]
        more = len(names) - NAMED
        shown = all_of([*names[:NAMED], *([f"{more:,} more"] if more > 0 else [])])
        verb = "are" if len(names) > 1 else "is"
        logger.warning(
            "%s: %s left out, because the classifier was trained on %s", shown, verb, "it" if verb == "is" else "them"
        )

    def _leave_out(self, place: int, original: int) -> None:
        copy, kept = self.samples[place], self.samples[original]
        if copy.label != kept.label:
            names = (self._name(sample.label) for sample in (copy, kept))
            raise UsageError(
                f"{copy.source.id}: is the same video as {kept.source.id}, but one is {' and one '.join(names)}; keep "
                "the right one"
            )
        self.copies[place] = original
        logger.warning("%s: is the same video as %s, and is counted once", copy.source.id, kept.source.id)

    def _name(self, label: int) -> str:
        return "none of the labels" if label == NONE else repr(self.labels[label])

    # -- scores ------------------------------------------------------------------------------------------------------

    def _score(
        self, places: Sequence[int], shelf: Shelf | None
    ) -> Iterator[tuple[float, NDArray[np.float64]] | Failure]:
        sources = [self.samples[place].source for place in places]
        features = Features(sources, [self.engine], self.config.sampling, pool=self.pool, shelf=shelf, spent=self.spent)
        for batch in features:
            videos = [video for video in batch if not isinstance(video, Failure)]
            scores = iter(self.classifier.scores(videos))
            for video in batch:
                yield video if isinstance(video, Failure) else self._row(video, next(scores))

    def _row(self, video: EncodedVideo, scores: Scores) -> tuple[float, NDArray[np.float64]] | Failure:
        source = video[0].source
        if video[0].warning is not None:
            logger.warning("%s: %s", source.id, video[0].warning)
        logits = scores.logits[0].double().numpy()
        value = float(scores.fits)
        if not (np.isfinite(logits).all() and np.isfinite(value)):
            message = f"{source.id}: the scores of {self.engine.name} are NaN or infinite; try --precision fp32"
            return Failure(source, "no_number", message)
        return value, logits


def _check_attributes(engine: Engine, config: CalibrateConfig, saved: SavedClassifier | None) -> None:
    weight = resolve_attribute_weight(config.attributes, engine)
    if saved is not None and config.attributes.attribute_weight is None:
        weight = saved.attributes.attribute_weight or 0.0  # as in `prepare`
    if weight > 0:
        raise UsageError(
            f"attributes: count with weight {weight:g}, and a calibration is of the video alone; give "
            "--attribute-weight 0, here and to bike classify",
            settings=("attribute_weight", "attribute_model"),
        )


def _drawn(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Return the clips to read, in their order: at most 10,000 with a label, and as many without."""
    places: list[int] = []
    for is_known in (True, False):
        of_kind = [i for i, sample in enumerate(samples) if (sample.label != NONE) == is_known]
        if len(of_kind) > MOST_VALUES:
            kind = "labelled clips" if is_known else "clips without a label"
            logger.warning("%s of %s: are drawn with seed 0 and used", f"{MOST_VALUES:,}", f"{len(of_kind):,} {kind}")
            of_kind = np.random.default_rng(SEED).choice(of_kind, MOST_VALUES, replace=False).tolist()
        places += of_kind
    return tuple(samples[i] for i in sorted(places))


def name_some(labels: Sequence[str], noun: str, plural: str | None = None) -> str:
    """Return labels for a warning: "label 'a'", "labels 'a', 'b', 'c' and 4 more"."""
    shown = [repr(shorten(label, 60)) for label in labels[:NAMED]]
    more = [f"{len(labels) - NAMED} more"] if len(labels) > NAMED else []
    return f"{noun if len(labels) == 1 else plural or noun + 's'} {all_of([*shown, *more])}"
