"""Checksums of the hub: SHA-256 for large files, and git's own for small ones."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

BLOCK = 2**20


def is_checksum(text: str) -> bool:
    """Return whether a text has the form of a checksum of the hub, for a large or a small file."""
    return re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{40}", text) is not None


def is_sha256(text: str) -> bool:
    """Return whether a checksum is that of a large file."""
    return len(text) == 64


def matches_checksum(file: Path, checksum: str) -> bool:
    """Return whether a file has a checksum of the hub."""
    return checksum in ((sha256_of(file),) if is_sha256(checksum) else sha1s_of(file))


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha1s_of(file: Path) -> tuple[str, str]:
    """Return the hash that git gives a file, and its plain SHA-1, which some mirrors report instead."""
    git = hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)
    plain = hashlib.sha1(usedforsecurity=False)
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            git.update(block)
            plain.update(block)
    return git.hexdigest(), plain.hexdigest()
