"""Shared flags of the commands that have no configuration, with the descriptions of the other commands."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from bike_cli.cli.flags import Request, typer_info
from bike_cli.config import EngineConfig, StoreConfig


def _info(owner: type, name: str, *, is_setting: bool = True) -> Any:  # noqa: ANN401 - as typer.Option
    info = next(typer_info(f, is_setting=is_setting) for f in dataclasses.fields(owner) if f.name == name)
    info.rich_help_panel = None  # these commands have few flags
    return info


Offline = Annotated[bool | None, _info(EngineConfig, "offline")]
CacheDir = Annotated[str | None, _info(StoreConfig, "cache_dir")]
Verbose = Annotated[int, _info(Request, "verbose", is_setting=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Quiet = Annotated[bool, _info(Request, "quiet", is_setting=False)]
