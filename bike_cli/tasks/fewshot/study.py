"""A handful of labelled videos in, an honest report and a classifier to keep out.

Every video is looked at once, through the same door as `classify`; all that follows works on frozen features.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bike_cli.config import AttributeConfig, ClassifyConfig, FewshotConfig
from bike_cli.data.labelled.draws import Deal, Draw, deal, draw
from bike_cli.data.labelled.train_sets import LabelledSet
from bike_cli.data.labels import read_templates
from bike_cli.data.lines import key
from bike_cli.engine.engine import Engine
from bike_cli.engine.heads.few_shot import Head, Views, as_views, zero_shot
from bike_cli.engine.heads.saved_classifier import Learnt
from bike_cli.engine.models.parts import Checkpoint
from bike_cli.engine.scoring import fuse
from bike_cli.engine.store.store import Store, open_store
from bike_cli.errors import UsageError
from bike_cli.inference.classifier import AttributeBranch
from bike_cli.inference.contents import digest_of_all, digests_of
from bike_cli.inference.features import Features, Seen
from bike_cli.inference.prepare import prepare, shelf_of
from bike_cli.inference.processes import Processes
from bike_cli.records import Clip, Failure, Prediction, Spent
from bike_cli.tasks.evaluate.evaluation import provenance
from bike_cli.tasks.evaluate.metrics import confusion
from bike_cli.tasks.evaluate.report import Provenance
from bike_cli.tasks.evaluate.score_table import ScoreTable
from bike_cli.tasks.fewshot.methods import BASELINE, METHODS, TRAINED, parse_methods, parse_shots
from bike_cli.tasks.fewshot.outcomes import Outcome, Report
from bike_cli.tasks.fewshot.tower_training import ShotTraining
from bike_cli.video.workers.pool import DecodePool

logger = logging.getLogger(__name__)

Came = TypeVar("Came")
EMPTY = hashlib.sha256().digest()
DEFAULT_SHOTS = (1, 2, 4, 8, 16)  # as far as the smallest class goes


@dataclass(frozen=True, eq=False)
class _View:
    """A video as classes see it: frames [K T, D], weights [C or 1, K T]; and what its attributes say, [1, C]."""

    frames: Tensor
    weights: Tensor
    told: Tensor | None

    def to(self, device: torch.device) -> _View:
        told = None if self.told is None else self.told.to(device)
        return _View(self.frames.to(device), self.weights.to(device), told)


@dataclass(eq=False)
class Study:
    """A few-shot run: `read` first, then `report`, and `learnt` for a classifier to keep.

    Args:
        labelled: its samples are told by their places: those of `train`, then those of `test`.
        pool: workers that run already.
        by: the processes that share the videos and, in `tables`, the fits; each ends with all that was read.
    Raises:
        UsageError: numbers of shots, methods or trials that make no sense, or that the data cannot bear.
    """

    engine: Engine
    labelled: LabelledSet
    config: FewshotConfig
    pool: DecodePool
    by: Processes = field(default_factory=Processes)
    spent: Spent = field(default_factory=Spent)

    def __post_init__(self) -> None:
        self._begun_s = time.monotonic()
        self.methods = parse_methods(self.config.method)
        self.samples = (*self.labelled.train, *(self.labelled.test or ()))
        tested = range(len(self.labelled.train), len(self.samples))
        self._test = None if self.labelled.test is None else tuple(tested)
        if self._test is not None and self.config.test_fraction is not None:
            raise UsageError(
                "test_fraction: holds videos back for testing, but the data have a test side; leave it out"
            )
        self.shots = self._numbers_of_shots()
        self._deals = self._dealt()
        labels = self.labelled.labels
        self._classifier = prepare(self.engine, labels, self._classifying(), from_videos=len(labels))
        self._views: dict[int, _View] = {}
        self._digests: dict[int, bytes] = {}
        self._failures: dict[int, Failure] = {}
        self._left_out: dict[int, int] = {}
        self._trained_engine: Engine | None = None
        self._draws()  # what cannot work is told before anything is read

    @property
    def trains_model(self) -> bool:
        """Whether what is to be kept is a model, and no classifier on frozen features."""
        return self.methods[-1] == TRAINED

    def model(self) -> Checkpoint:
        """Return the model to keep that `bike` has trained, with the most shots, of the first draw.

        Raises:
            ValueError: none was trained; `report` trains, where the last method is `bike`.
        """
        if self._trained_engine is None:
            raise ValueError("no model was trained yet; call report, with bike as the last method")
        spotting, recipe = self.config.spotting, self.engine.recipe
        own = replace(
            recipe,
            spot=spotting.spot or recipe.spot,
            temperature=self._classifier.texts.temperature,
            template=self.config.template or recipe.template,
        )
        return replace(self._trained_engine, recipe=own).as_checkpoint(name=f"{self.engine.name}, few-shot")

    def check_also(self, also: Sequence[str]) -> None:
        """Raise UsageError where further labels are among those that are learnt."""
        known = {key(label): label for label in self.labelled.labels}
        twice = next((label for label in also if key(label) in known), None)
        if twice is not None:
            raise UsageError(f"label {twice!r}: is learnt from videos already; leave it out of --also")

    # -- reading -------------------------------------------------------------------------------------------------

    def read(self) -> Iterator[tuple[int, int, Failure | None]]:
        """Look at every video that is drawn or tested on; yield how many are done, of how many, and what failed.

        Of several processes each yields what it has to do itself.

        Raises:
            UsageError: too few videos of a class can be read; a video that is there twice with different labels.
        """
        done = 0
        with ExitStack() as stack:
            store, shelf = open_store(self.config.store), None
            if store is not None:
                stack.enter_context(store)
                shelf = shelf_of(store, self._classifier.engines, self._classifier.config)
            # All, though not all are drawn: which copy of a video is left out must not depend on what is drawn.
            self._digest(range(len(self.samples)), store)
            # Before anything is drawn: a draw that fails for them does so after each is named.
            refused = sorted(self._failures)
            for place in refused:
                done += 1
                yield done, len(refused), self._failures[place]
            while missing := self._missing():
                own = self.by.share(missing)
                total = done + len(own)
                found = []
                for came in self._seen(own, shelf):
                    done += 1
                    found.append(came if isinstance(came, Failure) else self._viewed(came))
                    yield done, total, came if isinstance(came, Failure) else None
                self._take(missing, self.by.unshare(found))

    def _seen(self, places: Sequence[int], shelf: object) -> Iterator[Seen | Failure]:
        sources = [self.samples[place].source for place in places]
        features = Features(
            sources,
            self._classifier.engines,
            self.config.sampling,
            pool=self.pool,
            shelf=shelf,  # type: ignore[arg-type]
            spent=self.spent,
        )
        for batch in features:
            yield from batch

    @torch.no_grad()
    def _viewed(self, seen: Seen) -> _View:
        own, classifier = seen.features[0], self._classifier
        device = classifier.texts.classes.device
        frames, weights = as_views(own.scored_frames.to(device), classifier.texts)
        branch, told = self._branch, None
        if branch is not None:
            raw = seen.features[-1].frames.to(device)  # of the branch's engine, the last
            told = branch.scores(branch.describe(raw.flatten(0, 1)[None])[0])
        if own.warning is not None:
            logger.warning("%s: %s", own.source.id, own.warning)
        return _View(frames, weights, told).to(torch.device("cpu") if self.by.count > 1 else device)

    def _take(self, places: Sequence[int], came: Sequence[_View | Failure]) -> None:
        """Note what came of videos, from this process or another."""
        for place, one in zip(places, came, strict=True):
            if isinstance(one, Failure):
                self._failures[place] = one
            else:
                self._views[place] = one.to(self._classifier.texts.classes.device)

    def _digest(self, places: Sequence[int], store: Store | None) -> None:
        """Note the content of videos; a copy of one that is tested on, or seen before, is left out."""
        sources = self.by.share([self.samples[place].source for place in places])
        found = self.by.unshare(list(digests_of(sources, self.pool, store)))
        for place, digest in zip(places, found, strict=True):
            if isinstance(digest, Failure):
                self._failures[place] = digest
            else:
                self._digests[place] = digest
        self._leave_copies_out()

    def _leave_copies_out(self) -> None:
        kept: dict[bytes, int] = {}
        # What is tested on stays, and what would be learned from is left out.
        for place in sorted(self._digests, key=lambda place: (place < len(self.labelled.train), place)):
            if self._digests[place] == EMPTY:
                continue  # nothing can be read from it, which its decoder says
            first = kept.setdefault(self._digests[place], place)
            if first == place or place in self._left_out:
                continue
            self._refuse_two_labels(first, place)
            self._left_out[place] = first
            logger.warning(
                "%s: is the same video as %s, and is left out",
                self.samples[place].source.id,
                self.samples[first].source.id,
            )

    def _refuse_two_labels(self, first: int, second: int) -> None:
        one, other = self.samples[first], self.samples[second]
        if one.label != other.label:
            labels = self.labelled.labels
            raise UsageError(
                f"{other.source.id}: is the same video as {one.source.id}, but one is {labels[other.label]!r} and one "
                f"{labels[one.label]!r}; keep the right one"
            )

    def _missing(self) -> list[int]:
        known = (self._views, self._failures, self._left_out)
        return [place for place in self._needed() if not any(place in places for places in known)]

    def _needed(self) -> list[int]:
        return sorted({place for drawn in self._draws() for place in chain(*drawn.shots, drawn.test)})

    # -- drawing -------------------------------------------------------------------------------------------------

    def _numbers_of_shots(self) -> tuple[int, ...]:
        smallest = min(sum(s.label == i for s in self.labelled.train) for i in range(len(self.labelled.labels)))
        if self.config.shots != "auto":
            return parse_shots(self.config.shots)
        room = smallest if self._test is not None else smallest - 1
        if self.config.test_fraction is not None:
            room = smallest - max(1, round(self.config.test_fraction * smallest))
        found = tuple(shots for shots in DEFAULT_SHOTS if shots <= room)
        if not found and self.config.test_fraction is not None:
            raise UsageError(
                f"test_frac: holds all {smallest} videos of the smallest class back, and none is left to draw; "
                "give less"
            )
        if not found:
            raise UsageError("shots: the smallest class has one video, and none is left to test on; add videos")
        return found

    def _dealt(self) -> tuple[Deal, ...]:
        samples, config = self.labelled.train, self.config
        names = self.labelled.names
        return tuple(
            deal(samples, names, seed=config.seed, trial=trial, test_fraction=config.test_fraction)
            for trial in range(config.trials)
        )

    def _draws(self) -> tuple[Draw, ...]:
        unusable = {*self._failures, *self._left_out} if hasattr(self, "_left_out") else set()
        draws = self._drawn(unusable)
        if any(not drawn.test for drawn in draws):
            raise UsageError("test: no video is left to test on; give more of them")
        return draws

    def _drawn(self, unusable: set[int]) -> tuple[Draw, ...]:
        names, test = self.labelled.names, self._test
        reasons = {place: failure.message for place, failure in self._failures.items()}
        while True:
            most = max(self.shots)
            try:
                return tuple(
                    draw(dealt, names, most=most, unusable=unusable, test=test, reasons=reasons)
                    for dealt in self._deals
                )
            except UsageError:
                # As far as the data go: not so far, as it turns out.
                if self.config.shots != "auto" or len(self.shots) == 1:
                    raise
                self.shots = self.shots[:-1]

    # -- fitting -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def report(self) -> Report:
        """Fit every method to every draw, and test it; all videos must have been read.

        Raises:
            UsageError: as `read` does.
        """
        draws = self._draws()
        outcomes = [
            self._outcome(method, shots, trial, drawn)
            for method in self.methods
            for shots in self.shots
            for trial, drawn in enumerate(draws)
        ]
        return Report(
            labels=self.labelled.labels,
            names=self.labelled.names,
            outcomes=tuple(outcomes),
            draws=draws,
            samples=self.samples,
            digests=self._digests,
            failures=self._failures,
            left_out=self._left_out,
            engine=self.engine,
            config=self.config,
            spent=self.spent,
            seconds=time.monotonic() - self._begun_s,
        )

    def tables(self) -> Mapping[tuple[str, int], list[ScoreTable]]:
        """Return what each method with each number of shots says of the test set of each draw.

        All videos must have been read. The baseline, which learns from none, is there once, with the most shots.
        """
        # The first of them is what is kept, and looked at again: the first process must have trained it.
        asked = [
            (method, shots, trial)
            for method in reversed(self.methods)
            for shots in (reversed(self.shots) if method != BASELINE else [max(self.shots)])
            for trial in range(self.config.trials)
        ]
        found = self.by.unshare([self._table(*one) for one in self.by.share(asked)])
        of_each: dict[tuple[str, int], list[ScoreTable]] = {(method, shots): [] for method, shots, _ in reversed(asked)}
        for (method, shots, _), table in zip(asked, found, strict=True):
            of_each[method, shots].append(table)
        return of_each

    @torch.no_grad()
    def _table(self, method: str, shots: int, trial: int) -> ScoreTable:
        drawn = self._draws()[trial]
        names = tuple(self.samples[place].source.id for place in drawn.test)
        logits = self._scored(method, shots, trial, drawn)[0].double().cpu().numpy()
        return ScoreTable(self.labelled.labels, names, logits, self._truth(drawn))

    def look(self, rows: Sequence[int]) -> list[tuple[Clip, Prediction]]:
        """Return some videos' frames and answers with what decided; without those not read now.

        The answers are the last method's, with the most shots, of the first draw.

        Args:
            rows: of the tables of the first draw.
        Raises:
            ValueError: the last method is `bike`, and no model was trained yet.
        """
        config, labels = replace(self.config.classifying, explain=True, top=1), self.labelled.labels
        if not self.trains_model:
            classifier = prepare(self.engine, labels, config, self.learnt())
        elif self._trained_engine is None:
            raise ValueError("no model was trained yet; call tables first")
        else:
            classifier = prepare(self._trained_engine, labels, config, from_videos=len(labels))
        test = self._draws()[0].test
        clips = self._decoded([test[row] for row in rows])
        return [(clip, classifier.answer(clip)) for clip in clips if isinstance(clip, Clip)]

    @property
    def failures(self) -> Mapping[int, Failure]:
        """What could not be read, by place."""
        return self._failures

    @property
    def provenance(self) -> Provenance:
        """What the answers depend on, besides the method."""
        return provenance(self._classifier)

    @property
    def contents(self) -> str:
        """The hash of what all videos hold, and of their labels."""
        digests = [self._digests.get(place) for place in range(len(self.samples))]
        return digest_of_all(digests, [sample.label for sample in self.samples])

    @property
    def used(self) -> int:
        """How many videos were read and are no copies."""
        return len(self._views)

    @torch.no_grad()
    def learnt(self, *, also: Sequence[str] = ()) -> Learnt:
        """Return a classifier to keep: the last method's, with the most shots, of the first draw.

        Raises:
            ValueError: the last method is `bike`, which trains a `model`.
        """
        if self.trains_model:
            raise ValueError("bike trains a model, which is no classifier on frozen features; see model")
        method, shots, config = self.methods[-1], max(self.shots), self.config
        recipe, classifier = self.engine.recipe, self._classifier
        drawn = self._draws()[0]
        return Learnt(
            labels=self.labelled.labels,
            also=tuple(also),
            method=method,
            model=config.engine.model,
            fingerprint=self.engine.fingerprint,
            sampling=config.sampling,
            pool=config.spotting.pool,
            spot=config.spotting.spot or recipe.spot,
            temperature=classifier.texts.temperature,
            template=config.template or recipe.template,
            templates=read_templates(config.template or recipe.template),
            attributes=replace(config.attributes, attribute_weight=self._branch.weight if self._branch else 0.0),
            head=self._fitted(method, drawn, shots),
            manifest={
                "seed": config.seed,
                "shots": shots,
                "videos": [
                    {"path": self.samples[p].source.id, "label": i, "sha256": self._digests[p].hex()}
                    for i, places in enumerate(drawn.shots)
                    for p in places[:shots]
                ],
            },
        )

    def _fitted(self, method: str, drawn: Draw, shots: int) -> Head:
        places = [place for of_class in drawn.shots for place in of_class[:shots]]
        text = self._classifier.texts.classes
        classes = torch.tensor([self.samples[place].label for place in places], device=text.device)
        return METHODS[method](self._stacked(places), classes, text, self.engine.logit_scale)

    def _outcome(self, method: str, shots: int, trial: int, drawn: Draw) -> Outcome:
        logits, chosen = self._scored(method, shots, trial, drawn)
        guesses = logits.argmax(dim=1).cpu().numpy().astype(np.int64)
        truth = self._truth(drawn)
        counts = confusion(truth, guesses, len(self.labelled.labels))
        return Outcome(method, shots, trial, counts, guesses == truth, chosen)

    def _scored(self, method: str, shots: int, trial: int, drawn: Draw) -> tuple[Tensor, Mapping[str, float]]:
        """Return the logits [n, C] of a draw's test set, and what the fit chose."""
        if method == TRAINED:
            head, views = self._trained(drawn, shots, trial)
        else:
            head, views = self._fitted(method, drawn, shots), self._stacked(drawn.test)
        return self._fused(head.logits(views), drawn.test), head.chosen

    def _truth(self, drawn: Draw) -> NDArray[np.int64]:
        return np.array([self.samples[place].label for place in drawn.test], dtype=np.int64)

    @property
    def _branch(self) -> AttributeBranch | None:
        """The branch of attributes, where it counts."""
        branch = self._classifier.branch
        return None if branch is None or not branch.weight else branch

    def _fused(self, logits: Tensor, places: Sequence[int]) -> Tensor:
        if self._branch is None:
            return logits
        told = torch.cat([one for place in places if (one := self._views[place].told) is not None])
        return fuse(logits, self._branch.scaled(told, like=logits), weight=1 - self._branch.weight)

    def _classifying(self) -> ClassifyConfig:
        """Return how videos are to be seen; attributes that count for nothing are not looked for."""
        config, wanted = self.config.classifying, self.config.attributes
        is_asked_for = wanted.attribute_weight or wanted.attribute_model is not None
        if is_asked_for or (wanted.attribute_weight is None and self.engine.attribute_head is not None):
            return config
        return replace(config, attributes=AttributeConfig(attributes="off"))

    def _trained(self, drawn: Draw, shots: int, trial: int) -> tuple[Head, Views]:
        """Return the text's own head, and the test set as an image tower sees it that was trained on the shots."""
        places = [place for of_class in drawn.shots for place in of_class[:shots]]
        texts = self._classifier.texts
        clips = [self._again(came).frames[0] for came in self._decoded(places)]
        labels = torch.tensor([self.samples[place].label for place in places])
        training = ShotTraining(self.engine, clips, labels, texts, seed=self.config.seed + trial)
        for _ in training:
            pass
        if trial == 0 and shots == max(self.shots):
            self._trained_engine = training.engine
        features = Features(
            [self.samples[place].source for place in drawn.test],
            (training.engine,),
            self.config.sampling,
            pool=self.pool,
            shelf=None,
            spent=self.spent,
        )
        seen = [self._again(came).features[0] for batch in features for came in batch]
        views = [as_views(features.scored_frames.to(texts.classes.device), texts) for features in seen]
        return zero_shot(texts.classes, self.engine.logit_scale), self._together(views)

    def _decoded(self, places: Sequence[int]) -> list[Clip | Failure]:
        coming = [self.pool.decode(self.samples[place].source) for place in places]
        return [one.result().outcome for one in coming]

    @staticmethod
    def _again(came: Came | Failure) -> Came:
        """Return what came of a video that could be read before, or raise UsageError where it no longer can."""
        if isinstance(came, Failure):
            raise UsageError(f"{came.message} (it could be read a moment ago; leave the videos alone meanwhile)")
        return came

    def _stacked(self, places: Iterable[int]) -> Views:
        """Return videos together; where one has fewer frames, zeros that weigh nothing stand behind them."""
        return self._together([(view.frames, view.weights) for view in map(self._views.__getitem__, places)])

    def _together(self, views: Sequence[tuple[Tensor, Tensor]]) -> Views:
        views = [(frames, weights.expand(len(self.labelled.labels), -1)) for frames, weights in views]
        length = max(len(frames) for frames, _ in views)
        pad = torch.nn.functional.pad
        frames = torch.stack([pad(frames, (0, 0, 0, length - len(frames))) for frames, _ in views])
        return Views(frames, torch.stack([pad(w, (0, length - w.shape[1])) for _, w in views]))
