"""Official metrics equal what the official code printed."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bike_cli.config import EvalConfig
from bike_cli.errors import UsageError
from bike_cli.tasks.evaluate.metrics import average_precisions, hits_among, mean_average_precision, softmax
from bike_cli.tasks.evaluate.official import (
    OfficialInputs,
    official_average_precisions,
    official_fusion,
    official_map,
    official_metrics,
    official_part,
    official_test_probabilities,
    official_zeroshot_half,
    official_zeroshot_probabilities,
    running_map,
    running_maps,
)
from bike_cli.tasks.evaluate.protocols import Part, candidates_of_halves, half_draws, over_splits, zeroshot_half
from bike_cli.tasks.evaluate.score_table import ScoreTable

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.exists(), reason="the official code's values are not here")
PERCENT = 1e-4
ZEROSHOT = pytest.mark.parametrize("case", ["A", "B_class4_absent"])
HEADS = pytest.mark.parametrize("head", ["None_DP", "None_VCS", "Transf_DP", "Transf_VCS"])

Floats = NDArray[np.float64]


def percent(share: float) -> float:
    return 100 * share


def table_of(logits: Floats, truth: NDArray[np.int64] | NDArray[np.bool_]) -> ScoreTable:
    labels, videos = (tuple(str(i) for i in range(n)) for n in reversed(logits.shape))
    return ScoreTable(labels, videos, logits, truth)


# -- zero-shot, raw frames --------------------------------------------------------------------------------------------


class Zeroshot:
    """The inputs and outputs of one golden case."""

    def __init__(self, case: str) -> None:
        with np.load(GOLDEN / "golden_zeroshot.npz", allow_pickle=False) as file:
            self.frames = file[f"{case}_frame_features"].astype(np.float64)
            self.classes = file[f"{case}_class_features_normalised"].astype(np.float64)
            self.truth = file[f"{case}_labels"]
        self.printed = json.loads((GOLDEN / "golden_zeroshot.json").read_text())[case]
        self.table = table_of(np.zeros((len(self.truth), len(self.classes))), self.truth)


@needs_golden
@ZEROSHOT
def test_all_classes_are_scored_as_the_official_code_does(case: str) -> None:
    golden = Zeroshot(case)

    probabilities = official_zeroshot_probabilities(golden.frames, golden.classes)

    for k in (1, 5):
        accuracy = percent(hits_among(probabilities, golden.truth, k).mean())
        assert accuracy == pytest.approx(golden.printed[f"full_top{k}"], abs=PERCENT)


@needs_golden
@ZEROSHOT
def test_halves_are_drawn_as_the_official_code_does(case: str) -> None:
    golden = Zeroshot(case)

    draws = half_draws(golden.printed["num_classes"])

    assert [d.tolist() for d in draws] == [s["drawn_classes_in_order"] for s in golden.printed["splits"]]
    candidates = [classes.tolist() for classes in candidates_of_halves(golden.table)]
    assert candidates == [s["candidate_classes"] for s in golden.printed["splits"]]


@needs_golden
@ZEROSHOT
def test_halves_are_scored_as_the_official_code_does(case: str) -> None:
    golden = Zeroshot(case)

    halves = official_zeroshot_half(golden.frames, golden.classes, golden.table)

    for half, printed in zip(halves, golden.printed["splits"], strict=True):
        assert [int(label) for label in half.labels] == printed["candidate_classes"]
        assert len(half.videos) == printed["num_videos"]
        for k in (1, 5):
            accuracy = percent(hits_among(half.logits, half.truth, k).mean())
            assert accuracy == pytest.approx(printed[f"top{k}"], abs=PERCENT)
    inputs = OfficialInputs(np.zeros((0, 0, 0), dtype=np.float32), golden.frames, golden.classes)
    metrics = official_metrics(golden.table, inputs, EvalConfig(protocol="zeroshot-half"))
    for name in ("top1", "top5"):
        metric = metrics[f"half_{name}"]
        assert percent(metric.value) == pytest.approx(golden.printed[f"half_{name}_mean"], abs=PERCENT)
        assert percent(metric.std or 0) == pytest.approx(golden.printed[f"half_{name}_std"], abs=PERCENT)


def test_frames_of_one_video_are_scored_as_among_others() -> None:
    rng = np.random.default_rng(0)
    frames, classes = rng.normal(size=(3, 4, 6)) / 10, rng.normal(size=(5, 6))

    together = official_zeroshot_probabilities(frames, classes)

    assert together.shape == (3, 5)
    assert official_zeroshot_probabilities(frames[1], classes) == pytest.approx(together[1])
    assert together.sum(axis=1) == pytest.approx(np.ones(3))


def test_a_video_of_fewer_frames_is_scored_as_by_itself() -> None:
    rng = np.random.default_rng(0)
    frames, classes = rng.normal(size=(2, 4, 6)) / 10, rng.normal(size=(5, 6))
    short = frames[1, :2].copy()
    frames[1, 2:] = np.nan

    found = official_zeroshot_probabilities(frames, classes)

    assert found[1] == pytest.approx(official_zeroshot_probabilities(short, classes))


def test_halves_without_official_use_the_scores_of_the_table() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(-1, 9, 80)
    table = table_of(rng.normal(size=(80, 9)), truth)

    halves = zeroshot_half(table)

    for half, drawn in zip(halves, half_draws(9), strict=True):
        classes = sorted(drawn.tolist())
        hits = [max(classes, key=lambda c: table.logits[i, c]) == truth[i] for i in range(80) if truth[i] in classes]
        assert hits_among(half.logits, half.truth, 1).mean() == pytest.approx(sum(hits) / len(hits))


def test_the_spread_is_that_of_a_population() -> None:
    found = over_splits([1.0, 3.0])

    assert (found.value, found.std) == (2, 1)


def test_a_half_without_a_video_is_refused() -> None:
    with pytest.raises(UsageError, match="none of the 4 classes of a split has videos"):
        zeroshot_half(table_of(np.zeros((3, 8)), np.array([0, 0, 0])))


# -- softmax upon softmax ---------------------------------------------------------------------------------------------


@needs_golden
@HEADS
def test_one_view_passes_through_softmax_twice(head: str) -> None:
    with np.load(GOLDEN / "golden_model.npz", allow_pickle=False) as file:
        cosines, expected = file[f"logits_{head}"].astype(np.float64), file[f"test_probs_{head}_1view"]
        labels, printed = file["video_labels"], file[f"test_prec_{head}_1view"]

    found = official_test_probabilities(cosines[:, None])

    assert found == pytest.approx(expected, abs=1e-6)
    accuracies = [percent(hits_among(found, labels, k).mean()) for k in (1, 5)]
    assert accuracies == pytest.approx(printed.tolist(), abs=PERCENT)


@needs_golden
@HEADS
def test_twelve_views_are_averaged_between_two_softmaxes(head: str) -> None:
    with np.load(GOLDEN / "golden_model.npz", allow_pickle=False) as file:
        cosines, expected = file[f"view_logits_{head}"].astype(np.float64), file[f"test_probs_{head}_12view"]
        labels, printed = file["video_labels"], file[f"test_prec_{head}_12view"]

    found = official_test_probabilities(cosines)

    assert found == pytest.approx(expected, abs=1e-6)
    accuracies = [percent(hits_among(found, labels, k).mean()) for k in (1, 5)]
    assert accuracies == pytest.approx(printed.tolist(), abs=PERCENT)


@needs_golden
def test_fusion_is_of_probabilities_softmaxed_once() -> None:
    with np.load(GOLDEN / "golden_model.npz", allow_pickle=False) as file:
        video, attributes = (file[name].astype(np.float64) for name in ("logits_Transf_VCS", "attr_logits"))
        once, expected = file["trainval_probs_Transf_VCS"], file["fusion_probs"]

    assert softmax(video) == pytest.approx(once, abs=1e-6)
    assert official_fusion(video[:, None], attributes) == pytest.approx(expected, abs=1e-6)


@needs_golden
@HEADS
def test_a_split_has_the_metrics_of_a_separate_run(head: str) -> None:
    """The golden run is one split of several; other classes and videos do not count, even with the highest scores."""
    with np.load(GOLDEN / "golden_model.npz", allow_pickle=False) as file:
        cosines, labels = file[f"view_logits_{head}"], file["video_labels"]
        printed = file[f"test_prec_{head}_12view"]
    videos, views, classes = cosines.shape
    everything = np.ones((videos + 2, views, classes + 3), dtype=np.float32)
    rows, places = np.array([4, 0, 2]), np.array([1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 13, 14])
    everything[np.ix_(rows, np.arange(views), places)] = cosines
    truth = np.zeros(videos + 2, dtype=np.int64)  # of a class of another split
    truth[rows] = places[labels]
    table = table_of(everything.mean(axis=1).astype(np.float64), truth)

    found = official_part(everything, table, Part(np.arange(videos + 2), places))

    assert [percent(found[f"top{k}"]) for k in (1, 5)] == pytest.approx(printed.tolist(), abs=PERCENT)
    assert Part(np.arange(videos + 2), places).of(table).videos == ("0", "2", "4")


# -- mean average precision -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden_map() -> dict[str, dict[str, object]]:
    if not GOLDEN.exists():
        pytest.skip("the official code's values are not here")
    golden: dict[str, dict[str, object]] = json.loads((GOLDEN / "golden_map.json").read_text())
    return golden


def array_of(value: object) -> Floats:
    return np.array(value, dtype=np.float64)


def test_average_precisions_are_the_official_ones(golden_map: dict[str, dict[str, object]]) -> None:
    plain = golden_map["multi_label_plain"]
    scores, present = array_of(plain["scores"]), array_of(plain["targets"]) > 0

    found = official_average_precisions(scores, present)

    assert found.tolist() == pytest.approx(plain["ap_per_class"], abs=1e-6)
    assert found.mean() == pytest.approx(plain["mAP"], abs=1e-6)


def test_map_with_one_label_per_video_is_the_official_one(golden_map: dict[str, dict[str, object]]) -> None:
    chain = golden_map["single_label"]
    scores, truth = array_of(chain["scores"]), np.array(chain["labels"])

    precisions = official_average_precisions(softmax(scores), truth[:, None] == np.arange(9))

    assert precisions.tolist() == pytest.approx(chain["ap_per_class"], abs=1e-6)
    assert np.flatnonzero(precisions == 0).tolist() == [chain["class_without_positives"]]
    assert percent(official_map(scores, truth)) == pytest.approx(chain["mAP_percent"], abs=PERCENT)
    assert percent(hits_among(scores, truth, 1).mean()) == pytest.approx(chain["top1"], abs=PERCENT)


def test_activitynet_applies_softmax_three_times(golden_map: dict[str, dict[str, object]]) -> None:
    chain = golden_map["anet_chain"]
    truth = np.array(chain["labels"])

    probabilities = official_test_probabilities(array_of(chain["view_logits"]))

    assert probabilities == pytest.approx(array_of(chain["final_probs"]), abs=1e-6)
    assert percent(official_map(probabilities, truth)) == pytest.approx(chain["mAP_percent"], abs=PERCENT)
    for printed in ("top1_from_mAP_call", "top1_validate"):
        assert percent(hits_among(probabilities, truth, 1).mean()) == pytest.approx(chain[printed], abs=PERCENT)


def test_charades_prints_a_running_mean_of_running_maps(golden_map: dict[str, dict[str, object]]) -> None:
    chain = golden_map["charades_chain"]
    present = array_of(chain["targets"]) > 0

    probabilities = official_test_probabilities(array_of(chain["view_logits"]))

    assert probabilities == pytest.approx(array_of(chain["final_probs"]), abs=1e-6)
    running = running_maps(probabilities, present, 8)
    assert running.tolist() == pytest.approx(chain["cumulative_mAP_after_each_batch"], abs=1e-6)
    printed = running_map(probabilities, present, 8)
    assert percent(printed) == pytest.approx(chain["reported_mAP_percent"], abs=PERCENT)


def test_the_map_of_all_charades_videos_differs(golden_map: dict[str, dict[str, object]]) -> None:
    chain = golden_map["charades_chain"]
    present = array_of(chain["targets"]) > 0
    probabilities = official_test_probabilities(array_of(chain["view_logits"]))

    precisions = official_average_precisions(probabilities, present)

    assert precisions.tolist() == pytest.approx(chain["ap_per_class_all_samples"], abs=1e-6)
    assert percent(precisions.mean()) == pytest.approx(chain["final_mAP_percent_all_samples"], abs=PERCENT)
    assert mean_average_precision(probabilities, present) == pytest.approx(precisions.sum() / present.any(axis=0).sum())


def test_validation_in_training_sees_one_view(golden_map: dict[str, dict[str, object]]) -> None:
    chain, printed = golden_map["charades_chain"], golden_map["charades_train_validate_mAP_view0"]
    first = array_of(chain["view_logits"])[:, :1]

    probabilities = official_test_probabilities(first)

    assert probabilities == pytest.approx(array_of(printed["final_probs"]), abs=1e-6)
    found = running_map(probabilities, array_of(chain["targets"]) > 0, 8)
    assert percent(found) == pytest.approx(printed["reported_mAP_percent"], abs=PERCENT)


def test_a_running_map_depends_on_the_order_of_the_videos(golden_map: dict[str, dict[str, object]]) -> None:
    chain = golden_map["charades_chain"]
    probabilities = official_test_probabilities(array_of(chain["view_logits"]))
    present = array_of(chain["targets"]) > 0

    backwards = running_map(probabilities[::-1], present[::-1], 8)

    assert abs(percent(backwards) - float(chain["reported_mAP_percent"])) > 1  # type: ignore[arg-type]


def test_a_running_map_of_one_batch_is_the_true_one() -> None:
    rng = np.random.default_rng(0)
    scores, present = rng.random((12, 4)), rng.random((12, 4)) < 0.5

    expected = average_precisions(scores, present).mean()
    assert running_map(scores, present, 12) == pytest.approx(expected)
    assert running_map(scores, present, 50) == pytest.approx(expected)
    assert len(running_maps(scores, present, 4)) == 3
    assert len(running_maps(scores, present, 5)) == 3


# -- the table of differences in docs/evaluate.md ---------------------------------------------------------------------


@needs_golden
def test_the_docs_show_how_official_metrics_differ() -> None:
    zeroshot, maps = [], json.loads((GOLDEN / "golden_map.json").read_text())
    with np.load(GOLDEN / "golden_zeroshot.npz") as file:
        for case in ("A", "B_class4_absent"):
            frames, classes = (file[f"{case}_{name}"] for name in ("frame_features", "class_features_normalised"))
            pooled = frames.astype(float).mean(axis=1)
            pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
            official = official_zeroshot_probabilities(frames.astype(float), classes.astype(float))
            truth = file[f"{case}_labels"]
            both = (percent(hits_among(scores, truth, 1).mean()) for scores in (official, pooled @ classes.T))
            zeroshot.append(" and ".join(f"{accuracy:.1f}" for accuracy in both))
    views, present = np.array(maps["charades_chain"]["view_logits"]), np.array(maps["charades_chain"]["targets"]) > 0
    charades = (
        running_map(official_test_probabilities(views), present, 8),
        mean_average_precision(views.mean(1), present),
    )
    views, labels = (np.array(maps["anet_chain"][name]) for name in ("view_logits", "labels"))
    own = mean_average_precision(softmax(100 * views.mean(axis=1)), labels[:, None] == np.arange(views.shape[2]))
    anet = official_map(official_test_probabilities(views), labels), own

    page = (Path(__file__).parents[3] / "docs" / "evaluate.md").read_text(encoding="utf-8")

    assert f"| {'; '.join(zeroshot)} |" in page
    for official_and_ours in (charades, anet):
        assert f"| {' and '.join(f'{percent(one):.1f}' for one in official_and_ours)} |" in page
