"""Fonts for names in any script. Importing this module does not import matplotlib."""

from __future__ import annotations

import logging
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bike_cli.cli.terminal.console import safe

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font

logger = logging.getLogger(__name__)

DEFAULT = "DejaVu Sans"  # matplotlib brings it along
BOXES = ("lastresort", "coloremoji", "color emoji")  # fonts that have every character, but draw no glyph of it
INVISIBLE = ("Cc", "Cf", "Zl", "Zp", "Zs", "Mn")
CHARACTERS_SHOWN = 10


@contextmanager
def fonts_for(texts: Iterable[str], target: Path) -> Iterator[None]:
    """Draw with fonts that have the characters of `texts`, and treat no text as a formula.

    Characters that no font has become boxes; one warning names them and `target`, what is drawn.
    """
    import matplotlib as mpl

    characters = {c for text in texts for c in safe(text) if unicodedata.category(c) not in INVISIBLE}
    families, missing = _families(characters)
    if missing:
        shown = ", ".join(sorted(missing)[:CHARACTERS_SHOWN])
        more = f" and {len(missing) - CHARACTERS_SHOWN} more" if len(missing) > CHARACTERS_SHOWN else ""
        logger.warning("%s: no font has %s%s, so boxes are drawn; install one, such as Noto Sans", target, shown, more)
    with (
        mpl.rc_context({"text.usetex": False, "text.parse_math": False, "font.family": families}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the warning above names them once
        yield


def _families(characters: set[str]) -> tuple[list[str], set[str]]:
    """Return the families to draw with, in order, and the characters that none of them has.

    Only characters that the default font lacks make it look through the fonts of the system.
    """
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    default = FT2Font(font_manager.findfont(DEFAULT))
    missing = {c for c in characters if not default.get_char_index(ord(c))}
    families = [DEFAULT]
    files = _font_files() if missing else []
    while missing:
        covered = {file: {c for c in missing if font.get_char_index(ord(c))} for file, font in files}
        best = max(covered, key=lambda file: len(covered[file]), default="")
        if not best or not covered[best]:
            break
        font_manager.fontManager.addfont(best)  # matplotlib's list of fonts may be older than the font
        families.append(dict(files)[best].family_name)
        missing -= covered[best]
    return families, missing


def _font_files() -> list[tuple[str, FT2Font]]:
    """Return the fonts that matplotlib can draw with; of equal ones, those of the plainest names come first."""
    import matplotlib as mpl
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    # Those that matplotlib brings along are for formulas, and have other glyphs than their character maps say.
    known = [e.fname for e in font_manager.fontManager.ttflist if not e.fname.startswith(mpl.get_data_path())]
    files = sorted({*known, *font_manager.findSystemFonts()}, key=lambda file: (len(Path(file).stem), file))
    fonts = []
    for file in files:
        try:
            font = FT2Font(file)
        except (OSError, RuntimeError):  # damaged, or a font of bitmaps
            continue
        if not any(name in f"{font.family_name} {Path(file).stem}".lower().replace("-", "") for name in BOXES):
            fonts.append((file, font))
    return fonts
