"""Tokenisation: texts become token ids, and a label's position in its prompt becomes a span of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from bike_cli.records import Prompt


class Tokenizer(Protocol):
    """The part of open_clip's `SimpleTokenizer` that bike uses."""

    sot_token_id: int
    eot_token_id: int

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without start and end."""

    def decode(self, tokens: list[int]) -> str:
        """Return the text of these ids."""


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
        ids: start of text, at most context - 2 tokens, end of text.
        words: positions in `ids` of the label's own words; the end of text if none of them is left.
        cut: ids that did not fit.
    """

    ids: list[int]
    words: range
    cut: list[int]


def tokenise(tokenizer: Tokenizer, prompt: Prompt, *, context: int) -> Tokens:
    """Return the tokens of `prompt`, cut to `context` positions as the official tokenizer cuts sentences.

    The label's words are the tokens between those that the prompt shares with the text before the label and those that
    it shares with the text after it. The tokenizer may merge across the label's edges; a token that straddles an edge
    counts as the label's.
    """
    ids = tokenizer.encode(prompt.text)
    first = _shared(ids, tokenizer.encode(prompt.text[: prompt.start]))
    last = len(ids) - _shared(ids[::-1], tokenizer.encode(prompt.text[prompt.stop :])[::-1])
    kept = ids[: context - 2]
    words = range(1 + first, 1 + min(last, len(kept)))
    if not words or not prompt.text[prompt.start : prompt.stop].strip():
        words = range(len(kept) + 1, len(kept) + 2)
    return Tokens([tokenizer.sot_token_id, *kept, tokenizer.eot_token_id], words, ids[len(kept) :])


def _shared(ids: list[int], others: list[int]) -> int:
    """Return the length of the common beginning."""
    pairs = zip(ids, others, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
