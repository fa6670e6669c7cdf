"""`bike.evaluate`: engines and labelled videos in, a typed report out."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from films import drawn, write_video

import bike_cli as bike
from bike_cli.config import EvalConfig, Protocol, SamplingConfig, SpottingConfig, StoreConfig
from bike_cli.engine.download.hub import HubSource
from bike_cli.engine.engine import Engine
from bike_cli.errors import UsageError
from bike_cli.video.workers.pool import DecodePool

CLASSES = ("blue_circle", "green_cross", "red_square")
CONFIG = EvalConfig(sampling=SamplingConfig(frames=4), store=StoreConfig(cache=False), resamples=50)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of two videos; the second red square shows a green cross."""
    folder = tmp_path_factory.mktemp("evaluate") / "data"
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for i in range(2):
            shown = "green cross" if (name, i) == ("red_square", 1) else name.replace("_", " ")
            write_video(folder / name / f"{i}.mp4", np.roll(drawn(shown, frames=8), 4 * i, axis=1))
    return folder


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(CONFIG.sampling, CONFIG.decoding, most=7) as pool:
        yield pool


def test_an_engine_has_the_accuracy_of_its_own_answers(tiny: Engine, data: Path, pool: DecodePool) -> None:
    labels = [name.replace("_", " ") for name in CLASSES]
    videos = sorted(data.rglob("*.mp4"))
    config = bike.ClassifyConfig(sampling=CONFIG.sampling, store=CONFIG.store)
    answers = list(bike.classify(tiny, videos, labels, config, pool=pool))
    correct = [a.ranked[0].label.replace(" ", "_") == v.parent.name for a, v in zip(answers, videos, strict=True)]

    report = bike.evaluate(tiny, data, CONFIG, pool=pool)

    (system,) = report.systems
    assert system.metrics["top1"].value == pytest.approx(sum(correct) / 6)
    assert 0 < sum(correct) < 6
    assert (report.data.videos, report.data.classes, report.data.failed) == (6, 3, ())
    assert report.manifest.arguments["data"] == (str(data),)
    assert report.manifest.settings["model"] == report.manifest.model == "tiny"
    assert system.provenance is not None
    assert system.provenance.fingerprint == tiny.fingerprint


def test_a_report_from_python_can_be_written_and_read(tiny: Engine, data: Path, pool: DecodePool) -> None:
    report = bike.evaluate(tiny, [data], CONFIG, pool=pool)

    again = bike.EvaluationReport.from_json(report.to_json())

    assert again.systems[0].confusion == report.systems[0].confusion
    assert again.manifest == report.manifest


def test_a_report_says_where_the_weights_were_downloaded(tiny: Engine, data: Path, pool: DecodePool) -> None:
    source = HubSource("nobody/small", "0123abc", "open_clip_model.safetensors", "ab" * 32)

    engines = {"a": replace(tiny, source=source), "b": tiny}
    systems = [bike.System(name, engine, bike.ClassifyConfig()) for name, engine in engines.items()]
    report = bike.evaluate(systems, data, CONFIG, pool=pool)

    downloaded, other = json.loads(report.to_json())["systems"]
    assert downloaded["made_of"]["source"] == asdict(source)
    assert other["made_of"]["source"] is None
    again = bike.EvaluationReport.from_json(report.to_json())
    assert [system.provenance for system in again.systems] == [system.provenance for system in report.systems]


def test_systems_are_compared_with_the_first(tiny: Engine, data: Path, pool: DecodePool) -> None:
    tcs = bike.ClassifyConfig(sampling=SamplingConfig(frames=2))  # of which the evaluation has its own
    mean = bike.ClassifyConfig(spotting=SpottingConfig(pool="mean"))
    systems = [bike.System("tcs", tiny, tcs), bike.System("mean", tiny, mean)]

    report = bike.evaluate(systems, bike.read_eval_set([data]), CONFIG, pool=pool)

    assert [system.name for system in report.systems] == ["tcs", "mean"]
    assert report.systems[0].metrics == bike.evaluate(tiny, data, CONFIG, pool=pool).systems[0].metrics
    assert {(row.baseline, row.system) for row in report.comparisons} == {("tcs", "mean")}
    values = [system.metrics["map"].value for system in report.systems]
    (row,) = [row for row in report.comparisons if row.metric == "map"]
    assert row.difference == pytest.approx(values[1] - values[0])
    assert report.data.files == ()


def test_without_a_pool_workers_are_started_and_stopped(tiny: Engine, data: Path) -> None:
    assert bike.evaluate(tiny, str(data), CONFIG).data.videos == 6


def test_a_video_that_cannot_be_read_is_in_the_report(
    tiny: Engine, data: Path, pool: DecodePool, tmp_path: Path
) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"not a video")
    rows = [f"{data}/blue_circle/0.mp4,blue circle", f"{data}/red_square/0.mp4,red square", "bad.mp4,red square"]
    (tmp_path / "rows.csv").write_text("\n".join(["path,label", *rows]))

    report = bike.evaluate(tiny, tmp_path / "rows.csv", CONFIG, pool=pool)

    assert [Path(failure.path).name for failure in report.data.failed] == ["bad.mp4"]
    assert report.data.videos == 2


@pytest.mark.parametrize(
    ("systems", "protocol", "message"),
    [
        (0, "standard", "systems: none given"),
        (2, "standard", "systems: two are named 'tiny'; give each its own name"),
        (1, "fewshot", r"protocol fewshot: .* use bike\.fewshot"),
        (1, "k600", "protocol k600: "),
    ],
)
def test_what_cannot_be_evaluated_is_a_usage_error(
    systems: int, protocol: Protocol, message: str, tiny: Engine, data: Path, pool: DecodePool
) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        bike.evaluate([tiny] * systems, data, replace(CONFIG, protocol=protocol), pool=pool)


def test_the_protocol_says_that_videos_may_have_several_labels(tiny: Engine, data: Path, pool: DecodePool) -> None:
    (system,) = bike.evaluate(tiny, data, replace(CONFIG, protocol="multilabel"), pool=pool).systems

    assert list(system.metrics) == ["map", "top1"]
    assert system.confusion is None


def test_official_metrics_are_in_the_report(tiny: Engine, data: Path, pool: DecodePool) -> None:
    config = replace(CONFIG, protocol="zeroshot-full", official=True)

    (system,) = bike.evaluate(tiny, data, config, pool=pool).systems

    assert set(system.official or ()) == {"top1", "top5"}
