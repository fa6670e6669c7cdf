"""The flags of commands that answer for each video."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from bike_cli.cli.flags import Flags, Request, trained_defaults
from bike_cli.cli.terminal.signals import import_torch
from bike_cli.cli.videos.sources import Inputs
from bike_cli.config import CalibrateConfig, ClassifyConfig, SpotConfig, TrainingRecord, flag
from bike_cli.config.fields import DATA, OUTPUT, TEXTS
from bike_cli.data.parts.folder import is_uri
from bike_cli.errors import UsageError
from bike_cli.settings import resolve

if TYPE_CHECKING:
    from bike_cli.engine.heads.saved_classifier import SavedClassifier

Config = TypeVar("Config", ClassifyConfig, SpotConfig, CalibrateConfig)
Asked = TypeVar("Asked", bound="VideosRequest")
Defaults = Callable[[Mapping[str, object]], Mapping[str, object]]

PARQUET = "parquet"  # the format of a folder
FILE_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".npz", ".npy")
RESUMED = ("jsonl", PARQUET)  # the formats that a further run can add to


@dataclass(frozen=True, kw_only=True)
class InputRequest(Request):
    """Which videos to read, and where the results go."""

    videos: tuple[str, ...] = flag(
        default=(),
        help="Videos, folders (searched recursively), globs, frame folders, tar files; paths or URIs such as "
        "s3://bucket/clips/; - reads them from stdin.",
    )
    nul: bool = flag(
        "-0",
        default=False,
        panel=DATA,
        help="Paths from stdin or --files-from end with NUL, as find -print0 writes them.",
    )
    files_from: Path | None = flag(
        "--files-from", default=None, panel=DATA, help="Read paths from this file, one per line; - is stdin."
    )
    column: str | None = flag(
        "--column",
        default=None,
        panel=DATA,
        help="Read paths from the column of this name; the list on stdin or in --files-from is then CSV or TSV, "
        "and the one in --files-from may be Parquet.",
    )
    shard: str | None = flag(
        "--shard",
        default=None,
        panel=DATA,
        metavar="I/N",
        help="Process one of N parts of the videos, from 1/N to N/N; give each its own -o file, or all the same -o "
        "folder.",
    )
    format: str | None = None  # a command declares its formats
    target: str | None = flag(
        "-o",
        "--output",
        default=None,
        panel=OUTPUT,
        metavar="PATH",
        help="Write to this file, which appears when it is complete; or, if the name ends in /, to a folder of Parquet "
        "files, which further runs and shards add to.",
    )
    resume: bool = flag(
        "--resume",
        default=False,
        panel=OUTPUT,
        help="Continue an -o file of JSON lines: process only the videos that it does not contain yet. A folder of "
        "Parquet files is always continued.",
    )
    strict: bool = flag("--strict", default=False, panel=OUTPUT, help="Stop at the first failure, with exit code 3.")

    @property
    def writes_parts(self) -> bool:
        """Whether the output is a folder of Parquet files."""
        if self.target is None or self.format is not None:
            return self.format == PARQUET
        return is_uri(self.target) or self._names_folder

    @property
    def _names_folder(self) -> bool:
        target = self.target or ""
        return target.endswith(("/", os.sep)) or Path(target).is_dir()

    @property
    def output(self) -> Path | None:
        """The file of `-o`, or a folder of other files than Parquet; None: stdout, or a folder of Parquet files."""
        return None if self.target is None or self.writes_parts else Path(self.target)

    def check_processes(self) -> None:
        """Raise UsageError if a launcher such as torchrun started several processes, and they have no shards.

        They cannot share the videos by themselves: torchrun ends all processes as soon as one exits with another code
        than 0, which means no more than that a video failed.
        """
        processes = os.environ.get("WORLD_SIZE", "")
        if not processes.isdecimal() or int(processes) < 2 or self.shard is not None:
            return
        problem = f"is {processes}, so a launcher started {processes} processes, and each would do all of the work"
        way_out = "start bike without it, with --ray local for several GPUs, or give each process its own --shard"
        raise UsageError(f"WORLD_SIZE: {problem}; {way_out}")

    def check_target(self, format_: str, *, example: str) -> None:
        """Raise UsageError if the output cannot be what the format and `--resume` ask for.

        Args:
            format_: that of the output.
            example: the name of a file of JSON lines.
        """
        folder = example.partition(".")[0]
        if self.target in ("", "-") and self.writes_parts:
            raise UsageError(f"-o {self.target!r}: is not the name of a folder; name one, such as -o {folder}/")
        if self.writes_parts and Path(self.target or "").suffix.lower() in FILE_SUFFIXES and not self._names_folder:
            problem = "is named like a file, and Parquet is written to a folder"
            raise UsageError(f"-o {self.target}: {problem}; rename it, for instance to {folder}/")
        if self.target is None and format_ == PARQUET:
            raise UsageError(f"--format parquet: writes a folder; name one, such as -o {folder}/")
        if self.output is not None and is_uri(str(self.target)):
            way_out = f"name one, such as s3://bucket/{folder}/" + (", and leave --format out" if self.format else "")
            raise UsageError(f"-o {self.target}: object stores take only folders of Parquet files; {way_out}")
        if self.target is not None and self.target.lower().endswith(".parquet"):
            raise UsageError(f"-o {self.target}: Parquet is written to a folder; name one, such as -o {folder}/")
        if self.resume and self.target is None:
            raise UsageError(f"--resume: needs the file of the earlier run; add -o {example}")
        if self.resume and format_ not in RESUMED:
            raise UsageError(f"--resume: needs JSON lines, not {format_}; name a file such as -o {example}")

    @property
    def inputs(self) -> Inputs:
        """Where the paths of videos come from."""
        return Inputs(self.videos, self.files_from, self.nul, self.column)


@dataclass(frozen=True, kw_only=True)
class VideosRequest(InputRequest):
    """Which videos and labels, and where the answers go."""

    labels: Path | None = flag(
        "-l",
        "--labels",
        default=None,
        default_text="the labels that the model was trained with",
        help="File of labels: one per line, # starts a comment; or CSV id,name; or with descriptions, as CSV "
        "label,description or YAML.",
    )
    label_list: tuple[str, ...] = flag(
        "-L", default=(), metavar="A,B,…", help="Labels, separated by commas; repeat to add more."
    )
    classifier: Path | None = flag(
        "--classifier",
        default=None,
        help="Classifier saved by bike fewshot --save, including its labels, model and settings.",
    )
    also: tuple[str, ...] = flag(
        "--also",
        default=(),
        panel=TEXTS,
        metavar="A,B,…",
        help="Labels in addition to those of the classifier or model, recognised by their text; repeat to add more.",
    )
    none: tuple[str, ...] = flag(
        "--none",
        default=(),
        panel=TEXTS,
        metavar="A,B,…",
        help="What else may be seen instead of a label, such as other things of the same kind; it competes with the "
        "labels and is never an answer. Not what can be seen next to a label, such as its background: that would win.",
    )
    none_from: Path | None = flag(
        "--none-from", default=None, panel=TEXTS, help="Read phrases for --none from this file, one per line."
    )
    saved: SavedClassifier | None = None  # what `classifier` contains
    training: TrainingRecord | None = None  # that of the model


def configure(
    config_type: type[Config],
    flags: Flags,
    request: Asked,
    *,
    ignored: Collection[str] = (),
    defaults: Defaults | None = None,
) -> tuple[Config, Asked]:
    """Return the configuration, whose defaults are those of a classifier or trained model, and the request with it.

    Args:
        ignored: settings of a classifier that are no defaults of this command.
        defaults: returns other defaults than those of a trained model; see `resolve`.
    """
    from bike_cli.engine.models.training_records import training_of

    config, saved = resolve_with_classifier(config_type, flags, request, ignored=ignored, defaults=defaults)
    return config, replace(request, saved=saved, training=None if saved else training_of(config.engine.model))


def resolve_with_classifier(
    config_type: type[Config],
    flags: Flags,
    request: _ClassifierRequest,
    *,
    ignored: Collection[str] = (),
    defaults: Defaults | None = None,
) -> tuple[Config, SavedClassifier | None]:
    """Return the configuration, whose defaults are those of a classifier or trained model, and the classifier.

    Args:
        ignored: settings of a classifier or a training that are no defaults of this command.
        defaults: returns other defaults than those of a trained model; see `resolve`.
    """
    if request.classifier is None:
        defaults = defaults or trained_defaults(config_type, ignored=ignored)
        return resolve(config_type, flags=flags, file=request.config, defaults=defaults), None
    import_torch()
    from bike_cli.engine.heads.saved_classifier import load_classifier

    saved = load_classifier(request.classifier)
    settings = {name: value for name, value in saved.settings.items() if name not in ignored}
    return resolve(config_type, flags=flags, file=request.config, defaults=settings), saved


class _ClassifierRequest(Protocol):
    @property
    def config(self) -> Path | None: ...

    @property
    def classifier(self) -> Path | None: ...

    @property
    def saved(self) -> SavedClassifier | None: ...


def check_model(model: str, request: _ClassifierRequest) -> None:
    """Raise UsageError, before weights are downloaded or read, if a classifier was trained with another model.

    If the names do not tell, `prepare` compares the weights.
    """
    if request.saved is None:
        if model.endswith(".bike") and Path(model).is_file():
            raise UsageError(f"{model}: is a classifier, not a model; give it with --classifier")
        return
    from bike_cli.engine.models.aliases import weights_named

    trained = request.saved.model
    names = weights_named(trained), weights_named(model)
    if None not in names and names[0] != names[1]:
        raise UsageError(
            f"{request.classifier}: was trained with the model {trained}, but this run uses {model}; give --model "
            f"{trained}, or train it again with --model {model}",
            settings=("model",),
        )
