"""Shared flags of the commands that have no configuration, with the descriptions of the other commands."""

from __future__ import annotations

import typing
from typing import Annotated, Any

import typer

from bike_cli.cli.flags import Request, typer_info
from bike_cli.config import EngineConfig, StoreConfig


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
