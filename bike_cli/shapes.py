"""Check the shapes of arrays, and show them."""

from __future__ import annotations

from dataclasses import fields


def _show(value: object) -> str:
    shape = getattr(value, "shape", None)
    return repr(value) if shape is None else f"{getattr(value, 'dtype', '')}{list(shape)}"


class ShowsShapes:
    """Print arrays as dtype and shape: a record on a screen is for reading, not for its numbers."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{f.name}={_show(getattr(self, f.name))}" for f in fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__}({shown})"


def check_shape(name: str, actual: tuple[int, ...], *expected: int | None) -> None:
    """Raise ValueError if a shape is not the expected one; None: any length."""
    if len(actual) != len(expected) or any(e is not None and a != e for a, e in zip(actual, expected, strict=True)):
        wanted = ", ".join("?" if e is None else str(e) for e in expected)
        raise ValueError(f"{name} has shape {list(actual)}; expected [{wanted}]")
