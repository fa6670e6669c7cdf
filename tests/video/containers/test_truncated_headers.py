"""Files truncated inside or after their headers give a clip or a VideoError, never another exception."""

import struct
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from films import drawn
from mp4_boxes import CONTAINERS as MP4_CONTAINERS
from mp4_boxes import box
from PIL import Image

from bike_cli.config import SamplingConfig
from bike_cli.errors import VideoError
from bike_cli.records import Source
from bike_cli.video.containers.mp4_tracks import read_tracks
from bike_cli.video.decoding import decode

HEAD = 64  # each of these first bytes is tried as the end of the file
MAX_BORDERS = 24  # further cuts per file
PROPER_KINDS = {"not_video", "no_picture", "unreadable", "damaged"}
ONE_FRAME = SamplingConfig(frames=1)
VIDEOS = {  # name of the file -> codec and FFmpeg's name of the container
    "film.mp4": ("libx264", "mp4"),
    "film.mov": ("mpeg4", "mov"),
    "film.3gp": ("mpeg4", "3gp"),
    "film.mkv": ("libx264", "matroska"),
    "film.webm": ("libvpx", "webm"),
    "film.avi": ("mpeg4", "avi"),
    "film.ts": ("libx264", "mpegts"),
    "film.mpg": ("mpeg2video", "mpeg"),
    "film.flv": ("flv", "flv"),
    "film.wmv": ("msmpeg4", "asf"),
    "film.ogv": ("libvpx", "ogg"),
    "film.mxf": ("mpeg2video", "mxf"),
    "film.nut": ("mpeg4", "nut"),
    "film.ivf": ("libvpx-vp9", "ivf"),
    "film.gif": ("gif", "gif"),
    "film.apng": ("apng", "apng"),
    "film.y4m": ("rawvideo", "yuv4mpegpipe"),
    "film.rm": ("rv10", "rm"),
    "film.swf": ("flv", "swf"),
    "film.h264": ("libx264", "h264"),
    "film.hevc": ("libx265", "hevc"),
    "film.m4v": ("mpeg4", "m4v"),
    "film.m2v": ("mpeg2video", "mpeg2video"),
    "film.mjpeg": ("mjpeg", "mjpeg"),
}
PIXELS = {"gif": "rgb8", "apng": "rgb24", "mjpeg": "yuvj420p"}
RATES = {"mpeg2video": 25}  # MPEG-2 has a few rates only


def write(path: Path) -> bytes:
    if path.suffix == ".webp":
        pictures = [Image.fromarray(frame) for frame in drawn("blue circle", frames=4)]
        pictures[0].save(path, save_all=True, append_images=pictures[1:], lossless=True)
        return path.read_bytes()
    codec, container = VIDEOS[path.name]
    with av.open(path, "w", format=container) as out:
        stream = out.add_stream(codec, rate=RATES.get(codec, 10))
        stream.width = stream.height = 64
        stream.pix_fmt = PIXELS.get(codec, "yuv420p")
        for frame in drawn("blue circle", frames=6):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=stream.pix_fmt)))
        out.mux(stream.encode())
    return path.read_bytes()


def borders(path: Path, content: bytes) -> set[int]:
    """Return where structures of a file begin, and places shortly after: boxes, chunks, packets."""
    places = set(box_borders(content, 0, len(content))) if content[4:8] == b"ftyp" else set()
    if content[:4] == b"RIFF":
        places |= set(chunk_borders(content, 12, len(content)))
    with av.open(path) as container:
        places |= {packet.pos for packet in container.demux() if packet.pos is not None and packet.pos > 0}
    return {place + more for place in places for more in (0, 1, 8) if place + more < len(content)}


def box_borders(content: bytes, at: int, end: int) -> Iterator[int]:
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", content, at)
        yield at
        if kind in MP4_CONTAINERS:
            yield from box_borders(content, at + 8, at + size)
        at += max(size, 8)


def chunk_borders(content: bytes, at: int, end: int) -> Iterator[int]:
    while at + 8 <= end:
        kind, size = struct.unpack_from("<4sI", content, at)
        yield at
        if kind == b"LIST":
            yield from chunk_borders(content, at + 12, at + 8 + size)
        at += 8 + size + size % 2


def outcome(path: Path) -> str:
    """Return `clip`, or the kind of the error."""
    try:
        decode(Source.at(path), ONE_FRAME)
    except VideoError as e:
        return e.kind
    return "clip"


@pytest.mark.parametrize("name", [*VIDEOS, "film.webp"])
def test_a_file_cut_off_at_any_border_is_a_clip_or_a_video_error(tmp_path: Path, name: str) -> None:
    content = write(tmp_path / name)
    later = sorted(place for place in borders(tmp_path / name, content) if place >= HEAD)
    later = later[:: 1 + len(later) // MAX_BORDERS]
    cut = tmp_path / f"cut{Path(name).suffix}"

    outcomes = {}
    for length in (*range(HEAD), *later):
        cut.write_bytes(content[:length])
        outcomes[length] = outcome(cut)

    assert set(outcomes.values()) <= PROPER_KINDS | {"clip"}
    assert outcomes[0] == "not_video"
    assert outcome(tmp_path / name) in ({"clip", "not_video"} if name.endswith(".webp") else {"clip"})


def index_first(path: Path) -> bytes:
    """Write an MP4 whose index stands before its media data."""
    with av.open(path, "w", format="mp4", options={"movflags": "faststart"}) as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for frame in drawn("blue circle", frames=6):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())
    return path.read_bytes()


def test_tracks_of_an_mp4_cut_off_anywhere_in_its_index_are_read_as_far_as_possible(tmp_path: Path) -> None:
    content = index_first(tmp_path / "film.mp4")
    begin, end = content.index(b"moov") - 4, content.index(b"mdat") - 4
    assert begin < end
    (whole,) = read_tracks(tmp_path / "film.mp4")
    assert (whole.id, whole.handler, whole.entries) == (1, b"vide", {b"avc1"})
    cut = tmp_path / "cut.mp4"

    for length in range(begin, end):
        cut.write_bytes(content[:length])
        for track in read_tracks(cut):
            assert track.id in (0, whole.id)
            assert track.entries in (frozenset(), whole.entries)


def test_boxes_nested_a_thousand_deep_do_not_matter(tmp_path: Path) -> None:
    content = index_first(tmp_path / "film.mp4")
    nested = b""
    for _ in range(1200):
        nested = box(b"mdia", nested)
    film = tmp_path / "film.mov"
    film.write_bytes(content + box(b"moov", box(b"trak", nested)))

    assert [track.id for track in read_tracks(film)] == [1]
    film.write_bytes(content[: content.index(b"moov") - 4] + box(b"moov", box(b"trak", nested)))
    assert [track.id for track in read_tracks(film)] == [0]
    assert outcome(film) in PROPER_KINDS


def test_a_track_cut_off_after_the_header_of_its_first_box_is_not_a_bug(tmp_path: Path) -> None:
    content = index_first(tmp_path / "film.mp4")
    film = tmp_path / "cut.mp4"
    film.write_bytes(content[: content.index(b"tkhd") + 4])

    assert outcome(film) in PROPER_KINDS


@pytest.mark.parametrize("length", range(16, 21))
def test_a_webp_of_a_few_bytes_is_not_a_bug(tmp_path: Path, length: int) -> None:
    film = tmp_path / "film.webp"
    film.write_bytes(b"RIFF\x44\x02\0\0WEBPVP8X\x0a\0\0\0\2"[:length])

    assert outcome(film) in PROPER_KINDS
