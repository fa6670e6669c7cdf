"""Choose the frames to read.

Every rule is that of the official BIKE code (`_sample_indices`, `_get_val_indices` and `_get_test_indices` in
datasets/video.py), with 0-based positions. Tests compare each with values computed by that code.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bike_cli.config import DENSE_WINDOW, SamplingConfig


def positions_of(config: SamplingConfig, n_frames: int, rng: np.random.Generator | None = None) -> NDArray[np.int64]:
    """Return the positions of the frames that a config selects from a video of `n_frames` frames: [K, T]."""
    spread = dense_positions if config.sampling == "dense" else sample_positions
    return spread(n_frames, config.frames, clips=config.clips, rng=rng)


def sample_positions(
    n_frames: int, frames: int, *, clips: int, rng: np.random.Generator | None = None
) -> NDArray[np.int64]:
    """Return the positions of the frames to read, spread over the whole video.

    The video is split into `frames` equal segments. Without `rng`, the first clip reads the start of each segment;
    further clips are shifted by equal steps, the last one by a segment minus one frame. With `rng`, each frame is drawn
    from its segment, both ends included: neighbouring segments share an end, so a frame can be read twice.

    In a video with fewer than `frames` frames, some are repeated. If there are several clips, the later ones start at
    -1: they wrap around to the last frame, as in the official code since NumPy 1.20.

    Args:
        n_frames: frames in the video; at least 1.
    Returns:
        [K, T], each in 0..n_frames-1; sorted within a clip except where it wraps around.
    Raises:
        ValueError: a count is below 1.
    """
    _check_counts(n_frames=n_frames, frames=frames, clips=clips)
    if rng is not None:
        low, high = segment_bounds(n_frames, frames)
        return rng.integers(low, high, size=(clips, frames), endpoint=True)

    segment = n_frames / frames
    starts = np.floor(np.linspace(0, segment - 1, clips))  # [K]
    offsets = segment * np.arange(frames)  # [T]
    positions: NDArray[np.int64] = np.trunc(starts[:, None] + offsets).astype(np.int64) % n_frames  # [K, T]
    return positions


def segment_bounds(n_frames: int, frames: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and the last position, both inclusive, that training may draw for each frame.

    Returns:
        two arrays of shape [T].
    """
    _check_counts(n_frames=n_frames, frames=frames)
    # rint rounds halves to even, as the `round` of the official code does.
    edges = np.rint((n_frames - 1) / frames * np.arange(frames + 1)).astype(np.int64)
    return edges[:-1], edges[1:]


def dense_positions(
    n_frames: int, frames: int, *, clips: int, rng: np.random.Generator | None = None
) -> NDArray[np.int64]:
    """Return the positions of clips that each span 128 consecutive frames; a shorter video is read in a loop.

    Without `rng`, the windows are spread from the first to the last that fits. A single clip takes the middle window,
    where the official code divides by zero. With `rng`, a window starts anywhere except at the last position, which the
    official code never draws.

    Args:
        frames: at most 128.
    Returns:
        [K, T], each in 0..n_frames-1.
    Raises:
        ValueError: a count is below 1, or `frames` is larger than the window.
    """
    _check_counts(n_frames=n_frames, frames=frames, clips=clips)
    if frames > DENSE_WINDOW:
        raise ValueError(f"frames is {frames}; a dense clip has at most {DENSE_WINDOW}")
    last = max(0, n_frames - DENSE_WINDOW)
    if rng is not None:
        starts = rng.integers(max(1, last), size=clips)  # [K]
    elif clips == 1:
        starts = np.array([last // 2], np.int64)
    else:
        starts = np.arange(clips, dtype=np.int64) * (last // (clips - 1))
    offsets = DENSE_WINDOW // frames * np.arange(frames)  # [T]
    return (starts[:, None] + offsets) % n_frames  # [K, T]


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} is {count}; it must be at least 1")
