"""Files of the driver that actors on other machines need: weights, templates, lexicons."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bike_cli.data.labels import TEMPLATES
from bike_cli.data.lexicons import lexicon_names
from bike_cli.engine.models.local_files import local_model
from bike_cli.errors import ModelError
from bike_cli.locks import acquire_lock
from bike_cli.settings import changed, flatten
from bike_cli.tasks.cluster.work import Config

UNFINISHED = ".unfinished-"  # begins the names of folders that are being written
OLD_S = 24 * 3600.0  # no actor writes for so long


@dataclass(frozen=True)
class SentFiles:
    """The files that the value of a setting names, in Ray's object store.

    Args:
        setting: name of the field, such as `model`.
        prefix: what precedes the path in the value, such as `ViT-B-32,`.
        path: of the named file, from the folder that contains the files; empty for the folder itself.
        digest: stands for the names and contents.
        contents: references to the bytes of each file, by name.
        sizes: of each file, by name, in bytes.
    """

    setting: str
    prefix: str
    path: str
    digest: str
    contents: Mapping[str, object]
    sizes: Mapping[str, int]


def send_files(config: object) -> tuple[SentFiles, ...]:
    """Put the files that settings name into Ray's object store, where they stay as long as the result exists."""
    return tuple(_sent(*named) for named in _named_files(config))


def _named_files(config: object) -> Iterator[tuple[str, str, str, Sequence[Path]]]:
    """Yield settings, the prefixes of their values, the names of the files they mean, and all files they need."""
    settings = flatten(config)
    for setting in ("model", "attribute_model"):
        model = settings.get(setting)
        local = local_model(model) if isinstance(model, str) else None
        if local is not None:
            yield setting, local.prefix, local.name, local.files
    for setting, known in (("template", {*TEMPLATES}), ("attributes", {"auto", "off", *lexicon_names()})):
        text = settings.get(setting)
        if not isinstance(text, str) or not text or text in known:
            continue
        if os.path.isfile(text):  # noqa: PTH113 - a template may be too long for a Path
            yield setting, "", Path(text).name, [Path(text)]


def _sent(setting: str, prefix: str, name: str, files: Sequence[Path]) -> SentFiles:
    import numpy as np
    import ray

    digest, contents, sizes = hashlib.blake2b(digest_size=16), {}, {}
    for file in files:
        content = np.fromfile(file, dtype=np.uint8)
        digest.update(f"{file.name}\0{len(content)}\0".encode(errors="surrogateescape"))
        digest.update(content.data)
        contents[file.name] = ray.put(content)  # an array: actors on a node share its memory
        sizes[file.name] = len(content)
    return SentFiles(setting, prefix, name, digest.hexdigest(), contents, sizes)


def with_received_files(config: Config, sent: Sequence[SentFiles]) -> Config:
    """Write the files of the driver to this machine, and return the configuration that names the copies.

    Raises:
        ModelError: they cannot be written.
    """
    try:
        return changed(config, {files.setting: f"{files.prefix}{_written(files) / files.path}" for files in sent})
    except OSError as e:
        problem = f"the files of the model cannot be written ({e.strerror})"
        raise ModelError(f"{e.filename}: {problem}; free some space there, or set TMPDIR on the nodes") from e


def _written(files: SentFiles) -> Path:
    """Return the folder with the files, which the first actor on a machine writes."""
    top = Path(tempfile.gettempdir(), f"bike-files-{os.getuid() if hasattr(os, 'getuid') else 'user'}")
    top.mkdir(mode=0o700, exist_ok=True)
    status = top.lstat()
    if hasattr(os, "getuid") and (
        not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077
    ):
        raise PermissionError(None, "another user may write to what has this name", str(top))
    folder = top / files.digest
    lock = acquire_lock(top / f"{files.digest}.lock")
    try:
        if not _is_whole(folder, files):
            _remove_unfinished(top, files.digest if lock is not None else None)
            _write(folder, files)
    finally:
        if lock is not None:
            lock.release()
    return folder


def _is_whole(folder: Path, files: SentFiles) -> bool:
    """Return whether a folder has all files; programs that clean up temporary folders remove single ones."""
    try:
        return {entry.name: entry.stat().st_size for entry in folder.iterdir()} == files.sizes
    except OSError:
        return False


def _write(folder: Path, files: SentFiles) -> None:
    """Write the files into a folder that has its name only when it is whole."""
    import ray

    with tempfile.TemporaryDirectory(prefix=f"{UNFINISHED}{files.digest}-", dir=folder.parent) as name:
        unfinished = Path(name, "files")
        unfinished.mkdir()
        for file, content in files.contents.items():
            ray.get(content).tofile(unfinished / file)
        try:
            unfinished.rename(folder)
        except OSError:
            if not _is_whole(folder, files):  # else, without locks, another actor has written it meanwhile
                folder.rename(Path(name, "damaged"))
                unfinished.rename(folder)


def _remove_unfinished(top: Path, digest: str | None) -> None:
    """Remove what killed actors have left.

    Args:
        digest: of the files whose lock this process holds, so that nobody else writes them; None: there are no locks.
    """
    for entry in top.glob(f"{UNFINISHED}*"):
        with suppress(OSError):
            is_left = digest is not None and entry.name.startswith(f"{UNFINISHED}{digest}-")
            if is_left or time.time() - entry.stat().st_mtime > OLD_S:
                shutil.rmtree(entry)
