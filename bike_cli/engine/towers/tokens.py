"""Texts become token ids, and a label's place in its prompt becomes a span of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bike_cli.records import Prompt


class Tokenizer(Protocol):
    """What is needed of open_clip's `SimpleTokenizer`."""

    sot_token_id: int
    eot_token_id: int

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without start and end."""

    def decode(self, tokens: list[int]) -> str:
        """Return the text of these ids."""


@dataclass(frozen=True)
class Truncated:
    """A text, at `index` in its list, that is longer than the context: what the model sees of it, and what not."""

    index: int
    kept: str
    cut: str


@dataclass(frozen=True)
class Tokens:
    """One text as the text tower reads it.

    Args:
        ids: start of text, at most context - 2 tokens, end of text.
        words: positions in `ids` of the label's own words; the end of text where nothing of the label is left.
        cut: ids that did not fit.
    """

    ids: list[int]
    words: range
    cut: list[int]


def tokenise(tokenizer: Tokenizer, prompt: Prompt, *, context: int) -> Tokens:
    """Return the tokens of `prompt`, cut to `context` positions as the official tokenizer cuts sentences.

    The label's words are what is left between the tokens that its prompt shares with the text before the label and
    with the text after it. Cleaning, lower case and merges may reach over the label's edges; a token that straddles
    an edge then counts as the label's.
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
    count = 0
    while count < min(len(ids), len(others)) and ids[count] == others[count]:
        count += 1
    return count
