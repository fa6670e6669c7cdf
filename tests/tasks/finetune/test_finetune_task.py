"""Fine-tuning on real files: it learns, resumes where it stopped, and keeps the best model."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from films import drawn, write_video
from launching import on_two
from small_models import assembled, tiny_checkpoint

from bike_cli.config import (
    BatchConfig,
    DecodingConfig,
    EngineConfig,
    FinetuneConfig,
    LearningConfig,
    SamplingConfig,
    StoreConfig,
)
from bike_cli.data.labelled.train_sets import TrainSet, read_labelled
from bike_cli.engine.engine import Engine, load
from bike_cli.engine.models.folder import load_folder
from bike_cli.errors import ConfigError, UsageError
from bike_cli.tasks.finetune.run import Finetuning
from bike_cli.tasks.finetune.run_folder import CHECKPOINTS, FINE_TUNED
from bike_cli.tasks.finetune.snapshots import STATE, TENSORS, snapshots_in
from bike_cli.tasks.finetune.validation import Validation
from bike_cli.tasks.finetune.video_branch import Step
from bike_cli.video.workers.pool import DecodePool

LABELS = ("blue circle", "green cross", "red square")
CLASSES = ("green star", "red ring", "blue heart")  # their folders' names, which are words for other things


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of four films for training and two for validation."""
    folder = tmp_path_factory.mktemp("finetune")
    for label, name in zip(LABELS, CLASSES, strict=True):
        for i in range(6):
            target = folder / ("train" if i < 4 else "val") / name
            target.mkdir(parents=True, exist_ok=True)
            write_video(target / f"{i}.mp4", np.roll(drawn(label, frames=8 + i), 3 * i, axis=1))
    return folder


def fresh() -> Engine:
    """Return a small untrained model."""
    return assembled(replace(tiny_checkpoint(), attribute_head=None))


def config_of(**changes: object) -> FinetuneConfig:
    learning = LearningConfig(epochs=2, lr=1e-3, clip_ratio=0.3, warmup=0.0, freeze="text")
    config = FinetuneConfig(
        engine=EngineConfig(model="tiny", device="cpu"),
        sampling=SamplingConfig(frames=2),
        decoding=DecodingConfig(workers=2),
        store=StoreConfig(cache=False),
        learning=learning,
        batches=BatchConfig(batch_size=4),
    )
    for section in ("learning", "batches", "keeping", "spotting"):
        fields = {k: v for k, v in changes.items() if hasattr(getattr(config, section), k)}
        config = replace(config, **{section: replace(getattr(config, section), **fields)})
    return config


@pytest.fixture(scope="session")
def begin(data: Path) -> Callable[..., Finetuning]:
    """Return a run of the bundled model; its workers end with the session."""
    config = config_of()
    pool = DecodePool(config.sampling, config.decoding)

    def start(
        folder: Path,
        *,
        resume: bool = False,
        dry_run: bool = False,
        labelled: TrainSet | None = None,
        model: Engine | None = None,
        **changes: object,
    ) -> Finetuning:
        labelled = labelled or read_labelled(data, keep_val=True)
        config = config_of(**changes)
        return Finetuning(model or fresh(), labelled, config, pool, folder, resume=resume, dry_run=dry_run)

    return start


def losses(records: list[Step | Validation]) -> list[tuple[int, float]]:
    return [(one.step, one.loss) for one in records if isinstance(one, Step)]


def validations(records: list[Step | Validation]) -> list[tuple[str, int, float]]:
    return [(one.what, one.epoch, one.metrics["top1"]) for one in records if isinstance(one, Validation)]


def report_of(folder: Path) -> dict[str, object]:
    return json.loads((folder / "report.json").read_text())


@pytest.fixture(scope="session")
def whole(begin: Callable[..., Finetuning], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[object]]:
    """A run without interruptions."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run = begin(folder)
    records = list(run)
    run.folder.close()
    return folder, records


# -- a run --------------------------------------------------------------------------------------------------------


def test_attributes_that_moved_to_the_plan_are_found_with_a_warning(
    begin: Callable[..., Finetuning], tmp_path: Path
) -> None:
    run = begin(tmp_path / "run")
    run.folder.close()

    for name in ("augmentation", "labelled", "loss", "metric", "recipe", "texts"):
        with pytest.warns(DeprecationWarning, match=f"Finetuning.{name} is now Finetuning.plan.{name}"):
            assert getattr(run, name) == getattr(run.plan, name) is not None
    with pytest.warns(DeprecationWarning, match=r"Finetuning.sided is now Finetuning.plan.sided_label"):
        assert run.sided == run.plan.sided_label  # type: ignore[attr-defined]
    with pytest.warns(DeprecationWarning, match=r"Finetuning.sides is now Finetuning.plan$"):
        assert run.sides.train == run.plan.train  # type: ignore[attr-defined]
    assert not hasattr(run, "anything_else")


def test_it_yields_every_step_and_validates_before_and_after_each_epoch(whole: tuple[Path, list[object]]) -> None:
    _, records = whole

    assert [type(one).__name__ for one in records] == ["Validation", *(["Step"] * 3 + ["Validation"]) * 2]
    assert [one.step for one in records if isinstance(one, Step)] == [1, 2, 3, 4, 5, 6]
    assert {one.videos for one in records if isinstance(one, Step)} == {4}


def test_the_log_holds_what_was_yielded(whole: tuple[Path, list[object]]) -> None:
    folder, records = whole

    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]

    assert [(one["step"], one["loss"]) for one in logged if one["kind"] == "step"] == losses(records)  # type: ignore[arg-type]
    assert [one["epoch"] for one in logged if one["kind"] == "validated"] == [0, 1, 2]


def test_the_best_epochs_model_is_written(whole: tuple[Path, list[object]]) -> None:
    folder, records = whole
    results = validations(records)  # type: ignore[arg-type]
    best = max(results[1:], key=lambda one: one[2])

    report = report_of(folder)

    assert (report["epoch"], report["value"]) == (best[1], best[2])
    assert report["start"]["top1"] == results[0][2]  # type: ignore[index]
    assert not (folder / CHECKPOINTS).exists()
    assert load_folder(folder).recipe.spot == "words"


@pytest.mark.slow
def test_training_reaches_full_accuracy(begin: Callable[..., Finetuning], tmp_path: Path) -> None:
    run = begin(tmp_path / "run", model=load("tiny", device="cpu", precision="fp32"), epochs=5)

    results = validations(list(run))

    assert results[0][2] < 0.9
    assert max(value for _, _, value in results) == 1.0


def test_a_dry_run_is_not_trained_and_creates_no_folder(begin: Callable[..., Finetuning], tmp_path: Path) -> None:
    run = begin(tmp_path / "new" / "run", dry_run=True)

    rehearsal = run.rehearse()
    with pytest.raises(UsageError, match="--dry-run: only tries a batch"):
        next(iter(run))
    run.close()

    assert (rehearsal.batch_size, rehearsal.steps, rehearsal.failures) == (4, 6, 0)
    assert list(tmp_path.iterdir()) == []


# -- resuming -----------------------------------------------------------------------------------------------------


@pytest.mark.slow  # over a second of a core
@pytest.mark.parametrize("stop_at", [2, 3])
def test_a_stopped_run_is_resumed_to_the_same_end(
    begin: Callable[..., Finetuning], whole: tuple[Path, list[object]], tmp_path: Path, stop_at: int
) -> None:
    first = begin(tmp_path / "run")
    before: list[object] = []
    for record in first:
        before.append(record)
        if isinstance(record, Step) and record.step == stop_at:
            first.stop = True
    assert first.was_stopped
    first.folder.close()

    second = begin(tmp_path / "run", resume=True)
    after = list(second)

    assert losses([*before, *after]) == losses(whole[1])  # type: ignore[list-item, arg-type]
    assert validations([*before, *after]) == validations(whole[1])  # type: ignore[list-item, arg-type]
    ours, theirs = (load_folder(folder).clip.state_dict() for folder in (tmp_path / "run", whole[0]))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "step"] == [1, 2, 3, 4, 5, 6]


def stopped(begin: Callable[..., Finetuning], folder: Path, *, at: int, **changes: object) -> list[Path]:
    """Return the checkpoints of a run that was stopped after a step."""
    run = begin(folder, save_minutes=1e-9, **changes)
    for record in run:
        run.stop = run.stop or (isinstance(record, Step) and record.step == at)
    run.folder.close()
    return snapshots_in(folder / CHECKPOINTS)


@pytest.mark.parametrize(
    "damage", ["changed", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("cut", "state"))]
)
def test_a_damaged_checkpoint_is_refused_and_the_one_before_is_used(
    begin: Callable[..., Finetuning],
    whole: tuple[Path, list[object]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    before, last = stopped(begin, tmp_path / "run", at=5)
    file = last / (STATE if damage == "state" else TENSORS)
    content = file.read_bytes()
    file.write_bytes(content[:-100] if damage in ("cut", "state") else content[:-1] + bytes([content[-1] ^ 1]))

    run = begin(tmp_path / "run", resume=True)
    after = list(run)

    assert before.name == "step-000000004"
    assert "using the one before" in caplog.text
    assert losses(after) == [one for one in losses(whole[1]) if one[0] > 4]  # type: ignore[arg-type]


def test_two_checkpoints_are_kept(begin: Callable[..., Finetuning], tmp_path: Path) -> None:
    assert [path.name[-1] for path in stopped(begin, tmp_path / "run", at=5)] == ["4", "5"]


def test_a_run_is_not_resumed_with_another_recipe_or_other_data(
    begin: Callable[..., Finetuning], tmp_path: Path, data: Path
) -> None:
    stopped(begin, tmp_path / "run", at=1)

    with pytest.raises(UsageError, match=r"started with lr 0\.001, and lr is now 0\.01"):
        begin(tmp_path / "run", resume=True, lr=0.01)
    labelled = read_labelled(data, keep_val=True)
    with pytest.raises(UsageError, match="started with data"):
        begin(tmp_path / "run", resume=True, labelled=replace(labelled, train=labelled.train[:-1]))


@pytest.mark.slow
def test_settings_without_effect_may_change_on_resume(
    begin: Callable[..., Finetuning], whole: tuple[Path, list[object]], tmp_path: Path
) -> None:
    stopped(begin, tmp_path / "run", at=3)

    after = list(begin(tmp_path / "run", resume=True, accumulate=2, checkpointing=True, save_minutes=99.0))

    wanted = [one for one in losses(whole[1]) if one[0] > 3]  # type: ignore[arg-type]
    assert [step for step, _ in losses(after)] == [step for step, _ in wanted]
    assert [loss for _, loss in losses(after)] == pytest.approx([loss for _, loss in wanted], rel=1e-3)


# -- on several processes -----------------------------------------------------------------------------------------


def steps_in(folder: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if line["kind"] == "step"]


@pytest.fixture(scope="session")
def alone(begin: Callable[..., Finetuning], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    run = begin(folder, wise_ft=0.5)
    list(run)
    run.folder.close()
    return folder


def assert_same_run(folder: Path, alone: Path) -> None:
    """Assert that two runs have the same result, up to rounding, which the optimizer amplifies."""
    ours, theirs = steps_in(folder), steps_in(alone)
    assert [step for step, _ in ours] == [step for step, _ in theirs]
    assert [loss for _, loss in ours] == pytest.approx([loss for _, loss in theirs], rel=1e-3)
    began = fresh().encoder.model.state_dict()
    for part in (".", FINE_TUNED):
        ours, theirs = (load_folder(one / part).clip.state_dict() for one in (folder, alone))
        moved = sum(float((theirs[n] - began[n]).square().sum()) for n in began)
        apart = sum(float((theirs[n] - ours[n]).square().sum()) for n in began)
        assert apart < 1e-3 * moved, part


@pytest.mark.slow
def test_a_run_is_resumed_sharded_and_then_whole_again(
    begin: Callable[..., Finetuning],
    data: Path,
    alone: Path,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    first = begin(folder, wise_ft=0.5)
    for record in first:
        first.stop = first.stop or (isinstance(record, Step) and record.step == 1)
    first.folder.close()

    on_two("two_runs.py", data, folder, "fsdp", 4)
    assert [step for step, _ in steps_in(folder)] == [1, 2, 3, 4]
    last = begin(folder, wise_ft=0.5, resume=True)
    list(last)
    last.folder.close()

    assert_same_run(folder, alone)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_get_the_result_of_one(strategy: str, data: Path, alone: Path, tmp_path: Path) -> None:
    on_two("two_runs.py", data, tmp_path / "run", strategy, 99)

    assert_same_run(tmp_path / "run", alone)


def test_a_single_process_is_not_sharded(begin: Callable[..., Finetuning], tmp_path: Path) -> None:
    run = begin(tmp_path / "run", strategy="fsdp")

    assert run.video is not None
    assert not run.video.learner.is_sharded
    assert run.video.engine is run.engine
    run.folder.close()


def test_the_batch_size_is_not_found_with_sharding() -> None:
    with pytest.raises(ConfigError, match=r"batch_size is auto, .* strategy fsdp; give a number"):
        config_of(strategy="fsdp", batch_size="auto")


# -- the model -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_wise_ft_lies_between_the_start_and_the_best(begin: Callable[..., Finetuning], tmp_path: Path) -> None:
    run = begin(tmp_path / "run", wise_ft=0.25)

    results = validations(list(run))

    start, tuned = fresh().encoder.model.state_dict(), load_folder(tmp_path / "run" / FINE_TUNED).clip.state_dict()
    mixed = load_folder(tmp_path / "run").clip.state_dict()
    moved = [name for name in start if not torch.equal(start[name], tuned[name])]
    assert len(moved) > 20
    for name in start:
        assert torch.allclose(mixed[name], start[name] + 0.25 * (tuned[name] - start[name]), atol=1e-6), name
    assert results[-1][0] == "wise_ft"
    assert {"metrics", "wise_ft", "start"} <= report_of(tmp_path / "run").keys()


@pytest.mark.slow
def test_training_ends_early_without_an_improvement(begin: Callable[..., Finetuning], tmp_path: Path) -> None:
    run = begin(tmp_path / "run", epochs=9, lr=1e-12, early_stop=2)

    results = validations(list(run))

    assert [epoch for _, epoch, _ in results] == [0, 1, 2, 3]
    assert report_of(tmp_path / "run")["epoch"] == 1


def test_only_trained_weights_change(begin: Callable[..., Finetuning], tmp_path: Path) -> None:
    list(begin(tmp_path / "run", freeze="image,scale", epochs=1))

    found = load_folder(tmp_path / "run")

    start = fresh().encoder.model.state_dict()
    assert all(torch.equal(tensor, start[n]) for n, tensor in found.clip.state_dict().items())
    assert found.temporal_head is not None
    before = fresh().temporal_head
    assert before is not None
    changed = [n for n, t in found.temporal_head.state_dict().items() if not torch.equal(t, before.state_dict()[n])]
    assert len(changed) > 50


def test_without_a_head_the_model_has_none(begin: Callable[..., Finetuning], tmp_path: Path) -> None:
    list(begin(tmp_path / "run", head="none", pool="mean", epochs=1))

    assert load_folder(tmp_path / "run").temporal_head is None


@pytest.mark.slow
def test_both_branches_are_fused_by_a_weight_that_validation_chooses(
    begin: Callable[..., Finetuning], tmp_path: Path
) -> None:
    run = begin(tmp_path / "run", branch="both", epochs=1)

    results = validations(list(run))

    report, kept = report_of(tmp_path / "run"), load_folder(tmp_path / "run")
    assert [what for what, _, _ in results] == ["video", "video", "attributes", "fused"]
    assert kept.attribute_head is not None
    assert kept.recipe.attribute_weight == report["attribute_weight"]
    assert results[-1][2] >= max(results[1][2], results[2][2])  # weights 0 and 1 are among those tried


@pytest.mark.slow  # over a second of a core
def test_the_attribute_branch_alone_leaves_the_rest_as_it_is(begin: Callable[..., Finetuning], tmp_path: Path) -> None:
    list(begin(tmp_path / "run", branch="attributes", epochs=3))

    kept = load_folder(tmp_path / "run")
    assert kept.attribute_head is not None
    start = fresh().encoder.model.state_dict()
    assert all(torch.equal(tensor, start[n]) for n, tensor in kept.clip.state_dict().items())


@pytest.mark.slow
def test_several_labels_per_video_use_the_sigmoid_loss(
    begin: Callable[..., Finetuning], data: Path, tmp_path: Path
) -> None:
    rows = ["path,label,split"]
    for side in ("train", "val"):
        for file in sorted((data / side).rglob("*.mp4")):
            both = f"{file.parent.name};even" if int(file.stem) % 2 == 0 else file.parent.name
            rows.append(f"{file},{both},{side}")
    (tmp_path / "several.csv").write_text("\n".join(rows))
    labelled = read_labelled(tmp_path / "several.csv", keep_val=True, multi_label=True)

    records = list(begin(tmp_path / "run", labelled=labelled, epochs=6))

    results = [one.metrics["map"] for one in records if isinstance(one, Validation)]
    steps = [one.loss for one in records if isinstance(one, Step)]
    assert max(results[1:]) > results[0]
    assert np.mean(steps[-3:]) < np.mean(steps[:3])


@pytest.mark.slow
def test_the_text_tower_learns_where_nothing_is_frozen(begin: Callable[..., Finetuning], tmp_path: Path) -> None:
    list(begin(tmp_path / "run", freeze="none", epochs=1))

    found = load_folder(tmp_path / "run").clip.state_dict()
    assert not torch.equal(found["text_projection"], fresh().encoder.model.state_dict()["text_projection"])
