"""Download weights from a model hub into the cache that the hub's own client uses, or into a folder.

The hub's client finds files, mirrors, proxies and tokens. The transfer is bike's own; see `transfer`.

    HF_HOME, HF_HUB_CACHE    where the cache is
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import filelock
import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from bike_cli.engine.download.checksums import is_checksum, is_sha256, matches_checksum
from bike_cli.engine.download.file_names import (
    CONFIG_FILE,
    DESCRIPTION_FILE,
    LOCAL_DESCRIPTION_FILE,
    SETTINGS_FILE,
    TOKENIZER_FILE,
)
from bike_cli.engine.download.file_names import WEIGHTS_FILES as WEIGHTS_FILES
from bike_cli.engine.download.partial_file import report_write_errors
from bike_cli.engine.download.progress import Transfer, current_reporter
from bike_cli.engine.download.remote_file import (
    OFFLINE_FLAG,
    NoSuchFileError,
    RemoteFile,
    UnavailableError,
    look_up,
    offline_reason,
    page_url,
    without_telemetry,
)
from bike_cli.engine.download.transfer import fetch, readable_size
from bike_cli.errors import ModelError, shorten
from bike_cli.locks import acquire_lock
from bike_cli.wording import all_of

Kind = Literal["weights", "tokenizer", "configuration"]


@dataclass(frozen=True)
class ModelFile:
    """A file of a model on the hub.

    Args:
        model: the name that the user gave.
        arch: architecture of the model; empty for a repository, whose configuration says it.
        names: file names, the preferred one first; one of them is enough.
        size: size of the first file in bytes; None if unknown.
        is_exact: whether `size` is exact, or was estimated from the number of parameters.
        kind: what the file is to the user.
        revision: a branch, a tag or a commit.
    """

    model: str
    arch: str
    repository: str
    names: tuple[str, ...] = WEIGHTS_FILES
    size: int | None = None
    is_exact: bool = True
    kind: Kind = "weights"
    revision: str = constants.DEFAULT_REVISION


@dataclass(frozen=True)
class HubSource:
    """Where weights on this disk were downloaded.

    Args:
        commit: of the repository.
        file: name of the weights in it.
        sha256: of the file; None where the cache does not tell.
    Raises:
        ValueError: a value that cannot be such a name.
    """

    repository: str
    commit: str
    file: str
    sha256: str | None = None

    def __post_init__(self) -> None:
        patterns = {"repository": r"[\w.-]+/[\w.-]+", "commit": r"[\w.-]+", "file": r"[\w.-]+"}
        for name, pattern in patterns.items():
            value = getattr(self, name)
            if not isinstance(value, str) or not re.fullmatch(pattern, value):
                raise ValueError(f"{name} is {shorten(repr(value), 60)}, which is not a name")
        if self.sha256 is not None and not (isinstance(self.sha256, str) and is_checksum(self.sha256)):
            raise ValueError(f"sha256 is {shorten(repr(self.sha256), 60)}, which is not a checksum")


def tokenizer_file(model: str, arch: str, repository: str) -> ModelFile:
    """Return where the tokenizer of a model is."""
    return ModelFile(model, arch, repository, (TOKENIZER_FILE,), kind="tokenizer")


def repository_files(model: str, repository: str, revision: str | None = None) -> list[ModelFile]:
    """Return the files of a repository: configuration, weights, tokenizer, and the tokenizer's settings."""
    kinds: list[tuple[tuple[str, ...], Kind]] = [
        ((CONFIG_FILE,), "configuration"),
        (WEIGHTS_FILES, "weights"),
        ((TOKENIZER_FILE,), "tokenizer"),
        ((SETTINGS_FILE,), "tokenizer"),
    ]
    revision = revision or ModelFile.revision
    return [ModelFile(model, "", repository, names, kind=kind, revision=revision) for names, kind in kinds]


def fetch_all(files: Sequence[ModelFile], *, offline: bool) -> list[Path]:
    """Return the paths of files in the cache, after downloading those that are missing.

    Raises:
        ModelError: see `download`. Offline, the message names all files that are missing.
    """
    check_available(files, offline=offline)
    return [cached_file(file) or download(file, offline=offline) for file in files]


def check_available(files: Sequence[ModelFile], *, offline: bool) -> None:
    """Raise ModelError, which names all of them, if files are not in the cache and may not be downloaded."""
    missing = [file for file in files if cached_file(file) is None]
    if missing and (reason := offline_reason(offline=offline)) is not None:
        raise _forbidden(missing, reason)


def fetch_with_companion(file: ModelFile, companion: ModelFile, *, offline: bool) -> None:
    """Download a file, and before it another one that not every repository has.

    If the file is there, the other one is not looked for: it was there, or the repository did not have it.

    Raises:
        ModelError: see `download`. A companion that the hub does not have is not an error.
    """
    check_available([file], offline=offline)
    if cached_file(file) is None:
        if cached_file(companion) is None:
            with allowing_absence():
                download(companion, offline=offline)
        download(file, offline=offline)


@contextmanager
def allowing_absence() -> Iterator[None]:
    """Ignore that the hub does not have a file. A hub that cannot be reached is an error: it may have the file."""
    try:
        yield
    except ModelError as e:
        if not isinstance(e.__cause__, NoSuchFileError):
            raise


def download(file: ModelFile, *, offline: bool, folder: Path | None = None) -> Path:
    """Download a file to the hub's cache or to a folder, verify it, and return its path.

    An interrupted download continues where it stopped. The current reporter receives the progress.

    Raises:
        ModelError: no network, no such file, a wrong checksum or a full disk; says how to get the file.
    """
    if (reason := offline_reason(offline=offline)) is not None:
        raise _forbidden([file], reason)
    try:
        with without_telemetry():
            remote = look_up(file.repository, file.names, file.revision)
            transfer = Transfer(file.model, remote.name, page_url(file.repository), remote.size)
            if folder is None:
                return _to_cache(remote, transfer, file.revision)
            return _to_folder(remote, transfer, folder)
    except UnavailableError as e:
        raise _missing([file], f"not on this disk and cannot be downloaded ({e})", e.advice) from e


def cached_file(file: ModelFile) -> Path | None:
    """Return the path of a file if it has been downloaded, else None. Does not use the network."""
    for name in file.names:
        path = huggingface_hub.try_to_load_from_cache(file.repository, name, revision=file.revision)
        if isinstance(path, str) and Path(path).is_file():
            return Path(path)
    return None


def cached_revisions() -> list[tuple[str, str]]:
    """Return the repositories in the cache, each as OWNER/NAME, with each of their revisions.

    These are the names of branches and tags, the default branch first, and commits that have no name.
    """
    folders = sorted(Path(constants.HF_HUB_CACHE).glob("models--*--*"))
    names = {folder: folder.name.removeprefix("models--").replace("--", "/", 1) for folder in folders}
    repositories = {folder: name for folder, name in names.items() if is_repository(name)}
    return [(name, revision) for folder, name in repositories.items() for revision in _revisions_in(folder)]


def _revisions_in(folder: Path) -> list[str]:
    snapshots = {path.name for path in (folder / "snapshots").glob("*")}
    refs = [path for path in (folder / "refs").rglob("*") if path.is_file()]
    commits = {path.relative_to(folder / "refs").as_posix(): path.read_text(encoding="utf-8") for path in refs}
    revisions = {name for name, commit in commits.items() if commit in snapshots} | (snapshots - set(commits.values()))
    return sorted(revisions, key=lambda revision: (revision != ModelFile.revision, revision))


def is_repository(name: str) -> bool:
    """Return whether a text may be the name of a repository, OWNER/NAME."""
    try:
        validate_repo_id(name)
    except ValueError:
        return False
    return "/" in name


def source_of(cached: Path) -> HubSource | None:
    """Return where a file in the cache was downloaded; None for any other file."""
    match = re.fullmatch(r"models--(.+?)--(.+)", cached.parent.parent.parent.name)
    if match is None or cached.parent.parent.name != "snapshots":
        return None
    checksum = cached_checksum(cached)
    sha256 = checksum if checksum is not None and is_sha256(checksum) else None
    return HubSource(f"{match[1]}/{match[2]}", cached.parent.name, cached.name, sha256)


def cached_checksum(cached: Path) -> str | None:
    """Return the checksum that a cached file must have; None where the cache does not tell.

    The cache names a file after its checksum and links to it, except where links do not exist, as often on Windows.
    """
    name = cached.resolve().name
    return name if is_checksum(name) else None


def is_intact(cached: Path, file: ModelFile, *, offline: bool) -> bool | None:
    """Return whether a cached file has the right content; None if only the hub knows and cannot be asked."""
    expected = cached_checksum(cached)
    if expected is None:
        if offline_reason(offline=offline) is not None:
            return None
        try:
            with without_telemetry():
                remote = look_up(file.repository, file.names, file.revision)
        except UnavailableError:
            return None
        expected = remote.checksum if remote.name == cached.name else None
    return None if expected is None else matches_checksum(cached, expected)


def _forbidden(files: Sequence[ModelFile], reason: str) -> ModelError:
    is_single = len(files) == 1 and files[0].kind == "tokenizer"
    error = _missing(files, f"not on this disk, and {reason} forbids downloading {'it' if is_single else 'them'}")
    error.settings = ("offline",) if reason == OFFLINE_FLAG else ()
    return error


def _missing(files: Sequence[ModelFile], problem: str, advice: str = "") -> ModelError:
    model, kinds = files[0].model, list(dict.fromkeys(file.kind for file in files))
    weights = [file for file in files if file.kind == "weights" and file.arch]
    own_file = [f"your own file: -m {file.arch},FOLDER/{file.names[0]}" for file in weights]
    return ModelError(
        f"model {model!r}: its {all_of(kinds)} {'is' if kinds == ['tokenizer'] else 'are'} {problem}",
        details=[
            *([advice] if advice else []),
            *(f"needed: {_described(file)}, from {page_url()} (HF_ENDPOINT: a mirror)" for file in files),
            f"with a network: bike models pull {model} (to {constants.HF_HUB_CACHE}; HF_HOME moves it)",
            f"without one: bike models pull {model} --to DIR on another machine; copy DIR here and use -m DIR",
            *own_file,
        ],
    )


def _described(file: ModelFile) -> str:
    size = "" if file.size is None else f" ({'' if file.is_exact else 'about '}{readable_size(file.size)})"
    return f"{file.names[0]}{size} of {file.repository}"


def _to_cache(remote: RemoteFile, transfer: Transfer, revision: str) -> Path:
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
            if revision != remote.commit:
                ref = cache / repository / "refs" / revision
                ref.parent.mkdir(parents=True, exist_ok=True)
                ref.write_text(remote.commit, encoding="utf-8")
    return pointer


def _to_folder(remote: RemoteFile, transfer: Transfer, folder: Path) -> Path:
    target = folder / name_in_folder(remote.name)
    with locked_in(folder, transfer) as partial:
        if not _is_complete(target, remote):
            fetch(remote, transfer, target, partial=partial)
    return target


def name_in_folder(name: str) -> str:
    """Return the name of a file in a folder of the user, where weights have the names that open_clip looks for.

    The description of a text tower gets a name of its own, because config.json describes bike's own models.
    """
    if name == DESCRIPTION_FILE:
        return LOCAL_DESCRIPTION_FILE
    is_weights = name.endswith((".safetensors", ".bin"))
    return next(w for w in WEIGHTS_FILES if Path(w).suffix == Path(name).suffix) if is_weights else name


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
