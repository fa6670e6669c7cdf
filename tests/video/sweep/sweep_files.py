"""Create the files of the sweep: ffmpeg encodes numbered frames; patches in Python do what ffmpeg cannot."""

from __future__ import annotations

import os
import shlex
import struct
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sweep_cases import AUDIO_CODECS, CODECS, MATRICES, ODD_MATRICES, SUBTITLE_CODECS, Case

MOST_FRAMES = 120
COLUMNS, ROWS = 4, 2  # of the blocks that spell a frame's number
LIMIT_S = 120

# -- the frames --------------------------------------------------------------------------------------------------------


def numbered_frame(i: int, width: int, height: int) -> NDArray[np.uint8]:
    """Return frame `i`, [H, W, 3]: a colour gradient with seven blocks that spell `i` in binary (light is 1).

    The eighth block is always light, so no rotated or mirrored frame can pass for another one.
    """
    y, x = np.mgrid[:height, :width]
    frame = np.empty((height, width, 3), np.uint8)
    frame[..., 0], frame[..., 1], frame[..., 2] = 60 + 120 * x / width, 60 + 120 * y / height, 110
    for bit in range(COLUMNS * ROWS):
        frame[block(bit, width, height)] = 215 if bit == COLUMNS * ROWS - 1 or i >> bit & 1 else 40
    return frame


def block(bit: int, width: int, height: int) -> tuple[slice, slice]:
    """Return the rows and columns of the block for a bit."""
    row, column = divmod(bit, COLUMNS)
    h, w = height / ROWS, width / COLUMNS
    return (
        slice(round((row + 0.15) * h), round((row + 0.85) * h)),
        slice(round((column + 0.15) * w), round((column + 0.85) * w)),
    )


def number_in(frame: NDArray[np.uint8]) -> int:
    """Return the number that an upright frame shows, or -1 if it shows none."""
    levels = [float(frame[block(bit, frame.shape[1], frame.shape[0])].mean()) for bit in range(COLUMNS * ROWS)]
    if levels[-1] < 128:
        return -1
    return sum((level > 128) << bit for bit, level in enumerate(levels[:-1]))


def turned(frame: NDArray[np.uint8], matrix: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """Apply a display matrix of quarter turns and mirrors to a frame."""
    a, b, c, d = np.sign(matrix).astype(int)
    if b or c:  # x' = c y, y' = b x
        frame, a, d = frame.swapaxes(0, 1), c, b
    return frame[:: 1 if d > 0 else -1, :: 1 if a > 0 else -1]


# -- the commands ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """An ffmpeg command, or the name of a patch: a function that changes the file in place."""

    arguments: tuple[str, ...]
    patch: str | None = None

    def __str__(self) -> str:
        return shlex.join(self.arguments) if self.patch is None else f"sweep_files.PATCHES[{self.patch!r}](path)"


_CREATING = threading.Lock()  # files are made in threads


@dataclass(frozen=True)
class Workshop:
    """A folder that holds the source material, and the files made from it."""

    folder: Path

    def source(self, size: str) -> Path:
        """Return a file of raw RGB frames of a size, created on first use."""
        path = self.folder / f"numbered_{size}.rgb"
        with _CREATING:
            if not path.exists():
                width, height = map(int, size.split("x"))
                count = 12 if size == "720x576" else MOST_FRAMES
                path.write_bytes(b"".join(numbered_frame(i, width, height).tobytes() for i in range(count)))
        return path

    def subtitles(self) -> Path:
        """Return a subtitle file that lasts a minute."""
        path = self.folder / "subtitles.srt"
        with _CREATING:
            if not path.exists():
                path.write_text("1\n00:00:00,000 --> 00:00:01,000\nfirst\n\n2\n00:00:58,000 --> 00:01:00,000\nlast\n")
        return path

    def cover(self) -> Path:
        """Return a cover picture."""
        path = self.folder / "cover.png"
        with _CREATING:
            if not path.exists():
                Image.new("RGB", (300, 300), (99, 99, 99)).save(path)
        return path

    def make(self, case: Case) -> Path:
        """Create the file of a case and return its path.

        Raises:
            subprocess.CalledProcessError: ffmpeg failed; see its `stderr`.
        """
        path = self.folder / case.name
        for step in self.steps(case):
            if step.patch is None:
                subprocess.run(step.arguments, check=True, capture_output=True, timeout=LIMIT_S)
            else:
                PATCHES[step.patch](path)
        for left in self.folder.glob(f"{case.name}.*"):
            left.unlink()
        return path

    def steps(self, case: Case) -> list[Step]:
        """Return the commands and patches that create the file of a case."""
        return _Recipe(self, case).steps()


RATES = {"ntsc": "30000/1001", "1-fps": "1", "1000-fps": "1000", "2000-fps": "2000"}
_FILTERS = {
    "vfr": "setpts='N+floor(N*N/20)'",
    "jumps": "setpts='N+90000*gte(N,17)'",
}
_CLOCKS = {
    "starts-at-100": "-output_ts_offset 100",
    "starts-below-0": "-output_ts_offset -0.4 -avoid_negative_ts disabled",
    "coarse": "-video_track_timescale 1000",
    "no-edits": "-use_editlist 0",
    "negative-cts": "-movflags +negative_cts_offsets",
}
_PACKINGS = {
    "faststart": "-movflags +faststart",
    "fragments": "-movflags +frag_keyframe+empty_moov+default_base_moof",
    "fragment-per-frame": "-movflags +frag_every_frame+empty_moov",
    "dash": "-movflags +dash+delay_moov+frag_keyframe",
    "fragments-from-second": "-movflags +frag_keyframe+empty_moov+default_base_moof",
    "live": "-live 1",
    "small-clusters": "-cluster_size_limit 2000",
    "cues-first": "-reserve_index_space 20000",
    "block-groups": "-default_mode infer -cluster_time_limit 200",
    "no-duration": "-flvflags +no_duration_filesize",
    "no-index": "-reserve_index_space 0",
    "small-pages": "-page_duration 50000",
    "headers-resent": "-mpegts_flags +resend_headers -pat_period 0.2",
}
_COLOURS = {  # filter, options
    "bt709": (
        "scale=out_color_matrix=bt709:out_range=tv",
        "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv",
    ),
    "bt2020": (
        "scale=out_color_matrix=bt2020:out_range=tv",
        "-colorspace bt2020nc -color_primaries bt2020 -color_trc bt2020-10 -color_range tv",
    ),
    "full-range": ("scale=out_color_matrix=bt709:out_range=pc", "-colorspace bt709 -color_range pc"),
    "smpte170m": (
        "scale=out_color_matrix=smpte170m:out_range=tv",
        "-colorspace smpte170m -color_primaries smpte170m -color_trc smpte170m",
    ),
}
_FORMATS = {"m4v": "m4v", "drc": "dirac", "apng": "apng", "m2ts": "mpegts", "asf": "asf", "wmv": "asf", "dv": "dv"}


class _Recipe:
    def __init__(self, workshop: Workshop, case: Case) -> None:
        self._workshop, self._case = workshop, case
        self._path = workshop.folder / case.name

    def steps(self) -> list[Step]:
        case = self._case
        steps: list[Step] = []
        codec = CODECS[case.codec]
        log = ["-passlogfile", f"{self._path}.log"]
        if codec.first_pass:
            steps.append(self._encode(["-an", "-sn", "-pass", "1", *log, "-f", "null", os.devnull], alone=True))
        passing = ["-pass", "2", *log] if codec.first_pass else []
        is_cut = case.clock in {"cut-by-edit", "cut-by-copy", "copyts"}
        out = f"{self._path}.uncut.{case.container}" if is_cut else str(self._path)
        steps.append(self._encode([*passing, *self._muxer([] if is_cut else self._packing()), out]))
        if is_cut:
            copyts = ["-copyts"] if case.clock == "copyts" else []
            cutting = ["-ss", "0.53", "-i", out, *copyts, "-map", "0", "-c", "copy"]
            steps.append(self._ffmpeg([*cutting, *self._muxer(self._packing()), str(self._path)]))
        steps += [Step((), patch) for patch in self._patches()]
        return steps

    def _ffmpeg(self, arguments: list[str]) -> Step:
        return Step(("ffmpeg", "-v", "error", "-nostdin", "-y", *arguments))

    def _encode(self, ending: list[str], *, alone: bool = False) -> Step:
        case = self._case
        codec = CODECS[case.codec]
        extra = "alone" if alone else case.extra
        rate = RATES.get(case.clock, "25")
        inputs = ["-itsoffset", "1.5"] if extra == "late-picture" else []
        inputs += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", case.size, "-framerate", rate]
        inputs += ["-i", str(self._workshop.source(case.size))]
        more_inputs, more_outputs = self._extra(extra)
        arguments = [*inputs, *more_inputs, "-map", "0:v", *more_outputs, "-frames:v:0", str(case.frames)]
        filters = [_FILTERS[case.clock]] if case.clock in _FILTERS else []
        colours: list[str] = []
        if case.colour != "unsaid":
            colour_filter, options = _COLOURS[case.colour]
            filters.append(colour_filter)
            colours = options.split()
        if filters:
            arguments += ["-filter:v:0", ",".join(filters)]
        arguments += [*codec.arguments.split(), "-pix_fmt", case.pixels, *colours, "-fps_mode", "passthrough"]
        if extra == "cover" and case.container != "mkv":
            arguments += ["-c:v:1", "png", "-pix_fmt:v:1", "rgb24"]
        if case.codec == "dv":
            arguments += ["-aspect", "4:3"]
        return self._ffmpeg([*arguments, *ending])

    def _extra(self, extra: str) -> tuple[list[str], list[str]]:
        """Return the inputs and output options of the streams next to the numbered frames."""
        case = self._case
        sound = ["-f", "lavfi", "-t", "12" if extra == "long-audio" else "0.8", "-i", "sine=sample_rate=48000"]
        if extra in {"audio", "late-audio", "long-audio", "late-picture"}:
            late = ["-itsoffset", "0.7"] if extra == "late-audio" else []
            return [*late, *sound], ["-map", "1:a", "-c:a", AUDIO_CODECS[case.container]]
        if extra == "long-subtitles":
            return ["-i", str(self._workshop.subtitles())], ["-map", "1:s", "-c:s", SUBTITLE_CODECS[case.container]]
        if extra == "cover" and case.container == "mkv":
            return [], ["-attach", str(self._workshop.cover()), "-metadata:s:t", "mimetype=image/png"]
        if extra == "cover":
            covers = ["-map", "1:v", "-disposition:v:1", "attached_pic", "-frames:v:1", "1"]
            return ["-i", str(self._workshop.cover())], covers
        if extra == "time-code":
            return [], ["-timecode", "01:00:00:00"]
        if extra.endswith("second"):
            width, height = map(int, case.size.split("x"))
            scale = "64:32" if extra == "small-second" else f"{width // 2 * 4}:{height // 2 * 4}"
            dispositions = ["-disposition:v:0", "0", "-disposition:v:1", "default"] if extra == "default-second" else []
            second = ["-map", "0:v", "-filter:v:1", f"negate,scale={scale}", "-frames:v:1", str(case.frames)]
            return [], [*second, *dispositions]
        return [], []

    def _muxer(self, options: list[str]) -> list[str]:
        format_of = _FORMATS.get(self._case.container)
        blu_ray = ["-mpegts_m2ts_mode", "1"] if self._case.container == "m2ts" else []
        return [*options, *blu_ray, *(["-f", format_of] if format_of else [])]

    def _packing(self) -> list[str]:
        return [*_CLOCKS.get(self._case.clock, "").split(), *_PACKINGS.get(self._case.packing, "").split()]

    def _patches(self) -> list[str]:
        case = self._case
        patches = ["pack B-frames"] if case.codec == "mpeg4-packed" else []
        if case.clock in {"twice", "early-end", "two-edits"}:
            patches.append(case.clock)
        if case.packing in {"mid-gop", "fragments-from-second", "big-atoms"}:
            patches.append(case.packing)
        if case.orientation in {*MATRICES, *ODD_MATRICES, "movie-clockwise"}:
            patches.append(case.orientation)
        return patches


# -- the patches -------------------------------------------------------------------------------------------------------


def _repeat(path: Path) -> None:
    """Append the file to itself, so that its clock restarts."""
    path.write_bytes(path.read_bytes() * 2)


def _cut_start(path: Path) -> None:
    """Drop the first third, so that the file starts in mid-GOP, as recordings of broadcasts do."""
    content = path.read_bytes()
    path.write_bytes(content[len(content) // 188 // 3 * 188 :])


def _drop_first_fragment(path: Path) -> None:
    content = path.read_bytes()
    first, second = (at for at, kind in _top_boxes(content) if kind == b"moof")
    path.write_bytes(content[:first] + content[second:])


def _top_boxes(content: bytes) -> list[tuple[int, bytes]]:
    """Return the offsets and types of the top-level boxes; of the fragments, only the first two."""
    at, boxes = 0, []
    while at + 8 <= len(content):
        size, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        header = 8
        if size == 1:
            size, header = int.from_bytes(content[at + 8 : at + 16], "big"), 16
        if kind != b"moof" or sum(kind == b"moof" for _, kind in boxes) < 2:
            boxes.append((at, kind))
        at += max(size, header)
    return boxes


def _widen_first_atom(path: Path) -> None:
    """Give the media data box a 64-bit size, as in files above 4 GiB."""
    content = path.read_bytes()
    at = next(at for at, kind in _top_boxes(content) if kind == b"mdat")
    # ffmpeg leaves room for that size: a `free` box of 8 bytes before `mdat`.
    if content[at - 8 : at] == b"\0\0\0\x08free":
        size = int.from_bytes(content[at : at + 4], "big")
        content = content[: at - 8] + struct.pack(">I4sQ", 1, b"mdat", size + 8) + content[at + 8 :]
        path.write_bytes(content)


def _set_matrix(path: Path, matrix: tuple[float, float, float, float], box: bytes = b"tkhd") -> None:
    content = path.read_bytes()
    at = content.index(box)
    at += (44 if content[at + 4] == 0 else 56) - (0 if box == b"tkhd" else 4)
    a, b, c, d = (round(value * 65536) for value in matrix)
    path.write_bytes(content[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + content[at + 36 :])


def _set_edits(path: Path, edits: list[tuple[float, float]]) -> None:
    """Replace the edit list of the first track by (start, length) pairs in seconds, and move the chunk offsets."""
    content = bytearray(path.read_bytes())
    moov = next(at for at, kind in _top_boxes(content) if kind == b"moov")
    trak = content.index(b"trak", moov) - 4
    mvhd = content.index(b"mvhd", moov)
    movie_scale = int.from_bytes(content[mvhd + 16 : mvhd + 20], "big")
    mdhd = content.index(b"mdhd", trak)
    media_scale = int.from_bytes(content[mdhd + 16 : mdhd + 20], "big")
    old_at = content.index(b"edts", trak) - 4
    old_size = int.from_bytes(content[old_at : old_at + 4], "big")
    elst = content.index(b"elst", old_at)
    delay = int.from_bytes(
        content[elst + 16 : elst + 20], "big"
    )  # the media time of the first frame; above 0 with B-frames
    entries = b"".join(
        struct.pack(">IiI", round(length * movie_scale), delay + round(start * media_scale), 1 << 16)
        for start, length in edits
    )
    new = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits)) + entries
    new = struct.pack(">I4s", 8 + len(new), b"edts") + new
    grown = len(new) - old_size
    content[old_at : old_at + old_size] = new
    for box in (moov, trak):
        size = int.from_bytes(content[box : box + 4], "big")
        content[box : box + 4] = (size + grown).to_bytes(4, "big")
    if next(at for at, kind in _top_boxes(content) if kind == b"mdat") > moov:
        _move_chunks(content, moov, grown)
    path.write_bytes(content)


def _move_chunks(content: bytearray, moov: int, by: int) -> None:
    at = moov
    while (at := content.find(b"stco", at + 4)) >= 0:
        count = int.from_bytes(content[at + 8 : at + 12], "big")
        if count * 4 + 16 == int.from_bytes(content[at - 4 : at], "big"):
            for entry in range(at + 12, at + 12 + 4 * count, 4):
                offset = int.from_bytes(content[entry : entry + 4], "big") + by
                content[entry : entry + 4] = offset.to_bytes(4, "big")


def _pack_b_frames(path: Path) -> None:
    """Move each B-frame into the packet before it and put a not-coded frame in its place, as DivX encoders do."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        fps = stream.average_rate or Fraction(25)
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
        unpacked = path.with_suffix(".unpacked.avi")
        path.rename(unpacked)
    increments = max(1, (fps.numerator - 1).bit_length())
    with av.open(str(unpacked)) as container, av.open(str(path), "w") as out:
        copy = out.add_stream_from_template(container.streams.video[0])
        for i, content in enumerate(_packed(packets, increments)):
            packet = av.Packet(content)
            packet.stream, packet.time_base, packet.pts, packet.dts = copy, 1 / fps, i, i
            packet.is_keyframe = _vop_type(content) == 0
            out.mux(packet)
    unpacked.unlink()


def _packed(packets: list[bytes], increments: int) -> list[bytes]:
    bits = "01" + "0" + "1" + "0" * increments + "1" + "0" + "0"
    bits += "1" * (-len(bits) % 8)
    not_coded = b"\0\0\1\xb6" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    user_data = b"\0\0\1\xb2DivX503b1393p"
    packed = [packets[0].replace(b"\0\0\1\xb6", user_data + b"\0\0\1\xb6", 1)]
    for content in packets[1:]:
        if _vop_type(content) == 2:  # B
            packed[-1] += content
            packed.append(not_coded)
        else:
            packed.append(content)
    return packed


def _vop_type(content: bytes) -> int:
    at = content.find(b"\0\0\1\xb6")
    return content[at + 4] >> 6 if at >= 0 else -1


PATCHES: dict[str, Callable[[Path], None]] = {
    "twice": _repeat,
    "early-end": lambda path: _set_edits(path, [(0.0, 0.6)]),
    "two-edits": lambda path: _set_edits(path, [(0.12, 0.28), (0.52, 0.32)]),
    "mid-gop": _cut_start,
    "fragments-from-second": _drop_first_fragment,
    "big-atoms": _widen_first_atom,
    "pack B-frames": _pack_b_frames,
    "movie-clockwise": lambda path: _set_matrix(path, MATRICES["clockwise"], b"mvhd"),
    **{
        name: (lambda path, matrix=matrix: _set_matrix(path, matrix))
        for name, matrix in {**MATRICES, **ODD_MATRICES}.items()
    },
}
