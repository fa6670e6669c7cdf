"""Usage errors that Typer finds, in the form of all other errors: unknown options, missing and wrong values."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import typer

from bike_cli.cli.terminal.console import notice, plain, stderr
from bike_cli.errors import ExitCode
from bike_cli.wording import either

LIKELY = 0.7  # share of its letters that a suggestion must have in common with what was typed

# What other tools call it: as a command, and as an option.
COMMANDS = {
    **dict.fromkeys(("train", "fit", "fine-tune", "tune"), "finetune"),
    **dict.fromkeys(("predict", "infer", "inference", "detect", "label", "run"), "classify"),
    **dict.fromkeys(("test", "val", "validate", "evaluate", "benchmark", "score"), "eval"),
    **dict.fromkeys(("few-shot", "learn"), "fewshot"),
    **dict.fromkeys(("check", "checks", "env", "info", "settings"), "doctor"),
    **dict.fromkeys(("pull", "download"), "models pull"),
    **dict.fromkeys(("model", "list", "ls"), "models"),
    **dict.fromkeys(("help", "usage"), "--help"),
    "version": "--version",
    "convert": "export",
    "clean": "cache prune",
    **dict.fromkeys(("localize", "localise", "locate", "segment", "segments", "timeline", "when"), "spot"),
    **dict.fromkeys(("calibration", "threshold", "temperature"), "calibrate"),
}
SUBCOMMANDS = {
    "cache": {
        **dict.fromkeys(("clear", "clean", "purge", "empty", "delete", "remove", "rm", "gc"), "prune"),
        **dict.fromkeys(("show", "size", "list", "ls", "status", "stats", "dir", "path"), "info"),
    },
    "models": {
        **dict.fromkeys(("download", "get", "fetch", "install", "add"), "pull"),
        **dict.fromkeys(("ls", "show", "all", "info"), "list"),
    },
}
FLAGS = {
    **dict.fromkeys(("--weights", "--checkpoint", "--ckpt", "--arch"), "--model"),
    **dict.fromkeys(("--gpu", "--cuda"), "--device"),
    **dict.fromkeys(("--threads", "--jobs", "--num-workers"), "--workers"),
    **dict.fromkeys(("--num-frames", "--n-frames"), "--frames"),
    **dict.fromkeys(("--classes", "--names"), "--labels"),
    **dict.fromkeys(("--topk", "--num-labels"), "--top"),
    **dict.fromkeys(("--out", "--output-file"), "--output"),
    **dict.fromkeys(("--output-dir", "--save-dir", "--project"), "--save"),
    **dict.fromkeys(("--silent", "--no-progress"), "--quiet"),
    **dict.fromkeys(("--debug", "--log-level"), "--verbose"),
    **dict.fromkeys(("--prompt", "--prompts"), "--template"),
    **dict.fromkeys(("--cfg", "--settings"), "--config"),
    **dict.fromkeys(("--learning-rate",), "--lr"),
    **dict.fromkeys(("--batch", "--bs"), "--batch-size"),
    **dict.fromkeys(("--k", "--k-shot", "--num-shots"), "--shots"),
    **dict.fromkeys(("--continue",), "--resume"),
    **dict.fromkeys(("--json",), "--format"),
}

# Flags of other commands that have no meaning in a command, and what takes their place.
INSTEAD = {
    "spot": {
        **dict.fromkeys(("--frames", "--clips", "--sampling"), "bike spot reads the whole video; set --fps instead"),
        "--crops": "bike spot reads whole frames; leave it out",
        "--pool": "bike spot scores each moment; leave it out",
        **dict.fromkeys(("--reject", "--calibration"), "bike spot does not calibrate; set --threshold instead"),
    },
}

FORMATS = {"-f", "--format", "--json"}  # of commands that print tables alone

# Typer does not export the base class of its errors, nor those of single errors, which differ in their attributes.
CommandLineError: type[Exception] = typer.BadParameter.__bases__[0]

NUMBERS = {"N": "a whole number", "NUMBER": "a number"}  # by what the help shows as the value of a flag


def exit_with_usage_error(message: str, ctx: Any) -> NoReturn:  # noqa: ANN401 - a class that Typer does not export
    """Print a usage error and, unless the message names it, the command that shows the help; exit."""
    notice(message, level="error")
    if "--help" not in message:
        stderr().print(plain(f"  see {ctx.command_path} --help"))
    raise typer.Exit(ExitCode.USAGE)


def describe(error: Any, ctx: Any) -> str:  # noqa: ANN401
    """Return what is wrong in the arguments of a command, and what to do, for an error of Typer."""
    parameter: Any = getattr(error, "param", None)
    name: Any = getattr(error, "option_name", None)
    if hasattr(error, "possibilities"):
        return _unknown_option(name, ctx)
    if name is not None:
        return _value_too_many_or_few(name, error.message, ctx)
    if parameter is not None and hasattr(error, "param_type"):
        return _missing(parameter, ctx)
    if parameter is not None:
        return _wrong_value(parameter, error, ctx)
    if extra := re.fullmatch(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", error.message, re.DOTALL):
        names = [argument.metavar for argument in _arguments(ctx)]
        taken = f"only {' and '.join(names)}" if names else "no arguments"
        return f"{extra[1]}: unexpected; {ctx.command_path} takes {taken}, and names that have spaces need quotes"
    if error.message == "Missing command.":
        first = next(iter(ctx.command.commands))
        return f"{ctx.command_path}: no command is given; write one, as in {ctx.command_path} {first}"
    return f"{error.message.rstrip('.')}; see {ctx.command_path} --help"


def unknown_command(name: str, ctx: Any, commands: Iterable[str]) -> str:  # noqa: ANN401
    """Return the error for a command that does not exist, with the one that was meant, by its name in another tool."""
    known = COMMANDS if ctx.parent is None else SUBCOMMANDS.get(ctx.info_name, {})
    near = difflib.get_close_matches(name, commands, n=1, cutoff=LIKELY)
    meant = known.get(name.lower()) or (near[0] if near else None)
    hint = f"did you mean {ctx.command_path} {meant}?" if meant else f"see {ctx.command_path} --help"
    return f"{name}: no such command; {hint}"


def option_names(option: Any) -> list[str]:  # noqa: ANN401
    """Return the names of an option that the help shows: the first long name is the current one, others are old."""
    short: list[str] = [name for name in option.opts if not name.startswith("--")]
    long = [name for name in option.opts if name.startswith("--")]
    return [*short, *long[:1], *option.secondary_opts]


def _unknown_option(name: str, ctx: Any) -> str:  # noqa: ANN401
    shown = [flag for p in ctx.command.params if p.param_type_name == "option" for flag in option_names(p)]
    known = [flag for flag in shown if flag.startswith("--")]
    if name in FORMATS and "--format" not in known and "--output" in known:
        return f"{name}: no such option; -o report.json writes the report as JSON"
    if instead := INSTEAD.get(ctx.info_name, {}).get(name):
        return f"{name}: {instead}"
    meant = FLAGS.get(name)
    if meant not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=LIKELY)
        meant = near[0] if near else None
    hint = f"did you mean {meant}?" if meant else f"see {ctx.command_path} --help"
    return f"{name}: no such option; {hint}"


def _value_too_many_or_few(name: str, message: str, ctx: Any) -> str:  # noqa: ANN401
    if "does not take" in message:
        return f"{name}: takes no value; write {name} alone"
    option = next(p for p in ctx.command.params if name in (*p.opts, *p.secondary_opts))
    return f"{name}: needs a value; {_wanted(option, name)}"


def _wanted(option: Any, name: str) -> str:  # noqa: ANN401
    choices = _choices(option)
    if choices or option.metavar in NUMBERS:
        return f"give {either(choices) if choices else NUMBERS[option.metavar]}"
    return f"write {name} {option.metavar or 'TEXT'}"


def _choices(option: Any) -> list[str]:  # noqa: ANN401
    choices = (option.metavar or "").split("|")
    return choices if len(choices) > 1 else []


def _missing(parameter: Any, ctx: Any) -> str:  # noqa: ANN401
    name = parameter.metavar if parameter.param_type_name == "argument" else _name_of(parameter)
    usage = " ".join([ctx.command_path, *(argument.metavar for argument in _arguments(ctx) if argument.required)])
    meaning = (parameter.help or "").rstrip(".")
    is_sentence = meaning[1:2].islower()  # not a name such as ARCH,TAG
    meaning = meaning[:1].lower() + meaning[1:] if is_sentence else meaning
    return f"{name}: missing; write {usage} ({name}: {meaning})"


def _wrong_value(parameter: Any, error: Any, ctx: Any) -> str:  # noqa: ANN401
    """Return the error for a value that cannot be parsed, in the words of errors about config files and variables."""
    name, message = _name_of(parameter), error.message
    number = re.search(r"valid (integer|number|float)", message)
    details = getattr(error.__cause__, "errors", None)  # of Pydantic, which newer releases of Typer use
    quoted = re.match(r"'(.*?)' is not ", message.removeprefix("Value error, "))  # which Pydantic puts first
    value = details()[0]["input"] if details else quoted[1] if quoted else None
    choices = _choices(parameter)
    if value is None or not (choices or number):
        return f"{name}: {message}; see {ctx.command_path} --help"
    wanted = either(choices) if choices else "a whole number" if number and number[1] == "integer" else "a number"
    return f"{name} is {value!r}; give {wanted}"


def _name_of(parameter: Any) -> str:  # noqa: ANN401
    if parameter.param_type_name == "argument":
        return str(parameter.metavar)
    names = option_names(parameter)
    return next((name for name in names if name.startswith("--")), names[0])


def _arguments(ctx: Any) -> Sequence[Any]:  # noqa: ANN401
    return [parameter for parameter in ctx.command.params if parameter.param_type_name == "argument"]
