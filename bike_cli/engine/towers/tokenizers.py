"""Tokenizers: OpenAI's, which is part of open_clip, and those that are read from a tokenizer.json."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Literal, get_args

import tokenizers
from open_clip import SimpleTokenizer
from open_clip.tokenizer import get_clean_fn

from bike_cli.engine.download.file_names import TOKENIZER_FILE as TOKENIZER_FILE
from bike_cli.engine.towers.tokens import Row
from bike_cli.errors import ModelError, first_line, shorten
from bike_cli.wording import either

MAX_TOKENIZER_BYTES = 2**28  # 256 MiB; that of a model with 900,000 tokens has 60

MOST_SPECIAL = 8  # ids before or after a text

Clean = Literal["lower", "whitespace", "canonicalize"]


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


@dataclass(frozen=True)
class TokenizerRecipe:
    """How texts become rows of token ids; all values come with the model.

    Args:
        clean: how a text is cleaned first: `whitespace` normalises it, `lower` also converts to lower case, and
            `canonicalize` also removes punctuation.
        start: ids before the text's own.
        end: ids after them.
        pad: the id that fills a row.
        zeroed: an id that is replaced by 0 wherever it occurs, if any.
    Raises:
        ValueError: a value of another type or out of range.
    """

    clean: Clean = "whitespace"
    start: tuple[int, ...] = ()
    end: tuple[int, ...] = ()
    pad: int = 0
    zeroed: int | None = None

    def __post_init__(self) -> None:
        if self.clean not in get_args(Clean):
            raise ValueError(f"clean is {shorten(repr(self.clean), 60)}, not {either(get_args(Clean))}")
        given = {"start": self.start, "end": self.end, "pad": (self.pad,), "zeroed": (self.zeroed or 0,)}
        for name, ids in given.items():
            if not isinstance(ids, tuple) or len(ids) > MOST_SPECIAL or not all(_is_id(token) for token in ids):
                raise ValueError(f"{name} is {shorten(repr(getattr(self, name)), 60)}, not token ids")


@dataclass(frozen=True)
class FileTokenizer:
    """A tokenizer read from a tokenizer.json, as the `tokenizers` library describes it.

    The file turns a text into its own ids; the recipe puts them into a row, exactly as in the model's training.

    Args:
        content: of the file.
        name: of the model, for messages.
    Raises:
        ModelError: the content is not a tokenizer.
    """

    content: bytes = field(repr=False)
    recipe: TokenizerRecipe
    context: int
    name: str = TOKENIZER_FILE

    def __post_init__(self) -> None:
        _ = self._tokenizer

    @cached_property
    def _tokenizer(self) -> tokenizers.Tokenizer:
        return parse_tokenizer(self.content, self.name)

    @cached_property
    def sha256(self) -> str:
        """The checksum of the file."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def fingerprint(self) -> str:
        """A hash of everything that the rows depend on, except their length."""
        return hashlib.sha256(f"{self.sha256} {self.recipe}".encode()).hexdigest()[:16]

    @property
    def vocabulary(self) -> int:
        """The number of token ids, without those that were added later."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=False))

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without start, end and padding."""
        cleaned = get_clean_fn(self.recipe.clean)(text)
        with _explaining(self.name, "cannot read a text"):
            ids = self._tokenizer.encode(cleaned, add_special_tokens=False).ids
        return [0 if token == self.recipe.zeroed else token for token in ids]

    def decode(self, ids: list[int]) -> str:
        """Return the text of these ids."""
        return str(self._tokenizer.decode(ids))

    def row(self, ids: list[int]) -> Row:
        """Return the ids between those of start and end, cut to the context."""
        start, end = self.recipe.start, self.recipe.end
        kept = ids[: max(0, self.context - len(start) - len(end))]
        return Row([*start, *kept, *end][: self.context], first=len(start), kept=len(kept))

    def padded(self, ids: list[int], length: int) -> list[int]:
        """Return the ids of a row, padded to a length."""
        return [*ids, *[self.recipe.pad] * (length - len(ids))]


def parse_tokenizer(content: bytes, name: str) -> tokenizers.Tokenizer:
    """Return the tokenizer in a tokenizer.json, without truncation, padding and random merges.

    Raises:
        ModelError: the content is not a tokenizer; the message begins with `name`.
    """
    with _explaining(name, "is not a tokenizer"):
        tokenizer = tokenizers.Tokenizer.from_str(content.decode())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # Dropout of merges is for training: the same text would get different ids each time.
    if getattr(tokenizer.model, "dropout", None):
        tokenizer.model.dropout = None
    return tokenizer


@contextmanager
def _explaining(name: str, problem: str) -> Iterator[None]:
    try:
        yield
    except Exception as e:  # the library raises nothing more specific
        raise ModelError(f"{name}: its {TOKENIZER_FILE} {problem} ({first_line(e)}); download it again") from e


def _is_id(token: object) -> bool:
    return type(token) is int and 0 <= token < 2**31
