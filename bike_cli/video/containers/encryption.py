"""Detect encrypted videos, which FFmpeg decodes to noise or to nothing without an error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from av.video.stream import VideoStream

from bike_cli.video.containers.matroska_tracks import encrypted_streams
from bike_cli.video.containers.mp4_tracks import Mp4Track

_HEAD_BYTES = 2**18
_TS_PACKET, _TS_SYNC = 188, 0x47
_SAMPLE_AES_H264 = 0xDB  # stream type of encrypted H.264 in HTTP Live Streaming; its other types are audio
_ASF_ENCRYPTION = (  # GUIDs of the content encryption object and of the extended one
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),
    bytes.fromhex("14e68a292226174cb935dae07ee9289c"),
)


def is_encrypted(path: Path, container: str, stream: VideoStream, tracks: Sequence[Mp4Track]) -> bool:
    """Return whether the chosen stream of a file is encrypted.

    Args:
        container: FFmpeg's name of the format.
        tracks: the tracks of an MP4 or QuickTime file; empty for other formats.
    """
    if any(track.is_encrypted and track.id == stream.id for track in tracks):
        return True
    if "matroska" in container:
        return "enc_key_id" in stream.metadata or stream.index in encrypted_streams(path)
    if container in ("asf", "asf_o"):
        head = _head(path, 2**16)
        return any(guid in head for guid in _ASF_ENCRYPTION)
    if container == "mpegts":
        return _is_scrambled_ts(path, stream)
    return container == "mpeg" and _is_scrambled_ps(_head(path, _HEAD_BYTES))


def _head(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""


def _stream_type(stream: VideoStream) -> int | None:
    """Return the type of a stream in MPEG-TS, which FFmpeg stores as the first byte of the codec tag."""
    if cast(object, stream.codec_context) is None:
        return None
    try:
        return stream.codec_context.codec_tag.encode()[0]
    except UnicodeDecodeError as e:  # PyAV expects tags to be ASCII
        return e.object[0]


def _is_scrambled_ts(path: Path, stream: VideoStream) -> bool:
    if _stream_type(stream) == _SAMPLE_AES_H264:
        return True
    head = _head(path, _HEAD_BYTES)
    start = next((i for i in range(_TS_PACKET) if head[i::_TS_PACKET][:5] == bytes([_TS_SYNC] * 5)), None)
    if start is None:  # packets of another length, as on Blu-ray discs
        return False
    headers = [head[at : at + 4] for at in range(start, len(head) - 3, _TS_PACKET)]
    controls = [h[3] >> 6 for h in headers if h[0] == _TS_SYNC and (h[1] & 0x1F) << 8 | h[2] == stream.id]
    return bool(controls) and 2 * sum(control > 1 for control in controls) > len(controls)


def _is_scrambled_ps(head: bytes) -> bool:
    """Return whether most video packets are scrambled, as on DVDs."""
    flags: list[int] = []
    at = head.find(b"\0\0\1")
    while 0 <= at < len(head) - 6:
        if 0xE0 <= head[at + 3] <= 0xEF and head[at + 6] >> 6 == 2:  # otherwise it is MPEG-1, or not a packet header
            flags.append(head[at + 6] >> 4 & 3)
        at = head.find(b"\0\0\1", at + 4)
    return bool(flags) and 2 * sum(flag > 0 for flag in flags) > len(flags)
