"""What a task prepares once for all videos: checks, encoded labels, a classifier, and its recipes in the store."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from bike_cli.config import TRAINED_ATTRIBUTE_WEIGHT, AttributeConfig, ClassifyConfig, Spot, SpottingConfig
from bike_cli.data.labels import fill, read_templates
from bike_cli.data.lexicons import read_lexicon
from bike_cli.data.lines import key
from bike_cli.engine.attributes import encode_lexicon
from bike_cli.engine.engine import Engine, load
from bike_cli.engine.heads.saved_classifier import SavedClassifier
from bike_cli.engine.scoring import normalise_in_place, unit
from bike_cli.engine.spotting import ClassTexts
from bike_cli.engine.store.store import open_store, recipe_key
from bike_cli.engine.voters import Voters, voters
from bike_cli.errors import UsageError, shorten
from bike_cli.inference.classifier import AttributeBranch, Classifier
from bike_cli.inference.features import Shelf
from bike_cli.records import Prompt, TextFeatures
from bike_cli.settings import flag_name, flatten, settings_affecting
from bike_cli.wording import count

logger = logging.getLogger(__name__)


SHOWN = 60  # characters of a label in a message


@contextmanager
def open_shelf(engines: Sequence[Engine], config: ClassifyConfig) -> Iterator[Shelf | None]:
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


def _describe(engine: Engine, config: ClassifyConfig) -> str:
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
    config: ClassifyConfig,
    saved: SavedClassifier | None = None,
    *,
    from_videos: int = 0,
) -> Classifier:
    """Return the classifier for these labels; encodes their texts.

    Args:
        from_videos: number of labels, from the first, that are also learned from videos.
    """
    _check(engine, labels, config)
    if saved is not None:
        _check_saved(saved, engine, labels, config)
        from_videos = len(saved.labels)
    spot, temperature = _spotting(config.spotting, engine)
    text = encode_labels(engine, labels, template=config.template, spot=spot)
    warn_of_unknown(engine, labels[from_videos:], "scores of such labels mean nothing; choose another model")
    branch = _branch(engine, text, config, saved)
    voting = words = None
    if config.spotting.pool != "mean":
        tokens, mask = voters(text, spot)
        # With `eot` the class embedding itself votes, and it is needed unmodified later.
        tokens = unit(tokens) if spot == "eot" else normalise_in_place(tokens)
        voting = Voters.among(tokens, mask)
        words = Voters.among(tokens, text.token_mask) if spot == "all" else voting
    return Classifier(
        engine=engine,
        labels=tuple(labels),
        texts=ClassTexts(unit(text.classes), voting, temperature),
        words=words,
        branch=branch,
        config=config,
        head=None if saved is None else saved.head.to(engine.encoder.placement.device),
    )


def encode_labels(engine: Engine, labels: Sequence[str], *, template: str | None, spot: Spot) -> TextFeatures:
    """Return the features of labels inside a template, or inside all templates of a set.

    With a set, class vectors are the mean of unit vectors, and the tokens of all templates vote. A label longer than
    the model's context is cut, with a warning.
    """
    start_s = time.perf_counter()
    name = template or engine.recipe.template
    templates = read_templates(name)
    filled = [[fill(pattern, label) for label in labels] for pattern in templates]
    _warn_of_cuts(engine, labels, max(filled, key=lambda prompts: len(prompts[0].text)))
    parts = [engine.encode_texts(prompts, positions=spot) for prompts in filled]
    seconds = time.perf_counter() - start_s
    logger.info(
        "%s: encoded with template %s, spotting by %s, in %.2f s", count(len(labels), "label"), name, spot, seconds
    )
    if len(parts) == 1:
        return TextFeatures(tuple(labels), parts[0].classes, parts[0].tokens, parts[0].token_mask)
    classes = torch.stack([unit(part.classes) for part in parts]).mean(dim=0)
    if spot == "eot":  # the averaged class votes; the tokens of each template would only take memory
        return TextFeatures(tuple(labels), classes, classes[:, None], parts[0].token_mask)
    tokens = torch.cat([part.tokens for part in parts], dim=1)
    return TextFeatures(tuple(labels), classes, tokens, torch.cat([part.token_mask for part in parts], dim=1))


def _warn_of_cuts(engine: Engine, labels: Sequence[str], prompts: Sequence[Prompt]) -> None:
    for cut in engine.encoder.truncated(prompts):
        logger.warning(
            "label '%s': is longer than the %s that %s reads; '%s' is cut off, shorten it",
            shorten(labels[cut.index], SHOWN),
            count(engine.encoder.context, "token"),
            engine.name,
            shorten(cut.cut, SHOWN),
        )


def warn_of_unknown(engine: Engine, labels: Sequence[str], consequence: str) -> None:
    """Warn about labels without a word that the model knows."""
    unknown = engine.encoder.unknown(labels)
    if unknown:
        more = len(unknown) - 1
        first = shorten(labels[unknown[0]], SHOWN)
        subject, its = (f"labels '{first}' and {more} more", "their") if more else (f"label '{first}'", "its")
        logger.warning("%s: %s knows none of %s words, so %s", subject, engine.name, its, consequence)


def _check(engine: Engine, labels: Sequence[str], config: ClassifyConfig) -> None:
    if not labels:
        raise UsageError("labels: none given; give at least one")
    counts = Counter(key(label) for label in labels)
    twice = next((label for label in labels if counts[key(label)] > 1), None)
    if twice is not None:
        raise UsageError(f"label {twice!r}: is given twice, ignoring case and spaces; remove one")
    engine.check_frames(config.sampling.frames)


def _check_saved(saved: SavedClassifier, engine: Engine, labels: Sequence[str], config: ClassifyConfig) -> None:
    """Raise UsageError if videos would be encoded or scored differently than for the classifier's training."""
    if tuple(labels[: len(saved.labels)]) != saved.labels:
        raise UsageError("classifier: its own labels must come first, in its order; put others after them")
    if engine.fingerprint != saved.fingerprint:
        raise UsageError(
            f"classifier: was trained with the model {saved.model} ({saved.fingerprint}), but this run uses "
            f"{engine.name} ({engine.fingerprint}); give --model {saved.model}, or train it again with this one"
        )
    spot, temperature = _spotting(config.spotting, engine)
    now = settings_affecting(config, "pixels", "scores")
    now |= {"spot": spot, "temperature": temperature, "template": config.template or engine.recipe.template}
    changed = read_templates(str(now["template"])) != saved.templates
    if changed and now["template"] == saved.template:
        raise UsageError(
            f"classifier: was trained with other templates than {saved.template} contains now; train it again"
        )
    # Attributes that do not count may differ; without a flag, the classifier's own weight applies.
    ignored = set() if saved.attributes.attribute_weight else set(flatten(config.attributes)) - {"attribute_weight"}
    if config.attributes.attribute_weight is None:
        ignored.add("attribute_weight")
    for name, value in now.items():
        if name in saved.settings and name not in ignored and value != saved.settings[name]:
            raise UsageError(
                f"classifier: was trained with {name} {saved.settings[name]}, but this run has {value}; leave "
                f"{flag_name(name)} out, or train it again"
            )


def _spotting(config: SpottingConfig, engine: Engine) -> tuple[Spot, float]:
    temperature = engine.recipe.temperature if config.temperature is None else config.temperature
    return config.spot or engine.recipe.spot, temperature


def _branch(
    engine: Engine, text: TextFeatures, config: ClassifyConfig, saved: SavedClassifier | None
) -> AttributeBranch | None:
    chosen = config.attributes
    if chosen.attributes == "off":
        if chosen.attribute_model is not None:
            raise UsageError(
                f"--attribute-model {chosen.attribute_model}: is not used, as attributes are off; give a lexicon"
            )
        if chosen.attribute_weight:
            raise UsageError(
                f"--attribute-weight {chosen.attribute_weight}: is not used, as attributes are off; give a lexicon"
            )
        return None
    describer = engine
    if chosen.attribute_model is not None:
        device = str(engine.encoder.placement.device)
        precision, offline = config.engine.precision, config.engine.offline
        describer = load(chosen.attribute_model, device=device, precision=precision, offline=offline)
    name = describer.recipe.lexicon if chosen.attributes == "auto" else chosen.attributes
    lexicon = encode_lexicon(describer.encoder, read_lexicon(name))
    weight = _attribute_weight(chosen, describer) if saved is None else saved.attributes.attribute_weight or 0.0
    classes: Tensor | None = None
    if weight > 0:
        same = describer is engine
        classes = (text if same else encode_labels(describer, text.texts, template=config.template, spot="eot")).classes
    return AttributeBranch(describer, lexicon, classes, weight, chosen.attribute_count)


def _attribute_weight(config: AttributeConfig, describer: Engine) -> float:
    if config.attribute_weight is not None:
        return config.attribute_weight
    if config.attribute_model is None and describer.recipe.attribute_weight is not None:
        return describer.recipe.attribute_weight  # that of its training
    # Without training, attributes from the same encoder do not improve the answer.
    trusted = config.attribute_model is not None or describer.attribute_head is not None
    return TRAINED_ATTRIBUTE_WEIGHT if trusted else 0.0
