"""What a stream is asked for, and what it yields.

The time of a video, counted from its first shown frame, is divided into bins of 1 / `fps` seconds. The frame of a bin
is the one that is shown at its middle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bike_cli.shapes import check_shape


@dataclass(frozen=True)
class StreamRequest:
    """The frames to stream.

    Args:
        fps: bins per second; for a folder of frames, its frames per second.
        draft: skip frames that no other frame needs, and the loop filter; a bin then takes the nearest decoded frame.
            It only has an effect where the selective reader works.
        short_side: pixels that FFmpeg shrinks a longer short side of a video's frames to, which is faster than passing
            them on in full resolution; None: nothing is shrunk. Images of a folder never are.
        first_bin: the bins before it are left out.
        end_bin: the bins from it on are left out; None: none are.
    Raises:
        ValueError: `fps` or `short_side` is not a positive number, or the range of bins is empty.
    """

    fps: float
    draft: bool = False
    short_side: int | None = None
    first_bin: int = 0
    end_bin: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps is {self.fps}; it must be a number above 0")
        if self.short_side is not None and self.short_side < 1:
            raise ValueError(f"short_side is {self.short_side}; it must be a number of pixels")
        if self.first_bin < 0 or (self.end_bin is not None and self.end_bin <= self.first_bin):
            raise ValueError(f"bins are {self.first_bin} to {self.end_bin}; the range must not be empty")


@dataclass(frozen=True, repr=False)
class FrameBatch:
    """Some frames of a video, in order of time.

    Args:
        frames: uint8 [B, H, W, 3], RGB, rotated, in full resolution unless `short_side` shrinks them; all
            batches of a video have one size.
        bins: int64 [B, 2], ascending: a frame fills the bins from the first number to the second one, exclusive. Bins
            between two frames are missing.
    """

    frames: NDArray[np.uint8]
    bins: NDArray[np.int64]

    def __post_init__(self) -> None:
        check_shape("FrameBatch.frames", self.frames.shape, len(self.bins), None, None, 3)
        check_shape("FrameBatch.bins", self.bins.shape, None, 2)

    def __repr__(self) -> str:
        return f"FrameBatch(frames=uint8{list(self.frames.shape)}, bins={self.bins.tolist()})"


@dataclass(frozen=True, repr=False)
class StreamEnd:
    """What is known at the end of a stream.

    Args:
        n_bins: end of the requested bins, exclusive: of a request without `end_bin`, the number of bins of the video.
        end_s: end of the last of these bins; of the last bin of a video, the end of its last frame.
        duration_s: length of the video; None where a source has no clock, or was not read to its end.
        missing: int64 [M], sorted: the requested bins whose frame could not be decoded.
        notes: what a user should know about the frames, a phrase each.
        details: how the file was read, for the log of `-v`.
        decode_s: seconds that the worker spent on it.
    """

    n_bins: int
    end_s: float
    duration_s: float | None
    missing: NDArray[np.int64]
    notes: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    decode_s: float = 0.0

    @property
    def warning(self) -> str | None:
        """The notes and the number of missing bins, in one line."""
        notes = list(self.notes)
        if len(self.missing):
            notes.insert(0, f"damaged: {len(self.missing):,} of {self.n_bins:,} sampled frames cannot be decoded")
        return "; ".join(notes) or None

    def __repr__(self) -> str:
        return (
            f"StreamEnd(n_bins={self.n_bins}, end_s={self.end_s}, duration_s={self.duration_s}, "
            f"missing={len(self.missing)}, warning={self.warning!r})"
        )


def join_ends(ends: Sequence[StreamEnd]) -> StreamEnd:
    """Return the end of a video that was streamed in parts, given in order of time; at least one."""
    last = ends[-1]
    return StreamEnd(
        n_bins=last.n_bins,
        end_s=last.end_s,
        duration_s=last.duration_s,
        missing=np.concatenate([end.missing for end in ends]),
        notes=tuple(dict.fromkeys(note for end in ends for note in end.notes)),
        details=tuple(dict.fromkeys(detail for end in ends for detail in end.details)),
        decode_s=sum(end.decode_s for end in ends),
    )
