"""`--official`: metrics equal the values of the official code, or of its scripts rewritten as plain loops."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bike_cli.config import AttributeConfig, EvalConfig, Protocol
from bike_cli.data.labelled.eval_sets import NONE
from bike_cli.data.labelled.eval_sets import EvalSet as Truth
from bike_cli.errors import UsageError
from bike_cli.records import Sample, Source
from bike_cli.tasks.evaluate.metrics import mean_average_precision
from bike_cli.tasks.evaluate.official import OfficialInputs, check_attributes, official_metrics
from bike_cli.tasks.evaluate.report import EvaluationReport
from bike_cli.tasks.evaluate.score_table import ScoreTable
from bike_cli.tasks.evaluate.summary import SystemScores, check_protocol, describe_data, manifest_of, summarise

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.exists(), reason="the official code's values are not here")
PERCENT = 1e-4
NO_FRAMES, NO_CLASSES = np.zeros((0, 1, 1)), np.zeros((0, 1))

Floats = NDArray[np.float64]


def table_of(views: NDArray[np.float32], truth: NDArray[np.int64] | NDArray[np.bool_]) -> ScoreTable:
    labels, videos = (tuple(str(i) for i in range(views.shape[axis])) for axis in (2, 0))
    return ScoreTable(labels, videos, views.mean(axis=1).astype(np.float64), truth)


def metrics_of(
    protocol: Protocol, views: Floats, truth: object, *, attributes: Floats | None = None, batch: int = 16
) -> dict[str, float]:
    """Return the official metrics of view cosines, in per cent."""
    given = views.astype(np.float32)
    official = OfficialInputs(given, NO_FRAMES, NO_CLASSES, attributes)
    config = EvalConfig(protocol=protocol, official=True, official_batch=batch)
    found = official_metrics(table_of(given, np.asarray(truth)), official, config)
    return {name: 100 * metric.value for name, metric in found.items()}


def golden_chain(name: str) -> dict[str, object]:
    chain: dict[str, object] = json.loads((GOLDEN / "golden_map.json").read_text())[name]
    return chain


# -- one protocol after another --------------------------------------------------------------------------------------


@needs_golden
@pytest.mark.parametrize("head", ["None_DP", "Transf_VCS"])
def test_standard_is_what_the_test_script_prints(head: str) -> None:
    with np.load(GOLDEN / "golden_model.npz", allow_pickle=False) as file:
        views, labels, printed = file[f"view_logits_{head}"], file["video_labels"], file[f"test_prec_{head}_12view"]

    assert metrics_of("standard", views, labels) == pytest.approx({"top1": printed[0], "top5": printed[1]}, abs=PERCENT)


@needs_golden
def test_attributes_that_count_have_the_metrics_of_the_official_script() -> None:
    with np.load(GOLDEN / "golden_model.npz", allow_pickle=False) as file:
        video, attributes = file["logits_Transf_VCS"], file["attr_logits"].astype(np.float64)
        labels, fused, top1 = file["video_labels"], file["fusion_probs"], file["attr_top1"]

    found = metrics_of("standard", video[:, None], labels, attributes=attributes)

    assert set(found) == {"top1", "top5", "attributes_top1", "attributes_top5", "fused_top1"}
    assert found["attributes_top1"] == pytest.approx(float(np.ravel(top1)[0]), abs=PERCENT)
    assert found["fused_top1"] == pytest.approx(100 * (fused.argmax(axis=1) == labels).mean(), abs=PERCENT)


def test_fused_is_neither_branch_alone() -> None:
    """Each branch prefers a different wrong class; the correct one is second in both."""
    views = np.array([[[0.9, 0.8, -0.9]]])
    attributes = np.array([[-0.9, 0.8, 0.9]])

    found = metrics_of("standard", views, np.array([1]), attributes=attributes)

    assert (found["top1"], found["attributes_top1"], found["fused_top1"]) == (0, 0, 100)


@needs_golden
def test_charades_has_only_the_running_map() -> None:
    """The script prints no other; see the table in docs/evaluate.md: 38.2 and 46.6."""
    chain = golden_chain("charades_chain")
    views, present = np.array(chain["view_logits"]), np.array(chain["targets"]) > 0

    found = metrics_of("multilabel", views, present, batch=8)

    assert found == pytest.approx({"running_map": chain["reported_mAP_percent"]}, abs=PERCENT)
    assert round(found["running_map"], 1) == 38.2
    assert round(100 * mean_average_precision(views.mean(axis=1), present), 1) == 46.6
    page = (Path(__file__).parents[3] / "docs" / "evaluate.md").read_text(encoding="utf-8")
    assert "| 38.2 and 46.6 |" in page


@needs_golden
def test_activitynet_has_top1_and_map_after_three_softmaxes() -> None:
    chain = golden_chain("anet_chain")

    found = metrics_of("anet", np.array(chain["view_logits"]), np.array(chain["labels"]))

    assert found["map"] == pytest.approx(chain["mAP_percent"], abs=PERCENT)
    assert found["top1"] == pytest.approx(chain["top1_validate"], abs=PERCENT)


@needs_golden
@pytest.mark.parametrize("case", ["A", "B_class4_absent"])
def test_zero_shot_metrics_are_those_of_the_official_script(case: str) -> None:
    with np.load(GOLDEN / "golden_zeroshot.npz", allow_pickle=False) as file:
        frames, classes, truth = (
            file[f"{case}_{name}"] for name in ("frame_features", "class_features_normalised", "labels")
        )
    printed = json.loads((GOLDEN / "golden_zeroshot.json").read_text())[case]
    views = np.zeros((len(truth), 1, len(classes)), dtype=np.float32)  # which do not count
    official = OfficialInputs(views, frames.astype(np.float64), classes.astype(np.float64))

    full, halves = (
        official_metrics(table_of(views, truth), official, EvalConfig(protocol=protocol, official=True))
        for protocol in ("zeroshot-full", "zeroshot-half")
    )

    assert [100 * full[f"top{k}"].value for k in (1, 5)] == pytest.approx([printed["full_top1"], printed["full_top5"]])
    for name in ("top1", "top5"):
        assert 100 * halves[f"half_{name}"].value == pytest.approx(printed[f"half_{name}_mean"], abs=PERCENT)
        assert 100 * (halves[f"half_{name}"].std or 0) == pytest.approx(printed[f"half_{name}_std"], abs=PERCENT)


# -- the splits of Kinetics-600 --------------------------------------------------------------------------------------


def softmaxed(row: Sequence[float]) -> list[float]:
    powers = [math.exp(value) for value in row]
    return [power / sum(powers) for power in powers]


def script_of_one_split(
    views: Sequence[Sequence[Sequence[float]]], truth: Sequence[int], classes: Sequence[int]
) -> dict[str, float]:
    """Do what test.py does on a list of its own: softmax, mean over views, softmax, share among the k best."""
    hits = {1: 0, 5: 0}
    for video, label in zip(views, truth, strict=True):
        of_views = [softmaxed([view[c] for c in classes]) for view in video]
        mean = [sum(column) / len(of_views) for column in zip(*of_views, strict=True)]
        order = sorted(range(len(classes)), key=lambda i: -softmaxed(mean)[i])
        for k in hits:
            hits[k] += label in [classes[i] for i in order[:k]]
    return {f"top{k}": count / len(truth) for k, count in hits.items()}


class Splits:
    """Three splits of 14 classes, 7 or so each; a video in two of them, one that could not be read, one of none."""

    classes = (tuple(range(7)), tuple(range(4, 11)), (0, 3, 8, 9, 10, 11, 12, 13))

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        labels, splits = list[int](), [list[int]() for _ in self.classes]
        for own, classes in zip(splits, self.classes, strict=True):
            for label in rng.choice(classes[:-1], 30).tolist():  # the last has no video, and is a candidate
                own.append(len(labels))
                labels.append(label)
        splits[1].append(splits[0][0])
        labels[splits[0][0]] = 5  # of both
        splits[2].append(len(labels))
        labels.append(NONE)
        samples = tuple(Sample(Source.at(f"{i}.mp4"), label) for i, label in enumerate(labels))
        names = tuple(f"class {i}" for i in range(14))
        self.tested = Truth(names, names, samples, splits=tuple(map(tuple, splits)), candidates=self.classes)
        self.kept = [i for i in range(len(labels)) if i != splits[0][3]]
        self.truth = np.array([labels[i] for i in self.kept])
        self.views = rng.normal(0, 0.3, (len(self.kept), 3, 14)).astype(np.float32)

    def printed(self) -> list[dict[str, float]]:
        found = []
        for places, classes in zip(self.tested.splits, self.classes, strict=True):
            rows = [row for row, place in enumerate(self.kept) if place in places and self.truth[row] != NONE]
            found.append(script_of_one_split(self.views[rows].tolist(), self.truth[rows].tolist(), classes))
        return found

    def report(self) -> EvaluationReport:
        logits = 100 * self.views.mean(axis=1).astype(np.float64)
        videos = tuple(self.tested.samples[i].source.id for i in self.kept)
        table = ScoreTable(self.tested.labels, videos, logits, self.truth)
        official = OfficialInputs(self.views, NO_FRAMES, NO_CLASSES)
        config = EvalConfig(protocol="k600", official=True, resamples=10)
        data = describe_data(self.tested, [], [], len(self.kept))
        manifest = manifest_of(config, engine=None, model="tiny")
        systems = [SystemScores("a", table, official)]
        return summarise(systems, self.tested, self.kept, config, data=data, manifest=manifest)


def test_each_split_is_evaluated_among_its_own_classes() -> None:
    splits = Splits()

    rows = splits.report().splits

    for row, printed in zip(rows[:3], splits.printed(), strict=True):
        assert {name: metric.value for name, metric in (row.official or {}).items()} == pytest.approx(printed)
    assert [row.classes for row in rows[:3]] == [7, 7, 8]
    assert [row.videos for row in rows[:3]] == [29, 31, 30]


def test_splits_have_a_mean_and_the_spread_of_a_population() -> None:
    splits = Splits()

    report = splits.report()

    official, last = report.systems[0].official, report.splits[-1].official
    assert official is not None
    assert last is not None
    for name in ("top1", "top5"):
        printed = [one[name] for one in splits.printed()]
        mean = sum(printed) / 3
        deviation = math.sqrt(sum((one - mean) ** 2 for one in printed) / 3)
        for metric in (official[f"splits_{name}"], last[name]):
            assert (metric.value, metric.std) == pytest.approx((mean, deviation))
    assert set(official) == {"splits_top1", "splits_top5"}


def test_splits_without_official_are_scored_among_their_classes() -> None:
    splits = Splits()

    rows = splits.report().splits

    for row, places, classes in zip(rows, splits.tested.splits, splits.classes, strict=False):
        own = [i for i, place in enumerate(splits.kept) if place in places and splits.truth[i] != NONE]
        means = splits.views.mean(axis=1)
        right = [max(classes, key=lambda c, i=i: means[i, c]) == splits.truth[i] for i in own]  # type: ignore[misc]
        assert row.metrics["top1"].value == pytest.approx(sum(right) / len(own))


def test_a_split_without_a_video_that_can_be_read_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    splits = Splits()
    splits.kept = [i for i in splits.kept if i not in splits.tested.splits[1]]
    splits.truth = np.array([splits.tested.samples[i].label for i in splits.kept])
    splits.views = splits.views[: len(splits.kept)]

    report = splits.report()

    assert "split 2: none of its 31 videos can be evaluated, so it is left out" in caplog.text
    assert [row.name for row in report.splits] == ["split 1", "split 3", "mean ± std"]


# -- what the official code has no metric for -------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["zeroshot-full", "zeroshot-half", "k600", "multilabel", "anet"])
def test_attributes_that_count_are_refused_where_the_official_code_has_none(protocol: Protocol) -> None:
    config = EvalConfig(protocol=protocol, official=True)

    with pytest.raises(
        UsageError, match=f"^--official: the official code has no attributes in the protocol {protocol}"
    ):
        check_attributes(config, 0.3)
    check_attributes(config, 0)
    check_attributes(EvalConfig(protocol=protocol), 0.3)


def test_attributes_that_count_are_reported_in_the_standard_protocol() -> None:
    check_attributes(EvalConfig(official=True), 0.3)


@pytest.mark.parametrize(
    "attributes", [AttributeConfig(attribute_weight=0.2), AttributeConfig(attribute_model="large")]
)
def test_attributes_that_are_asked_for_are_refused_before_a_model_is_loaded(attributes: AttributeConfig) -> None:
    splits = Splits()

    with pytest.raises(UsageError, match=r"^--official: .* give --attribute-weight 0"):
        check_protocol(EvalConfig(protocol="k600", official=True, attributes=attributes), splits.tested)


# -- the hash of what was evaluated -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.mp4", "\udcff.mp4", "\udcff\ud800.mp4"])
def test_every_name_has_a_hash(name: str) -> None:
    tested = Truth(("run",), ("run",), (Sample(Source(Path("a"), name), 0),))

    assert len(describe_data(tested, [], [], 1).sha256) == 64
    assert describe_data(tested, [], [], 1).sha256 != describe_data(Truth(("run",), ("run",), ()), [], [], 1).sha256
