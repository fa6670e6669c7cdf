"""`bike eval --protocol detection`: detected segments against true ones."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bike_cli.cli.eval.predictions import digest_of, system_names
from bike_cli.cli.eval.repeat import compare_with_previous
from bike_cli.cli.eval.request import MANY, EvalRequest, single_file
from bike_cli.cli.terminal.signals import import_torch
from bike_cli.config import EvalConfig, SpotConfig
from bike_cli.data.predictions.files import DataFile, data_files
from bike_cli.errors import ExitCode, UsageError
from bike_cli.settings import leaves

if TYPE_CHECKING:
    from bike_cli.data.detection.detections import Detections
    from bike_cli.tasks.detection.report import DetectionReport

logger = logging.getLogger(__name__)

UNUSED = ("names", "multi_label", "unknown", "calibration")  # fields of a request that other protocols have a use for
UNWRITTEN = ("--report", "--confusion", "--reliability")
OF_SPOTTING = ("fps", "min_duration", "threshold", "exclusive", "none", "none_from")  # how segments are found in videos
EMPTY_BYTES = 8  # more than an empty file, or list of JSON, has
OF_METRICS = ("seed", "protocol", "official", "resamples", "tiou")


def evaluate_detection(config: EvalConfig, request: EvalRequest) -> ExitCode:
    """Evaluate files of detected segments, or find segments in videos first; write the report, and print it."""
    import_torch()
    from bike_cli.inference.processes import group_from_env

    _check_used(request)
    files = data_files(request.data)
    truth, has_videos = _truth(request, files)
    _check_settings(request, has_videos=has_videos)
    group = group_from_env()
    if not group.is_first:  # of several processes, the first one reports
        return ExitCode.DONE
    if has_videos and group.count > 1:
        logger.warning(
            "protocol detection: only the first of %d processes works; to share the videos, run bike spot --shard, "
            "then bike eval --merge with --labels",
            group.count,
        )
    report = _evaluate_videos(config, request, truth) if has_videos else _evaluate_files(config, request, files, truth)
    _write(report, request)
    if request.previous is not None and (code := compare_with_previous(request.previous, report)) is not ExitCode.DONE:
        return code
    return ExitCode.SOME_FAILED if report.data.failed else ExitCode.DONE


def _check_used(request: EvalRequest) -> None:
    """Raise UsageError for a flag that would have no effect."""
    given = next((name for name in UNUSED if getattr(request, name)), None)
    if given is not None:
        raise _meaningless(given)
    written = next((flag for flag in UNWRITTEN if flag in request.targets), None)
    if written is not None:
        problem = f"{written}: protocol detection does not write it"
        raise UsageError(f"{problem}; leave it out, or write the report as JSON with -o", settings=("protocol",))


def _truth(request: EvalRequest, files: Sequence[DataFile]) -> tuple[Path, bool]:
    """Return the file or folder of true segments, and whether segments are still to be found in its videos.

    Raises:
        UsageError: some file does not hold detections, although others do or --labels is given.
    """
    from bike_cli.data.detection.detections import holds_detections

    truth = single_file(request.labels, "detections have one file of true segments")
    others = [
        file
        for file in files
        if not Path(file.path).is_file() or not (holds_detections(file) or _is_empty_part(file, request))
    ]
    if truth is None and len(others) == len(files):
        if len(files) > 1:
            problem = f"protocol detection: finds segments in the videos of one file, and {len(files)} were named"
            raise UsageError(f"{problem}; name one", settings=("protocol",))
        return Path(files[0].path), True
    other = next((file for file in others if Path(file.path).exists()), None)
    if other is not None:
        problem = f"{other.name}: contains no detections; give the output of bike spot -o"
        fix = ", and this with --labels if it has the true segments" if truth is None else ""
        raise UsageError(f"{problem}{fix}", settings=("protocol",))
    if truth is None:
        raise UsageError(f"{files[0].name}: contains detections; name the true segments with --labels truth.json")
    return truth, False


def _is_empty_part(file: DataFile, request: EvalRequest) -> bool:
    """Return whether this is a part without videos, as `--shard` writes if there are more parts than videos."""
    path = Path(file.path)
    return request.merge and path.stat().st_size <= EMPTY_BYTES and path.read_bytes().split() in ([], [b"[", b"]"])


def _check_settings(request: EvalRequest, *, has_videos: bool) -> None:
    """Raise UsageError for a setting that would have no effect."""
    if not has_videos:
        given = next((name for name in (*MANY, *OF_SPOTTING) if request.arguments.get(name)), None)
        if given is not None:
            problem = f"--{given.replace('_', '-')}: is for videos, and protocol detection reads detections"
            fix = "leave it out, or give the true segments alone, to find segments in their videos"
            raise UsageError(f"{problem}; {fix}")
        return
    of_request = {f.name for f in dataclasses.fields(EvalRequest)}
    used = {*leaves(SpotConfig), *of_request, *OF_METRICS} - {"pool", "merge"}
    given = next((name for name, value in request.arguments.items() if value and name not in used), None)
    if given is not None:
        raise _meaningless(given)


def _meaningless(name: str) -> UsageError:
    flag = name.replace("_", "-")
    return UsageError(f"--{flag}: has no meaning in protocol detection; leave it out", settings=("protocol",))


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


def _evaluate_videos(config: EvalConfig, request: EvalRequest, truth: Path) -> DetectionReport:
    from bike_cli.cli.eval.detection.videos import find_segments
    from bike_cli.data.detection.detection_sets import read_detection_set, sources_of

    annotated = read_detection_set(truth, root=request.root, subset=request.subset)
    systems, engine = find_segments(config, request, annotated, sources_of(annotated))
    from bike_cli.tasks.detection.evaluation import evaluate_detections

    return evaluate_detections(
        systems,
        annotated,
        config,
        engine=engine,
        files=[str(truth)],
        contents=digest_of(list(map(Path, annotated.files))),
        arguments=request.arguments,
    )


def _systems(files: Sequence[DataFile], *, merge: bool) -> list[Detections]:
    from bike_cli.data.detection.detections import merge_detections, read_detections

    read = [
        read_detections(file, name=name, is_part=merge) for file, name in zip(files, system_names(files), strict=True)
    ]
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
