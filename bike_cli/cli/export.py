"""`bike export`: write a model as a folder of bike, or as a file of the official BIKE code."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bike_cli.cli import options as o
from bike_cli.cli.completion import models
from bike_cli.cli.flags import metavar_of
from bike_cli.cli.terminal.console import handle_errors, loading, print_usage
from bike_cli.cli.terminal.signals import import_torch
from bike_cli.cli.terminal.targets import (
    check_model_folder,
    check_not_read,
    check_official_file,
    explain_unwritable,
    warn_of_replacement,
)
from bike_cli.config import EngineConfig, OneBranch
from bike_cli.errors import UsageError
from bike_cli.settings import naming_origins, resolve, warn_of_unknown_variables

if TYPE_CHECKING:
    from bike_cli.engine.models.parts import Checkpoint

Exported = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        autocompletion=models,
        help="Short name, ARCH,TAG of open_clip, a file or a folder; see bike models.",
    ),
]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; with --official, a file such as OUT.pt.")]
Official = Annotated[
    bool,
    typer.Option(
        "--official",
        metavar="",
        help="Write a file for the official BIKE code, if it can represent the model; tiny is too small for it.",
    ),
]
BranchOption = Annotated[
    OneBranch | None,
    typer.Option(
        "--branch",
        metavar=metavar_of(OneBranch),
        help="Branch to write to the official file.",
        show_default="the one that the model has",
    ),
]


def export_command(
    model: Exported,
    out: Out,
    official: Official = False,
    branch: BranchOption = None,
    offline: o.Offline = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
) -> None:
    """Write a model as a folder of bike, or as an official BIKE file.

    bike export base models/base && bike classify -m models/base -l labels.txt clips/

    bike export models/mine mine.pt --official
    """
    with handle_errors(quiet=quiet, verbose=verbose), naming_origins():
        warn_of_unknown_variables()
        config = resolve(EngineConfig, flags={"model": model, "offline": offline})
        if branch is not None and not official:
            raise UsageError("--branch: chooses the head of an official file; add --official, or leave it out")
        (check_official_file if official else check_model_folder)(out)
        with loading(config.model, quiet=quiet):
            from bike_cli.engine.models.aliases import download_missing

            download_missing([config.model], offline=config.offline)
            import_torch()
            from bike_cli.engine.models.checkpoints import open_checkpoint
            from bike_cli.engine.models.weights import UNWRITABLE

            check_not_read(out, config.model)
            warn_of_replacement(out)
            checkpoint = open_checkpoint(config.model, offline=config.offline)
        with explain_unwritable(out, UNWRITABLE):
            description = _write_official(checkpoint, branch, out) if official else _write_folder(checkpoint, out)
        print_usage(f"{out}: {description}", quiet=quiet)


def _write_folder(checkpoint: Checkpoint, out: Path) -> str:
    """Write a folder; return what it is and how to use it."""
    from bike_cli.engine.models.folder import save_folder

    save_folder(out, checkpoint)
    return f"{checkpoint.name}, as a folder of bike; use it with -m {shlex.quote(str(out))}"


def _write_official(checkpoint: Checkpoint, wanted: OneBranch | None, out: Path) -> str:
    """Write an official file; return what it is and how to use it."""
    from bike_cli.engine.models.official import choose_branch, official_arch, save_official

    branch = choose_branch(checkpoint, wanted)
    save_official(checkpoint, branch, out)
    arch = official_arch(checkpoint)
    network = "" if arch is None else f", network.arch {arch}"
    if branch == "attributes":
        return f"attributes branch of {checkpoint.name}; the official train_attributes.py takes it as pretrain{network}"
    network += f", sim_header {'None' if checkpoint.temporal_head is None else 'Transf'}"
    return f"video branch of {checkpoint.name}; the official test.py takes it as --weights{network}"
