"""Compare downloaded files with their checksums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bike_cli.engine.download import hub
from bike_cli.engine.download.pull import files_of
from bike_cli.engine.models.aliases import ALIASES, BUNDLED
from bike_cli.engine.models.open_clip.hub_names import HUB, hub_files
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
    commit: str | None
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
    seen: set[Path] = set()
    for file in _files_of_all() if model is None else _files_of(model):
        path = hub.cached_file(file)
        if path is not None and path not in seen:
            seen.add(path)
            yield _verified(file, path, offline=offline)
    if model is not None and not seen:
        raise ModelError(f"model {model!r}: is not on this disk; run bike models pull {model}")


def _files_of(model: str) -> list[hub.ModelFile]:
    return hub_files(model) if model.startswith(HUB) else files_of(model)


def _files_of_all() -> Iterator[hub.ModelFile]:
    from bike_cli.engine.models.catalogue import runnable_tags  # imports torch

    for model in [*ALIASES, *(f"{arch},{tag}" for arch, tag in runnable_tags())]:
        yield from files_of(model)
    for repository in hub.cached_repositories():
        files = hub.repository_files(f"{HUB}{repository}", repository)
        if hub.cached_file(files[0]) is not None:  # has a configuration of open_clip
            yield from files


def _verified(file: hub.ModelFile, path: Path, *, offline: bool) -> Verified:
    is_intact, source = hub.is_intact(path, file, offline=offline), hub.source_of(path)
    status: Status = "unknown" if is_intact is None else "intact" if is_intact else "damaged"
    return Verified(
        model=file.model,
        repository=file.repository,
        commit=None if source is None else source.commit,
        path=path,
        bytes=path.stat().st_size,
        checksum=hub.cached_checksum(path),
        status=status,
    )
