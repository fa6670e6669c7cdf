"""Write JSON that is safe to print on a terminal."""

from __future__ import annotations

import json
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
