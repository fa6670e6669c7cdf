"""Evaluate systems on labelled videos. Each video is decoded once for all of them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

from bike_cli.config import EvalConfig, VideoConfig
from bike_cli.data.labelled.eval_sets import EvalSet, read_eval_set
from bike_cli.engine.calibration.calibration import Calibration
from bike_cli.engine.engine import Engine
from bike_cli.errors import UsageError
from bike_cli.inference.classifier import Classifier, Scores
from bike_cli.inference.contents import digest_of_all, digests_of
from bike_cli.inference.features import EncodedVideo, Features
from bike_cli.inference.prepare import counts_attributes, open_shelf, prepare
from bike_cli.inference.processes import ProcessGroup
from bike_cli.inference.rejection import Rejector, make_rejector
from bike_cli.records import Clip, Failure, Prediction, Timings
from bike_cli.settings import build
from bike_cli.tasks.evaluate.mistakes import Mistakes, find_mistakes
from bike_cli.tasks.evaluate.official import OfficialInputs, check_attributes
from bike_cli.tasks.evaluate.open_set import judged, rejection_config
from bike_cli.tasks.evaluate.protocols import unseen_splits, usable_splits
from bike_cli.tasks.evaluate.report import EvaluationReport, Provenance, Value, WeightsSource
from bike_cli.tasks.evaluate.score_table import score_samples
from bike_cli.tasks.evaluate.summary import SystemScores, check_protocol, describe_data, manifest_of, summarise
from bike_cli.video.workers.pool import DecodePool
from bike_cli.wording import count

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class System:
    """A model with a configuration: what an evaluation compares.

    Args:
        name: name in reports.
        engine: a loaded model.
        config: how it classifies and, if it says so, rejects. `evaluate` uses the sampling, decoding and store of its
            own config instead.
    """

    name: str
    engine: Engine
    config: VideoConfig


def evaluate(
    systems: Engine | System | Sequence[Engine | System],
    data: EvalSet | str | Path | Sequence[str | Path],
    config: EvalConfig | None = None,
    *,
    calibration: Calibration | None = None,
    pool: DecodePool | None = None,
) -> EvaluationReport:
    """Evaluate one or more systems on labelled videos, and compare each with the first.

        engine = bike.load("tiny")
        report = bike.evaluate(engine, "examples/by_shape.csv")
        print(report.systems[0].metrics["top1"])  # Metric(value=1.0, low=1.0, high=1.0)
        Path("report.json").write_text(report.to_json())

    Args:
        systems: engines, or `System`s if they differ in more than the model.
        data: class folders, CSV files (`path,label`) or annotation files, or the set that `read_eval_set` returns.
        config: None: the defaults, which are the settings of the training of the first engine that records them. Its
            `engine` section does not count.
        calibration: what `read_calibration` returns. Scores become probabilities, as in `classify`; with
            `config.reject` auto it also decides which videos are rejected.
        pool: workers that are running already, made with the sampling and decoding of the config; they keep running.
            None: the call starts workers and stops them.
    Raises:
        UsageError: no system or two of the same name, malformed data, videos that do not fit the protocol, the protocol
            `fewshot` (use `fewshot`), a calibration that is missing or of another model or other settings, or no video
            that can be evaluated. A video that cannot be read is in
            `report.data.failed` instead.
    """
    given = (systems,) if isinstance(systems, Engine | System) else tuple(systems)
    config = config or _default_config(given)
    if config.protocol == "fewshot":
        problem = "protocol fewshot: learns from some of the videos"
        raise UsageError(f"{problem}; use bike.fewshot, or bike eval", settings=("protocol",))
    files = () if isinstance(data, EvalSet) else (data,) if isinstance(data, str | Path) else tuple(data)
    eval_set = data if isinstance(data, EvalSet) else read_eval_set(files, multi_label=config.protocol == "multilabel")
    compared = [_as_system(system, config) for system in given]
    models = tuple(dict.fromkeys(system.engine.name for system in compared))
    config = replace(config, engine=replace(config.engine, model=models[0])) if models else config
    names = tuple(map(str, files))
    with ExitStack() as stack:
        if pool is None:
            pool = stack.enter_context(DecodePool(config.sampling, config.decoding, most=len(eval_set.samples)))
        evaluation = Evaluation(compared, eval_set, config, pool, calibration=calibration)
        for _ in evaluation.read():
            pass
        return evaluation.report(names, {"data": names, "model": models, "multi_label": eval_set.multi_label})


def _default_config(systems: Sequence[Engine | System]) -> EvalConfig:
    engines = [system if isinstance(system, Engine) else system.engine for system in systems]
    trained = next((engine.training for engine in engines if engine.training is not None), None)
    return EvalConfig() if trained is None else build(EvalConfig, trained.settings)


def _as_system(system: Engine | System, config: EvalConfig) -> System:
    if isinstance(system, Engine):
        return System(system.name, system, config)
    shared = {"sampling": config.sampling, "decoding": config.decoding, "store": config.store}
    return replace(system, config=replace(system.config, **shared))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class _VideoScores:
    """The scores of one video by one system."""

    logits: NDArray[np.float64]  # [C]
    best_cosine: float  # of the best label
    cosines: NDArray[np.float64] | None = None  # [C]; only to leave labels out
    views: NDArray[np.float32] | None = None  # [K, C], cosines; like the other fields, only for official metrics
    frames: NDArray[np.float64] | None = None  # [T, D], raw
    # [C], cosines of the attribute sentence; None where attributes do not count.
    attributes: NDArray[np.float64] | None = None


@dataclass(eq=False)
class Evaluation:
    """An evaluation in steps: exhaust `read`, then ask for the `report`.

    Raises:
        UsageError: no system or two of the same name, videos that do not fit the protocol, unusable settings.
    """

    systems: Sequence[System]
    eval_set: EvalSet
    config: EvalConfig
    pool: DecodePool  # running workers, made with the sampling and decoding of the config
    processes: ProcessGroup = field(default_factory=ProcessGroup)  # those that share the videos
    spent: Timings = field(default_factory=Timings)
    calibration: Calibration | None = None  # what labelled clips say about the scores of all systems

    def __post_init__(self) -> None:
        names = [system.name for system in self.systems]
        if not names:
            raise UsageError("systems: none given; give at least one")
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"systems: two are named {twice!r}; give each its own name")
        check_protocol(self.config, self.eval_set)
        labels, described = self.eval_set.labels, self.eval_set.descriptions
        self._unseen = unseen_splits(self.config, self.eval_set)
        self._classifiers = [prepare(s.engine, labels, s.config, descriptions=described) for s in self.systems]
        self._rejectors = [self._rejector(*each) for each in zip(self.systems, self._classifiers, strict=True)]
        weights = [0.0 if c.branch is None else c.branch.weight for c in self._classifiers]
        check_attributes(self.config, max(weights))
        if self._unseen:
            for classifier in self._classifiers:
                _check_labels_alone(classifier)
        self._engines = list(dict.fromkeys(engine for c in self._classifiers for engine in c.engines))
        self._videos: dict[int, tuple[_VideoScores, ...]] = {}  # by place among the samples
        self._failures: dict[int, Failure] = {}
        self._finite = list(range(len(self.systems)))  # the systems whose scores are not all NaN
        self._digests: list[bytes | None] = []

    def read(self) -> Iterator[tuple[int, int, Failure | None]]:
        """Score this process's videos; yield how many are done, how many there are, and the failure if there is one."""
        samples = self.processes.shard(list(self.eval_set.samples))
        sources, config = [sample.source for sample in samples], self.systems[0].config
        rows: list[tuple[_VideoScores, ...] | Failure] = []
        with open_shelf(self._engines, config) as shelf:
            features = Features(sources, self._engines, config.sampling, pool=self.pool, shelf=shelf, spent=self.spent)
            for batch in features:
                videos = [video for video in batch if not isinstance(video, Failure)]
                scores = zip(*(self._score(classifier, videos) for classifier in self._classifiers), strict=True)
                for video in batch:
                    rows.append(video if isinstance(video, Failure) else next(scores))
                    yield len(rows), len(samples), video if isinstance(video, Failure) else None
            digests = [d if isinstance(d, bytes) else None for d in digests_of(sources, self.pool, shelf)]
        for place, row in enumerate(self.processes.merge_shards(rows)):
            if isinstance(row, Failure):
                self._failures[place] = row
            else:
                self._videos[place] = row
        self._digests = self.processes.merge_shards(digests)
        self._warn_of_calibration_clips()
        self._drop_nan()

    def report(self, files: Sequence[str] = (), arguments: Mapping[str, Value] | None = None) -> EvaluationReport:
        """Return the report on what was read.

        Args:
            files: that name the videos.
            arguments: that `bike eval --from` repeats.
        Raises:
            UsageError: no video can be evaluated.
        """
        systems, places = self._scores, list(self._videos)
        failed = [self._failures[place] for place in sorted(self._failures)]
        contents = digest_of_all(self._digests, [sample.labels for sample in self.eval_set.samples])
        data = describe_data(self.eval_set, files, failed, len(places), contents)
        engine = self.systems[self._finite[0]].engine
        manifest = manifest_of(self.config, engine=engine, model=engine.name, arguments=arguments)
        report = summarise(systems, self.eval_set, places, self.config, data=data, manifest=manifest)
        left_out = tuple(system.name for i, system in enumerate(self.systems) if i not in self._finite)
        return replace(report, systems_left_out=left_out)

    def mistakes(self) -> Mistakes:
        """Return the first system's most confident mistakes; their videos are decoded once more."""
        first = self._scores[0]
        return Mistakes(find_mistakes(first.table, self._explain), first.name if len(self._finite) > 1 else "")

    @cached_property
    def _scores(self) -> list[SystemScores]:
        """The scores of each system that does not only produce NaN, for the videos that could be evaluated."""
        if not self._videos:
            why = next((self._failures[place].message for place in sorted(self._failures)), "no videos")
            raise UsageError(f"videos: none of {len(self._failures)} can be evaluated ({why}); fix them")
        samples, systems = [self.eval_set.samples[place] for place in self._videos], []
        unseen = usable_splits(self._unseen, [np.array([sample.label for sample in samples])])
        for i in self._finite:
            videos, classifier = [scores[i] for scores in self._videos.values()], self._classifiers[i]
            table = score_samples(
                self.eval_set.labels,
                samples,
                np.stack([video.logits for video in videos]),
                multi_label=self.eval_set.multi_label,
                best_cosines=np.array([video.best_cosine for video in videos]),
                cosines=np.stack([v.cosines for v in videos if v.cosines is not None]) if unseen else None,
            )
            official = self._official_inputs(videos, classifier) if self.config.official else None
            draws = tuple(judged(split.of(table), self._rejectors[i]) for split in unseen)
            table = draws[0] if draws else judged(table, self._rejectors[i])
            name, made_of = self.systems[i].name, provenance(classifier)
            systems.append(SystemScores(name, table, official, draws, made_of, unseen))
        return systems

    def _rejector(self, system: System, classifier: Classifier) -> Rejector | None:
        """Return what rejects a system's videos, as `bike classify` does; None if nothing was asked for."""
        # Its threshold does not depend on the labels, so all draws share it.
        labels = self._unseen[0].labels if self._unseen else self.eval_set.labels
        rejector = make_rejector(
            *(system.engine, rejection_config(system.config), labels, (), self.calibration),
            descriptions=classifier.descriptions,
            has_attributes=counts_attributes(classifier),
            saved=None,
        )
        if rejector is not None and self.eval_set.multi_label:
            given = "--calibration" if rejector.least is None else "--reject"
            raise UsageError(f"{given}: needs videos with one label each, and these have several; leave it out")
        return rejector

    def _warn_of_calibration_clips(self) -> None:
        """Warn of videos that the calibration was made with: it knows their cosines."""
        if self.calibration is None or not self.processes.is_first:
            return
        known = self.calibration.contents
        samples = zip(self._digests, self.eval_set.samples, strict=True)
        seen = [sample.source.id for digest, sample in samples if digest is not None and digest.hex() in known]
        if seen:
            logger.warning(
                "--calibration: was made with %s of these, first %s, so the figures of new videos will be worse; "
                "evaluate others",
                *(count(len(seen), "video"), seen[0]),
            )

    def _drop_nan(self) -> None:
        """Drop systems that only produce NaN, then videos for which any remaining system does."""
        if not self._videos:
            return
        rows = self._videos.values()
        finite = np.array([[np.isfinite(scores.logits).all() for scores in row] for row in rows], dtype=np.bool_)
        if not finite.any():  # then every video fails, and says so
            finite[:] = True
        for i in np.flatnonzero(~finite.any(axis=0)):
            if self.processes.is_first:
                name = self.systems[int(i)].name
                logger.warning("%s: all its scores are NaN or infinite, so it is left out; check its weights", name)
        self._finite = [int(i) for i in np.flatnonzero(finite.any(axis=0))]
        for place, row in list(self._videos.items()):
            nan = next((i for i in self._finite if not np.isfinite(row[i].logits).all()), None)
            if nan is not None:
                sample, name = self.eval_set.samples[place], self.systems[nan].name
                message = f"{sample.source.id}: the scores of {name} are NaN or infinite; try --precision fp32"
                del self._videos[place]
                self._failures[place] = Failure(sample.source, "no_number", message)

    def _explain(self, rows: Sequence[int]) -> list[tuple[Clip, Prediction]]:
        """Return the frames of videos and the first system's explained answers; without videos that cannot be read."""
        places = list(self._videos)
        sources = [self.eval_set.samples[places[row]].source for row in rows]
        system, classifier = self.systems[self._finite[0]], self._classifiers[self._finite[0]]
        if draws := self._scores[0].unseen:  # an answer must be one of the labels that remain
            described = {k: texts for k, texts in self.eval_set.descriptions.items() if k in draws[0].labels}
            classifier = prepare(system.engine, draws[0].labels, system.config, descriptions=described)
        return classifier.explain(sources, self.pool)

    def _score(self, classifier: Classifier, videos: Sequence[EncodedVideo]) -> list[_VideoScores]:
        places = [self._engines.index(engine) for engine in classifier.engines]
        videos = [tuple(video[place] for place in places) for video in videos]
        rows = []
        for video, scores in zip(videos, classifier.scores(videos), strict=True):
            logits = scores.logits[0].double().numpy()
            cosines = scores.cosines[0].double().numpy()
            best_cosine = float(cosines[logits.argmax()])
            if not self.config.official:
                rows.append(_VideoScores(logits, best_cosine, cosines if self._unseen else None))
                continue
            frames = video[0].frames.flatten(0, 1).double().cpu().numpy()
            views = scores.view_cosines[0].float().numpy()
            rows.append(_VideoScores(logits, best_cosine, None, views, frames, _attribute_cosines(classifier, scores)))
        return rows

    def _official_inputs(self, rows: Sequence[_VideoScores], classifier: Classifier) -> OfficialInputs:
        views = [row.views for row in rows if row.views is not None]
        frames = [torch.from_numpy(row.frames) for row in rows if row.frames is not None]
        padded = pad_sequence(frames, batch_first=True, padding_value=math.nan).numpy()
        attributes = [row.attributes for row in rows if row.attributes is not None]
        classes = classifier.texts.classes.double().cpu().numpy()
        return OfficialInputs(np.stack(views), padded, classes, np.stack(attributes) if attributes else None)


@torch.no_grad()
def _attribute_cosines(classifier: Classifier, scores: Scores) -> NDArray[np.float64] | None:
    """Return the cosine of a video's attribute sentence with each class, [C]; None where attributes do not count."""
    if classifier.branch is None or classifier.branch.weight == 0:
        return None
    return np.asarray(classifier.branch.scores(scores.attributes[0])[0].double().cpu())


def _check_labels_alone(classifier: Classifier) -> None:
    """Raise UsageError if scores of labels depend on the other labels, so that none can be left out of them."""
    branch = classifier.branch
    if branch is not None and branch.weight > 0 and branch.engine.attribute_head is None:
        problem = "attributes count here, on a scale that depends on all labels"
        raise UsageError(f"--unseen-split: {problem}; give --attribute-weight 0", settings=("unseen_split",))


def provenance(classifier: Classifier) -> Provenance:
    """Return what a classifier's answers depend on, with the values that the model's recipe chose."""
    engine, config, branch = classifier.engine, classifier.config, classifier.branch
    recipe, lexicon, source = engine.recipe, config.attributes.attributes, engine.source
    return Provenance(
        model=engine.name,
        fingerprint=engine.fingerprint,
        template=config.template or recipe.template,
        pool=config.spotting.pool,
        spot=config.spotting.spot or recipe.spot,
        temperature=classifier.texts.temperature,
        attributes=None if branch is None else recipe.lexicon if lexicon == "auto" else lexicon,
        attribute_weight=0.0 if branch is None else branch.weight,
        attribute_model=None if branch is None or branch.engine is engine else branch.engine.name,
        source=None if source is None else WeightsSource(**asdict(source)),
        descriptions=config.descriptions if classifier.descriptions else None,
    )
