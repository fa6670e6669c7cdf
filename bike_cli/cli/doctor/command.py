"""`bike doctor`: check what is installed, what works, and how to fix the rest; for users and for bug reports."""

from __future__ import annotations

import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

import bike_cli
from bike_cli.cli import options as o
from bike_cli.cli.terminal.console import display, handle_errors, plain, safe, stderr, stderr_is_tty, stdout
from bike_cli.cli.terminal.secrets import mask
from bike_cli.config import ClassifyConfig
from bike_cli.errors import ConfigError, ExitCode
from bike_cli.json_text import as_json
from bike_cli.settings import resolve
from bike_cli.tasks.doctor.checks import Check, State, diagnose
from bike_cli.wording import count

GROUPS: Mapping[str, tuple[str, ...]] = {
    "Software": ("bike", "python", "torch", "open_clip", "av", "decord", "images", "packages"),
    "Machine": ("device", "memory", "workers"),
    "Files": ("cache", "temporary_folder", "models"),
    "Network": ("hub", "network_variables"),
    "Environment": ("settings", "encoding", "terminal"),
    "Self-test": ("self_test",),
}
NAMES = [name for names in GROUPS.values() for name in names]
TITLES = {  # of checks that are not shown by their name
    "bike": "bike",
    "python": "Python",
    "av": "PyAV",
    "images": "pictures",
    "temporary_folder": "temporary files",
    "hub": "model hub",
    "network_variables": "variables",
    "self_test": "example clip",
}
STYLES: Mapping[State, str] = {"ok": "green", "warning": "yellow", "problem": "bold red"}
STATE_WIDTH = len("warning")
SEVERITY: Sequence[State] = ("ok", "warning", "problem")


def doctor_command(
    json_line: o.Json = False, cache_dir: o.CacheDir = None, offline: o.Offline = None, verbose: o.Verbose = 0
) -> None:
    """Check this installation: libraries, devices, cache and network; classify an example.

    Each line is ok, a warning or a problem, and says how to fix it. Passwords and tokens are never shown. The exit code
    is 1 if bike does not work, else 0.
    """
    with handle_errors(verbose=verbose):
        start_s = time.perf_counter()
        console = stderr(quiet=not stderr_is_tty())
        with display(console), console.status(plain("checking this installation")):
            checks = [_cleaned(check) for check in run_checks(cache_dir=cache_dir, offline=offline)]
        if sys.stdout is not None:
            if json_line:
                typer.echo(as_json(_as_object(checks, seconds=time.perf_counter() - start_s)))
            else:
                _show(checks)
        raise typer.Exit(ExitCode.BUG if _worst(checks) == "problem" else ExitCode.DONE)


def run_checks(*, cache_dir: str | None = None, offline: bool | None = None) -> list[Check]:
    """Return all checks, in the order of `GROUPS`."""
    from bike_cli.cli.doctor import environment_checks as e

    config, error = _settings(cache_dir=cache_dir, offline=offline)
    checks = [e.check_bike(), e.check_python(), e.check_packages(), e.check_memory(), e.check_network_variables()]
    checks += [e.check_settings(error), e.check_encoding(), e.check_terminal()]
    for check in diagnose(config, why_offline=e.why_offline(config)):
        checks.append(_with_rule(check, cache_dir) if check.name == "cache" else check)
    return sorted(checks, key=lambda check: NAMES.index(check.name))


def _settings(*, cache_dir: str | None, offline: bool | None) -> tuple[ClassifyConfig, str | None]:
    """Return the current settings; the defaults and an error message if they are invalid."""
    flags = {"cache_dir": cache_dir, "offline": offline}
    try:
        return resolve(ClassifyConfig, flags=flags), None
    except ConfigError as e:
        return resolve(ClassifyConfig, flags=flags, environment={}), str(e)


def _with_rule(check: Check, cache_dir: str | None) -> Check:
    """Add to the check of the cache how its folder was chosen."""
    variables = {name: os.environ.get(name) for name in ("BIKE_CACHE_DIR", "XDG_CACHE_HOME")}
    rule = next((name for name, value in {"--cache-dir": cache_dir, **variables}.items() if value), "default")
    if rule == "XDG_CACHE_HOME" and not Path(os.environ[rule]).is_absolute():
        rule = "default"  # the XDG specification ignores relative paths
    shown = check.message if "error" in check.details and rule == "default" else f"{check.message} ({rule})"
    return Check(check.name, check.state, shown, check.fix, {"chosen_by": rule, **check.details})


def _cleaned(check: Check) -> Check:
    """Remove passwords, tokens and the home folder from a check."""
    details = _every_text(dict(check.details), _presentable)
    assert isinstance(details, dict)
    fix = None if check.fix is None else _presentable(check.fix)
    return Check(check.name, check.state, _presentable(check.message), fix, details)


def _every_text(value: object, change: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _every_text(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_every_text(item, change) for item in value]
    return value


def _presentable(text: str) -> str:
    home = _home()
    if home is not None:
        text = re.sub(rf"{re.escape(home)}(?=$|[^\w.-])", "~", text)
    return mask(text)


def _home() -> str | None:
    """Return the path of the home folder, without accessing it, which may hang on a dead file server."""
    try:
        home = Path.home()
    except RuntimeError:  # a user without one
        return None
    # The root folder is the home of some system users, and the start of every path.
    return str(home) if len(home.parts) > 1 else None


def _worst(checks: Sequence[Check]) -> State:
    return max((check.state for check in checks), key=SEVERITY.index)


def _as_object(checks: Sequence[Check], *, seconds: float) -> dict[str, object]:
    by_name = {check.name: {k: v for k, v in asdict(check).items() if k != "name"} for check in checks}
    seconds = round(seconds, 3)
    return {"status": _worst(checks), "bike": bike_cli.__version__, "seconds": seconds, "checks": by_name}


def _show(checks: Sequence[Check]) -> None:
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names and messages may contain any character
    console = stdout()
    with console.capture() as captured:
        _print(checks, console)
    # Strip the padding of columns, which is in the way when a report is pasted.
    lines = captured.get().splitlines()
    typer.echo("\n".join(lines if console.is_terminal else [line.rstrip() for line in lines]))


def _print(checks: Sequence[Check], console: Console) -> None:
    by_name = {check.name: check for check in checks}
    width = max(len(_title(name)) for name in NAMES)
    for group, names in GROUPS.items():
        console.print(Text(group, style="bold"))
        for name in names:
            console.print(_lines(by_name[name], width, console.width), soft_wrap=True)
    console.print()
    console.print(_summary(checks))


def _lines(check: Check, title_width: int, columns: int) -> Text:
    """Return the state, title, message and fix of a check.

    Lines break at spaces only: where a path is longer than the line, the terminal wraps it, and it can be copied whole.
    """
    title = f"{_title(check.name):<{title_width}} "
    indent = 2 + STATE_WIDTH + 1 + len(title)
    wrapper = textwrap.TextWrapper(max(columns - indent, 20), break_long_words=False, break_on_hyphens=False)
    messages = wrapper.wrap(safe(check.message))
    fixes = [] if check.fix is None else wrapper.wrap(safe(f"fix: {check.fix}"))
    between = "\n" + " " * indent
    return Text.assemble(
        "  ",
        (f"{check.state:<{STATE_WIDTH}} ", STYLES[check.state]),
        title,
        between.join(messages),
        (between if fixes else ""),
        (between.join(fixes), "bold"),
    )


def _title(name: str) -> str:
    return TITLES.get(name, name)


def _summary(checks: Sequence[Check]) -> Text:
    worst = _worst(checks)
    if worst == "ok":
        return Text("Everything works.", style="green")
    counts = {state: sum(check.state == state for check in checks) for state in ("problem", "warning")}
    parts = [count(number, state) for state, number in counts.items() if number]
    ending = "bike does not work; see above." if worst == "problem" else "bike works."
    return Text(safe(f"{', '.join(parts)}: {ending}"), style=STYLES[worst])
