"""The features of a long video, one per bin of time, as they grow and as the store keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bike_cli.engine.store.store import Store
from bike_cli.records import FrameTimes, Source, VideoFeatures
from bike_cli.video.streams.values import StreamEnd

CHUNK = 1024  # bins of a row in the store: 2 MiB with ViT-B
KEY_BYTES = 4
MOST_PARTS = 256**KEY_BYTES - 1
UNKNOWN, MISSING = -2, -1  # instead of the place of a bin's frame


@dataclass(frozen=True, eq=False)
class BinFeatures:
    """The features of a long video.

    Args:
        frames: float32 [T, D], raw features of the frame that each bin shows; zeros where it could not be read.
        is_read: bool [T].
        edges_s: float64 [T + 1], bounds of the bins in seconds; the last one is the end of the video.
        n_frames: number of different frames.
    """

    source: Source
    frames: Tensor
    is_read: Tensor
    edges_s: NDArray[np.float64]
    n_frames: int
    duration_s: float | None
    warning: str | None


@dataclass(frozen=True)
class VideoEnd:
    """What is only known when a video was read to its end.

    Args:
        end_s: the end of the last bin.
        duration_s: None where a source has no clock, or was not read to its end.
    """

    n_bins: int
    end_s: float
    duration_s: float | None
    warning: str | None


@dataclass(eq=False)
class Chunk:
    """The features of `CHUNK` neighbouring bins.

    Args:
        frames: float32 [CHUNK, D].
        places: int64 [CHUNK], the first bin with the same frame; or `UNKNOWN`, or `MISSING` where it cannot be read.
    """

    frames: NDArray[np.float32]
    places: NDArray[np.int64]
    is_stored: bool = False

    @classmethod
    def unknown(cls, dim: int) -> Chunk:
        """Return a chunk of which no bin is known."""
        return cls(np.zeros((CHUNK, dim), np.float32), np.full(CHUNK, UNKNOWN))


@dataclass(eq=False)
class Bins:
    """The bins of a video that are known so far; see `BinFeatures` for a whole video.

    Args:
        dim: D.
        end: of the video; None while that is not known.
    """

    dim: int
    chunks: dict[int, Chunk] = field(default_factory=dict)
    end: VideoEnd | None = None

    @property
    def unknown(self) -> list[tuple[int, int | None]]:
        """The ranges of bins that must be read, [start, stop): in order; None is the end of the video."""
        n_bins = CHUNK * (max(self.chunks, default=-1) + 1) if self.end is None else self.end.n_bins
        is_unknown = np.ones(n_chunks(n_bins) * CHUNK, bool)
        for i, chunk in self.chunks.items():
            is_unknown[CHUNK * i : CHUNK * (i + 1)] = chunk.places == UNKNOWN
        edges = np.flatnonzero(np.diff(is_unknown[:n_bins], prepend=False, append=False)).tolist()
        ranges: list[tuple[int, int | None]] = list(zip(edges[::2], edges[1::2], strict=True))
        if self.end is None and (not ranges or ranges[-1][1] != n_bins):
            ranges.append((n_bins, None))
        elif ranges:  # only the stream of the last bin says how a video ends
            ranges[-1] = ranges[-1][0], None
        return ranges

    @property
    def is_complete(self) -> bool:
        """Whether all bins of the video are known."""
        return self.end is not None and not self.unknown

    @property
    def unstored(self) -> Iterator[tuple[int, NDArray[np.int64], Chunk]]:
        """The number of each chunk that is complete and not stored, the places of its bins, and the chunk."""
        for i, chunk in self.chunks.items():
            if not chunk.is_stored:
                places = chunk.places if self.end is None else chunk.places[: self.end.n_bins - CHUNK * i]
                if (places != UNKNOWN).all():
                    yield i, places, chunk

    def add(self, bins: NDArray[np.int64], features: NDArray[np.float32], *, after: int) -> int:
        """Add the features [B, D] of frames, each of which fills the bins [start, stop) of its row of `bins` [B, 2].

        Args:
            after: end of the bins that the same stream filled before; bins between two frames are missing.
        Returns:
            the end of the bins that the stream has filled now.
        """
        for (start, stop), feature in zip(bins.tolist(), features, strict=True):
            self._leave_out(after, start)
            self._fill(start, stop, feature, place=start)
            after = stop
        return after

    def close(self, end: StreamEnd) -> None:
        """Note the end of the video; bins that no frame filled are missing."""
        self._leave_out(0, end.n_bins)
        missing = np.flatnonzero(self._places(end.n_bins) == MISSING)
        warning = replace(end, missing=missing).warning  # also of parts that came from the store
        self.end = VideoEnd(end.n_bins, end.end_s, end.duration_s, warning)

    def _leave_out(self, start: int, stop: int) -> None:
        if start < stop:
            self._fill(start, stop, np.zeros(self.dim, np.float32), place=MISSING)

    def _fill(self, start: int, stop: int, feature: NDArray[np.float32], *, place: int) -> None:
        for i in range(start // CHUNK, -(-stop // CHUNK)):
            if i not in self.chunks:
                self.chunks[i] = Chunk.unknown(self.dim)
            chunk = self.chunks[i]
            part = slice(max(0, start - CHUNK * i), min(CHUNK, stop - CHUNK * i))
            new = chunk.places[part] == UNKNOWN
            chunk.frames[part][new] = feature
            chunk.places[part][new] = place

    def features(self, source: Source, fps: float) -> BinFeatures:
        """Return the features of the video, of which all bins are known."""
        assert self.end is not None
        n_bins, places = self.end.n_bins, self._places(self.end.n_bins)
        frames = np.concatenate([self.chunks[i].frames for i in range(n_chunks(n_bins))])[:n_bins]
        edges_s = np.arange(n_bins + 1) / fps
        edges_s[-1] = self.end.end_s
        return BinFeatures(
            source,
            torch.from_numpy(frames),
            torch.from_numpy(places != MISSING),
            edges_s,
            len(np.unique(places[places != MISSING])),
            self.end.duration_s,
            self.end.warning,
        )

    def _places(self, n_bins: int) -> NDArray[np.int64]:
        return np.concatenate([self.chunks[i].places for i in range(n_chunks(n_bins))])[:n_bins]


def n_chunks(n_bins: int) -> int:
    """Return the number of chunks that hold a number of bins."""
    return -(-n_bins // CHUNK)


@dataclass(frozen=True)
class ChunkShelf:
    """The store, and the recipe of bins in it: chunk i has the recipe plus i + 1, the end of the video plus 0."""

    store: Store
    recipe: bytes

    def stored(self, content: bytes, dim: int) -> Bins:
        """Return the bins of a file with these bytes that the store has."""
        bins = Bins(dim)
        for key in self.store.recipes(content, self._key(1), self._key(MOST_PARTS)):
            row = self.store.features(content, key)
            if row is None:  # damaged
                continue
            assert row.timeline.positions is not None
            chunk = Chunk.unknown(dim)
            n_bins = row.frames.shape[1]
            chunk.frames[:n_bins], chunk.places[:n_bins] = row.frames[0], row.timeline.positions[0]
            chunk.is_stored = True
            bins.chunks[int.from_bytes(key[-KEY_BYTES:], "big") - 1] = chunk
        row = self.store.features(content, self._key(0))
        if row is not None:
            assert row.timeline.positions is not None
            end_s, n_bins = float(row.timeline.times_s[0, 0]), int(row.timeline.positions[0, 0])
            bins.end = VideoEnd(n_bins, end_s, row.timeline.duration_s, row.timeline.warning)
        return bins

    def keep(self, content: bytes, source: Source, bins: Bins) -> None:
        """Store the chunks that are complete and not stored yet; the end of the video with the last of them."""
        for i, places, chunk in bins.unstored:
            frames = torch.from_numpy(chunk.frames[None, : len(places)])
            row = VideoFeatures(source, frames, FrameTimes(np.zeros((1, len(places))), places[None]))
            self.store.keep(content, self._key(i + 1), row)
            chunk.is_stored = True
        if bins.is_complete:
            assert bins.end is not None
            end = bins.end
            times = FrameTimes(np.array([[end.end_s]]), np.array([[end.n_bins]]), end.duration_s, end.warning)
            self.store.keep(content, self._key(0), VideoFeatures(source, torch.zeros(1, 1, 1), times))

    def _key(self, part: int) -> bytes:
        return self.recipe + part.to_bytes(KEY_BYTES, "big")
