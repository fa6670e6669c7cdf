"""`bike eval --from`: a run of before, made again of what its report says, and whether the digits agree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bike_cli.cli.eval.systems import MANY
from bike_cli.cli.terminal.console import plain, say, stderr
from bike_cli.config import PRIVATE, EvalConfig
from bike_cli.errors import ConfigError, ExitCode, UsageError
from bike_cli.settings import flatten, leaves, resolve

if TYPE_CHECKING:
    from bike_cli.tasks.evaluate.report import EvaluationReport, Value

LISTS, PATHS, FLAGS = ("data", "labels", *MANY), ("labels", "names", "root"), ("multi_label", "merge")
# What says where and how to run, not what: it may be another one each time.
OWN = ("output", "report", "confusion", "from_", "quiet", "verbose", "config", "dump_config", *PRIVATE)


def read_before(file: Path) -> EvaluationReport:
    """Return the report to repeat.

    Raises:
        UsageError: a file that `bike eval -o` did not write.
    """
    from bike_cli.tasks.evaluate.report import EvaluationReport

    try:
        report = EvaluationReport.from_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UsageError(f"{file}: is no report of bike eval -o ({e}); name one") from e
    strange = _strange(report.manifest.arguments)
    if strange is not None:
        raise UsageError(f"{file}: is no report of bike eval -o (its argument {strange} is none of eval); name one")
    return report


def arguments_of(given: Mapping[str, object]) -> dict[str, Value]:
    """Return the arguments of a run that a report has and --from repeats."""
    return {name: _as_written(value) for name, value in given.items() if name not in OWN and value is not None}


def _as_written(value: object) -> Value:
    if isinstance(value, list):
        return tuple(map(str, value))
    return value if isinstance(value, int | float) else str(value)


def _strange(arguments: Mapping[str, Value]) -> str | None:
    """Return the first argument whose value is of another kind than eval's."""
    for name, value in arguments.items():
        some = value if isinstance(value, tuple) and name in LISTS else [value]
        kind = bool if name in FLAGS else str if name in (*LISTS, *PATHS) else object
        if not all(isinstance(one, kind) for one in some):
            return name
    return None if isinstance(arguments.get("data"), tuple) and arguments["data"] else "data"


def take_over(given: dict[str, object], before: EvaluationReport, file: Path) -> None:
    """Let a run be of what another was of.

    Raises:
        UsageError: something was asked for that would make it another run.
    """
    asked = [name for name, value in given.items() if name not in OWN and not (value is None or value is False)]
    if asked:
        flag = "data" if asked[0] == "data" else f"--{asked[0].replace('_', '-')}"
        raise UsageError(f"--from: repeats what {file} was made of, so {flag} cannot be given, too; leave it out")
    for name, value in before.manifest.arguments.items():
        if name not in OWN:
            given[name] = _as_given(name, value)


def _as_given(name: str, value: Value) -> object:
    kind = Path if name in PATHS else str
    if isinstance(value, tuple):
        return [kind(one) for one in value]
    return kind(value) if isinstance(value, str) else value


def config_of_before(before: EvaluationReport, now: EvalConfig) -> EvalConfig:
    """Return the config that a run had, whatever files and variables say today; where and how to run is today's."""
    known = leaves(EvalConfig)
    then = {k: value for k, value in before.manifest.settings.items() if k in known and k not in PRIVATE}
    own = {name: value for name, value in flatten(now).items() if name in PRIVATE}
    try:
        return resolve(EvalConfig, flags=own | then, environment={})
    except ConfigError as e:
        raise UsageError(f"--from: is no report of bike eval -o ({e}); name one") from e


def compared_with(before: EvaluationReport, report: EvaluationReport) -> ExitCode:
    """Report whether metrics are those of before."""
    from bike_cli.tasks.evaluate.report import differing_metrics

    differing = differing_metrics(before, report)
    if not differing:
        stderr().print(plain("the digits agree with those of --from", "dim"))
        return ExitCode.DONE
    way_out = "compare data, model and versions"
    if before.data.contents and report.data.contents:
        is_same = before.data.contents == report.data.contents
        way_out = "compare model and versions" if is_same else "videos or labels are others than before"
    say(f"--from: {len(differing)} figures differ, first {differing[0]}; {way_out}", level="error")
    return ExitCode.SOME_FAILED
