"""What is evaluated: the same videos for all systems, and what is named and counted on the way."""

import logging
from dataclasses import replace

import pytest
from worlds import detections_of, truth_of

from bike_cli.config import EvalConfig
from bike_cli.data.detection.detections import DetectedVideo, Detections, ScoredSegment
from bike_cli.errors import UsageError
from bike_cli.records import Failure, Source
from bike_cli.tasks.detection.alignment import align
from bike_cli.tasks.detection.evaluation import evaluate_detections
from bike_cli.tasks.detection.report import DataProblem, DetectionReport

OFFICIAL = EvalConfig(protocol="detection", official=True)


def failure(path: str) -> Failure:
    return Failure(Source.at(path), "damaged", f"{path}: stops early")


def kinds(report: DetectionReport) -> dict[str, tuple[int, str]]:
    return {problem.kind: (problem.count, problem.first) for problem in report.data.problems}


def value(report: DetectionReport, key: str, system: int = 0) -> float:
    return report.systems[system].metrics[key].value


def test_problems_of_annotations_are_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    truth = truth_of(
        [
            [("a", 5.0, 5.0), ("a", 9.0, 2.0), ("a", 9.0, 2.5), ("b", 1.0, 2.0), ("b", 1.0, 2.0)],
            [("a", 30.0, 40.5), ("a", -1.0, 3.0), ("a", 39.0, 40.0005)],
        ]
    )
    found = detections_of([[("a", 0.0, 3.0, 0.5), ("b", 1.0, 2.0, 0.5)], []])

    with caplog.at_level(logging.WARNING):
        report = evaluate_detections(found, truth)

    assert kinds(report) == {
        "zero_length": (1, "'a' at 5-5 s of 0"),
        "reversed": (2, "'a' at 9-2 s of 0"),
        "repeated": (1, "'b' at 1-2 s of 0"),
        "outside": (2, "'a' at 30-40.5 s of 1"),
    }
    assert "truth: 2 true segments end before they start, first 'a' at 9-2 s of 0; left out" in caplog.messages
    assert "truth: 1 true segment has no length, 'a' at 5-5 s of 0; left out" in caplog.messages
    assert report.data.segments == 5


def test_problems_of_detections_are_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    truth = truth_of([[("red circle", 0.0, 10.0), ("blue star", 5.0, 9.0)], [("red circle", 0.0, 4.0)]])
    misspelled = ScoredSegment("red cirle", 0.0, 1.0, 1.0)
    segments = (ScoredSegment("Red  Circle", 0.0, 10.0, 0.9), ScoredSegment("red circle", 3.0, 3.0, 0.8), misspelled)
    videos = (DetectedVideo("0", segments), DetectedVideo("elsewhere.mp4", ()), DetectedVideo("z", (misspelled,)))
    found = Detections("found", videos, origin="found.jsonl")

    with caplog.at_level(logging.WARNING):
        report = evaluate_detections(found, truth)

    assert kinds(report) == {
        "no_detections": (1, "1"),
        "not_annotated": (2, "elsewhere.mp4"),
        "unknown_label": (1, "'red cirle' (the nearest is 'red circle')"),
        "never_detected": (1, "'blue star'"),
        "detected_empty": (1, "'red circle' at 3-3 s of 0"),
    }
    assert report.data.problems[0] == DataProblem("found.jsonl", "no_detections", 1, "1")
    assert "found.jsonl: 2 videos are not annotated, first elsewhere.mp4; left out" in caplog.messages


def test_labels_are_found_in_any_case_and_spacing() -> None:
    truth = truth_of([[("Long jump", 0.0, 10.0)]])

    assert value(evaluate_detections(detections_of([[("long  JUMP", 0.0, 10.0, 1.0)]]), truth), "map@0.95") == 1.0


def test_a_label_that_is_not_annotated_is_wrong_in_all_metrics_but_map() -> None:
    truth = truth_of([[("a", 0.0, 10.0)], []])
    found = detections_of([[("a", 0.0, 10.0, 0.5), ("zebra", 20.0, 30.0, 0.9)], []])

    report = evaluate_detections(found, truth)

    assert (value(report, "map@0.5"), value(report, "frame_f1"), value(report, "segment_precision")) == (
        1.0,
        2 / 3,
        0.5,
    )


def test_a_failed_video_is_left_out_for_all_systems(caplog: pytest.LogCaptureFixture) -> None:
    truth = truth_of([[("a", 0.0, 10.0)], [("a", 0.0, 10.0)]])
    whole = detections_of([[("a", 0.0, 10.0, 1.0)], []], name="whole")
    partial = Detections("partial", whole.videos[:1], (failure("1"), failure("other.mp4")))

    alone = evaluate_detections(whole, truth)
    both = evaluate_detections([whole, partial], truth)

    assert value(alone, "segment_recall") == 0.5
    assert value(both, "segment_recall") == value(both, "segment_recall", system=1) == 1.0
    assert (both.data.videos, [video.path for video in both.data.failed]) == (1, ["1"])
    assert "partial: 1 video failed, first 1; left out for all systems" in caplog.messages


def test_the_official_code_counts_what_bike_leaves_out() -> None:
    truth = truth_of([[("a", 0.0, 10.0), ("a", 20.0, 20.0)]])
    extra = DetectedVideo("elsewhere", (ScoredSegment("a", 0.0, 1.0, 0.9),))
    found = detections_of([[("a", 0.0, 10.0, 0.5)]])
    found = replace(found, videos=(*found.videos, extra))

    assert value(evaluate_detections(found, truth), "map@0.5") == 1.0
    official = evaluate_detections(found, truth, OFFICIAL)
    # One of two true segments, after a wrong one.
    assert value(official, "map@0.5") == 0.25
    assert (value(official, "segment_precision"), value(official, "segment_recall"), official.data.videos) == (1, 1, 1)


@pytest.mark.parametrize(
    ("annotated", "read", "end", "expected"),
    [
        (30.0, 20.0, 9.0, 30.0),
        (None, 20.0, 9.0, 20.0),
        (None, None, 9.0, 10.0),
        (None, None, 15.0, 15.0),
        (0.0, 5.0, 9.0, 10.0),
    ],
)
def test_lengths_are_annotated_or_read_or_reach_to_the_last_segment(
    annotated: float | None, read: float | None, end: float, expected: float
) -> None:
    truth = truth_of([[("a", 0.0, 10.0)]], duration_s=annotated)
    found = detections_of([[("a", 0.0, end, 1.0)]])
    found = replace(found, videos=(found.videos[0]._replace(duration_s=read),))

    aligned = align([found], truth)

    assert aligned.durations.tolist() == [expected]
    is_unknown = annotated in (None, 0.0) and (read is None or annotated == 0.0)
    assert [problem.kind for problem in aligned.problems] == ["no_duration"] * is_unknown


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (
            Detections("found", (), (failure("0"), failure("1"))),
            "truth: every video failed; fix the first",
        ),
        (
            detections_of([[("z", 0.0, 1.0, 1.0)]]),
            "found: has no label in common with truth; the nearest to",
        ),
        (
            Detections("found", (DetectedVideo("x", ()),)),
            "found: has no video in common with truth: x is",
        ),
    ],
)
def test_nothing_to_evaluate_is_an_error(found: Detections, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        evaluate_detections(found, truth_of([[("a", 0.0, 1.0)], [("a", 0.0, 2.0)]]))


def test_segments_without_length_alone_are_an_error() -> None:
    with pytest.raises(UsageError, match="truth: no true segment of these videos has a length"):
        evaluate_detections(detections_of([[]]), truth_of([[("a", 1.0, 1.0)]]))


def test_no_system_is_an_error() -> None:
    with pytest.raises(ValueError, match="detections is empty"):
        evaluate_detections([], truth_of([[("a", 0.0, 1.0)]]))
