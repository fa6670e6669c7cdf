"""What an actor compares with the driver before it takes videos."""

from pathlib import Path

import pytest

from bike_cli.config import ClassifyConfig, DecodingConfig, EngineConfig
from bike_cli.engine.engine import load
from bike_cli.errors import ModelError, UsageError
from bike_cli.records import Failure, Prediction, Source
from bike_cli.tasks.cluster.actor import ActorSetup, ModelActor
from bike_cli.tasks.cluster.work import ClassifyWork
from bike_cli.versions import __version__

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_cluster")]
LABELS = ("red square", "blue circle")
Setup = ActorSetup[ClassifyConfig, Prediction]


def setup(digest: str, *, model: str = "tiny", folder: str | None = None) -> Setup:
    engine = EngineConfig(model="tiny", device="cpu", precision="fp32")
    config = ClassifyConfig(engine=engine, decoding=DecodingConfig(workers=1))
    return ActorSetup(ClassifyWork(config, LABELS), model, digest, folder or str(Path.cwd()))


def started(given: Setup) -> ModelActor:
    import ray

    actor = ModelActor()
    assert actor.start(__version__, [ray.put(given)]) == ray.get_runtime_context().get_node_id()
    return actor


def test_another_version_is_refused_before_anything_is_unpickled() -> None:
    error = ModelActor().start("0.0.1", ["no reference"])

    assert isinstance(error, UsageError)
    assert f"bike 0.0.1 runs here, but bike {__version__} on " in str(error)


def test_other_weights_are_refused() -> None:
    import ray

    error = ModelActor().start(__version__, [ray.put(setup("00000000"))])

    assert isinstance(error, ModelError)
    assert "has other weights or settings on" in str(error)


def test_answers_name_the_model_as_the_driver_does(clips: Path) -> None:
    actor = started(setup(load("tiny").short_digest, model="my/model.pt"))

    (answer,) = actor.answer([Source.at(clips / "red_square.mp4")]).answers

    assert isinstance(answer, Prediction)
    assert (answer.model, answer.best.label) == ("my/model.pt", "red square")


def test_relative_paths_start_in_the_folder_of_the_driver(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    actor = started(setup(load("tiny").short_digest, folder=str(clips)))

    answers = actor.answer([Source.at("red_square.mp4"), Source.at("nowhere.mp4")]).answers

    assert isinstance(answers[0], Prediction)
    assert isinstance(answers[1], Failure)
    assert (answers[1].kind, answers[1].source.id) == ("missing", "nowhere.mp4")


def test_a_folder_that_is_not_on_this_machine_hides_no_file_of_its_own(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clips)
    actor = started(setup(load("tiny").short_digest, folder="/nowhere"))

    (answer,) = actor.answer([Source.at("red_square.mp4")]).answers

    assert isinstance(answer, Failure)
    assert (answer.kind, answer.source.id) == ("missing", "red_square.mp4")
