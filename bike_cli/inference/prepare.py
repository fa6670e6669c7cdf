"""What a task prepares once for all videos: checks, encoded labels, a classifier, and its recipes in the store."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from bike_cli.config import TRAINED_ATTRIBUTE_WEIGHT, AttributeConfig, ClassifyConfig, Spot, SpottingConfig
from bike_cli.data.labels import fill, read_templates
from bike_cli.data.lexicons import read_lexicon
from bike_cli.data.lines import key
from bike_cli.engine.attributes import encode_lexicon
from bike_cli.engine.engine import Engine, load
from bike_cli.engine.heads.saved_classifier import Learnt
from bike_cli.engine.scoring import normalise_in_place, unit
from bike_cli.engine.spotting import ClassTexts
from bike_cli.engine.store.store import Store, recipe_key
from bike_cli.engine.voters import Voters, voters
from bike_cli.errors import UsageError
from bike_cli.inference.classifier import AttributeBranch, Classifier
from bike_cli.inference.features import Shelf
from bike_cli.records import Prompt, TextFeatures
from bike_cli.settings import flatten, settings_affecting

logger = logging.getLogger(__name__)


SHOWN = 60  # characters of a label in a message


def shelf_of(store: Store, engines: Sequence[Engine], config: ClassifyConfig) -> Shelf:
    """Return the shelf of the store for the features of these engines under a config."""
    recipes = []
    for engine in engines:
        recipe = recipe_key(engine.identity, config)
        store.describe(recipe, _described(engine, config))
        recipes.append(recipe)
    return Shelf(store, tuple(recipes))


def _described(engine: Engine, config: ClassifyConfig) -> str:
    """Describe what features depend on, as in "tiny, float32 on cpu, 8 uniform frames"."""
    sampling, placement = config.sampling, engine.encoder.placement
    parts = [engine.name, f"{str(placement.dtype).removeprefix('torch.')} on {placement.device.type}"]
    parts.append(f"{sampling.frames} {sampling.sampling} frames")
    parts += [f"{count} {what}" for count, what in ((sampling.clips, "clips"), (sampling.crops, "crops")) if count > 1]
    parts += ["draft"] if sampling.draft else []
    parts += [f"decoder {config.decoding.decoder}"] if config.decoding.decoder != "auto" else []
    return ", ".join(parts)


def prepare(
    engine: Engine,
    labels: Sequence[str],
    config: ClassifyConfig,
    learnt: Learnt | None = None,
    *,
    from_videos: int = 0,
) -> Classifier:
    """Return the classifier for these labels; encodes their texts.

    Args:
        from_videos: number of labels, from the first, that are also learned from videos.
    Raises:
        UsageError: see `classify`.
    """
    _check(engine, labels, config)
    if learnt is not None:
        _check_learnt(learnt, engine, labels, config)
        from_videos = len(learnt.labels)
    spot, temperature = _spotting(config.spotting, engine)
    text = encode_labels(engine, labels, template=config.template, spot=spot)
    _warn_of_unknown(engine, labels[from_videos:])
    branch = _branch(engine, text, config, learnt)
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
        head=None if learnt is None else learnt.head.to(engine.encoder.placement.device),
    )


def encode_labels(engine: Engine, labels: Sequence[str], *, template: str | None, spot: Spot) -> TextFeatures:
    """Return the features of labels inside a template, or inside all templates of a set.

    With a set, class vectors are the mean of unit vectors, and the tokens of all templates vote. A label longer than
    the model's context is cut, with a warning.
    """
    start_s = time.perf_counter()
    name = template or engine.recipe.template
    templates = read_templates(name)
    filled = [[fill(one, label) for label in labels] for one in templates]
    _warn_of_cuts(engine, labels, max(filled, key=lambda prompts: len(prompts[0].text)))
    parts = [engine.encode_texts(prompts, positions=spot) for prompts in filled]
    seconds = time.perf_counter() - start_s
    logger.info("%d labels: encoded with template %s, spotting by %s, in %.2f s", len(labels), name, spot, seconds)
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
            "label '%s': is longer than the %d tokens that %s reads; '%s' is cut off, shorten it",
            _shortened(labels[cut.index]),
            engine.encoder.context,
            engine.name,
            _shortened(cut.cut),
        )


def _warn_of_unknown(engine: Engine, labels: Sequence[str]) -> None:
    unknown = engine.encoder.unknown(labels)
    if unknown:
        logger.warning(
            "label '%s'%s: %s knows none of its words, so its score means nothing; choose another model",
            _shortened(labels[unknown[0]]),
            f" and {len(unknown) - 1} more" if len(unknown) > 1 else "",
            engine.name,
        )


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _check(engine: Engine, labels: Sequence[str], config: ClassifyConfig) -> None:
    if not labels:
        raise UsageError("labels: none given; give at least one")
    counts = Counter(key(label) for label in labels)
    twice = next((label for label in labels if counts[key(label)] > 1), None)
    if twice is not None:
        raise UsageError(f"label {twice!r}: is given twice, ignoring case and spaces; remove one")
    engine.check_frames(config.sampling.frames)


def _check_learnt(learnt: Learnt, engine: Engine, labels: Sequence[str], config: ClassifyConfig) -> None:
    """Raise UsageError if videos would be encoded or scored differently than for the classifier's training."""
    if tuple(labels[: len(learnt.labels)]) != learnt.labels:
        raise UsageError("classifier: its own labels must come first, in its order; put others after them")
    if engine.fingerprint != learnt.fingerprint:
        raise UsageError(
            f"classifier: was trained with the model {learnt.model} ({learnt.fingerprint}), but this run uses "
            f"{engine.name} ({engine.fingerprint}); give --model {learnt.model}, or train it again with this one"
        )
    spot, temperature = _spotting(config.spotting, engine)
    now = settings_affecting(config, "pixels", "scores")
    now |= {"spot": spot, "temperature": temperature, "template": config.template or engine.recipe.template}
    changed = read_templates(str(now["template"])) != learnt.templates
    if changed and now["template"] == learnt.template:
        raise UsageError(
            f"classifier: was trained with other templates than {learnt.template} holds now; train it again"
        )
    # Attributes that do not count may differ; without a flag, the classifier's own weight applies.
    ignored = set() if learnt.attributes.attribute_weight else set(flatten(config.attributes)) - {"attribute_weight"}
    if config.attributes.attribute_weight is None:
        ignored.add("attribute_weight")
    for name, value in now.items():
        if name in learnt.settings and name not in ignored and value != learnt.settings[name]:
            raise UsageError(
                f"classifier: was trained with {name} {learnt.settings[name]}, but this run has {value}; leave {name} "
                "out, or train it again"
            )


def _spotting(config: SpottingConfig, engine: Engine) -> tuple[Spot, float]:
    temperature = engine.recipe.temperature if config.temperature is None else config.temperature
    return config.spot or engine.recipe.spot, temperature


def _branch(
    engine: Engine, text: TextFeatures, config: ClassifyConfig, learnt: Learnt | None
) -> AttributeBranch | None:
    wanted = config.attributes
    if wanted.attributes == "off":
        if wanted.attribute_model is not None:
            raise UsageError(f"attribute_model is {wanted.attribute_model}, but attributes are off; give a lexicon")
        if wanted.attribute_weight:
            raise UsageError(f"attribute_weight is {wanted.attribute_weight}, but attributes are off; give a lexicon")
        return None
    seer = engine if wanted.attribute_model is None else _load_attribute_model(engine, wanted.attribute_model, config)
    name = seer.recipe.lexicon if wanted.attributes == "auto" else wanted.attributes
    lexicon = encode_lexicon(seer.encoder, read_lexicon(name))
    weight = _attribute_weight(wanted, seer) if learnt is None else learnt.attributes.attribute_weight or 0.0
    classes: Tensor | None = None
    if weight > 0:
        own = text if seer is engine else encode_labels(seer, text.texts, template=config.template, spot="eot")
        classes = own.classes
    return AttributeBranch(seer, lexicon, classes, weight, wanted.attribute_count)


def _load_attribute_model(engine: Engine, model: str, config: ClassifyConfig) -> Engine:
    device = str(engine.encoder.placement.device)
    return load(model, device=device, precision=config.engine.precision, offline=config.engine.offline)


def _attribute_weight(config: AttributeConfig, seer: Engine) -> float:
    if config.attribute_weight is not None:
        return config.attribute_weight
    if config.attribute_model is None and seer.recipe.attribute_weight is not None:
        return seer.recipe.attribute_weight  # that of its training
    # From the same encoder, untrained, attributes add nothing to the answer (README, "Attributes").
    trusted = config.attribute_model is not None or seer.attribute_head is not None
    return TRAINED_ATTRIBUTE_WEIGHT if trusted else 0.0
