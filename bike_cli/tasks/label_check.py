"""Checks of labels that need a model: what it does not read, does not know, or can hardly tell apart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bike_cli.config import DescriptionUse
from bike_cli.data.label_checks.findings import CheckedLabels, Finding
from bike_cli.data.labels import fill, read_templates
from bike_cli.data.lines import Line
from bike_cli.engine.engine import Engine
from bike_cli.engine.scoring import unit
from bike_cli.errors import shorten
from bike_cli.inference.label_texts import encode_labels
from bike_cli.records import Prompt
from bike_cli.wording import all_of, count

# A pair is too close if its distance is below this share of the median distance of all pairs. On the bundled model,
# pairs of the same meaning are below 0.13 of it, and others above 0.43; see benchmarks/near_labels.py.
NEAR = 1 / 3
SAME = 1e-3  # distance of unit vectors, of texts that the model reads alike
FEWEST = 3  # labels for which a median says anything
BLOCK = 1024  # labels that are compared with all others at once: 40 MiB of fp32 for 10,000
BINS = 4096  # of the histogram of distances, from 0 to 2
MOST_PAIRS = 50
SHOWN = 60


class NearPair(NamedTuple):
    """Two places in a list of labels, and the cosine of their features."""

    first: int
    second: int
    cosine: float


def check_with_model(
    engine: Engine, labels: CheckedLabels, *, template: str | None = None, use: DescriptionUse = "add"
) -> list[Finding]:
    """Return what a model cannot read of labels, does not know, or can hardly tell apart, in this order.

    Args:
        template: as for `classify`; None: the model's own.
        use: how descriptions are used; labels are compared with them.
    """
    lines = labels.lines
    found = list(_cut(engine, labels, template or engine.recipe.template))
    unknown = _unknown(engine, labels)
    found += unknown
    nameless = {finding.where for finding in unknown if finding.problem.endswith("none of its words")}
    known = [line for line in lines if line.where not in nameless or line.text in labels.descriptions]
    distinct = list({line.text: line for line in reversed(known)}.values())[::-1]  # duplicates are found elsewhere
    texts = [line.text for line in distinct]
    if len(texts) < 2:
        return found
    spot_free = encode_labels(
        engine, texts, template=template, spot="eot", descriptions=labels.descriptions, use=use, warns=False
    )
    pairs, more = near_pairs(unit(spot_free.classes))
    return found + [_similar(engine, distinct, pair) for pair in pairs] + _of_more(distinct, more)


def near_pairs(classes: Tensor, *, most: int = MOST_PAIRS) -> tuple[list[NearPair], int]:
    """Return the pairs that are too close to each other, closest first, and how many more there are.

    A pair is too close if its distance is below a third of the median distance of all pairs, which does not change
    when a few labels are alike. Memory grows with the number of labels, not with that of pairs.

    Args:
        classes: [C, D] unit vectors.
    """
    labels, histogram = len(classes), torch.zeros(BINS, dtype=torch.int64)
    closest: list[tuple[float, int, int]] = []
    for start in range(0, labels, BLOCK):
        cosines = classes[start : start + BLOCK] @ classes[start:].T
        later = torch.ones_like(cosines, dtype=torch.bool).triu(1)
        distances = _distances(cosines)
        histogram += torch.histc(distances[later].cpu(), BINS, min=0, max=2).long()
        distances[~later] = torch.inf
        nearest = torch.topk(distances.flatten(), min(most, distances.numel()), largest=False)
        for distance, place in zip(nearest.values.tolist(), nearest.indices.tolist(), strict=True):
            row, column = divmod(place, distances.shape[1])
            closest.append((distance, start + row, start + column))
        closest = sorted(closest)[:most]
    limit = SAME if labels < FEWEST else max(SAME, NEAR * _median(histogram))
    pairs = [NearPair(i, j, 1 - distance**2 / 2) for distance, i, j in closest if distance < limit]
    below = int(histogram[: round(limit / 2 * BINS)].sum()) if len(pairs) == most else len(pairs)
    return pairs, max(0, below - len(pairs))


def _distances(cosines: Tensor) -> Tensor:
    return (2 - 2 * cosines).clamp(min=0).sqrt()


def _median(histogram: Tensor) -> float:
    """Return the median of distances, to the width of a bin."""
    total = int(histogram.sum())
    place = int(torch.searchsorted(histogram.cumsum(0), (total + 1) // 2))
    return 2 * (place + 0.5) / BINS


def _similar(engine: Engine, lines: Sequence[Line], pair: NearPair) -> Finding:
    first, second = lines[pair.first], lines[pair.second]
    other = shorten(first.text, SHOWN)
    problem = f"is nearly the same as {other!r} ({first.where}) to {engine.name}: cosine {pair.cosine:.3f}"
    fix = "merge them, or say in other words, or in descriptions, what is seen in one and not in the other"
    return Finding(second.where, second.text, "similar", problem, fix)


def _of_more(lines: Sequence[Line], more: int) -> list[Finding]:
    if not more:
        return []
    where = lines[0].where.rpartition(":")[0]
    return [Finding(where, "", "similar", f"has {count(more, 'more pair')} like these", "correct these first")]


def _cut(engine: Engine, labels: CheckedLabels, template: str) -> Iterator[Finding]:
    longest = max(read_templates(template), key=len)
    where = {line.text: line.where for line in reversed(labels.lines)}
    reads = f"{engine.name} reads {count(engine.encoder.context, 'token')}"
    for cut in engine.encoder.truncated([fill(longest, line.text) for line in labels.lines]):
        line = labels.lines[cut.index]
        problem = f"is too long with the template {longest!r}: {reads}, and {shorten(cut.cut, SHOWN)!r} is cut off"
        yield Finding(line.where, line.text, "cut", problem, "shorten it, or choose a shorter --template")
    described = [(label, text) for label, texts in labels.descriptions.items() for text in texts]
    for cut in engine.encoder.truncated([Prompt.plain(text) for _, text in described]):
        label = described[cut.index][0]
        problem = f"has a description that is too long: {reads}, and {shorten(cut.cut, SHOWN)!r} is cut off"
        yield Finding(where[label], label, "cut", problem, "shorten it, or make two of it")


def _unknown(engine: Engine, labels: CheckedLabels) -> list[Finding]:
    words = list(dict.fromkeys(word for line in labels.lines for word in _words(line.text)))
    unknown = {words[i] for i in engine.encoder.unknown(words)}
    found = []
    for line in labels.lines:
        strange = [word for word in dict.fromkeys(_words(line.text)) if word in unknown]
        if not strange or labels.descriptions.get(line.text):
            continue
        is_all = len(strange) == len(set(_words(line.text)))
        what = "none of its words" if is_all else all_of(repr(word) for word in strange)
        problem = f"{engine.name} knows {what}" if is_all else f"{engine.name} does not know {what}"
        fix = "use words that it knows, describe the label, or choose another model"
        found.append(Finding(line.where, line.text, "unknown", problem, fix))
    return found


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:['\u2019-][^\W_]+)*", text)
