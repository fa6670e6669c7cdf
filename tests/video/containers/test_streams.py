"""The stream that ffmpeg would show is read; files that cannot be read are reported with a reason."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from mp4_boxes import box, boxes, rewrite
from numbered_films import EIGHT, N, failure_of, grey, positions_seen, write_film
from PIL import Image

from bike_cli.config import SamplingConfig
from bike_cli.records import Source
from bike_cli.video.decoding import decode
from bike_cli.video.readers.video_file import picture_streams
from bike_cli.video.sampling import sample_positions

PEERS = Path(__file__).parents[4] / "shared" / "faults" / "peers"
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@dataclass(frozen=True)
class Track:
    """What a track shows, and how it is stored."""

    colour: tuple[int, int, int]
    size: tuple[int, int] = (64, 48)
    frames: int = N
    disposition: Disposition = Disposition.default
    bit_rate: int = 500_000
    pixels: str = "yuv420p"


def write_tracks(path: Path, *tracks: Track) -> Path:
    with av.open(str(path), "w") as container:
        streams = []
        for track in tracks:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height = track.size
            stream.pix_fmt, stream.bit_rate, stream.disposition = track.pixels, track.bit_rate, track.disposition
            streams.append(stream)
        container.start_encoding()
        for i in range(max(track.frames for track in tracks)):
            for track, stream in zip(tracks, streams, strict=True):
                if i >= track.frames:
                    continue
                pixels = np.broadcast_to(np.uint8(track.colour), (track.size[1], track.size[0], 3)).copy()
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, 25)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    return path


def colour_of(path: Path) -> tuple[int, ...]:
    clip = decode(Source.at(path), EIGHT)
    return tuple(np.where(clip.frames.mean(axis=(0, 1, 2, 3)) > 128, 255, 0).tolist())


NOT_DEFAULT = Disposition(0)


@pytest.mark.parametrize(
    ("tracks", "colour"),
    [
        ((Track(RED, disposition=NOT_DEFAULT), Track(GREEN)), GREEN),
        ((Track(RED), Track(GREEN, disposition=NOT_DEFAULT, size=(128, 96))), RED),
        ((Track(RED), Track(GREEN, size=(128, 96)), Track(BLUE, size=(32, 16))), GREEN),
        ((Track(RED, size=(32, 16), bit_rate=4_000_000), Track(GREEN, bit_rate=50_000)), GREEN),
        ((Track(RED), Track(GREEN)), RED),
    ],
    ids=["default", "default and small", "large", "large with few bits", "the first"],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_stream_that_a_player_shows_is_read(
    tmp_path: Path, suffix: str, tracks: Sequence[Track], colour: tuple[int, int, int]
) -> None:
    assert colour_of(write_tracks(tmp_path / f"film.{suffix}", *tracks)) == colour


@pytest.mark.parametrize("colours", [(RED, GREEN), (GREEN, RED)])
def test_of_two_equal_tracks_the_longer_one_is_read(tmp_path: Path, colours: Sequence[tuple[int, int, int]]) -> None:
    tracks = [Track(colour, frames=N if colour == GREEN else 4) for colour in colours]

    assert colour_of(write_tracks(tmp_path / "film.mov", *tracks)) == GREEN


def test_the_large_one_of_a_transport_stream_is_read(tmp_path: Path) -> None:
    film = write_tracks(tmp_path / "film.ts", Track(RED, size=(64, 48)), Track(GREEN, size=(128, 96)), Track(BLUE))

    assert colour_of(film) == GREEN


@pytest.mark.parametrize("disposition", [Disposition.timed_thumbnails, Disposition.attached_pic])
def test_thumbnails_are_not_the_video(tmp_path: Path, disposition: Disposition) -> None:
    film = write_tracks(tmp_path / "film.mkv", Track(RED), Track(GREEN, size=(128, 96), disposition=NOT_DEFAULT))
    with av.open(str(film)) as container:
        container.streams.video[1].disposition = disposition

        assert [stream.index for stream in picture_streams(container)] == [0]


def test_other_video_streams_are_reported(tmp_path: Path) -> None:
    film = write_tracks(tmp_path / "film.mp4", Track(RED), Track(GREEN, size=(128, 96)))

    one, two = decode(Source.at(write_film(tmp_path / "one.mp4")), EIGHT), decode(Source.at(film), EIGHT)

    assert not any("stream" in detail for detail in one.details)
    assert "reads video stream 1 (h264 128x96); the file also has 0 (h264 64x48)" in two.details


# -- auxiliary tracks ---------------------------------------------------------------------------------------------


def with_handler(film: bytes, track: int, handler: bytes) -> bytes:
    """Change the purpose of the n-th track of an MP4."""
    at = -1
    for _ in range(track + 1):
        at = film.index(b"hdlr", at + 1)
    return film[: at + 12] + handler + film[at + 16 :]


@pytest.mark.parametrize("auxiliary", [0, 1])
def test_the_track_of_an_alpha_channel_is_never_read(tmp_path: Path, auxiliary: int) -> None:
    tracks = [Track(GREEN, bit_rate=50_000)] * 2
    tracks[auxiliary] = Track(RED, size=(128, 96), bit_rate=4_000_000)
    film = write_tracks(tmp_path / "film.mp4", *tracks)
    assert colour_of(film) == RED
    film.write_bytes(with_handler(film.read_bytes(), auxiliary, b"auxv"))

    assert colour_of(film) == GREEN


@pytest.mark.parametrize("kind", [b"auxl", b"thmb"])
def test_a_track_that_only_helps_another_is_never_read(tmp_path: Path, kind: bytes) -> None:
    film = write_tracks(tmp_path / "film.mp4", Track(RED, size=(128, 96)), Track(GREEN))
    reference = box(b"tref", box(kind, struct.pack(">I", 2)))
    numbers = iter(range(2))
    film.write_bytes(rewrite(film.read_bytes(), b"trak", lambda inside: inside + (b"" if next(numbers) else reference)))

    assert colour_of(film) == GREEN


@pytest.mark.skipif(not PEERS.is_dir(), reason=f"{PEERS}: not here")
def test_a_real_image_sequence_with_alpha_is_read_in_colour() -> None:
    clip = decode(Source.at(PEERS / "alpha_sequence.avif"), EIGHT)

    assert clip.frames.shape == (1, 8, 480, 640, 3)
    assert np.ptp(clip.frames.astype(int), axis=-1).max() > 50
    assert clip.positions is not None
    assert clip.positions.tolist() == sample_positions(48, 8, clips=1).tolist()


# -- encryption ---------------------------------------------------------------------------------------------------


def noise(size: int) -> bytes:
    return np.random.default_rng(0).bytes(size)


def encrypted(film: bytes, *, entry: bytes, original: bool, scheme: bytes = b"cenc") -> bytes:
    """Rename the sample entries, and say how they are encrypted (ISO/IEC 23001-7); replace the samples by noise."""

    def change(content: bytes) -> bytes:
        entries = []
        for kind, inside in boxes(content[8:]):
            format_box = box(b"frma", kind) if original else b""
            settings = box(b"schi", box(b"tenc", bytes(6) + b"\1\x08" + bytes(16)))
            scheme_box = box(b"schm", bytes(4) + scheme + b"\0\1\0\0")
            entries.append(box(entry, inside + box(b"sinf", format_box + scheme_box + settings)))
        return content[:8] + b"".join(entries)

    changed = rewrite(rewrite(film, b"stsd", change), b"mdat", lambda samples: noise(len(samples)))
    return changed + box(b"pssh", bytes(4) + bytes(16) + bytes(4))


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
@pytest.mark.parametrize(
    ("entry", "original", "scheme"),
    [(b"encv", True, b"cenc"), (b"encv", True, b"cbcs"), (b"encv", False, b"cenc"), (b"drmi", False, b"itun")],
)
def test_an_encrypted_mp4_is_reported(tmp_path: Path, entry: bytes, original: bool, scheme: bytes, codec: str) -> None:
    film = write_film(tmp_path / "film.mp4", codec=codec)
    film.write_bytes(encrypted(film.read_bytes(), entry=entry, original=original, scheme=scheme))

    error = failure_of(film)

    assert error.kind == "unreadable"
    assert str(error).startswith(f"{film}: is encrypted; ")


def test_encrypted_sound_does_not_matter(tmp_path: Path) -> None:
    film = write_tracks(tmp_path / "film.mp4", Track(GREEN, size=(128, 96)), Track(RED))
    content = film.read_bytes()
    second = content.rindex(b"avc1")
    film.write_bytes(content[:second] + b"encv" + content[second + 4 :])

    assert colour_of(film) == GREEN


def matroska_encodings(encoding_type: int, settings: bytes) -> bytes:
    encoding = b"\x50\x31\x81\x00" + b"\x50\x32\x81\x01" + b"\x50\x33\x81" + bytes([encoding_type]) + settings
    return b"\x6d\x80" + bytes([0x80 | len(encoding) + 3]) + b"\x62\x40" + bytes([0x80 | len(encoding)]) + encoding


AES_WITH_KEY = b"\x50\x35" + b"\x8a" + b"\x47\xe1\x81\x05" + b"\x47\xe2\x83key"
AES_WITHOUT_KEY = b"\x50\x35" + b"\x84" + b"\x47\xe1\x81\x05"


@pytest.mark.parametrize("settings", [AES_WITH_KEY, AES_WITHOUT_KEY])
def test_an_encrypted_matroska_file_is_reported(tmp_path: Path, settings: bytes) -> None:
    film = write_film(tmp_path / "film.mkv")
    film.write_bytes(in_track(film.read_bytes(), matroska_encodings(1, settings)))

    error = failure_of(film)

    assert error.kind == "unreadable"
    assert "is encrypted; " in str(error)


def test_an_encrypted_second_track_of_a_matroska_file_does_not_matter(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mkv")
    # Track 2: audio, AC-3, encrypted.
    fields = b"\xd7\x81\x02" + b"\x73\xc5\x81\x02" + b"\x83\x81\x02" + b"\x86\x85A_AC3"
    fields += b"\xe1\x86\xb5\x84" + struct.pack(">f", 48000) + matroska_encodings(1, AES_WITHOUT_KEY)
    audio = b"\xae" + bytes([0x80 | len(fields)]) + fields
    content = in_track(film.read_bytes(), b"")
    tracks = content.index(b"\x16\x54\xae\x6b")
    length = int.from_bytes(content[tracks + 4 : tracks + 8], "big") & ~(1 << 28)
    end = tracks + 8 + length
    sizes = (length + len(audio) | 1 << 28).to_bytes(4, "big")
    film.write_bytes(content[: tracks + 4] + sizes + content[tracks + 8 : end] + audio + content[end:])

    assert positions_seen(decode(Source.at(film), EIGHT)).tolist() == sample_positions(N, 8, clips=1).tolist()


def in_track(matroska: bytes, element: bytes) -> bytes:
    """Put an element into the only track entry, whose length and that of the tracks are rewritten; ends at clusters."""
    cluster = matroska.index(b"\x1f\x43\xb6\x75")
    tracks = matroska.rindex(b"\x16\x54\xae\x6b", 0, cluster)  # not in the list of where things are
    length = len_of(matroska, tracks + 4)
    body = matroska[tracks + 4 + length[1] : tracks + 4 + length[1] + length[0]]
    entry = 6 if body[0] == 0xBF else 0  # after a checksum
    assert body[entry] == 0xAE
    inside, width = len_of(body, entry + 1)
    content = body[entry + 1 + width : entry + 1 + width + inside] + element
    body = b"\xae" + (len(content) | 1 << 28).to_bytes(4, "big") + content
    whole = b"\x16\x54\xae\x6b" + (len(body) | 1 << 28).to_bytes(4, "big") + body
    segment = matroska.index(b"\x18\x53\x80\x67")
    head = matroska[: segment + 4] + b"\x01\xff\xff\xff\xff\xff\xff\xff"  # of unknown length
    info = matroska.rindex(b"\x15\x49\xa9\x66", 0, tracks)
    return head + matroska[info:tracks] + whole + matroska[cluster:]


def len_of(content: bytes, at: int) -> tuple[int, int]:
    """Return the number that an EBML length stands for, and its bytes."""
    width = 9 - content[at].bit_length()
    return int.from_bytes(content[at : at + width], "big") & ~(1 << 7 * width), width


def test_a_scrambled_transport_stream_is_reported(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.ts")
    content = bytearray(film.read_bytes())
    for at in range(0, len(content), 188):
        pid = (content[at + 1] & 0x1F) << 8 | content[at + 2]
        if pid == 0x100:
            content[at + 3] |= 0x80
            has_field = content[at + 3] & 0x20
            payload = at + 4 + (1 + content[at + 4] if has_field else 0)
            if not content[at + 1] & 0x40:  # the headers of packets stay in the clear
                content[payload : at + 188] = noise(at + 188 - payload)
    film.write_bytes(content)

    assert failure_of(film).kind == "unreadable"
    assert "is encrypted; " in str(failure_of(film))


def with_stream_type(ts: bytes, stream_type: int) -> bytes:
    """Change the type of the first stream in each program map table (ISO/IEC 13818-1, 2.4.4.8)."""
    content = bytearray(ts)
    for at in range(0, len(content), 188):
        if (content[at + 1] & 0x1F) << 8 | content[at + 2] != 0x1000:
            continue
        begin = at + 5  # after the pointer field
        end = begin + 3 + ((content[begin + 1] & 0xF) << 8 | content[begin + 2])
        content[begin + 12 + ((content[begin + 10] & 0xF) << 8 | content[begin + 11])] = stream_type
        content[end - 4 : end] = crc_32_mpeg(content[begin : end - 4]).to_bytes(4, "big")
    return bytes(content)


def crc_32_mpeg(content: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    return crc


def test_a_video_with_sample_encryption_of_http_live_streaming_is_reported(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.ts")
    content = film.read_bytes()
    assert with_stream_type(content, 0x1B) == content
    film.write_bytes(with_stream_type(content, 0xDB))

    assert failure_of(film).kind == "unreadable"
    assert "is encrypted; " in str(failure_of(film))


# -- what FFmpeg has no decoder for -------------------------------------------------------------------------------


def test_an_animated_webp_is_read_or_reported_as_unsupported(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (64, 48), (grey(i),) * 3) for i in range(N)]
    film = tmp_path / "film.webp"
    pictures[0].save(film, save_all=True, append_images=pictures[1:], duration=40, lossless=True)

    if "webp_anim" in av.formats_available:
        assert positions_seen(decode(Source.at(film), EIGHT)).tolist() == sample_positions(N, 8, clips=1).tolist()
        return
    error = failure_of(film)
    assert error.kind == "not_video"
    assert "is an animated WebP, which this version of FFmpeg cannot decode; convert it" in str(error)
    Image.open(film).save(tmp_path / "out.gif", save_all=True)  # as the message says
    clip = decode(Source.at(tmp_path / "out.gif"), EIGHT)
    assert positions_seen(clip).tolist() == sample_positions(N, 8, clips=1).tolist()


def test_a_webp_of_one_picture_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), RED).save(tmp_path / "still.webp", lossless=True)

    assert decode(Source.at(tmp_path / "still.webp"), SamplingConfig(frames=1)).frames.shape == (1, 1, 48, 64, 3)


def test_a_codec_without_a_decoder_is_not_called_damage(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4")
    film.write_bytes(film.read_bytes().replace(b"avc1", b"zzzz"))

    error = failure_of(film)

    assert error.kind == "not_video"
    assert "no decoder" in str(error)
