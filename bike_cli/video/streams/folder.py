"""Stream a folder of images: one bin each, at the requested rate."""

from __future__ import annotations

from collections.abc import Iterator

from bike_cli.errors import VideoError
from bike_cli.records import Source
from bike_cli.video.readers.images import ImageReader, frame_files
from bike_cli.video.streams.outcomes import BinFrame, Outcome, Step
from bike_cli.video.streams.values import StreamRequest


def stream_folder(source: Source, request: StreamRequest, *, step: Step | None = None) -> Iterator[BinFrame | Outcome]:
    """Yield the images of the requested bins in order, and what is known at the end.

    The bin of an image that is broken, or of another size than the first one, is missing.

    Raises:
        VideoError: kind `unreadable` or `not_video`; `damaged` if no image can be read.
    """
    images = frame_files(source.path)
    reader = ImageReader(images, step=step)
    size: tuple[int, ...] | None = None
    problem: VideoError | None = None
    end = min(len(images), request.end_bin or len(images))
    is_requested = False
    for number, path in enumerate(images[:end]):
        is_requested = number >= request.first_bin
        if not is_requested and size is not None:
            continue
        try:
            pixels = reader.read(path)
            size = size or pixels.shape
            if pixels.shape != size:
                sizes = f"{pixels.shape[1]}x{pixels.shape[0]} px, others {size[1]}x{size[0]} px"
                raise VideoError(f"{path}: is {sizes}; give frames of one size", kind="damaged")
        except VideoError as e:
            problem = problem or e
            continue
        if is_requested:
            yield BinFrame(pixels, number, number + 1)
    if size is None and problem is not None:
        raise problem
    notes = () if problem is None else (str(problem),)
    yield Outcome(end, end / request.fps, None, notes, ("read with Pillow",))
