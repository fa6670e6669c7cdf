"""Split MP4 files into boxes, change them, and reassemble the file."""

import struct
from collections.abc import Callable

CONTAINERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf"})


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def boxes(content: bytes) -> list[tuple[bytes, bytes]]:
    """Return the kind and content of each box in a file or box."""
    found, at = [], 0
    while at < len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        found.append((kind, content[at + 8 : at + size]))
        at += size
    return found


def rewrite(content: bytes, kind: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Change the content of all boxes of a kind, at any depth; media data must come before the index."""
    parts = []
    for name, inside in boxes(content):
        if name == kind:
            parts.append(box(name, change(inside)))
        else:
            parts.append(box(name, rewrite(inside, kind, change) if name in CONTAINERS else inside))
    return b"".join(parts)
