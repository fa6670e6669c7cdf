"""Turn dataclasses into Typer commands: each field of a configuration and of a request becomes a flag.

A command is a function of two dataclasses, `def classify(config: ClassifyConfig, request: ClassifyRequest)`. The
configuration says how to work; flags, `BIKE_*` variables and YAML files set its fields. The request names what to read
and write; only flags set its fields. Both describe their flags in the metadata of their fields; see `config.flag`.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from bike_cli.cli.completion import completer_of
from bike_cli.cli.terminal.console import handle_errors, print_config
from bike_cli.config import EngineConfig, Flag, flag, flag_of
from bike_cli.config.fields import DATA, GENERAL, OUTPUT, PANELS
from bike_cli.errors import ConfigError, ExitCode, concerning
from bike_cli.settings import (
    UnknownKeyError,
    dump,
    fields_and_values,
    leaves,
    naming_origins,
    options_of,
    parse_value,
    resolve,
    warn_of_unknown_variables,
)

DATA_HELP = (
    "Labelled videos: a folder of class folders, with or without train/, val/ and test/; or a file: CSV path,label, a "
    "list file, Charades annotations or ActivityNet annotations."
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asks for; every command with a configuration has these flags."""

    quiet: bool = flag("-q", "--quiet", default=False, panel=GENERAL, help="Hide progress and warnings; errors remain.")
    verbose: int = flag(
        "-v",
        "--verbose",
        default=0,
        is_counted=True,
        panel=GENERAL,
        help="Log choices and timings to stderr; -vv logs more details.",
    )
    progress: bool = flag(
        "--progress",
        default=False,
        panel=GENERAL,
        help="Print a line of progress on stderr every 30 seconds, for logs; a terminal shows progress anyway.",
    )
    config: Path | None = flag(
        "--config", default=None, panel=GENERAL, help="YAML file; flags and BIKE_* variables override it."
    )
    dump_config: bool = flag("--dump-config", default=False, panel=GENERAL, help="Print the configuration and exit.")


@dataclass(frozen=True, kw_only=True)
class TrainingRequest(Request):
    """The labelled videos to learn from."""

    data: Path = field(metadata={"flag": Flag((), DATA_HELP)})
    labels: Path | None = flag(
        "-l",
        "--labels",
        default=None,
        panel=DATA,
        default_text="playing_guitar → playing guitar",
        help="CSV file with the text of each class: name,label; or id,name for a list file; or a file of labels with "
        "descriptions.",
    )
    root: Path | None = flag(
        "--root",
        default=None,
        panel=DATA,
        default_text="the folder of the file",
        help="Folder that relative paths start from.",
    )


Config = TypeVar("Config")
Values = Mapping[str, object]  # by field name
Asked = TypeVar("Asked", bound=Request)
Flags = Mapping[str, object]  # values of flags by field name; None for those that are not given


def trained_defaults(
    config: type, *, models: Sequence[str] = (), ignored: Collection[str] = ()
) -> Callable[[Values], Values]:
    """Return the `defaults` of `resolve` for a model: the settings of its training, if it records them.

    Args:
        models: several models, of which the first with a record counts; empty: the model of the configuration.
        ignored: settings of the training that do not count.
    """
    known = leaves(config).keys() - set(ignored)

    def defaults(values: Values) -> Values:
        from bike_cli.engine.models.training_records import training_of

        named = models or [str(values.get("model", EngineConfig.model))]
        with concerning("model"):
            trained = next((record for record in map(training_of, named) if record is not None), None)
        return {} if trained is None else {n: v for n, v in trained.settings.items() if n in known}

    return defaults


COMMON = {f.name for f in dataclasses.fields(Request)}


def command(
    run: Callable[[Config, Asked], ExitCode],
    *,
    configure: Callable[[Flags, Asked], tuple[Config, Asked]] | None = None,
    hidden: Collection[str] = (),
) -> Callable[..., None]:
    """Return the Typer command that builds a configuration and a request, and calls `run` with them.

    Where both have a field of the same name, the flag sets that of the request.

    Args:
        run: its docstring becomes the help.
        configure: builds the configuration, and may complete the request; None: `resolve` does, with
            `trained_defaults`.
        hidden: configuration fields without a flag; a file or a variable still sets them.
    """
    config_type, request_type = list(typing.get_type_hints(run).values())[:2]
    settings = {f.name: f for f, _ in fields_and_values(config_type()) if f.name not in hidden}
    own_first = sorted(dataclasses.fields(request_type), key=lambda f: f.name in COMMON)
    requested = {f.name: f for f in own_first if flag_of(f)}
    fields = {**settings, **requested}
    hints = {**leaves(config_type), **_hints(request_type, requested.values())}

    def call(**given: Any) -> None:  # noqa: ANN401 - of the types of the fields
        values = {name: _as_field(hints[name], value) for name, value in given.items()}
        request: Asked = request_type(**{name: values[name] for name in requested})
        with handle_errors(quiet=request.quiet, verbose=request.verbose), naming_origins():
            warn_of_unknown_variables()
            flags = {name: values[name] for name in settings if name not in requested}
            with _explaining_keys(requested.values()):
                if configure is None:
                    defaults = trained_defaults(config_type)
                    config = resolve(config_type, flags=flags, file=request.config, defaults=defaults)
                else:
                    config, request = configure(flags, request)
            if request.dump_config:
                print_config(dump(config))
                return
            raise typer.Exit(run(config, request))

    in_order = sorted(fields.values(), key=lambda f: _place(f, is_setting=f.name in settings))
    parameters = [_parameter(f, hints[f.name], is_setting=f.name not in requested) for f in in_order]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    call.__doc__ = run.__doc__
    return call


def with_flags_of(other: Callable[..., None]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command the flags of another one, in place of its parameter `**flags`."""

    def decorate(run: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in _resolved_parameters(run) if p.kind is not p.VAR_KEYWORD]
        parameters = [*own, *_resolved_parameters(other)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def _resolved_parameters(run: Callable[..., None]) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(run, include_extras=True)
    return [p.replace(annotation=hints[p.name]) for p in inspect.signature(run).parameters.values()]


@contextmanager
def _explaining_keys(requested: Iterable[Field[Any]]) -> Iterator[None]:
    """Say of a key in a config file that it is a flag of the command, if it is."""
    try:
        yield
    except UnknownKeyError as e:
        written = e.key.replace("_", "-")
        flags = [name for f in requested if (described := flag_of(f)) for name in (*described.names, f"--{f.name}")]
        if f"--{written}" not in flags:
            raise
        raise ConfigError(
            f"{e.file}: {e.key!r} is a flag of the command, not a setting; remove it, and give --{written} instead"
        ) from e


def _hints(request_type: type, fields: Iterable[Field[Any]]) -> dict[str, object]:
    """Return the types of these fields alone: those of fields without a flag may not be imported."""
    written = types.SimpleNamespace(__annotations__={f.name: f.type for f in fields})
    return typing.get_type_hints(written, {**globals(), **vars(sys.modules[request_type.__module__])})


def _place(f: Field[Any], *, is_setting: bool) -> tuple[int, bool]:
    """Return the place of a flag in the help: in the first panels, flags of the request come before settings."""
    described = flag_of(f)
    assert described is not None
    return PANELS.index(described.panel), is_setting == (described.panel in {None, DATA, OUTPUT})


def _parameter(f: Field[Any], hint: object, *, is_setting: bool) -> inspect.Parameter:
    default = None if is_setting or f.default == () else inspect.Parameter.empty if f.default is MISSING else f.default
    parsed = typing.Optional[_parsed_type(hint)] if default is None else _parsed_type(hint)  # noqa: UP045 - no literal
    annotation = Annotated[parsed, typer_info(f, hint, is_setting=is_setting)]  # type: ignore[valid-type]
    return inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def typer_info(f: Field[Any], hint: object, *, is_setting: bool = True) -> Any:  # noqa: ANN401 - as typer.Option
    """Return what Typer needs to know of the flag of a field, to annotate a parameter with."""
    described = flag_of(f)
    assert described is not None
    make: Any = typer.Option if described.names else typer.Argument
    values = "" if described.is_counted else metavar_of(hint) if described.names else f.name.upper()
    return make(
        *described.names,
        help=described.help,
        rich_help_panel=described.panel,
        metavar=described.metavar or values,
        show_default=_default_text(f, described, is_setting=is_setting),
        autocompletion=completer_of(f.name),
        **({"count": True} if described.is_counted else {}),
    )


def metavar_of(hint: object) -> str:
    """Return what the help shows as the value of a flag; nothing for a flag without a value."""
    option = _options(hint)[0]
    if typing.get_origin(option) in (tuple, list):
        option = typing.get_args(option)[0]
    if typing.get_origin(option) is Literal:
        return "|".join(map(str, typing.get_args(option)))
    return {bool: "", int: "N", float: "NUMBER", Path: "PATH"}.get(option, "TEXT")  # type: ignore[call-overload, no-any-return]


def _default_text(f: Field[Any], described: Flag, *, is_setting: bool) -> str | bool:
    """Return the default that the help shows; False for none."""
    if described.default_text is not None:
        return described.default_text
    if f.default is None or f.default is False or f.default in (MISSING, ()) or described.is_counted:
        return False
    if not is_setting:
        return True  # Typer knows it
    return "on" if f.default is True else f"{f.default:g}" if isinstance(f.default, float) else str(f.default)


def _options(hint: object) -> list[object]:
    return [option for option in options_of(hint) if option is not type(None)]


def _parsed_type(hint: object) -> Any:  # noqa: ANN401 - a type
    """Return the type that Typer parses: text, where a field allows several types."""
    options = _options(hint)
    if len(options) > 1:
        return str
    if typing.get_origin(options[0]) is tuple:
        return list[typing.get_args(options[0])[0]]  # type: ignore[misc]
    choices = typing.get_args(options[0]) if typing.get_origin(options[0]) is Literal else ()
    return type(choices[0]) if choices and not isinstance(choices[0], str) else options[0]


def _as_field(hint: object, value: object) -> object:
    """Return a value that Typer has parsed as a value of the type of its field."""
    options = _options(hint)
    if typing.get_origin(options[0]) is tuple:
        return tuple(value) if isinstance(value, list) else ()
    return parse_value(hint, value) if len(options) > 1 else value
