"""Check a file before any library opens it: its kind, and how much it would unpack to.

Every check reads a few kilobytes, so hostile files are refused in seconds and without the memory they ask for.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

from bike_cli.engine.models.pickles import LEGACY_PICKLES, MAX_PICKLE_BYTES, UnsafePickleError, check_pickle
from bike_cli.errors import ModelError, shorten

MAX_DIRECTORY_BYTES = 2**24  # of a ZIP archive's list of records: 16 MiB; 2,000 tensors take 160 KiB

# What zipfile raises on damaged archives.
UNREADABLE = (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, LookupError, struct.error)

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL)
_END_OF_ARCHIVE = struct.Struct("<4s4H2LH")
_ZIP64_LOCATOR = struct.Struct("<4sLQL")
_ZIP64_END = struct.Struct("<4sQ2H2L4Q")


def file_status(path: Path) -> os.stat_result | None:
    """Return the status of a path; None if it does not exist.

    Raises:
        ModelError: the system cannot tell: no permission, a loop of symbolic links.
    """
    try:
        return path.stat()
    except ValueError:  # a NUL character
        return None
    except OSError as e:
        if e.errno in _NOT_THERE:
            return None
        raise ModelError(f"{shorten(path)}: cannot be read ({e.strerror}); check the path and its permissions") from e


def check_regular(path: Path, way_out: str) -> int:
    """Return the size of a regular file in bytes. Nothing is opened: opening a named pipe would block.

    Raises:
        ModelError: no such file, or a folder, pipe, socket, device or empty file.
    """
    status = file_status(path)
    if status is None:
        raise ModelError(f"{shorten(path)}: cannot be read (no such file or folder); {way_out}")
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a special file")
        raise ModelError(f"{shorten(path)}: cannot be read (it is {kind}, not a file); {way_out}")
    return status.st_size


def check_pytorch(path: Path, way_out: str, *, zipped: bool) -> None:
    """Raise ModelError if `torch.load` would take far more memory or time than the size of the file justifies.

    Args:
        zipped: whether the file is a ZIP archive, as torch writes today; else a pickle with storages after it.
    """
    size = check_regular(path, way_out)
    try:
        with path.open("rb") as file:
            if zipped:
                check_pickle(_pickle_in_archive(file, path, size), size)
            else:
                check_pickle(file.read(MAX_PICKLE_BYTES), size, pickles=LEGACY_PICKLES)
    except UnsafePickleError as e:
        raise ModelError(f"{path}: contains {e}; save only its state dict, preferably as safetensors") from e
    except UNREADABLE as e:
        fact = shorten(e) or type(e).__name__
        raise ModelError(f"{path}: is damaged or is not a PyTorch file ({fact}); download it again") from e


def read_start(path: Path, count: int, way_out: str) -> bytes:
    """Return the first bytes of a regular file.

    Raises:
        ModelError: a file that is missing, not regular or unreadable.
    """
    check_regular(path, way_out)
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as e:
        raise ModelError(f"{shorten(path)}: cannot be read ({e.strerror}); {way_out}") from e


def _pickle_in_archive(file: BinaryIO, path: Path, size: int) -> bytes:
    """Return the pickle of an archive, after checking that its records are uncompressed and do not overlap."""
    if _directory_bytes(file, size) > MAX_DIRECTORY_BYTES:
        raise ModelError(f"{path}: contains far more records than a model has tensors; save only its state dict")
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        # PyTorch ignores the case of names, and takes the folder from the first record.
        names = [record.filename.lower() for record in records]
        if any(name.endswith("constants.pkl") for name in names):
            raise ModelError(
                f"{path}: is a TorchScript program, which bike never runs; use --model with a name, such as "
                "ViT-B-16-quickgelu,openai, or, if you trust the file, save its state_dict() with torch.save"
            )
        pickles = [record for record, name in zip(records, names, strict=True) if name.endswith("data.pkl")]
        if len(pickles) != 1:
            raise zipfile.BadZipFile(f"{len(pickles)} records are named data.pkl")
        if pickles[0].filename != f"{records[0].filename.partition('/')[0]}/data.pkl":
            raise zipfile.BadZipFile(f"{shorten(pickles[0].filename)} is not where PyTorch looks for data.pkl")
        if len(set(names)) != len(names):
            raise zipfile.BadZipFile("two records have the same name")
        # PyTorch stores records as they are: it maps them into memory.
        packed = next((r for r in records if r.compress_type != zipfile.ZIP_STORED or r.flag_bits & 1), None)
        if packed is not None:
            raise ModelError(
                f"{path}: contains a compressed record ({shorten(packed.filename)}), which PyTorch never writes; "
                "download it again"
            )
        if sum(record.file_size for record in records) > size:
            raise ModelError(f"{path}: its records are larger than the file; download it again")
        if pickles[0].file_size > MAX_PICKLE_BYTES:
            raise UnsafePickleError(f"more than {MAX_PICKLE_BYTES // 2**20} MiB of Python objects")
        return archive.read(pickles[0])


def _directory_bytes(file: BinaryIO, size: int) -> int:
    """Return the size of an archive's list of records, as its end states it, without reading the list.

    Raises:
        zipfile.BadZipFile: the list does not end where it should, so Python and PyTorch may read different lists.
    """
    length = min(size, _END_OF_ARCHIVE.size + 2**16)
    file.seek(size - length)
    tail = file.read(length)
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) - place < _END_OF_ARCHIVE.size:
        raise zipfile.BadZipFile("its end is missing")
    fields = _END_OF_ARCHIVE.unpack_from(tail, place)
    directory, start, end = int(fields[5]), int(fields[6]), size - length + place
    locator = end - _ZIP64_LOCATOR.size
    if locator >= 0:
        file.seek(locator)
        signature, _, offset, _ = _ZIP64_LOCATOR.unpack(file.read(_ZIP64_LOCATOR.size))
        if signature == b"PK\x06\x07" and offset + _ZIP64_END.size <= size:
            file.seek(offset)
            long_fields = _ZIP64_END.unpack(file.read(_ZIP64_END.size))
            directory = int(long_fields[8]) if directory == 0xFFFFFFFF else max(directory, int(long_fields[8]))
            start = int(long_fields[9]) if start == 0xFFFFFFFF else start
            end = offset
    if directory <= MAX_DIRECTORY_BYTES and start + directory != end:
        raise zipfile.BadZipFile("its list of records is not at its end")
    return directory
