"""Fine-tuning: labelled videos in, a model of one's own out, through a folder from which it can go on at any moment.

FOLDER/config.json, model.safetensors   the best model so far, as every --model takes it
FOLDER/config.yaml                      what was asked for, as --config takes it
FOLDER/labels.txt                       the labels, as --labels of classify takes them
FOLDER/metrics.jsonl                    a line for each step and each validation
FOLDER/report.json                      what it came to; there when the run is complete
FOLDER/checkpoints/                     where training stands; see `snapshots.py`
FOLDER/fine_tuned/                      with wise_ft: the best model before it was mixed with the one it began as
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from bike_cli.config import FinetuneConfig, Recipe
from bike_cli.data.labelled.train_sets import LabelledSet
from bike_cli.data.labels import fill, read_templates
from bike_cli.data.lexicons import lexicon_names
from bike_cli.engine.engine import Engine
from bike_cli.engine.models.checkpoints import BIKE_RECIPE
from bike_cli.engine.models.folder import CONFIG_FILE, load_folder, save_folder
from bike_cli.engine.models.weights import UNWRITABLE, first_line
from bike_cli.engine.scoring import unit
from bike_cli.engine.spotting import ClassTexts
from bike_cli.engine.towers.augmentation import Augmentation
from bike_cli.engine.voters import Voters, voters
from bike_cli.errors import ConfigError, UsageError
from bike_cli.inference.prepare import encode_labels
from bike_cli.inference.processes import Processes
from bike_cli.records import Failure
from bike_cli.settings import flatten
from bike_cli.tasks.finetune.attribute_branch import (
    AttributeTraining,
    Told,
    attribute_scores_of,
    best_weight,
    lexicon_of,
    told_of,
)
from bike_cli.tasks.finetune.learner import Learner, Learning
from bike_cli.tasks.finetune.loading import Loader, plans_of
from bike_cli.tasks.finetune.plan import FREE, SIDED, _with_head, loss_of
from bike_cli.tasks.finetune.rehearsal import Rehearsal
from bike_cli.tasks.finetune.run_folder import FINE_TUNED, RunFolder
from bike_cli.tasks.finetune.sharding import check_sharding, copy_that_learns
from bike_cli.tasks.finetune.validation import Scored, Validated, metrics_of, scored, sides_of
from bike_cli.tasks.finetune.video_branch import Step, VideoTraining, fitting_batch, freeze, learnt_of
from bike_cli.versions import versions
from bike_cli.video.workers.pool import DecodePool

logger = logging.getLogger(__name__)

ROOM = 1.1  # times what a run is known to write, that must be free


class Finetuning:
    """A fine-tuning run; iterate to train. The engine's weights are trained in place.

    Args:
        pool: workers that run already.
        folder: what comes out lies there.
        resume: go on where a run in the folder stands.
    Raises:
        ConfigError, UsageError: what makes no sense together, a folder that holds something else, no room on disk;
            before the first video is read.
    """

    def __init__(
        self,
        engine: Engine,
        labelled: LabelledSet,
        config: FinetuneConfig,
        pool: DecodePool,
        folder: Path,
        *,
        resume: bool = False,
        processes: Processes | None = None,
    ) -> None:
        self.by = processes or Processes()
        self.config, self.labelled, self._pool = config, labelled, pool
        self.loss = loss_of(config, multi_label=labelled.multi_label)
        self.sides = sides_of(labelled, fraction=config.keeping.val_fraction, seed=config.learning.seed)
        self.stop = self.was_stopped = False
        self._best: dict[str, object] = {}
        self._since_best = 0
        self._unread: set[str] = set()
        self._begun_s = time.monotonic()
        self._settings = self._described(engine)
        self.engine = _with_head(engine, config)
        self.engine.check_frames(config.sampling.frames)
        freeze(self.engine, config.learning.freeze)
        self.recipe = self._recipe()
        self.texts, self._text_learning = self._texts()
        self.folder = RunFolder(folder, self.by, resume=resume)
        with ExitStack() as refused:
            refused.callback(self.folder.close)
            self.video = self._video() if self._learns_video else None
            self._start = self._weights() if config.keeping.wise_ft is not None else {}
            if self.by.is_first:
                self.folder.check_room(self._bytes())
            self._go_on()
            refused.pop_all()

    # -- what is asked for ---------------------------------------------------------------------------------------

    @property
    def _learns_video(self) -> bool:
        return self.config.learning.branch != "attributes"

    @property
    def _learns_words(self) -> bool:
        return self.config.learning.branch != "video"

    @property
    def done(self) -> int:
        """The steps of the video branch that are done."""
        video = self.video
        return 0 if video is None else video.position.epoch * video.steps + video.position.batch

    @property
    def metric(self) -> str:
        """The one that decides which model is the best."""
        return "map" if self.labelled.multi_label else "top1"

    def _recipe(self) -> Recipe:
        own, spotting = self.engine.recipe, self.config.spotting
        # A CLIP that nothing was validated for is trained as the paper does.
        own = replace(BIKE_RECIPE, lexicon=own.lexicon) if own == Recipe(lexicon=own.lexicon) else own
        learnt = lexicon_of(self.engine, self.config) if self._learns_words else own.lexicon
        return Recipe(
            spot=spotting.spot or own.spot,
            temperature=own.temperature if spotting.temperature is None else spotting.temperature,
            template=self.config.template or own.template,
            lexicon=learnt if learnt in lexicon_names() else own.lexicon,  # a file may not be there later
        )

    def _texts(self) -> tuple[ClassTexts, Learning | None]:
        recipe, labels = self.recipe, self.labelled.labels
        text = encode_labels(self.engine, labels, template=recipe.template, spot=recipe.spot)
        tokens, mask = voters(text, recipe.spot)
        learning = None
        if self._learns_video and any(p.requires_grad for p in self.engine.encoder.model.transformer.parameters()):
            templates = read_templates(recipe.template)
            if len(templates) > 1:
                raise ConfigError(f"template {recipe.template!r}: is a set, and a text tower learns from one; name one")
            prompts = tuple(fill(templates[0], label) for label in labels)
            learning = Learning(prompts, recipe.spot, mask, tokens.shape[1])
        self._warn_of_unknown(labels, text_learns=learning is not None)
        return self._class_texts(text.classes, tokens, mask), learning

    def _warn_of_unknown(self, labels: Sequence[str], *, text_learns: bool) -> None:
        unknown = self.engine.encoder.unknown(labels)
        if unknown and not text_learns:
            # Their texts are alike, and stay so.
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            text = "label %r%s: %s knows none of its words, so texts may be alike; --freeze none lets it learn them"
            logger.warning(text, labels[unknown[0]], more, self.engine.name)

    def _class_texts(self, classes: Tensor, tokens: Tensor, mask: Tensor | None) -> ClassTexts:
        voting = None if self.config.spotting.pool == "mean" else Voters.among(unit(tokens), mask)
        return ClassTexts(unit(classes), voting, self.recipe.temperature)

    def _video(self) -> VideoTraining:
        config, batches = self.config, self.config.batches
        engine = self.engine
        if batches.strategy == "fsdp" and self.by.count > 1:
            check_sharding(engine)
            engine = copy_that_learns(engine)
        engine.encoder.model.set_grad_checkpointing(batches.checkpointing)
        learner = Learner(
            engine,
            self.texts,
            learning=self._text_learning,
            loss=self.loss,
            parts=batches.accumulate or 1,
            processes=self.by,
            scale_learns=self.engine.encoder.model.logit_scale.requires_grad,
            compiled=config.engine.compile,
            strategy=batches.strategy,
        )
        loader = Loader(
            self.engine,
            self.sides.train,
            self._pool,
            frames=config.sampling.frames,
            seed=config.learning.seed,
            augmentation=self.augmentation,
            classes=len(self.labelled.labels) if self.labelled.multi_label else None,
            processes=self.by,
        )
        size = batches.batch_size
        if size == "auto":
            size = fitting_batch(learner, engine, config.sampling.frames, most=len(self.sides.train))
        return VideoTraining(engine, learner, loader, self.sides.train, config, batch_size=size, processes=self.by)

    @property
    def augmentation(self) -> Augmentation | None:
        """How videos are varied; None: not at all."""
        batches = self.config.batches
        if not batches.augment:
            return None
        flips = batches.flip == "yes" or (batches.flip == "auto" and self.sided is None)
        return Augmentation(crops=True, flip=flips, jitter=batches.jitter)

    @property
    def sided(self) -> str | None:
        """The first label that says left or right: mirrored, its videos would be another's."""
        return next((label for label in self.labelled.labels if set(label.lower().split()) & set(SIDED)), None)

    # -- training ------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Step | Validated]:
        """Yield steps and validations as they are done; stop early where `stop` is set, with a checkpoint."""
        if self.folder.is_complete:
            return
        if self.video is not None:
            for record in self._train_video(self.video):
                self.folder.log(record)
                yield record
            if self.was_stopped:
                return
        if self._learns_words:
            for record in self._train_words():
                self.folder.log(record)
                yield record
            if self.was_stopped:
                return
        self.folder.finish(self._report())

    def _train_video(self, video: VideoTraining) -> Iterator[Step | Validated]:
        learning, keeping = self.config.learning, self.config.keeping
        if video.position.epoch == video.position.batch == 0 and not self._best:
            yield self._validated("video", 0)
        saved_s = time.monotonic()
        while video.position.epoch < learning.epochs and not self._is_over:
            for step in video.epoch():
                yield step
                is_due = time.monotonic() - saved_s > 60 * keeping.save_minutes
                stop, is_due = self._agreed(self.stop, is_due)
                if stop or is_due:
                    self._save(step.step)
                    saved_s = time.monotonic()
                if stop:
                    self.was_stopped = True
                    return
            # Validation takes its time, and may be killed.
            self._save((video.position.epoch + 1) * video.steps)
            video.end_epoch()
            yield self._validated("video", video.position.epoch)
            self._save(video.position.epoch * video.steps)
            saved_s = time.monotonic()
            if video.position.epoch < learning.epochs and self._agreed(self.stop)[0]:
                self.was_stopped = True
                return
        self._take_best()
        if keeping.wise_ft is not None:
            yield self._mixed(keeping.wise_ft)

    @property
    def _is_over(self) -> bool:
        early = self.config.keeping.early_stop
        return early is not None and self._since_best >= early

    def _agreed(self, *flags: bool) -> tuple[bool, ...]:
        """Return which flags any process has raised."""
        if self.by.count == 1:
            return flags
        raised = self.by.gather(torch.tensor([flags]))
        return tuple(raised.any(dim=0).tolist())

    def _validated(self, what: str, epoch: int) -> Validated:
        if self.video is not None and self.video.learner.is_sharded:
            self.video.tell(self.engine)
        found = self._scored()
        metrics = metrics_of(found.scores, found.samples, multi_label=self.labelled.multi_label)
        is_best = epoch > 0 and ("epoch" not in self._best or metrics[self.metric] > self._best["value"])  # type: ignore[operator]
        if is_best:
            self._best |= {"epoch": epoch, "value": metrics[self.metric], "metrics": dict(metrics)}
            self._keep(self.folder.path)
        elif epoch == 0:
            self._best["start"] = dict(metrics)
        self._since_best = 0 if is_best or epoch == 0 else self._since_best + 1
        return Validated(what, epoch, metrics, is_best, len(found.samples), len(found.failures))

    def _scored(self) -> Scored:
        """Say how right the engine is, with the weights that it has."""
        sampling, texts = self.config.sampling, self.texts_now()
        found = scored(self.engine, texts, self.sides.val, sampling, self._pool, self.by)
        self._tell_unread(found.failures)
        return found

    def _tell_unread(self, failures: Sequence[Failure]) -> None:
        """Name what cannot be validated on, once and in one process."""
        for failure in failures:
            if failure.source.id not in self._unread:
                self._unread.add(failure.source.id)
                if self.by.is_first:
                    logger.warning("%s", failure.message)

    def texts_now(self) -> ClassTexts:
        """Return the texts as the text tower reads them now."""
        learning = self._text_learning
        if learning is None:
            return self.texts
        text = self.engine.encode_texts(learning.prompts, positions=learning.positions)
        return self._class_texts(text.classes, *voters(text, learning.positions))

    def _mixed(self, share: float) -> Validated:
        """Go back towards the weights it began with, and keep that; the best as it was lies beside."""
        if self.by.is_first:
            self._keep(self.folder.path / FINE_TUNED)
        with torch.no_grad():
            for name, weight in self._weights_in_place().items():
                if name in self._start:
                    weight.lerp_(self._start[name].to(weight.device), 1 - share)
        found = self._scored()
        metrics = metrics_of(found.scores, found.samples, multi_label=self.labelled.multi_label)
        self._best["wise_ft"] = dict(metrics)
        self._keep(self.folder.path)
        return Validated("wise_ft", int(self._best["epoch"]), metrics, True, len(found.samples), len(found.failures))  # type: ignore[call-overload]

    # -- the attribute branch ------------------------------------------------------------------------------------

    def _train_words(self) -> Iterator[Step | Validated]:
        # A new engine: what it remembers of its weights is of before.
        engine = replace(self.engine, encoder=replace(self.engine.encoder), logit_scale=self._logit_scale())
        texts, config = self.texts_now(), self.config
        train, val = (
            told_of(engine, texts, side, config, self._pool, self.by) for side in (self.sides.train, self.sides.val)
        )
        self._tell_unread([*train.failures, *val.failures])
        training = AttributeTraining(engine, train, config, self.labelled.labels, loss=self.loss)
        best: tuple[float, dict[str, Tensor]] = (-1.0, {})
        since_best = 0
        for epoch in range(config.learning.epochs):
            begun_s = time.monotonic()
            for i, (loss, rate) in enumerate(training.epoch(epoch)):
                done, total = epoch * training.steps + i + 1, training.steps * config.learning.epochs
                now_s = time.monotonic()
                yield Step("attributes", epoch + 1, done, total, loss, rate, 0, 0, now_s - begun_s, 0.0, 0)
                begun_s = now_s
                if self._agreed(self.stop)[0]:
                    self.was_stopped = True
                    return
            scores = attribute_scores_of(training.head, val, training.classes)
            metrics = metrics_of(scores, val.samples, multi_label=self.labelled.multi_label)
            is_best = metrics[self.metric] > best[0]
            since_best = 0 if is_best else since_best + 1
            if is_best:
                best = metrics[self.metric], {k: v.clone() for k, v in training.head.state_dict().items()}
                self._best["attributes"] = dict(metrics)
            yield Validated("attributes", epoch + 1, metrics, is_best, len(val.samples), len(val.failures))
            if config.keeping.early_stop is not None and since_best >= config.keeping.early_stop:
                break
        training.head.load_state_dict(best[1])
        yield self._fused(training, val)

    def _fused(self, training: AttributeTraining, val: Told) -> Validated:
        scores = attribute_scores_of(training.head, val, training.classes)
        weight, _ = best_weight(val, scores, multi_label=self.labelled.multi_label)
        metrics = metrics_of(
            (1 - weight) * val.scores + weight * scores, val.samples, multi_label=self.labelled.multi_label
        )
        self.engine = replace(self.engine, attribute_head=training.head)
        self.recipe = replace(self.recipe, attribute_weight=weight)
        self._best |= {"fused": dict(metrics), "attribute_weight": weight}
        self._keep(self.folder.path)
        return Validated("fused", self.config.learning.epochs, metrics, True, len(val.samples), len(val.failures))

    # -- weights and disk ----------------------------------------------------------------------------------------

    def _logit_scale(self) -> float:
        if self.video is None:
            return self.engine.logit_scale
        with torch.no_grad():
            self.engine.encoder.model.logit_scale.copy_(self.video.learner.scale)
        return float(self.video.learner.scale.detach().exp())

    def _weights_in_place(self) -> dict[str, Tensor]:
        assert self.video is not None
        # What the model did not have when it began has nothing to go back to.
        fresh = self.config.learning.head != "none" and self._has_new_head
        learnt = learnt_of(self.engine, self.video.learner)
        return {n: p for n, p in learnt.items() if not (fresh and n.startswith("head."))}

    def _weights(self) -> dict[str, Tensor]:
        return {} if self.video is None else {n: p.detach().cpu().clone() for n, p in self._weights_in_place().items()}

    @property
    def _has_new_head(self) -> bool:
        return bool(self._settings["new_head"])

    def _keep(self, folder: Path) -> None:
        """Write the model as it is now."""
        if not self.by.is_first:
            return
        self._logit_scale()
        engine = replace(self.engine, recipe=self.recipe)
        try:
            save_folder(folder, engine.as_checkpoint(name=self.folder.path.resolve().name))
        except UNWRITABLE as e:
            raise UsageError(
                f"{folder}: cannot be written ({first_line(e)}); make room, and go on with --resume auto"
            ) from e

    def _take_best(self) -> None:
        """Have the weights of the best epoch."""
        assert self.video is not None
        if self.by.is_first:
            # Of a run that ended between, the folder's own is mixed already.
            whole = self.folder.path / FINE_TUNED
            best = load_folder(whole if (whole / CONFIG_FILE).exists() else self.folder.path)
            self.engine.encoder.model.load_state_dict(best.clip.state_dict())
            if self.engine.temporal_head is not None and best.temporal_head is not None:
                self.engine.temporal_head.load_state_dict(best.temporal_head.state_dict())
        self.by.as_first(self.engine.encoder.model)
        if self.engine.temporal_head is not None:
            self.by.as_first(self.engine.temporal_head)
        with torch.no_grad():
            self.video.learner.scale.copy_(self.engine.encoder.model.logit_scale)

    def _save(self, step: int) -> None:
        assert self.video is not None
        if not (self.by.is_first or self.video.learner.is_sharded):
            return
        snapshot = self.video.snapshot(self._settings, {"best": self._best, "since_best": self._since_best})
        if self.by.is_first:
            self.folder.save(step, snapshot)

    def _go_on(self) -> None:
        """Stand where the run in the folder stands, if there is one."""
        snapshot = self.by.from_first(self.folder.snapshot(self._settings) if self.by.is_first else None)
        if self.by.is_first:
            self.folder.begin(self.config, self.labelled.labels)
        if snapshot is None or self.video is None:
            return
        self.video.restore(snapshot)
        self._best = dict(snapshot.state["best"])  # type: ignore[call-overload]
        self._since_best = int(snapshot.state["since_best"])  # type: ignore[call-overload]

    def _bytes(self) -> int:
        weights = sum(p.numel() * p.element_size() for p in self.engine.encoder.model.parameters())
        learnt = 0 if self.video is None else sum(p.numel() * p.element_size() for p in self.video.learnt.values())
        models = 1 if self.config.keeping.wise_ft is None else 2
        # Three checkpoints and a model more, while the oldest is not yet removed.
        return int(ROOM * ((models + 1) * weights + 3 * 3 * learnt))

    def _described(self, engine: Engine) -> dict[str, object]:
        """Return all that a run depends on: what must be the same when it goes on."""
        values = {name: value for name, value in flatten(self.config).items() if name not in FREE}
        data = hashlib.sha256()
        for side in (self.sides.train, self.sides.val):
            for sample in side:
                data.update(f"{sample.source.id}\0{sample.labels}\0".encode("utf-8", "surrogateescape"))
            data.update(b"\1")
        return {
            **values,
            "weights": engine.fingerprint,
            "data": data.hexdigest()[:16],
            "labels": list(self.labelled.labels),
            "new_head": self.config.learning.head != "none" and engine.temporal_head is None,
        }

    @property
    def failures(self) -> int:
        """How many times a video could not be learned from, and how many cannot be validated on."""
        return len(self._unread) + (0 if self.video is None else self.video.position.failures)

    def _report(self) -> dict[str, object]:
        return {
            "metric": self.metric,
            **self._best,
            "train": len(self.sides.train),
            "val": len(self.sides.val),
            "unread": len(self._unread),
            "failures": self.failures,
            "classes": len(self.labelled.labels),
            "settings": self._settings,
            "versions": versions(),
            "seconds": time.monotonic() - self._begun_s,
        }

    # -- a dry run -----------------------------------------------------------------------------------------------

    def rehearse(self) -> Rehearsal:
        """Decode one batch and take its gradients twice, without a step; the second time is what is told."""
        video = self.video
        if video is None:
            raise UsageError(
                "--dry-run: tries a step of the video branch, and only attributes are to learn; leave it out"
            )
        size, learning = video.batch_size, self.config.learning
        labels = [sample.label for sample in self.sides.train]
        plan = plans_of(0, labels, batch_size=size, seed=learning.seed, balanced=False, processes=self.by.count)[:1]
        begun_s = time.monotonic()
        loaded = next(iter(video.loader.batches(plan)))
        load_s = time.monotonic() - begun_s
        for failure in loaded.failures:
            logger.warning("%s", failure.message)
        device, step_s = video.learner.device, 0.0
        for _ in range(2):
            begun_s = time.monotonic()
            video.gradients(loaded)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            step_s = time.monotonic() - begun_s
        video.optimizer.zero_grad()
        memory = torch.cuda.max_memory_allocated(device) // 2**20 if device.type == "cuda" else 0
        steps = video.steps * learning.epochs
        return Rehearsal(
            train=len(self.sides.train),
            val=len(self.sides.val),
            batch_size=size,
            parts=video.learner.parts,
            steps=steps,
            step_s=step_s,
            load_s=load_s,
            hours=steps * max(step_s, load_s) / 3600,
            memory_mib=memory,
            disk_mib=self._bytes() // 2**20,
            failures=len(loaded.failures),
        )
