"""Metrics equal those of plain loops, and intervals those of tables whose videos are drawn by hand."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import beta, binomtest
from scipy.stats import t as student

from bike_cli.errors import UsageError
from bike_cli.tasks.evaluate.measurement import compare, mark_significant, measure
from bike_cli.tasks.evaluate.metrics import average_precisions
from bike_cli.tasks.evaluate.report import Comparison, SystemResult
from bike_cli.tasks.evaluate.score_table import ScoreTable, aligned
from bike_cli.tasks.evaluate.statistics.bootstrap import BLOCK

SINGLE = ["top1", "top5", "mean_class", "macro_f1", "ece", "nll", "brier", "auroc_none", "fpr95_none", "map"]
OPEN = ["auroc_cosine", "fpr95_cosine", "top1_none", "rejected_known", "rejected_none"]


def single(seed: int = 0, *, videos: int = 60, classes: int = 8, none: int = 10, coarse: bool = False) -> ScoreTable:
    """Return a table of a classifier that is often correct; its last class has no video."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes - 1, videos)
    logits = rng.normal(size=(videos, classes))
    logits[np.arange(videos), truth] += 1.5
    truth[:none] = -1
    return table_of(np.asarray(logits.round(0 if coarse else 12), dtype=np.float64), truth)


def multiple(seed: int = 0, *, videos: int = 40, classes: int = 7) -> ScoreTable:
    """Return a table with several labels per video, or none; its last class has no video."""
    rng = np.random.default_rng(seed)
    truth = rng.random((videos, classes)) < 0.3
    truth[:, -1] = False
    return table_of(np.round(rng.normal(size=truth.shape) + 1.5 * truth, 1), truth)


def table_of(logits: NDArray[np.float64], truth: NDArray[np.int64] | NDArray[np.bool_]) -> ScoreTable:
    videos, classes = logits.shape
    return ScoreTable(
        tuple(f"label {i}" for i in range(classes)), tuple(f"{i}.mp4" for i in range(videos)), logits, truth
    )


# -- metrics by plain loops ---------------------------------------------------------------------------------------


Row = tuple[list[float], list[float], int]  # logits, probabilities, truth


def rows_of(table: ScoreTable) -> list[Row]:
    return list(zip(table.logits.tolist(), table.probabilities.tolist(), table.truth.tolist(), strict=True))


def known(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row[2] >= 0]


def best(scores: list[float], k: int) -> list[int]:
    return sorted(range(len(scores)), key=lambda c: (-scores[c], c))[:k]


def share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits)


def top_k(rows: Sequence[Row], k: int) -> float:
    return share([truth in best(scores, k) for scores, _, truth in known(rows)])


def class_mean(rows: Sequence[Row], of: Callable[[Sequence[Row], int], float]) -> float:
    present = sorted({truth for _, _, truth in known(rows)})
    return sum(of(known(rows), c) for c in present) / len(present)


def recall(rows: Sequence[Row], c: int) -> float:
    return share([best(scores, 1) == [c] for scores, _, truth in rows if truth == c])


def precision(rows: Sequence[Row], c: int) -> float:
    taken = [truth == c for scores, _, truth in rows if best(scores, 1) == [c]]
    return share(taken) if taken else 0.0


def f1(rows: Sequence[Row], c: int) -> float:
    p, r = precision(rows, c), recall(rows, c)
    return 2 * p * r / (p + r) if p + r else 0.0


def ece(rows: Sequence[Row]) -> float:
    of_bin: list[list[tuple[float, bool]]] = [[] for _ in range(15)]
    for scores, probabilities, truth in known(rows):
        confidence = max(probabilities)
        i = next(i for i in range(15) if confidence <= (i + 1) / 15)
        of_bin[i].append((confidence, best(scores, 1) == [truth]))
    found = [abs(sum(hit for _, hit in b) - sum(c for c, _ in b)) for b in of_bin]
    return sum(found) / len(known(rows))


def brier(rows: Sequence[Row]) -> float:
    errors = [(p - (c == truth)) ** 2 for _, shares, truth in known(rows) for c, p in enumerate(shares)]
    return sum(errors) / (2 * len(known(rows)))


def auroc_none(rows: Sequence[Row]) -> float:
    none = [1 - max(p) for _, p, truth in rows if truth < 0]
    others = [1 - max(p) for _, p, truth in rows if truth >= 0]
    won = sum((a > b) + (a == b) / 2 for a in none for b in others)
    return won / (len(none) * len(others)) if none else math.nan


def fpr95(certain: Sequence[float], uncertain: Sequence[float]) -> float:
    """Return the share of `uncertain` at or above the highest threshold that accepts 95 % of `certain`."""
    accepting = [t for t in certain if sum(c >= t for c in certain) >= 0.95 * len(certain)]
    return share([u >= max(accepting) for u in uncertain]) if uncertain else math.nan


def fpr95_none(rows: Sequence[Row]) -> float:
    certain = [max(p) for _, p, truth in rows if truth >= 0]
    return fpr95(certain, [max(p) for _, p, truth in rows if truth < 0])


def average_precision(scores: Sequence[float], present: Sequence[bool]) -> float:
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], present[i]))
    hits = [present[i] for i in order]
    return sum(sum(hits[: i + 1]) / (i + 1) for i, hit in enumerate(hits) if hit) / sum(hits)


def mean_average_precision(rows: Sequence[Row]) -> float:
    def of_class(own: Sequence[Row], c: int) -> float:
        return average_precision([p[c] for _, p, _ in own], [truth == c for _, _, truth in own])

    return class_mean(rows, of_class)


def by_loops(rows: Sequence[Row]) -> dict[str, float]:
    return {
        "top1": top_k(rows, 1),
        "top5": top_k(rows, 5),
        "mean_class": class_mean(rows, recall),
        "macro_f1": class_mean(rows, f1),
        "ece": ece(rows),
        "nll": sum(-math.log(shares[truth]) for _, shares, truth in known(rows)) / len(known(rows)),
        "brier": brier(rows),
        "auroc_none": auroc_none(rows),
        "fpr95_none": fpr95_none(rows),
        "map": mean_average_precision(rows),
    }


def values_of(found: SystemResult) -> dict[str, float]:
    return {name: one.value for name, one in found.metrics.items()}


@pytest.mark.parametrize("coarse", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize("seed", range(3))
def test_every_metric_equals_that_of_a_plain_loop(seed: int, coarse: bool) -> None:
    table = single(seed, coarse=coarse)

    found = values_of(measure(table, resamples=0))

    assert list(found) == SINGLE
    assert found == pytest.approx(by_loops(rows_of(table)), abs=1e-12)


def on_log_odds(value: float, drawn: Sequence[float], videos: int) -> tuple[float, float]:
    """Return Student's interval of log-odds; it covers the exact one of a share where that is close to 0 or 1."""
    error = float(np.nanstd(drawn)) * math.sqrt(videos / (videos - 1)) / (value * (1 - value))
    margin = float(student.ppf(0.975, videos - 1)) * error
    low, high = (1 / (1 + (1 - value) / value * math.exp(-shift)) for shift in (-margin, margin))
    if min(value, 1 - value) * videos < 5:
        hits, misses = value * videos, (1 - value) * videos
        low = min(low, float(beta.ppf(0.025, hits, misses + 1)))
        high = max(high, float(beta.ppf(0.975, hits + 1, misses)))
    return low, high


def exact(value: float, videos: int) -> tuple[float, float]:
    found = binomtest(round(value * videos), videos).proportion_ci(method="exact")
    return float(found.low), float(found.high)


@pytest.mark.parametrize("coarse", [False, True], ids=["distinct", "ties"])
def test_intervals_are_those_of_loops_over_drawn_videos(coarse: bool) -> None:
    table, resamples = single(videos=30, none=6, coarse=coarse), BLOCK + 6
    rows, rng = rows_of(table), np.random.default_rng(7)

    drawn = [by_loops([rows[i] for i in rng.integers(0, 30, 30)]) for _ in range(resamples)]
    found = measure(table, seed=7, resamples=resamples).metrics

    for name, videos in (("macro_f1", 24), ("brier", 24), ("auroc_none", 6), ("map", 24)):
        expected = on_log_odds(found[name].value, [one[name] for one in drawn], videos)
        assert (found[name].low, found[name].high) == pytest.approx(expected, abs=1e-12)
    for name in ("top1", "top5"):
        assert (found[name].low, found[name].high) == pytest.approx(exact(found[name].value, 24))


def multiple_by_loops(table: ScoreTable, places: Sequence[int]) -> dict[str, float]:
    logits = table.logits[list(places)].T.tolist()
    present = table.present[list(places)].T.tolist()
    precisions = [average_precision(s, p) for s, p in zip(logits, present, strict=True) if any(p)]
    labelled = [(table.logits[i].tolist(), table.present[i]) for i in places if table.present[i].any()]
    return {
        "map": sum(precisions) / len(precisions),
        "top1": share([any(own[c] for c in best(scores, 1)) for scores, own in labelled]),
        "top5": share([any(own[c] for c in best(scores, 5)) for scores, own in labelled]),
    }


def test_metrics_of_several_labels_equal_those_of_plain_loops() -> None:
    table = multiple()
    assert not table.present.any(axis=1).all()
    rng = np.random.default_rng(3)

    drawn = [multiple_by_loops(table, rng.integers(0, 40, 40).tolist()) for _ in range(50)]
    found = measure(table, seed=3, resamples=50)

    assert list(found.metrics) == ["map", "top1", "top5"]
    assert values_of(found) == pytest.approx(multiple_by_loops(table, range(40)), abs=1e-12)
    labelled = int(table.present.any(axis=1).sum())
    for name, one in found.metrics.items():
        values = [resample[name] for resample in drawn]
        expected = on_log_odds(one.value, values, labelled) if name == "map" else exact(one.value, labelled)
        assert (one.low, one.high) == pytest.approx(expected, abs=1e-12)


def test_average_precision_is_the_same_in_however_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measure(single(), resamples=20).metrics["map"]
    monkeypatch.setattr("bike_cli.tasks.evaluate.statistics.bootstrap.MOST_POSITIVES", 11)

    assert measure(single(), resamples=20).metrics["map"] == whole


def test_a_very_large_table_has_the_interval_of_map_from_fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bike_cli.tasks.evaluate.measurement.MOST_LOOKUPS", 1)

    found = measure(single(), resamples=10 * BLOCK).metrics

    assert found["map"] == measure(single(), resamples=4 * BLOCK).metrics["map"]
    assert found["top1"] == measure(single(), resamples=10 * BLOCK).metrics["top1"]


# -- per class --------------------------------------------------------------------------------------------------------


def test_each_class_has_its_own_metrics() -> None:
    table = single()
    rows = known(rows_of(table))

    own = measure(table, resamples=0).per_class

    assert [of_class.videos for of_class in own] == [sum(truth == c for _, _, truth in rows) for c in range(8)]
    for c in range(7):
        precisions = average_precision([p[c] for _, p, _ in rows], [truth == c for _, _, truth in rows])
        expected = (precision(rows, c), recall(rows, c), f1(rows, c), precisions)
        found = own[c]
        assert (found.precision, found.recall, found.f1, found.average_precision) == pytest.approx(expected)


def test_a_class_without_a_video_has_no_metrics_and_does_not_lower_the_mean() -> None:
    table = table_of(np.array([[2.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 1.0, 2.0]]), np.array([0, 1, 1]))

    found = measure(table, resamples=0)

    own = found.per_class
    assert [of_class.precision for of_class in own] == [1, 1, 0]
    assert (own[2].recall, own[2].f1, own[2].average_precision) == (None, None, None)
    assert found.metrics["mean_class"].value == pytest.approx((1 + 0.5) / 2)
    assert found.metrics["macro_f1"].value == pytest.approx((1 + 2 / 3) / 2)


def test_the_confusion_matrix_counts_the_labelled_videos() -> None:
    table = single()
    rows = known(rows_of(table))

    counts = measure(table, resamples=0).confusion

    assert counts is not None
    pairs = [(truth, best(scores, 1)[0]) for scores, _, truth in rows]
    assert counts.matrix(8).tolist() == [[pairs.count((truth, guess)) for guess in range(8)] for truth in range(8)]
    assert sorted(zip(counts.truth, counts.guess, strict=True)) == sorted(set(pairs))


def test_several_labels_have_average_precision_but_no_confusion() -> None:
    table = multiple()

    found = measure(table, resamples=0)

    assert found.confusion is None
    assert {(of_class.precision, of_class.recall, of_class.f1) for of_class in found.per_class} == {(None, None, None)}
    expected = average_precisions(table.logits, table.present)
    shares = [math.nan if one.average_precision is None else one.average_precision for one in found.per_class]
    assert shares == pytest.approx(expected.tolist(), nan_ok=True)


def test_several_labels_are_ranked_by_their_own_scores_whatever_the_others_are() -> None:
    logits = np.array([[3.0, 9.0], [2.0, 0.0], [1.0, 0.0]])  # by probability, the first video ranks last
    present = np.array([[True, False], [True, True], [False, False]])

    first, second = measure(table_of(logits, present), resamples=0).per_class

    assert (first.average_precision, second.average_precision) == (1.0, 1 / 3)


def test_cosines_rank_saved_predictions_of_several_labels() -> None:
    table = multiple()
    probabilities = np.log(table.probabilities)
    named = np.full(len(table.videos), len(table.labels))
    saved = ScoreTable(table.labels, table.videos, probabilities, table.truth, named, cosines=table.logits / 100)

    assert values_of(measure(saved, resamples=0)) == values_of(measure(table, resamples=0))
    half = [0, 2, 4, 5]
    assert np.array_equal(saved.restricted(half).label_scores, table.restricted(half).logits / 100)
    assert np.array_equal(saved.of_videos([3, 1]).label_scores, table.logits[[3, 1]] / 100)
    order = [6, 2, 0, 1, 3, 5, 4]
    turned = ScoreTable(
        tuple(table.labels[i] for i in order), table.videos, table.logits[:, order], table.present[:, order]
    )
    assert np.array_equal(aligned(turned, saved)[1].label_scores, table.logits[:, order] / 100)


def test_average_precision_of_ties_earns_nothing() -> None:
    assert average_precisions(np.ones((4, 1)), np.array([[True], [False], [True], [False]])).tolist() == [
        pytest.approx((1 / 3 + 2 / 4) / 2)
    ]


# -- none of these ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_known", "of_none", "expected"),
    [
        ([5.0, 6.0, 7.0], [1.0, 2.0], 1.0),
        ([1.0, 2.0], [5.0, 6.0, 7.0], 0.0),
        ([3.0, 3.0], [3.0, 3.0, 3.0], 0.5),
        ([1.0, 3.0], [1.0, 2.0], (0.5 + 1 + 0 + 1) / 4),
    ],
    ids=["apart", "reversed", "equal", "some ties"],
)
def test_auroc_separates_unknown_videos(of_known: list[float], of_none: list[float], expected: float) -> None:
    logits = np.array([[best_logit, 0.0] for best_logit in of_known + of_none])
    table = table_of(logits, np.array([0] * len(of_known) + [-1] * len(of_none)))

    assert measure(table, resamples=0).metrics["auroc_none"].value == expected


def test_auroc_of_chance_is_about_a_half() -> None:
    rng = np.random.default_rng(0)

    found = measure(table_of(rng.normal(size=(4000, 3)), rng.integers(-1, 3, 4000))).metrics["auroc_none"]

    assert found.low < 0.5 < found.high
    assert found.high - found.low < 0.06


def open_table(seed: int, *, coarse: bool = False) -> ScoreTable:
    """Return a table with cosines of the best labels, and some rejected videos."""
    rng, table = np.random.default_rng(seed), single(seed)
    cosines = np.where(table.truth < 0, 0.1, 0.3) + 0.1 * rng.normal(size=len(table.videos))
    cosines = cosines.round(1) if coarse else cosines
    return replace(table, best_cosines=cosines, rejected=np.asarray(cosines < 0.2))


@pytest.mark.parametrize("coarse", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_rejection_equal_those_of_plain_loops(seed: int, coarse: bool) -> None:
    table = open_table(seed, coarse=coarse)
    assert table.best_cosines is not None
    assert table.rejected is not None
    rows = list(zip(table.best_cosines.tolist(), table.rejected.tolist(), rows_of(table), strict=True))

    found = values_of(measure(table, resamples=0))

    known_rows, none_rows = ([row for row in rows if (row[2][2] >= 0) == is_known] for is_known in (True, False))
    pairs = [(a, b) for a, *_ in known_rows for b, *_ in none_rows]
    right = [not rejected and best(row[0], 1) == [row[2]] for _, rejected, row in known_rows]
    assert {name: found[name] for name in OPEN} == pytest.approx(
        {
            "auroc_cosine": sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs),
            "fpr95_cosine": fpr95([row[0] for row in known_rows], [row[0] for row in none_rows]),
            "top1_none": (sum(right) + sum(row[1] for row in none_rows)) / len(rows),
            "rejected_known": share([row[1] for row in known_rows]),
            "rejected_none": share([row[1] for row in none_rows]),
        }
    )
    assert {name: found[name] for name in SINGLE} == values_of(measure(single(seed), resamples=0))


def test_rejection_belongs_to_all_labels() -> None:
    table = open_table(0)
    picked = table.of_videos([3, 1, 50])
    assert table.best_cosines is not None
    assert table.rejected is not None

    assert picked.best_cosines is not None
    assert picked.rejected is not None
    assert picked.best_cosines.tolist() == table.best_cosines[[3, 1, 50]].tolist()
    assert picked.rejected.tolist() == table.rejected[[3, 1, 50]].tolist()
    assert table.restricted([0, 2]).rejected is None
    with pytest.raises(ValueError, match=r"ScoreTable\.rejected has shape"):
        replace(table, rejected=np.zeros(3, dtype=np.bool_))


def test_rejection_is_compared_video_by_video() -> None:
    first, second = open_table(0), replace(open_table(0), rejected=np.zeros(60, dtype=np.bool_))
    assert first.rejected is not None

    gain = {row.metric: row for row in compare(first, second, resamples=20)}["rejected_known"]

    lost = first.rejected[first.truth >= 0]
    assert gain.difference == pytest.approx(-lost.mean())
    assert gain.p == pytest.approx(2 * 0.5 ** int(lost.sum()))  # the exact test of McNemar


def test_videos_of_no_label_count_only_for_auroc() -> None:
    table = single()
    without = table.of_videos(np.flatnonzero(table.truth >= 0))

    with_none, alone = values_of(measure(table, resamples=0)), values_of(measure(without, resamples=0))

    del with_none["auroc_none"], with_none["fpr95_none"]
    assert with_none == alone


# -- intervals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [single(), single(coarse=True), multiple(), single(videos=2, none=0)])
def test_an_interval_contains_its_value(table: ScoreTable) -> None:
    assert all(one.low <= one.value <= one.high for one in measure(table, resamples=100).metrics.values())


def test_the_same_seed_gives_the_same_digits() -> None:
    assert measure(single(), seed=5).metrics == measure(single(), seed=5).metrics
    assert measure(single(), seed=5).metrics != measure(single(), seed=6).metrics


def test_always_correct_is_no_certainty() -> None:
    table = table_of(np.eye(4)[[0, 1, 2, 3, 0]], np.array([0, 1, 2, 3, 0]))

    found = measure(table, resamples=200).metrics

    assert {found[name].high for name in ("top1", "mean_class", "macro_f1", "map")} == {1}
    assert found["top1"].low == pytest.approx(0.025 ** (1 / 5))  # five correct answers in a row once in 40 times
    assert all(found[name].low < 0.7 for name in ("top1", "mean_class", "macro_f1", "map"))


def test_the_interval_of_a_share_is_the_exact_one() -> None:
    right = np.arange(400) % 4 > 0
    table = table_of(np.stack([right, ~right], axis=1).astype(np.float64), np.zeros(400, dtype=np.int64))

    found = measure(table, resamples=0).metrics["top1"]

    wanted = binomtest(300, 400).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def test_few_videos_have_no_calibration_error() -> None:
    assert "ece" not in measure(single(videos=19, none=0), resamples=10).metrics
    assert "ece" in measure(single(videos=20, none=0), resamples=10).metrics


# -- two tables -------------------------------------------------------------------------------------------------------


def better(table: ScoreTable) -> ScoreTable:
    rows = np.flatnonzero(table.truth >= 0)
    logits = table.logits.copy()
    logits[rows, table.truth[rows].astype(np.int64)] += 1
    return ScoreTable(table.labels, table.videos, logits, table.truth)


def hits_of(table: ScoreTable) -> NDArray[np.bool_]:
    return np.asarray(table.logits.argmax(axis=1) == table.truth)


def by_metric(rows: Sequence[Comparison]) -> dict[str, Comparison]:
    return {row.metric: row for row in rows}


def test_a_table_gains_nothing_over_itself() -> None:
    found = compare(single(), single(), resamples=100)

    assert {(row.videos, row.left_out) for row in found} == {(60, 0)}
    assert [row.metric for row in found] == SINGLE
    assert {(row.difference, row.differing) for row in found} == {(0, 0)}
    assert all(row.low == pytest.approx(-row.high) and row.low < 0 for row in found)
    assert {row.metric: row.p for row in found} == dict.fromkeys(SINGLE, 1) | {"ece": None, "nll": None}


def test_a_difference_is_that_of_the_metrics() -> None:
    a, b = single(), better(single())

    found = by_metric(compare(a, b, resamples=100))

    gains = {name: values_of(measure(b))[name] - value for name, value in values_of(measure(a)).items()}
    assert {name: row.difference for name, row in found.items()} == pytest.approx(gains)
    assert found["top1"].low > 0
    wins, losses = ((hits_of(x) & ~hits_of(y)).sum() for x, y in ((b, a), (a, b)))
    assert found["top1"].p == pytest.approx(binomtest(int(losses), int(wins + losses)).pvalue)
    assert found["top1"].differing == (a.logits.argmax(1) != b.logits.argmax(1))[10:].sum()


def test_swapped_tables_negate_the_difference() -> None:
    forward, back = (by_metric(compare(*pair)) for pair in ((single(), better(single())), (better(single()), single())))

    for name, one in forward.items():
        assert (-one.difference, -one.high, -one.low) == pytest.approx(
            (back[name].difference, back[name].low, back[name].high)
        )
        assert one.p == pytest.approx(back[name].p) if one.p is not None else back[name].p is None


def test_a_paired_interval_is_narrower_than_an_unpaired_one() -> None:
    a = single(videos=400, none=0)
    b = ScoreTable(a.labels, a.videos, a.logits + 0.3 * np.random.default_rng(9).normal(size=a.logits.shape), a.truth)

    paired, own = by_metric(compare(a, b))["top1"], measure(a).metrics["top1"]

    assert paired.high - paired.low < own.high - own.low


@pytest.mark.parametrize(("videos", "p"), [(1, 1.0), (3, 0.25), (5, 2 / 32), (6, 2 / 64)])
def test_a_few_videos_give_no_small_p(videos: int, p: float) -> None:
    wrong, right = np.eye(2)[np.ones(videos, dtype=int)], np.eye(2)[np.zeros(videos, dtype=int)]
    truth = np.zeros(videos, dtype=np.int64)

    found = by_metric(compare(table_of(wrong, truth), table_of(right, truth)))

    assert found["top1"].p == pytest.approx(p)


def test_five_classes_have_no_top_5() -> None:
    assert "top5" not in measure(single(classes=5), resamples=0).metrics
    assert "top5" in measure(single(classes=6), resamples=0).metrics


def test_answers_for_videos_of_no_class_differ_too() -> None:
    truth, logits = np.array([0, 1, -1]), np.eye(2)[[0, 1, 0]]

    found = compare(table_of(logits, truth), table_of(np.eye(2)[[0, 1, 1]], truth), resamples=10)

    assert {(row.videos, row.differing) for row in found} == {(3, 1)}


def test_confident_answers_that_are_all_correct_may_be_miscalibrated() -> None:
    logits = np.tile([12.0, 0.0, 0.0, 0.0], (30, 1))

    found = measure(table_of(logits, np.zeros(30, dtype=np.int64)), resamples=10).metrics["ece"]

    assert found.value < 1e-4
    assert found.high > 0.05  # one error in 30 would be no surprise


def test_one_metric_decides_and_its_p_is_adjusted() -> None:
    def row(system: str, metric: str, p: float | None) -> Comparison:
        return Comparison("a", system, metric, 0.1, 0.0, 0.2, p, 9, 0)

    rows = [row("b", "top1", 0.02), row("b", "map", 0.001), row("c", "top1", 0.01), row("d", "top1", 0.04)]

    found = mark_significant([*rows, row("d", "ece", None)], "top1")

    assert [(one.p_adjusted, one.significant) for one in found] == [
        (pytest.approx(0.04), True),
        (None, None),
        (pytest.approx(0.03), True),
        (pytest.approx(0.04), True),
        (None, None),
    ]
    assert [one.significant for one in mark_significant(rows[:1] + rows[3:] + [row("e", "top1", 0.03)], "top1")] == [
        False,
        False,
        False,
    ]


def test_order_of_videos_and_labels_has_no_say() -> None:
    a, b = single(), better(single())
    columns = np.random.default_rng(1).permutation(8)
    places = np.append(np.argsort(columns), -1)
    other = ScoreTable(tuple(b.labels[c] for c in columns), b.videos, b.logits[:, columns], places[b.truth])

    found = compare(a, other.of_videos(range(59, -1, -1)), resamples=50)

    assert found == compare(a, b, resamples=50)


def test_several_labels_are_aligned_too() -> None:
    a, b = multiple(), multiple()
    columns = [6, 5, 4, 3, 2, 1, 0]
    other = ScoreTable(tuple(b.labels[c] for c in columns), b.videos, b.logits[:, columns], b.present[:, columns])

    assert {row.difference for row in compare(a, other.of_videos(range(39, -1, -1)), resamples=5)} == {0}


def test_videos_that_one_table_has_are_left_out_and_counted() -> None:
    a, b = single(), better(single())

    found = compare(a.of_videos(range(5, 60)), b.of_videos(range(50)), resamples=50)

    assert {(row.videos, row.left_out) for row in found} == {(45, 15)}
    kept = range(5, 50)
    assert [replace(row, left_out=0) for row in found] == compare(a.of_videos(kept), b.of_videos(kept), resamples=50)


def test_a_different_truth_names_the_video() -> None:
    a = single()
    truth = a.truth.copy()
    truth[20] = (truth[20] + 1) % 7
    was, now = a.labels[int(a.truth[20])], a.labels[int(truth[20])]

    with pytest.raises(UsageError, match=rf"^20\.mp4: is '{was}' in one table and '{now}' in the other"):
        compare(a, ScoreTable(a.labels, a.videos, a.logits, truth))


def test_no_label_and_a_label_are_different_truths() -> None:
    a = single()
    truth = a.truth.copy()
    truth[0] = 0

    with pytest.raises(UsageError, match=r"^0\.mp4: is none of the labels in one table and 'label 0' in the other"):
        compare(a, ScoreTable(a.labels, a.videos, a.logits, truth))


def test_different_labels_are_refused_with_an_example() -> None:
    a = single()

    with pytest.raises(UsageError, match=r"^label 'label 7': is in one table only"):
        compare(a, ScoreTable((*a.labels[:-1], "other"), a.videos, a.logits, a.truth))


def test_one_and_several_labels_are_not_compared() -> None:
    a = single()

    with pytest.raises(UsageError, match="several labels"):
        compare(a, ScoreTable(a.labels, a.videos, a.logits, a.present))


def test_no_video_in_common_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^0\.mp4: the tables have no video in common"):
        compare(single().of_videos(range(30)), single().of_videos(range(30, 60)))


def test_a_repeated_video_cannot_be_aligned() -> None:
    with pytest.raises(UsageError, match=r"^1\.mp4: is in a table twice"):
        compare(single(), single().of_videos([*range(1, 60), 1]))


def test_a_table_without_a_labelled_video_is_refused() -> None:
    with pytest.raises(UsageError, match="no video has one of the labels"):
        measure(table_of(np.zeros((2, 3)), np.array([-1, -1])))
    with pytest.raises(UsageError, match="no video has one of the labels"):
        measure(table_of(np.zeros((2, 3)), np.zeros((2, 3), dtype=np.bool_)))


def test_predictions_of_some_labels_miss_the_others() -> None:
    logits = np.full((2, 8), -math.inf)
    logits[:, 1], logits[:, 2] = 1.0, 0.0
    found = values_of(measure(table_of(logits, np.array([2, 5])), resamples=10))

    assert (found["top1"], found["top5"]) == (0, 0.5)
