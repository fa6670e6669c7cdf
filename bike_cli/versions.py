"""The version of bike, and of the packages that its results depend on."""

from __future__ import annotations

__version__ = "0.1.0"

PACKAGES = ("torch", "open_clip_torch", "numpy", "av", "decord")


def versions() -> dict[str, str | None]:
    """Return the versions of bike, of Python and of the packages that decode and compute; None: not installed."""
    # Imported here because `bike --help` does not need it.
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {"bike": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
