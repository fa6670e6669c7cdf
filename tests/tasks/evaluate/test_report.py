"""Reports as JSON: written, read again, and read from files that bike 0.1 wrote."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bike_cli.tasks.evaluate.json_values import Estimate
from bike_cli.tasks.evaluate.report import (
    VERSION,
    ClassMetrics,
    Comparison,
    Confusion,
    EvalData,
    EvaluationReport,
    FailedVideo,
    Manifest,
    Metric,
    SplitResult,
    SystemResult,
)
from bike_cli.tasks.evaluate.reproduction import differing_metrics

OLD = {name: Path(__file__).parent / "reports" / f"{name}_0_1.json" for name in ("predictions", "halves")}

CONFUSION = Confusion((0, 0), (0, 1), (1, 1))  # of two videos that run, one taken for one that sits
LATER = {"differing", "p_adjusted", "significant"}  # fields of comparisons since 0.1


def a_report() -> EvaluationReport:
    """A report with a value in every field that 0.1 leaves out or writes as null."""
    manifest = Manifest("tiny", "f1", "cpu", "float32", {"data": ("a.csv",), "merge": False}, {"frames": 8}, {}, 3)
    data = EvalData(("a.csv",), "ab", "cd", 2, 2, (FailedVideo("b.mp4", "damaged", "b.mp4: stops"),), ("sit",))
    classes = (ClassMetrics("run", 2, 0.5, 1.0, 2 / 3, 0.75), ClassMetrics("sit", 0, None, None, None, None))
    system = SystemResult("a", {"top1": Metric(0.5, 0.25, 0.75)}, classes, CONFUSION, {"top1": Estimate(0.5)})
    splits = (
        SplitResult("a", "half 0", 1, 2, {"top1": Estimate(0.5)}, {"top1": Estimate(0.25)}),
        SplitResult("a", "mean ± std", None, None, {"top1": Estimate(0.5, 0.125)}, {"top1": Estimate(0.25, 0.0)}),
    )
    comparison = Comparison("a", "b", "top1", 0.25, -0.5, 0.75, 0.5, 2, 1)
    return EvaluationReport("zeroshot-half", manifest, data, (system,), (comparison,), splits, ("c",))


def test_a_report_comes_back_from_json() -> None:
    rounded = EvaluationReport.from_json(a_report().to_json())

    assert EvaluationReport.from_json(rounded.to_json()) == rounded
    assert rounded.systems[0].per_class[0].f1 == pytest.approx(2 / 3, abs=1e-9)
    assert rounded.splits == a_report().splits
    assert rounded.manifest == a_report().manifest


def test_the_json_has_a_version_and_the_keys_of_0_1() -> None:
    new, old = json.loads(a_report().to_json()), json.loads(OLD["predictions"].read_text())

    assert new.pop("version") == VERSION == 4
    assert new.keys() == old.keys() | {"decided_by"}
    assert new["data"].keys() == old["data"].keys()
    assert new["systems"][0].keys() == old["systems"][0].keys() | {"reliability"}
    assert new["systems"][0]["per_class"][0].keys() == old["systems"][0]["per_class"][0].keys()
    assert new["comparisons"][0].keys() == old["comparisons"][0].keys() | LATER
    assert new["data"]["failed"] == [{"path": "b.mp4", "type": "damaged", "message": "b.mp4: stops"}]
    assert new["splits"][1]["metrics"] == {"top1": 0.5, "top1_std": 0.125}


@pytest.mark.parametrize("name", OLD)
def test_a_file_of_0_1_is_read_whole(name: str) -> None:
    old = json.loads(OLD[name].read_text())

    again = json.loads(EvaluationReport.from_json(OLD[name].read_text()).to_json())

    assert (again.pop("version"), again.pop("decided_by")) == (1, None)
    assert [[row.pop(key) for key in LATER] for row in again["comparisons"]] == [[None] * 3] * len(old["comparisons"])
    made = [system["made_of"] for system in again["systems"] if system["made_of"] is not None]
    assert [(parts.pop("source"), parts.pop("descriptions")) for parts in made] == [(None, None)] * len(made)
    assert [system.pop("reliability") for system in again["systems"]] == [None] * len(again["systems"])
    splits = old.pop("splits"), again.pop("splits")
    for before, now in zip(old["systems"], again["systems"], strict=True):
        pairs = now.pop("confusion")
        cells = [(i, j, n) for i, row in enumerate(before.pop("confusion")) for j, n in enumerate(row) if n]
        assert [*zip(pairs["truth"], pairs["guess"], pairs["videos"], strict=True)] == cells
    assert again == old
    assert splits[1] == [{"official": None, "unseen": [], **split} for split in splits[0]]  # which 0.1 leaves out


def test_values_of_a_file_of_0_1() -> None:
    report = EvaluationReport.from_json(OLD["halves"].read_text())

    assert report.protocol == "zeroshot-half"
    assert report.manifest.arguments["data"] == ("examples/by_shape.csv",)
    assert report.manifest.settings["frames"] == 8
    assert [system.name for system in report.systems] == ["pool tcs", "pool mean"]
    assert report.systems[1].metrics["ece"].high == 0.032994771
    official = report.systems[0].official
    assert official is not None
    assert official["half_top1"] == Estimate(0.925, 0.114564392)
    provenance = report.systems[1].provenance
    assert provenance is not None
    assert (provenance.model, provenance.pool) == ("tiny", "mean")
    assert report.splits[10].metrics["top1"] == Estimate(1.0, 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 5}, "version is 5, and this bike reads up to 4"),
        ({"version": "2"}, "version is '2', and this bike reads up to 4"),
        ({"protocol": None}, "protocol is None, expected a string"),
        ({"seed": 1.5}, "seed is 1.5, expected a whole number"),
        ({"seed": True}, "seed is True, expected a whole number"),
        ({"settings": {"frames": {}}}, r"settings.frames is \{\}, expected a string"),
        ({"systems": [{"name": "a", "metrics": {}}]}, r"systems\[0\].per_class is missing"),
        ({"data": {}}, r"data.files is missing"),
        ({"splits": [{}]}, r"splits\[0\].system is missing"),
    ],
)
def test_what_is_not_a_report_names_the_place(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        EvaluationReport.from_json(json.dumps(json.loads(OLD["predictions"].read_text()) | change))


@pytest.mark.parametrize("text", ["", "[]", "null", "[" * 100_000, "{"])
def test_other_json_is_not_a_report(text: str) -> None:
    with pytest.raises(ValueError, match=r"nested|Expecting|not a JSON object"):
        EvaluationReport.from_json(text)


def test_unknown_keys_are_ignored() -> None:
    old = json.loads(OLD["predictions"].read_text())
    old["systems"][0]["later"] = 1

    assert EvaluationReport.from_json(json.dumps(old | {"later": {}})) == EvaluationReport.from_json(
        OLD["predictions"].read_text()
    )


def test_a_confusion_has_the_pairs_that_have_videos() -> None:
    counts = np.array([[3, 0, 2], [0, 0, 0], [1, 0, 0]])
    truth, guesses = np.array([0, 2, 0, 0, 0, 0]), np.array([2, 0, 0, 2, 0, 0])

    found = Confusion.of_videos(truth, guesses)

    assert found == Confusion.of_matrix(counts) == Confusion((0, 0, 2), (0, 2, 0), (3, 2, 1))
    assert found.matrix(3).tolist() == counts.tolist()
    assert Confusion.of_videos(truth[:0], guesses[:0]).matrix(2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("confusion", "message"),
    [
        ({"truth": [0], "guess": [2], "videos": [1]}, r"a: confusion names places of classes outside 0\.\.1"),
        ({"truth": [-1], "guess": [0], "videos": [1]}, r"a: confusion names places of classes outside 0\.\.1"),
        ({"truth": [0], "guess": [0, 1], "videos": [1]}, "confusion: truth, guess and videos have 1, 2 and 1 entries"),
        ([[1, 1], [0]], "a: confusion is not square; expected a row and a column per class \\(2\\)"),
        ([[1, 1], 3], "a: confusion is not square"),
        ([[1, "x"], [0, 0]], r"systems\[0\].confusion.videos\[1\] is 'x', expected a whole number"),
    ],
)
def test_a_confusion_of_other_classes_is_refused(confusion: object, message: str) -> None:
    document = json.loads(a_report().to_json())
    document["systems"][0]["confusion"] = confusion

    with pytest.raises(ValueError, match=message):
        EvaluationReport.from_json(json.dumps(document))


def test_differing_metrics_name_their_places() -> None:
    before = a_report()
    system = replace(
        before.systems[0], metrics={"top1": Metric(0.5, 0.25, 0.85)}, confusion=Confusion((0,), (0,), (2,))
    )

    assert differing_metrics(before, before) == []
    assert differing_metrics(before, replace(before, systems=(system,))) == [
        "systems[0].metrics.top1.high: 0.75 before, 0.85 now",
        "systems[0].confusion.run as run: 1 before, 2 now",
        "systems[0].confusion.run as sit: 1 before, 0 now",
    ]
    assert differing_metrics(replace(before, systems=(system,)), before)[1:] == [
        "systems[0].confusion.run as run: 2 before, 1 now",
        "systems[0].confusion.run as sit: 0 before, 1 now",
    ]
    assert differing_metrics(before, replace(before, comparisons=()))[0].startswith("comparisons: [{")
    assert differing_metrics(before, replace(before, protocol="standard", systems_left_out=())) == []


def test_intervals_of_older_versions_are_not_compared() -> None:
    old = EvaluationReport.from_json(OLD["predictions"].read_text())
    system = replace(old.systems[0], metrics={key: replace(m, low=0.0) for key, m in old.systems[0].metrics.items()})
    now = replace(old, systems=(system, *old.systems[1:]), version=VERSION)

    assert differing_metrics(old, now) == []
    assert differing_metrics(replace(old, version=VERSION), now)


def test_deviations_over_draws_of_older_versions_are_not_compared() -> None:
    split = SplitResult("a", "mean ± std", None, None, {"top1": Estimate(0.5, 0.1), "top5": Estimate(1.0, 0.0)})
    old = replace(a_report(), protocol="fewshot", splits=(split,), version=2)
    now = replace(old, splits=(replace(split, metrics={"top1": Estimate(0.5)}),), version=VERSION)

    assert differing_metrics(old, now) == []
    assert differing_metrics(replace(old, protocol="zeroshot-half"), now)
    assert differing_metrics(old, replace(now, splits=(replace(split, metrics={"top1": Estimate(0.6)}),)))
