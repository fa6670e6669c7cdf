"""The request of `bike eval`, and what several of its modules read from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from bike_cli.cli.flags import Request
from bike_cli.config import SUBSET, EvalConfig, flag
from bike_cli.config.fields import DATA, DETECTION, FRAMES, OUTPUT, TEXTS
from bike_cli.errors import UsageError

if TYPE_CHECKING:
    from bike_cli.data.labelled.eval_sets import EvalSet
    from bike_cli.tasks.evaluate.report import Value
    from bike_cli.tasks.evaluate.reproduction import AnyReport

MANY = ("model", "template", "descriptions", "pool", "attributes")  # what systems may differ in
_scoring = partial(flag, affects="scores")
_data = partial(_scoring, panel=DATA)


@dataclass(frozen=True, kw_only=True)
class EvalRequest(Request):
    """What to evaluate, and what to write; `--from` repeats the fields that affect scores."""

    data: tuple[str, ...] = _scoring(
        default=(),
        help="Class folders, CSV files path,label, list files, or annotations of Charades or ActivityNet; or "
        "predictions, from bike classify -o or as CSV path,label,score. With protocol detection, true segments, or the "
        "output of bike spot -o.",
    )
    labels: tuple[Path, ...] = _data(
        "-l",
        "--labels",
        default=(),
        help="File of all classes: one per line, or CSV id,name or name,label; repeat it to give each list its own. "
        "With predictions, the labelled data; with the output of bike spot, the true segments.",
    )
    names: Path | None = _data("--names", default=None, help="With predictions, the file of all classes.")
    root: Path | None = _data(
        "--root",
        default=None,
        default_text="the folder of the file",
        help="Folder that relative paths start from.",
    )
    multi_label: bool = _data("--multi-label", default=False, help="Videos have several labels.")
    unknown: str | None = _data(
        "--unknown", default=None, metavar="CLASS", help="Class whose videos have none of the labels."
    )
    subset: str | None = _data(
        "--subset",
        default=None,
        default_text=SUBSET,
        help="Subset of ActivityNet annotations to use, or of THUMOS14's true segments.",
    )
    merge: bool = _data("--merge", default=False, help="Join files of predictions that --shard wrote.")
    model: tuple[str, ...] = _scoring(
        "-m", "--model", default=(), help="Model to evaluate; see bike models. Repeat it to compare several."
    )
    template: tuple[str, ...] = _scoring(
        "--template", default=(), panel=TEXTS, help="Prompt template, as in bike classify; repeat to compare several."
    )
    descriptions: tuple[str, ...] = _scoring(
        "--descriptions",
        default=(),
        panel=TEXTS,
        help="How to use descriptions in the file of classes: add, only or off; repeat to compare them.",
    )
    pool: tuple[str, ...] = _scoring(
        "--pool", default=(), panel=FRAMES, help="How to combine frames: tcs, mean or scores; repeat to compare them."
    )
    attributes: tuple[str, ...] = _scoring(
        "--attributes",
        default=(),
        panel=TEXTS,
        help="Lexicon of attributes, as in bike classify; repeat to compare several.",
    )
    calibration: Path | None = _scoring(
        "--calibration",
        default=None,
        panel=TEXTS,
        help="File that bike calibrate wrote, as in bike classify: scores become probabilities, and --reject auto has "
        "a threshold.",
    )
    none: tuple[str, ...] = _scoring(
        "--none",
        default=(),
        panel=DETECTION,
        metavar="A,B,…",
        help="What else may be seen instead of a label, as in bike spot; repeat to add more.",
    )
    none_from: Path | None = _scoring(
        "--none-from", default=None, panel=DETECTION, help="Read phrases for --none from this file, one per line."
    )
    output: Path | None = flag("-o", "--output", default=None, panel=OUTPUT, help="Write the whole report as JSON.")
    report: Path | None = flag("--report", default=None, panel=OUTPUT, help="Write the report as an HTML page.")
    confusion: Path | None = flag(
        "--confusion", default=None, panel=OUTPUT, help="Write the first system's confusion matrix as .csv or .png."
    )
    reliability: Path | None = flag(
        "--reliability",
        default=None,
        panel=OUTPUT,
        help="Write the first system's reliability diagram, accuracy by confidence, as .csv or .png.",
    )
    from_: Path | None = flag(
        "--from", default=None, help="Repeat the run of a JSON report, and check that the metrics agree."
    )
    arguments: Mapping[str, Value] = field(default_factory=dict)  # flags that were given, for the report
    previous: AnyReport | None = None  # the content of `from_`
    systems: Mapping[str, EvalConfig] = field(default_factory=dict)  # the configurations of `combinations`

    @property
    def compared(self) -> dict[str, list[str]]:
        """The different values of each setting that is given, of those in which systems may differ."""
        return {name: list(dict.fromkeys(values)) for name in MANY if (values := getattr(self, name))}

    @property
    def combinations(self) -> dict[str, dict[str, str]]:
        """The values in which each system differs, by its name. A single system has no name and no such values."""
        several = {name: values for name, values in self.compared.items() if len(values) > 1}
        systems = [dict(zip(several, values, strict=True)) for values in product(*several.values())]
        return {", ".join(v if name == "model" else f"{name} {v}" for name, v in s.items()): s for s in systems}

    @property
    def targets(self) -> dict[str, Path]:
        """The files to write, by flag."""
        targets = {"-o": self.output, "--report": self.report, "--confusion": self.confusion}
        targets |= {"--reliability": self.reliability}
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
        subset=request.subset or SUBSET,
    )
