"""What a file or a stream holds, by its first bytes."""

from __future__ import annotations

VIDEO = "a video"

# Offset, bytes, what they begin. The bytes are those that `file` and the formats' specifications name.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftypavif", "an image"),
    (4, b"ftypheic", "an image"),
    (4, b"ftypmif1", "an image"),
    (4, b"ftypM4A", "a sound file"),
    (4, b"ftyp", VIDEO),  # MP4, QuickTime, 3GP
    (4, b"moov", VIDEO),  # QuickTime without a file type
    (4, b"mdat", VIDEO),
    (4, b"wide", VIDEO),
    (4, b"styp", VIDEO),  # a segment of fragmented MP4
    (4, b"moof", VIDEO),
    (0, b"\x1a\x45\xdf\xa3", VIDEO),  # Matroska, WebM
    (8, b"AVI ", VIDEO),
    (0, b"FLV\x01", VIDEO),
    (0, b"\x00\x00\x01\xba", VIDEO),  # MPEG-PS
    (0, b"\x00\x00\x01\xb3", VIDEO),  # MPEG-1 and 2 video
    (0, b"\x00\x00\x01\xb0", VIDEO),  # MPEG-4 video
    (0, b"\x00\x00\x00\x01\x67", VIDEO),  # H.264
    (0, b"\x00\x00\x00\x01\x40\x01", VIDEO),  # H.265
    (0, b"OggS", VIDEO),
    (0, b"GIF8", VIDEO),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", VIDEO),  # ASF, WMV
    (0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01", VIDEO),  # MXF
    (0, b".RMF", VIDEO),
    (0, b"YUV4MPEG2", VIDEO),
    (0, b"DKIF", VIDEO),  # IVF
    (0, b"\xff\xd8\xff", "an image"),
    (0, b"\x89PNG\r\n\x1a\n", "an image"),
    (8, b"WEBP", "an image"),
    (0, b"II*\x00", "an image"),
    (0, b"MM\x00*", "an image"),
    (0, b"\x00\x00\x00\x0cjP  ", "an image"),
    (8, b"WAVE", "a sound file"),
    (0, b"ID3", "a sound file"),
    (0, b"fLaC", "a sound file"),
    (0, b"PK\x03\x04", "a ZIP archive or an Office document"),
    (0, b"PK\x05\x06", "a ZIP archive or an Office document"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ\x00", "an xz archive"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (0, b"\x04\x22\x4d\x18", "an LZ4 archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"SQLite format 3\x00", "an SQLite database"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"\x7fELF", "a program"),
)
_TS_PACKET, _M2TS_PACKET = 188, 192
# Bytes that text does not hold; tab, line ends, form feed and escape it may.
_BINARY = frozenset(range(32)) - frozenset(b"\t\n\r\f\x1b")


def describe_content(head: bytes) -> str | None:
    """Return what begins with these bytes, "a video" or "a gzip archive"; None for text and what is unknown.

    Args:
        head: the first bytes, 4096 or so; fewer recognise less.
    """
    if not is_binary(head):  # `GIF8` may begin a line of text
        return None
    for offset, signature, content in _SIGNATURES:
        if head[offset:].startswith(signature):
            return content
    return VIDEO if _is_transport_stream(head) else None


def is_binary(head: bytes) -> bool:
    """Return whether the bytes contain control characters, so they are not text (UTF-16 and UTF-32 excepted)."""
    return not _BINARY.isdisjoint(head)


def utf_encoding(head: bytes) -> str | None:
    """Return "UTF-16" or "UTF-32" where the bytes begin a text in it, with a byte order mark or without; else None."""
    if head.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        return "UTF-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) and b"\0" in head:  # a name in another encoding has no NUL
        return "UTF-16"
    head = head[: len(head) // 2 * 2]
    for units, zeros in ((head[::2], head[1::2]), (head[1::2], head[::2])):
        # Mostly ASCII: every other byte is NUL and the rest is text.
        if len(units) >= 3 and zeros.count(0) >= 0.7 * len(zeros) and 0 not in units and not is_binary(units):
            return "UTF-16"
    return None


def _is_transport_stream(head: bytes) -> bool:
    return any(head[start::size][:3] == b"GGG" for start, size in ((0, _TS_PACKET), (4, _M2TS_PACKET)))
