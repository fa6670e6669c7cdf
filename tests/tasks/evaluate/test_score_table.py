"""Score tables: invalid ones are refused, and derived tables have the right scores."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from bike_cli.errors import UsageError
from bike_cli.tasks.evaluate.measurement import compare
from bike_cli.tasks.evaluate.score_table import ScoreTable

LABELS = ("run", "jump", "sing")
VIDEOS = ("a.mp4", "b.mp4")
SCORES = np.array([[0.0, 1.0, 2.0], [5.0, 5.0, -math.inf]])
TRUTH = np.array([2, 0])


def table_of(scores: NDArray[np.float64] = SCORES, truth: NDArray[np.int64] | NDArray[np.bool_] = TRUTH) -> ScoreTable:
    return ScoreTable(LABELS, VIDEOS, scores, truth)


def with_score(value: float) -> NDArray[np.float64]:
    scores = SCORES.copy()
    scores[1, 1] = value
    return scores


def test_probabilities_are_the_softmax_and_a_label_without_score_has_none() -> None:
    probabilities = table_of().probabilities

    powers = [1.0, math.e, math.e**2]
    assert probabilities[0].tolist() == pytest.approx([p / sum(powers) for p in powers])
    assert probabilities[1].tolist() == [0.5, 0.5, 0.0]


def test_ranked_has_ties_in_the_order_of_labels_and_stops_where_scores_do() -> None:
    assert table_of().ranked(5).tolist() == [[2, 1, 0], [0, 1, -1]]


@pytest.mark.parametrize("k", [1, 3, 20, 21, 29, 40])
def test_ranked_is_a_sort_however_many_are_asked_for(k: int) -> None:
    scores = np.random.default_rng(0).integers(0, 6, (50, 30)).astype(np.float64)
    table = ScoreTable(
        tuple(str(i) for i in range(30)), tuple(str(i) for i in range(50)), scores, np.zeros(50, dtype=np.int64)
    )

    assert table.ranked(k).tolist() == [sorted(range(30), key=lambda c: (-row[c], c))[:k] for row in scores.tolist()]


def test_a_restricted_table_has_the_videos_of_its_classes_numbered_anew() -> None:
    scores = np.log([[0.1, 0.6, 0.3], [0.5, 0.25, 0.25], [0.8, 0.1, 0.1], [0.2, 0.2, 0.6]])
    table = ScoreTable(LABELS, ("a", "b", "c", "d"), scores, np.array([2, 1, 0, -1]))

    half = table.restricted([2, 0])

    assert half.labels == ("sing", "run")
    assert half.videos == ("a", "c")
    assert half.truth.tolist() == [0, 1]
    assert half.probabilities.ravel().tolist() == pytest.approx([3 / 4, 1 / 4, 1 / 9, 8 / 9])


def test_a_restricted_table_keeps_several_labels() -> None:
    truth = np.array([[True, True, False], [False, True, True]])
    table = ScoreTable(LABELS, VIDEOS, np.zeros((2, 3)), truth)

    half = table.restricted([2, 1])

    assert half.multi_label
    assert half.truth.tolist() == [[False, True], [True, True]]
    assert table.restricted([0]).videos == ("a.mp4",)


def test_videos_are_taken_in_the_order_asked_for() -> None:
    table = table_of().of_videos([1, 0])

    assert (table.videos, table.truth.tolist()) == (("b.mp4", "a.mp4"), [0, 2])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_nan_score_names_the_video_and_the_label(value: float) -> None:
    with pytest.raises(UsageError, match=rf"^b\.mp4: the score of 'jump' is {value}"):
        table_of(with_score(value))


def test_a_prediction_that_names_no_label_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^b\.mp4: the prediction has none of the 3 labels"):
        table_of(np.array([[0.0, 1.0, 2.0], [-math.inf] * 3]))


def test_no_video_is_refused() -> None:
    with pytest.raises(UsageError, match="no video"):
        ScoreTable(LABELS, (), np.empty((0, 3)), np.empty(0, dtype=np.int64))


def test_classes_without_a_video_make_no_table() -> None:
    with pytest.raises(UsageError, match="no video"):
        table_of().restricted([1])


@pytest.mark.parametrize(
    ("scores", "truth"),
    [
        (np.zeros((2, 2)), TRUTH),
        (np.zeros((3, 3)), TRUTH),
        (SCORES, np.array([0])),
        (SCORES, np.array([0, 3])),
        (SCORES, np.array([0, -2])),
        (SCORES, np.array([True, False])),
    ],
)
def test_mismatched_shapes_are_refused(
    scores: NDArray[np.float64], truth: NDArray[np.int64] | NDArray[np.bool_]
) -> None:
    with pytest.raises(ValueError, match="ScoreTable"):
        table_of(scores, truth)


def test_a_repeated_label_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        ScoreTable(("run", "run", "sing"), VIDEOS, SCORES, TRUTH)
    with pytest.raises(ValueError, match="twice"):
        table_of().restricted([0, 0])


# -- predictions of some labels --------------------------------------------------------------------------------------


def predictions_of(*rows: tuple[float | None, ...], truth: tuple[int, ...] = ()) -> ScoreTable:
    """Return a table of predictions; None: a label that is not named."""
    scores = np.array([[math.nan if p is None else p for p in row] for row in rows])
    logits = np.where(np.isnan(scores), -np.inf, np.log(scores))
    labels, videos = (tuple(f"{name} {i}" for i in range(n)) for name, n in zip("lv", scores.shape[::-1], strict=True))
    named = (~np.isnan(scores)).sum(axis=1)
    return ScoreTable(labels, videos, logits, np.array(truth or (0,) * len(rows)), named)


@pytest.mark.parametrize(
    ("row", "probabilities"),
    [
        ((0.5, None, 0.25, None, None), (0.5, 1 / 12, 0.25, 1 / 12, 1 / 12)),
        ((0.5, 0.3, 0.2, None, None), (0.5, 0.3, 0.2, 0.0, 0.0)),
        ((0.3, 0.05, None, None, None), (0.3, 0.05, 0.05, 0.05, 0.05)),  # never more than what is named
        ((0.9, 0.8, None, None, 0.7), (0.9, 0.8, 0.0, 0.0, 0.7)),  # of a program whose scores are no shares of 1
        ((0.1, 0.2, 0.3, 0.2, 0.1), (0.1, 0.2, 0.3, 0.2, 0.1)),
    ],
)
def test_the_rest_of_the_probability_is_spread_over_unnamed_labels(
    row: tuple[float | None, ...], probabilities: tuple[float, ...]
) -> None:
    assert predictions_of(row).probabilities.tolist() == [pytest.approx(list(probabilities))]


def test_the_best_of_a_prediction_is_as_likely_as_it_says_however_few_are_named() -> None:
    rng = np.random.default_rng(0)
    whole = np.round(rng.dirichlet(np.full(7, 0.3), 50), 6) + 1e-6
    cut = [np.sort(whole, axis=1)[:, -k][:, None] for k in range(1, 8)]

    for least in cut:
        table = predictions_of(
            *(tuple(p if p >= one else None for p in row) for row, one in zip(whole, least, strict=True))
        )
        assert table.probabilities.max(axis=1) == pytest.approx(whole.max(axis=1), rel=1e-12)
        assert (table.probabilities.argmax(axis=1) == whole.argmax(axis=1)).all()
        assert (table.probabilities.sum(axis=1) < 1.00001).all()
    assert table.probabilities == pytest.approx(whole, rel=1e-12)


def test_the_fewest_labels_named_count() -> None:
    table = predictions_of((0.5, 0.25, None), (0.5, None, None), (0.5, 0.25, 0.25))

    assert table.fewest == 1
    assert table.of_videos([2, 0]).fewest == 2
    assert table.of_videos([2]).fewest == 3
    assert table_of().fewest == 3


def test_some_classes_of_predictions_need_the_scores_of_all() -> None:
    with pytest.raises(UsageError, match="have 2 of 3 labels"):
        predictions_of((0.5, 0.25, None), truth=(0,)).restricted([0, 1])

    half = predictions_of((0.5, 0.25, 0.25), truth=(0,)).restricted([0, 1])
    assert half.probabilities.tolist() == [pytest.approx([2 / 3, 1 / 3])]


def test_a_wrong_count_of_named_labels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ScoreTable\.named"):
        ScoreTable(LABELS, VIDEOS, SCORES, TRUTH, np.array([3, 3]))


def test_predictions_are_compared_whatever_the_order_of_their_labels() -> None:
    few = predictions_of((0.5, 0.3, None, None), (0.1, 0.6, None, None), (None, 0.3, 0.6, None), truth=(0, 0, 2))
    order = [3, 1, 0, 2]
    assert few.named is not None
    turned = ScoreTable(
        tuple(few.labels[c] for c in order), few.videos, few.logits[:, order], np.array([2, 2, 3]), few.named
    )

    found = compare(few, turned, resamples=20)

    assert {row.metric for row in found} == {"top1", "mean_class", "macro_f1"}
    assert [row.difference for row in found] == [0.0] * 3
