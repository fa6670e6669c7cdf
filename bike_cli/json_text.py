"""Write JSON that is safe to print on a terminal, with numbers rounded to their precision."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping

JsonObject = Mapping[str, object]

# Characters that are valid in JSON but unsafe on a terminal: C1 controls and DEL, bytes that are not UTF-8 (kept as
# surrogates), line separators, and marks that change the direction of text.
_UNSAFE = re.compile("[\x7f-\x9f\ud800-\udfff\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def as_json(value: object) -> str:
    """Return one line of JSON that is safe to print and restores every character when it is read."""
    return escaped(json.dumps(value, ensure_ascii=False, allow_nan=False))


def escaped(text: str) -> str:
    """Return JSON with every character escaped that could steer a terminal or is not UTF-8."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def rounded(number: float, digits: int = 6) -> float | None:
    """Return a rounded number; None for one that is not finite, which JSON does not have."""
    return round(number, digits) if math.isfinite(number) else None


def significant(score: float) -> float | None:
    """Return a score with six significant digits, or six of its distance from 1; None if it is not finite.

    With six decimals, scores near 0 or 1 would become equal, and mAP depends on their order.
    """
    if not math.isfinite(score):
        return None
    rest = min(score, 1 - score)
    return round(score, 5 - math.floor(math.log10(rest))) if rest > 0 else score
