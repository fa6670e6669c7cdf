"""Videos whose frames show their number as black and white bars, which survive any codec."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

SIDE, BITS = 64, 8


def barcode(number: int) -> NDArray[np.uint8]:
    """Return a frame with the bits of a number as vertical bars: uint8 [64, 64, 3]."""
    bits = [number >> bit & 1 for bit in range(BITS)]
    row = np.repeat(np.array(bits, np.uint8) * 220 + 16, SIDE // BITS)
    return np.broadcast_to(row[None, :, None], (SIDE, SIDE, 3)).copy()


def numbers_of(frames: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Read the numbers from frames of shape [..., 64, 64, 3]."""
    bars = frames[..., 16:48, :, :].mean(axis=(-3, -1)).reshape(*frames.shape[:-3], BITS, -1)[..., 2:6].mean(axis=-1)
    numbers: NDArray[np.int64] = ((bars > 126) << np.arange(BITS)).sum(axis=-1)
    return numbers


def write_barcodes(
    path: Path,
    codec: str,
    *,
    n_frames: int = 40,
    pts: Sequence[int] | None = None,
    fps: int = 25,
    gop: int = 12,
    b_frames: int = 0,
    options: Mapping[str, str] | None = None,
    muxer: Mapping[str, str] | None = None,
) -> Path:
    """Write frames numbered from 0, at the given multiples of 1 / `fps` seconds."""
    with av.open(str(path), "w", options=dict(muxer or {})) as container:
        stream = container.add_stream(codec, rate=fps, options=dict(options or {}))
        stream.width, stream.height, stream.gop_size = SIDE, SIDE, gop
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.bit_rate, stream.time_base = 1_000_000, Fraction(1, fps)
        if codec != "libsvtav1":
            stream.codec_context.max_b_frames = b_frames
        for i in range(n_frames):
            frame = av.VideoFrame.from_ndarray(barcode(i), format="rgb24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = i if pts is None else pts[i], Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def packet_places(film: Path) -> list[tuple[int, int]]:
    """Return the file offset and size of each video packet, in file order."""
    with av.open(str(film)) as container:
        return [(p.pos or 0, p.size) for p in container.demux(video=0) if p.size]


def with_zeros(film: Path, *, packets: range) -> Path:
    """Overwrite some packets of the picture; in Matroska, with the headers of their blocks."""
    places, content = packet_places(film), bytearray(film.read_bytes())
    for at, size in (places[i] for i in packets):
        content[at : at + size] = bytes(size)
    film.write_bytes(content)
    return film


def with_empty_packets(film: Path, *, packets: range) -> Path:
    """Overwrite the content of some packets of the picture; the container stays intact."""
    with av.open(str(film)) as container:
        all_packets = [(p.pos or 0, bytes(p)) for p in container.demux(video=0) if p.size]
    content = bytearray(film.read_bytes())
    for block, packet in (all_packets[i] for i in packets):
        at = content.index(packet, block)  # after the header of the block
        content[at : at + len(packet)] = bytes(len(packet))
    film.write_bytes(content)
    return film
