"""Split a request into parts that several workers can read at the same time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bike_cli.errors import VideoError
from bike_cli.records import Source
from bike_cli.video.decoding import is_folder
from bike_cli.video.readers.packets import UnpredictableFileError
from bike_cli.video.readers.selective import PredictedFrames, predict_frames, reads_selectively
from bike_cli.video.readers.video_file import open_video
from bike_cli.video.streams.bins import frames_of_bins
from bike_cli.video.streams.outcomes import Step
from bike_cli.video.streams.values import StreamRequest


def split_request(
    source: Source, request: StreamRequest, parts: int, *, step: Step | None = None
) -> list[StreamRequest]:
    """Return at most `parts` requests that together have the bins of one, split before keyframes.

    A file in which decoding cannot start in the middle, or that cannot be read, is not split.

    Args:
        step: called for each packet that is read: a sign of progress.
    """
    try:
        if parts < 2 or is_folder(source):
            return [request]
        with open_video(source) as file:
            if not reads_selectively(file.header):
                return [request]
            predicted = predict_frames(file, step=step)
    except (VideoError, UnpredictableFileError):
        return [request]
    firsts = [request.first_bin, *_edges(predicted, request, parts)]
    ends = [*firsts[1:], request.end_bin]
    return [replace(request, first_bin=first, end_bin=end) for first, end in zip(firsts, ends, strict=True)]


def _edges(predicted: PredictedFrames, request: StreamRequest, parts: int) -> list[int]:
    """Return bins at which parts of about the same length begin, without the first one."""
    table = predicted.table
    positions = frames_of_bins(predicted.starts_s, predicted.duration_s, request.fps)  # [n_bins], not decreasing
    last = len(positions) if request.end_bin is None else min(request.end_bin, len(positions))
    is_start = table.is_start[table.shown]  # [M], by position
    # The first bin whose frame is the one at a starting point, or is shown after it.
    candidates = np.unique(np.searchsorted(positions, np.flatnonzero(is_start)))
    candidates = candidates[(candidates > request.first_bin) & (candidates < last)]
    if not len(candidates):
        return []
    targets = np.linspace(request.first_bin, last, parts + 1)[1:-1]
    nearest = np.abs(candidates[:, None] - targets).argmin(axis=0)
    edges: list[int] = np.unique(candidates[nearest]).tolist()
    return edges
