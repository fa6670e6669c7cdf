"""Build the dataclasses of `config` from flags, environment and YAML.

A flag overrides the `BIKE_*` environment variable, which overrides the config file, which overrides the default of the
dataclass. Config files are flat YAML: the keys are the names of the fields or flags, whatever their section.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import logging
import os
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, TypeVar

from bike_cli.config import (
    Affects,
    CalibrateConfig,
    ClassifyConfig,
    EmbedConfig,
    EvalConfig,
    FewshotConfig,
    FinetuneConfig,
    SpotConfig,
    flag_of,
)
from bike_cli.errors import BikeError, ConfigError
from bike_cli.wording import all_of, either, nearest

logger = logging.getLogger(__name__)

Config = TypeVar("Config")
COMMANDS = {
    "classify": ClassifyConfig,
    "spot": SpotConfig,
    "embed": EmbedConfig,
    "calibrate": CalibrateConfig,
    "fewshot": FewshotConfig,
    "eval": EvalConfig,
    "finetune": FinetuneConfig,
}
SettingValue = str | int | float | bool | None
# Where the values of settings come from that were resolved in `naming_origins`: a file, or a variable.
_origins: ContextVar[dict[str, str] | None] = ContextVar("_origins", default=None)


class UnknownKeyError(ConfigError):
    """A key in a config file sets nothing."""

    def __init__(self, file: Path, key: str, way_out: str) -> None:
        super().__init__(f"{file}: unknown key {key!r}; {way_out}")
        self.file, self.key = file, key


# Annotations are strings, and each is compiled anew.
type_hints: Callable[[type], dict[str, Any]] = functools.cache(typing.get_type_hints)


def leaves(config: type[Config]) -> dict[str, object]:
    """Return the type of every field that holds a value, by name; sections are flattened."""
    types_by_name: dict[str, object] = {}
    for name, hint in type_hints(config).items():
        types_by_name |= leaves(hint) if dataclasses.is_dataclass(hint) else {name: hint}  # type: ignore[arg-type]
    return types_by_name


def fields_and_values(config: object) -> Iterator[tuple[dataclasses.Field[object], SettingValue]]:
    """Yield every field of a config that holds a value, and the value; sections are flattened."""
    for f in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            yield from fields_and_values(value)
        else:
            yield f, value


def flatten(config: object) -> dict[str, SettingValue]:
    """Return every value of a config by name; sections are flattened."""
    return {f.name: value for f, value in fields_and_values(config)}


def settings_affecting(config: object, *effects: Affects) -> dict[str, SettingValue]:
    """Return the values of a config that have one of these effects, by name.

    `settings_affecting(config, *RESULTS)` are those on which the results of a run depend.

    Raises:
        TypeError: a field does not declare its effect.
    """
    values: dict[str, SettingValue] = {}
    for f, value in fields_and_values(config):
        described = flag_of(f)
        if described is None or described.affects is None:
            raise TypeError(f"{f.name}: does not declare what it affects; make it with flag(..., affects=...)")
        if described.affects in effects:
            values[f.name] = value
    return values


def build(config: type[Config], values: Mapping[str, object]) -> Config:
    """Return a config with these values; all other fields keep their defaults."""
    hints = type_hints(config)
    arguments: dict[str, object] = {}
    for f in dataclasses.fields(config):  # type: ignore[arg-type]
        if dataclasses.is_dataclass(hints[f.name]):
            arguments[f.name] = build(hints[f.name], values)
        elif f.name in values:
            arguments[f.name] = values[f.name]
    return config(**arguments)


def resolve(
    config: type[Config],
    *,
    flags: Mapping[str, object],
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    defaults: Mapping[str, object] | Callable[[Mapping[str, object]], Mapping[str, object]] | None = None,
) -> Config:
    """Return the config that results from flags, environment, file and defaults.

    Args:
        flags: by field name; None means not given.
        file: flat YAML; its keys are names of fields or of their flags, with dashes or underscores.
        environment: `BIKE_FRAMES=16` sets `frames`; other variables are ignored, see `unknown_variables`.
        defaults: replace those of the dataclass; a function returns them for the values that are given.
    Raises:
        UnknownKeyError: a key in the file that sets nothing.
        ConfigError: a value of the wrong type, invalid YAML.
    """
    known = leaves(config)
    values: dict[str, object] = {}
    origins: dict[str, str] = {}  # of values that are not given by flags
    if file is not None:
        written = _by_field(config, _read_yaml(file), file)
        parsed = {name: parse_value(known[name], value) for name, value in written.items()}
        from_file = {name: _checked(name, value, known, origin=str(file)) for name, value in parsed.items()}
        logger.info("%s: sets %s", file, ", ".join(from_file) or "nothing")
        values |= from_file
        origins |= dict.fromkeys(from_file, str(file))
    for name, hint in known.items():
        variable = variable_of(name)
        if variable in environment:
            values[name] = _checked(name, parse_value(hint, environment[variable]), known, origin=variable)
            origins[name] = variable
            logger.info("%s: sets %s to %s", variable, name, values[name])
    for name, value in flags.items():
        if value is not None:
            values[name] = _checked(name, value, known, origin=flag_name(name))
            origins.pop(name, None)
    if (recorded := _origins.get()) is not None:
        recorded |= origins
    given = defaults(values) if callable(defaults) else defaults or {}
    try:
        return build(config, {**given, **values})
    except ConfigError as e:
        e.settings = e.settings or (str(e).partition(" ")[0],)  # a message about one value begins with its name
        _name_origins(e, origins)
        raise


@contextmanager
def naming_origins() -> Iterator[None]:
    """Say in errors that refuse a setting which file or variable its value comes from.

    Most values are checked by `resolve`, some only where they are used: a model, a template, shots. Errors of the
    latter name their settings; see `errors.concerning`. This covers configurations that are resolved inside.
    """
    origins: dict[str, str] = {}
    token = _origins.set(origins)
    try:
        yield
    except BikeError as e:
        _name_origins(e, origins)
        raise
    finally:
        _origins.reset(token)


def _name_origins(error: BikeError, origins: Mapping[str, str]) -> None:
    """Put the origins of the refused settings in front of the message, once."""
    message, named = str(error.args[0]), [name for name in error.settings if name in origins]
    if named:
        subjects = dict.fromkeys(_subject(name, origins[name], message) for name in named)
        error.args = (f"{all_of(subjects)}: {message}", *error.args[1:])
        error.settings = ()


def _subject(name: str, origin: str, message: str) -> str:
    """Return the variable of a setting, or the file, with the key unless the message has it."""
    words = message.replace("--", " ").replace("-", "_")  # a flag names its setting
    has_name = re.search(rf"\b{name}\b", words) is not None
    return origin if has_name or origin == variable_of(name) else f"{origin}: {name}"


def variable_of(name: str) -> str:
    """Return the environment variable that sets a field."""
    return f"BIKE_{name.upper()}"


def flag_name(name: str) -> str:
    """Return the flag that sets a field."""
    return f"--{name.replace('_', '-')}"


def unknown_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that begin with BIKE_ and set nothing in any command, with the nearest one that does."""
    known = {variable_of(name) for config in COMMANDS.values() for name in leaves(config)}
    unknown = sorted(name for name in environment if name.startswith("BIKE_") and name not in known)
    return {name: nearest(name, known) for name in unknown}


def warn_of_unknown_variables() -> None:
    """Warn about variables that begin with BIKE_ and are ignored."""
    unknown = [f"{name} (nearest: {known})" for name, known in unknown_variables().items()]
    if unknown:
        logger.warning("environment: no setting is named %s; correct or unset it", either(unknown))


def changed(config: Config, flags: Mapping[str, object]) -> Config:
    """Return a config with the values of some flags.

    Raises:
        ConfigError: an unknown name, or a value of the wrong type.
    """
    known = leaves(type(config))
    values = {name: _checked(name, value, known, origin=flag_name(name)) for name, value in flags.items()}
    return build(type(config), {**flatten(config), **values})


def is_given(
    config: type,
    name: str,
    *,
    flags: Mapping[str, object],
    file: Path | None,
    environment: Mapping[str, str] = os.environ,
) -> bool:
    """Return whether a flag, a variable or the file sets a field; see `resolve`."""
    in_file = {} if file is None else _by_field(config, _read_yaml(file), file)
    return flags.get(name) is not None or variable_of(name) in environment or name in in_file


def field_names(config: type) -> dict[str, str]:
    """Return the field that each key of a file sets: by its name, or by a long name of its flag."""
    names: dict[str, str] = {}
    for f, _ in fields_and_values(config()):
        described = flag_of(f)
        flags = () if described is None else described.names
        long = [name.partition("/")[0].removeprefix("--") for name in flags if name.startswith("--")]
        names |= {name.replace("-", "_"): f.name for name in (f.name, *long)}
    return names


def _by_field(config: type, content: Mapping[str, object], file: Path) -> dict[str, object]:
    """Return the values of a file by field name."""
    names = field_names(config)
    values: dict[str, object] = {}
    for key, value in content.items():
        name = names.get(key.replace("-", "_"))
        if name is None:
            raise UnknownKeyError(file, key, _instead(key, names))
        if name in values:
            raise ConfigError(f"{file}: {key!r} sets {name}, which another key sets too; remove one of them")
        values[name] = value
    return values


def _instead(key: str, names: Mapping[str, str]) -> str:
    """Return what to do about an unknown key."""
    name = key.replace("-", "_")
    commands = [command for command, config in COMMANDS.items() if name in field_names(config)]
    if commands:
        return f"only bike {either(commands)} reads it; remove it"
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {names[near[0]]!r}?" if near else "--dump-config prints all keys"


def dump(config: object) -> str:
    """Return a config as the YAML that `--config` reads."""
    import yaml

    return yaml.safe_dump(flatten(config), sort_keys=False, allow_unicode=True)


def _read_yaml(file: Path) -> Mapping[str, object]:
    import yaml

    try:
        # As strings: YAML would read `attributes: off` as False.
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except OSError as e:
        raise ConfigError(f"{file}: cannot be read ({e.strerror}); give a YAML file") from e
    except UnicodeDecodeError as e:
        raise ConfigError(f"{file}: is not a text file; give a YAML file") from e
    except yaml.MarkedYAMLError as e:
        line = f" at line {e.problem_mark.line + 1}" if e.problem_mark else ""
        raise ConfigError(f"{file}: invalid YAML{line} ({e.problem}); fix it") from e
    except yaml.YAMLError as e:
        raise ConfigError(f"{file}: invalid YAML ({' '.join(str(e).split())}); fix it") from e
    if not content:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: contains a {type(content).__name__}, not `key: value` lines; see --dump-config")
    return {str(key): value for key, value in content.items()}


def parse_value(hint: object, value: object) -> object:
    """Convert a string to the type of a field: `no` is a name for one field and False for another."""
    import yaml

    if not isinstance(value, str):
        return value
    if value in {"null", "~", ""} and _accepts(hint, None):
        return None
    if not value.strip() or _accepts(hint, value):
        return value
    if float in options_of(hint):
        with contextlib.suppress(ValueError):
            return float(value)
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value  # the type check reports it


def _checked(name: str, value: object, known: Mapping[str, object], *, origin: str) -> object:
    """Return the value of a field, a whole number as a float where the field is one; raise ConfigError if it is wrong.

    Args:
        origin: the file, the variable or the flag.
    """
    if name not in known:
        raise ConfigError(f"{origin}: unknown key {name!r}; did you mean {nearest(name, known)!r}?")
    if not _accepts(known[name], value):
        subject = origin if origin in (variable_of(name), flag_name(name)) else f"{origin}: {name}"
        raise ConfigError(f"{subject} is {value!r}; give {_describe(known[name])}")
    is_whole = type(value) is int and float in options_of(known[name])
    return float(value) if is_whole else value  # type: ignore[arg-type]


def options_of(hint: object) -> tuple[object, ...]:
    """Return the types that a field allows; those of a union one by one."""
    is_union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    return typing.get_args(hint) if is_union else (hint,)


def _accepts(hint: object, value: object) -> bool:
    for option in options_of(hint):
        if typing.get_origin(option) is Literal:
            # `True == 1` in Python, and `crops: true` is a mistake.
            matches = any(value == choice and type(value) is type(choice) for choice in typing.get_args(option))
        elif option is float:
            matches = isinstance(value, (int, float)) and not isinstance(value, bool)
        else:
            matches = type(value) is option
        if matches:
            return True
    return False


def _describe(hint: object) -> str:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    parts: list[str] = []
    for option in options_of(hint):
        if typing.get_origin(option) is Literal:
            parts += [str(choice) for choice in typing.get_args(option)]
        else:
            parts.append(names.get(option, str(option)))  # type: ignore[call-overload]
    return either(parts)
