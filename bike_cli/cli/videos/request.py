"""The flags of commands that answer for each video."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from bike_cli.cli.flags import Flags, Request, trained_defaults
from bike_cli.cli.terminal.signals import import_torch
from bike_cli.cli.videos.sources import Inputs
from bike_cli.config import CalibrateConfig, ClassifyConfig, SpotConfig, TrainingRecord, flag
from bike_cli.config.fields import DATA, OUTPUT, TEXTS
from bike_cli.errors import UsageError
from bike_cli.settings import resolve

if TYPE_CHECKING:
    from bike_cli.engine.heads.saved_classifier import SavedClassifier

Config = TypeVar("Config", ClassifyConfig, SpotConfig, CalibrateConfig)
Asked = TypeVar("Asked", bound="VideosRequest")


@dataclass(frozen=True, kw_only=True)
class VideosRequest(Request):
    """Which videos and labels, and where the answers go."""

    videos: tuple[str, ...] = flag(
        default=(), help="Videos, folders (searched recursively), globs, frame folders; - reads paths from stdin."
    )
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
        help="Read paths from the column of this name; the list on stdin or in --files-from is then CSV or TSV.",
    )
    shard: str | None = flag(
        "--shard",
        default=None,
        panel=DATA,
        metavar="I/N",
        help="Process one of N parts of the videos, from 1/N to N/N; give each part its own -o.",
    )
    format: str | None = None  # a command declares its formats
    output: Path | None = flag(
        "-o", "--output", default=None, panel=OUTPUT, help="Write to this file, which appears when it is complete."
    )
    resume: bool = flag(
        "--resume",
        default=False,
        panel=OUTPUT,
        help="Continue an -o file of JSON lines: process only the videos that it does not contain yet.",
    )
    strict: bool = flag("--strict", default=False, panel=OUTPUT, help="Stop at the first failure, with exit code 3.")
    saved: SavedClassifier | None = None  # what `classifier` contains
    training: TrainingRecord | None = None  # that of the model

    @property
    def inputs(self) -> Inputs:
        """Where the paths of videos come from."""
        return Inputs(self.videos, self.files_from, self.nul, self.column)


def configure(
    config_type: type[Config], flags: Flags, request: Asked, *, ignored: Collection[str] = ()
) -> tuple[Config, Asked]:
    """Return the configuration, whose defaults are those of a classifier or trained model, and the request with it.

    Args:
        ignored: settings of a classifier that are no defaults of this command.
    """
    from bike_cli.engine.models.training_records import training_of

    config, saved = resolve_with_classifier(config_type, flags, request, ignored=ignored)
    return config, replace(request, saved=saved, training=None if saved else training_of(config.engine.model))


def resolve_with_classifier(
    config_type: type[Config], flags: Flags, request: _ClassifierRequest, *, ignored: Collection[str] = ()
) -> tuple[Config, SavedClassifier | None]:
    """Return the configuration, whose defaults are those of a classifier or trained model, and the classifier.

    Args:
        ignored: settings of a classifier or a training that are no defaults of this command.
    """
    if request.classifier is None:
        defaults = trained_defaults(config_type, ignored=ignored)
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
