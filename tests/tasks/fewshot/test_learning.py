"""`bike.fewshot`: learning in one call, what is saved, and what `classify` takes from it without being asked."""

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from films import drawn, write_video

import bike_cli as bike
from bike_cli.config import TrainingRecord
from bike_cli.engine.download.hub import HubSource
from bike_cli.engine.engine import Engine
from bike_cli.tasks.fewshot import learning, tower_training

CLASSES = ("blue_circle", "green_cross", "red_square")
LABELS = ("blue circle", "green cross", "red square")
CONFIG = bike.FewshotConfig(sampling=bike.SamplingConfig(frames=2), shots="2", trials=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("learning")
    for name in CLASSES:
        (folder / name).mkdir()
        for i in range(4):
            write_video(folder / name / f"{i}.mp4", np.roll(drawn(name.replace("_", " "), frames=8 + i), 4 * i, axis=1))
    return folder


@pytest.fixture(scope="module")
def learned(tiny: Engine, data: Path) -> bike.FewshotResult:
    return bike.fewshot(tiny, data, CONFIG)


def test_one_call_reports_and_learns(learned: bike.FewshotResult) -> None:
    assert learned.report.summary("probe", 2).top1.value == 1.0
    assert learned.classifier.labels == LABELS


def test_the_report_says_where_the_weights_were_downloaded(tiny: Engine, data: Path) -> None:
    source = HubSource("nobody/small", "0123abc", "open_clip_model.safetensors", "ab" * 32)
    engines = (replace(tiny, source=source), tiny)

    reports = [json.loads(bike.fewshot(engine, data, CONFIG).report.to_json({})) for engine in engines]

    assert [report["source"] for report in reports] == [asdict(source), None]


def test_a_running_pool_keeps_running(tiny: Engine, data: Path, learned: bike.FewshotResult) -> None:
    with bike.DecodePool(CONFIG.sampling, CONFIG.decoding) as pool:
        other = bike.fewshot(tiny, bike.read_labelled(str(data)), CONFIG, pool=pool)
        assert pool.decode(bike.Source.at(data / "red_square" / "0.mp4")).result()

    assert other.classifier.digest == learned.classifier.digest


def test_a_saved_classifier_brings_its_labels_and_settings(
    tiny: Engine, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bike.fewshot(tiny, data, CONFIG, also=["yellow star"]).save(str(tmp_path / "a.bike"))
    saved = bike.load_classifier(tmp_path / "a.bike")
    video = data / "red_square" / "0.mp4"

    (short,) = bike.classify(tiny, [video], saved=saved)
    (long,) = bike.classify(
        tiny, [video], [*LABELS, "yellow star"], bike.ClassifyConfig(sampling=CONFIG.sampling), saved=saved
    )

    assert isinstance(short, bike.Prediction)
    assert isinstance(long, bike.Prediction)
    assert short.frames == 2
    assert short.ranked == long.ranked
    assert caplog.messages == []


@pytest.mark.slow
def test_a_model_is_saved_as_a_folder_that_brings_them_too(
    tiny: Engine, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tower_training, "Recipe", partial(tower_training.Recipe, epochs=1))
    result = bike.fewshot(tiny, data, replace(CONFIG, method="bike"), also=["yellow star"])

    result.save(tmp_path / "actions")

    with pytest.raises(ValueError, match="trains a model, not a classifier"):
        _ = result.classifier
    assert (tmp_path / "actions" / "labels.txt").read_text().splitlines() == [*LABELS, "yellow star"]
    engine = bike.load(str(tmp_path / "actions"), device="cpu", precision="fp32")
    assert engine.training == TrainingRecord(LABELS, CONFIG.sampling, "tcs", ("yellow star",))
    (answer,) = bike.classify(engine, [data / "red_square" / "0.mp4"])
    assert isinstance(answer, bike.Prediction)
    assert answer.frames == 2
    assert {ranked.label for ranked in answer.ranked} == {*LABELS, "yellow star"}
    assert bike.evaluate(engine, data).manifest.settings["frames"] == 2
    assert caplog.messages == []


@pytest.fixture
def trained(tiny: Engine) -> Engine:
    return replace(tiny, training=TrainingRecord(("red square", "zorbing"), bike.SamplingConfig(frames=3), "mean"))


def test_without_a_config_the_settings_of_the_model_apply(
    trained: Engine, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(learning, "Study", lambda engine, labelled, config, pool: seen.append(config))

    with pytest.raises(AttributeError):
        bike.fewshot(trained, data)

    assert (seen[0].sampling.frames, seen[0].spotting.pool) == (3, "mean")


def test_a_contradiction_is_one_warning_and_trained_labels_are_known(
    trained: Engine, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = bike.ClassifyConfig(sampling=bike.SamplingConfig(frames=2))

    list(bike.classify(trained, [data / "red_square" / "0.mp4"], config=config))

    assert caplog.messages == [
        "model tiny: was trained with frames 3 and pool mean, but this run has frames 2 and pool tcs; leave out "
        "--frames and --pool"
    ]


def test_without_labels_a_model_that_remembers_none_is_an_error(tiny: Engine) -> None:
    with pytest.raises(bike.UsageError, match="labels: none given; give at least one"):
        bike.classify(tiny, [])


def test_a_prediction_on_a_screen_is_one_short_line(tiny: Engine, data: Path) -> None:
    video = data / "red_square" / "0.mp4"

    (few,) = bike.classify(tiny, [video], ["red square", "blue circle"])
    (many,) = bike.classify(tiny, [video], [*LABELS, "yellow star", "white ring"])

    assert isinstance(few, bike.Prediction)
    second = few.ranked[1].score
    assert (
        repr(few) == f"Prediction({str(video)!r}, {{'red square': {few.best.score:.3f}, 'blue circle': {second:.3f}}})"
    )
    assert repr(many).count("': ") == 3
    assert repr(many).endswith(", …})")
