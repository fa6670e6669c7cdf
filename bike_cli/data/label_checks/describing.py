"""Join labels with descriptions that were written for them, and ask a language model for such descriptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from bike_cli.data.label_checks.spelling import same_spelling
from bike_cli.data.labels import LabelSet

PER_LABEL = 3  # descriptions that the prompt asks for


@dataclass(frozen=True)
class MergedDescriptions:
    """Labels with the descriptions of several files.

    Args:
        labels: in their own order and spelling.
        undescribed: labels without descriptions.
        strange: described labels of the other files that are not among the labels.
    """

    labels: LabelSet
    undescribed: tuple[str, ...]
    strange: tuple[str, ...]


def merge_descriptions(labels: LabelSet, others: Sequence[LabelSet]) -> MergedDescriptions:
    """Return the labels with their own descriptions and those of other files, each once.

    A label of another file is the same if it differs only in case, blanks, underscores, CamelCase or punctuation.
    """
    known = {same_spelling(label): label for label in labels.labels}
    described = {label: dict.fromkeys(labels.descriptions.get(label, ())) for label in labels.labels}
    strange: dict[str, None] = {}
    for other in others:
        for label, texts in other.descriptions.items():
            own = known.get(same_spelling(label))
            if own is None:
                strange[label] = None
            else:
                described[own] |= dict.fromkeys(texts)
    found = {label: tuple(texts) for label, texts in described.items() if texts}
    undescribed = tuple(label for label in labels.labels if label not in found)
    return MergedDescriptions(LabelSet(labels.labels, found), undescribed, tuple(strange))


def description_prompt(labels: Sequence[str]) -> str:
    """Return a prompt with which a language model writes the descriptions of labels, as YAML that bike reads."""
    listed = yaml.safe_dump(list(labels), allow_unicode=True, width=10**6)
    return f"""\
Describe what can be seen in a short video of each label below. A vision-language model (CLIP) will compare your
descriptions with the frames of videos, to find the label that fits best.

For each label, write {PER_LABEL} descriptions:
- Write only what is visible in the frames: people, their posture and movement, objects, tools, clothing, place.
- Leave out sounds, smells, feelings, reasons, names of people, history, and what happens before or after.
- Make each description one plain English sentence of 6 to 15 words, in the present tense.
- Use common words. If the label is a technical term, say what it looks like.
- Make the descriptions of a label differ from each other: another view, moment or place.
- Write what tells the label apart from the other labels of the list. Do not say what is absent: no "not", no "without".

Answer with YAML alone, no other text. Repeat each label exactly as it is given, in this order, each with a list:

archery:
- "a person draws a bow and aims at a round target"
- "an arrow hits a target on a field"
- "an archer stands sideways and holds a bow at arm's length"

The labels:

{listed}"""
