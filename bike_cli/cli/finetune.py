"""`bike finetune`: labelled videos become a model of one's own, in a folder that every --model takes."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bike_cli.cli import options as o
from bike_cli.cli.terminal.console import (
    display,
    download_aliases,
    error_room,
    loading,
    plain,
    print_config,
    say,
    someone_watches,
    stderr,
    stop_signals,
)
from bike_cli.config import Branch, ClassifyConfig, FinetuneConfig, HeadKind, Loss, Strategy
from bike_cli.errors import ConfigError, ExitCode, UsageError
from bike_cli.settings import dump, flatten, resolve

if TYPE_CHECKING:
    from bike_cli.cli.finetune_view import View
    from bike_cli.data.labelled.train_sets import LabelledSet
    from bike_cli.tasks.finetune.run import Finetuning

LEARNING, BATCHES, KEEPING = "Learning", "Batches", "Validation and checkpoints"
DEFAULTS = flatten(FinetuneConfig())
# Of a video one view at a time is learned from, so there is no flag for these.
NO_FLAGS = {"clips", "crops", "attribute_weight", "attribute_model"}
# Seldom needed here: a config file or BIKE_* sets them, as it sets all others.
NO_FLAGS |= {"sampling", "draft", "decoder", "decode_timeout", "decode_memory", "cache", "cache_dir", "attribute_count"}


def _default(name: str) -> str:
    return str(DEFAULTS[name])


Data = Annotated[
    Path,
    typer.Argument(help="Folder of class folders, with train/ and val/ or without; CSV path,label; list file."),
]
Output = Annotated[
    Path, typer.Option("-o", "--output", help="A new folder for model, log and checkpoints.", rich_help_panel=o.OUTPUT)
]
Val = Annotated[
    Path | None,
    typer.Option("--val", help="Validate on these, in the same form.", show_default=False, rich_help_panel=o.DATA),
]
ValFraction = Annotated[
    float | None,
    typer.Option(
        "--val-frac",
        help="Where nothing else is for validation: this share of each class.",
        show_default=_default("val_fraction"),
        rich_help_panel=o.DATA,
    ),
]
MultiLabel = Annotated[
    bool,
    typer.Option("--multi-label", help="Videos have several labels: path,running;jumping.", rich_help_panel=o.DATA),
]
BranchOption = Annotated[
    Branch | None,
    typer.Option("--branch", help="What learns.", show_default=_default("branch"), rich_help_panel=LEARNING),
]
Head = Annotated[
    HeadKind | None,
    typer.Option(
        "--head",
        help="Temporal head: transf, none; auto is transf.",
        show_default=_default("head"),
        rich_help_panel=LEARNING,
    ),
]
LossOption = Annotated[
    Loss | None,
    typer.Option(
        "--loss", help="auto: nce; bce with --multi-label.", show_default=_default("loss"), rich_help_panel=LEARNING
    ),
]
Freeze = Annotated[
    str | None,
    typer.Option(
        "--freeze",
        metavar="PART,…",
        help="Of text, image, image:6 (its first 6 blocks), head, scale; none frees the text tower.",
        show_default=_default("freeze"),
        rich_help_panel=LEARNING,
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option("--epochs", help="Rounds over the data.", show_default=_default("epochs"), rich_help_panel=LEARNING),
]
Rate = Annotated[
    float | None,
    typer.Option("--lr", help="Rate of heads.", show_default=_default("lr"), rich_help_panel=LEARNING),
]
ClipRatio = Annotated[
    float | None,
    typer.Option(
        "--clip-ratio",
        "--clip-lr-ratio",
        help="CLIP's rate, of that of heads.",
        show_default=_default("clip_ratio"),
        rich_help_panel=LEARNING,
    ),
]
WeightDecay = Annotated[
    float | None,
    typer.Option(
        "--weight-decay", "--wd", help="Of AdamW.", show_default=_default("weight_decay"), rich_help_panel=LEARNING
    ),
]
WarmUp = Annotated[
    float | None,
    typer.Option(
        "--warmup", help="Epochs of it.", show_default="5, or a quarter of fewer than 20", rich_help_panel=LEARNING
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", help="Of all that is random.", show_default=_default("seed"), rich_help_panel=LEARNING),
]
BatchSize = Annotated[
    str | None,
    typer.Option(
        "--batch-size",
        metavar="N|auto",
        help="Videos, over all GPUs; auto: what fits.",
        show_default=_default("batch_size"),
        rich_help_panel=BATCHES,
    ),
]
Accumulate = Annotated[
    int | None,
    typer.Option(
        "--accumulate",
        "--accum",
        metavar="PARTS",
        help="Parts of a batch, one behind the other, for the same gradients.",
        show_default="as few as fit",
        rich_help_panel=BATCHES,
    ),
]
Augment = Annotated[
    bool | None,
    typer.Option(
        "--augment/--no-augment", help="Vary crops, sides and colours.", show_default="on", rich_help_panel=BATCHES
    ),
]
Flip = Annotated[
    Literal["auto", "yes", "no"] | None,
    typer.Option(
        "--flip",
        help="Mirror videos; auto: unless a label says left or right.",
        show_default=_default("flip"),
        rich_help_panel=BATCHES,
    ),
]
Jitter = Annotated[
    bool | None,
    typer.Option("--jitter/--no-jitter", help="Vary colours, grey too.", show_default="on", rich_help_panel=BATCHES),
]
Balanced = Annotated[
    bool | None,
    typer.Option("--balanced", help="Each class equally often.", show_default=False, rich_help_panel=BATCHES),
]
Checkpointing = Annotated[
    bool | None,
    typer.Option(
        "--grad-checkpointing", help="Less memory, a third slower.", show_default=False, rich_help_panel=BATCHES
    ),
]
StrategyOption = Annotated[
    Strategy | None,
    typer.Option(
        "--strategy",
        help="Of several processes: ddp, each has all weights; fsdp, a share of them (ViT-L and up).",
        show_default=_default("strategy"),
        rich_help_panel=BATCHES,
    ),
]
EarlyStop = Annotated[
    int | None,
    typer.Option(
        "--early-stop",
        metavar="EPOCHS",
        help="Stop after so many without a better validation.",
        show_default=False,
        rich_help_panel=KEEPING,
    ),
]
WiseFt = Annotated[
    float | None,
    typer.Option(
        "--wise-ft",
        metavar="SHARE",
        help="Keep weights between those at the start (0) and the tuned ones (1), so that other labels survive.",
        show_default=False,
        rich_help_panel=KEEPING,
    ),
]
SaveMinutes = Annotated[
    float | None,
    typer.Option(
        "--save-minutes",
        help="Between checkpoints; one comes at each epoch's end, too.",
        show_default=_default("save_minutes"),
        rich_help_panel=KEEPING,
    ),
]
Resume = Annotated[
    Literal["auto", "never"],
    typer.Option("--resume", help="auto: go on where a run in the folder stands.", rich_help_panel=KEEPING),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Try one batch, tell time and memory, and stop.", rich_help_panel=o.OUTPUT)
]
TensorBoard = Annotated[
    bool, typer.Option("--tensorboard", help="Write its events into the folder, too.", rich_help_panel=o.OUTPUT)
]


def finetune_command(  # the signature is the manual
    data: Data,
    output: Output,
    labels: o.NamesFile = None,
    val: Val = None,
    val_fraction: ValFraction = None,
    multi_label: MultiLabel = False,
    root: o.Root = None,
    branch: BranchOption = None,
    head: Head = None,
    loss: LossOption = None,
    freeze: Freeze = None,
    epochs: Epochs = None,
    lr: Rate = None,
    clip_ratio: ClipRatio = None,
    weight_decay: WeightDecay = None,
    warmup: WarmUp = None,
    seed: Seed = None,
    batch_size: BatchSize = None,
    accumulate: Accumulate = None,
    augment: Augment = None,
    flip: Flip = None,
    jitter: Jitter = None,
    balanced: Balanced = None,
    checkpointing: Checkpointing = None,
    strategy: StrategyOption = None,
    early_stop: EarlyStop = None,
    wise_ft: WiseFt = None,
    save_minutes: SaveMinutes = None,
    resume: Resume = "never",
    model: o.Model = None,
    device: o.Device = None,
    precision: o.PrecisionOption = None,
    offline: o.Offline = None,
    compile: o.Compile = None,  # noqa: A002 - the field's own name
    frames: o.Frames = None,
    pool: o.PoolOption = None,
    spot: o.SpotOption = None,
    temperature: o.Temperature = None,
    workers: o.Workers = None,
    template: o.Template = None,
    attributes: o.Attributes = None,
    dry_run: DryRun = False,
    tensorboard: TensorBoard = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
    config: o.ConfigFile = None,
    dump_config: o.DumpConfig = False,
) -> None:
    """Train BIKE on your own videos: one command, on one GPU or many, that loses nothing when it is stopped.

    bike finetune data/ -o actions/ && bike classify -m actions/ -l labels.txt clips/

    torchrun --nproc-per-node 8 -m bike_cli finetune data/ -o actions/ --config k400.yaml
    """
    given = locals()
    with error_room(quiet=quiet, verbose=verbose):
        raise typer.Exit(_configured(given))


def _configured(given: dict[str, object]) -> ExitCode:
    flags = {name: given[name] for name in o.fields_of(FinetuneConfig) if name not in NO_FLAGS}
    flags["batch_size"] = _batch_size(given["batch_size"])
    file = given["config"]
    settings = resolve(FinetuneConfig, flags=flags, file=file if isinstance(file, Path) else None)
    if given["dump_config"]:
        print_config(dump(settings))
        return ExitCode.DONE
    return run(given, settings, quiet=bool(given["quiet"]))


def run(given: dict[str, object], config: FinetuneConfig, *, quiet: bool) -> ExitCode:
    """Train as asked for; return what the shell is told."""
    from bike_cli.video.workers.pool import DecodePool

    if given["tensorboard"] and find_spec("tensorboard") is None:
        raise UsageError("--tensorboard: is not installed; pip install 'bike-cli[tensorboard]'")
    _check_output(given)
    labelled = _labelled(given, quiet=quiet)
    most = len(labelled.train) + len(labelled.val or ())
    with DecodePool(config.sampling, config.decoding, most=most) as pool:
        download_aliases([config.engine.model], offline=config.engine.offline, quiet=quiet)
        pool.warm_up()  # while torch and the model are loaded
        from bike_cli.inference.processes import found, load_among, together

        by = found()
        quiet = quiet or not by.is_first
        with loading(config.engine.model, quiet=quiet):
            engine = load_among(config.engine, by)
        with together(by, engine.encoder.placement.device):
            from bike_cli.tasks.finetune.run import Finetuning

            folder, resume = Path(str(given["output"])), given["resume"] == "auto"
            with loading("labels and data", quiet=quiet):
                training = Finetuning(engine, labelled, config, pool, folder, resume=resume, processes=by)
            with closing(training.folder):
                _say_choices(training, labelled, quiet=quiet)
                return _rehearsed(training) if given["dry_run"] else _trained(training, given, quiet=quiet)


def _batch_size(text: object) -> int | str | None:
    if not isinstance(text, str) or text == "auto":
        return None if text is None else str(text)
    try:
        return int(text)
    except ValueError as e:
        raise ConfigError(f"batch_size is {text!r}; give a whole number, or auto") from e


def _check_output(given: dict[str, object]) -> None:
    """Raise UsageError where no run can lie, before anything is loaded; what is there already, the run looks at."""
    output = Path(str(given["output"]))
    if str(output) == "-":
        raise UsageError("-: is no folder; name one for the model, its log and its checkpoints")
    for name in ("data", "val"):
        read = given[name]
        # There it would be a class, or videos would lie beside a model.
        if isinstance(read, Path) and read.is_dir() and output.resolve().is_relative_to(read.resolve()):
            raise UsageError(f"{output}: lies in {read}, which is read; name a folder outside of it")


def _labelled(given: dict[str, object], *, quiet: bool) -> LabelledSet:
    from bike_cli.data.labelled.train_sets import read_labelled

    paths = {name: given[name] for name in ("labels", "val", "root")}
    names_file, val, root = (path if isinstance(path, Path) else None for path in paths.values())
    labelled = read_labelled(
        str(given["data"]),
        names_file=names_file,
        val=val,
        keep_val=True,
        root=root,
        multi_label=bool(given["multi_label"]),
    )
    if labelled.val is not None and given["val_fraction"] is not None:
        raise UsageError(
            "val_fraction: holds videos back for validation, but the data have a validation side; leave it out"
        )
    joined = next((label for label in labelled.labels if ";" in label), None)
    if joined is not None and not labelled.multi_label and not quiet:
        say(f"label {joined!r}: holds a semicolon; give --multi-label if these are several labels", level="warning")
    return labelled


def _say_choices(training: Finetuning, labelled: LabelledSet, *, quiet: bool) -> None:
    """Tell what was chosen for the user."""
    console = stderr(quiet=quiet or not someone_watches())
    sides = training.sides
    parts = [
        f"{len(sides.train):,} videos of {len(labelled.labels)} labels to learn from, {len(sides.val):,} to validate on"
    ]
    if labelled.test:
        parts.append(f"{len(labelled.test):,} for testing are left alone")
    console.print(plain("; ".join(parts), "dim"))
    if training.config.batches.augment and training.config.batches.flip == "auto" and training.sided is not None:
        console.print(
            plain(f"videos are not mirrored: label {training.sided!r} says a side; --flip yes mirrors", "dim")
        )


def _rehearsed(training: Finetuning) -> ExitCode:
    from bike_cli.cli.finetune_view import print_rehearsal

    rehearsal = training.rehearse()
    if training.by.is_first:
        print_rehearsal(rehearsal)
    return ExitCode.SOME_FAILED if rehearsal.failures else ExitCode.DONE


def _trained(training: Finetuning, given: dict[str, object], *, quiet: bool) -> ExitCode:
    from bike_cli.cli.finetune_view import View, print_results
    from bike_cli.cli.plots import write_training_plot

    folder, watched = training.folder.path, someone_watches() and not quiet
    events = folder / "tensorboard" if given["tensorboard"] and training.by.is_first else None
    console = stderr(quiet=not watched)
    view = View(console, events=events, done=training.done)
    with _asked_to_stop(training, view), display(console), view:
        for record in training:
            view.add(record)
    if training.was_stopped:
        if not quiet:
            say(f"{folder}: is not complete; go on with --resume auto", level="warning")
        return ExitCode.INTERRUPTED
    if not training.by.is_first:
        return ExitCode.DONE
    if sys.stdout is not None:
        print_results(folder)
    if write_training_plot(folder) is None and not quiet:
        say("training.png: is not drawn without matplotlib; pip install 'bike-cli[plots]'", level="warning")
    if watched:
        stderr().print(plain(f"{folder}: use it with {_use(folder, training.config)}", "dim"))
    return ExitCode.SOME_FAILED if training.failures else ExitCode.DONE


def _use(folder: Path, config: FinetuneConfig) -> str:
    """Return the command that sees videos as training did; the model brings along all but these settings."""
    given, usual = flatten(config), flatten(ClassifyConfig())
    settings = [name for name in ("frames", "pool", "attributes") if given[name] != usual[name]]
    flags = [word for name in settings for word in (f"--{name}", str(given[name]))]
    return shlex.join(["bike", "classify", "-m", str(folder), *flags, "-l", str(folder / "labels.txt")])


@contextmanager
def _asked_to_stop(training: Finetuning, view: View) -> Iterator[None]:
    """Let the first Ctrl-C, SIGTERM or the like end training after its step, with a checkpoint; the second at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        if training.stop:
            raise KeyboardInterrupt
        training.stop = view.is_stopping = True

    # Ignored ones stay so: nohup asks for that.
    numbers = [number for number in stop_signals() if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)
