"""`bike eval --from`: a run of before, made again of what its report says, and whether the digits agree."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bike_cli.cli.eval.systems import MANY
from bike_cli.cli.terminal.console import plain, say, stderr
from bike_cli.config import PRIVATE, EvalConfig
from bike_cli.errors import ConfigError, ExitCode, UsageError
from bike_cli.settings import flatten, leaves, resolve

SAMENESS = 1e-6  # how far figures may be apart and still be the same digits, on another machine
LONGEST = 60  # of a value that is shown
FIGURES = ("systems", "splits", "comparisons")
LISTS, PATHS, FLAGS = ("data", "labels", *MANY), ("labels", "names", "root"), ("multi_label", "merge")
# What says where and how to run, not what: it may be another one each time.
OWN = ("output", "report", "confusion", "from_", "quiet", "verbose", "config", "dump_config", *PRIVATE)

Object = Mapping[str, object]


def read_before(file: Path) -> Object:
    """Return the report to repeat.

    Raises:
        UsageError: a file that is no report of `bike eval -o`.
    """
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise UsageError(f"{file}: is no report of bike eval -o ({e}); name one") from e
    wanted = {"arguments": dict, "settings": dict, "data": dict, "systems": list}
    missing = next((k for k, kind in wanted.items() if not _is(report, dict) or not _is(report.get(k), kind)), None)
    strange = None if missing is not None else _strange(report["arguments"])
    if missing is not None or strange is not None:
        fact = f"has no {missing}" if missing is not None else f"its argument {strange} is none of eval"
        raise UsageError(f"{file}: is no report of bike eval -o ({fact}); name one")
    return report  # type: ignore[no-any-return]


def _is(value: object, kind: type) -> bool:
    return isinstance(value, kind)


def _strange(arguments: Object) -> str | None:
    """Return the first argument whose value is of another kind than eval's."""
    for name, value in arguments.items():
        some = value if isinstance(value, list) and name in LISTS else [value]
        kind = bool if name in FLAGS else str if name in (*LISTS, *PATHS) else object
        if not all(isinstance(one, kind) for one in some):
            return name
    return None if isinstance(arguments.get("data"), list) and arguments["data"] else "data"


def take_over(given: dict[str, object], before: Object, file: Path) -> None:
    """Let a run be of what another was of.

    Raises:
        UsageError: something was asked for that would make it another run.
    """
    asked = [name for name, value in given.items() if name not in OWN and not (value is None or value is False)]
    if asked:
        flag = "data" if asked[0] == "data" else f"--{asked[0].replace('_', '-')}"
        raise UsageError(f"--from: repeats what {file} was made of, so {flag} cannot be given, too; leave it out")
    arguments = before["arguments"]
    assert isinstance(arguments, Mapping)
    for name, value in arguments.items():
        if name not in OWN:
            given[name] = _as_path(value) if name in PATHS and value is not None else value


def _as_path(value: object) -> object:
    return [Path(str(one)) for one in value] if isinstance(value, list) else Path(str(value))


def config_of_before(before: Object, now: EvalConfig) -> EvalConfig:
    """Return the config that a run had, whatever files and variables say today; where and how to run is today's."""
    settings = before["settings"]
    assert isinstance(settings, Mapping)
    known = leaves(EvalConfig)
    then = {name: value for name, value in settings.items() if name in known and name not in PRIVATE}
    own = {name: value for name, value in flatten(now).items() if name in PRIVATE}
    try:
        return resolve(EvalConfig, flags=own | then, environment={})
    except ConfigError as e:
        raise UsageError(f"--from: is no report of bike eval -o ({e}); name one") from e


def compared_with(before: Object, report: Object) -> ExitCode:
    """Say whether figures are those of before."""
    now = json.loads(json.dumps({name: report[name] for name in FIGURES}))
    apart = [one for name in FIGURES if name in before for one in _apart(before[name], now[name], name)]
    if not apart:
        stderr().print(plain("the digits agree with those of --from", "dim"))
        return ExitCode.DONE
    were, are = (one["data"].get("contents") for one in (before, report))  # type: ignore[attr-defined]
    way_out = "compare data, model and versions"
    if were and are:
        way_out = "compare model and versions" if were == are else "videos or labels are others than before"
    say(f"--from: {len(apart)} figures differ, first {apart[0]}; {way_out}", level="error")
    return ExitCode.SOME_FAILED


def _apart(before: object, now: object, where: str) -> Iterator[str]:
    """Yield what differs; what an older report does not have is not compared."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in before:
            yield from _apart(before[key], now.get(key), f"{where}.{key}")
    elif _is_list(before) and _is_list(now) and len(before) == len(now):  # type: ignore[arg-type]
        for i, (one, other) in enumerate(zip(before, now, strict=True)):  # type: ignore[call-overload]
            yield from _apart(one, other, f"{where}[{i}]")
    elif isinstance(before, int | float) and isinstance(now, int | float):
        if not abs(before - now) <= SAMENESS:
            yield f"{where}: {before} before, {now} now"
    elif before != now:
        yield f"{where}: {_shown(before)} before, {_shown(now)} now"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
