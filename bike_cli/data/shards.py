"""Split videos into parts, in the same way on every machine."""

from __future__ import annotations

import hashlib
import math
import os
import re
from dataclasses import dataclass

from bike_cli.errors import UsageError


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, counted from 1.

    The part of a video depends only on its name, not on the order or on other videos, so that machines agree even if
    files are added or removed.
    """

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"

    def holds(self, name: str) -> bool:
        """Return whether a video with this name belongs to this part."""
        digest = hashlib.blake2b(os.fsencode(name), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.index - 1

    def overlaps(self, other: Shard) -> bool:
        """Return whether some names belong to both parts."""
        return (self.index - other.index) % math.gcd(self.count, other.count) == 0


def parse_shard(text: str) -> Shard:
    """Return the part that `i/n` names.

    Raises:
        UsageError: not two whole numbers, or i is not from 1 to n.
    """
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
    if match is None:
        raise UsageError(f"--shard {text!r}: is not I/N; give a part and how many there are, such as 1/4")
    index, count = int(match[1]), int(match[2])
    if count < 1:
        raise UsageError(f"--shard {text!r}: has no parts; give at least one, such as 1/4")
    if not 1 <= index <= count:
        raise UsageError(
            f"--shard {text!r}: there is no part {index}; they are counted from 1/{count} to {count}/{count}"
        )
    return Shard(index, count)
