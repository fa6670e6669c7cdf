"""Metrics compared with scikit-learn and torchmetrics, on random scores."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sklearn
from sklearn.calibration import calibration_curve
from torchmetrics import functional as torchmetrics
from torchmetrics.functional.classification import multiclass_calibration_error

from bike_cli.tasks.evaluate.measurement import compare, measure
from bike_cli.tasks.evaluate.metric_table import METRICS
from bike_cli.tasks.evaluate.metrics import average_precisions, confusion, hits_among, mean_class_accuracy, recalls
from bike_cli.tasks.evaluate.report import SystemResult
from bike_cli.tasks.evaluate.score_table import ScoreTable

Floats = NDArray[np.float64]
SEEDS = st.integers(0, 2**32 - 1)
random_tables = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])


def table_of(scores: Floats, truth: NDArray[np.int64] | NDArray[np.bool_]) -> ScoreTable:
    labels, videos = (tuple(str(i) for i in range(count)) for count in reversed(scores.shape))
    return ScoreTable(labels, videos, scores, truth)


def single_label(seed: int, *, with_unknown: bool = False) -> tuple[ScoreTable, Floats, NDArray[np.int64]]:
    """Return a table of 2 to 12 classes, some of which have no video, its probabilities and its truth."""
    rng = np.random.default_rng(seed)
    classes, videos = int(rng.integers(2, 13)), int(rng.integers(5, 80))
    truth = rng.choice(rng.integers(0, classes, classes), videos)
    scores = rng.normal(size=(videos, classes)) * rng.uniform(0.5, 4)
    scores[np.arange(videos), truth] += rng.uniform(0, 3)
    if with_unknown:
        truth[: int(rng.integers(1, videos - 1))] = -1
    powers = np.exp(scores)
    return table_of(scores, truth), powers / powers.sum(axis=1, keepdims=True), truth


def values_of(result: SystemResult) -> dict[str, float]:
    return {key: metric.value for key, metric in result.metrics.items()}


@random_tables
@given(SEEDS)
def test_single_label_metrics_are_those_of_scikit_learn(seed: int) -> None:
    table, probabilities, truth = single_label(seed)
    guesses, classes = probabilities.argmax(axis=1), probabilities.shape[1]
    present = np.unique(truth)

    result = measure(table, resamples=0)
    found = values_of(result)

    assert found["top1"] == pytest.approx(sklearn.accuracy_score(truth, guesses))
    assert found["mean_class"] == pytest.approx(sklearn.recall_score(truth, guesses, labels=present, average="macro"))
    f1 = sklearn.f1_score(truth, guesses, labels=present, average="macro", zero_division=0.0)
    assert found["macro_f1"] == pytest.approx(f1)
    assert ("top5" in found) == (classes > 5)
    if classes > 5:
        top5 = sklearn.top_k_accuracy_score(truth, probabilities, k=5, labels=range(classes))
        assert found["top5"] == pytest.approx(top5)
    averages = [sklearn.average_precision_score(truth == c, probabilities[:, c]) for c in present]
    assert found["map"] == pytest.approx(np.mean(averages))
    brier = sklearn.brier_score_loss(truth, probabilities, labels=range(classes), scale_by_half=True)
    assert found["brier"] == pytest.approx(brier)
    expected = sklearn.confusion_matrix(truth, guesses, labels=range(classes)).tolist()
    assert result.confusion is not None
    assert result.confusion.matrix(classes).tolist() == expected


@random_tables
@given(SEEDS)
def test_class_metrics_are_those_of_scikit_learn(seed: int) -> None:
    table, probabilities, truth = single_label(seed)
    guesses = probabilities.argmax(axis=1)

    result = measure(table, resamples=0)

    rows = sklearn.precision_recall_fscore_support(
        truth, guesses, labels=range(len(table.labels)), zero_division=np.nan
    )
    for of_class, precision, recall, f1, videos in zip(result.per_class, *rows, strict=True):
        assert of_class.videos == videos
        assert [of_class.precision, of_class.recall] == pytest.approx(
            [None if np.isnan(value) else value for value in (precision, recall)]
        )
        assert of_class.f1 == (pytest.approx(np.nan_to_num(f1)) if videos else None)


@random_tables
@given(SEEDS)
def test_single_label_metrics_are_those_of_torchmetrics(seed: int) -> None:
    table, probabilities, truth = single_label(seed)
    classes = probabilities.shape[1]
    scores, labels = torch.from_numpy(probabilities), torch.from_numpy(truth)

    found = values_of(measure(table, resamples=0))

    top1, top5 = (
        torchmetrics.accuracy(scores, labels, "multiclass", num_classes=classes, average="micro", top_k=k)
        for k in (1, min(5, classes))
    )
    assert (found["top1"], found.get("top5", 1.0)) == pytest.approx((float(top1), float(top5)), abs=1e-6)
    ece = multiclass_calibration_error(scores, labels, num_classes=classes, n_bins=15, norm="l1")
    assert found.get("ece", float(ece)) == pytest.approx(float(ece), abs=1e-6)  # few videos have none


@random_tables
@given(SEEDS)
def test_auroc_of_unknown_videos_is_that_of_scikit_learn(seed: int) -> None:
    table, probabilities, truth = single_label(seed, with_unknown=True)

    found = values_of(measure(table, resamples=0))

    doubt = 1 - probabilities.max(axis=1)
    assert found["auroc_none"] == pytest.approx(sklearn.roc_auc_score(truth < 0, doubt))
    accepted, accepts, _ = sklearn.roc_curve(truth >= 0, -doubt, drop_intermediate=False)
    assert found["fpr95_none"] == pytest.approx(accepted[np.argmax(accepts >= 0.95 - 1e-12)])


@random_tables
@given(SEEDS)
def test_rejection_is_that_of_scikit_learn(seed: int) -> None:
    table, probabilities, truth = single_label(seed, with_unknown=True)
    rng = np.random.default_rng(seed)
    cosines, rejected = rng.normal(size=len(truth)).clip(-1, 1), rng.random(len(truth)) < 0.4

    found = values_of(measure(replace(table, best_cosines=cosines, rejected=rejected), resamples=0))

    answers = np.where(rejected, -1, probabilities.argmax(axis=1))
    assert found["top1_none"] == pytest.approx(sklearn.accuracy_score(truth, answers))
    assert found["rejected_none"] == pytest.approx(sklearn.recall_score(truth < 0, rejected))
    assert 1 - found["rejected_known"] == pytest.approx(sklearn.recall_score(truth >= 0, ~rejected))
    assert found["auroc_cosine"] == pytest.approx(sklearn.roc_auc_score(truth >= 0, cosines))
    accepted, accepts, _ = sklearn.roc_curve(truth >= 0, cosines, drop_intermediate=False)
    assert found["fpr95_cosine"] == pytest.approx(accepted[np.argmax(accepts >= 0.95 - 1e-12)])


@random_tables
@given(SEEDS)
def test_calibrated_probabilities_are_measured_as_by_scikit_learn_and_torchmetrics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes, scale = int(rng.integers(2, 9)), float(rng.uniform(0.2, 2))
    truth = rng.integers(0, classes, 60)
    logits = rng.normal(size=(60, classes)) * rng.uniform(0.5, 4)
    truth[:20] = -1
    right = rng.random(60)
    known = truth >= 0

    table = replace(table_of(logits, truth), scale=scale, right=right)
    result = measure(table, resamples=0)

    found = values_of(result)
    for factor, key in ((1.0, "_before"), (scale, "")):
        powers = np.exp(factor * logits)
        shares = powers / powers.sum(axis=1, keepdims=True)
        assert found[f"nll{key}"] == pytest.approx(sklearn.log_loss(truth[known], shares[known], labels=range(classes)))
        ece = multiclass_calibration_error(
            torch.from_numpy(shares[known]), torch.from_numpy(truth[known]), num_classes=classes, n_bins=15, norm="l1"
        )
        assert found[f"ece{key}"] == pytest.approx(float(ece), abs=1e-6)
    # Each unknown video twice: as many as known ones.
    twice = np.concatenate([np.arange(60), np.arange(20)])
    correct = ((logits.argmax(axis=1) == truth) & known)[twice]
    for key, chances in (("ece_right", right), ("ece_none", shares.max(axis=1))):
        assert found[key] == pytest.approx(binary_error(chances[twice], correct))
    assert result.reliability is not None
    for name, chances in (("scores", shares[known].max(axis=1)), ("right", right)):
        hits = (logits.argmax(axis=1) == truth)[known if name == "scores" else slice(None)]
        bins = result.reliability[name]
        # scikit-learn's bins have their lower edge instead; random numbers lie on none.
        accuracies, confidences = calibration_curve(hits, chances, n_bins=15)
        assert [one.accuracy.value for one in bins] == pytest.approx(accuracies.tolist())
        assert [one.confidence for one in bins] == pytest.approx(confidences.tolist())
        assert sum(one.videos for one in bins) == len(chances)


def binary_error(chances: Floats, correct: NDArray[np.bool_]) -> float:
    """Return the calibration error of probabilities that answers are correct, by scikit-learn's reliability curve."""
    accuracies, confidences = calibration_curve(correct, chances, n_bins=15)
    sizes, _ = np.histogram(chances, np.linspace(0, 1, 16))
    return float(sizes[sizes > 0] @ np.abs(accuracies - confidences) / len(chances))


@random_tables
@given(SEEDS)
def test_multi_label_map_is_that_of_both(seed: int) -> None:
    rng = np.random.default_rng(seed)
    videos, classes = int(rng.integers(5, 60)), int(rng.integers(2, 10))
    present = rng.random((videos, classes)) < 0.4
    present[0], present[1] = True, False  # so that each class has a video, and a negative
    scores = rng.normal(size=present.shape) + present

    result = measure(table_of(scores, present), resamples=0)

    averages = sklearn.average_precision_score(present, scores, average=None)
    assert [of_class.average_precision for of_class in result.per_class] == pytest.approx(averages.tolist())
    by_torchmetrics = torchmetrics.average_precision(
        torch.from_numpy(scores).sigmoid(), torch.from_numpy(present.astype(int)), "multilabel", num_labels=classes
    )
    assert values_of(result)["map"] == pytest.approx(float(by_torchmetrics), abs=1e-6)


@random_tables
@given(SEEDS)
def test_the_pure_functions_are_those_of_scikit_learn(seed: int) -> None:
    _, probabilities, truth = single_label(seed)
    classes, guesses = probabilities.shape[1], probabilities.argmax(axis=1)
    counts = confusion(truth, guesses, classes)

    assert counts.tolist() == sklearn.confusion_matrix(truth, guesses, labels=range(classes)).tolist()
    recall_of_present = sklearn.recall_score(truth, guesses, labels=np.unique(truth), average="macro")
    assert mean_class_accuracy(counts) == pytest.approx(recall_of_present)
    recall = sklearn.recall_score(truth, guesses, labels=range(classes), average=None, zero_division=np.nan)
    assert recalls(counts).tolist() == pytest.approx(recall.tolist(), nan_ok=True)
    averages = average_precisions(probabilities, truth[:, None] == np.arange(classes))
    for c in np.unique(truth):
        assert averages[c] == pytest.approx(sklearn.average_precision_score(truth == c, probabilities[:, c]))
    for k in range(1, classes if classes > 2 else 1):
        top_k = sklearn.top_k_accuracy_score(truth, probabilities, k=k, labels=range(classes))
        assert hits_among(probabilities, truth, k).mean() == pytest.approx(top_k)


@random_tables
@given(SEEDS)
def test_differences_are_those_of_the_metrics(seed: int) -> None:
    table, _, truth = single_label(seed)
    other = table_of(table.logits + np.random.default_rng(seed).normal(size=table.logits.shape), truth)

    rows = compare(table, other, resamples=20)

    before, after = values_of(measure(table, resamples=0)), values_of(measure(other, resamples=0))
    assert {row.metric: row.difference for row in rows} == pytest.approx(
        {key: after[key] - before[key] for key in before}
    )
    assert all(row.p is None or 0 < row.p <= 1 for row in rows)
    assert all(row.low <= row.difference <= row.high for row in rows)


def test_every_metric_of_the_table_is_compared_with_an_oracle() -> None:
    of_labels = {"top1", "top5", "mean_class", "macro_f1", "ece", "nll", "brier", "map"}
    of_calibration = {"ece_before", "nll_before", "ece_none", "ece_right"}
    of_none = {"auroc_none", "auroc_cosine", "fpr95_none", "fpr95_cosine"}
    of_rejection = {"top1_none", "rejected_known", "rejected_none"}
    assert set(METRICS) == of_labels | of_calibration | of_none | of_rejection
