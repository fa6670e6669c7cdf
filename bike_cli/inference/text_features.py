"""The features of texts. Those of many texts are computed in blocks, which are kept in the store.

A block ends where the hash of a text says so. So a list that gains or loses some texts shares most blocks with the list
before, and its features are the same digits with a store and without.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bike_cli.config import Spot, StoreConfig
from bike_cli.engine.engine import Engine
from bike_cli.engine.store.rows import StoredFeatures
from bike_cli.engine.store.store import Store, text_recipe
from bike_cli.engine.towers.tokens import Truncated
from bike_cli.errors import StoreError
from bike_cli.records import FrameTimes, Prompt, Source, TextFeatures, VideoFeatures

logger = logging.getLogger(__name__)

FEWEST = 256  # texts that are worth a look into the store, which begins with a hash of the text tower
MOST_IN_BLOCK, ENDS = 1024, 512  # of a block: the most texts; one in so many texts ends it


@dataclass(frozen=True, eq=False)
class Texts:
    """The features of texts, and the texts that are longer than the model's context."""

    features: TextFeatures
    cut: list[Truncated]


def encode_prompts(
    engine: Engine, prompts: Sequence[Prompt], *, positions: Spot, store: StoreConfig | None = None
) -> Texts:
    """Return the features of prompts; see `Encoder.encode_texts`.

    Args:
        store: where those of many texts are kept; None: nowhere. A store that cannot be used is not.
    """
    if len(prompts) < FEWEST or positions == "all":  # the features of all positions take too much space
        return Texts(*engine.encoder.encode_prompts(prompts, positions=positions))
    with ExitStack() as stack:
        opened = None if store is None else _open(store)
        shelf = None if opened is None else _TextShelf(stack.enter_context(opened), engine, positions)
        parts, cut, found, start = [], [], 0, 0
        for block in _blocks(prompts):
            known = None if shelf is None else shelf.find(block)
            found += 0 if known is None else len(block)
            texts = known or Texts(*engine.encoder.encode_prompts(block, positions=positions))
            if shelf is not None and known is None:
                shelf.keep(block, texts)
            parts.append(texts.features)
            cut += [Truncated(start + one.index, one.kept, one.cut) for one in texts.cut]
            start += len(block)
    if found:
        logger.info("cache: features of %d of %d texts", found, len(prompts))
    return Texts(_joined(parts), cut)


def _open(config: StoreConfig) -> Store | None:
    """Return the store; None if it is off or cannot be used, which the run says when it opens it for videos."""
    if config.cache:
        with suppress(StoreError):
            return Store.open(Path(config.cache_dir) if config.cache_dir else None)
    return None


def _blocks(prompts: Sequence[Prompt]) -> Iterator[Sequence[Prompt]]:
    start = 0
    for stop, prompt in enumerate(prompts, start=1):
        is_end = zlib.crc32(prompt.text.encode("utf-8", "surrogatepass")) % ENDS == 0
        if is_end or stop - start == MOST_IN_BLOCK or stop == len(prompts):
            yield prompts[start:stop]
            start = stop


def _joined(parts: list[TextFeatures]) -> TextFeatures:
    """Return the features of all parts; the list is emptied meanwhile, so that memory does not hold them twice."""
    texts = tuple(text for part in parts for text in part.texts)
    classes = torch.cat([part.classes for part in parts])
    length = max(part.tokens.shape[1] for part in parts)
    tokens = classes.new_zeros(len(texts), length, classes.shape[1])
    mask = torch.zeros(len(texts), length, dtype=torch.bool, device=classes.device)
    stop = len(texts)
    while parts:
        part = parts.pop()
        start, width = stop - len(part.texts), part.tokens.shape[1]
        tokens[start:stop, :width], mask[start:stop, :width] = part.tokens, part.token_mask
        stop = start
    return TextFeatures(texts, classes, tokens, mask)


class _TextShelf:
    """The blocks of texts in a store. After an error, it is empty and keeps nothing."""

    def __init__(self, store: Store, engine: Engine, positions: Spot) -> None:
        self._store: Store | None = store
        self._has_tokens = positions == "words"  # at the end of text, the vector of the class is that of the token
        self._device = engine.encoder.placement.device
        self._recipe = text_recipe(engine.text_identity, positions)
        placement = engine.encoder.placement
        dtype = str(placement.dtype).removeprefix("torch.")
        store.describe(self._recipe[:32], f"{engine.name}, {dtype} on {placement.device.type}, texts")

    def find(self, block: Sequence[Prompt]) -> Texts | None:
        """Return the features of a block; None if they are not kept."""
        if self._store is None:
            return None
        try:
            stored = self._store.features(_content(block), self._recipe)
            return None if stored is None else self._unpacked(block, stored)
        except StoreError:  # the run says so when it opens the store for videos
            self._store = None
        except ValueError:
            logger.warning("%s: has features of texts that cannot be read, which are computed again", self._store.file)
        return None

    def keep(self, block: Sequence[Prompt], texts: Texts) -> None:
        """Keep the features of a block."""
        if self._store is None:
            return
        features = texts.features
        counts = features.token_mask.sum(dim=1)  # the positions that count are the first ones
        tokens = [features.tokens[features.token_mask]] if self._has_tokens else []
        rows = torch.cat([features.classes, *tokens])[None]
        note = json.dumps({"counts": counts.tolist(), "cut": [(one.index, one.kept, one.cut) for one in texts.cut]})
        timeline = FrameTimes(np.zeros((1, rows.shape[1])), warning=note)
        try:
            self._store.keep(_content(block), self._recipe, VideoFeatures(Source.at("texts"), rows, timeline))
        except StoreError:
            self._store = None

    def _unpacked(self, block: Sequence[Prompt], stored: StoredFeatures) -> Texts:
        """Return the features in a row; raise ValueError if it does not fit the block."""
        note = json.loads(stored.timeline.warning or "")
        counts, rows = torch.tensor(note["counts"]), torch.from_numpy(stored.frames)[0]
        if len(counts) != len(block) or len(rows) != len(block) + self._has_tokens * int(counts.sum()):
            raise ValueError("the numbers of texts and of tokens do not fit")
        mask = torch.arange(int(counts.max())) < counts[:, None]
        tokens = rows.new_zeros(*mask.shape, rows.shape[1])
        tokens[mask] = rows[len(block) :] if self._has_tokens else rows
        parts: list[Tensor] = [part.to(self._device) for part in (rows[: len(block)].clone(), tokens, mask)]
        return Texts(TextFeatures(tuple(p.text for p in block), *parts), [Truncated(*one) for one in note["cut"]])


def _content(block: Sequence[Prompt]) -> bytes:
    """Return the hash of texts, and of the places of their labels."""
    content = json.dumps([(prompt.text, prompt.start, prompt.stop) for prompt in block])
    return hashlib.sha256(content.encode()).digest()
