"""Tokenisation: texts become token ids, and a label's position in its prompt becomes a span of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from bike_cli.records import Prompt


class Tokenizer(Protocol):
    """A model's own tokenizer."""

    @property
    def context(self) -> int:
        """The number of positions of a text, including start and end."""

    @property
    def vocabulary(self) -> int:
        """The number of token ids."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without start, end and padding."""

    def decode(self, ids: list[int]) -> str:
        """Return the text of these ids."""

    def row(self, ids: list[int]) -> Row:
        """Return the ids of `encode` as the model reads them: cut to the context, between start and end."""

    def padded(self, ids: list[int], length: int) -> list[int]:
        """Return the ids of a row, padded to a length."""


@dataclass(frozen=True)
class Row:
    """A text as the model reads it.

    Args:
        ids: with start and end, without padding.
        first: position of the text's first own token.
        kept: how many of its own tokens fit.
    """

    ids: list[int]
    first: int
    kept: int


@dataclass(frozen=True)
class Truncated:
    """A text, at `index` in its list, that is longer than the context, in the parts that are kept and cut."""

    index: int
    kept: str
    cut: str


@dataclass(frozen=True)
class Tokens:
    """The tokens of one text.

    Args:
        ids: start of text, the tokens that fit, end of text.
        words: positions in `ids` of the label's own words; the end of text if none of them is left.
        kept: own ids that fit.
        cut: own ids that did not fit.
    """

    ids: list[int]
    words: range
    kept: list[int]
    cut: list[int]

    @property
    def end(self) -> int:
        """The position that the model reads: as in open_clip, the first with the id of the end of text."""
        return self.ids.index(self.ids[-1])


def tokenise_all(tokenizer: Tokenizer, prompts: Sequence[Prompt]) -> list[Tokens]:
    """Return the tokens of each prompt; see `tokenise`. What they share around their labels is read once."""
    around: dict[str, list[int]] = {}

    def encode(text: str) -> list[int]:
        if text not in around:
            around[text] = tokenizer.encode(text)
        return around[text]

    return [_tokens(tokenizer, prompt, encode) for prompt in prompts]


def tokenise(tokenizer: Tokenizer, prompt: Prompt) -> Tokens:
    """Return the tokens of `prompt`, cut to the context as the model's own tokenizer cuts sentences.

    The label's words are the tokens between those that the prompt shares with the text before the label and those that
    it shares with the text after it. The tokenizer may merge across the label's edges; a token that straddles an edge
    counts as the label's.
    """
    return _tokens(tokenizer, prompt, tokenizer.encode)


def _tokens(tokenizer: Tokenizer, prompt: Prompt, encode_around: Callable[[str], list[int]]) -> Tokens:
    ids = tokenizer.encode(prompt.text)
    before = _shared(ids, encode_around(prompt.text[: prompt.start]))
    last = len(ids) - _shared(ids[::-1], encode_around(prompt.text[prompt.stop :])[::-1])
    row = tokenizer.row(ids)
    words = range(row.first + before, row.first + min(last, row.kept))
    if not words or not prompt.text[prompt.start : prompt.stop].strip():
        end = min(row.first + row.kept, len(row.ids) - 1)
        words = range(end, end + 1)
    return Tokens(row.ids, words, ids[: row.kept], ids[row.kept :])


def _shared(ids: list[int], others: list[int]) -> int:
    """Return the length of the common beginning."""
    pairs = zip(ids, others, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
