"""HTML from plain strings: every character and attribute is escaped here, and nowhere else is markup written.

Only these functions make `Html`, so a type checker sees where text from outside would get into a page as markup.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple, NewType

from bike_cli.cli.terminal.console import safe

Html = NewType("Html", str)

NOTHING = Html("")
LONGEST = 240  # characters of a name from outside; more hide the page and tell nothing
_VOID = frozenset({"meta", "link", "img"})


class Column(NamedTuple):
    """A column of a table: what its head says, and whether figures stand in it."""

    head: Html
    is_figures: bool = True


# -- text ---------------------------------------------------------------------------------------------------------


def text(words: str) -> Html:
    """Return words as HTML; what could steer a reader's screen is written out: `\\x1b`, `\\u202e`."""
    return Html(html.escape(safe(words)))


def name(words: str) -> Html:
    """Return a name from outside as HTML: of its own direction, and shortened in its middle."""
    return element("bdi", text(shortened(words)))


def shortened(words: str) -> str:
    """Return a name of at most about `LONGEST` characters: its start, its end, and how many were left out."""
    if len(words) <= LONGEST:
        return words
    head, tail = LONGEST * 2 // 3, LONGEST // 3
    return f"{words[:head]} … {len(words) - head - tail:,} characters … {words[-tail:]}"


# -- elements -----------------------------------------------------------------------------------------------------


def element(tag: str, *children: Html, **attributes: str) -> Html:
    """Return an element; `class_` and `aria_label` are its `class` and `aria-label`, "" is one without a value."""
    named = [(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()]
    told = "".join(f' {key}="{text(value)}"' if value else f" {key}" for key, value in named)
    if tag in _VOID:
        return Html(f"<{tag}{told}>")
    return Html(f"<{tag}{told}>{''.join(children)}</{tag}>")


def joined(parts: Iterable[Html]) -> Html:
    """Return parts one after another."""
    return Html("".join(parts))


def page(*, title: str, css: str, body: Html) -> Html:
    """Return a whole page that loads nothing: a browser refuses it anything but its own style and its own pictures."""
    style = f"\n{css.strip()}\n"
    allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'"
    head = (
        element("meta", charset="utf-8"),
        # Before everything that it is to guard.
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", text(title)),
        element("link", rel="icon", href="data:,"),  # or a browser asks the server for one
        Html(f"<style>{style}</style>"),
    )
    lines = Html("\n")
    whole = element("html", lines, element("head", *head), lines, element("body", body), lines, lang="en")
    return Html(f"<!doctype html>\n{whole}\n")


# -- pieces -------------------------------------------------------------------------------------------------------


def table(
    id_: str,
    caption: Html,
    columns: Sequence[Column],
    rows: Iterable[Sequence[Html]],
    *,
    groups: Sequence[tuple[str, int]] = (),
) -> Html:
    """Return a table in a box of its own that scrolls; the first cell of each row names the row.

    Args:
        groups: what spans columns above their heads, and how many.
    """
    above = [element("th", text(said), scope="colgroup", colspan=str(width)) for said, width in groups]
    heads = [element("th", c.head, scope="col", class_="figure" if c.is_figures else "words") for c in columns]
    lines = [element("tr", *above)] if groups else []
    body = [element("tr", *_cells(row, columns)) for row in rows]
    told = element("caption", element("span", caption), id=f"{id_}-caption")
    whole = element("table", told, element("thead", *lines, element("tr", *heads)), element("tbody", *body))
    return scroller(whole, labelled_by=f"{id_}-caption", id_=id_)


def _cells(row: Sequence[Html], columns: Sequence[Column]) -> Iterable[Html]:
    yield element("th", row[0], scope="row")
    for cell, column in zip(row[1:], columns[1:], strict=True):
        yield element("td", cell, class_="figure") if column.is_figures else element("td", cell)


def scroller(content: Html, *, labelled_by: str, id_: str) -> Html:
    """Return content in a box that scrolls by itself, by keyboard too."""
    return element("div", content, id=id_, class_="scroll", role="region", tabindex="0", aria_labelledby=labelled_by)


def details(summary: Html, *content: Html, is_open: bool = False) -> Html:
    """Return content behind a line that opens it."""
    inner = (element("summary", summary), *content)
    return element("details", *inner, open="") if is_open else element("details", *inner)


def facts(pairs: Iterable[tuple[str, Html]]) -> Html:
    """Return what is what, as a list of terms."""
    return element("dl", *(element("div", element("dt", text(k)), element("dd", v)) for k, v in pairs), class_="facts")


def bar(share: float, interval: tuple[float, float] | None = None) -> Html:
    """Return a share of 1 as a bar, for eyes alone: the figure stands beside it."""
    parts = [_box("track", 0, 1), _box("share", 0, share)]
    if interval is not None:
        parts.append(_box("interval", *interval))
    return element("svg", *parts, class_="bar", viewBox="0 0 100 10", preserveAspectRatio="none", aria_hidden="true")


def _box(kind: str, start: float, stop: float) -> Html:
    left, right = (100 * min(max(x, 0.0), 1.0) for x in (start, stop))
    top, height = ("4", "2") if kind == "interval" else ("0", "10")
    return element("rect", class_=kind, x=f"{left:.4g}", y=top, width=f"{max(right - left, 0):.4g}", height=height)


def picture(jpeg: bytes, *, says: str) -> Html:
    """Return a JPEG as an image inside the page."""
    content = base64.b64encode(jpeg).decode()
    # Not by `element`: it would look at a hundred thousand characters that are known.
    return Html(f'<img alt="{text(says)}" src="data:image/jpeg;base64,{content}">')
