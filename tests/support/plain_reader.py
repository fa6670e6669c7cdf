"""A minimal decoding loop over FFmpeg's libraries: an independent count of the readable frames of damaged files."""

import av

# PyAV 19 has no such argument, and reads metadata that is not UTF-8 without it.
_METADATA = {"metadata_errors": "surrogateescape"} if int(av.__version__.split(".")[0]) < 19 else {}
MOST_ERRORS = 100  # of the container


def frames_read(path: str) -> int:
    """Return the number of frames that can be decoded from the best video stream; errors are skipped."""
    try:
        container = av.open(path, **_METADATA)
    except (av.error.FFmpegError, ValueError):
        return 0
    with container:
        stream = container.streams.best("video")
        if stream is None or stream.codec_context is None:
            return 0
        frames = errors = 0
        packets = container.demux(stream)
        while errors < MOST_ERRORS:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, ValueError):
                errors += 1
                packets = container.demux(stream)
                continue
            if packet is None:
                break
            try:
                frames += len(packet.decode())
            except (av.error.FFmpegError, ValueError):
                continue
        return frames
