"""The report of detections: written, read again, intervals, comparisons and challenge results."""

import json
import time

import numpy as np
import pytest
from worlds import detections_of, truth_of, world

from bike_cli.config import EvalConfig
from bike_cli.data.detection.detection_sets import AnnotatedVideo, DetectionSet
from bike_cli.data.detection.matching import match_videos
from bike_cli.errors import UsageError
from bike_cli.records import Failure, Segment, Source, Timeline
from bike_cli.tasks.detection.evaluation import evaluate_detections
from bike_cli.tasks.detection.metrics import DETECTION_METRICS
from bike_cli.tasks.detection.report import DetectionReport
from bike_cli.tasks.detection.results import activitynet_results
from bike_cli.tasks.evaluate.report import EvaluationReport
from bike_cli.tasks.evaluate.reproduction import any_report_from_json, differing_metrics


def two_systems(**settings: object) -> DetectionReport:
    """Return a report on a system that shifts every segment by up to a second, and on one that is perfect."""
    one = world(4, videos=12)
    perfect = detections_of([[(*segment, 1.0) for segment in segments] for segments in one.true], name="perfect")
    config = EvalConfig(protocol="detection", **settings)  # type: ignore[arg-type]
    return evaluate_detections([one.detections, perfect], one.truth, config)


# -- JSON -------------------------------------------------------------------------------------------------------------


def test_a_report_comes_back_from_json() -> None:
    report = two_systems()

    again = DetectionReport.from_json(report.to_json())

    assert DetectionReport.from_json(again.to_json()) == again
    assert again.data == report.data
    assert again.manifest == report.manifest
    assert again.systems[0].metrics.keys() == report.systems[0].metrics.keys()
    assert any_report_from_json(json.dumps(json.loads(report.to_json()), indent=1)) == again
    document = json.loads(report.to_json())
    assert (document["version"], document["command"], document["protocol"]) == (1, "eval", "detection")
    assert document["settings"] == {
        "protocol": "detection",
        "seed": 0,
        "resamples": 1000,
        "official": False,
        "tiou": "auto",
    }


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"version": 2}, "version is 2, and this bike reads up to 1"),
        ({"tiou": {"0.5": "half"}}, "tiou.0.5 is 'half', expected a number"),
        ({"systems": [{"name": "a"}]}, r"systems\[0\].metrics is missing"),
    ],
)
def test_what_is_not_a_report_names_the_place(change: dict[str, object], problem: str) -> None:
    document = json.loads(two_systems(resamples=1).to_json())

    with pytest.raises(ValueError, match=problem):
        DetectionReport.from_json(json.dumps(document | change))
    with pytest.raises(ValueError, match=r"data.classes_without_videos|is missing|expected"):
        EvaluationReport.from_json(json.dumps({**document, "version": 3}))


def test_a_repeated_evaluation_has_the_same_digits_and_another_seed_has_others() -> None:
    before = DetectionReport.from_json(two_systems().to_json())

    assert differing_metrics(before, two_systems()) == []
    others = differing_metrics(before, two_systems(seed=1))
    assert any(text.startswith("systems[0].metrics.map@0.3:0.7.low: ") for text in others)
    assert not any(".value: " in text for text in others)


# -- intervals and comparisons ----------------------------------------------------------------------------------------


def test_intervals_contain_their_values_and_shrink_with_more_videos() -> None:
    one = world(4, videos=12)
    few = evaluate_detections(one.detections, one.truth)
    many_true, many_detected = one.true * 9, one.detected * 9
    many = evaluate_detections(detections_of(many_detected), truth_of(many_true))

    for key, metric in few.systems[0].metrics.items():
        more = many.systems[0].metrics[key]
        assert metric.low <= metric.value <= metric.high
        assert more.value == pytest.approx(metric.value, abs=0.1)
        if key != "label_free_detected":
            assert more.high - more.low < metric.high - metric.low, key


def test_another_system_is_compared_with_the_first_and_one_metric_decides() -> None:
    report = two_systems()

    rows = {row.metric: row for row in report.comparisons}
    first, second = (system.metrics for system in report.systems)
    assert rows.keys() == first.keys()
    for key, row in rows.items():
        assert row.difference == pytest.approx(second[key].value - first[key].value, abs=1e-9)
        assert row.low <= row.difference <= row.high
        assert (row.significant is not None) == (key == "map@0.5:0.95")
    assert report.decided_by == "map@0.5:0.95"
    assert rows["map@0.5:0.95"].significant
    assert rows["boundary_error_s"].p is None
    assert {row.differing for row in report.comparisons} == {12}


def test_a_system_does_not_differ_from_itself() -> None:
    one = world(4, videos=12)

    report = evaluate_detections([one.detections, one.detections], one.truth)

    assert {(row.difference, row.differing) for row in report.comparisons} == {(0.0, 0)}
    assert not any(row.significant for row in report.comparisons)


def test_the_mean_of_a_list_or_the_only_threshold_decides() -> None:
    assert two_systems(tiou="0.3,0.4", resamples=1).decided_by == "map@mean"
    assert two_systems(tiou="0.3", resamples=1).decided_by == "map@0.3"


def test_classes_have_the_numbers_of_their_segments() -> None:
    truth = truth_of([[("b", 0.0, 10.0), ("a", 0.0, 10.0), ("b", 20.0, 30.0)]])
    found = detections_of([[("b", 0.0, 10.0, 0.5), ("zebra", 0.0, 1.0, 0.5)]])

    rows = evaluate_detections(found, truth).systems[0].per_class

    assert [(row.label, row.segments, row.detected, row.average_precision) for row in rows] == [
        ("a", 1, 0, 0.0),
        ("b", 2, 1, 0.5),
        ("zebra", 0, 1, None),
    ]


def test_every_metric_has_a_name_and_a_meaning() -> None:
    assert len({metric.name for metric in DETECTION_METRICS.values()}) == len(DETECTION_METRICS) == 7


# -- results of the challenge -----------------------------------------------------------------------------------------


def timeline(path: str, *segments: Segment) -> Timeline:
    return Timeline(Source.at(path), ("a",), segments, np.array([0.0, 9.0]), None, "tiny", 2.0, 18, duration_s=9.0)


def test_answers_become_results_of_the_challenge_that_mean_the_same() -> None:
    answers = [
        timeline("x/v_one.mp4", Segment("a", 1.0, 2.5, 0.75, 1.5), Segment("a", 4.0, 5.0, 0.5, 4.5)),
        Failure(Source.at("x/v_bad.mp4"), "damaged", "stops"),
        timeline("x/v_two.mp4"),
    ]

    results = activitynet_results(answers)

    assert results == {
        "version": "VERSION 1.3",
        "results": {
            "one": [
                {"label": "a", "score": 0.75, "segment": [1.0, 2.5]},
                {"label": "a", "score": 0.5, "segment": [4.0, 5.0]},
            ],
            "two": [],
        },
        "external_data": {"used": True, "details": "tiny"},
    }
    videos = tuple(AnnotatedVideo(name, name, ()) for name in ("one", "two"))
    assert match_videos([*results["results"]], DetectionSet("t", ("a",), videos, by_id=True), origin="r") == {
        "one": 0,
        "two": 1,
    }


def test_two_videos_of_one_id_are_refused() -> None:
    with pytest.raises(UsageError, match=r"b/v_one.mkv: has the id 'one', like a/one.mp4"):
        activitynet_results([timeline("a/one.mp4"), timeline("b/v_one.mkv")])


# -- speed ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_100_000_segments_of_200_labels_take_less_than_20_seconds() -> None:
    rng = np.random.default_rng(0)
    videos, labels = 5000, [f"label {i}" for i in range(200)]
    true: list[list[tuple[object, ...]]] = [[] for _ in range(videos)]
    found: list[list[tuple[object, ...]]] = [[] for _ in range(videos)]
    for _ in range(20_000):
        video, label, start, length = rng.integers(videos), rng.integers(200), rng.uniform(0, 30), rng.uniform(1, 9)
        true[video].append((labels[label], start, start + length))
        for _ in range(5):
            shifted = start + rng.normal(0, 1)
            found[video].append((labels[label], shifted, shifted + length, rng.random()))
    truth, detections = truth_of(true), detections_of(found)

    before = time.process_time()
    report = evaluate_detections(detections, truth)

    assert time.process_time() - before < 20
    assert report.systems[0].detected == 100_000
