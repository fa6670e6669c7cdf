"""`bike.calibrate`, and which clips take part."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from calibration_clips import EACH, LABELS, write_calibration_clips

import bike_cli as bike
from bike_cli.engine.engine import Engine
from bike_cli.errors import UsageError
from bike_cli.inference.classifier import Classifier, Scores
from bike_cli.tasks.calibrate import clips as calibration_clips

CONFIG = bike.CalibrateConfig(sampling=bike.SamplingConfig(frames=2))
KNOWN = EACH * len(LABELS)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_calibration_clips(tmp_path_factory.mktemp("calibrate") / "data", unknown=2)


@pytest.fixture(autouse=True)
def _one_store_for_all(data: Path, monkeypatch: pytest.MonkeyPatch, _a_cache_of_its_own: None) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(data.parent / "store"))


def test_a_calibration_in_one_call(tiny: Engine, data: Path, tmp_path: Path) -> None:
    report = bike.calibrate(tiny, data, CONFIG)
    report.save(tmp_path / "cal.json")

    assert (report.known, report.available, report.unknown) == (KNOWN, KNOWN, 2)
    assert report.per_class == (EACH,) * len(LABELS)
    read = bike.read_calibration(tmp_path / "cal.json")
    assert np.array_equal(read.values, report.calibration.values)
    assert read.threshold() == report.promises[0].threshold
    assert bike.calibrate(tiny, bike.read_calibration_set(data), CONFIG).to_json() == report.to_json()


def test_one_label_is_enough_for_a_threshold(tiny: Engine, data: Path) -> None:
    alone = bike.calibrate(tiny, _csv(data, ["red cross"]), replace(CONFIG, promise=0.3))

    assert alone.calibration.labels == ("red cross",)
    assert alone.calibration.scale == pytest.approx(1, abs=1e-9)  # a single label says nothing about it
    answers = bike.classify(
        tiny, sorted((data / "red_cross").iterdir()), ["red cross"], bike.ClassifyConfig(sampling=CONFIG.sampling)
    )
    cosines = [answer.best.cosine for answer in answers if isinstance(answer, bike.Prediction)]
    assert alone.calibration.values.tolist() == pytest.approx(sorted(cosines), abs=1e-6)


def _csv(data: Path, labels: list[str]) -> Path:
    rows = [f"{file},{label}" for label in labels for file in sorted((data / label.replace(" ", "_")).iterdir())]
    file = data.parent / "some.csv"
    file.write_text("\n".join(["path,label", *rows]))
    return file


def test_of_many_clips_some_are_drawn(tiny: Engine, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bike.calibrate(tiny, data, CONFIG)
    monkeypatch.setattr(calibration_clips, "MOST_VALUES", 20)
    drawn, again = bike.calibrate(tiny, data, CONFIG), bike.calibrate(tiny, data, CONFIG)

    assert (drawn.known, drawn.available, drawn.unknown) == (20, KNOWN, 2)
    assert drawn.to_json() == again.to_json()
    assert set(drawn.calibration.values) < set(whole.calibration.values)
    assert drawn.calibration.contents < whole.calibration.contents


def test_a_clip_whose_scores_are_nan_is_left_out(tiny: Engine, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score = Classifier.scores

    def spoilt(self: Classifier, videos: list[object]) -> list[Scores]:
        scores = score(self, videos)  # type: ignore[arg-type]
        return [
            replace(s, logits=s.logits * torch.nan) if "red_cross/2" in video[0].source.id else s  # type: ignore[index]
            for s, video in zip(scores, videos, strict=True)
        ]

    monkeypatch.setattr(Classifier, "scores", spoilt)
    report = bike.calibrate(tiny, data, CONFIG)

    assert report.known == KNOWN - 1
    assert [failure.kind for failure in report.failed] == ["no_number"]
    assert "red_cross/2.mp4: the scores of tiny are NaN or infinite; try --precision fp32" in report.failed[0].message


def test_only_unreadable_clips_are_an_error(tiny: Engine, tmp_path: Path) -> None:
    for i in range(20):
        (tmp_path / "red square").mkdir(exist_ok=True)
        (tmp_path / "red square" / f"{i}.mp4").write_bytes(b"broken %d" % i)

    with pytest.raises(UsageError, match=r"videos: none of the known ones can be used .*; fix them"):
        bike.calibrate(tiny, tmp_path, CONFIG)


@pytest.mark.slow
def test_several_views_are_averaged(tiny: Engine, data: Path) -> None:
    config = bike.ClassifyConfig(sampling=bike.SamplingConfig(frames=2, clips=2, crops=3))
    report = bike.calibrate(
        tiny, data, bike.CalibrateConfig(sampling=config.sampling, decoding=config.decoding), none_label="none"
    )

    files = sorted(file for label in LABELS for file in (data / label.replace(" ", "_")).iterdir())
    answers = list(bike.classify(tiny, files, LABELS, config))
    cosines = [answer.best.cosine for answer in answers if isinstance(answer, bike.Prediction)]
    assert report.calibration.values.tolist() == pytest.approx(sorted(cosines), abs=1e-6)
