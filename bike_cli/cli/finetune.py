"""`bike finetune`: train a model on labelled videos, in a folder that `--model` accepts."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Literal

from bike_cli.cli.flags import Flags, TrainingRequest, command
from bike_cli.cli.session import session
from bike_cli.cli.terminal.console import (
    display,
    handling,
    loading,
    notice,
    plain,
    print_usage,
    stderr,
    stderr_is_tty,
    stop_signals,
)
from bike_cli.cli.terminal.targets import check_folder_name, check_not_media
from bike_cli.config import ClassifyConfig, FinetuneConfig, Flag, flag
from bike_cli.config.fields import DATA, KEEPING, OUTPUT
from bike_cli.errors import ExitCode, UsageError
from bike_cli.settings import flatten, resolve
from bike_cli.wording import count

if TYPE_CHECKING:
    from bike_cli.cli.finetune_view import View
    from bike_cli.data.labelled.train_sets import TrainSet
    from bike_cli.tasks.finetune.run import Finetuning

# Training sees one view of a video at a time, and does not fuse attributes from elsewhere.
HIDDEN = ("clips", "crops", "attribute_weight", "attribute_model")


@dataclass(frozen=True, kw_only=True)
class FinetuneRequest(TrainingRequest):
    """The videos to train and validate on, and the folder of the run."""

    output: Path = field(
        metadata={"flag": Flag(("-o", "--output"), "Folder to create for the model, the log and the checkpoints.")}
    )
    val: Path | None = flag("--val", default=None, panel=DATA, help="Videos to validate on, in the same form as DATA.")
    multi_label: bool = flag(
        "--multi-label", default=False, panel=DATA, help="Videos have several labels: path,running;jumping."
    )
    resume: Literal["auto", "never"] = flag(
        "--resume", default="never", panel=KEEPING, help="With auto, continue the run that the folder contains, if any."
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


def configure(flags: Flags, request: FinetuneRequest) -> tuple[FinetuneConfig, FinetuneRequest]:
    """Return the configuration, and the request with what flags ask for."""
    config = resolve(FinetuneConfig, flags=flags, file=request.config)
    return config, replace(request, asks_val_fraction=flags["val_fraction"] is not None)


def finetune(config: FinetuneConfig, request: FinetuneRequest) -> ExitCode:
    """Train BIKE on your own videos, on one GPU or many; a run that is stopped can be resumed.

    bike finetune data/ -o actions/ && bike classify -m actions/ -l labels.txt clips/

    torchrun --nproc-per-node 8 -m bike_cli finetune data/ -o actions/ --config k400.yaml
    """
    if request.tensorboard and find_spec("tensorboard") is None:
        raise UsageError("--tensorboard: is not installed; pip install 'bike-cli[tensorboard]'")
    _check_output(request)
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
                request.output,
                resume=request.resume == "auto",
                dry_run=request.dry_run,
                processes=processes,
            )
        with closing(training.folder):
            _report_choices(training, labelled, quiet=running.quiet)
            return _rehearse(training) if request.dry_run else _train(training, request, quiet=running.quiet)


finetune_command = command(finetune, configure=configure, hidden=HIDDEN)


def _check_output(request: FinetuneRequest) -> None:
    """Raise UsageError, before anything is loaded, if no run can be in the folder; the run checks its content."""
    output = request.output
    if str(output) == "-":
        raise UsageError("-: is not a folder; name one for the model, its log and its checkpoints")
    check_not_media(output, suggestion="actions/")
    check_folder_name(output)
    for data in (request.data, request.val):
        # There it would be taken for a class, or videos would be next to a model.
        if data is not None and data.is_dir() and output.resolve().is_relative_to(data.resolve()):
            raise UsageError(f"{output}: is inside {data}, which is read; name a folder outside of it")


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
    sides, sided = training.plan.sides, training.plan.sided_label
    parts = [
        f"{count(len(sides.train), 'video')} of {count(len(labelled.labels), 'label')} for training, "
        f"{len(sides.val):,} for validation"
    ]
    if labelled.test:
        parts.append(f"{count(len(labelled.test), 'test video is', 'test videos are')} not used")
    console.print(plain("; ".join(parts), "dim"))
    if training.config.batches.augment and training.config.batches.flip == "auto" and sided is not None:
        console.print(plain(f"videos are not mirrored: label {sided!r} names a side; --flip yes mirrors them", "dim"))


def _rehearse(training: Finetuning) -> ExitCode:
    from bike_cli.cli.finetune_view import print_rehearsal

    rehearsal = training.rehearse()
    if training.group.is_first:
        print_rehearsal(rehearsal)
    return ExitCode.SOME_FAILED if rehearsal.failures else ExitCode.DONE


def _train(training: Finetuning, request: FinetuneRequest, *, quiet: bool) -> ExitCode:
    from bike_cli.cli.finetune_view import View, print_results
    from bike_cli.cli.plots import write_training_plot

    folder, shows_progress = training.folder.path, stderr_is_tty() and not quiet
    events = folder / "tensorboard" if request.tensorboard and training.group.is_first else None
    console = stderr(quiet=not shows_progress)
    view = View(console, events=events, done=training.done)
    with _stopping_on_signals(training, view), display(console), view:
        for record in training:
            view.add(record)
    if training.was_stopped:
        if not quiet:
            notice(f"{folder}: is not complete; continue with --resume auto", level="warning")
        return ExitCode.INTERRUPTED
    if not training.group.is_first:
        return ExitCode.DONE
    if sys.stdout is not None:
        print_results(folder)
    if write_training_plot(folder) is None and not quiet:
        notice("training.png: is not drawn without matplotlib; pip install 'bike-cli[plots]'", level="warning")
    if shows_progress:
        print_usage(f"{folder}: use it with {_usage(folder, training.config)}")
    return ExitCode.SOME_FAILED if training.failures else ExitCode.DONE


def _usage(folder: Path, config: FinetuneConfig) -> str:
    """Return the command that reads videos as training did; the folder contains all settings but these."""
    used, default = flatten(config), flatten(ClassifyConfig())
    settings = [name for name in ("frames", "pool", "attributes") if used[name] != default[name]]
    flags = [word for name in settings for word in (f"--{name}", str(used[name]))]
    return shlex.join(["bike", "classify", "-m", str(folder), *flags, "-l", str(folder / "labels.txt")])


@contextmanager
def _stopping_on_signals(training: Finetuning, view: View) -> Iterator[None]:
    """Let the first Ctrl-C, SIGTERM or the like end training after its step, with a checkpoint; the second at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        if training.stop:
            raise KeyboardInterrupt
        training.stop = view.is_stopping = True

    # Ignored signals stay ignored: nohup asks for that.
    numbers = [number for number in stop_signals() if signal.getsignal(number) is not signal.SIG_IGN]
    with handling(numbers, stop):
        yield
