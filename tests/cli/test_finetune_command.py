"""`bike finetune` with the bundled model, run in this process: output, files and errors."""

import copy
import functools
import inspect
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from films import drawn, write_video
from invoke import BIKE, ONE_THREAD, Ran, bike, bike_on_terminal

from bike_cli.cli import finetune as command
from bike_cli.cli.plots import files as plots
from bike_cli.engine import engine as engines
from bike_cli.errors import ExitCode
from bike_cli.inference import processes
from bike_cli.locks import acquire_lock
from bike_cli.tasks.finetune import events
from bike_cli.tasks.finetune.run_folder import RunFolder

SHOWN = {"green_star": "blue circle", "red_ring": "green cross", "blue_heart": "red square"}  # words for other things
LABELS = ("blue heart", "green star", "red ring")
EACH = 4  # videos of a class
SMALL = ("-m", "tiny", "--device", "cpu", "--frames", "2", "--batch-size", "4", "--workers", "1")
SMALL = (*SMALL, "--epochs", "2", "--warmup", "0", "--lr", "1e-3")
FAST = ("--epochs", "1", "--freeze", "image,scale")
NO_SUCH_MODEL = ("-m", "no-such-model")  # errors before this one are found before the model is loaded
PNG = b"\x89PNG\r\n\x1a\n"
MODEL = {"config.json", "model.safetensors"}
RUN = MODEL | {".lock", "config.yaml", "labels.txt", "metrics.jsonl", "report.json", "training.png"}


read_once = functools.cache(inspect.unwrap(engines.load))


def loaded(*arguments: object, **options: object) -> engines.Engine:
    """Return a model as it is on disk: runs train theirs in place."""
    engine = read_once(*arguments, **options)
    tokenizer = engine.encoder.tokenizer  # never changes, and is most of the work
    return copy.deepcopy(engine, {id(tokenizer): tokenizer})


def sketched(folder: Path) -> Path:
    """Draw nothing: the picture takes a third of the time of these runs."""
    (folder / "training.png").touch()
    return folder / "training.png"


def finetune(
    *arguments: object, run: Callable[..., Ran] = bike, settings: tuple[str, ...] = SMALL, draws: bool = False
) -> Ran:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "load", loaded)
        if not draws:
            patch.setattr(plots, "write_training_plot", sketched)
        return run("finetune", *settings, *arguments)


def error_of(ran: Ran) -> str:
    """Return the error, which is one line: what is wrong with what, and how to fix it."""
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1
    message = ran.stderr.removeprefix("error: ").rstrip("\n")
    assert ran.stderr == f"error: {message}\n"
    assert ": " in message or " is " in message
    assert "; " in message
    return message


pytestmark = pytest.mark.usefixtures("one_store_for_all")


def film_folder(folder: Path, each: int) -> Path:
    for name, shown in SHOWN.items():
        (folder / name).mkdir(parents=True)
        for i in range(each):
            write_video(folder / name / f"{i}.mp4", np.roll(drawn(shown, frames=8 + i), 3 * i, axis=1))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of four films, named after what they do not show."""
    return film_folder(tmp_path_factory.mktemp("finetune") / "data", EACH)


@pytest.fixture
def own(data: Path, tmp_path: Path) -> Path:
    """A copy of these videos, which a test may change."""
    return Path(shutil.copytree(data, tmp_path / "data"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"


def cut(*videos: Path) -> None:
    """Make videos that cannot be read."""
    for video in videos:
        video.write_bytes(video.read_bytes()[:300])


def report_of(folder: Path) -> dict[str, object]:
    return json.loads((folder / "report.json").read_text())


def log_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def course(folder: Path) -> list[tuple[object, ...]]:
    """Return a log without the times, which differ between runs."""
    keys = ("kind", "branch", "epoch", "step", "loss", "rate", "videos", "failures", "what", "metrics", "is_best")
    return [tuple(record.get(key) for key in keys) for record in log_of(folder)]


def outcome(folder: Path) -> tuple[object, ...]:
    """Return the results of a run."""
    report = report_of(folder)
    return course(folder), report | {"seconds": 0}, (folder / "model.safetensors").read_bytes()


def there(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(data: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """A run without interruptions."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, finetune(data, "--save", folder, draws=True)


@pytest.fixture(scope="module")
def stopped(data: Path, whole: tuple[Path, Ran], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """A run that was stopped in its second epoch: its checkpoints are of steps 3 and 4."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    return folder, stop(signal.SIGTERM, "--save", folder, data, record=6)


def stop(number: signal.Signals, *arguments: object, record: int, times: int = 1) -> Ran:
    """Return a run that gets a signal after a number of records in its log."""
    seen = 0

    def log(folder: RunFolder, one: object) -> None:
        nonlocal seen
        written(folder, one)
        seen += 1
        for _ in range(times if seen == record else 0):
            os.kill(os.getpid(), number)

    written = RunFolder.log
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "log", log)
        return finetune(*arguments)


@pytest.fixture
def unfinished(stopped: tuple[Path, Ran], out: Path) -> Path:
    """The folder of the stopped run, which a test may change."""
    return Path(shutil.copytree(stopped[0], out))


# -- a run --------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # over a second of a core
def test_stdout_gets_the_results_and_stderr_nothing(whole: tuple[Path, Ran]) -> None:
    folder, ran = whole
    report = report_of(folder)

    assert (ran.exit_code, ran.stderr) == (ExitCode.DONE, "")
    head, before, after, *caution = (" ".join(line.split()) for line in ran.stdout.splitlines())
    assert " ".join(caution).startswith("caution: 3 validation videos tell little")
    assert head == "On 3 videos top-1 mean class"  # top-5 of three labels is always 100 %
    assert before.startswith(f"before {100 * report['start']['top1']:.1f} %")  # type: ignore[index]
    assert after.startswith(f"fine-tuned, epoch {report['epoch']} {100 * report['metrics']['top1']:.1f} %")  # type: ignore[index]


def test_the_folder_holds_the_model_and_its_records(whole: tuple[Path, Ran]) -> None:
    folder, _ = whole

    log = log_of(folder)
    assert there(folder) == RUN
    assert [one["kind"] for one in log] == ["validated", *(["step"] * 3 + ["validated"]) * 2]
    assert all(one["loss"] > 0 and one["videos"] == 3 for one in log if one["kind"] == "step")  # type: ignore[operator]
    assert (folder / "training.png").read_bytes()[:8] == PNG
    assert (folder / "labels.txt").read_text().splitlines() == list(LABELS)
    report = report_of(folder)
    assert (report["train"], report["val"], report["classes"], report["failures"]) == (9, 3, 3, 0)
    assert report["settings"]["lr"] == 1e-3  # type: ignore[index]
    assert all(one["metrics"].keys() == {"top1", "macro"} for one in log if one["kind"] == "validated")  # type: ignore[attr-defined]
    assert report["metrics"].keys() == report["start"].keys() == {"top1", "macro"}  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("branch", "flags"),
    [("video", ("--pool", "mean", "--head", "none")), pytest.param("both", (), marks=pytest.mark.slow)],
)
def test_the_command_in_the_note_is_as_accurate_as_the_report_says(
    data: Path, tmp_path: Path, out: Path, branch: str, flags: tuple[str, ...]
) -> None:
    val = film_folder(tmp_path / "val", 2)
    ran = finetune(
        data, "--save", out, "--val", val, "--branch", branch, *flags, "--clip-ratio", "0.3", run=bike_on_terminal
    )

    note = ran.stderr.rsplit(f"{out}: use it with bike ", 1)[1].removesuffix(" video.mp4\x1b[0m\n")
    assert note == f"classify -m {out}"
    videos = sorted(val.rglob("*.mp4"))
    records = bike(*shlex.split(note), "-f", "jsonl", *videos).records
    right = [r["label"] == v.parent.name.replace("_", " ") for r, v in zip(records, videos, strict=True)]
    report = report_of(out)
    metrics = report["metrics" if branch == "video" else "fused"]
    assert sum(right) / len(right) == pytest.approx(metrics["top1"])  # type: ignore[index]


@pytest.fixture(scope="module")
def exported(whole: tuple[Path, Ran], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "mine"
    assert bike("export", whole[0], folder).exit_code == ExitCode.DONE
    return folder


def test_the_model_is_exported(exported: Path) -> None:
    assert there(exported) == MODEL


# -- what the model remembers ---------------------------------------------------------------------------------------


def test_labels_and_settings_of_the_training_are_the_defaults(
    whole: tuple[Path, Ran], exported: Path, data: Path
) -> None:
    videos = sorted(data.rglob("*.mp4"))
    explicit = ("-L", ",".join(LABELS), "--frames", "2", "--explain", "-f", "jsonl")

    for folder in (whole[0], exported):
        short, long = (bike("classify", "-m", folder, *flags, *videos) for flags in (("--explain",), explicit))

        assert (short.exit_code, short.stderr, long.stderr) == (ExitCode.DONE, "", "")
        assert short.records[0]["frames"] == 2
        assert [r["top"] for r in short.records] == [r["top"] for r in long.records]


@pytest.mark.parametrize(
    ("flags", "environment", "file", "frames"),
    [
        ((), {}, "", 2),
        ((), {}, "frames: 5", 5),
        ((), {"BIKE_FRAMES": "4"}, "frames: 5", 4),
        (("--frames", "3"), {"BIKE_FRAMES": "4"}, "frames: 5", 3),
    ],
    ids=["none", "file", "variable", "flag"],
)
@pytest.mark.parametrize("name", ["classify", "eval", "fewshot", "finetune"])
def test_an_explicit_setting_wins_over_that_of_the_training(
    whole: tuple[Path, Ran],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    flags: tuple[str, ...],
    environment: dict[str, str],
    file: str,
    frames: int,
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    (tmp_path / "c.yaml").write_text(file)
    inputs = {"classify": ("v.mp4",), "eval": ("data",), "fewshot": ("data",), "finetune": ("data", "-o", "new")}

    ran = bike(name, *inputs[name], "-m", whole[0], "--config", tmp_path / "c.yaml", *flags, "--dump-config")

    assert f"frames: {frames}\n" in ran.stdout, ran.stderr


def test_a_setting_that_contradicts_the_training_is_one_warning(whole: tuple[Path, Ran], data: Path) -> None:
    video = data / "red_ring" / "0.mp4"

    ran = bike("classify", "-m", whole[0], video, "--frames", "4", "--pool", "mean", "--template", "class")

    assert ran.exit_code == ExitCode.DONE
    assert ran.stderr == (
        f"warning: model {whole[0].name}: was trained with frames 2, pool tcs and template bike, but this run has "
        "frames 4, pool mean and template class; leave out --frames, --pool and --template\n"
    )
    assert len(ran.records) == 1


def test_other_labels_may_be_given_and_further_ones_added(whole: tuple[Path, Ran], data: Path) -> None:
    video = data / "red_ring" / "0.mp4"

    other = bike("classify", "-m", whole[0], video, "-L", "red square, blue star")
    more = bike("classify", "-m", whole[0], video, "--also", "yellow star")

    assert {r["label"] for r in other.records[0]["top"]} == {"red square", "blue star"}  # type: ignore[attr-defined]
    assert {r["label"] for r in more.records[0]["top"]} == {*LABELS, "yellow star"}  # type: ignore[attr-defined]


def test_a_folder_of_version_0_1_needs_its_labels(whole: tuple[Path, Ran], data: Path, out: Path) -> None:
    shutil.copytree(whole[0], out)
    config = json.loads((out / "config.json").read_text())
    del config["training"]
    (out / "config.json").write_text(json.dumps(config))
    video = data / "red_ring" / "0.mp4"

    without = bike("classify", "-m", out, video)
    given = bike("classify", "-m", out, video, "-l", out / "labels.txt", "--explain")

    assert without.exit_code == ExitCode.USAGE
    assert without.stderr == (
        f"error: labels: missing; add -l {out}/labels.txt, or -L 'running, jumping', or a --classifier\n"
    )
    assert (given.exit_code, given.stderr) == (ExitCode.DONE, "")
    assert given.records[0]["frames"] == 8


@pytest.mark.slow  # over a second of a core
def test_the_batches_of_the_recipe_are_a_warning_where_they_leave_few_steps(data: Path, tmp_path: Path) -> None:
    settings = tuple(word for word in SMALL if word not in ("--batch-size", "4"))

    many = finetune(data, "--save", tmp_path / "many", *FAST)
    few = finetune(data, "--save", tmp_path / "few", *FAST, settings=settings)

    assert many.stderr == ""
    assert few.stderr == (
        "warning: training: 1 step of batches of up to 256 change a model little; give a smaller --batch-size, such as "
        "16, and a higher --lr\n"
    )


@pytest.mark.parametrize(("each", "is_cautioned"), [pytest.param(6, True, marks=pytest.mark.slow), (7, False)])
def test_few_validation_videos_carry_a_caution(data: Path, tmp_path: Path, each: int, is_cautioned: bool) -> None:
    val = film_folder(tmp_path / "val", each)

    ran = finetune(data, "--val", val, "--save", tmp_path / "run", *FAST)

    text = " ".join(ran.stdout.split())
    said = "caution: 18 validation videos tell little about accuracy; validate on 20 or more (--val, --val-fraction)"
    assert (said in text) == is_cautioned
    assert ("caution" in text) == is_cautioned


@pytest.mark.slow  # over a second of a core
def test_labels_of_the_training_are_known_whatever_their_words(data: Path, tmp_path: Path) -> None:
    for old, new in zip(sorted(SHOWN), ("wobbling", "zigzagging", "juggling"), strict=True):
        shutil.copytree(data / old, tmp_path / "data" / new)
    trained = finetune(tmp_path / "data", "-o", tmp_path / "run", *FAST)
    assert "knows none of their words" in trained.stderr
    video = data / "red_ring" / "0.mp4"

    own = bike("classify", "-m", tmp_path / "run", video)
    more = bike("classify", "-m", tmp_path / "run", video, "--also", "yodelling")
    evaluated = bike("eval", tmp_path / "data", "-m", tmp_path / "run")

    assert (own.stderr, evaluated.stderr) == ("", "")
    assert more.stderr.startswith("warning: label 'yodelling': run knows none of its words")


@pytest.mark.slow  # over a second of a core
def test_eval_reads_videos_as_the_first_trained_model(whole: tuple[Path, Ran], data: Path, tmp_path: Path) -> None:
    ran = bike("eval", data, "-m", "tiny", "-m", whole[0], "-o", tmp_path / "report.json")

    assert (ran.exit_code, ran.stderr) == (ExitCode.DONE, "")
    assert json.loads((tmp_path / "report.json").read_text())["settings"]["frames"] == 2


@pytest.mark.slow  # over a second of a core
def test_without_matplotlib_there_is_a_warning_and_no_picture(
    data: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda _: None)

    ran = finetune(data, "--save", out, *FAST, draws=True)

    assert ran.exit_code == ExitCode.DONE
    assert ran.stderr == "warning: training.png: is not drawn without matplotlib; pip install 'bike-cli[plots]'\n"
    assert there(out) == RUN - {"training.png"}


@pytest.mark.slow  # over a second of a core
def test_a_picture_that_cannot_be_written_costs_no_results(data: Path, out: Path) -> None:
    (out / "training.png").mkdir(parents=True)

    ran = finetune(data, "--save", out, *FAST, draws=True)

    assert ran.exit_code == ExitCode.USAGE
    assert "fine-tuned" in ran.stdout
    assert ran.stderr.startswith(f"error: {out}: cannot be written (")


# -- the terminal ------------------------------------------------------------------------------------------------


@pytest.mark.slow  # over a second of a core
def test_a_terminal_sees_a_table_that_grows(data: Path, out: Path) -> None:
    ran = finetune(data, "--save", out, *FAST, run=bike_on_terminal)

    shown = " ".join(re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", ran.stderr).split())
    assert "9 videos of 3 labels for training, 3 for validation" in shown
    assert "Branch Epoch Step Loss Rate Speed Waiting Left Memory Failed video 1 3/3" in shown
    assert "Validated Epoch top-1 mean class video 0 " in shown
    assert f"use it with bike classify -m {out} video.mp4" in shown
    assert "for testing" not in shown


@pytest.mark.slow  # over a second of a core
def test_quiet_leaves_the_results(own: Path, out: Path) -> None:
    cut(own / "red_ring" / "1.mp4")

    ran = finetune(own, "--save", out, *FAST, "-q", run=bike_on_terminal)

    assert (ran.exit_code, ran.stderr) == (ExitCode.SOME_FAILED, "")
    assert "fine-tuned" in ran.stdout


@pytest.mark.slow  # over a second of a core
def test_names_never_steer_the_terminal(own: Path, tmp_path: Path) -> None:
    for name, hostile in {"red_ring": "[bold]$a_{b$ \\frac", "green_star": "=1+1", "blue_heart": "turn left"}.items():
        (own / name).rename(own / hostile)
    (own / "=1+1" / "[red]\x1b]0;x\x07\n.mp4").write_bytes(b"no video")

    run = functools.partial(bike_on_terminal, columns=1000)
    ran = finetune(own, "--save", tmp_path / "[red]\x1b]0;y\x07", *FAST, "--epochs", "2", run=run, draws=True)

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert "\x1b]" not in ran.stderr + ran.stdout
    assert "\x07" not in ran.stderr + ran.stdout
    assert ran.stderr.count("[red]\\x1b]0;x\\x07\\x0a.mp4: is not a video") == 1  # of two epochs
    assert "videos are not mirrored: label 'turn left' names a side; --flip yes mirrors them" in ran.stderr
    assert f"{tmp_path}/[red]\\x1b]0;y\\x07: use it with" in ran.stderr
    assert (tmp_path / "[red]\x1b]0;y\x07" / "training.png").read_bytes()[:8] == PNG


def test_no_torch_for_a_dumped_config(tmp_path: Path) -> None:
    dump = [sys.executable, "-X", "importtime", "-m", "bike_cli", "finetune", "data", "--save", "out", "--dump-config"]

    done = subprocess.run(dump, capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path)

    imported = [line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert not {"torch", "open_clip", "matplotlib"} & {name.split(".")[0] for name in imported}
    assert "batch_size: 256\n" in done.stdout
    assert there(tmp_path) == set()


# -- what is trained, on what --------------------------------------------------------------------------------------


def test_the_attribute_branch_is_trained_alone(data: Path, out: Path) -> None:
    ran = finetune(data, "--save", out, *FAST, "--branch", "attributes")

    report = report_of(out)
    assert (ran.exit_code, ran.stderr) == (ExitCode.DONE, "")
    assert f"fused, {100 * report['attribute_weight']:.0f} % attributes" in ran.stdout  # type: ignore[operator]
    assert "fine-tuned" not in ran.stdout
    assert json.loads((out / "config.json").read_text())["attribute_head"] is True
    assert {one["branch"] for one in log_of(out) if one["kind"] == "step"} == {"attributes"}
    assert there(out) == RUN


def multi_label(data: Path, tmp_path: Path) -> Path:
    rows = [
        f"{video},{video.parent.name}{'' if video.parent.name == 'red_ring' else ';small'}"
        for video in sorted(data.rglob("*.mp4"))
    ]
    file = tmp_path / "list.csv"
    file.write_text("\n".join(["path,label", *rows]) + "\n")
    return file


@pytest.mark.slow  # over a second of a core
def test_videos_may_have_several_labels(data: Path, tmp_path: Path, out: Path) -> None:
    ran = finetune(multi_label(data, tmp_path), "--save", out, *FAST, "--multi-label", "--branch", "both")

    assert (ran.exit_code, ran.stderr) == (ExitCode.DONE, "")
    assert ran.stdout.splitlines()[0].split() == ["On", "3", "videos", "mAP"]
    assert report_of(out)["metric"] == "map"
    assert (out / "labels.txt").read_text().splitlines() == [*LABELS, "small"]


@pytest.mark.slow  # over a second of a core
def test_a_label_with_a_semicolon_is_a_warning(data: Path, tmp_path: Path, out: Path) -> None:
    ran = finetune(multi_label(data, tmp_path), "--save", out, "--dry-run")

    assert ran.exit_code == ExitCode.DONE
    assert ran.stderr == (
        "warning: label 'blue heart;small': has a semicolon; add --multi-label if these are several labels\n"
    )


@pytest.fixture
def sides(data: Path, tmp_path: Path) -> Path:
    """Data with three sides; no video of the test side can be read."""
    for side in ("train", "val", "test"):
        shutil.copytree(data, tmp_path / "sides" / side)
    cut(*(tmp_path / "sides" / "test").rglob("*.mp4"))
    return tmp_path / "sides"


@pytest.mark.slow  # over a second of a core
def test_the_test_side_is_not_used(sides: Path, out: Path) -> None:
    ran = finetune(sides, "--save", out, *FAST, run=functools.partial(bike_on_terminal, columns=200))

    assert ran.exit_code == ExitCode.DONE
    assert "12 videos of 3 labels for training, 12 for validation; 12 test videos are not used" in ran.stderr


def test_val_frac_is_refused_with_a_validation_side(sides: Path, out: Path) -> None:
    ran = finetune(sides, "--save", out, *NO_SUCH_MODEL, "--val-frac", "0.3")

    assert ran.exit_code == ExitCode.USAGE
    assert error_of(ran).startswith(
        "--val-fraction: holds videos back for validation, but the data have a validation part;"
    )


@pytest.mark.slow  # over a second of a core
def test_wise_ft_shows_both(data: Path, out: Path) -> None:
    ran = finetune(data, "--save", out, *FAST, "--wise-ft", "0.5")

    assert [line.split()[0] for line in ran.stdout.splitlines()][:4] == ["On", "before", "fine-tuned,", "wise-ft"]
    assert there(out / "fine_tuned") == MODEL
    assert there(out) == RUN | {"fine_tuned"}


@pytest.mark.slow  # over a second of a core
def test_training_ends_early_where_nothing_gets_better(data: Path, out: Path) -> None:
    ran = finetune(data, "--save", out, *FAST, "--epochs", "9", "--early-stop", "1", "--lr", "1e-12")

    assert ran.exit_code == ExitCode.DONE
    assert [one["epoch"] for one in log_of(out) if one["kind"] == "validated"] == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ("--balanced", "--accumulate", "2"),
        pytest.param(("--batch-size", "auto", "--loss", "ce"), marks=pytest.mark.slow),
        pytest.param(
            ("--pool", "mean", "--head", "none", "--freeze", "image", "--precision", "bf16"), marks=pytest.mark.slow
        ),
        ("--no-augment", "--grad-checkpointing", "--freeze", "image:2,head"),
        pytest.param(("--freeze", "none", "--template", "class", "--loss", "ds"), marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_recipes_run(data: Path, out: Path, flags: tuple[str, ...]) -> None:
    ran = finetune(data, "--save", out, *FAST, *flags)

    losses = [one["loss"] for one in log_of(out) if one["kind"] == "step"]
    assert (ran.exit_code, ran.stderr) == (ExitCode.DONE, "")
    assert losses
    assert all(isinstance(loss, float) for loss in losses)


# -- TensorBoard --------------------------------------------------------------------------------------------------


def test_the_error_says_how_to_install_tensorboard(data: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find_spec", lambda _: None)

    ran = finetune(data, "--save", out, *NO_SUCH_MODEL, "--tensorboard")

    assert ran.exit_code == ExitCode.USAGE
    assert error_of(ran) == "--tensorboard: is not installed; pip install 'bike-cli[tensorboard]'"
    assert not out.exists()


@pytest.mark.slow  # over a second of a core
def test_tensorboard_gets_the_values_of_the_log(data: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[tuple[str, object, object]] = []

    class Recorder:
        def __init__(self, folder: Path, *, done: int) -> None:
            assert (folder, done) == (out / "tensorboard", 0)

        def add_scalar(self, tag: str, value: float, step: int) -> None:
            recorded.append((tag, value, step))

        def close(self) -> None:
            recorded.append(("closed", 0, 0))

    monkeypatch.setattr(command, "find_spec", lambda _: object())
    monkeypatch.setattr(events, "TensorBoardLog", Recorder)

    assert finetune(data, "--save", out, *FAST, "--tensorboard").exit_code == ExitCode.DONE

    log = log_of(out)
    assert [event for event in recorded if event[0] == "video/loss"] == [
        ("video/loss", one["loss"], one["step"]) for one in log if one["kind"] == "step"
    ]
    assert [event[1] for event in recorded if event[0] == "video/top1"] == [
        one["metrics"]["top1"]  # type: ignore[index]
        for one in log
        if one["kind"] == "validated"
    ]
    assert recorded[-1][0] == "closed"


def test_event_files_are_written(data: Path, out: Path) -> None:
    pytest.importorskip("tensorboard")

    assert finetune(data, "--save", out, *FAST, "--tensorboard").exit_code == ExitCode.DONE

    (file,) = (out / "tensorboard").iterdir()
    assert file.name.startswith("events.out.tfevents.")


def test_events_of_lost_steps_are_replaced(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for done, steps in ((0, range(1, 6)), (3, range(4, 8))):  # killed after step 5, with a checkpoint of step 3
        log = events.TensorBoardLog(tmp_path, done=done)
        for step in steps:
            log.add_scalar("loss", 10.0 * done + step, step)
        log.close()

    read = accumulator.EventAccumulator(str(tmp_path))
    read.Reload()

    assert [(one.step, one.value) for one in read.Scalars("loss")] == [
        *((step, step) for step in (1, 2, 3)),
        *((step, 30 + step) for step in (4, 5, 6, 7)),
    ]


# -- a dry run ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_dry_run_leaves_nothing_and_the_config_repeats_the_run(
    data: Path, out: Path, whole: tuple[Path, Ran]
) -> None:
    before = there(out.parent)

    tried = finetune(data, "--save", out / "new", "--dry-run")

    assert there(out.parent) == before
    ran = finetune(data, "--config", whole[0] / "config.yaml", "--save", out, settings=())

    assert (tried.exit_code, tried.stderr) == (ExitCode.DONE, "")
    assert "9 for training, 3 for validation" in tried.stdout
    assert re.search(r"Steps +6\b", tried.stdout)
    assert ran == whole[1]
    assert outcome(out) == outcome(whole[0])


@pytest.mark.parametrize("side", ["one", "all"])
def test_a_dry_run_names_unreadable_videos(own: Path, data: Path, out: Path, side: str) -> None:
    broken = [own / "red_ring" / "1.mp4"] if side == "one" else sorted(own.rglob("*.mp4"))
    cut(*broken)

    ran = finetune(own, "--val", data, "--save", out, "--dry-run", "--batch-size", "12")

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert f"{len(broken)} of the batch" in ran.stdout
    assert sorted(line.split(": ")[1] for line in ran.stderr.splitlines()) == [str(path) for path in broken]


@pytest.mark.slow
def test_a_dry_run_leaves_an_unfinished_run_unchanged(unfinished: Path, data: Path) -> None:
    (unfinished / "checkpoints" / ".unfinished-").mkdir()
    with (unfinished / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step"}\n')  # after the last checkpoint
    before = {path: path.is_file() and path.read_bytes() for path in unfinished.rglob("*")}

    tried = finetune(data, "--save", unfinished, "--dry-run", "--resume", "--save-minutes", "99")

    assert tried.exit_code == ExitCode.DONE
    assert {path: path.is_file() and path.read_bytes() for path in unfinished.rglob("*")} == before


def test_a_dry_run_in_an_empty_folder_leaves_it_empty(data: Path, out: Path) -> None:
    out.mkdir()

    tried = finetune(data, "--save", out, "--dry-run")

    assert tried.exit_code == ExitCode.DONE
    assert there(out) == set()


@pytest.mark.parametrize(
    ("content", "place", "message"),
    [
        ("thesis.doc", "", "contains 'thesis.doc', which is not part of a run; choose a new folder"),
        ("report.json", "", "contains a complete run; choose a new folder, or remove it"),
        ("file", "file", "is a file, but a run needs a folder; choose another name"),
        ("file", "file/run", "cannot be created (Not a directory); choose another name"),
    ],
)
def test_a_dry_run_checks_the_folder(data: Path, out: Path, content: str, place: str, message: str) -> None:
    out.mkdir()
    (out / content).touch()

    tried = finetune(data, "--save", out / place, "--dry-run")

    assert tried.exit_code == ExitCode.USAGE
    assert error_of(tried) == f"{out / place}: {message}"
    assert there(out) == {content}


@pytest.mark.slow  # over a second of a core
def test_a_dry_run_refuses_the_folder_of_a_run_that_is_under_way(data: Path, unfinished: Path) -> None:
    lock = acquire_lock(unfinished / ".lock", timeout_s=0)
    assert lock is not None

    with lock:
        tried = finetune(data, "--save", unfinished, "--dry-run", "--resume")

    assert tried.exit_code == ExitCode.USAGE
    assert "another run is using it" in error_of(tried)


# -- videos that cannot be read -----------------------------------------------------------------------------------


@pytest.mark.parametrize("branch", ["attributes", pytest.param("both", marks=pytest.mark.slow)])
def test_a_bad_clip_is_named_once_counted_and_never_replaced(own: Path, data: Path, out: Path, branch: str) -> None:
    bad = own / "red_ring" / "1.mp4"
    cut(bad)

    ran = finetune(own, "--val", data, "--save", out, *FAST, "--epochs", "2", "--branch", branch)

    assert ran.exit_code == ExitCode.SOME_FAILED == 3
    assert [line.split(": ")[1] for line in ran.stderr.splitlines()] == [str(bad)]
    assert report_of(out)["failures"] == {"attributes": 1, "both": 3}[branch]
    assert report_of(out)["unread"] == 0  # of the validation videos
    assert ran.stdout.startswith("On 12 videos ")
    steps = [one for one in log_of(out) if one["kind"] == "step" and one["branch"] == "video"]
    assert [sum(one["videos"] for one in steps[i : i + 3]) for i in range(0, len(steps), 3)] == [11] * (len(steps) // 3)  # type: ignore[misc]


@pytest.mark.slow  # over a second of a core
def test_a_bad_validation_clip_is_named_once_and_counted(own: Path, data: Path, out: Path) -> None:
    cut(own / "red_ring" / "1.mp4")

    ran = finetune(data, "--val", own, "--save", out, *FAST)

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert ran.stderr.startswith(f"warning: {own}/red_ring/1.mp4: ")
    assert ran.stderr.count("\n") == 1
    assert [(one["videos"], one["failures"]) for one in log_of(out) if one["kind"] == "validated"] == [(11, 1)] * 2
    assert report_of(out)["failures"] == 1


@pytest.mark.slow  # over a second of a core
def test_a_class_may_have_no_readable_video(own: Path, data: Path, out: Path) -> None:
    cut(*(own / "red_ring").iterdir())

    ran = finetune(own, "--val", data, "--save", out, *FAST, "--batch-size", "2")

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert ran.stderr.count("warning: ") == EACH
    assert report_of(out)["failures"] == EACH


@pytest.mark.parametrize(
    ("side", "branch", "message"),
    [
        ("val", "video", "validation: none of 12 videos can be read ("),
        ("val", "attributes", "attributes: none of 12 videos can be read ("),
        ("train", "video", "training: none of 12 videos can be read"),
        ("train", "attributes", "attributes: none of 12 videos can be read ("),
    ],
)
def test_without_a_readable_video_no_model_is_written(
    own: Path, data: Path, out: Path, side: str, branch: str, message: str
) -> None:
    cut(*own.rglob("*.mp4"))
    train, val = (own, data) if side == "train" else (data, own)

    ran = finetune(train, "--val", val, "--save", out, *FAST, "--branch", branch)

    error = ran.stderr.splitlines()[-1]
    assert ran.exit_code == ExitCode.USAGE
    assert ran.stdout == ""
    assert error.startswith(f"error: {message}")
    assert "; " in error
    assert not MODEL & there(out)


# -- stopping and resuming -----------------------------------------------------------------------------------------


def start(folder: Path, data: Path, *flags: object) -> subprocess.Popen[str]:
    command = [*BIKE, "finetune", *SMALL, str(data), "--save", str(folder), *map(str, flags)]
    return subprocess.Popen(
        command,
        env={**os.environ, **ONE_THREAD},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(records: int, folder: Path) -> None:
    """Wait until a log has a number of lines."""
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s:
        if (folder / "metrics.jsonl").exists() and len((folder / "metrics.jsonl").read_bytes().splitlines()) >= records:
            return
        time.sleep(0.02)
    raise AssertionError(f"{folder}: no {records} records after a minute")


@pytest.mark.slow
def test_a_process_that_gets_sigterm_leaves_a_checkpoint_and_is_resumed(
    data: Path, out: Path, whole: tuple[Path, Ran]
) -> None:
    with start(out, data) as process:
        wait_for(2, out)
        os.killpg(process.pid, signal.SIGSTOP)
        second = finetune(data, "--save", out, "--resume")
        os.killpg(process.pid, signal.SIGTERM)  # its workers, too, as a cluster does
        os.killpg(process.pid, signal.SIGCONT)
        stdout, stderr = process.communicate(timeout=60)
    again = finetune(data, "--save", out)
    ran = finetune(data, "--save", out, "--resume")

    assert second.exit_code == ExitCode.USAGE
    assert error_of(second) == f"{out}: another run is using it; wait until it ends, or choose a new folder"
    assert (process.returncode, stdout) == (ExitCode.INTERRUPTED, "")
    assert stderr == f"interrupted; {out} is not complete; continue with --resume\n"
    assert again.exit_code == ExitCode.USAGE
    assert error_of(again).startswith(f"{out}: contains an unfinished run; continue it with --resume, or")
    assert ran == whole[1]
    assert outcome(out) == outcome(whole[0])


@pytest.mark.slow
def test_a_process_that_is_killed_at_any_step_loses_nothing(data: Path, out: Path, whole: tuple[Path, Ran]) -> None:
    with start(out, data, "--save-minutes", "1e-9") as process:
        wait_for(random.randint(1, 7), out)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    (out / ".unfinished-killed").mkdir(exist_ok=True)

    ran = finetune(data, "--save", out, "--resume")

    assert process.returncode == -signal.SIGKILL
    assert ran == whole[1]
    assert outcome(out) == outcome(whole[0])
    assert there(out) == RUN


@pytest.mark.parametrize(
    ("number", "branch", "record"),
    [("SIGHUP", "video", 1), pytest.param("SIGINT", "both", 6, marks=pytest.mark.slow)],
)
def test_a_stopped_run_is_resumed_to_the_same_end(
    data: Path, tmp_path: Path, out: Path, number: str, branch: str, record: int
) -> None:
    flags = (data, *FAST, "--branch", branch)
    halted = stop(signal.Signals[number], *flags, "--save", out, "-q", record=record)
    known = course(out)
    ran = finetune(*flags, "--save", out, "--resume")
    finetune(*flags, "--save", tmp_path / "whole")

    assert (halted.exit_code, halted.stdout, halted.stderr) == (ExitCode.INTERRUPTED, "", "")
    assert (ran.exit_code, ran.stderr) == (ExitCode.DONE, "")
    assert outcome(out) == outcome(tmp_path / "whole")
    assert course(out)[: len(known)] == known


def test_a_second_ctrl_c_ends_at_once_and_the_folder_is_free(data: Path, out: Path) -> None:
    halted = stop(signal.SIGINT, data, "--save", out, *FAST, record=2, times=2)
    tried = finetune(data, "--save", out, "--dry-run")

    assert (halted.exit_code, halted.stderr) == (ExitCode.INTERRUPTED, "interrupted\n")
    assert not (out / "checkpoints").exists()
    assert tried.exit_code == ExitCode.DONE


def test_the_terminal_shows_that_the_run_stops(data: Path, out: Path) -> None:
    heard: list[bool] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "save", lambda *_: os.kill(os.getpid(), signal.SIGINT) or heard.append(True))
        ran = finetune(data, "--save", out, *FAST, "--epochs", "2", run=bike_on_terminal)

    assert heard
    assert ran.exit_code == ExitCode.INTERRUPTED
    assert "stopping after this step, with a checkpoint; a second signal stops at once" in ran.stderr


@pytest.mark.slow  # over a second of a core
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--epochs", "3"), "the run was started with epochs 2, and epochs is now 3; use the same, or start over in"),
        (("--lr", "0.5"), "the run was started with lr 0.001, and lr is now 0.5; use the same, or start over in"),
        (("--head", "none"), 'the run was started with head "auto", and head is now "none"; use the same'),
        (("--val", "{more}"), "the run was started with data "),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_run_is_resumed_with_the_same_settings_only(
    unfinished: Path, data: Path, tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    more = film_folder(tmp_path / "more", 1) if flags[0] == "--val" else None
    before = {path: path.read_bytes() for path in unfinished.rglob("*") if path.is_file()}

    ran = finetune(data, "--save", unfinished, "--resume", *(flag.format(more=more) for flag in flags))

    assert ran.exit_code == ExitCode.USAGE
    assert error_of(ran).startswith(f"{unfinished}: {message}")
    assert {path: path.read_bytes() for path in unfinished.rglob("*") if path.is_file()} == before


@pytest.mark.slow  # over a second of a core
def test_a_run_is_resumed_with_its_settings_if_none_are_given(
    unfinished: Path, data: Path, whole: tuple[Path, Ran]
) -> None:
    ran = finetune(data, "--save", unfinished, "--resume", settings=(), draws=True)

    assert ran == whole[1]
    assert outcome(unfinished) == outcome(whole[0])


def test_a_complete_run_is_not_taken_for_another(whole: tuple[Path, Ran], data: Path) -> None:
    ran = finetune(data, "--save", whole[0], "--resume", "--epochs", "3")

    assert ran.exit_code == ExitCode.USAGE
    assert error_of(ran).startswith(f"{whole[0]}: the run was started with epochs 2, and epochs is now 3; use the")
    assert len(log_of(whole[0])) == 9


@pytest.mark.slow
def test_a_complete_run_prints_its_results_again_and_stays_as_it_is(
    whole: tuple[Path, Ran], data: Path, out: Path
) -> None:
    shutil.copytree(whole[0], out)

    ran = finetune(data, "--save", out, "--resume", "--workers", "2", draws=True)

    assert ran == whole[1]
    assert outcome(out) == outcome(whole[0])
    assert (out / "config.yaml").read_bytes() == (whole[0] / "config.yaml").read_bytes()


@pytest.mark.slow  # over a second of a core
def test_a_complete_run_is_not_overwritten(whole: tuple[Path, Ran], data: Path) -> None:
    ran = finetune(data, "--save", whole[0])

    assert ran.exit_code == ExitCode.USAGE
    assert error_of(ran) == f"{whole[0]}: contains a complete run; choose a new folder, or remove it"


def test_the_report_of_a_complete_run_may_be_damaged(whole: tuple[Path, Ran], data: Path, out: Path) -> None:
    shutil.copytree(whole[0], out)
    (out / "report.json").write_text("{")

    ran = finetune(data, "--save", out, "--resume")

    assert ran.exit_code == ExitCode.NO_MODEL
    assert error_of(ran).startswith(f"{out}/report.json: cannot be read as JSON (")


def halve(checkpoint: Path) -> None:
    file = checkpoint / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.slow  # over a second of a core
def test_a_damaged_checkpoint_is_a_warning_and_the_one_before_is_used(
    unfinished: Path, data: Path, whole: tuple[Path, Ran]
) -> None:
    last = unfinished / "checkpoints" / "step-000000004"
    halve(last)

    ran = finetune(data, "--save", unfinished, "--resume")

    assert ran.exit_code == ExitCode.DONE
    assert ran.stderr == f"warning: {last}: is damaged or incomplete; remove it; using the one before\n"
    assert outcome(unfinished) == outcome(whole[0])


def test_a_run_with_only_damaged_checkpoints_is_not_started_over(unfinished: Path, data: Path) -> None:
    for checkpoint in (unfinished / "checkpoints").iterdir():
        halve(checkpoint)
    before = (unfinished / "metrics.jsonl").read_bytes()

    ran = finetune(data, "--save", unfinished, "--resume")

    assert ran.exit_code == ExitCode.NO_MODEL
    assert ran.stderr.splitlines()[-1] == (
        f"error: {unfinished}/checkpoints: all 2 checkpoints are damaged; start over in another folder"
    )
    assert (unfinished / "metrics.jsonl").read_bytes() == before


# -- the output folder --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("{own}", "{own}: is inside {own}, which is read; name a folder outside of it"),
        ("{own}/run", "{own}/run: is inside {own}, which is read; name a folder outside of it"),
        (
            "{own}/red_ring/new/run",
            "{own}/red_ring/new/run: is inside {own}, which is read; name a folder outside of it",
        ),
        ("{here}/link/run", "{here}/link/run: is inside {own}, which is read; name a folder outside of it"),
        ("{val}/run", "{val}/run: is inside {val}, which is read; name a folder outside of it"),
        ("-", "-: is not a folder; name one for the model, its log and its checkpoints"),
        ("{here}/x.onnx", "{here}/x.onnx: is named like a file, but will be a folder; choose another name, such as x"),
    ],
)
def test_a_run_among_the_videos_is_refused(own: Path, tmp_path: Path, place: str, message: str) -> None:
    (tmp_path / "link").symlink_to(own)
    (tmp_path / "val").mkdir()
    places = {"own": own, "here": tmp_path, "val": tmp_path / "val"}

    ran = finetune(own, *NO_SUCH_MODEL, "--val", tmp_path / "val", "--save", place.format(**places))

    assert ran.exit_code == ExitCode.USAGE
    assert error_of(ran) == message.format(**places)
    assert there(own) == set(SHOWN)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("{here}/file", "{here}/file: is a file, but a run needs a folder; choose another name"),
        ("{here}/pipe", "{here}/pipe: is a file, but a run needs a folder; choose another name"),
        ("{here}/file/run", "{here}/file/run: cannot be created (Not a directory); choose another name"),
        ("{here}/strange", "{here}/strange: contains 'thesis.doc', which is not part of a run; choose a new folder"),
        ("{here}/model", "{here}/model: contains a model; choose a new folder"),
        ("/proc/run", "/proc/run: cannot be created (No such file or directory); choose another name"),
    ],
)
def test_existing_files_are_not_overwritten(
    data: Path, tmp_path: Path, whole: tuple[Path, Ran], place: str, message: str
) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for name in ("strange", "model"):
        (tmp_path / name).mkdir()
    (tmp_path / "strange" / "thesis.doc").touch()
    shutil.copy(whole[0] / "model.safetensors", tmp_path / "model")
    here = {"here": tmp_path}

    ran = finetune(data, "--save", place.format(**here), *FAST)

    assert ran.exit_code == ExitCode.USAGE
    assert error_of(ran) == message.format(**here)


def test_missing_parent_folders_are_created_and_resume_auto_may_start_a_run(data: Path, out: Path) -> None:
    ran = finetune(data, "--save", out / "of" / "today", *FAST, "--resume")

    assert ran.exit_code == ExitCode.DONE
    assert there(out / "of" / "today") == RUN


@pytest.mark.skipif(os.getuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_an_error_before_the_first_step(data: Path, out: Path) -> None:
    out.mkdir(mode=0o555)

    ran = finetune(data, "--save", out)

    assert ran.exit_code == ExitCode.USAGE
    assert error_of(ran).startswith(f"{out}: cannot be written (")


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl"])
def test_a_file_that_cannot_be_written_is_an_error_of_one_line(data: Path, out: Path, name: str) -> None:
    (out / name).mkdir(parents=True)

    ran = finetune(data, "--save", out)

    assert ran.exit_code == ExitCode.USAGE
    assert error_of(ran).startswith(f"{out}/{name}: cannot be written (Is a directory); fix that")


def test_a_full_disk_is_an_error_before_the_first_step(data: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**30, 2**30 - 2**20, 2**20))

    ran = finetune(data, "--save", out)

    assert ran.exit_code == ExitCode.USAGE
    assert re.fullmatch(
        rf"{re.escape(str(out))}: the disk has 1 MiB free, but the run needs \d+; free some space, or choose .*",
        error_of(ran),
    )
    assert not MODEL & there(out)


# -- where the model and the report go --------------------------------------------------------------------------------


def test_the_report_is_also_written_to_a_file(data: Path, out: Path, tmp_path: Path) -> None:
    ran = finetune(data, "--save", out, *FAST, "-o", tmp_path / "report.json")

    assert ran.exit_code == ExitCode.DONE
    assert json.loads((tmp_path / "report.json").read_text()) == report_of(out)
    assert there(out) == RUN


@pytest.mark.slow  # over a second of a core
@pytest.mark.parametrize("name", ["run", "run.2026"])
def test_a_folder_after_output_is_still_that_of_the_model(data: Path, tmp_path: Path, name: str) -> None:
    ran = finetune(data, "-o", tmp_path / name, *FAST)

    assert ran.exit_code == ExitCode.DONE
    assert there(tmp_path / name) == RUN
    assert ran.stderr == (
        f"warning: -o {tmp_path / name}: now names the file of the report; give the folder of the model with --save\n"
    )


@pytest.mark.slow  # over a second of a core
def test_a_run_in_a_folder_named_like_a_file_is_still_found(unfinished: Path, data: Path, tmp_path: Path) -> None:
    folder = unfinished.rename(tmp_path / "run.json")

    tried = finetune(data, "-o", folder, "--dry-run", "--resume", "-q")

    assert (tried.exit_code, tried.stderr) == (ExitCode.DONE, "")


@pytest.mark.parametrize("old", [("--resume", "auto"), ("--resume=auto",), ("--resume", "never"), ("--resume=never",)])
def test_the_old_values_of_resume_are_understood(unfinished: Path, data: Path, old: tuple[str, ...]) -> None:
    ran = finetune(*old, data, "--save", unfinished, "--dry-run")

    resumes = old[-1].endswith("auto")
    assert ran.exit_code == (ExitCode.DONE if resumes else ExitCode.USAGE)
    now = "--resume" if resumes else "no --resume"
    first = ran.stderr.splitlines()[0]
    assert first == f"warning: --resume {'auto' if resumes else 'never'}: is now a flag without a value; give {now}"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--save: missing; name a folder for the model, such as --save actions/"),
        (("-o", "{here}/a.json"), "--save: missing; name a folder for the model, such as --save actions/"),
        (
            ("--save", "{here}/run", "-o", "{here}/run/a.json"),
            "{here}/run/a.json: is inside {here}/run, the folder of the run; name a file outside of it",
        ),
        (
            ("--save", "{here}/run", "-o", "{here}/no/a.json"),
            "{here}/no/a.json: its folder does not exist; name a file in a folder that exists",
        ),
        (
            ("--save", "{here}/run", "-o", "{here}/a.json", "--dry-run"),
            "-o: a dry run writes no report; leave out -o or --dry-run",
        ),
        (
            ("--save", "{here}/run", "-o", "{here}/a.mp4"),
            "-o {here}/a.mp4: is the name of a video or image; choose another, such as report.json",
        ),
    ],
)
def test_wrong_places_are_found_before_the_model_is_loaded(
    data: Path, tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    ran = finetune(data, *NO_SUCH_MODEL, *(flag.format(here=tmp_path) for flag in flags))

    assert ran.exit_code == ExitCode.USAGE
    assert error_of(ran) == message.format(here=tmp_path)


# -- usage errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--epochs", "0"), "epochs is 0; give a whole number of at least 1"),
        (("--lr", "0"), "lr is 0.0; give a number above 0"),
        (("--lr", "nan"), "lr is nan; give a number above 0"),
        (("--clip-ratio", "-1"), "clip_ratio is -1.0; give a number of at least 0"),
        (("--weight-decay", "inf"), "weight_decay is inf; give a number of at least 0"),
        (("--epochs", "4", "--warmup", "4"), "warmup is 4.0 of 4 epochs; give fewer, or more epochs"),
        (("--warmup", "nan"), "warmup is nan of 2 epochs; give fewer, or more epochs"),
        (("--seed", "-1"), "seed is -1; give a whole number of at least 0"),
        (("--batch-size", "1"), "batch_size is 1; give a whole number of at least 2"),
        (("--batch-size", "all"), "--batch-size is 'all'; give a whole number or auto"),
        (("--accumulate", "0"), "accumulate is 0; give a whole number of at least 1"),
        (("--early-stop", "0"), "early_stop is 0; give a whole number of at least 1"),
        (("--wise-ft", "1.5"), "wise_ft is 1.5; give a number from 0, the start, to 1, such as 0.5"),
        (("--save-minutes", "0"), "save_minutes is 0.0; give a number above 0"),
        (("--val-frac", "1"), "val_fraction is 1.0; give a number between 0 and 1, such as 0.1"),
        (("--frames", "0"), "frames is 0; give a whole number of at least 1"),
        (("--workers", "0"), "workers is 0; give a whole number of at least 1"),
        (("--temperature", "inf"), "temperature is inf; give a number from 0.000001"),
        (("--wise-ft", "0.5", "--branch", "attributes"), "wise_ft is 0.5, but branch is attributes, and it mixes"),
        (("--val", "{here}/none"), "{here}/none: no such file or folder; give a folder of class folders"),
        (("--val", "{data}"), "{data}/blue_heart: {data}/blue_heart/0.mp4 is for validation, but to train on at"),
        (("-l", "{here}/none"), "{here}/none: "),
        (("--root", "{here}"), "{here}: is a root for the paths in a file, but {data} is a folder; leave"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_usage_errors_are_found_before_the_model_is_loaded(
    data: Path, tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    places = {"data": data, "here": tmp_path}

    ran = finetune(data, "--save", tmp_path / "run", *NO_SUCH_MODEL, *(flag.format(**places) for flag in flags))

    assert ran.exit_code == ExitCode.USAGE == 2
    assert error_of(ran).startswith(message.format(**places))
    assert there(tmp_path) == set()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--loss", "bce"), "loss is bce, but each video has one label; leave it out, or give --multi-label"),
        (("--loss", "nce", "--multi-label"), "loss is nce, but videos have several labels; leave it out, or give bce"),
        (
            ("--freeze", "imago"),
            "freeze is 'imago': unknown part 'imago'; choose from text, image, image:6",
        ),
        (("--freeze", "image:99"), "freeze is image:99: the image tower has 4 blocks; give fewer, or image"),
        (("--freeze", "image,head,scale"), "freeze is 'image,head,scale': nothing is left to train; freeze less"),
        (("--frames", "78"), "frames is 78, but the temporal head of tiny has positions for 77; give fewer --frames"),
        (("--template", "bikes"), "bikes: no such set of templates; the nearest is 'bike'"),
        (
            ("--template", "action", "--freeze", "none"),
            "template 'action': is a set, but a text tower is trained with one template;",
        ),
        (
            ("--branch", "both", "--attributes", "off"),
            "branch is both, but attributes are off; a model trains the",
        ),
        (("--branch", "both", "--attributes", "shape"), "shape: no such lexicon; the nearest is 'shapes'"),
        (("--branch", "attributes", "--dry-run"), "--dry-run: tries a step of the video branch, but only attributes"),
        (("--device", "cuda:99"), "device 'cuda:99': is not on this machine; choose auto or cpu"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_usage_errors_leave_no_model(data: Path, out: Path, flags: tuple[str, ...], message: str) -> None:
    ran = finetune(data, "--save", out, *flags)

    assert ran.exit_code == ExitCode.USAGE
    assert error_of(ran).startswith(message)
    assert not out.exists() or not MODEL & there(out)


def test_single_videos_per_class_leave_none_for_validation(own: Path, out: Path) -> None:
    for video in own.rglob("[1-9].mp4"):
        video.unlink()

    ran = finetune(own, "--save", out)

    assert ran.exit_code == ExitCode.USAGE
    assert ran.stderr.splitlines()[-1] == (
        "error: val_fraction: every class has a single video, so none is left for validation; add videos, or give --val"
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("tinny", "model 'tinny': is not a short name, ARCH,TAG, file or folder; did you mean tiny or pe-tiny?"),
        ("base", "model 'base': its weights are not on this disk, and --offline forbids downloading them"),
    ],
)
def test_a_missing_model_has_its_own_exit_code(
    data: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, message: str
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))

    ran = finetune(data, "--save", out, "-m", model, "--offline")

    assert ran.exit_code == ExitCode.NO_MODEL
    assert ran.stderr.startswith(f"error: {message}")
    assert not out.exists()
