"""Tables of predictions that name a few of many labels: equal to the whole matrices, and without their memory."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from bike_cli.data.predictions.named_logits import NamedLogits
from bike_cli.errors import UsageError
from bike_cli.tasks.evaluate.answers import Answers
from bike_cli.tasks.evaluate.measurement import compare, measure
from bike_cli.tasks.evaluate.report import SystemResult
from bike_cli.tasks.evaluate.score_table import ScoreTable

MIB = 2**20


def tables(
    seed: int, *, videos: int = 60, labels: int = 12, most: int = 5, multi_label: bool = False
) -> tuple[ScoreTable, ScoreTable]:
    """Return one table with named logits, and the same one with a whole matrix; many scores are equal, or 0."""
    rng = np.random.default_rng(seed)
    whole = np.full((videos, labels), -np.inf)
    rows, places, values = [], [], []
    for i in range(videos):
        named = rng.choice(labels, rng.integers(1, most + 1), replace=False)
        logits = np.where(rng.random(len(named)) < 0.1, -800.0 - named, np.log(rng.integers(1, 5, len(named)) / 30))
        whole[i, named] = logits
        rows.append(len(named))
        places.append(named)
        values.append(logits)
    starts = np.concatenate([[0], np.cumsum(rows)])
    sparse = NamedLogits(starts, np.concatenate(places).astype(np.int32), np.concatenate(values), labels)
    truth: NDArray[np.int64] | NDArray[np.bool_] = rng.integers(-1, labels - 1, videos)
    truth = rng.random((videos, labels)) < 0.2 if multi_label else np.where(rng.random(videos) < 0.5, -1, truth)
    truth = truth if multi_label else np.where(truth < 0, sparse.ranked(1)[:, 0] % (labels - 1), truth)
    if not multi_label:
        truth[::7] = -1
    names = tuple(f"label {i}" for i in range(labels)), tuple(f"{i}.mp4" for i in range(videos))
    more = {"best_cosines": rng.random(videos), "rejected": rng.random(videos) < 0.2}
    made = [ScoreTable(*names, given, truth, sparse.sizes, **more) for given in (sparse, whole)]
    return made[0], made[1]


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_all_results_are_those_of_the_whole_matrix(seed: int, *, multi_label: bool) -> None:
    sparse, whole = tables(seed, multi_label=multi_label)
    others = tables(seed + 100, multi_label=multi_label)
    other, other_whole = (replace(one, truth=whole.truth) for one in others)

    found = measure(sparse, resamples=70)

    assert found == measure(whole, resamples=70)
    assert "top1" in found.metrics
    assert compare(sparse, other, resamples=70) == compare(whole, other_whole, resamples=70)


@pytest.mark.parametrize("seed", range(5))
def test_parts_of_a_table_are_those_of_the_whole_matrix(seed: int) -> None:
    sparse, whole = tables(seed)
    rows = np.random.default_rng(seed).permutation(len(sparse.videos))[:20]

    few, few_whole = sparse.of_videos(rows), whole.of_videos(rows)

    assert isinstance(few.given, NamedLogits)
    assert (few.logits == few_whole.logits).all()
    assert few.fewest == few_whole.fewest
    for k in (1, 3, 12):
        assert few.ranked(k).tolist() == few_whole.ranked(k).tolist()
    assert few.confidence.tolist() == few_whole.probabilities.max(axis=1).tolist()
    assert few.is_labelled.tolist() == few_whole.present.any(axis=1).tolist()
    assert few.sizes.tolist() == few_whole.present.sum(axis=0).tolist()


def test_labels_in_another_order_give_the_same_comparison() -> None:
    sparse, whole = tables(3)
    order = np.random.default_rng(0).permutation(len(sparse.labels))
    labels, places = tuple(sparse.labels[i] for i in order), np.append(np.argsort(order), -1)
    assert isinstance(sparse.given, NamedLogits)
    turned = replace(sparse, labels=labels, given=sparse.given.of_labels(order), truth=places[sparse.truth])

    assert (turned.logits == whole.logits[:, order]).all()
    assert {row.difference for row in compare(sparse, turned, resamples=20)} == {0.0}


def test_a_wrong_truth_names_its_labels() -> None:
    sparse, _ = tables(0)
    other = replace(sparse, truth=np.where(np.arange(60) == 5, -1, sparse.truth))

    with pytest.raises(UsageError, match=r"^5\.mp4: is 'label \d+' in one table and none of the labels in the other"):
        compare(sparse, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: replace(one, starts=np.array([0, 1, 1])), r"NamedLogits\.starts must ascend"),
        (lambda one: replace(one, places=np.array([3], dtype=np.int32)), r"NamedLogits\.places must be within 0\.\.2"),
        (lambda one: replace(one, values=np.zeros(2)), r"NamedLogits\.values has shape \[2\]; expected \[1\]"),
    ],
)
def test_wrong_arrays_are_refused(change: Callable[[NamedLogits], NamedLogits], message: str) -> None:
    one = NamedLogits(np.array([0, 1]), np.array([2], dtype=np.int32), np.zeros(1), labels=3)

    with pytest.raises(ValueError, match=message):
        change(one)
    with pytest.raises(ValueError, match=r"ScoreTable\.named"):
        ScoreTable(("a", "b", "c"), ("a.mp4",), one, np.array([0]))


def test_a_score_that_is_no_number_is_refused() -> None:
    one = NamedLogits(np.array([0, 2]), np.array([2, 0], dtype=np.int32), np.array([0.0, np.nan]), labels=3)

    with pytest.raises(UsageError, match=r"a\.mp4: the score of 'a' is nan"):
        ScoreTable(("a", "b", "c"), ("a.mp4",), one, np.array([0]), one.sizes)


def test_memory_grows_with_the_labels_that_are_named() -> None:
    peak, whole = _peak(videos=2000, labels=4000), 2000 * 4000

    assert peak < whole  # a byte for each cell; the matrix of float64 alone would take eight


def _peak(*, videos: int, labels: int) -> int:
    """Return the bytes that `measure` and `compare` allocate at most."""
    rng = np.random.default_rng(0)
    names = tuple(map(str, range(labels))), tuple(f"{i}.mp4" for i in range(videos))
    starts, truth = np.arange(videos + 1) * 5, rng.integers(0, labels, videos)
    places = (truth[:, None] + np.arange(5) * 7) % labels
    given = NamedLogits(starts, places.ravel().astype(np.int32), np.log(rng.random(5 * videos)), labels)
    table = ScoreTable(*names, given, truth, given.sizes)
    tracemalloc.start()
    try:
        result: SystemResult = measure(table, resamples=10)
        compare(table, table, resamples=10)
        assert len(Answers(table).confidence) == sum(result.confusion.videos if result.confusion else ()) == videos
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
