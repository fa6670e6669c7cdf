"""mAP equals that of ActivityNet's official code, digit for digit.

`activitynet.json` has random segments, and the average precisions that `Evaluation/eval_detection.py` of
activitynet/ActivityNet (368ebc8) computes of them. It was ported to Python 3, and ran with NumPy's vectorised sort
turned off (NPY_DISABLE_CPU_FEATURES), which orders equal scores in another way. In `ties`, scores have one decimal, one
label is never detected, one that is detected has no true segment (the official code cannot read it, so it was left out
there), and one video is not annotated.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from bike_cli.config import EvalConfig
from bike_cli.data.detection.detection_sets import read_detection_set
from bike_cli.data.detection.detections import read_detections
from bike_cli.tasks.detection.evaluation import evaluate_detections
from bike_cli.tasks.detection.report import DetectionReport

CASES = json.loads((Path(__file__).parent / "activitynet.json").read_text())
THRESHOLDS = {f"{value:.6g}": value for value in CASES["ties"]["tiou"]}


def report_on(name: str, folder: Path, *, official: bool, turned: bool = False) -> DetectionReport:
    """Return the report on a case, from files as in the challenge; `turned` writes the last result first."""
    database: dict[str, dict[str, object]] = {}
    for video, subset, label, *segment in CASES[name]["true"]:
        record = database.setdefault(video, {"subset": subset, "duration": 60.0, "annotations": []})
        record["annotations"].append({"label": label, "segment": segment})  # type: ignore[attr-defined]
    results: dict[str, list[dict[str, object]]] = {}
    detected = CASES[name]["detected"]
    for video, label, start, end, score in detected[::-1] if turned else detected:
        results.setdefault(video, []).append({"label": label, "segment": [start, end], "score": score})
    (folder / "truth.json").write_text(json.dumps({"database": database}))
    (folder / "results.json").write_text(json.dumps({"version": "VERSION 1.3", "results": results}))
    config = EvalConfig(protocol="detection", official=official, resamples=1)
    return evaluate_detections(
        read_detections(folder / "results.json"), read_detection_set(folder / "truth.json"), config
    )


@pytest.mark.parametrize(("name", "official"), [("ties", True), ("plain", True), ("plain", False)])
def test_average_precision_is_that_of_the_official_code(name: str, official: bool, tmp_path: Path) -> None:
    report = report_on(name, tmp_path, official=official)

    expected = CASES[name]["average_precision"]
    found = {one.label: list(one.by_tiou.values()) for one in report.systems[0].per_class if one.segments}
    assert report.tiou == THRESHOLDS
    assert found.keys() == expected.keys()
    for label, values in expected.items():
        assert found[label] == pytest.approx(values, abs=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_means_are_those_of_both_benchmarks(name: str, tmp_path: Path) -> None:
    report = report_on(name, tmp_path, official=True)

    table = np.array(list(CASES[name]["average_precision"].values()))  # [labels, thresholds]
    at = dict(zip(THRESHOLDS, table.mean(axis=0), strict=True))
    metrics = report.systems[0].metrics
    assert {key: metrics[f"map@{key}"].value for key in at} == pytest.approx(at, abs=1e-9)
    anet = np.mean([value for key, value in at.items() if float(key) >= 0.5])
    thumos = np.mean([at[key] for key in ("0.3", "0.4", "0.5", "0.6", "0.7")])
    assert metrics["map@0.5:0.95"].value == pytest.approx(anet, abs=1e-9)
    assert metrics["map@0.3:0.7"].value == pytest.approx(thumos, abs=1e-9)


def test_a_label_without_a_true_segment_is_left_out_of_map(tmp_path: Path) -> None:
    report = report_on("ties", tmp_path, official=True)

    extra = next(one for one in report.systems[0].per_class if one.label == "only in training")
    assert (extra.segments, extra.detected, extra.average_precision, extra.by_tiou) == (0, 1, None, {})
    assert report.data.classes_without_segments == ("only in training",)


def test_without_the_official_order_ties_do_not_depend_on_the_order_of_the_file(tmp_path: Path) -> None:
    orders = [(official, turned) for official in (False, True) for turned in (False, True)]
    reports = [report_on("ties", tmp_path, official=official, turned=turned) for official, turned in orders]
    one, other, official_one, official_other = (report.systems[0] for report in reports)

    assert one.metrics == other.metrics
    assert official_one.metrics["map@0.5"] != official_other.metrics["map@0.5"]
