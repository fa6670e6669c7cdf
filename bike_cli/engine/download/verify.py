"""Compare downloaded files with their checksums."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bike_cli.engine.download import hub
from bike_cli.engine.download.pull import files_of
from bike_cli.engine.models.aliases import ALIASES, BUNDLED
from bike_cli.engine.models.open_clip.hub_names import HUB, hub_files, hub_name
from bike_cli.errors import ModelError, UsageError

Status = Literal["intact", "damaged", "unknown"]


@dataclass(frozen=True)
class Verified:
    """The result of verifying a downloaded file.

    Args:
        model: a name of the model that it belongs to.
        commit: of the repository.
        checksum: the expected one, SHA-256, or git's for a small file; None if only the hub knows it.
        status: `unknown` if only the hub knows the checksum and cannot be asked.
    """

    model: str
    repository: str
    commit: str
    path: Path
    bytes: int
    checksum: str | None
    status: Status


def verify(model: str | None, *, offline: bool) -> Iterator[Verified]:
    """Verify the files of a model, or of all models, that are on this disk, and yield the results.

    Args:
        offline: do not ask the hub for checksums that the cache does not have.
    Raises:
        ModelError: the model does not exist, or none of its files has been downloaded.
        UsageError: the bundled model, which is not downloaded.
    """
    if model == BUNDLED:
        raise UsageError("model 'tiny': is installed with bike, not downloaded; run bike doctor to check it")
    seen: set[Path] = set()  # a file may belong to several models
    for file in _files_of_all() if model is None else _files_of(model):
        path = hub.cached_file(file)
        if path is not None and path.resolve() not in seen:
            seen.add(path.resolve())
            yield _verified(file, path, offline=offline)
    if model is not None and not seen:
        raise ModelError(f"model {model!r}: is not on this disk; run bike models pull {model}")


def _files_of(model: str) -> Iterator[hub.ModelFile]:
    if not model.startswith(HUB):
        yield from files_of(model)
        return
    files = hub_files(model)
    yield from files
    yield from _descriptions(files[0])


def _files_of_all() -> Iterator[hub.ModelFile]:
    # These import torch.
    from open_clip import list_pretrained

    from bike_cli.engine.models import catalogue

    for model in ALIASES:
        yield from files_of(model)
    # Models that need an extra may have been downloaded before it was removed.
    for arch, tag in [*catalogue.runnable_tags(), *list_pretrained()]:
        yield from catalogue.files_of(arch, tag, model=f"{arch},{tag}")
    for repository, revision in hub.cached_revisions():
        files = hub.repository_files(hub_name(repository, revision), repository, revision)
        if any(hub.cached_file(file) for file in files[:2]):  # a configuration or weights of open_clip
            yield from files
            yield from _descriptions(files[0])


def _descriptions(configuration: hub.ModelFile) -> list[hub.ModelFile]:
    """Return the description of the text tower of a repository, if its downloaded configuration names one."""
    from bike_cli.engine.models.open_clip.repositories import description_in  # imports torch

    file, description = hub.cached_file(configuration), None
    if file is not None:
        with suppress(ModelError):  # a damaged configuration, which is reported as such
            description = description_in(file, model=configuration.model)
    return [] if description is None else [description]


def _verified(file: hub.ModelFile, path: Path, *, offline: bool) -> Verified:
    commit = path.parent.name
    is_intact = hub.is_intact(path, replace(file, names=(path.name,), revision=commit), offline=offline)
    status: Status = "unknown" if is_intact is None else "intact" if is_intact else "damaged"
    return Verified(
        model=file.model,
        repository=file.repository,
        commit=commit,
        path=path,
        bytes=path.stat().st_size,
        checksum=hub.cached_checksum(path),
        status=status,
    )
