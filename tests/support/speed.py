"""Which of a test's parameters the default suite runs."""

from collections.abc import Collection, Iterable

import pytest


def slow_but(quick: Collection[object], values: Iterable[object]) -> list[object]:
    """Return the values as parameters, all marked slow but those of `quick`."""
    return [value if value in quick else pytest.param(value, marks=pytest.mark.slow) for value in values]
