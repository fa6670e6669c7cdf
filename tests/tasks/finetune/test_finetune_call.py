"""`bike.finetune`: training in one call, and the model that it leaves."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from films import drawn, write_video
from small_models import assembled

import bike_cli as bike
from bike_cli.config import TrainingRecord
from bike_cli.engine.download.hub import HubSource
from bike_cli.engine.models.checkpoints import open_checkpoint
from bike_cli.errors import ModelError
from bike_cli.tasks.finetune.run_folder import RunReport

LABELS = ("blue circle", "green cross", "red square")
SAMPLING = bike.SamplingConfig(frames=2)
SOURCE = HubSource("nobody/small", "0123abc", "open_clip_model.safetensors", "ab" * 32)
CONFIG = bike.FinetuneConfig(
    engine=bike.EngineConfig(device="cpu", precision="fp32"),
    sampling=SAMPLING,
    learning=bike.LearningConfig(epochs=2, warmup=0, lr=1e-3, freeze="image,scale"),
    batches=bike.BatchConfig(batch_size=4),
    keeping=bike.KeepingConfig(wise_ft=0.5),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finetune")
    for label in LABELS:
        for i in range(4):
            target = folder / ("train" if i < 3 else "val") / label.replace(" ", "_")
            target.mkdir(parents=True, exist_ok=True)
            write_video(target / f"{i}.mp4", np.roll(drawn(label, frames=8 + i), 3 * i, axis=1))
    return folder


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bike.FinetuneResult, list[object]]:
    records: list[object] = []
    folder = tmp_path_factory.mktemp("run") / "actions"
    # A model of its own, because it is trained in place; as if it had been downloaded.
    engine = replace(assembled(open_checkpoint("tiny")), source=SOURCE)
    return bike.finetune(engine, data, CONFIG, save=folder, on_record=records.append), records


def test_one_call_trains_reports_and_writes_a_model(
    data: Path, trained: tuple[bike.FinetuneResult, list[object]]
) -> None:
    result, records = trained

    kinds = [type(record).__name__ for record in records]
    assert kinds == ["Validation", *(["Step"] * 3 + ["Validation"]) * 2, "Validation"]
    report = result.report
    assert (report.train, report.val, report.unread, report.metric) == (9, 3, 0, "top1")
    assert report.results.metrics is not None
    assert report.results.metrics["top1"] == report.results.value
    assert report.results.wise_ft == records[-1].metrics  # type: ignore[attr-defined]
    engine = result.load("cpu", "fp32")
    assert engine.training == TrainingRecord(LABELS, SAMPLING, "tcs")
    answers = list(bike.classify(engine, sorted((data / "val").rglob("*.mp4"))))
    correct = [answer.best.label == label for answer, label in zip(answers, LABELS, strict=True)]  # type: ignore[union-attr]
    assert sum(correct) / 3 == pytest.approx(report.results.wise_ft["top1"])  # type: ignore[index]


def test_a_complete_run_is_not_trained_again(data: Path, trained: tuple[bike.FinetuneResult, list[object]]) -> None:
    result, _ = trained
    records: list[object] = []

    again = bike.finetune("tiny", data, CONFIG, save=result.folder, resume=True, on_record=records.append)

    assert records == []
    assert again.report == result.report
    with pytest.raises(bike.UsageError, match="contains a complete run"):
        bike.finetune("tiny", data, CONFIG, save=result.folder)


def test_settings_of_the_models_training_are_the_default(
    data: Path, trained: tuple[bike.FinetuneResult, list[object]], tmp_path: Path
) -> None:
    engine = trained[0].load("cpu", "fp32")
    seen: list[object] = []

    def stop(record: object) -> None:
        seen.append(record)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bike.finetune(engine, data, save=tmp_path / "next", on_record=stop)

    assert len(seen) == 1
    assert "\nframes: 2\n" in (tmp_path / "next" / "config.yaml").read_text()
    with pytest.raises(KeyboardInterrupt):  # the folder was released
        bike.finetune(engine, data, save=tmp_path / "next", resume=True, on_record=stop)


@pytest.mark.slow
def test_a_running_pool_keeps_running_and_a_set_is_used_as_it_is(data: Path, tmp_path: Path) -> None:
    labelled = bike.read_labelled(str(data), keep_val=True)

    with bike.DecodePool(CONFIG.sampling, CONFIG.decoding) as pool:
        result = bike.finetune(bike.load("tiny", "cpu"), labelled, CONFIG, save=str(tmp_path / "run"), pool=pool)
        assert pool.decode(bike.Source.at(data / "val" / "red_square" / "3.mp4")).result()

    assert (result.report.val, result.folder) == (3, tmp_path / "run")
    with pytest.raises(TypeError, match="a TrainSet has its own"):
        bike.finetune("tiny", labelled, CONFIG, save=tmp_path / "other", val=data / "val")


def test_the_report_says_where_the_initial_weights_were_downloaded(
    data: Path, trained: tuple[bike.FinetuneResult, list[object]]
) -> None:
    result, _ = trained

    assert json.loads((result.folder / "report.json").read_text())["source"] == asdict(SOURCE)
    assert result.report.source == result.load("cpu", "fp32").source == SOURCE


@pytest.mark.parametrize("change", [{"source": None}, {}], ids=["null", "written before reports had it"])
def test_a_report_without_a_source_is_read(
    change: dict[str, None], trained: tuple[bike.FinetuneResult, list[object]], tmp_path: Path
) -> None:
    values = json.loads((trained[0].folder / "report.json").read_text())
    del values["source"]
    (tmp_path / "report.json").write_text(json.dumps({**values, **change}))

    assert RunReport.read(tmp_path) == replace(trained[0].report, source=None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": {"speed": 1}}, "is not complete"),
        ({"source": "nobody/small"}, "is not complete"),
        ({"source": {**asdict(SOURCE), "commit": "../x"}}, r"source\.commit is '\.\./x', which is not a name"),
    ],
)
def test_a_wrong_report_is_refused(
    change: dict[str, object], said: str, trained: tuple[bike.FinetuneResult, list[object]], tmp_path: Path
) -> None:
    values = json.loads((trained[0].folder / "report.json").read_text())
    (tmp_path / "report.json").write_text(json.dumps({**values, **change}))

    with pytest.raises(ModelError, match=rf"report\.json: {said}"):
        RunReport.read(tmp_path)


def test_a_report_that_lacks_a_value_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"metric": "top1"}')

    with pytest.raises(ModelError, match=r"report\.json: is not complete"):
        RunReport.read(tmp_path)
