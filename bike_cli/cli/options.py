"""Shared flags of the commands that have no configuration, with the descriptions of the other commands."""

from __future__ import annotations

import re
import typing
from typing import Annotated, Any

import typer

from bike_cli.cli.flags import Request, typer_info
from bike_cli.config import EngineConfig, StoreConfig
from bike_cli.errors import UsageError

UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def _info(owner: Any, name: str, *, is_setting: bool = True) -> Any:  # noqa: ANN401 - a dataclass; as typer.Option
    field, hint = owner.__dataclass_fields__[name], typing.get_type_hints(owner)[name]
    info = typer_info(field, hint, is_setting=is_setting)
    info.rich_help_panel = None  # these commands have few flags
    return info


def switch(*names: str, help: str) -> Any:  # noqa: A002, ANN401 - as typer.Option
    """Return a flag without a value."""
    return typer.Option(*names, metavar="", help=help)


Offline = Annotated[bool | None, _info(EngineConfig, "offline")]
CacheDir = Annotated[str | None, _info(StoreConfig, "cache_dir")]
Verbose = Annotated[int, _info(Request, "verbose", is_setting=False)]
Json = Annotated[bool, switch("--json", help="Print one JSON object.")]
Quiet = Annotated[bool, _info(Request, "quiet", is_setting=False)]


def size_in_bytes(text: str) -> int:
    """Parse a size such as `500MB`, `1.5 GiB` or `1000000B` into bytes; MB are millions, MiB are 2**20."""
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*", text, re.ASCII) and float(text):
        raise UsageError(f"--max-size {text!r}: has no unit; give one, such as {text.strip()}GB or {text.strip()}MB")
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text, re.IGNORECASE | re.ASCII)
    if match is None or (match[3] and not match[2]):
        raise UsageError(f"--max-size {text!r}: is not a size; give one such as 500MB, 10GB or 1GiB")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** UNITS[match[2].lower()])
