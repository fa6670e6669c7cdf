"""What a run is going to train, on which videos, and with which loss, recipe and texts."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from bike_cli.config import RESULTS, FinetuneConfig, Recipe, TrainingRecord
from bike_cli.data.labelled.draws import deal
from bike_cli.data.labelled.train_sets import TrainSet
from bike_cli.data.labels import fill, read_templates
from bike_cli.data.lexicons import lexicon_names, read_lexicon
from bike_cli.engine.engine import Engine
from bike_cli.engine.models.checkpoints import BIKE_RECIPE
from bike_cli.engine.models.parts import new_temporal
from bike_cli.engine.scoring import unit
from bike_cli.engine.spotting import ClassTexts
from bike_cli.engine.towers.augmentation import Augmentation
from bike_cli.engine.towers.neighbours import check_trainable
from bike_cli.engine.voters import Voters, voters
from bike_cli.errors import ConfigError, UsageError
from bike_cli.inference.label_texts import check_no_descriptions, encode_labels, warn_of_unknown
from bike_cli.records import Sample
from bike_cli.settings import settings_affecting
from bike_cli.tasks.finetune.learner import TextTraining
from bike_cli.tasks.finetune.snapshots import RunSettings
from bike_cli.tasks.finetune.video_branch import freeze

logger = logging.getLogger(__name__)

SIDED_WORDS = {"left", "right", "clockwise", "counterclockwise", "anticlockwise"}


@dataclass(frozen=True, eq=False)
class RunPlan:
    """What a run is going to do."""

    engine: Engine  # with the temporal head to train; frozen weights take no gradient
    config: FinetuneConfig
    labelled: TrainSet
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]  # to validate on; test videos are in neither
    loss: str  # nce, ds, ce or bce
    recipe: Recipe  # of the model that is written
    texts: ClassTexts  # the labels, as the engine encoded them at the start
    text_training: TextTraining | None  # how to encode them again; None if the text tower is frozen
    has_new_head: bool  # whether the temporal head starts untrained
    settings: RunSettings

    @property
    def trains_video(self) -> bool:
        """Whether the video branch is trained."""
        return self.config.learning.branch != "attributes"

    @property
    def trains_attributes(self) -> bool:
        """Whether the attribute branch is trained."""
        return self.config.learning.branch != "video"

    @property
    def training(self) -> TrainingRecord:
        """What the model that is written records of its training."""
        return TrainingRecord(self.labelled.labels, self.config.sampling, self.config.spotting.pool)

    @property
    def metric(self) -> str:
        """The metric that decides which model is the best."""
        return "map" if self.labelled.multi_label else "top1"

    @property
    def sided_label(self) -> str | None:
        """The first label that names a side or a direction of rotation, which mirroring would turn into another."""
        return next((label for label in self.labelled.labels if SIDED_WORDS & set(label.lower().split())), None)

    @property
    def augmentation(self) -> Augmentation | None:
        """How training videos are varied; None: not at all."""
        batches = self.config.batches
        if not batches.augment:
            return None
        flips = batches.flip == "yes" or (batches.flip == "auto" and self.sided_label is None)
        return Augmentation(crops=True, flip=flips, jitter=batches.jitter)

    def stops_early(self, since_best: int) -> bool:
        """Return whether this number of epochs without an improvement ends the training early."""
        early_stop = self.config.keeping.early_stop
        return early_stop is not None and since_best >= early_stop

    def current_texts(self) -> ClassTexts:
        """Return the texts as the engine encodes them with its current weights."""
        training = self.text_training
        if training is None:
            return self.texts
        text = self.engine.encode_texts(training.prompts, positions=training.positions)
        return _class_texts(text.classes, *voters(text, training.positions), self.config, self.recipe)


def plan_run(engine: Engine, labelled: TrainSet, config: FinetuneConfig) -> RunPlan:
    """Return the plan of a run; the engine's frozen weights take no gradient from now on.

    Raises:
        ConfigError, UsageError: settings that contradict one another, the data or the model.
    """
    if config.learning.branch != "attributes":
        check_trainable(engine.encoder.model.visual, engine.name)
    check_no_descriptions(labelled.descriptions, config.descriptions, "bike finetune trains with templates alone")
    loss = choose_loss(config, multi_label=labelled.multi_label)
    train, val = split_sides(labelled, fraction=config.keeping.val_fraction, seed=config.learning.seed)
    has_new_head = config.learning.head != "none" and engine.temporal_head is None
    settings = _settings(engine, labelled, (train, val), config, has_new_head=has_new_head)
    engine = with_temporal_head(engine, config)
    engine.check_frames(config.sampling.frames)
    freeze(engine, config.learning.freeze)
    recipe = _recipe(engine, config)
    texts, text_training = _encode_texts(engine, labelled.labels, config, recipe)
    return RunPlan(engine, config, labelled, train, val, loss, recipe, texts, text_training, has_new_head, settings)


def choose_loss(config: FinetuneConfig, *, multi_label: bool) -> str:
    """Return the name of the loss; raise ConfigError if it does not fit the number of labels per video."""
    loss = config.learning.loss
    if loss == "auto":
        return "bce" if multi_label else "nce"
    if multi_label != (loss == "bce"):
        problem = "videos have several labels" if multi_label else "each video has one label"
        fix = "leave it out, or give bce" if multi_label else "leave it out, or give --multi-label"
        raise ConfigError(f"loss is {loss}, but {problem}; {fix}", settings=("loss",))
    return loss


def split_sides(labelled: TrainSet, *, fraction: float, seed: int) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Return the videos to train on and those to validate on.

    Without a validation side, a share of each class's training videos is held back.

    Raises:
        UsageError: every class has a single video, so none is left for validation.
    """
    if labelled.val is not None:
        return labelled.train, labelled.val
    counts = np.bincount([sample.label for sample in labelled.train], minlength=len(labelled.labels))
    single = [labelled.names[i] for i in np.flatnonzero(counts == 1)]
    if single:
        more = f" and {len(single) - 1} more" if len(single) > 1 else ""
        logger.warning(
            "class %r%s: has a single video, which is used for training, not for validation", single[0], more
        )
    dealt = deal(labelled.train, labelled.names, seed=seed, trial=0, test_fraction=fraction)
    held = {place for places, count in zip(dealt.held or (), counts, strict=True) if count > 1 for place in places}
    if not held:
        raise UsageError(
            "val_fraction: every class has a single video, so none is left for validation; add videos, or give --val",
            settings=("val_fraction",),
        )
    train = tuple(sample for place, sample in enumerate(labelled.train) if place not in held)
    return train, tuple(sample for place, sample in enumerate(labelled.train) if place in held)


def with_temporal_head(engine: Engine, config: FinetuneConfig) -> Engine:
    """Return the engine with the temporal head that `config` asks for: its own, a new one, or none."""
    head = config.learning.head
    if config.learning.branch == "attributes":
        return engine
    if head == "none":
        return replace(engine, temporal_head=None)
    if engine.temporal_head is not None:
        return engine
    new_head = new_temporal(engine.encoder.model, seed=config.learning.seed)
    return replace(engine, temporal_head=new_head.to(engine.encoder.placement.device))


def choose_lexicon(engine: Engine, config: FinetuneConfig) -> str:
    """Return the name of the lexicon that the attribute branch uses.

    Raises:
        ConfigError: attributes are off, or come from another model.
        UsageError: there is no such lexicon.
    """
    chosen = config.attributes
    if chosen.attributes == "off" or chosen.attribute_model is not None:
        problem = "attributes are off" if chosen.attributes == "off" else "attribute_model is another model"
        raise ConfigError(
            f"branch is {config.learning.branch}, but {problem}; a model trains the branch with its own attributes: "
            "leave that out, or train the other model with --branch attributes and classify with --attribute-model",
            settings=("branch", "attributes", "attribute_model"),
        )
    name = engine.recipe.lexicon if chosen.attributes == "auto" else chosen.attributes
    read_lexicon(name)  # report a wrong name now, not after hours of training the video branch
    return name


def _settings(
    engine: Engine,
    labelled: TrainSet,
    sides: Sequence[Sequence[Sample]],
    config: FinetuneConfig,
    *,
    has_new_head: bool,
) -> RunSettings:
    values = settings_affecting(config, *RESULTS)
    del values["descriptions"]  # they are refused, and earlier runs do not have it
    del values["model"]  # a run may be resumed from a copy: the fingerprint identifies the weights
    data = hashlib.sha256()
    for side in sides:
        for sample in side:
            data.update(f"{sample.source.id}\0{sample.labels}\0".encode("utf-8", "surrogateescape"))
        data.update(b"\1")
    return {
        **values,
        "weights": engine.fingerprint,
        "data": data.hexdigest()[:16],
        "labels": list(labelled.labels),
        "new_head": has_new_head,
    }


def _recipe(engine: Engine, config: FinetuneConfig) -> Recipe:
    recipe, spotting = engine.recipe, config.spotting
    if recipe == Recipe(lexicon=recipe.lexicon):  # a CLIP without video training is trained as in the paper
        recipe = replace(BIKE_RECIPE, lexicon=recipe.lexicon)
        if not engine.encoder.text_tower.has_token_features:
            recipe = replace(recipe, spot="eot")
    chosen = config.attributes.attributes
    if config.learning.branch != "video":
        lexicon = choose_lexicon(engine, config)
    else:
        lexicon = recipe.lexicon if chosen in ("auto", "off") else chosen
    return Recipe(
        spot=spotting.spot or recipe.spot,
        temperature=recipe.temperature if spotting.temperature is None else spotting.temperature,
        template=config.template or recipe.template,
        # A lexicon in a file may be missing when the model is used.
        lexicon=lexicon if lexicon in lexicon_names() else recipe.lexicon,
    )


def _encode_texts(
    engine: Engine, labels: Sequence[str], config: FinetuneConfig, recipe: Recipe
) -> tuple[ClassTexts, TextTraining | None]:
    text = encode_labels(engine, labels, template=recipe.template, spot=recipe.spot)
    tokens, mask = voters(text, recipe.spot)
    training = None
    if config.learning.branch != "attributes" and engine.encoder.text_tower.trains():
        templates = read_templates(recipe.template)
        if len(templates) > 1:
            raise ConfigError(
                f"template {recipe.template!r}: is a set, but a text tower is trained with one template; give one",
                settings=("template", "freeze"),
            )
        prompts = tuple(fill(templates[0], label) for label in labels)
        training = TextTraining(prompts, recipe.spot, mask, tokens.shape[1])
    else:
        # The features of such labels are nearly equal, and a frozen text tower leaves them so.
        warn_of_unknown(engine, labels, "such labels may look alike; --freeze none trains their words")
    return _class_texts(text.classes, tokens, mask, config, recipe), training


def _class_texts(
    classes: Tensor, tokens: Tensor, mask: Tensor | None, config: FinetuneConfig, recipe: Recipe
) -> ClassTexts:
    pool = config.spotting.pool
    voting = Voters.among(unit(tokens), mask) if pool == "tcs" else None
    return ClassTexts(unit(classes), voting, recipe.temperature, averages_scores=pool == "scores")
