"""Only the named file is opened, whatever its name and its content."""

import os
import shutil
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
import torch  # noqa: F401 - decord loaded before torch crashes the process (dmlc/decord#293)
from mp4_boxes import box, rewrite
from numbered_films import EIGHT, N, needs_decord, positions_seen, write_film
from PIL import Image

from bike_cli.config import Decoder, SamplingConfig
from bike_cli.errors import VideoError
from bike_cli.records import Source
from bike_cli.video.containers.formats import FORMATS
from bike_cli.video.decoding import decode
from bike_cli.video.sampling import sample_positions

FAULTS = Path(__file__).parents[4] / "shared" / "faults"
DECODERS: tuple[Decoder, ...] = ("auto", "decord")

SCRIPTS = {
    "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{target}\n#EXT-X-ENDLIST\n",
    "hls of hls": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1280000\n{target}\n",
    "m3u": "{target}\n",
    "ffconcat": "ffconcat version 1.0\nfile '{target}'\nduration 2\n",
    "dash": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" '
    'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" type="static"><Period><AdaptationSet><Representation '
    'id="0" mimeType="video/mp4"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>\n',
    "vobsub": "# VobSub index file, v7 (do not modify this line!)\nsize: 64x48\nid: en, index: 0\n"
    "timestamp: 00:00:00:000, filepos: 000000000\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=control:{target}\n",
    "asx": '<ASX version="3.0"><Entry><Ref href="{target}"/></Entry></ASX>\n',
    "pls": "[playlist]\nFile1={target}\nNumberOfEntries=1\n",
    "svg": '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="48"><image href="{target}"/></svg>\n',
    "imf": '<?xml version="1.0"?>\n<CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016">'
    "<Id>urn:uuid:0</Id><TrackFileId>{target}</TrackFileId></CompositionPlaylist>\n",
    "avisynth": 'AVISource("{target}")\n',
    "text": "running\njumping\nfile '{target}'\n" * 60,
}
SUFFIXES = [".mp4", ".mkv", ".ts", ".m3u8", ".mpd", ".sdp", ".idx", ".ffconcat", ".txt", ".avs", ".svg"]


@contextmanager
def canary(pipe: Path) -> Iterator[list[str]]:
    """Create a pipe and detect a reader: a pipe can only be opened for writing while it is being read."""
    os.mkfifo(pipe)
    seen: list[str] = []
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.001):
            try:
                os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:  # nobody reads
                continue
            seen.append(pipe.name)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        is_over.set()
        watcher.join()
        pipe.unlink()


def refusal(path: Path, decoder: Decoder) -> VideoError:
    with pytest.raises(VideoError) as caught:
        decode(Source(path, "file"), EIGHT, decoder=decoder)
    return caught.value


def test_the_canary_detects_a_reader(tmp_path: Path) -> None:
    with canary(tmp_path / "target.mp4") as seen, pytest.raises(av.error.FFmpegError):
        av.open(str(tmp_path / "target.mp4"))
    assert seen


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
@pytest.mark.parametrize("tail", ["alone", "before H.264"])
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_refused_without_opening_its_target(
    tmp_path: Path, script: str, decoder: Decoder, tail: str
) -> None:
    raw = write_film(tmp_path / "raw.h264").read_bytes() if tail == "before H.264" else b""
    messages = set()
    for suffix in SUFFIXES:
        file = tmp_path / f"script{suffix}"
        for name in ("target.mp4", "missing.mp4"):
            target = tmp_path / name
            file.write_bytes(SCRIPTS[script].format(target=target).encode() + raw)
            with canary(tmp_path / "target.mp4") as seen:
                error = refusal(file, decoder)
            assert error.kind == "not_video"
            assert not seen
            messages.add(str(error))
        file.unlink()
    assert len(messages) == 1


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_playlist_of_a_real_film_is_not_a_video(tmp_path: Path, decoder: Decoder) -> None:
    write_film(tmp_path / "film.mp4")
    for script in SCRIPTS.values():
        for target in ("film.mp4", str(tmp_path / "film.mp4"), f"file://{tmp_path / 'film.mp4'}"):
            (tmp_path / "list.mp4").write_text(script.format(target=target))
            assert refusal(tmp_path / "list.mp4", decoder).kind == "not_video"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
@pytest.mark.parametrize("decoder", DECODERS)
def test_tracks_of_other_files_are_not_opened(tmp_path: Path, decoder: Decoder) -> None:
    film = write_film(tmp_path / "film.mov")
    target = tmp_path / "target.mp4"
    path = str(target).encode() + b"\0" * (len(str(target)) % 2)
    alias = b"\0" * 4 + b"\0" * 10 + b"\0" * 28 + b"\0" * 12 + b"\x0atarget.mp4".ljust(64, b"\0") + b"\0" * 16
    alias += struct.pack(">hh", 1, 1) + b"\0" * 16 + struct.pack(">HH", 2, len(path)) + path + b"\xff\xff\0\0"
    reference = b"\0" * 4 + struct.pack(">I", 1) + box(b"alis", alias)
    film.write_bytes(rewrite(film.read_bytes(), b"dref", lambda _: reference))
    with canary(target) as seen, av.open(str(film), options={"enable_drefs": "1", "use_absolute_path": "1"}):
        pass
    assert seen  # the file is such that FFmpeg, if asked to, opens the target

    with canary(target) as seen:
        error = refusal(film, decoder)

    assert not seen
    assert error.kind in ("no_picture", "not_video")


# -- names --------------------------------------------------------------------------------------------------------

PATTERNS = ["pat_%03d.png", "pat_%d.png", "pat_%%03d.png", "pat_00?.png", "pat_*.png", "pat_{001,002}.png"]
PATTERNS += ["pat_%*.png", "pat_%[0-9]*.png", "pat_[0-9][0-9][0-9].png", "50%.png", "%03d/film.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
@pytest.mark.parametrize("name", PATTERNS)
def test_a_name_that_looks_like_a_pattern_is_a_name(tmp_path: Path, name: str) -> None:
    for i in (1, 2, 3):
        (tmp_path / f"{i:03}").mkdir()
        for other in (f"pat_{i:03}.png", f"pat_{i}.png", f"{i:03}/film.png"):
            Image.new("RGB", (64, 48), (0, 0, 255)).save(tmp_path / other)
    named = tmp_path / name
    named.parent.mkdir(exist_ok=True)
    Image.new("RGB", (64, 48), (255, 0, 0)).save(named, format="png")

    clip = decode(Source.at(named), SamplingConfig(frames=1))

    np.testing.assert_array_equal(clip.frames, np.broadcast_to(np.uint8([255, 0, 0]), (1, 1, 48, 64, 3)))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".gif", ".jpg", ".y4m", ".avi"])
@pytest.mark.parametrize("stem", ["video_%03d", "video_*", "100%", "video {1,2}?"])
def test_a_film_may_be_named_like_a_pattern(tmp_path: Path, stem: str, suffix: str) -> None:
    codecs = {".gif": "gif", ".y4m": "rawvideo", ".avi": "mpeg4"}
    plain = tmp_path / f"film{'.mp4' if suffix == '.jpg' else suffix}"
    write_film(plain, codec=codecs.get(suffix, "libx264"), pixels="bgr8" if suffix == ".gif" else "yuv420p")
    expected = decode(Source.at(plain), EIGHT)
    shutil.copy(plain, tmp_path / "video_001.mp4")

    clip = decode(Source.at(plain.rename(tmp_path / f"{stem}{suffix}")), EIGHT)

    np.testing.assert_array_equal(clip.frames, expected.frames)
    np.testing.assert_array_equal(clip.times_s, expected.times_s)
    assert clip.warning == expected.warning


@needs_decord
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_decord_reads_a_film_named_like_a_pattern_and_no_other(tmp_path: Path) -> None:
    write_film(tmp_path / "film.mp4").rename(tmp_path / "film_%03d.mp4")
    for name in ("film_001.mp4", "film_001.jpg"):
        write_film(tmp_path / "other.mp4", n_frames=3).rename(tmp_path / name)
    shutil.copy(tmp_path / "film_%03d.mp4", tmp_path / "film_%03d.jpg")

    clip = decode(Source.at(tmp_path / "film_%03d.mp4"), EIGHT, decoder="decord")

    assert positions_seen(clip).tolist() == sample_positions(N, 8, clips=1).tolist()
    assert refusal(tmp_path / "film_%03d.jpg", "decord").kind == "not_video"


@pytest.mark.skipif(not FAULTS.is_dir(), reason=f"{FAULTS}: not here")
def test_two_files_of_the_same_bytes_give_the_same_frames() -> None:
    first, second = (
        decode(Source.at(FAULTS / "pattern" / name), SamplingConfig(frames=1)).frames
        for name in ("pat_%03d.png", "same_content.png")
    )

    np.testing.assert_array_equal(first, second)


# -- formats ------------------------------------------------------------------------------------------------------


def test_no_format_reads_devices_or_many_files_by_itself() -> None:
    needs_no_file = 1  # AVFMT_NOFILE
    for name in FORMATS:
        try:
            flags = av.format.ContainerFormat(name, "r").flags
        except ValueError:  # only written
            continue
        assert not flags & needs_no_file, name


def test_formats_of_videos_are_read() -> None:
    # fmt: off
    common = {
        "3gp", "apng", "asf", "avi", "dv", "flv", "gif", "gif_pipe", "gxf", "h264", "hevc", "ivf", "jpeg_pipe", "m4v",
        "matroska,webm", "mjpeg", "mov,mp4,m4a,3gp,3g2,mj2", "mpeg", "mpegts", "mpegvideo", "mpjpeg", "mxf", "nut",
        "obu", "ogg", "png_pipe", "ppm_pipe", "rawvideo", "rm", "rpl", "swf", "tiff_pipe", "vc1", "webp_pipe", "wtv",
        "yuv4mpegpipe",
    }
    # fmt: on
    assert common <= FORMATS
