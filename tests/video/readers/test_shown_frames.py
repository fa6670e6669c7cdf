"""The frame returned for a position is the one that a player shows there, for every kind of request."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch  # noqa: F401 - decord loaded before torch crashes the process (dmlc/decord#293)
from barcode_films import SIDE, barcode, numbers_of, write_barcodes
from film_kinds import KINDS, clocks_for, with_edits, write_kind
from numbered_films import CLIPS

from bike_cli.config import Decoder, SamplingConfig
from bike_cli.errors import VideoError
from bike_cli.records import Clip, Source
from bike_cli.video.containers.bitstreams import inspector_of
from bike_cli.video.containers.packet_content import StartPoint
from bike_cli.video.decoding import decode
from bike_cli.video.readers.decord import decord_is_exact
from bike_cli.video.readers.footage import Footage, Request
from bike_cli.video.readers.packets import list_packets
from bike_cli.video.readers.sequential import read_through
from bike_cli.video.readers.video_file import open_video

FAULTS = CLIPS.parent / "faults"
needs_faults = pytest.mark.skipif(not FAULTS.is_dir(), reason=f"{FAULTS}: the faulty files are not here")
EIGHT = SamplingConfig(frames=8)
REFUSED_BY_DECORD = {"hidden keyframe.webm"}
REQUESTS = {
    "uniform": EIGHT,
    "several clips": replace(EIGHT, clips=3),
    "dense": replace(EIGHT, sampling="dense", clips=2),
    "keyframe": replace(EIGHT, sampling="keyframe"),
    "draft": replace(EIGHT, draft=True),
}


def shown_numbers(film: Path) -> np.ndarray:
    """Return the number of every frame that a plain decode of the whole file outputs."""
    with av.open(str(film)) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        return numbers_of(np.stack([f.to_ndarray(format="rgb24") for f in container.decode(stream)]))


def check(film: Path, expected: np.ndarray) -> None:
    """Check each reader and request: the frame at each position carries the number that is shown there."""
    for name, config in REQUESTS.items():
        for reader, found in readings(film, config):
            assert found.timeline.positions is not None
            seen = numbers_of(found.frames).tolist()
            assert seen == expected[found.timeline.positions].tolist(), f"{film.name}: {name}, {reader}"
            if name in {"uniform", "several clips", "dense"}:
                asked = Request(config).positions(len(expected))
                assert found.timeline.positions.tolist() == asked.tolist(), f"{film.name}: {name}, {reader}"


def readings(film: Path, config: SamplingConfig) -> Iterator[tuple[str, Clip | Footage]]:
    yield "auto", decode(Source.at(film), config)
    if not config.draft:
        yield "sequential", read_through(Source.at(film), Request(config))
        with open_video(Source.at(film)) as file:
            is_exact = decord_is_exact(file, list_packets(file))
        # decord never gets files that begin before zero, or whose edit list leaves frames out; see below.
        is_exact &= not film.name.startswith("negative")
        if is_exact and film.name not in REFUSED_BY_DECORD:
            yield "decord", decode(Source.at(film), config, decoder="decord")


def warning_of(film: Path, decoder: Decoder = "auto") -> str:
    return decode(Source.at(film), EIGHT, decoder=decoder).warning or ""


# -- generated films -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_position_is_the_frame_that_is_shown_there(tmp_path: Path, kind: str) -> None:
    dice = np.random.default_rng(KINDS.index(kind))
    clock = clocks_for(kind)[KINDS.index(kind) % len(clocks_for(kind))]
    film = write_kind(tmp_path, kind, clock=clock, gop=int(dice.choice([6, 12, 40])), b_frames=int(dice.choice([0, 2])))

    check(film, shown_numbers(film))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_position_is_the_frame_that_is_shown_there_with_every_clock(tmp_path: Path, kind: str) -> None:
    for clock in clocks_for(kind):
        for gop in (1, 12, 100):
            for b_frames in (0, 3):
                film = write_kind(tmp_path, kind, clock=clock, gop=gop, b_frames=b_frames, n_frames=60)
                check(film, shown_numbers(film))


# -- packets that show no frame --------------------------------------------------------------------------------------


def hide(film: Path, packets: list[int], *, bit: int) -> Path:
    """Clear the bit of a frame's first byte that shows it; the frame stays a reference of others."""
    with av.open(str(film)) as container:
        all_packets = [(p.pos or 0, bytes(p)) for p in container.demux(video=0) if p.size]
    content = bytearray(film.read_bytes())
    for block, packet in (all_packets[i] for i in packets):
        at = content.index(packet, block)  # after the header of the block
        assert content[at] & bit
        content[at] &= ~bit
    film.write_bytes(content)
    return film


def test_hidden_frames_of_vp8_are_not_counted(tmp_path: Path) -> None:
    film = write_barcodes(tmp_path / "film.webm", "libvpx")
    hidden = [1, 5, 6, 17, 30]
    hide(film, hidden, bit=0x10)

    check(film, np.delete(np.arange(40), hidden))
    assert warning_of(film) == ""


def test_hidden_frames_of_vp9_are_not_counted(tmp_path: Path) -> None:
    film = write_barcodes(tmp_path / "hidden keyframe.webm", "libvpx-vp9", options={"lag-in-frames": "0"})
    hide(film, [12, 24], bit=0x02)  # keyframes: other frames have more fields in their headers when hidden

    check(film, np.delete(np.arange(40), [12, 24]))
    assert warning_of(film) == ""
    with pytest.raises(VideoError, match="decord cannot read it reliably; use --decoder auto"):
        decode(Source.at(film), EIGHT, decoder="decord")


def write_not_coded(path: Path) -> Path:
    """Write MPEG-4 whose every fifth frame is followed by a picture that is "not coded" (ISO/IEC 14496-2, 6.2.5)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = SIDE, SIDE, "yuv420p", 12
        stream.bit_rate, tick = 1_000_000, 0
        for i in range(40):
            frame = av.VideoFrame.from_ndarray(barcode(i), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            for packet in stream.encode(frame):
                packet.pts = packet.dts = tick
                container.mux(packet)
                tick += 1
            if i % 5 == 4 and i < 39:  # at the end, FFmpeg would repeat the last frame
                # P picture, no whole second, marker, time increment (5 bits), marker, not coded, stuffing
                bits = f"010{1}{tick % 25:05b}{1}{0}" + "01111"
                empty = av.Packet(b"\0\0\1\xb6" + int(bits, 2).to_bytes(2, "big"))
                empty.stream, empty.pts, empty.dts, empty.time_base = stream, tick, tick, Fraction(1, 25)
                container.mux(empty)
                tick += 1
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.avi"])
def test_pictures_that_are_not_coded_are_not_counted(tmp_path: Path, name: str) -> None:
    film = write_not_coded(tmp_path / name)
    expected = shown_numbers(film)

    assert len(expected) == 40
    check(film, expected)
    assert warning_of(film) == ""


@needs_faults
def test_hidden_reference_frames_of_a_real_encoder_are_not_counted() -> None:
    film = Source.at(FAULTS / "vp8_alt_ref.webm")
    for decoder in ("auto", "decord"):
        clip = decode(film, EIGHT, decoder=decoder)  # type: ignore[arg-type]

        assert np.array(clip.positions).tolist() == [[0, 31, 62, 93, 125, 156, 187, 218]]
        np.testing.assert_allclose(clip.times_s, np.array(clip.positions) / 25, atol=0.002)
        np.testing.assert_array_equal(clip.frames, read_through(film, Request(EIGHT)).frames)


# -- what headers say ------------------------------------------------------------------------------------------------


def frames_in(codec: str, packet: bytes, *, extradata: bytes = b"", is_key: bool = False) -> int | None:
    inspect = inspector_of(codec, extradata)
    assert inspect is not None
    return inspect(memoryview(packet), is_key).frames


def test_a_superframe_of_vp9_shows_one_of_its_frames() -> None:
    hidden, shown = b"\x84" + bytes(9), b"\x86" + bytes(4)  # marker 2, profile 0, inter; show_frame is 0, then 1
    index = bytes([0xC0 | 1, len(hidden), len(shown), 0xC0 | 1])

    assert frames_in("vp9", hidden) == 0
    assert frames_in("vp9", hidden + shown + index) == 1
    assert frames_in("vp9", b"\x88") == 1  # show_existing_frame
    assert frames_in("vp9", shown + hidden[:0] + shown + bytes([0xC1, len(shown), len(shown), 0xC1])) == 2


def test_a_temporal_unit_of_av1_shows_the_frames_that_its_headers_say() -> None:
    def unit(kind: int, payload: bytes) -> bytes:
        return bytes([kind << 3 | 2, len(payload)]) + payload

    delimiter, sequence = unit(2, b""), unit(1, b"\0\0\0")
    key, hidden_key, hidden, existing = (unit(6, bytes([head, 0])) for head in (0x10, 0x00, 0x20, 0x80))
    inspect = inspector_of("av1", b"")
    assert inspect is not None

    found = {
        "key": inspect(memoryview(delimiter + sequence + key), True),
        "no sequence": inspect(memoryview(delimiter + key), True),
        "forward key": inspect(memoryview(delimiter + sequence + hidden_key + hidden + existing), True),
        "hidden": inspect(memoryview(delimiter + hidden), False),
        "two": inspect(memoryview(delimiter + sequence + key + existing), True),
    }

    assert {name: (one.frames, one.start) for name, one in found.items()} == {
        "key": (1, StartPoint.COMPLETE),
        "no sequence": (1, StartPoint.NEEDS_PARAMETERS),
        "forward key": (1, StartPoint.NONE),
        "hidden": (0, StartPoint.NONE),
        "two": (2, StartPoint.COMPLETE),
    }


def test_two_fields_of_h264_in_two_packets_are_one_frame() -> None:
    # Baseline profile; seq_parameter_set_id 0, 4 bits of frame_num, order type 2, 1 reference, no gaps, 4x4
    # macroblocks, frame_mbs_only_flag 0.
    sps = b"\x67\x42\x00\x1e" + int("1" + "1" + "011" + "010" + "0" + "00100" + "00100" + "0" + "1111", 2).to_bytes(3)
    annex_b = b"\0\0\0\1"

    def field(parity: int) -> bytes:  # first_mb 0, slice type 0, parameters 0, frame_num, field_pic_flag, bottom
        return annex_b + b"\x41" + int("111" + "0000" + "1" + str(parity), 2).to_bytes(2)[-2:] + bytes(20)

    def whole() -> bytes:
        return annex_b + b"\x41" + bytes([int("111" + "0000" + "0", 2)]) + bytes(20)

    inspect = inspector_of("h264", annex_b + sps)
    assert inspect is not None
    # The bits of a field begin at the top of the byte.
    top, bottom = (annex_b + b"\x41" + bytes([int("11100001", 2), parity << 7]) + bytes(20) for parity in (0, 1))

    assert [inspect(memoryview(p), False).frames for p in (top, bottom, whole(), top, bottom)] == [1, 0, 1, 1, 0]
    assert inspect(memoryview(top + bottom), False).frames == 1


# -- edit lists ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edits", "shown"),
    [
        ([(2.0, 0.0)], [*range(20)]),  # ends long before the media
        ([(2.0, 5.3)], [*range(53, 73)]),
        ([(3.0, None), (2.0, 0.0)], [*range(20)]),  # an empty edit delays the picture
        ([(2.0, 0.0), (2.0, 8.0)], [*range(20), *range(80, 100)]),
        ([(2.0, 8.0), (2.0, 0.0)], [*range(80, 100), *range(20)]),
        ([(2.0, 0.0), (2.0, 0.0)], [*range(20), *range(20)]),
    ],
)
def test_an_edit_list_decides_which_frames_there_are(
    tmp_path: Path, edits: list[tuple[float, float | None]], shown: list[int]
) -> None:
    film = write_barcodes(tmp_path / "film.mp4", "libx264", n_frames=200, fps=10, gop=20, b_frames=2)
    with_edits(film, edits)

    assert shown_numbers(film).tolist() == shown
    clip = decode(Source.at(film), EIGHT)
    assert numbers_of(clip.frames)[0].tolist() == [shown[len(shown) * i // 8] for i in range(8)]
    assert clip.duration_s == pytest.approx(len(shown) / 10)
    assert clip.warning is None
    np.testing.assert_allclose(clip.times_s, np.array(clip.positions) / 10, atol=1e-6)


# -- open groups of pictures at the beginning ------------------------------------------------------------------------


def copy_packets(film: Path, to: Path, *, first: int) -> Path:
    """Copy the packets from a given one onwards."""
    muxer = {"movflags": "frag_keyframe+empty_moov", "use_editlist": "0"} if "fragments" in to.name else {}
    with av.open(str(film)) as source, av.open(str(to), "w", options=muxer) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for i, packet in enumerate(p for p in source.demux(video=0) if p.size):
            if i >= first:
                packet.stream = stream
                target.mux(packet)
    return to


OPEN_GOPS = {
    "mpeg2": ("mpeg2video", {}),
    "mpeg4": ("mpeg4", {}),
    "h264": ("libx264", {"x264-params": "open-gop=1:bframes=3:b-adapt=0"}),
    "hevc": ("libx265", {"x265-params": "log-level=none:bframes=3:b-adapt=0:keyint=12:min-keyint=12:open-gop=1"}),
}


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "fragments.mp4", "fragments.mov"])
@pytest.mark.parametrize("codec", OPEN_GOPS)
def test_all_readers_count_alike_where_the_first_frames_cannot_be_decoded(
    tmp_path: Path, codec: str, ending: str
) -> None:
    encoder, options = OPEN_GOPS[codec]
    film = write_barcodes(tmp_path / f"film.{ending}", encoder, gop=12, b_frames=2, options=options)
    with av.open(str(film)) as container:
        keys = [i for i, p in enumerate(p for p in container.demux(video=0) if p.size) if p.is_keyframe]
    late = copy_packets(film, tmp_path / f"late.{ending}", first=keys[1])
    expected = shown_numbers(late)

    check(late, expected)
    found = {name: decode(Source.at(late), config) for name, config in REQUESTS.items()}
    found["jitter"] = decode(Source.at(late), EIGHT, rng=np.random.default_rng(1))

    assert numbers_of(found["jitter"].frames).tolist() == expected[found["jitter"].positions].tolist()
    notes = {
        name: [n for n in (clip.warning or "").split("; ") if "cannot be decoded" in n] for name, clip in found.items()
    }
    assert len({tuple(n) for n in notes.values()}) == 1, notes
    if codec in {"mpeg2", "hevc"} and ending not in {"mp4", "mov"}:  # in those, an edit list leaves the frames out
        assert notes["keyframe"][0].startswith("the first ")


# -- decord ----------------------------------------------------------------------------------------------------------

NOTE = "decord may be off by some frames in such files; --decoder auto is exact"


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize("muxer", [{}, {"movflags": "frag_keyframe+empty_moov"}])
@pytest.mark.parametrize("x264", ["open-gop=1:bframes=3:b-adapt=0", "intra-refresh=1:bframes=0"])
def test_decord_warns_about_open_keyframes(tmp_path: Path, x264: str, muxer: dict[str, str], ending: str) -> None:
    options = {"x264-params": f"keyint=12:min-keyint=12:scenecut=0:{x264}"}
    film = write_barcodes(
        tmp_path / f"film.{ending}", "libx264", options=options, muxer=muxer if ending == "mp4" else {}
    )

    assert NOTE in warning_of(film, "decord")


@pytest.mark.parametrize(("width", "height"), [(33, 64), (64, 17)])
def test_decord_warns_about_other_colours_of_odd_sizes(tmp_path: Path, width: int, height: int) -> None:
    film = tmp_path / "film.webm"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame(width, height, "yuv420p")))
        container.mux(stream.encode())

    assert NOTE in warning_of(film, "decord")


@pytest.mark.parametrize("codec", ["libvpx", "libx264"])
def test_decord_is_refused_files_that_begin_before_zero(tmp_path: Path, codec: str) -> None:
    muxer = {"avoid_negative_ts": "disabled"}
    film = write_barcodes(tmp_path / "film.mkv", codec, pts=range(-10, 30), muxer=muxer)

    check_only_refused_by_decord(film)


def test_decord_is_refused_files_with_two_pictures(tmp_path: Path) -> None:
    film = tmp_path / "film.mkv"
    with av.open(str(film), "w") as container:
        sides = (64, 128)
        streams = [container.add_stream("libx264", rate=25) for _ in sides]
        for stream, side in zip(streams, sides, strict=True):
            stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
        for stream, side in zip(streams, sides, strict=True):
            for _ in range(10):
                container.mux(stream.encode(av.VideoFrame(side, side, "yuv420p")))
            container.mux(stream.encode())

    check_only_refused_by_decord(film)


def check_only_refused_by_decord(film: Path) -> None:
    assert NOTE not in warning_of(film)
    with pytest.raises(VideoError, match="decord cannot read it reliably; use --decoder auto"):
        decode(Source.at(film), EIGHT, decoder="decord")
