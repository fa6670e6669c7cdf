"""The text features of labels: inside templates, and with descriptions."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bike_cli.config import Descriptions, DescriptionUse, Spot, StoreConfig
from bike_cli.data.labels import fill, read_templates
from bike_cli.data.lines import key
from bike_cli.engine.engine import Engine
from bike_cli.engine.scoring import unit
from bike_cli.engine.towers.tokens import Truncated
from bike_cli.errors import UsageError, shorten
from bike_cli.inference.text_features import encode_prompts
from bike_cli.records import Prompt, TextFeatures
from bike_cli.wording import count

logger = logging.getLogger(__name__)

SHOWN = 60  # characters of a label in a message


def encode_labels(
    engine: Engine,
    labels: Sequence[str],
    *,
    template: str | None,
    spot: Spot,
    descriptions: Descriptions | None = None,
    use: DescriptionUse = "add",
    warns: bool = True,
    store: StoreConfig | None = None,
) -> TextFeatures:
    """Return the features of labels inside a template, or inside all templates of a set.

    With a set, class vectors are the mean of unit vectors, and the tokens of all templates vote. Descriptions are
    further texts of a label: its class vector is the mean of the unit vector of its template, or of its whole set, and
    those of its descriptions; all words of a description vote. A text longer than the model's context is cut, with a
    warning.

    Args:
        use: `only` leaves the templates of labels with descriptions out, and `off` the descriptions. `add` leaves out
            the templates of a label without a word that the model knows, as they would be the same for all of these.
        warns: whether texts that are cut are warned about.
        store: where the features of many texts are kept; None: nowhere.
    Raises:
        UsageError: descriptions with `spot` all, which is defined for templates alone.
    """
    start_s = time.perf_counter()
    name = template or engine.recipe.template
    text = _encode_in_templates(engine, labels, read_templates(name), spot, warns=warns, store=store)
    described = {} if use == "off" else {label: texts for label, texts in (descriptions or {}).items() if texts}
    if described:
        text = _with_descriptions(engine, text, described, spot, alone=use == "only", warns=warns, store=store)
    seconds = time.perf_counter() - start_s
    logger.info(
        "%s: encoded with template %s, spotting by %s, in %.2f s", count(len(labels), "label"), name, spot, seconds
    )
    if described:
        number = sum(map(len, described.values()))
        where = "instead of" if use == "only" else "in addition to"
        logger.info("%s of %s used %s it", count(number, "description"), count(len(described), "label"), where)
    return text


def check_no_descriptions(descriptions: Descriptions, use: DescriptionUse, fact: str) -> None:
    """Raise UsageError if labels have descriptions that count."""
    first = next((label for label, texts in descriptions.items() if texts), None)
    if first is not None and use != "off":
        raise UsageError(
            f"descriptions: label {first!r} has some, but {fact}; add --descriptions off, or give labels alone",
            settings=("descriptions",),
        )


def _encode_in_templates(
    engine: Engine,
    labels: Sequence[str],
    templates: Sequence[str],
    spot: Spot,
    *,
    warns: bool,
    store: StoreConfig | None,
) -> TextFeatures:
    filled = [[fill(pattern, label) for label in labels] for pattern in templates]
    read = [encode_prompts(engine, prompts, positions=spot, store=store) for prompts in filled]
    if warns:
        longest = max(range(len(filled)), key=lambda i: len(filled[i][0].text))
        _warn_of_cuts(engine, read[longest].cut, lambda i: f"label {_shown(labels[i])}")
    parts = [texts.features for texts in read]
    if len(parts) == 1:
        return TextFeatures(tuple(labels), parts[0].classes, parts[0].tokens, parts[0].token_mask)
    classes = torch.stack([unit(part.classes) for part in parts]).mean(dim=0)
    if spot == "eot":  # the averaged class votes; the tokens of each template would only take memory
        return TextFeatures(tuple(labels), classes, classes[:, None], parts[0].token_mask)
    tokens = torch.cat([part.tokens for part in parts], dim=1)
    return TextFeatures(tuple(labels), classes, tokens, torch.cat([part.token_mask for part in parts], dim=1))


def _with_descriptions(
    engine: Engine,
    text: TextFeatures,
    descriptions: Descriptions,
    spot: Spot,
    *,
    alone: bool,
    warns: bool,
    store: StoreConfig | None,
) -> TextFeatures:
    """Return the features of labels, averaged with those of their descriptions."""
    if spot == "all":
        raise UsageError(
            "spot all: counts every position of a template, and these labels have descriptions; give words or eot, or "
            "--descriptions off",
            settings=("spot", "descriptions"),
        )
    labels, device = text.texts, text.classes.device
    owners = [(i, place) for i, label in enumerate(labels) for place in range(len(descriptions.get(label, ())))]
    given = [descriptions[labels[i]][place] for i, place in owners]
    prompts = [Prompt.plain(description) for description in given]
    texts = encode_prompts(engine, prompts, positions=spot, store=store)
    if warns:
        _warn_of_cuts(engine, texts.cut, lambda i: f"a description of {_shown(labels[owners[i][0]])}")
    read = texts.features
    rows = torch.tensor([i for i, _ in owners], device=device)
    counts = torch.bincount(rows, minlength=len(labels))
    left_out = counts > 0
    if not alone:
        left_out &= _marks(engine.encoder.unknown(labels), len(labels), device)
    own = unit(text.classes) * ~left_out[:, None]
    classes = own.index_add(0, rows, unit(read.classes)) / (counts + ~left_out)[:, None]
    if spot == "eot":
        return TextFeatures(labels, classes, classes[:, None], text.token_mask)
    # [C, most descriptions of a label, L, D]; descriptions that a label does not have are masked.
    places = torch.tensor([place for _, place in owners], device=device)
    tokens = read.tokens.new_zeros(len(labels), int(counts.max()), *read.tokens.shape[1:])
    mask = read.token_mask.new_zeros(tokens.shape[:3])
    tokens[rows, places], mask[rows, places] = read.tokens, read.token_mask
    own_mask = text.token_mask & ~left_out[:, None]
    return TextFeatures(
        labels,
        classes,
        torch.cat([text.tokens, tokens.flatten(1, 2)], dim=1),
        torch.cat([own_mask, mask.flatten(1, 2)], dim=1),
    )


def _marks(places: Sequence[int], length: int, device: torch.device) -> Tensor:
    """Return a mask [length] that is True at these places."""
    marks = torch.zeros(length, dtype=torch.bool, device=device)
    marks[list(places)] = True
    return marks


def _shown(label: str) -> str:
    return f"'{shorten(label, SHOWN)}'"


def _warn_of_cuts(engine: Engine, cuts: Sequence[Truncated], subject: Callable[[int], str]) -> None:
    for cut in cuts:
        logger.warning(
            "%s: is longer than the %s that %s reads; '%s' is cut off, shorten it",
            subject(cut.index),
            count(engine.encoder.context, "token"),
            engine.name,
            shorten(cut.cut, SHOWN),
        )


def unknown_labels(engine: Engine, labels: Sequence[str], descriptions: Descriptions | None = None) -> list[str]:
    """Return the labels without a word that the model knows, except those that it was trained with.

    A label is known by its descriptions, too.
    """
    trained = set() if engine.training is None else {key(label) for label in engine.training.labels}
    labels = [label for label in labels if key(label) not in trained]
    unknown = [labels[i] for i in engine.encoder.unknown(labels)]
    texts = [(label, text) for label in unknown for text in (descriptions or {}).get(label, ())]
    of_no_word = set(engine.encoder.unknown([text for _, text in texts])) if texts else set()
    described = {label for i, (label, _) in enumerate(texts) if i not in of_no_word}
    return [label for label in unknown if label not in described]


def warn_of_unknown(
    engine: Engine, labels: Sequence[str], consequence: str, descriptions: Descriptions | None = None
) -> None:
    """Warn about labels without a word that the model knows; see `unknown_labels`."""
    unknown = unknown_labels(engine, labels, descriptions)
    if unknown:
        first, more = _shown(unknown[0]), len(unknown) - 1
        subject, its = (f"labels {first} and {more} more", "their") if more else (f"label {first}", "its")
        logger.warning("%s: %s knows none of %s words, so %s", subject, engine.name, its, consequence)
