"""Download weights from a model hub into the cache that the hub's own client uses, or into a folder.

The hub's client finds files, mirrors, proxies and tokens. The transfer is bike's own; see `transfer`.

    HF_HOME, HF_HUB_CACHE    where the cache is
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import filelock
import huggingface_hub
from huggingface_hub import constants

from bike_cli.engine.download.partial_file import report_write_errors, sha256_of
from bike_cli.engine.download.progress import Transfer, current_reporter
from bike_cli.engine.download.remote_file import (
    RemoteFile,
    UnavailableError,
    look_up,
    offline_reason,
    page_url,
    without_telemetry,
)
from bike_cli.engine.download.transfer import fetch, readable_size
from bike_cli.errors import ModelError
from bike_cli.locks import acquire_lock

WEIGHTS_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # in open_clip's order of preference


@dataclass(frozen=True)
class ModelFile:
    """A file of a model on the hub.

    Args:
        model: the name that the user gave.
        names: file names, the preferred one first; one of them is enough.
        size: size of the first file in bytes; None if unknown.
        is_exact: whether `size` is exact, or was estimated from the number of parameters.
    """

    model: str
    arch: str
    repository: str
    names: tuple[str, ...] = WEIGHTS_FILES
    size: int | None = None
    is_exact: bool = True


def download(weights: ModelFile, *, offline: bool, folder: Path | None = None) -> Path:
    """Download weights to the hub's cache or to a folder, verify them, and return their path.

    An interrupted download continues where it stopped. The current reporter receives the progress.

    Raises:
        ModelError: no network, no such file, a wrong checksum or a full disk; says how to get the weights.
    """
    if (reason := offline_reason(offline=offline)) is not None:
        raise _missing(weights, f"are not on this disk, and {reason} forbids downloading them")
    try:
        with without_telemetry():
            remote = look_up(weights.repository, weights.names)
            transfer = Transfer(weights.model, remote.name, page_url(weights.repository), remote.size)
            return _to_cache(remote, transfer) if folder is None else _to_folder(remote, transfer, folder)
    except UnavailableError as e:
        raise _missing(weights, f"are not on this disk and cannot be downloaded ({e})", e.advice) from e


def cached_file(weights: ModelFile) -> Path | None:
    """Return the path of the weights if they have been downloaded, else None. Does not use the network."""
    for name in weights.names:
        path = huggingface_hub.try_to_load_from_cache(weights.repository, name)
        if isinstance(path, str) and Path(path).is_file():
            return Path(path)
    return None


def is_intact(cached: Path, weights: ModelFile, *, offline: bool) -> bool | None:
    """Return whether a cached file has the right content; None if only the hub knows and cannot be asked."""
    expected: str | None = cached.resolve().name  # the cache names a large file after its digest, and links to it
    if not re.fullmatch(r"[0-9a-f]{64}", str(expected)):
        if offline_reason(offline=offline) is not None:
            return None
        try:
            with without_telemetry():
                remote = look_up(weights.repository, weights.names)
        except UnavailableError:
            return None
        expected = remote.sha256 if remote.name == cached.name else None
    return None if expected is None else sha256_of(cached) == expected


def _missing(weights: ModelFile, problem: str, advice: str = "") -> ModelError:
    name = weights.names[0]
    size = "" if weights.size is None else f" ({'' if weights.is_exact else 'about '}{readable_size(weights.size)})"
    return ModelError(
        f"model {weights.model!r}: its weights {problem}",
        details=[
            *([advice] if advice else []),
            f"needed: {name}{size} of {weights.repository}, from {page_url()} (HF_ENDPOINT: a mirror)",
            f"with a network: bike models pull {weights.model} (to {constants.HF_HUB_CACHE}; HF_HOME moves it)",
            f"without one: bike models pull {weights.model} --to DIR on another machine; copy DIR here and use -m DIR",
            f"your own file: -m {weights.arch},FOLDER/{name}",
        ],
    )


def _to_cache(remote: RemoteFile, transfer: Transfer) -> Path:
    """Download to the place the hub's client would use; see "Understand caching" in its documentation."""
    cache = Path(constants.HF_HUB_CACHE)
    repository = f"models--{remote.repository.replace('/', '--')}"
    blob = cache / repository / "blobs" / remote.etag.replace(":", "_")
    lock = cache / ".locks" / repository / f"{remote.etag.replace(':', '_')}.lock"
    with locked(lock, blob.with_name(f"{blob.name}.bike.incomplete"), transfer) as partial:
        if not _is_complete(blob, remote):
            fetch(remote, transfer, blob, partial=partial)
        pointer = cache / repository / "snapshots" / remote.commit / remote.name
        with report_write_errors(cache):
            _link(pointer, blob)
            ref = cache / repository / "refs" / constants.DEFAULT_REVISION
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(remote.commit, encoding="utf-8")
    return pointer


def _to_folder(remote: RemoteFile, transfer: Transfer, folder: Path) -> Path:
    target = folder / remote.name
    with locked_in(folder, transfer) as partial:
        if not _is_complete(target, remote):
            fetch(remote, transfer, target, partial=partial)
    return target


def _is_complete(file: Path, remote: RemoteFile) -> bool:
    return file.is_file() and remote.matches(file)


def _link(pointer: Path, blob: Path) -> None:
    """Make `pointer` a link to `blob`. Without symbolic links, as is common on Windows, move the file there."""
    pointer.parent.mkdir(parents=True, exist_ok=True)
    new = pointer.with_name(f"{pointer.name}.{os.getpid()}.new")
    try:
        new.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:
        blob.replace(pointer)
    else:
        new.replace(pointer)


@contextmanager
def locked_in(folder: Path, transfer: Transfer) -> Iterator[Path]:
    """The same as `locked` for a file in a folder of the user, where the lock file is deleted afterwards."""
    lock = folder / f".{transfer.file}.lock"
    try:
        with locked(lock, folder / f"{transfer.file}.incomplete", transfer) as partial:
            yield partial
    finally:
        with suppress(OSError):  # on Windows, if another process has opened it
            lock.unlink()


@contextmanager
def locked(file: Path, partial: Path, transfer: Transfer) -> Iterator[Path]:
    """Let one process at a time write a file; yield the path of the incomplete file.

    On a file system without locks, each process has an incomplete file of its own, which is deleted afterwards.

    Args:
        file: the lock file.
    Raises:
        ModelError: the lock file cannot be created.
    """
    with report_write_errors(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = acquire_lock(file, timeout_s=0)
        except filelock.Timeout:
            current_reporter().waiting(transfer)
            lock = acquire_lock(file)
    if lock is None:
        partial = partial.with_name(f"{partial.name}.{os.getpid()}")
    try:
        yield partial
    finally:
        if lock is None:
            partial.unlink(missing_ok=True)
        else:
            lock.release()
