"""Attributes: the phrases of a lexicon that fit a video's frames, and the sentence made of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bike_cli.config import PROMPT
from bike_cli.engine.heads.bike import AttributeHead
from bike_cli.engine.scoring import rank, unit
from bike_cli.engine.towers.encoder import Encoder
from bike_cli.records import Attribute, Lexicon


def encode_lexicon(encoder: Encoder, phrases: Sequence[str]) -> Lexicon:
    """Return the phrases with their features, each inside BIKE's prompt as labels are."""
    features = encoder.encode_texts([PROMPT.format(phrase) for phrase in phrases], positions="eot").classes
    return Lexicon(tuple(phrases), unit(features))


@torch.no_grad()
def associate(frames: Tensor, lexicon: Lexicon, k: int, *, videos: int | None = None) -> list[tuple[Attribute, ...]]:
    """Return the k phrases nearest to each video, best first: by the mean over frames of their cosine.

    Args:
        frames: [V, T, D], raw.
        k: at least 1; a shorter lexicon is returned whole.
        videos: how many of the V there are; the others are padding, and have no answer. None: all.
    Source: BIKE (arXiv:2301.00182), Video-Attribute Association.
    """
    cosines = unit(frames).mean(dim=1) @ lexicon.features.T  # [V, P]
    best = rank(cosines, k)[:videos]  # [V, k]
    named = zip(best.tolist(), cosines[:videos].gather(1, best).tolist(), strict=True)
    return [tuple(map(Attribute, [lexicon.phrases[i] for i in places], values)) for places, values in named]


def attribute_sentence(phrases: Sequence[str]) -> str:
    """Return the sentence of these phrases: "This is a video about a,b,c".

    Source: BIKE, official attributes branch; no space after the commas.
    """
    return PROMPT.format(",".join(phrases))


@torch.no_grad()
def attribute_scores(sentences: Tensor, classes: Tensor, head: AttributeHead | None = None) -> Tensor:
    """Return the cosine of each video's sentence with each class.

    Args:
        sentences: [V, D], raw end-of-text features of attribute sentences.
        classes: [C, D], raw.
        head: the trained branch; None: the features as they are.
    Returns:
        [V, C], in [-1, 1].
    """
    if head is None:
        return unit(sentences) @ unit(classes).T
    scores: Tensor = head(sentences, classes)
    return scores
