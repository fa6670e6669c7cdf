"""`bike finetune`: train a model on labelled videos, in a folder that `--model` accepts."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from bike_cli.cli.flags import Flags, TrainingRequest, command, trained_defaults
from bike_cli.cli.help import BikeCommand
from bike_cli.cli.session import session
from bike_cli.cli.terminal.console import (
    display,
    loading,
    notice,
    plain,
    print_usage,
    stderr,
    stderr_is_tty,
)
from bike_cli.cli.terminal.output_file import open_output
from bike_cli.cli.terminal.progress_lines import ProgressLines
from bike_cli.cli.terminal.signals import handling, interrupt_after_imports, stop_signals
from bike_cli.cli.terminal.targets import check_ending, check_folder_name, check_not_media, check_target
from bike_cli.config import BatchConfig, FinetuneConfig, flag
from bike_cli.config.fields import DATA, OUTPUT
from bike_cli.config.finetune import RUN_CONFIG
from bike_cli.errors import ExitCode, UsageError
from bike_cli.settings import flatten, naming_origins, resolve
from bike_cli.wording import count

if TYPE_CHECKING:
    from bike_cli.cli.finetune_view import View
    from bike_cli.data.labelled.train_sets import TrainSet
    from bike_cli.tasks.finetune.run import Finetuning

FEW_STEPS = 100  # fewer are worth a warning with the default batch size
# Training sees one view of a video at a time, and does not fuse attributes from elsewhere.
HIDDEN = ("clips", "crops", "attribute_weight", "attribute_model")


@dataclass(frozen=True, kw_only=True)
class FinetuneRequest(TrainingRequest):
    """The videos to train and validate on, and the folder of the run."""

    save: Path | None = flag(
        "--save",
        default=None,
        metavar="DIR",
        help="Folder to create for the model, the log and the checkpoints. Required.",
    )
    output: Path | None = flag(
        "-o",
        "--output",
        default=None,
        panel=OUTPUT,
        metavar="FILE.json",
        help="Also write the report of the run to this file, as JSON.",
    )
    val: Path | None = flag("--val", default=None, panel=DATA, help="Videos to validate on, in the same form as DATA.")
    multi_label: bool = flag(
        "--multi-label", default=False, panel=DATA, help="Videos have several labels: path,running;jumping."
    )
    resume: bool = flag(
        "--resume",
        default=False,
        panel=OUTPUT,
        help="Continue the run that the folder contains, if any, with its settings.",
    )
    dry_run: bool = flag(
        "--dry-run", default=False, panel=OUTPUT, help="Try one batch, report its time and memory, and exit."
    )
    tensorboard: bool = flag(
        "--tensorboard",
        default=False,
        panel=OUTPUT,
        help="Also write TensorBoard events to the folder; needs bike-cli[tensorboard].",
    )
    asks_val_fraction: bool = False  # by its flag; a config file is for all data

    @property
    def folder(self) -> Path:
        """The folder of the run; `_with_folder` has checked that there is one."""
        assert self.save is not None
        return self.save


class FinetuneCommand(BikeCommand):
    """Accepts `--resume auto` and `--resume never`, as in version 0.1."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - a class that Typer does not export
        """Replace the old forms of --resume, with a warning."""
        current, old = without_resume_value(args)
        if old is not None and not {"-q", "--quiet"} & set(args):
            now = "--resume" if old == "auto" else "no --resume"
            _warn_once(f"--resume {old}: is now a flag without a value; give {now}")
        return super().parse_args(ctx, current)


def without_resume_value(args: Sequence[str]) -> tuple[list[str], str | None]:
    """Return arguments in which --resume has no value, and the value that it had, if any."""
    for i, word in enumerate(args):
        name, _, value = word.partition("=")
        if name == "--resume":
            size = 1 if value else 2
            value = value or next(iter(args[i + 1 :]), "")
            if value in {"auto", "never"}:
                flag_alone = ["--resume"] if value == "auto" else []
                return [*args[:i], *flag_alone, *args[i + size :]], value
    return list(args), None


def configure(flags: Flags, request: FinetuneRequest) -> tuple[FinetuneConfig, FinetuneRequest]:
    """Return the configuration, and the request with what flags ask for.

    The defaults of a run that is resumed are the settings with which it was started.
    """
    before = _settings_of_run(request.save) if request.resume and request.save is not None else None
    defaults = trained_defaults(FinetuneConfig, ignored=HIDDEN) if before is None else before
    config = resolve(FinetuneConfig, flags=flags, file=request.config, defaults=defaults)
    return config, replace(request, asks_val_fraction=flags["val_fraction"] is not None)


def _settings_of_run(folder: Path) -> Mapping[str, object] | None:
    """Return the settings that a run was started with; None if the folder contains no run."""
    file = folder / RUN_CONFIG
    if not file.is_file():
        return None
    with naming_origins():  # of its own: flags may replace these values
        return flatten(resolve(FinetuneConfig, flags={}, file=file, environment={}))


def finetune(config: FinetuneConfig, request: FinetuneRequest) -> ExitCode:
    """Train BIKE on your own videos, on one GPU or many; a run that is stopped can be resumed.

    bike finetune data/ --save actions/ && bike classify -m actions/ clips/

    torchrun --nproc-per-node 8 -m bike_cli finetune data/ --save actions/ --config k400.yaml
    """
    if request.tensorboard and find_spec("tensorboard") is None:
        raise UsageError("--tensorboard: is not installed; pip install 'bike-cli[tensorboard]'")
    request = _with_folder(request)
    _check_targets(request)
    labelled = _labelled(request)
    videos = len(labelled.train) + len(labelled.val or ())
    with session(config, videos=videos, quiet=request.quiet) as running:
        engines, processes = running.load_in_each_process([config.engine.model])
        from bike_cli.tasks.finetune.run import Finetuning

        with loading("labels and data", quiet=running.quiet):
            training = Finetuning(
                engines[config.engine.model],
                labelled,
                config,
                running.pool,
                request.folder,
                resume=request.resume,
                dry_run=request.dry_run,
                processes=processes,
            )
        with closing(training.folder):
            _report_choices(training, labelled, quiet=running.quiet)
            return _rehearse(training) if request.dry_run else _train(training, request, quiet=running.quiet)


finetune_command = command(finetune, configure=configure, hidden=HIDDEN)


def _with_folder(request: FinetuneRequest) -> FinetuneRequest:
    """Return the request with the folder of the run, which -o named in version 0.1."""
    output = request.output
    if request.save is None and output is not None and (output.is_dir() or output.suffix.lower() != ".json"):
        check_not_media(output, suggestion="report.json")
        if not request.quiet:
            _warn_once(f"-o {output}: now names the file of the report; give the folder of the model with --save")
        return replace(request, save=output, output=None)
    if request.save is None:
        raise UsageError("--save: missing; name a folder for the model, such as --save actions/")
    return request


def _check_targets(request: FinetuneRequest) -> None:
    """Raise UsageError, before anything is loaded, if no run can be in the folder; the run checks its content."""
    folder, output = request.folder, request.output
    if str(folder) == "-":
        raise UsageError("-: is not a folder; name one for the model, its log and its checkpoints")
    check_not_media(folder, suggestion="actions/", flag="--save")
    check_folder_name(folder)
    for data in (request.data, request.val):
        # There it would be taken for a class, or videos would be next to a model.
        if data is not None and data.is_dir() and folder.resolve().is_relative_to(data.resolve()):
            raise UsageError(f"{folder}: is inside {data}, which is read; name a folder outside of it")
    if output is None:
        return
    if request.dry_run:
        raise UsageError("-o: a dry run writes no report; leave out -o or --dry-run")
    check_not_media(output, suggestion="report.json")
    if output.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{output}: is inside {folder}, the folder of the run; name a file outside of it")
    read = (request.data, request.val, request.labels, request.config)
    check_target(output, [file for file in read if file is not None])
    check_ending("-o", output, [".json"])


def _warn_once(message: str) -> None:
    """Warn in the first process of a launcher alone."""
    if os.environ.get("RANK", "0") == "0":
        notice(message, level="warning")


def _labelled(request: FinetuneRequest) -> TrainSet:
    from bike_cli.data.labelled.train_sets import read_labelled

    labelled = read_labelled(
        str(request.data),
        names_file=request.labels,
        val=request.val,
        keep_val=True,
        root=request.root,
        multi_label=request.multi_label,
    )
    if labelled.val is not None and request.asks_val_fraction:
        raise UsageError(
            "--val-fraction: holds videos back for validation, but the data have a validation part; leave it out"
        )
    joined = next((label for label in labelled.labels if ";" in label), None)
    if joined is not None and not labelled.multi_label and not request.quiet:
        notice(f"label {joined!r}: has a semicolon; add --multi-label if these are several labels", level="warning")
    return labelled


def _report_choices(training: Finetuning, labelled: TrainSet, *, quiet: bool) -> None:
    console = stderr(quiet=quiet or not stderr_is_tty())
    plan, sided = training.plan, training.plan.sided_label
    parts = [
        f"{count(len(plan.train), 'video')} of {count(len(labelled.labels), 'label')} for training, "
        f"{len(plan.val):,} for validation"
    ]
    if labelled.test:
        parts.append(f"{count(len(labelled.test), 'test video is', 'test videos are')} not used")
    console.print(plain("; ".join(parts), "dim"))
    if training.config.batches.augment and training.config.batches.flip == "auto" and sided is not None:
        console.print(plain(f"videos are not mirrored: label {sided!r} names a side; --flip yes mirrors them", "dim"))
    if not quiet and training.video is not None:
        _warn_of_few_steps(training.video.steps * training.config.learning.epochs, training.config)


def _warn_of_few_steps(steps: int, config: FinetuneConfig) -> None:
    """Warn if the batch size of the recipe for hundreds of thousands of videos leaves too few steps to learn from."""
    if steps < FEW_STEPS and config.batches.batch_size == BatchConfig.batch_size:
        problem = f"{count(steps, 'step')} of batches of up to {config.batches.batch_size} change a model little"
        notice(f"training: {problem}; give a smaller --batch-size, such as 16, and a higher --lr", level="warning")


def _rehearse(training: Finetuning) -> ExitCode:
    from bike_cli.cli.finetune_view import print_rehearsal

    rehearsal = training.rehearse()
    if training.group.is_first:
        print_rehearsal(rehearsal)
    return ExitCode.SOME_FAILED if rehearsal.failures else ExitCode.DONE


def _train(training: Finetuning, request: FinetuneRequest, *, quiet: bool) -> ExitCode:
    from bike_cli.cli.finetune_view import View, print_results
    from bike_cli.cli.plots.files import write_training_plot

    folder, shows_progress = training.folder.path, stderr_is_tty() and not quiet
    events = folder / "tensorboard" if request.tensorboard and training.group.is_first else None
    console = stderr(quiet=not shows_progress)
    view = View(console, events=events, done=training.done)
    lines = ProgressLines("step", wanted=request.progress and not quiet, done=training.done)
    with _stopping_on_signals(training, view), display(console), view, lines:
        for record in training:
            view.add(record)
            if view.steps is not None:
                lines.update(view.steps[0], total=view.steps[1], failed=view.failures)
    if training.was_stopped:
        raise KeyboardInterrupt(f"{folder} is not complete; continue with --resume")
    if not training.group.is_first:
        return ExitCode.DONE
    if sys.stdout is not None:
        print_results(folder)
    if request.output is not None:
        with open_output(request.output) as stream:
            stream.write((folder / "report.json").read_text(encoding="utf-8"))
    if write_training_plot(folder) is None and not quiet:
        notice("training.png: is not drawn without matplotlib; pip install 'bike-cli[plots]'", level="warning")
    if shows_progress:
        print_usage(f"{folder}: use it with {_usage(folder, training.config)}")
    return ExitCode.SOME_FAILED if training.failures else ExitCode.DONE


def _usage(folder: Path, config: FinetuneConfig) -> str:
    """Return the command that classifies as training did; the folder remembers all settings but some attributes."""
    from bike_cli.data.lexicons import lexicon_names

    chosen = config.attributes.attributes
    flags = [] if chosen in ("auto", *lexicon_names()) else ["--attributes", chosen]
    return shlex.join(["bike", "classify", "-m", str(folder), *flags, "video.mp4"])


@contextmanager
def _stopping_on_signals(training: Finetuning, view: View) -> Iterator[None]:
    """Let the first Ctrl-C, SIGTERM or the like end training after its step, with a checkpoint; the second at once."""

    interrupt = interrupt_after_imports()

    def stop(number: int, frame: FrameType | None) -> None:
        if training.stop:
            interrupt(number, frame)
        training.stop = view.is_stopping = True

    # Ignored signals stay ignored: nohup asks for that.
    numbers = [number for number in stop_signals() if signal.getsignal(number) is not signal.SIG_IGN]
    with handling(numbers, stop):
        yield
