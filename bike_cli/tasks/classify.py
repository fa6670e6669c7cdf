"""Videos and labels in, answers out: `classify` and what it prepares once for all videos."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bike_cli.config import TRAINED_ATTRIBUTE_WEIGHT, AttributeConfig, ClassifyConfig, Spot, SpottingConfig
from bike_cli.data.labels import fill, read_templates
from bike_cli.data.lexicons import read_lexicon
from bike_cli.data.lines import key
from bike_cli.engine.attributes import associate, attribute_scores, attribute_sentence, encode_lexicon
from bike_cli.engine.engine import Engine, load
from bike_cli.engine.scoring import fuse, match_spread, normalise_in_place, probabilities, rank, unit
from bike_cli.engine.spotting import concept_scores, mean_scores, saliency, voters
from bike_cli.errors import UsageError, VideoError
from bike_cli.records import Attribute, Clip, Failure, Lexicon, Prediction, Prompt, Ranked, Source, TextFeatures
from bike_cli.video.decoding import clip_from_array, decode

logger = logging.getLogger(__name__)

SHOWN = 60  # characters of a label in a message

Input = str | Path | Source | Clip | NDArray[np.uint8] | Failure


def classify(
    engine: Engine,
    sources: Iterable[Input],
    labels: Sequence[str],
    config: ClassifyConfig | None = None,
) -> Iterator[Prediction | Failure]:
    """Yield one answer or failure for each source, in order, as soon as it is known.

    Args:
        sources: paths of videos or frame folders, sources, clips, or arrays uint8 [T, H, W, 3] that hold every frame
            of a video. A failure passes through, in its place.
        labels: at least one, each once.
        config: None: the defaults. Of its `engine` section, only precision and offline count, for an `attribute_model`.
    Raises:
        TypeError: a single source or label that is no list.
        UsageError: no label, one twice, an unknown template or lexicon, more frames than the model has positions for.
            Raised at once, before the first source is read.
    """
    if isinstance(sources, (str, Path)) or isinstance(labels, str):
        raise TypeError("sources and labels are lists; put a single one into brackets")
    classifier = prepare(engine, labels, config or ClassifyConfig())
    return (classifier.classify(given, number=i) for i, given in enumerate(sources, start=1))


@dataclass(frozen=True, eq=False)
class AttributeBranch:
    """A lexicon, and the model that finds its phrases in a video.

    Args:
        classes: [C, D], raw; None where the weight is 0.
        weight: of this branch in the answer; 0: attributes are shown and do not count.
    """

    engine: Engine
    lexicon: Lexicon
    classes: Tensor | None
    weight: float
    count: int

    def describe(self, frames: Tensor) -> tuple[Attribute, ...]:
        """Return the phrases that fit one video's raw frames [K, T, D] best."""
        return associate(frames.flatten(0, 1)[None], self.lexicon, self.count)[0]

    def logits(self, attributes: Sequence[Attribute], like: Tensor) -> Tensor:
        """Return what the attribute sentence says of each class, on the scale of the video's logits `like` [1, C]."""
        sentence = attribute_sentence([a.phrase for a in attributes])
        assert self.classes is not None
        head = self.engine.attribute_head
        scores = attribute_scores(self.engine.encode_texts([sentence], positions="eot").classes, self.classes, head)
        scores = scores.to(like.device)
        return match_spread(scores, like) if head is None else self.engine.logit_scale * scores


@dataclass(frozen=True, eq=False)
class Classifier:
    """All that does not change from video to video.

    Args:
        classes: [C, D] unit vectors.
        tokens: [C, L, D] unit vectors that vote on frames, `mask` [C, L] those that may.
        words: bool [C, L], those that explain: padding points at any frame, and is never shown to people.
    """

    engine: Engine
    labels: tuple[str, ...]
    classes: Tensor
    tokens: Tensor
    mask: Tensor | None
    words: Tensor
    temperature: float
    branch: AttributeBranch | None
    config: ClassifyConfig

    def classify(self, given: Input, *, number: int) -> Prediction | Failure:
        """Return the answer for one source, or why there is none; `number` names an array."""
        if isinstance(given, Failure):
            return given
        if isinstance(given, Clip):
            return self.answer(given)
        if isinstance(given, np.ndarray):
            return self.answer(clip_from_array(given, self.config.sampling, name=f"array {number}"))
        source = given if isinstance(given, Source) else Source.at(given)
        try:
            clip = decode(source, self.config.sampling)
        except VideoError as e:
            return Failure(source, e.kind, str(e))
        return self.answer(clip)

    @torch.no_grad()
    def answer(self, clip: Clip) -> Prediction:
        """Return the answer for a clip."""
        raw = self.engine.encode_clip(clip, crops=self.config.sampling.crops).frames  # [K, T, D]
        frames = self.engine.temporal(raw)
        scores = self._scores(frames).mean(dim=0, keepdim=True)  # [1, C]
        logits = self.engine.logit_scale * scores
        attributes = self._attributes(clip, raw)
        if self.branch is not None and self.branch.weight > 0:
            logits = fuse(logits, self.branch.logits(attributes, like=logits), weight=1 - self.branch.weight)
        chances = probabilities(logits, logit_scale=1)[0]
        best = rank(logits, self.config.top)[0].tolist()
        order = _in_time(clip)
        weights = self._weights(frames, clip, best[0]) if self.config.explain else None
        return Prediction(
            source=clip.source,
            ranked=tuple(Ranked(self.labels[i], float(chances[i]), float(scores[0, i])) for i in best),
            attributes=attributes,
            # Clips share a sum of 1.
            saliency=None if weights is None else weights.ravel()[order] / len(clip.times_s),
            times_s=clip.times_s.ravel()[order],
            frames=clip.frames.shape[1],
            duration_s=clip.duration_s,
            model=self.engine.name,
            warning=clip.warning,
            positions=None if clip.positions is None else clip.positions.ravel()[order],
        )

    def _scores(self, frames: Tensor) -> Tensor:
        """Return the score of each class for frames [K, T, D]: [K, C]."""
        if self.config.spotting.pool == "mean":
            return mean_scores(frames, self.classes)
        frames = unit(frames)
        return concept_scores(frames, saliency(frames, self.tokens, self.temperature, self.mask), self.classes)

    def _attributes(self, clip: Clip, raw: Tensor) -> tuple[Attribute, ...]:
        if self.branch is None:
            return ()
        if self.branch.engine is not self.engine:
            raw = self.branch.engine.encode_clip(clip, crops=self.config.sampling.crops).frames
        return self.branch.describe(raw)

    def _weights(self, frames: Tensor, clip: Clip, best: int) -> NDArray[np.float64]:
        """Return the weight of every frame of every clip for class `best`, crops averaged: [clips, T]."""
        clips, length = clip.times_s.shape
        if self.config.spotting.pool == "mean":
            return np.full((clips, length), 1 / length)
        tokens, words = self.tokens[best : best + 1], self.words[best : best + 1]
        spotted = saliency(unit(frames), tokens, self.temperature, words)[:, 0]  # [K, T]
        weights: NDArray[np.float64] = spotted.reshape(-1, clips, length).mean(dim=0).double().cpu().numpy()
        return weights


def _in_time(clip: Clip) -> NDArray[np.intp]:
    """Return the order in which the frames of all clips follow one another."""
    clock = clip.positions if clip.positions is not None else clip.times_s
    return np.argsort(clock, axis=None, kind="stable")


def prepare(engine: Engine, labels: Sequence[str], config: ClassifyConfig) -> Classifier:
    """Return the classifier for these labels; texts are encoded here, once.

    Raises:
        UsageError: see `classify`.
    """
    _check(engine, labels, config)
    spot, temperature = _spotting(config.spotting, engine)
    text = encode_labels(engine, labels, template=config.template, spot=spot)
    _warn_of_unknown(engine, labels)
    branch = _branch(engine, text, config)
    tokens, mask = voters(text, spot)
    return Classifier(
        engine=engine,
        labels=tuple(labels),
        classes=unit(text.classes),
        # The end of text votes by the class itself, of which there is need as it is.
        tokens=unit(tokens) if spot == "eot" else normalise_in_place(tokens),
        mask=mask,
        words=text.token_mask,
        temperature=temperature,
        branch=branch,
        config=config,
    )


def encode_labels(engine: Engine, labels: Sequence[str], *, template: str | None, spot: Spot) -> TextFeatures:
    """Return the features of labels inside a template, or inside all templates of a set.

    The classes of a set are the mean of unit vectors; its tokens stand side by side, so that every template votes.
    A label longer than the model's context is cut, and the log says what was lost.
    """
    templates = read_templates(template or engine.recipe.template)
    filled = [[fill(one, label) for label in labels] for one in templates]
    _warn_of_cuts(engine, labels, max(filled, key=lambda prompts: len(prompts[0].text)))
    parts = [engine.encode_texts(prompts, positions=spot) for prompts in filled]
    if len(parts) == 1:
        return TextFeatures(tuple(labels), parts[0].classes, parts[0].tokens, parts[0].token_mask)
    classes = torch.stack([unit(part.classes) for part in parts]).mean(dim=0)
    if spot == "eot":  # the averaged class votes; side by side its parts would only take memory
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
        raise UsageError(f"label {twice!r}: is given twice, case and space aside; remove one")
    engine.check_frames(config.sampling.frames)


def _spotting(config: SpottingConfig, engine: Engine) -> tuple[Spot, float]:
    temperature = engine.recipe.temperature if config.temperature is None else config.temperature
    return config.spot or engine.recipe.spot, temperature


def _branch(engine: Engine, text: TextFeatures, config: ClassifyConfig) -> AttributeBranch | None:
    wanted = config.attributes
    if wanted.attributes == "off":
        if wanted.attribute_model is not None:
            raise UsageError(f"attribute_model is {wanted.attribute_model}, but attributes are off; give a lexicon")
        if wanted.attribute_weight:
            raise UsageError(f"attribute_weight is {wanted.attribute_weight}, but attributes are off; give a lexicon")
        return None
    seer = engine if wanted.attribute_model is None else _load_beside(engine, wanted.attribute_model, config)
    name = seer.recipe.lexicon if wanted.attributes == "auto" else wanted.attributes
    lexicon = encode_lexicon(seer.encoder, read_lexicon(name))
    weight = _attribute_weight(wanted, seer)
    classes: Tensor | None = None
    if weight > 0:
        own = text if seer is engine else encode_labels(seer, text.texts, template=config.template, spot="eot")
        classes = own.classes
    return AttributeBranch(seer, lexicon, classes, weight, wanted.attribute_count)


def _load_beside(engine: Engine, model: str, config: ClassifyConfig) -> Engine:
    device = str(engine.encoder.placement.device)
    return load(model, device=device, precision=config.engine.precision, offline=config.engine.offline)


def _attribute_weight(config: AttributeConfig, seer: Engine) -> float:
    if config.attribute_weight is not None:
        return config.attribute_weight
    # From the same encoder, untrained, attributes add nothing to the answer (README, "Attributes").
    trusted = config.attribute_model is not None or seer.attribute_head is not None
    return TRAINED_ATTRIBUTE_WEIGHT if trusted else 0.0
