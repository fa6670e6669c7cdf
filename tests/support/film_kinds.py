"""Numbered videos of every codec, container and clock that PyAV can write."""

import struct
from pathlib import Path

from barcode_films import write_barcodes

X265 = {"x265-params": "log-level=none"}
ENCODERS = {
    "h264": ("libx264", {}),
    "open GOP": ("libx264", {"x264-params": "open-gop=1:b-adapt=0"}),
    "interlaced": ("libx264", {"x264-params": "tff=1"}),
    "hevc": ("libx265", X265),
    "vp8": ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16", "arnr-maxframes": "5"}),
    "vp9": ("libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "realtime", "cpu-used": "8"}),
    "av1": ("libsvtav1", {"preset": "12", "svtav1-params": "keyint=12"}),
    "mpeg4": ("mpeg4", {}),
    "mpeg2": ("mpeg2video", {}),
    "mjpeg": ("mjpeg", {}),
}
ENDINGS = {
    "h264": ("mp4", "mkv", "ts", "flv", "avi"),
    "open GOP": ("mp4", "mkv", "ts"),
    "interlaced": ("mp4", "mkv", "ts"),
    "hevc": ("mp4", "mkv", "ts"),
    "vp8": ("webm",),
    "vp9": ("webm", "mp4"),
    "av1": ("mp4", "webm"),
    "mpeg4": ("mp4", "mkv", "avi"),
    "mpeg2": ("mp4", "mkv", "ts", "mpg"),
    "mjpeg": ("mov", "avi"),
}
KINDS = [f"{codec}.{ending}" for codec, endings in ENDINGS.items() for ending in endings]
CLOCKS = {
    "steady": lambda i: i,
    "late": lambda i: i + 75,
    "negative": lambda i: i - 7,
    "variable": lambda i: i + i * i // 9,
}


def write_kind(folder: Path, kind: str, *, clock: str, gop: int, b_frames: int, n_frames: int = 40) -> Path:
    codec, ending = kind.split(".")
    encoder, options = ENCODERS[codec]
    b_frames = b_frames if codec in {"h264", "open GOP", "interlaced", "mpeg4", "mpeg2"} and ending != "avi" else 0
    if codec == "hevc":
        options = {"x265-params": f"log-level=none:bframes={b_frames}:keyint={gop}:min-keyint={gop}"}
    if codec == "av1":
        gop = max(gop, 2)  # SVT-AV1 refuses to encode keyframes alone
    pts = [CLOCKS[clock](i) for i in range(n_frames)]
    path = folder / f"{clock} {gop} {b_frames} {kind}"
    return write_barcodes(path, encoder, pts=pts, gop=gop, b_frames=b_frames, options=options, n_frames=n_frames)


def clocks_for(kind: str) -> tuple[str, ...]:
    """Return the clocks that a container can hold; MPEG and AVI files count frames, or begin at 0."""
    return {"mp4": tuple(CLOCKS), "mkv": tuple(CLOCKS), "mov": tuple(CLOCKS)}.get(
        kind.split(".")[1], ("steady", "late")
    )


def with_edits(film: Path, edits: list[tuple[float, float | None]]) -> Path:
    """Replace the edit list: each edit has a duration and the time in the media where it begins, None for a gap."""
    content = bytearray(film.read_bytes())
    at = content.index(b"edts") - 4
    length = int.from_bytes(content[at : at + 4])
    per_s = int.from_bytes(content[content.index(b"mdhd") + 16 :][:4])
    offset = int.from_bytes(content[content.index(b"elst") + 16 :][:4])  # of the first frame, which B-frames delay
    entries = b"".join(
        struct.pack(">IiI", round(1000 * span_s), -1 if begin_s is None else offset + round(begin_s * per_s), 1 << 16)
        for span_s, begin_s in edits
    )
    listed = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits)) + entries
    box = struct.pack(">I4s", 8 + len(listed), b"edts") + listed
    content[at : at + length] = box
    for name in (b"moov", b"trak"):
        begin = content.index(name) - 4
        content[begin : begin + 4] = (int.from_bytes(content[begin : begin + 4]) + len(box) - length).to_bytes(4)
    film.write_bytes(content)
    return film
