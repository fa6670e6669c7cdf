"""What a task prepares once for all videos: checks, encoded labels, a classifier, and its recipes in the store."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from bike_cli.config import AttributeConfig, ClassifyConfig, Descriptions, VideoConfig
from bike_cli.data.labels import read_templates
from bike_cli.data.lexicons import read_lexicon
from bike_cli.data.lines import key
from bike_cli.engine.attributes import encode_lexicon
from bike_cli.engine.engine import Engine, load
from bike_cli.engine.heads.saved_classifier import SavedClassifier
from bike_cli.engine.scoring import normalise_in_place, unit
from bike_cli.engine.spotting import ClassTexts
from bike_cli.engine.store.store import open_store, recipe_key
from bike_cli.engine.voters import Voters, voters
from bike_cli.errors import UsageError, concerning
from bike_cli.inference.classifier import AttributeBranch, Classifier
from bike_cli.inference.conditions import resolve_attribute_weight, resolve_spotting
from bike_cli.inference.features import Shelf
from bike_cli.inference.label_texts import encode_labels, warn_of_unknown
from bike_cli.records import TextFeatures
from bike_cli.settings import build, flag_name, flatten, settings_affecting
from bike_cli.wording import all_of, count, nearest

logger = logging.getLogger(__name__)


@contextmanager
def open_shelf(engines: Sequence[Engine], config: VideoConfig) -> Iterator[Shelf | None]:
    """Open the store for the features of these engines under a config; None if it is off or cannot be used."""
    store = open_store(config.store)
    if store is None:
        yield None
        return
    with store:
        recipes = tuple(recipe_key(engine.identity, config) for engine in engines)
        for recipe, engine in zip(recipes, engines, strict=True):
            store.describe(recipe, _describe(engine, config))
        yield Shelf(store, recipes)


def _describe(engine: Engine, config: VideoConfig) -> str:
    """Describe what features depend on, as in "tiny, float32 on cpu, 8 uniform frames"."""
    sampling, placement = config.sampling, engine.encoder.placement
    parts = [engine.name, f"{str(placement.dtype).removeprefix('torch.')} on {placement.device.type}"]
    parts.append(count(sampling.frames, f"{sampling.sampling} frame"))
    parts += [
        f"{number} {what}" for number, what in ((sampling.clips, "clips"), (sampling.crops, "crops")) if number > 1
    ]
    parts += ["draft"] if sampling.draft else []
    parts += [f"decoder {config.decoding.decoder}"] if config.decoding.decoder != "auto" else []
    return ", ".join(parts)


def prepare(
    engine: Engine,
    labels: Sequence[str],
    config: VideoConfig,
    saved: SavedClassifier | None = None,
    *,
    descriptions: Descriptions | None = None,
    from_videos: int = 0,
    shows_attributes: bool = True,
) -> Classifier:
    """Return the classifier for these labels; encodes their texts.

    Args:
        descriptions: of labels; those of a saved classifier are added.
        from_videos: number of labels, from the first, that are also learned from videos.
        shows_attributes: False: attributes that do not count are turned off.
    """
    descriptions = _descriptions_in_use(labels, config, descriptions or {}, saved)
    _check(engine, labels, config)
    if saved is not None:
        _check_saved(saved, engine, labels)
        from_videos = len(saved.labels)
    _warn_of_other_settings(engine, config, saved)
    spot, temperature = resolve_spotting(config.spotting, engine)
    text = encode_labels(
        *(engine, labels),
        template=config.template,
        spot=spot,
        descriptions=descriptions,
        use=config.descriptions,
        store=config.store,
    )
    consequence = "scores of such labels mean nothing; choose another model"
    warn_of_unknown(engine, labels[from_videos:], consequence, descriptions)
    attributed = shows_attributes or _may_count(config.attributes, engine)
    branch = _branch(engine, text, config, saved, descriptions) if attributed else None
    voting = words = None
    if config.spotting.pool == "tcs":
        tokens, mask = voters(text, spot)
        # With `eot` the class embedding itself votes, and it is needed unmodified later.
        tokens = unit(tokens) if spot == "eot" else normalise_in_place(tokens)
        voting = Voters.among(tokens, mask)
        words = Voters.among(tokens, text.token_mask) if spot == "all" else voting
    device = engine.encoder.placement.device
    return Classifier(
        engine=engine,
        labels=tuple(labels),
        texts=ClassTexts(unit(text.classes), voting, temperature, averages_scores=config.spotting.pool == "scores"),
        words=words,
        branch=branch,
        config=config,
        descriptions=descriptions,
        head=None if saved is None else saved.head.to(device),
        measure="cosine" if saved is None else saved.measure,
        distances=None if saved is None or saved.distances is None else saved.distances.to(device),
    )


def counts_attributes(classifier: Classifier) -> bool:
    """Return whether attributes count, not only what the video branch sees."""
    return classifier.branch is not None and classifier.branch.weight > 0


def default_config(engine: Engine, saved: SavedClassifier | None = None) -> ClassifyConfig:
    """Return the configuration of a run without one: the settings of the classifier's or the model's training."""
    if saved is not None:
        return build(ClassifyConfig, saved.settings)
    return ClassifyConfig() if engine.training is None else build(ClassifyConfig, engine.training.settings)


def default_labels(engine: Engine, saved: SavedClassifier | None = None) -> tuple[str, ...]:
    """Return the labels of the classifier's or the model's training; none for another model."""
    known = saved or engine.training
    return () if known is None else (*known.labels, *known.also)


def _descriptions_in_use(
    labels: Sequence[str], config: VideoConfig, given: Descriptions, saved: SavedClassifier | None
) -> Descriptions:
    """Return the descriptions that count; none if they are off.

    Raises:
        UsageError: a description of what is not a label.
    """
    known = {} if saved is None else saved.descriptions
    described = {label: tuple(texts) for label, texts in {**given, **known}.items() if texts}
    known_labels = set(labels)
    strange = next((label for label in described if label not in known_labels), None)
    if strange is not None:
        near = f"; the nearest is {nearest(strange, labels)!r}" if labels else ""
        raise UsageError(f"descriptions: {strange!r} is not a label{near}")
    return {} if config.descriptions == "off" else described


def _check(engine: Engine, labels: Sequence[str], config: VideoConfig) -> None:
    if not labels:
        raise UsageError("labels: none given; give at least one")
    if not all(label.strip() for label in labels):
        raise UsageError("labels: one is empty; remove it")
    counts = Counter(key(label) for label in labels)
    twice = next((label for label in labels if counts[key(label)] > 1), None)
    if twice is not None:
        raise UsageError(f"label {twice!r}: is given twice, ignoring case and spaces; remove one")
    engine.check_frames(config.sampling.frames)


def _check_saved(saved: SavedClassifier, engine: Engine, labels: Sequence[str]) -> None:
    """Raise UsageError if the classifier cannot be used with this model or these labels."""
    if tuple(labels[: len(saved.labels)]) != saved.labels:
        raise UsageError("classifier: its own labels must come first, in its order; put others after them")
    if engine.fingerprint != saved.fingerprint:
        raise UsageError(
            f"classifier: was trained with the model {saved.model} ({saved.fingerprint}), but this run uses "
            f"{engine.name} ({engine.fingerprint}); give --model {saved.model}, or train it again with this one",
            settings=("model",),
        )


def _warn_of_other_settings(engine: Engine, config: VideoConfig, saved: SavedClassifier | None) -> None:
    """Warn if videos are encoded or scored differently than in the training of the classifier or the model.

    Raises:
        UsageError: the template of the classifier has the same name, but other texts.
    """
    spot, temperature = resolve_spotting(config.spotting, engine)
    template = config.template or engine.recipe.template
    now = settings_affecting(config, "pixels", "scores")
    now |= {"spot": spot, "temperature": temperature, "template": template}
    if saved is not None:
        trained, subject = _settings_that_count(saved, config), "classifier"
        if template == saved.template and read_templates(template) != saved.templates:
            raise UsageError(
                f"classifier: was trained with other templates than {template} contains now; train it again",
                settings=("template",),
            )
    elif engine.training is not None:
        recipe, subject = engine.recipe, f"model {engine.name}"
        own = {"spot": recipe.spot, "temperature": recipe.temperature, "template": recipe.template}
        trained = {**engine.training.settings, **own}
    else:
        return
    differing = [name for name in now if name in trained and now[name] != trained[name]]
    if differing:
        before, after = (all_of(f"{name} {values[name]}" for name in differing) for values in (trained, now))
        unset = all_of(map(flag_name, differing))
        logger.warning("%s: was trained with %s, but this run has %s; leave out %s", subject, before, after, unset)


def _settings_that_count(saved: SavedClassifier, config: VideoConfig) -> dict[str, object]:
    """Return the settings of a classifier that may not differ without a warning."""
    # Attributes that do not count may differ; without a flag, the classifier's own weight applies.
    ignored = set() if saved.attributes.attribute_weight else set(flatten(config.attributes)) - {"attribute_weight"}
    if config.attributes.attribute_weight is None:
        ignored.add("attribute_weight")
    return {name: value for name, value in saved.settings.items() if name not in ignored}


def _branch(
    engine: Engine, text: TextFeatures, config: VideoConfig, saved: SavedClassifier | None, descriptions: Descriptions
) -> AttributeBranch | None:
    chosen = config.attributes
    if chosen.attributes == "off":
        if chosen.attribute_model is not None:
            raise UsageError(
                f"--attribute-model {chosen.attribute_model}: is not used, as attributes are off; give a lexicon",
                settings=("attribute_model", "attributes"),
            )
        if chosen.attribute_weight:
            raise UsageError(
                f"--attribute-weight {chosen.attribute_weight}: is not used, as attributes are off; give a lexicon",
                settings=("attribute_weight", "attributes"),
            )
        return None
    describer = engine
    if chosen.attribute_model is not None:
        device = str(engine.encoder.placement.device)
        precision, offline = config.engine.precision, config.engine.offline
        with concerning("attribute_model"):
            describer = load(chosen.attribute_model, device=device, precision=precision, offline=offline)
    name = describer.recipe.lexicon if chosen.attributes == "auto" else chosen.attributes
    lexicon = encode_lexicon(describer.encoder, read_lexicon(name))
    if saved is not None and chosen.attribute_weight is None:
        weight = saved.attributes.attribute_weight or 0.0
    else:
        weight = resolve_attribute_weight(chosen, describer)
    classes: Tensor | None = None
    if weight > 0:
        same = describer is engine
        if not same:
            text = encode_labels(
                describer,
                text.texts,
                template=config.template,
                spot="eot",
                descriptions=descriptions,
                use=config.descriptions,
                store=config.store,
            )
        classes = text.classes
    return AttributeBranch(describer, lexicon, classes, weight, chosen.attribute_count)


def _may_count(config: AttributeConfig, engine: Engine) -> bool:
    weight = config.attribute_weight
    is_trained = weight is None and engine.attribute_head is not None
    return bool(weight) or config.attribute_model is not None or is_trained
