"""A saved classifier brings a calibration, by videos that it was not fitted to, and `classify` uses it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from films import drawn, write_video

import bike_cli as bike
from bike_cli.engine.engine import Engine
from bike_cli.tasks.fewshot.held_out import why_not_calibrated

CLASSES, EACH = ("blue_circle", "green_cross", "red_square"), 9
SAMPLING = bike.SamplingConfig(frames=2)
CONFIG = bike.FewshotConfig(sampling=SAMPLING, shots="2", trials=1)
AUTO = bike.ClassifyConfig(sampling=SAMPLING, reject="auto")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("held-out")
    for name in CLASSES:
        (folder / name).mkdir()
        for i in range(EACH):
            film = np.roll(drawn(name.replace("_", " "), frames=8 + i), 3 * i - 12, axis=1)
            write_video(folder / name / f"{i}.mp4", film)
    return folder


@pytest.fixture(scope="module")
def saved(tiny: Engine, data: Path) -> bike.SavedClassifier:
    return bike.fewshot(tiny, data, CONFIG).classifier


@pytest.fixture(params=["cosine", "distance"])
def classifier(request: pytest.FixtureRequest, tiny: Engine, data: Path, tmp_path: Path) -> bike.SavedClassifier:
    """One whose texts tell the classes, and one whose texts do not, after a round trip through a file."""
    labelled = bike.read_labelled(str(data))
    if request.param == "distance":
        labelled = replace(labelled, labels=("zorb", "quax", "wibble"))
    bike.fewshot(tiny, labelled, CONFIG).save(tmp_path / "a.bike")
    read = bike.load_classifier(tmp_path / "a.bike")
    assert read.measure == request.param
    return read


def rejections(engine: Engine, data: Path, config: bike.ClassifyConfig, **more: object) -> dict[str, bike.Prediction]:
    files = sorted(data.rglob("*.mp4"))
    answers = bike.classify(engine, files, config=config, **more)  # type: ignore[arg-type]
    return {
        str(file): answer for file, answer in zip(files, answers, strict=True) if isinstance(answer, bike.Prediction)
    }


def test_held_out_clips_calibrate_and_are_judged_as_promised(
    tiny: Engine, data: Path, classifier: bike.SavedClassifier
) -> None:
    known = classifier.calibration
    assert known is not None
    assert len(known.values) == len(known.contents) == len(CLASSES) * (EACH - 2)
    assert not known.contents & classifier.contents
    assert len(classifier.contents) == 2 * len(CLASSES)

    config = bike.ClassifyConfig(sampling=SAMPLING, reject="auto", promise=0.2)
    answers = rejections(tiny, data, config, saved=classifier)

    fits = [answer.rejection.fit for answer in answers.values() if answer.rejection is not None]
    assert len(fits) == len(answers) == len(CLASSES) * EACH
    assert [answer.is_rejected for answer in answers.values()] == [fit is not None and fit <= 0.2 for fit in fits]
    assert sum(answer.is_rejected for answer in answers.values()) <= 6


@pytest.mark.slow  # over a second of a core
def test_without_reject_auto_the_calibration_changes_nothing(
    tiny: Engine, data: Path, saved: bike.SavedClassifier
) -> None:
    config = bike.ClassifyConfig(sampling=SAMPLING)

    before = rejections(tiny, data, config, saved=replace(saved, calibration=None))
    after = rejections(tiny, data, config, saved=saved)

    assert [(a.ranked, a.rejection) for a in after.values()] == [(b.ranked, None) for b in before.values()]


def test_calibrating_again_leaves_the_shots_out_and_gives_the_same(
    tiny: Engine, data: Path, saved: bike.SavedClassifier, caplog: pytest.LogCaptureFixture
) -> None:
    report = bike.calibrate(tiny, data, bike.CalibrateConfig(sampling=SAMPLING), saved=saved)

    own = saved.calibration
    assert own is not None
    assert len(report.learned) == 2 * len(CLASSES)
    assert "are left out, because the classifier was trained on them" in caplog.text
    np.testing.assert_allclose(report.calibration.values, own.values, atol=1e-5)
    assert report.calibration.contents == own.contents
    assert dict(report.calibration.conditions) == dict(own.conditions)
    own.check(report.calibration.conditions)
    assert len(rejections(tiny, data, AUTO, saved=saved, calibration=report.calibration)) == len(CLASSES) * EACH


def test_what_no_calibration_holds_for_is_refused(tiny: Engine, data: Path, saved: bike.SavedClassifier) -> None:
    own, bare = saved.calibration, replace(saved, calibration=None)
    other = replace(bare, temperature=0.5)

    def refused(message: str, config: bike.ClassifyConfig = AUTO, **more: object) -> None:
        with pytest.raises(bike.UsageError, match=message):
            bike.classify(tiny, [], config=config, **more)  # type: ignore[arg-type]

    refused("the classifier was saved without a calibration; run bike calibrate --classifier", saved=bare)
    refused("0.2: is a cosine, but a classifier", bike.ClassifyConfig(sampling=SAMPLING, reject="0.2"), saved=saved)
    refused("is of another classifier", saved=other, calibration=own)
    refused("is of a classifier, but this run uses none", labels=saved.labels, calibration=own)
    refused("learned it from no video", saved=saved, labels=[*saved.labels, "white ring"])
    odd = bike.read_eval_set([data])
    odd = replace(odd, labels=("zorb", *odd.labels[1:]))
    with pytest.raises(bike.UsageError, match="'zorb' is not one of the classifier's"):
        bike.calibrate(tiny, odd, saved=saved)


def test_it_says_why_there_is_no_calibration(saved: bike.SavedClassifier) -> None:
    assert why_not_calibrated(saved, 19) is None
    assert "12 test videos, and a calibration needs 19; add 7, or run bike calibrate" in str(
        why_not_calibrated(saved, 12)
    )
    assert "--also" in str(why_not_calibrated(replace(saved, also=("white ring",)), 40))
