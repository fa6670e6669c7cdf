"""Every inspector handles random and damaged packets in bounded time and memory."""

import time
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
from films import drawn, write_video
from numbered_films import write_film

from bike_cli.records import Source
from bike_cli.video.containers.bitstreams import inspector_of
from bike_cli.video.containers.packet_content import Inspector, PacketContent, StartPoint
from bike_cli.video.readers import packets
from bike_cli.video.readers.packets import list_packets
from bike_cli.video.readers.video_file import open_video

MIB = 2**20
CODECS = {
    "h264": "libx264",
    "hevc": "libx265",
    "vp8": "libvpx",
    "vp9": "libvpx-vp9",
    "av1": "libsvtav1",
    "mpeg4": "mpeg4",
}
ENCODERS = [pytest.param(name, encoder, id=name) for name, encoder in CODECS.items()]
START_CODE = b"\0\0\1"


def real_packets(path: Path, encoder: str) -> tuple[bytes, list[bytes]]:
    """Return the extradata and the packets of an encoded film."""
    if encoder not in av.codecs_available:
        pytest.skip(f"PyAV has no {encoder}")
    write_video(path, drawn("blue circle", frames=8), codec=encoder, container="matroska")
    with av.open(path) as container:
        stream = container.streams.video[0]
        return bytes(stream.codec_context.extradata or b""), [bytes(p) for p in container.demux(stream) if p.size]


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Return content with random bytes, a cut end, or a part repeated; never empty."""
    changed = bytearray(content)
    for at in rng.integers(0, max(1, min(len(content), 48)), rng.integers(1, 6)):
        if at < len(changed):
            changed[at] = rng.choice([0, 1, 0x67, 0xFF, rng.integers(256)])
    if rng.random() < 0.3:
        del changed[rng.integers(1, len(changed) + 1) :]
    if rng.random() < 0.2:
        changed[rng.integers(len(changed)) :] = changed[: rng.integers(1, 64)] or b"\0"
    return bytes(changed) or b"\0"


def built(codec: str, extradata: bytes) -> Inspector:
    inspect = inspector_of(codec, extradata)
    assert inspect is not None
    return inspect


def check(content: PacketContent) -> None:
    assert content.frames is None or content.frames >= 0
    assert content.start in StartPoint


@pytest.mark.parametrize(("codec", "encoder"), ENCODERS)
def test_mutated_packets_are_inspected(tmp_path: Path, codec: str, encoder: str) -> None:
    rng = np.random.default_rng(0)
    extradata, originals = real_packets(tmp_path / "film.mkv", encoder)

    for i in range(200):
        inspect = built(codec, mutated(extradata, rng) if extradata and i % 2 else extradata)
        for packet in originals:
            check(inspect(memoryview(mutated(packet, rng)), bool(rng.integers(2))))


@pytest.mark.parametrize("codec", CODECS)
def test_random_packets_are_inspected(codec: str) -> None:
    rng = np.random.default_rng(1)

    for i in range(1500):
        start = (b"", START_CODE, START_CODE + b"\x67", b"\x12\0\x0a")[i % 4]
        extradata = (b"", b"\1", b"\x81", START_CODE + b"\x67")[i // 4 % 4] + rng.bytes(int(rng.integers(1, 60)))
        inspect = built(codec, extradata)
        check(inspect(memoryview(start + rng.bytes(int(rng.integers(1, 200)))), is_key=bool(i % 3)))
        check(inspect(memoryview(start + rng.bytes(1)), is_key=False))


LARGE = {
    "ones": b"\xff" * MIB,
    "zeros": bytes(MIB),
    "start codes": START_CODE * (MIB // 3),
    "pictures": (START_CODE + b"\x41") * (MIB // 4),
    "parameter sets": (START_CODE + b"\x67\x64\x00\x1e" + b"\xff" * 57) * (MIB // 64),
    "random": np.random.default_rng(2).bytes(MIB),
}


@pytest.mark.parametrize("content", [pytest.param(content, id=name) for name, content in LARGE.items()])
@pytest.mark.parametrize("codec", CODECS)
def test_large_packets_take_bounded_time_and_memory(codec: str, content: bytes) -> None:
    began_s = time.process_time()
    check(built(codec, content)(memoryview(content), True))
    took_s = time.process_time() - began_s
    tracemalloc.start()
    try:
        check(built(codec, content)(memoryview(content), True))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert took_s < 2
    assert peak < 8 * MIB


def test_a_damaged_sps_is_ignored() -> None:
    # seq_parameter_set_id 0, then log2_max_frame_num_minus4 of 32 bits; at most 12 is valid.
    sps = b"\x67\x42\x00\x1e" + int("1" + "0" * 31 + "1" + "1" * 31, 2).to_bytes(8, "big") + bytes(40)
    damaged = START_CODE + sps + START_CODE + b"\x41" + bytes(60)
    tracemalloc.start()
    try:
        found = built("h264", b"")(memoryview(damaged), False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert found == PacketContent(1, StartPoint.NONE)
    assert peak < MIB


def test_a_bug_of_an_inspector_is_not_taken_for_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(content: memoryview, is_key: bool) -> PacketContent:
        raise IndexError("a bug")

    monkeypatch.setattr(packets, "inspector_of", lambda codec, extradata: broken)

    with open_video(Source.at(write_film(tmp_path / "film.mp4"))) as file, pytest.raises(IndexError, match="a bug"):
        list_packets(file)
