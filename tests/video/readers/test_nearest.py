import numpy as np
import pytest

from bike_cli.video.readers.nearest import nearest, without_repeats


@pytest.mark.parametrize(
    ("position", "expected"),
    [(0, 3), (3, 3), (6, 3), (7, 10), (9, 10), (99, 20), (15, 10)],  # 15 lies as near to 10 as to 20
)
def test_the_nearest_candidate_stands_in_and_of_two_the_earlier(position: int, expected: int) -> None:
    assert nearest(np.array([position]), np.array([3, 10, 20])).tolist() == [expected]


def test_positions_that_fall_together_are_read_once() -> None:
    found = without_repeats(np.array([[0, 0, 5, 5]]), np.array([[0, 2, 4, 6]]))

    assert found.tolist() == [[0, 5]]


def test_clips_have_as_many_frames_as_the_poorest_of_them() -> None:
    moved = np.array([[0, 5, 9, 9], [3, 3, 9, 9]])

    found = without_repeats(moved, np.arange(8).reshape(2, 4))

    assert found.tolist() == [[0, 5], [3, 9]]


def test_repeats_that_were_asked_for_stay() -> None:
    moved = asked = np.array([[0, 0, 1, 1]])

    assert without_repeats(moved, asked).tolist() == [[0, 0, 1, 1]]
