import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bike_cli.video.sampling import dense_positions, sample_positions, segment_bounds

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "golden_sampling.json"
CASES = json.loads(GOLDEN.read_text())["cases"] if GOLDEN.exists() else []

needs_golden = pytest.mark.skipif(not CASES, reason=f"{GOLDEN}: the official code's values are not here")


@needs_golden
def test_one_clip_reads_the_frames_of_official_validation() -> None:
    found = [sample_positions(c["num_frames"], c["num_segments"], clips=1)[0].tolist() for c in CASES]

    assert found == [c["val_uniform"] for c in CASES]


@needs_golden
@pytest.mark.parametrize("clips", [1, 2, 3, 4])
def test_several_clips_read_the_frames_of_official_testing(clips: int) -> None:
    found = [sample_positions(c["num_frames"], c["num_segments"], clips=clips).ravel().tolist() for c in CASES]

    assert found == [c["test_uniform"][str(clips)] for c in CASES]


@needs_golden
def test_training_segments_are_the_official_ones() -> None:
    found = [np.stack(segment_bounds(c["num_frames"], c["num_segments"]), 1).tolist() for c in CASES]

    assert found == [c["train_uniform_bounds"] for c in CASES]


@needs_golden
@pytest.mark.parametrize("clips", [2, 3, 4, 10])
def test_dense_clips_read_the_frames_of_official_testing(clips: int) -> None:
    found = [dense_positions(c["num_frames"], c["num_segments"], clips=clips).ravel().tolist() for c in CASES]

    assert found == [c["test_dense"][str(clips)] for c in CASES]


@needs_golden
def test_dense_training_clips_read_the_official_frames_where_only_one_start_is_legal() -> None:
    certain = [c for c in CASES if c["val_dense"] is not None]
    rng = np.random.default_rng(0)

    found = [dense_positions(c["num_frames"], c["num_segments"], clips=1, rng=rng)[0].tolist() for c in certain]

    assert found == [c["val_dense"] for c in certain]


def test_dense_training_starts_cover_the_official_range() -> None:
    rng = np.random.default_rng(0)

    starts = dense_positions(133, 8, clips=400, rng=rng)[:, 0]

    assert set(starts.tolist()) == {0, 1, 2, 3, 4}  # 0..n-129, both included


def test_one_dense_clip_takes_the_middle_window() -> None:
    positions = dense_positions(328, 8, clips=1)

    assert positions.tolist() == [[100, 116, 132, 148, 164, 180, 196, 212]]


counts = {"n_frames": st.integers(1, 5000), "frames": st.integers(1, 64), "clips": st.integers(1, 10)}


@settings(max_examples=150)
@given(**counts)
def test_positions_always_lie_in_the_video(n_frames: int, frames: int, clips: int) -> None:
    positions = sample_positions(n_frames, frames, clips=clips)

    assert positions.shape == (clips, frames)
    assert positions.min() >= 0
    assert positions.max() < n_frames


@settings(max_examples=100)
@given(n_frames=st.integers(1, 5000), frames=st.integers(1, 64))
def test_the_first_clip_goes_forward_from_frame_0(n_frames: int, frames: int) -> None:
    positions = sample_positions(n_frames, frames, clips=1)[0]

    assert positions[0] == 0
    assert (np.diff(positions) >= 0).all()


@settings(max_examples=100)
@given(**counts, seed=st.integers(0, 2**32))
def test_training_draws_each_frame_from_its_own_segment(n_frames: int, frames: int, clips: int, seed: int) -> None:
    low, high = segment_bounds(n_frames, frames)

    positions = sample_positions(n_frames, frames, clips=clips, rng=np.random.default_rng(seed))

    assert ((low <= positions) & (positions <= high)).all()


def test_training_draws_both_ends_of_a_segment() -> None:
    drawn = sample_positions(9, 2, clips=200, rng=np.random.default_rng(0))

    assert set(drawn[:, 0].tolist()) == {0, 1, 2, 3, 4}
    assert set(drawn[:, 1].tolist()) == {4, 5, 6, 7, 8}


def test_a_seed_draws_the_same_frames_again() -> None:
    first = sample_positions(300, 8, clips=2, rng=np.random.default_rng(7))
    again = sample_positions(300, 8, clips=2, rng=np.random.default_rng(7))

    assert first.tolist() == again.tolist()


@pytest.mark.parametrize(("n_frames", "frames", "clips"), [(0, 8, 1), (10, 0, 1), (10, 8, 0)])
def test_a_count_of_zero_is_refused(n_frames: int, frames: int, clips: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        sample_positions(n_frames, frames, clips=clips)


def test_more_frames_than_a_dense_window_has_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 128"):
        dense_positions(300, 129, clips=1)
