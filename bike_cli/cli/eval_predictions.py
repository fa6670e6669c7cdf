"""`bike eval` of predictions that were made before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bike_cli.cli.console import say
from bike_cli.config import EvalConfig
from bike_cli.errors import UsageError

if TYPE_CHECKING:
    from bike_cli.cli.html_report import Mistakes
    from bike_cli.data.predictions import Joined
    from bike_cli.data.tested import Tested


def is_predicted(file: str) -> bool:
    """Return whether a file holds answers of `bike classify`: ActivityNet annotations are JSON, too."""
    path = Path(file)
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        start = stream.read(4096).decode("utf-8", "replace").lstrip("\ufeff \t\r\n[")
    if start.startswith("{"):
        return '"path"' in start.split("\n")[0] and '"database"' not in start
    return path.suffix.lower() in (".csv", ".tsv") and start.startswith(("path,status", "path\tstatus"))


def of_predictions(
    given: dict[str, object], config: EvalConfig, files: Sequence[str]
) -> tuple[dict[str, object], Mistakes]:
    """Return the report on predictions, and no mistakes: there is nothing to look at."""
    from bike_cli.cli.eval_report import whole_report
    from bike_cli.cli.html_report import Mistakes
    from bike_cli.data.predictions import join, read_predictions
    from bike_cli.tasks.evaluate import names_of, truth_of
    from bike_cli.tasks.evaluation_report import Judged, check_protocol, data_of, report_of
    from bike_cli.tasks.score_table import ScoreTable, one_behind_the_other

    labels = one_of(labels_of(given), "predictions have one truth")
    if labels is None:
        raise UsageError(f"{files[0]}: holds predictions; name what is true with --labels truth.csv")
    if config.official:
        raise UsageError(
            "--official: needs the videos, and these are predictions; leave it out, or evaluate the videos"
        )
    names = given["names"]
    tested = tested_of(given, [str(labels)], names=[names] if isinstance(names, Path) else [])
    check_protocol(config, tested)
    read = [read_predictions(file) for file in files]
    joined = [join(one, tested) for one in read]
    tables = []
    for one in joined:
        places = range(len(one.truth.samples))
        truth = truth_of(one.truth, places)
        tables.append(ScoreTable(tested.labels, names_of(one.truth, places), one.logits, truth))
    is_one = bool(given["merge"])
    _say_left_out(files, joined, tested, is_one=is_one)
    tables = [one_behind_the_other(tables)] if is_one else tables
    judged = [Judged(name, table) for name, table in zip(_named(files[:1] if is_one else files), tables, strict=True)]
    known = {sample.source.id: i for i, sample in enumerate(tested.samples)}
    kept = [known[video] for video in tables[0].videos]
    figures = report_of(judged, tested, kept, config)
    failures = [failure for one in (joined if is_one else joined[:1]) for failure in one.failures]
    failed = [{"path": f.path, "type": f.type, "message": f.message} for f in failures]
    data = data_of(tested, [*files, str(labels)], failed, len(kept))
    report = whole_report(given, config, data, figures, engine=None, model=", ".join(read[0].models))
    return report, Mistakes()  # there is nothing to look at


def _named(files: Sequence[str]) -> list[str]:
    """Return names of files that are short, and different."""
    stems = [Path(file).stem for file in files]
    return stems if len(set(stems)) == len(stems) else list(files)


def _say_left_out(files: Sequence[str], joined: Sequence[Joined], tested: Tested, *, is_one: bool) -> None:
    for file, one in zip(files, joined, strict=True):
        if one.only_predicted:
            fact = f"{len(one.only_predicted)} videos have no label, first {one.only_predicted[0]}"
            say(f"{file}: {fact}; they are left out", level="warning")
        if one.only_labelled and not is_one:
            fact = f"{len(one.only_labelled)} videos are not predicted, first {one.only_labelled[0]}"
            say(f"{file}: {fact}; they are left out", level="warning")
    if is_one:
        missing = set.intersection(*(set(one.only_labelled) for one in joined))
        first = next((s.source.id for s in tested.samples if s.source.id in missing), None)
        if first is not None:
            say(f"{files[0]} and others: {len(missing)} videos are not predicted, first {first}", level="warning")


def labels_of(given: Mapping[str, object]) -> list[Path]:
    """Return the files of --labels in their order: none, one for all data, or one for each."""
    told = given["labels"]
    return [Path(str(file)) for file in (told if isinstance(told, list) else [] if told is None else [told])]


def one_of(labels: Sequence[Path], why: str) -> Path | None:
    """Return the one file of --labels, or None, where one is all there may be.

    Raises:
        UsageError: there are more.
    """
    if len(labels) > 1:
        raise UsageError(f"--labels: {why}, and {len(labels)} files were named; name one")
    return labels[0] if labels else None


def tested_of(given: Mapping[str, object], files: Sequence[str], *, names: Sequence[Path]) -> Tested:
    """Return the labelled videos that files name, with all classes from one names file, or one for each file."""
    from bike_cli.data.tested import read_tested

    return read_tested(
        list(files),
        names_file=names,
        root=given["root"] if isinstance(given["root"], Path) else None,
        multi_label=bool(given["multi_label"]),
        none_of_these=None if given["unknown"] is None else str(given["unknown"]),
        subset=str(given["subset"] or "validation"),
    )
