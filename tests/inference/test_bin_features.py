"""The bins of long videos: filled in any order, stored in chunks, found again."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from bike_cli.engine.store.store import Store
from bike_cli.inference.bin_features import CHUNK, BinFeatures, Bins, ChunkShelf
from bike_cli.records import Source
from bike_cli.video.streams.values import StreamEnd

DIM, CONTENT, SOURCE = 3, b"c" * 32, Source.at("match.mp4")
N_BINS = 2 * CHUNK + 100
GONE = [(5, 6), (CHUNK - 2, CHUNK + 3), (N_BINS - 1, N_BINS)]  # bins that cannot be read


def feature(start: int) -> NDArray[np.float32]:
    return np.array([start, start % 7, -start], np.float32)


def frames_of(first: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return frames that fill three bins each, but not the bins that are gone: their bins [B, 2], and features."""
    bins = [(start, min(start + 3, end)) for start in range(first, end, 3)]
    parts = [(s, e) for s, e in bins if not any(s < stop and start < e for start, stop in GONE)]
    return np.array(parts, np.int64), np.stack([feature(start) for start, _ in parts])


def end_of(n_bins: int) -> StreamEnd:
    return StreamEnd(n_bins, n_bins / 2 + 0.1, n_bins / 2 + 0.1, np.array([], np.int64), ("a note",))


def filled() -> Bins:
    bins = Bins(DIM)
    bins.add(*frames_of(0, N_BINS), after=0)
    bins.close(end_of(N_BINS))
    return bins


def check(features: BinFeatures) -> None:
    """Compare features with a plain loop over the bins."""
    places, values = frames_of(0, N_BINS)
    expected = {
        b: value for (start, stop), value in zip(places.tolist(), values, strict=True) for b in range(start, stop)
    }
    assert_array_equal(features.is_read.numpy(), [b in expected for b in range(N_BINS)])
    for b, value in expected.items():
        assert_array_equal(features.frames[b].numpy(), value)
    assert features.n_frames == len(places)
    assert_array_equal(features.edges_s, [*(np.arange(N_BINS) / 2), N_BINS / 2 + 0.1])
    missing = N_BINS - len(expected)
    assert features.warning == f"damaged: {missing:,} of {N_BINS:,} sampled frames cannot be decoded; a note"
    assert features.duration_s == N_BINS / 2 + 0.1


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[ChunkShelf]:
    with Store.open(tmp_path) as store:
        yield ChunkShelf(store, b"r" * 32)


def test_bins_have_the_features_of_their_frames() -> None:
    check(filled().features(SOURCE, 2.0))


def test_parts_of_a_video_may_come_in_any_order() -> None:
    bins = Bins(DIM)
    for first, end in ((999, N_BINS), (0, 999)):
        bins.add(*frames_of(first, end), after=first)
        assert not bins.is_complete
    bins.close(end_of(N_BINS))

    assert bins.is_complete
    check(bins.features(SOURCE, 2.0))


def test_a_frame_may_fill_many_chunks() -> None:
    bins = Bins(DIM)
    bins.add(np.array([[0, 5 * CHUNK]]), feature(1)[None], after=0)
    bins.close(end_of(5 * CHUNK))

    features = bins.features(SOURCE, 2.0)
    assert features.n_frames == 1
    assert torch.equal(features.frames, torch.from_numpy(feature(1)).expand(5 * CHUNK, DIM))


def test_what_was_stored_is_found_again(shelf: ChunkShelf) -> None:
    shelf.keep(CONTENT, SOURCE, filled())

    found = shelf.stored(CONTENT, DIM)
    assert found.is_complete
    check(found.features(SOURCE, 2.0))
    assert not shelf.stored(b"d" * 32, DIM).chunks


def test_a_run_that_was_killed_continues_after_its_last_whole_chunk(shelf: ChunkShelf) -> None:
    begun = Bins(DIM)
    begun.add(*frames_of(0, CHUNK + 500), after=0)
    shelf.keep(CONTENT, SOURCE, begun)

    found = shelf.stored(CONTENT, DIM)
    assert found.unknown == [(CHUNK, None)]
    assert not found.is_complete
    found.add(*frames_of((CHUNK + 2) // 3 * 3, N_BINS), after=CHUNK)
    found.close(end_of(N_BINS))
    check(found.features(SOURCE, 2.0))


def test_chunks_of_a_part_in_the_middle_are_found_again(shelf: ChunkShelf) -> None:
    begun = Bins(DIM)
    for first, end in ((0, CHUNK + 500), (2 * CHUNK - 2, 3 * CHUNK + 6)):
        begun.add(*frames_of(first, end), after=first)
    shelf.keep(CONTENT, SOURCE, begun)

    assert shelf.stored(CONTENT, DIM).unknown == [(CHUNK, 2 * CHUNK), (3 * CHUNK, None)]


def test_a_chunk_that_is_lost_is_read_again(shelf: ChunkShelf) -> None:
    whole = filled()
    shelf.keep(CONTENT, SOURCE, whole)
    found = shelf.stored(CONTENT, DIM)
    del found.chunks[1]

    assert found.unknown == [(CHUNK, None)]
    assert not found.is_complete
