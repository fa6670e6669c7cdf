"""Metrics of detections against slow loops in plain Python, which share no code with them."""

from collections.abc import Iterator, Sequence
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import DURATION_S, World, detections_of, truth_of, world

from bike_cli.config import EvalConfig
from bike_cli.config.thresholds import Thresholds
from bike_cli.data.detection.annotation_formats import TrueSegment
from bike_cli.data.detection.detections import ScoredSegment
from bike_cli.tasks.detection.alignment import align
from bike_cli.tasks.detection.evaluation import evaluate_detections
from bike_cli.tasks.detection.matching import match_segments
from bike_cli.tasks.detection.metrics import outcome_of, values_of
from bike_cli.tasks.detection.segments import Segments

TIOU = (0.3, 0.5, 0.75)
SEEDS = range(8)


# -- the oracle --------------------------------------------------------------------------------------------------------


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return shared / ((a[1] - a[0]) + (b[1] - b[0]) - shared)


def matches(one: World, label: str, threshold: float) -> list[tuple[float, int, TrueSegment | None, ScoredSegment]]:
    """Return the detected segments of a label, best first, with the true segment that each one takes."""
    left = {video: [s for s in segments if s.label == label] for video, segments in enumerate(one.true)}
    found = [(-s.score, v, s.start_s, s.end_s, s) for v, some in enumerate(one.detected) for s in some]
    rows = []
    for _, video, _, _, segment in sorted(row for row in found if row[4].label == label):
        best, most = None, threshold
        for true in sorted(left[video], key=lambda s: (s.start_s, s.end_s)):
            value = overlap((true.start_s, true.end_s), (segment.start_s, segment.end_s))
            if value >= most and (best is None or value > most):
                best, most = true, value
        if best is not None:
            left[video].remove(best)
        rows.append((segment.score, video, best, segment))
    return rows


def average_precision(hits: list[bool], positives: int) -> float:
    """Return the area under the precisions, each the largest at its recall or a greater one."""
    precisions = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
    return sum(max(precisions[i:]) for i, hit in enumerate(hits) if hit) / positives


def mean_average_precision(one: World, threshold: float) -> float:
    labels = sorted({s.label for segments in one.true for s in segments})
    values = []
    for label in labels:
        positives = sum(s.label == label for segments in one.true for s in segments)
        values.append(average_precision([row[2] is not None for row in matches(one, label, threshold)], positives))
    return sum(values) / len(values)


def labels_of(one: World) -> set[str]:
    true = {s.label for segments in one.true for s in segments}
    return true | {s.label for segments in one.detected for s in segments}


def covered(segments: Sequence[TrueSegment] | Sequence[ScoredSegment], label: str | None, step: int) -> bool:
    middle = (2 * step + 1) * 50  # milliseconds
    return any(round(1000 * s.start_s) <= middle < round(1000 * s.end_s) for s in segments if label in (None, s.label))


def frame_metrics(one: World) -> dict[str, float]:
    labels = labels_of(one)
    both = true = detected = nothing_both = nothing_true = nothing_detected = free = free_labelled = 0
    for segments, found in zip(one.true, one.detected, strict=True):
        for step in range(round(10 * DURATION_S)):
            for label in labels:
                is_true, is_detected = covered(segments, label, step), covered(found, label, step)
                both, true, detected = both + (is_true and is_detected), true + is_true, detected + is_detected
            is_true, is_detected = covered(segments, None, step), covered(found, None, step)
            nothing_true += not is_true
            nothing_detected += not is_detected
            nothing_both += not is_true and not is_detected
            free += not segments
            free_labelled += not segments and is_detected
    return {
        "frame_f1": 2 * both / (true + detected),
        "nothing_precision": nothing_both / nothing_detected,
        "nothing_recall": nothing_both / nothing_true,
        "label_free_detected": free_labelled / free,
    }


def segment_metrics(one: World) -> dict[str, float]:
    labels = labels_of(one)
    rows = [row for label in labels for row in matches(one, label, 0.5)]
    pairs = [(row[2], row[3]) for row in rows if row[2] is not None]
    starts = [abs(true.start_s - found.start_s) for true, found in pairs]
    ends = [abs(true.end_s - found.end_s) for true, found in pairs]
    return {
        "segment_precision": len(pairs) / len(rows),
        "segment_recall": len(pairs) / sum(map(len, one.true)),
        "boundary_error_s": median([*starts, *ends]),
    }


def expected(one: World) -> dict[str, float]:
    maps = {f"map@{t:g}": mean_average_precision(one, t) for t in TIOU}
    return {"map@mean": sum(maps.values()) / len(maps)} | maps | segment_metrics(one) | frame_metrics(one)


def computed(one: World) -> dict[str, float]:
    config = EvalConfig(protocol="detection", tiou=",".join(map(str, TIOU)), resamples=1)
    metrics = evaluate_detections(one.detections, one.truth, config).systems[0].metrics
    return {key: metric.value for key, metric in metrics.items()}


# -- all videos --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_metrics_equal_plain_loops(seed: int) -> None:
    one = world(seed)

    assert computed(one) == pytest.approx(expected(one), abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_metrics_with_ties_of_scores_and_overlaps_equal_plain_loops(seed: int) -> None:
    one = world(seed, labels=2, decimals=1, grid=2.0)

    assert computed(one) == pytest.approx(expected(one), abs=1e-9)


def test_many_pairs_of_one_video_are_matched_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    one = world(3, videos=2, labels=1)
    whole = computed(one)
    monkeypatch.setattr("bike_cli.tasks.detection.matching.MOST_PAIRS", 3)

    assert computed(one) == whole


# -- resamples ---------------------------------------------------------------------------------------------------------


def drawn(one: World, counts: Sequence[int]) -> World:
    """Return a world with as many copies of each video as it is drawn."""
    places = [i for i, count in enumerate(counts) for _ in range(count)]
    return World([one.true[i] for i in places], [one.detected[i] for i in places])


def draws(seed: int, videos: int) -> Iterator[list[int]]:
    rng = np.random.default_rng(seed)
    yield [1] * videos
    yield from (np.bincount(rng.integers(0, videos, videos), minlength=videos).tolist() for _ in range(6))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_resample_has_the_metrics_of_copies_of_its_videos(seed: int) -> None:
    one = world(seed, decimals=6)  # ties between videos would be broken by the place of a copy
    aligned = align([one.detections], one.truth)
    outcome = outcome_of(aligned, aligned.detected[0], Thresholds.parse("0.3,0.5,0.75"), official=False)
    for counts in draws(seed, len(one.true)):
        copies = drawn(one, counts)
        if not any(copies.true):
            continue

        values = values_of(outcome, np.array([counts], dtype=np.float64))

        found = {key: float(value[0]) for key, value in values.items() if not np.isnan(value[0])}
        assert found == pytest.approx(computed(copies), abs=1e-9)


# -- properties --------------------------------------------------------------------------------------------------------

TIMES = st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda pair: (float(min(pair)), float(max(pair)) + 1))


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0, 1]), TIMES), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0, 1]), TIMES, st.integers(0, 3)), max_size=15),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_matches_are_of_one_video_and_label_and_each_segment_is_used_once(
    true: list[tuple[int, int, tuple[float, float]]],
    detected: list[tuple[int, int, tuple[float, float], int]],
    official: bool,
) -> None:
    a = Segments.of_rows((video, label, *times, 1.0) for video, label, times in true)
    b = Segments.of_rows((video, label, *times, float(score)) for video, label, times, score in detected)

    ranked = match_segments(a, b, TIOU, official=official)

    assert (np.diff(ranked.detected.labels) >= 0).all()
    for k, threshold in enumerate(TIOU):
        taken = ranked.partners[k][ranked.partners[k] >= 0]
        assert len(set(taken.tolist())) == len(taken)
        for i, j in enumerate(ranked.partners[k].tolist()):
            if j >= 0:
                found, partner = ranked.detected, ranked.true
                assert (found.videos[i], found.labels[i]) == (partner.videos[j], partner.labels[j])
                bounds = ((partner.starts[j], partner.ends[j]), (found.starts[i], found.ends[i]))
                assert overlap(*bounds) >= threshold


def test_perfect_detections_are_perfect() -> None:
    one = world(1)
    perfect = [[(*segment, 1.0) for segment in segments] for segments in one.true]

    report = evaluate_detections(detections_of(perfect), one.truth)

    metrics = {key: metric.value for key, metric in report.systems[0].metrics.items()}
    wrong = ("boundary_error_s", "label_free_detected")
    assert metrics == {key: 0.0 if key in wrong else 1.0 for key in metrics}
    assert len(metrics) == 2 + 12 + 7


def test_what_is_undefined_is_left_out() -> None:
    truth = truth_of([[("a", 0.0, DURATION_S)]])

    nothing = evaluate_detections(detections_of([[]]), truth).systems[0].metrics

    assert nothing["map@0.5"].value == nothing["frame_f1"].value == nothing["segment_recall"].value == 0
    assert nothing["nothing_precision"].value == 0
    assert not {"segment_precision", "boundary_error_s", "label_free_detected", "nothing_recall"} & nothing.keys()
