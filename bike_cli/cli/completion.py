"""Values that the shell completes after a flag. Nothing here may import torch: each press of Tab starts bike."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

Completer = Callable[[str], list[str]]

METHODS = ("probe", "proto", "tip", "bike", "all")


def completer_of(name: str) -> Completer | None:
    """Return what completes the values of a field; None: its choices, or names of files by the shell."""
    return _COMPLETERS.get(name)


def models(incomplete: str) -> list[str]:
    """Return short names of models, and local files and folders."""
    return [*model_names(incomplete), *_files(incomplete)]


def model_names(incomplete: str) -> list[str]:
    """Return short names of models."""
    from bike_cli.engine.models.aliases import ALIASES, BUNDLED

    return _starting((BUNDLED, *ALIASES), incomplete)


def families(incomplete: str) -> list[str]:
    """Return families of models."""
    from bike_cli.engine.models.open_clip.families import FAMILIES

    return _starting([family.name for family in FAMILIES], incomplete)


def licences(incomplete: str) -> list[str]:
    """Return licences of models."""
    from bike_cli.engine.models.open_clip.families import FAMILIES

    return _starting(dict.fromkeys(family.licence.replace(" ", "-") for family in FAMILIES), incomplete)


def _lexicons(incomplete: str) -> list[str]:
    from bike_cli.data.lexicons import lexicon_names

    return [*_starting(("auto", "off", *lexicon_names()), incomplete), *_files(incomplete)]


def _templates(incomplete: str) -> list[str]:
    from bike_cli.data.labels import TEMPLATES

    return [*_starting(TEMPLATES, incomplete), *_files(incomplete)]


def _words(*words: str) -> Completer:
    """Return what completes a word."""

    def complete(incomplete: str) -> list[str]:
        return _starting(words, incomplete)

    return complete


def _list_of(*words: str) -> Completer:
    """Return what completes a list with commas, by a word that is not in it yet."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{word}" for word in _starting(words, last) if word not in before.split(",")]

    return complete


def _starting(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def _files(incomplete: str) -> list[str]:
    """Return files and folders; the shell offers none itself where it is given words."""
    folder, start = os.path.split(incomplete)
    prefix = incomplete[: len(incomplete) - len(start)]
    try:
        entries = sorted(os.scandir(os.path.expanduser(folder) or "."), key=lambda entry: entry.name)  # noqa: PTH111
    except OSError:
        return []
    shown = [entry for entry in entries if entry.name.startswith(start) and (start or not entry.name.startswith("."))]
    return [f"{prefix}{entry.name}{'/' if entry.is_dir() else ''}" for entry in shown]


_COMPLETERS: dict[str, Completer] = {
    "model": models,
    "attribute_model": models,
    "attributes": _lexicons,
    "template": _templates,
    "target": _files,
    "method": _list_of(*METHODS),
    "freeze": _list_of("text", "image", "head", "scale", "none"),
    "device": _words("auto", "cpu", "cuda", "cuda:0", "mps"),
    "pool": _words("tcs", "mean", "scores"),
    "shots": _words("auto", "1", "2", "4", "8", "16"),
    "batch_size": _words("auto"),
    "subset": _words("training", "validation", "testing"),
}
