"""Check, before a command starts to work, that it can write its files and overwrites nothing that it reads."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bike_cli.errors import UsageError, fix_of_write
from bike_cli.media import is_media_name
from bike_cli.wording import either

if TYPE_CHECKING:
    from bike_cli.records import Sample

logger = logging.getLogger(__name__)

OFFICIAL_SUFFIXES = {".pt", ".pth"}
FILE_SUFFIXES = {  # of files that people name where a folder belongs
    *(".bike", ".bin", ".ckpt", ".engine", ".gguf", ".h5", ".mlmodel", ".npy", ".npz", ".onnx", ".pb", ".pickle"),
    *(".pkl", ".pt", ".pth", ".safetensors", ".tflite", ".torchscript", ".trt"),
    *(".csv", ".htm", ".html", ".json", ".jsonl", ".log", ".md", ".pdf", ".svg", ".tsv", ".txt", ".xlsx", ".yaml"),
    *(".7z", ".gz", ".tar", ".tgz", ".xz", ".yml", ".zip"),
}


def check_target(file: Path, read: Sequence[Path]) -> None:
    """Raise UsageError if a file cannot be written, or is read by this command."""
    folder = file.absolute().parent
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as e:  # such as a name that is too long
        shown = f"{str(file)[:60]}…" if len(str(file)) > 60 else str(file)
        raise UsageError(f"{shown}: cannot be a file ({e.strerror}); choose another name") from e
    if str(file) == "-" or (file.exists() and not file.is_file() and not file.is_dir()):
        raise UsageError(f"{file}: is not an ordinary file; name one, such as report.json")
    if file.is_dir() or not folder.is_dir():
        problem = "is a folder" if file.is_dir() else "its folder does not exist"
        raise UsageError(f"{file}: {problem}; name a file in a folder that exists")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"{file}: cannot be written; choose a folder that you may write to")
    if file.exists() and any(other.exists() and other.samefile(file) for other in read):
        raise UsageError(f"{file}: is read by this command and would be overwritten; choose another name")


def check_not_media(file: Path, *, suggestion: str, flag: str = "-o") -> None:
    """Raise UsageError if a file to write is named like a video or image: Click reads `-one.mp4` as `-o ne.mp4`."""
    if is_media_name(file):
        hint = f"; an input named -o{file} is written ./-o{file}" if flag == "-o" and file.parent == Path() else ""
        raise UsageError(f"{flag} {file}: is the name of a video or image; choose another, such as {suggestion}{hint}")


def ending(file: Path) -> str:
    """Return the ending of a file's name in lower case, such as `.csv`; empty where the name says nothing of a format.

    That is a name such as `answers` or `answers.2026-01-31`, and whatever is not an ordinary file, such as a pipe.
    """
    suffix = file.suffix.lower()
    is_special = file.exists() and not file.is_file()
    return "" if is_special or not suffix[1:2].isalpha() else suffix


def check_ending(flag: str, file: Path, endings: Sequence[str]) -> None:
    """Raise UsageError if a name has an ending other than these, which are those of the formats that `flag` writes."""
    if ending(file) and ending(file) not in endings:
        wanted = either(endings)
        raise UsageError(f"{flag} {file}: {flag} does not write {ending(file)} files; end the name in {wanted}")


def check_folder_name(folder: Path) -> None:
    """Raise UsageError if a folder that is to be created is named like a file."""
    if not folder.is_dir() and (ending(folder) in FILE_SUFFIXES or is_media_name(folder)):
        raise UsageError(
            f"{folder}: is named like a file, but will be a folder; choose another name, such as {folder.stem}"
        )


def check_apart(files: Mapping[str, Path | None]) -> None:
    """Raise UsageError if two flags name the same file to write."""
    flag_of_file: dict[Path, str] = {}
    for flag, file in files.items():
        other = flag if file is None else flag_of_file.setdefault(file.resolve(), flag)
        if other != flag:
            raise UsageError(f"{file}: is named by both {other} and {flag}; give each its own file")


def check_videos(*files: Path | None, samples: Sequence[Sample]) -> None:
    """Raise UsageError if a file to write is one of the videos."""
    existing = [(file, file.stat()) for file in files if file is not None and file.exists()]
    for sample in samples if existing else ():
        with suppress(OSError, ValueError):
            video = sample.source.path.stat()
            file = next((file for file, status in existing if os.path.samestat(video, status)), None)
            if file is not None:
                raise UsageError(f"{file}: is a video that this command reads; choose another name")


def check_model_folder(folder: Path, *, way_out: str = "name a folder, or add --official") -> None:
    """Raise UsageError if no model can be saved in a folder, or other files in it would be lost.

    Args:
        way_out: what to do about the name of a file.
    """
    with explain_unwritable(folder):
        _check_place(folder)
        if folder.is_file():
            raise UsageError(f"{folder}: is a file, but a model of bike is a folder; {way_out}")
        if not folder.is_dir() and folder.suffix.lower() in OFFICIAL_SUFFIXES:
            raise UsageError(f"{folder}: is named like a file, but a model of bike is a folder; {way_out}")
        check_folder_name(folder)
        if folder.is_dir() and any(folder.iterdir()) and not _is_model(folder):
            raise UsageError(f"{folder}: contains files and is not a model of bike; name a new or an empty folder")
        _check_writable(folder)


def check_not_read(out: Path, model: str) -> None:
    """Raise UsageError if a model is read from the place where another is to be written."""
    from bike_cli.engine.models.catalogue import BUNDLED, bundled_folder
    from bike_cli.engine.models.training_records import named_path
    from bike_cli.engine.models.weight_files import file_status

    if not out.exists():
        return
    # As `open_checkpoint` reads a name: the bundled model, or a path, or ARCH,FILE.
    folder = bundled_folder() if model == BUNDLED else None
    names = [] if model == BUNDLED else [name for name in (model, model.partition(",")[2]) if name]
    for path in [folder] if folder is not None else map(named_path, names):
        if file_status(path) is not None and path.samefile(out):
            raise UsageError(f"{out}: is read by this command and would be overwritten; choose another name")


def check_official_file(file: Path) -> None:
    """Raise UsageError if no official model can be saved as this file."""
    with explain_unwritable(file):
        _check_place(file)
        if file.is_dir():
            raise UsageError(
                f"{file}: is a folder, but an official model is a file; name one, such as {file / 'model.pt'}"
            )
        if file.suffix.lower() not in OFFICIAL_SUFFIXES:
            raise UsageError(f"{file}: must end in .pt or .pth; rename it")
        _check_writable(file)


def warn_of_replacement(target: Path) -> None:
    """Warn if a saved classifier or model exists already; what took videos to learn is not replaced in silence."""
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        logger.warning("%s: exists and will be replaced", target)


@contextmanager
def explain_unwritable(target: Path, errors: tuple[type[Exception], ...] = (OSError,)) -> Iterator[None]:
    """Turn errors of writing a file or folder into a UsageError that names it."""
    try:
        yield
    except errors as e:
        problem = getattr(e, "strerror", None) or str(e)
        raise UsageError(f"{target}: cannot be written ({problem}); {fix_of_write(e)}") from e


def _check_place(target: Path) -> None:
    if str(target) == "-" or (target.exists() and not target.is_file() and not target.is_dir()):
        raise UsageError(f"{target}: is neither a file nor a folder; give a name that bike can write")
    if not target.absolute().parent.is_dir():
        raise UsageError(f"{target}: its folder does not exist; create it, or choose another")


def _check_writable(target: Path) -> None:
    if not os.access(target if target.is_dir() else target.absolute().parent, os.W_OK):
        raise UsageError(f"{target}: cannot be written; choose a folder that you may write to")


def _is_model(folder: Path) -> bool:
    from bike_cli.engine.models.folder import CONFIG_FILE, FORMAT

    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("format") == FORMAT
