"""Fine-tuning: labelled videos in, a model out, in a folder from which a run can be resumed at any time.

FOLDER/config.json, model.safetensors   the best model so far, for --model
FOLDER/config.yaml                      the configuration of the run, for --config
FOLDER/labels.txt                       the labels, for --labels of classify
FOLDER/metrics.jsonl                    one line per step and per validation
FOLDER/report.json                      the results; written when the run is complete
FOLDER/checkpoints/                     while it is not; see `snapshots.py`
FOLDER/fine_tuned/                      with wise_ft: the best model before its weights were mixed
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from bike_cli.config import Device, EngineConfig, FinetuneConfig, Precision
from bike_cli.data.labelled.train_sets import TrainSet, read_labelled
from bike_cli.engine.engine import Engine, load
from bike_cli.engine.towers.text_tower import set_grad_checkpointing
from bike_cli.errors import UsageError
from bike_cli.inference.processes import ProcessGroup
from bike_cli.settings import build
from bike_cli.tasks.finetune.attribute_branch import AttributeTraining, describe_videos
from bike_cli.tasks.finetune.keeping import BestModel, disk_space_needed, initial_weights
from bike_cli.tasks.finetune.learner import Learner
from bike_cli.tasks.finetune.loading import Loader
from bike_cli.tasks.finetune.plan import RunPlan, plan_run
from bike_cli.tasks.finetune.rehearsal import Rehearsal, fitting_batch, fitting_parts, rehearse
from bike_cli.tasks.finetune.run_folder import RunFolder, RunReport
from bike_cli.tasks.finetune.sharding import check_sharding, copy_trained_weights
from bike_cli.tasks.finetune.snapshots import RunResults
from bike_cli.tasks.finetune.validation import Validation, Validator
from bike_cli.tasks.finetune.video_branch import Step, VideoTraining
from bike_cli.versions import versions
from bike_cli.video.workers.pool import DecodePool

_MOVED = {  # attributes of the run in 0.1
    **{name: f"plan.{name}" for name in ("augmentation", "labelled", "loss", "metric", "recipe", "texts")},
    "sided": "plan.sided_label",
    "sides": "plan",  # it has `train` and `val`
}


class Finetuning:
    """A fine-tuning run. Iterate over it to train; it yields steps and validations.

    The engine's weights are trained in place. The folder is locked until the run is complete or closed.

    Args:
        pool: running decode workers.
        folder: where model, log and checkpoints are written.
        resume: continue the run in the folder, if there is one.
        dry_run: for `rehearse` alone; the folder is checked, but nothing in it is created or changed.
        processes: the processes that train together; None: this one alone.
    Attributes:
        engine: the model that is trained.
        plan: what is trained, on which videos.
        stop: set it to True to stop after the current step, with a checkpoint.
        was_stopped: whether that happened.
    Raises:
        ConfigError, UsageError: before the first video is read: settings that contradict one another or the data, a
            folder with other content, a full disk.
    """

    def __init__(
        self,
        engine: Engine,
        labelled: TrainSet,
        config: FinetuneConfig,
        pool: DecodePool,
        folder: Path,
        *,
        resume: bool = False,
        dry_run: bool = False,
        processes: ProcessGroup | None = None,
    ) -> None:
        self._start_s = time.monotonic()
        self.config, self._pool, self.group = config, pool, processes or ProcessGroup()
        self._is_dry_run, self.stop, self.was_stopped = dry_run, False, False
        self.plan = plan = plan_run(engine, labelled, config)
        self.engine = plan.engine
        self._reported: set[str] = set()
        self._validator = Validator(plan, pool, self.group, self._reported)
        self.folder = RunFolder(folder, self.group, resume=resume, dry_run=dry_run)
        with ExitStack() as on_error:
            on_error.callback(self.folder.close)
            self.video = _video_training(plan, pool, self.group, self._reported) if plan.trains_video else None
            trained = {} if self.video is None else self.video.trained
            mixes = config.keeping.wise_ft is not None
            self._disk_bytes = disk_space_needed(plan.engine, trained.values(), models=2 if mixes else 1)
            initial = initial_weights(plan.engine, trained if mixes else (), has_new_head=plan.has_new_head)
            if self.group.is_first:
                self.folder.check_disk_space(self._disk_bytes)
            snapshot = self.folder.begin(config, labelled.labels, plan.settings)
            results, since_best = RunResults(), 0
            if snapshot is not None and self.video is not None:
                self.video.restore(snapshot)
                results, since_best = snapshot.state.best, snapshot.state.since_best
            self._best = BestModel(plan, self.folder, self.group, initial, results, since_best)
            on_error.pop_all()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            if name not in _MOVED:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            warnings.warn(f"Finetuning.{name} is now Finetuning.{_MOVED[name]}", DeprecationWarning, stacklevel=2)
            return attrgetter(_MOVED[name])(self)

    @property
    def done(self) -> int:
        """The completed steps of the video branch."""
        return 0 if self.video is None else self.video.done

    @property
    def failures(self) -> int:
        """How many times a training video could not be read, plus the validation videos that cannot be read."""
        return len(self._validator.unread) + (0 if self.video is None else self.video.position.failures)

    def close(self) -> None:
        """Release the folder; a complete run has done so."""
        self.folder.close()

    def rehearse(self) -> Rehearsal:
        """Try a batch without training, and return what a run would take.

        Raises:
            UsageError: the video branch is not trained.
        """
        if self.video is None:
            raise UsageError(
                "--dry-run: tries a step of the video branch, but only attributes are trained; leave it out"
            )
        return rehearse(self.plan, self.video, disk_bytes=self._disk_bytes)

    def __iter__(self) -> Iterator[Step | Validation]:
        """Train; yield each step and validation as it is done, and write the report at the end."""
        if self._is_dry_run:
            raise UsageError("--dry-run: only tries a batch; leave it out to train")
        if self.folder.is_complete:
            return
        for record in self._train():
            self.folder.log(record)
            yield record
        if not self.was_stopped:
            self.folder.finish(self._report())

    def _train(self) -> Iterator[Step | Validation]:
        if self.video is not None:
            yield from self._train_video(self.video)
        if self.plan.trains_attributes and not self.was_stopped:
            yield from self._train_attributes()

    def _train_video(self, video: VideoTraining) -> Iterator[Step | Validation]:
        learning, keeping = self.config.learning, self.config.keeping
        if video.done == 0 and self._best.results.start is None:
            start = self._validate(video, best=math.inf)
            self._best.add_start(start)
            yield start
        saved_s = time.monotonic()
        while video.position.epoch < learning.epochs and not self.plan.stops_early(self._best.since_best):
            for step in video.epoch():
                yield step
                is_due = time.monotonic() - saved_s > 60 * keeping.save_minutes
                stop, is_due = self.group.any_flags(self.stop, is_due)
                if stop or is_due:
                    self._save(video, step.step)
                    saved_s = time.monotonic()
                if stop:
                    self.was_stopped = True
                    return
            # Save before the validation: it takes long, and the run may be killed meanwhile.
            self._save(video, (video.position.epoch + 1) * video.steps)
            video.end_epoch()
            validation = self._validate(video, best=self._best.results.value)
            self._best.add_epoch(validation)
            yield validation
            self._save(video, video.done)
            saved_s = time.monotonic()
            if video.position.epoch < learning.epochs and self.group.any_flags(self.stop)[0]:
                self.was_stopped = True
                return
        self._best.restore()
        if keeping.wise_ft is not None:
            self._best.mix(keeping.wise_ft)
            mixed = self._validator.validate("wise_ft", self._best.results.epoch or 0, best=None)
            self._best.add_mixed(mixed)
            yield mixed
        self.engine = self.plan.engine.after_training()

    def _validate(self, video: VideoTraining, *, best: float | None) -> Validation:
        video.copy_to(self.plan.engine)
        return self._validator.validate("video", video.position.epoch, best=best)

    def _save(self, video: VideoTraining, step: int) -> None:
        if self.group.is_first or video.learner.is_sharded:
            self.folder.save(step, video.snapshot(self.plan.settings, self._best.results, self._best.since_best))

    def _train_attributes(self) -> Iterator[Step | Validation]:
        plan, epochs, engine = self.plan, self.config.learning.epochs, self.engine
        texts = plan.current_texts()
        train, val = (
            describe_videos(engine, texts, side, plan, self._pool, self.group) for side in (plan.train, plan.val)
        )
        self._validator.report([*train.failures, *val.failures])
        training = AttributeTraining(engine, train, val, plan)
        for epoch in range(epochs):
            for step in training.epoch(epoch):
                yield step
                if self.group.any_flags(self.stop)[0]:
                    self.was_stopped = True
                    return
            yield training.validate(epoch)
            if plan.stops_early(training.since_best):
                break
        weight, validation = training.fuse()
        self.engine = replace(engine, attribute_head=training.head)
        self._best.add_fused(self.engine, weight, validation, attributes=training.best_metrics)
        yield validation

    def _report(self) -> RunReport:
        plan, unread = self.plan, self._validator.unread
        return RunReport(
            metric=plan.metric,
            results=self._best.results,
            train=len(plan.train),
            val=len(plan.val),
            unread=sum(sample.source.id in unread for sample in plan.val),
            failures=self.failures,
            classes=len(plan.labelled.labels),
            settings=plan.settings,
            versions=versions(),
            seconds=time.monotonic() - self._start_s,
            source=plan.engine.source,
        )


@dataclass(frozen=True, eq=False)
class FinetuneResult:
    """The result of fine-tuning.

    Args:
        report: metrics on the validation videos, before and after, and how many videos could not be read.
        folder: the folder of the model, as `bike finetune --save` writes it.
    """

    report: RunReport
    folder: Path

    def load(self, device: Device = "auto", precision: Precision = "auto") -> Engine:
        """Load the trained model, with its labels and settings, for `classify` and other functions."""
        return load(str(self.folder), device, precision)


def finetune(
    engine: Engine | str,
    data: TrainSet | str | Path,
    config: FinetuneConfig | None = None,
    *,
    save: str | Path,
    val: str | Path | None = None,
    multi_label: bool = False,
    resume: bool = False,
    pool: DecodePool | None = None,
    on_record: Callable[[Step | Validation], object] | None = None,
) -> FinetuneResult:
    """Train a model on labelled videos, and write it to a folder.

        result = bike.finetune("tiny", "examples/motions", config, save="actions")
        print(result.report.results.metrics["top1"])
        engine = result.load()

    Args:
        engine: a model or its name. A given model is trained in place; load it again to get the original weights.
        data: class folders, a CSV file (`path,label`) or annotations; or the set that `read_labelled` returns with
            `keep_val=True`.
        config: None: the defaults, with the settings that the model was trained with. Its `engine` section, except
            the model, applies if `engine` is a name.
        save: the folder for the model, its log and its checkpoints; it must be new or empty, unless `resume`.
        val: videos to validate on, in the same form as `data`. None: the validation part of the data, or a share of
            each class.
        multi_label: whether videos have several labels: `path,running;jumping`.
        resume: continue the run that the folder contains, if any.
        pool: a running pool that was made with the sampling and decoding of the config; it keeps running. None: the
            call starts a pool and stops it.
        on_record: called after each step and each validation.
    Raises:
        UsageError: malformed data, settings that do not suit them, or a folder with other content.
    """
    if isinstance(engine, str):
        chosen = EngineConfig() if config is None else config.engine
        engine = load(engine, chosen.device, chosen.precision, offline=chosen.offline, compile=chosen.compile)
    if config is None:
        trained = {} if engine.training is None else engine.training.settings
        config = build(FinetuneConfig, {name: trained[name] for name in trained if name not in ("clips", "crops")})
    labelled = data
    if not isinstance(labelled, TrainSet):
        val = None if val is None else Path(val)
        labelled = read_labelled(str(labelled), val=val, keep_val=True, multi_label=multi_label)
    elif val is not None or multi_label:
        raise TypeError("val and multi_label need data to be a path; a TrainSet has its own")
    with ExitStack() as stack:
        if pool is None:
            most = len(labelled.train) + len(labelled.val or ())
            pool = stack.enter_context(DecodePool(config.sampling, config.decoding, most=most))
        training = Finetuning(engine, labelled, config, pool, Path(save), resume=resume)
        stack.callback(training.close)
        for record in training:
            if on_record is not None:
                on_record(record)
    return FinetuneResult(RunReport.read(Path(save)), Path(save))


def _video_training(plan: RunPlan, pool: DecodePool, group: ProcessGroup, reported: set[str]) -> VideoTraining:
    """Return the training of the plan's video branch; with `fsdp`, of a sharded copy."""
    config, batches, engine = plan.config, plan.config.batches, plan.engine
    if batches.strategy == "fsdp" and group.count > 1:
        check_sharding(engine)
        engine = copy_trained_weights(engine)
    set_grad_checkpointing(engine.encoder.model, batches.checkpointing)
    learner = Learner(
        engine,
        plan.texts,
        text_training=plan.text_training,
        loss=plan.loss,
        parts=batches.accumulate,
        group=group,
        scale_learns=plan.engine.encoder.model.logit_scale.requires_grad,
        compiled=config.engine.compile,
        strategy=batches.strategy,
    )
    train, loader = plan.train, Loader(plan, pool, group)
    size = batches.batch_size
    if size == "auto":
        size = fitting_batch(learner, engine, config.sampling.frames, most=len(train))
    is_alone_on_cpu = learner.device.type == "cpu" and group.count == 1
    if batches.accumulate is None and is_alone_on_cpu and not config.engine.compile:  # a size more to compile
        learner.parts = fitting_parts(learner, engine, config.sampling.frames, videos=min(size, len(train)))
    return VideoTraining(engine, learner, loader, train, config, batch_size=size, reported=reported)
