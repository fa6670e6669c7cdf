"""An extension for mkdocstrings: put the blank line before each section that Google-style parsers expect."""

from __future__ import annotations

import re

import griffe

SECTION = re.compile(r"(?<!\n)\n(?=(?:Args|Returns|Yields|Raises):\n)")


class DocstringSections(griffe.Extension):
    """Separate the sections of docstrings."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Change the docstring of an object that was read."""
        if obj.docstring is not None:
            obj.docstring.value = SECTION.sub("\n\n", obj.docstring.value)
