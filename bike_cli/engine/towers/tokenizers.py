"""Tokenizers of models: OpenAI's, which is part of open_clip."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from open_clip import SimpleTokenizer

from bike_cli.engine.towers.tokens import Row


@dataclass(frozen=True)
class OpenAITokenizer:
    """OpenAI's byte-pair encoding, as in open_clip: lower case, padded with 0."""

    context: int

    @property
    def vocabulary(self) -> int:
        """The number of token ids."""
        return int(_openai().vocab_size)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without start and end."""
        ids: list[int] = _openai().encode(text)
        return ids

    def decode(self, ids: list[int]) -> str:
        """Return the text of these ids."""
        return str(_openai().decode(ids))

    def row(self, ids: list[int]) -> Row:
        """Return the ids between start and end of text, as open_clip cuts them."""
        kept = ids[: self.context - 2]
        start, end = _openai().all_special_ids
        return Row([start, *kept, end], first=1, kept=len(kept))

    def padded(self, ids: list[int], length: int) -> list[int]:
        """Return the ids of a row, padded to a length."""
        return [*ids, *[0] * (length - len(ids))]


@cache  # it takes half of the time to load a small model
def _openai() -> SimpleTokenizer:
    return SimpleTokenizer()
