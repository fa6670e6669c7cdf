"""`bike eval --from`: repeat the run of a report, and check whether the metrics agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bike_cli.cli.eval.request import EvalRequest
from bike_cli.cli.flags import Flags
from bike_cli.cli.terminal.console import notice, plain, stderr
from bike_cli.config import RESULTS, EvalConfig, flag_of
from bike_cli.errors import ConfigError, ExitCode, UsageError
from bike_cli.settings import leaves, resolve, settings_affecting
from bike_cli.wording import count

if TYPE_CHECKING:
    from bike_cli.tasks.evaluate.report import Value
    from bike_cli.tasks.evaluate.reproduction import AnyReport

WAY_OUT = "name a file that bike eval -o wrote"
PATHS = ("labels", "names", "root", "calibration", "none_from")  # fields of a request


def read_previous(file: Path) -> AnyReport:
    """Return the report to repeat.

    Raises:
        UsageError: the file is not a report of `bike eval -o`.
    """
    from bike_cli.tasks.evaluate.reproduction import any_report_from_json

    try:
        report = any_report_from_json(file.read_text(encoding="utf-8"))
        if not _request_values(report.manifest.arguments).get("data"):
            raise ValueError("its argument data is invalid")
    except (OSError, ValueError) as e:
        raise UsageError(f"{file}: is not a report of bike eval ({e}); {WAY_OUT}") from e
    return report


def arguments_of(flags: Flags, request: EvalRequest) -> dict[str, Value]:
    """Return the flags that were given and affect the metrics, as JSON writes them."""
    values = {name: getattr(request, name) for name in _repeated_fields()}
    written: dict[str, Value] = {}
    for name, value in {**values, **_affecting_results(flags)}.items():
        if isinstance(value, tuple):
            written |= {name: tuple(map(str, value))} if value else {}
        elif value is not None:
            written[name] = value if isinstance(value, int | float) else str(value)
    return written


def apply_previous_arguments(
    previous: AnyReport, flags: Flags, request: EvalRequest
) -> tuple[EvalRequest, dict[str, Value]]:
    """Return the request of an earlier run, with the outputs of this one, and the arguments of the earlier run.

    Raises:
        UsageError: a flag would change what is evaluated.
    """
    default = EvalRequest()
    asked = [name for name in _repeated_fields() if getattr(request, name) != getattr(default, name)]
    asked += [name for name, value in _affecting_results(flags).items() if value is not None]
    if asked:
        flag = "data" if asked[0] == "data" else f"--{asked[0].replace('_', '-')}"
        raise UsageError(f"--from: repeats the run of {request.from_}, so {flag} cannot be given as well; leave it out")
    arguments = previous.manifest.arguments
    known = {*_repeated_fields(), *_affecting_results(dict.fromkeys(leaves(EvalConfig)))}
    repeated = {name: value for name, value in arguments.items() if name in known}
    return replace(request, **_request_values(arguments)), repeated  # type: ignore[arg-type]


def apply_previous_settings(previous: AnyReport, config: EvalConfig) -> EvalConfig:
    """Return the configuration of an earlier run, whatever files and variables set now; only the runtime is today's."""
    known = settings_affecting(config, *RESULTS)
    then = {name: value for name, value in previous.manifest.settings.items() if name in known}
    try:
        return resolve(EvalConfig, flags={**settings_affecting(config, "runtime"), **then}, environment={})
    except ConfigError as e:
        raise UsageError(f"--from: is not a report of bike eval ({e}); {WAY_OUT}") from e


def _repeated_fields() -> list[str]:
    """Return the fields of a request on which metrics depend."""
    described = {f.name: flag_of(f) for f in dataclasses.fields(EvalRequest)}
    return [name for name, flag in described.items() if flag is not None and flag.affects in RESULTS]


def _affecting_results(flags: Flags) -> dict[str, object]:
    affecting = settings_affecting(EvalConfig(), *RESULTS)
    return {name: value for name, value in flags.items() if name in affecting}


def _request_values(arguments: Mapping[str, Value]) -> dict[str, object]:
    """Return the arguments of a report as the fields of a request.

    Raises:
        ValueError: a value of another type than its field.
    """
    values: dict[str, object] = {}
    default = EvalRequest()
    for name in _repeated_fields():
        value = arguments.get(name)
        if value is None:
            continue
        is_list = isinstance(getattr(default, name), tuple)
        items = value if is_list and isinstance(value, tuple) else (value,)
        if not all(isinstance(item, bool if isinstance(getattr(default, name), bool) else str) for item in items):
            raise ValueError(f"its argument {name} is invalid")
        converted = [Path(str(item)) if name in PATHS else item for item in items]
        values[name] = tuple(converted) if is_list else converted[0]
    return values


def compare_with_previous(previous: AnyReport, report: AnyReport) -> ExitCode:
    """Report on stderr whether the metrics agree with those of an earlier run."""
    from bike_cli.tasks.evaluate.reproduction import differing_metrics

    differing = differing_metrics(previous, report)
    if not differing:
        stderr().print(plain("the metrics agree with those of --from", "dim"))
        return ExitCode.DONE
    way_out = "compare data, model and versions"
    if previous.data.contents and report.data.contents:
        is_same = previous.data.contents == report.data.contents
        way_out = "compare model and versions" if is_same else "the videos or labels have changed"
    how_many = count(len(differing), "metric differs", "metrics differ")
    notice(f"--from: {how_many}, first {differing[0]}; {way_out}", level="error")
    return ExitCode.SOME_FAILED
