"""Records to write, and what must never reach a terminal."""

import re
import unicodedata

import numpy as np

from bike_cli.records import Attribute, Failure, FrameTimes, Prediction, Ranked, Source

BIDI = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
HOSTILE = {  # text from outside that would steer a terminal -> what may be shown of it
    "[red]markup[/red]": "[red]markup[/red]",
    "[link=https://x.org]a[/link]": "[link=https://x.org]a[/link]",
    ":smiley: \\[x]": ":smiley: \\[x]",
    "\x1b[31mred": "\\x1b[31mred",
    "\x1b]0;title\x07": "\\x1b]0;title\\x07",
    "\x9b31m": "\\x9b31m",
    "a\u202egpj.mp4": "a\\u202egpj.mp4",
    "\u2066x\u2069": "\\u2066x\\u2069",
    "new\nline\r": "new\\x0aline\\x0d",
    "tab\tquote\"'": "tab\\x09quote\"'",
    "caf\udce9": "caf\\xe9",  # a byte that is no UTF-8, as os.fsdecode keeps it
    "a\u2028b": "a\\u2028b",
}
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def prediction(
    path: str = "a.mp4",
    labels: tuple[str, ...] = ("running", "jumping", "sitting"),
    *,
    weights: tuple[float, ...] | None = (0.1, 0.2, 0.7),
    warning: str | None = None,
) -> Prediction:
    """A prediction of falling scores: 0.5, 0.25, ..."""
    return Prediction(
        source=Source.at(path),
        ranked=tuple(Ranked(label, 0.5**i, 0.3 - i / 10) for i, label in enumerate(labels, start=1)),
        attributes=(Attribute("grass", 0.25), Attribute("dog", 0.125)),
        saliency=None if weights is None else np.array(weights),
        timeline=FrameTimes(np.arange(len(weights or ())) / 2, np.arange(len(weights or ())) * 10, 12.3456, warning),
        frames=8,
        model="tiny",
    )


def failure(path: str = "b.mp4") -> Failure:
    return Failure(Source.at(path), "damaged", f"{path}: decoding stops inside (bits); repair or replace the file")


def steering(text: str) -> set[str]:
    """Return the characters of a screenful that would do something other than be seen; colour is ours."""
    plain = COLOUR.sub("", text).replace("\n", "")
    return {c for c in plain if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or _turns(c)}


def _turns(character: str) -> bool:
    return unicodedata.bidirectional(character) in BIDI


def cells(line: str) -> int:
    """Return the columns that a line takes on a terminal; east asian signs and pictures take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in COLOUR.sub("", line))
