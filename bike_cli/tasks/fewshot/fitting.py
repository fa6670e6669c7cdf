"""The fitting phase: every method learns from every draw and is scored on its test videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from bike_cli.config import DrawConfig, TrainingRecord
from bike_cli.data.labelled.draws import Draw
from bike_cli.data.labels import read_templates
from bike_cli.engine.engine import Engine
from bike_cli.engine.heads.few_shot import Head, Views, as_views, zero_shot
from bike_cli.engine.heads.saved_classifier import SavedClassifier
from bike_cli.engine.heads.shot_distances import fit_distances, knows_classes
from bike_cli.engine.models.parts import Checkpoint
from bike_cli.engine.scoring import fuse
from bike_cli.errors import UsageError
from bike_cli.inference.classifier import AttributeBranch, Classifier
from bike_cli.inference.features import Features
from bike_cli.inference.prepare import prepare
from bike_cli.inference.processes import ProcessGroup
from bike_cli.records import Clip, Failure, Prediction, Timings
from bike_cli.tasks.evaluate.metrics import confusion
from bike_cli.tasks.evaluate.score_table import ScoreTable, score_samples
from bike_cli.tasks.fewshot.drawing import Draws
from bike_cli.tasks.fewshot.held_out import with_calibration
from bike_cli.tasks.fewshot.methods import BASELINE, METHODS, TRAINED
from bike_cli.tasks.fewshot.report import Outcome
from bike_cli.tasks.fewshot.tower_training import ShotTraining
from bike_cli.tasks.fewshot.videos import Videos, VideoView, stack_views
from bike_cli.video.workers.pool import DecodePool

Result = TypeVar("Result")


@dataclass(eq=False)
class Fitting:
    """Fits every method to every draw."""

    classifier: Classifier
    config: DrawConfig
    methods: Sequence[str]  # the baseline first, the method to save last
    videos: Videos  # all videos of `draws` have been read
    draws: Draws
    pool: DecodePool
    processes: ProcessGroup  # they share the fits of `tables`
    spent: Timings  # decoding and encoding times are added to it
    _trained_engine: Engine | None = field(default=None, init=False)  # of the first draw with the most shots

    # -- results -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def outcomes(self) -> tuple[Outcome, ...]:
        """Return the outcome of each method, number of shots and trial, in this order."""
        return tuple(
            self._outcome(method, shots, trial)
            for method in self.methods
            for shots in self.draws.shots
            for trial in range(len(self.draws.trials))
        )

    def tables(self) -> Mapping[tuple[str, int], list[ScoreTable]]:
        """Return the scores of each method and number of shots: one table per trial.

        The baseline learns from no video, so it has one entry, with the most shots.
        """
        # In reverse, so that the first process trains the model that is saved and explained.
        fits = [
            (method, shots, trial)
            for method in reversed(self.methods)
            for shots in (reversed(self.draws.shots) if method != BASELINE else [max(self.draws.shots)])
            for trial in range(len(self.draws.trials))
        ]
        tables = self.processes.merge_shards([self._table(*fit) for fit in self.processes.shard(fits)])
        by_method: dict[tuple[str, int], list[ScoreTable]] = {(method, shots): [] for method, shots, _ in fits[::-1]}
        for (method, shots, _), table in zip(fits, tables, strict=True):
            by_method[method, shots].append(table)
        return by_method

    def explain(self, rows: Sequence[int]) -> list[tuple[Clip, Prediction]]:
        """Return frames and explained answers for some test videos of the first draw; see `Study.look`."""
        labels = self.classifier.labels
        if self.methods[-1] != TRAINED:
            classifier = prepare(self.classifier.engine, labels, self.config, self.saved_classifier())
        else:
            classifier = prepare(self.trained_engine, labels, self.config, from_videos=len(labels))
        test = self.draws.trials[0].test
        return classifier.explain([self.videos.samples[test[row]].source for row in rows], self.pool)

    @property
    def trained_engine(self) -> Engine:
        """The engine that `bike` trained on the first draw with the most shots; ValueError: none was trained yet."""
        if self._trained_engine is None:
            raise ValueError("no model was trained yet; call report or tables, with bike as the last method")
        return self._trained_engine

    def model(self, *, also: Sequence[str] = ()) -> Checkpoint:
        """Return the trained model; see `Study.model`."""
        engine, config = self.trained_engine, self.config
        recipe = replace(
            engine.recipe,
            spot=config.spotting.spot or engine.recipe.spot,
            temperature=self.classifier.texts.temperature,
            template=config.template or engine.recipe.template,
        )
        training = TrainingRecord(self.classifier.labels, config.sampling, config.spotting.pool, tuple(also))
        trained = replace(engine, recipe=recipe, training=training)
        return trained.as_checkpoint(name=f"{engine.name}, few-shot")

    @torch.no_grad()
    def saved_classifier(self, *, also: Sequence[str] = ()) -> SavedClassifier:
        """Return the classifier to save; see `Study.classifier`."""
        method, shots, config = self.methods[-1], max(self.draws.shots), self.config
        if method == TRAINED:
            raise ValueError("bike trains a model, not a classifier on frozen features; call model")
        classifier, engine, branch = self.classifier, self.classifier.engine, self._branch
        template = config.template or engine.recipe.template
        drawn, samples, digests = self.draws.trials[0], self.videos.samples, self.videos.digests
        videos = [
            {"path": samples[place].source.id, "label": i, "sha256": digests[place].hex()}
            for i, places in enumerate(drawn.shots)
            for place in places[:shots]
        ]
        learned = _first_shots(drawn, shots)
        views, classes = self._views(learned), self._classes(learned)
        knows = knows_classes(views, classes, classifier.texts.classes)
        saved = SavedClassifier(
            labels=classifier.labels,
            also=tuple(also),
            method=method,
            model=config.engine.model,
            fingerprint=engine.fingerprint,
            sampling=config.sampling,
            pool=config.spotting.pool,
            spot=config.spotting.spot or engine.recipe.spot,
            temperature=classifier.texts.temperature,
            template=template,
            templates=read_templates(template),
            attributes=replace(config.attributes, attribute_weight=0.0 if branch is None else branch.weight),
            head=self._fit(method, drawn, shots),
            manifest={"seed": config.seed, "shots": shots, "videos": videos},
            descriptions=classifier.descriptions,
            description_use=config.descriptions if classifier.descriptions else "add",
            measure="cosine" if knows else "distance",
            distances=None if knows else fit_distances(views, classes),
        )
        test = drawn.test
        truth, contents = [samples[place].label for place in test], [digests[place].hex() for place in test]
        return with_calibration(saved, classifier, self._views(test), truth, contents)

    # -- one draw ----------------------------------------------------------------------------------------------------

    def _outcome(self, method: str, shots: int, trial: int) -> Outcome:
        logits, chosen = self._score(method, shots, trial)
        guesses = logits.argmax(dim=1).cpu().numpy().astype(np.int64)
        test = self.draws.trials[trial].test
        truth = np.array([self.videos.samples[place].label for place in test], dtype=np.int64)
        counts = confusion(truth, guesses, len(self.classifier.labels))
        return Outcome(method, shots, trial, counts, guesses == truth, np.array(test, dtype=np.int64), chosen)

    @torch.no_grad()
    def _table(self, method: str, shots: int, trial: int) -> ScoreTable:
        samples = [self.videos.samples[place] for place in self.draws.trials[trial].test]
        logits = self._score(method, shots, trial)[0].double().cpu().numpy()
        return score_samples(self.classifier.labels, samples, logits)

    def _score(self, method: str, shots: int, trial: int) -> tuple[Tensor, Mapping[str, float]]:
        """Return the logits [V, C] of a draw's test videos, and the constants that the fit chose."""
        drawn = self.draws.trials[trial]
        if method == TRAINED:
            head, views = self._train(drawn, shots, trial)
        else:
            head, views = self._fit(method, drawn, shots), self._views(drawn.test)
        return self._fuse_attributes(head.logits(views), drawn.test), head.chosen

    def _fit(self, method: str, drawn: Draw, shots: int) -> Head:
        places, texts = _first_shots(drawn, shots), self.classifier.texts.classes
        return METHODS[method](self._views(places), self._classes(places), texts, self.classifier.engine.logit_scale)

    def _classes(self, places: Sequence[int]) -> Tensor:
        labels = [self.videos.samples[place].label for place in places]
        return torch.tensor(labels, device=self.classifier.texts.classes.device)

    def _views(self, places: Sequence[int]) -> Views:
        return stack_views([self.videos.views[place] for place in places], len(self.classifier.labels))

    def _train(self, drawn: Draw, shots: int, trial: int) -> tuple[Head, Views]:
        """Train an image tower; return the text head, and the test videos as this tower sees them."""
        places, classifier, samples = _first_shots(drawn, shots), self.classifier, self.videos.samples
        texts = classifier.texts
        decoded = [self.pool.decode(samples[place].source) for place in places]
        clips = [_still_readable(future.result()).frames[0] for future in decoded]
        labels = torch.tensor([samples[place].label for place in places])
        training = ShotTraining(classifier.engine, clips, labels, texts, seed=self.config.seed + trial)
        for _ in training:
            pass
        if trial == 0 and shots == max(self.draws.shots):
            self._trained_engine = training.engine
        sources = [samples[place].source for place in drawn.test]
        features = Features(sources, (training.engine,), self.config.sampling, pool=self.pool, spent=self.spent)
        videos = [_still_readable(outcome)[0] for batch in features for outcome in batch]
        views = [VideoView(*as_views(video.scored_frames.to(texts.classes.device), texts)) for video in videos]
        head = zero_shot(texts.classes, classifier.engine.logit_scale)
        return head, stack_views(views, len(classifier.labels))

    @property
    def _branch(self) -> AttributeBranch | None:
        """The attribute branch, if it counts."""
        branch = self.classifier.branch
        return None if branch is None or not branch.weight else branch

    def _fuse_attributes(self, logits: Tensor, places: Sequence[int]) -> Tensor:
        if self._branch is None:
            return logits
        views = [self.videos.views[place] for place in places]
        scores = torch.cat([view.attribute_scores for view in views if view.attribute_scores is not None])
        return fuse(logits, self._branch.scaled(scores, like=logits), weight=1 - self._branch.weight)


def _first_shots(drawn: Draw, shots: int) -> list[int]:
    return [place for places in drawn.shots for place in places[:shots]]


def _still_readable(outcome: Result | Failure) -> Result:
    """Return the result for a video that could be read before, or raise UsageError if it no longer can."""
    if isinstance(outcome, Failure):
        raise UsageError(f"{outcome.message} (it was readable a moment ago; do not change the videos during the run)")
    return outcome
