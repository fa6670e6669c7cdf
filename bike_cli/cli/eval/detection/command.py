"""`bike eval --protocol detection`: detected segments against true ones."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bike_cli.cli.eval.predictions import digest_of, system_names
from bike_cli.cli.eval.repeat import compare_with_previous
from bike_cli.cli.eval.request import MANY, EvalRequest, single_file
from bike_cli.config import EvalConfig
from bike_cli.data.predictions.files import DataFile, data_files
from bike_cli.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from bike_cli.data.detection.detections import Detections
    from bike_cli.tasks.detection.report import DetectionReport

UNUSED = ("names", "multi_label", "unknown")  # fields of a request that other protocols have a use for
UNWRITTEN = ("--report", "--confusion")


def evaluate_detection(config: EvalConfig, request: EvalRequest) -> ExitCode:
    """Evaluate files of detected segments, write the report, and print it."""
    from bike_cli.inference.processes import group_from_env

    _check_used(request)
    files = data_files(request.data)
    truth = _truth(request, files)
    if not group_from_env().is_first:  # of several processes, the first one reports
        return ExitCode.DONE
    report = _evaluate_files(config, request, files, truth)
    _write(report, request)
    if request.previous is not None and (code := compare_with_previous(request.previous, report)) is not ExitCode.DONE:
        return code
    return ExitCode.SOME_FAILED if report.data.failed else ExitCode.DONE


def _check_used(request: EvalRequest) -> None:
    """Raise UsageError for a flag that would have no effect."""
    given = next((name for name in UNUSED if getattr(request, name)), None)
    if given is not None:
        flag = given.replace("_", "-")
        raise UsageError(f"--{flag}: has no meaning in protocol detection; leave it out", settings=("protocol",))
    written = next((flag for flag in UNWRITTEN if flag in request.targets), None)
    if written is not None:
        problem = f"{written}: protocol detection does not write it"
        raise UsageError(f"{problem}; leave it out, or write the report as JSON with -o", settings=("protocol",))
    given = next((name for name in MANY if getattr(request, name)), None)
    if given is not None:
        raise UsageError(f"--{given}: is for videos, and protocol detection reads detections; leave it out")


def _truth(request: EvalRequest, files: Sequence[DataFile]) -> Path:
    """Return the file or folder of true segments, or raise UsageError if some file does not hold detections."""
    from bike_cli.data.detection.detections import holds_detections

    truth = single_file(request.labels, "detections have one file of true segments")
    other = next((file for file in files if not Path(file.path).is_file() or not holds_detections(file)), None)
    if other is not None and Path(other.path).exists():
        problem = f"{other.name}: contains no detections; give the output of bike spot -o"
        fix = ", and this with --labels if it has the true segments" if truth is None else ""
        raise UsageError(f"{problem}{fix}", settings=("protocol",))
    if truth is None:
        raise UsageError(f"{files[0].name}: contains detections; name the true segments with --labels truth.json")
    return truth


def _evaluate_files(
    config: EvalConfig, request: EvalRequest, files: Sequence[DataFile], truth: Path
) -> DetectionReport:
    from bike_cli.data.detection.detection_sets import read_detection_set
    from bike_cli.tasks.detection.evaluation import evaluate_detections

    annotated = read_detection_set(truth, root=request.root, subset=request.subset)
    return evaluate_detections(
        _systems(files, merge=request.merge),
        annotated,
        config,
        files=[*(file.name for file in files), str(truth)],
        contents=digest_of([*(Path(file.path) for file in files), *map(Path, annotated.files)]),
        arguments=request.arguments,
    )


def _systems(files: Sequence[DataFile], *, merge: bool) -> list[Detections]:
    from bike_cli.data.detection.detections import merge_detections, read_detections

    read = [read_detections(file, name=name) for file, name in zip(files, system_names(files), strict=True)]
    return [merge_detections(read, name=read[0].name)] if merge else read


def _write(report: DetectionReport, request: EvalRequest) -> None:
    """Write and print the report; a file that cannot be written does not prevent the tables."""
    from bike_cli.cli.eval.detection.tables import print_detection_tables
    from bike_cli.cli.eval.tables import write_json

    error = None
    if request.output is not None:
        try:
            write_json(report, request.output)
        except UsageError as e:
            error = e
    if sys.stdout is not None:
        print_detection_tables(report)
    if error is not None:
        raise error
