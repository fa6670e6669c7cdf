"""The request of `bike eval`, and what several of its modules read from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bike_cli.cli.eval.systems import MANY
from bike_cli.cli.flags import Request
from bike_cli.config import SUBSET, flag
from bike_cli.config.fields import DATA, FRAMES, MODEL, OUTPUT, TEXTS
from bike_cli.errors import UsageError

if TYPE_CHECKING:
    from bike_cli.data.labelled.eval_sets import EvalSet
    from bike_cli.tasks.evaluate.report import EvaluationReport, Value


@dataclass(frozen=True, kw_only=True)
class EvalRequest(Request):
    """What to evaluate, and what to write; `--from` repeats the fields that affect scores."""

    data: tuple[str, ...] = field(
        default=(),
        metadata=flag(
            affects="scores",
            metavar="DATA…",
            help="Class folders, CSV path,label, list files, Charades or ActivityNet annotations; or predictions.",
        ),
    )
    labels: tuple[Path, ...] = field(
        default=(),
        metadata=flag(
            "-l",
            "--labels",
            panel=DATA,
            affects="scores",
            help="File of all classes (id,name; name,label; one per line), or one file for each list; with "
            "predictions, the labelled data.",
        ),
    )
    names: Path | None = field(
        default=None,
        metadata=flag("--names", panel=DATA, affects="scores", help="With predictions, the file of all classes."),
    )
    root: Path | None = field(
        default=None,
        metadata=flag(
            "--root",
            panel=DATA,
            affects="scores",
            default_text="that of the file",
            help="Folder that paths in a file are relative to.",
        ),
    )
    multi_label: bool = field(
        default=False,
        metadata=flag("--multi-label", panel=DATA, affects="scores", help="Videos have several labels."),
    )
    unknown: str | None = field(
        default=None,
        metadata=flag(
            "--unknown",
            panel=DATA,
            affects="scores",
            metavar="CLASS",
            help="Class of videos that have none of the labels.",
        ),
    )
    subset: str = field(
        default=SUBSET,
        metadata=flag("--subset", panel=DATA, affects="scores", help="Subset of ActivityNet annotations to use."),
    )
    merge: bool = field(
        default=False,
        metadata=flag(
            "--merge", panel=DATA, affects="scores", help="Files of predictions are parts of one, as --shard writes."
        ),
    )
    model: tuple[str, ...] = field(
        default=(),
        metadata=flag(
            "-m", "--model", panel=MODEL, affects="scores", help="Model, see bike models; repeat to compare several."
        ),
    )
    template: tuple[str, ...] = field(
        default=(),
        metadata=flag(
            "--template", panel=TEXTS, affects="scores", help="As in bike classify; repeat to compare several."
        ),
    )
    pool: tuple[str, ...] = field(
        default=(),
        metadata=flag("--pool", panel=FRAMES, affects="scores", help="tcs or mean; repeat to compare both."),
    )
    attributes: tuple[str, ...] = field(
        default=(),
        metadata=flag(
            "--attributes", panel=TEXTS, affects="scores", help="As in bike classify; repeat to compare several."
        ),
    )
    output: Path | None = field(
        default=None, metadata=flag("-o", "--output", panel=OUTPUT, help="Write the whole report as JSON.")
    )
    report: Path | None = field(
        default=None, metadata=flag("--report", panel=OUTPUT, help="Write a report for people, as an HTML page.")
    )
    confusion: Path | None = field(
        default=None,
        metadata=flag("--confusion", panel=OUTPUT, help="Write the first system's confusion matrix as .csv or .png."),
    )
    from_: Path | None = field(
        default=None, metadata=flag("--from", help="Repeat the run of a JSON report, and check that the metrics agree.")
    )
    arguments: Mapping[str, Value] = field(default_factory=dict)  # flags that were given, for the report
    previous: EvaluationReport | None = None  # the content of `from_`

    @property
    def compared(self) -> dict[str, list[str]]:
        """The different values of each setting that is given, of those in which systems may differ."""
        return {name: list(dict.fromkeys(values)) for name in MANY if (values := getattr(self, name))}

    @property
    def targets(self) -> dict[str, Path]:
        """The files to write, by flag."""
        targets = {"-o": self.output, "--report": self.report, "--confusion": self.confusion}
        return {name: file for name, file in targets.items() if file is not None}


def single_file(labels: Sequence[Path], why: str) -> Path | None:
    """Return the only file of --labels, or None.

    Raises:
        UsageError: there are several.
    """
    if len(labels) > 1:
        raise UsageError(f"--labels: {why}, and {len(labels)} files were named; name one")
    return labels[0] if labels else None


def read_requested_videos(request: EvalRequest, files: Sequence[str], *, names: Sequence[Path]) -> EvalSet:
    """Return the labelled videos in some files; `names` are one file of all classes, or one for each of the files."""
    from bike_cli.data.labelled.eval_sets import read_eval_set

    return read_eval_set(
        list(files),
        names_file=names,
        root=request.root,
        multi_label=request.multi_label,
        none_of_these=request.unknown,
        subset=request.subset,
    )
