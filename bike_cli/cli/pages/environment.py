"""Render pages from templates: every text is escaped, and a browser may only use what the page contains.

`base.css` has the style that all pages share, and `parts.html.jinja` the macros.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from bike_cli.cli.terminal.console import safe
from bike_cli.wording import count

LONGEST = 240  # characters of a name; longer ones would hide the page
_SHARED = "bike_cli.cli.pages"


def make_environment(package: str) -> Environment:
    """Return an environment for the templates of a package, and the shared ones.

    All text is escaped, with control characters as `\\x1b` and `\\u202e`. Texts from outside also go through `|name`,
    which isolates them from the direction of the text around them, and shortens them in the middle.
    """
    environment = Environment(
        loader=FunctionLoader(lambda name: _text(package, name) or _text(_SHARED, name)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_without_controls,
    )
    environment.filters |= {"counted": count, "name": _name, "shortened": shortened}
    environment.globals |= {"extent": _extent}
    return environment


def page_style(package: str, name: str) -> Markup:
    """Return the shared style and that of a package as the content of a style element."""
    return _inlined(f"{_text(_SHARED, 'base.css')}\n{_text(package, name)}")


def page_script(package: str, name: str) -> Markup:
    """Return a script of a package as the content of a script element."""
    return _inlined(_text(package, name) or "")


def digest_of(content: str) -> str:
    """Return what a content security policy calls the content of a style or script element."""
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def shortened(text: str) -> str:
    """Return a text without its middle, if it is long."""
    if len(text) <= LONGEST:
        return text
    head, tail = LONGEST * 2 // 3, LONGEST // 3
    return f"{text[:head]} … {len(text) - head - tail:,} characters … {text[-tail:]}"


def _text(package: str, name: str) -> str | None:
    file = resources.files(package).joinpath(name)
    return file.read_text(encoding="utf-8") if file.is_file() else None


def _inlined(content: str) -> Markup:
    return Markup(f"\n{content.strip()}\n")  # the package's own


def _without_controls(value: object) -> object:
    return safe(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _name(text: str) -> Markup:
    return Markup("<bdi>{}</bdi>").format(safe(shortened(text)))


def _extent(start: float, stop: float) -> tuple[str, str]:
    """Return where a bar from `start` to `stop` begins and how wide it is, in per cent."""
    left, right = (100 * min(max(share, 0.0), 1.0) for share in (start, stop))
    return f"{left:.4g}", f"{max(right - left, 0):.4g}"
