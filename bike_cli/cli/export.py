"""`bike export`: a model becomes a folder of bike's own, or a file of the official BIKE code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bike_cli.cli import options as o
from bike_cli.cli.terminal.console import error_room, loading, plain, stderr
from bike_cli.config import EngineConfig, OneBranch
from bike_cli.errors import UsageError
from bike_cli.settings import resolve

if TYPE_CHECKING:
    from bike_cli.engine.models.parts import Checkpoint

OFFICIAL_SUFFIXES = {".pt", ".pth"}

Exported = Annotated[
    str, typer.Argument(metavar="MODEL", help="Alias, ARCH,TAG of open_clip, a file or a folder; see bike models.")
]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; a file OUT.pt with --official.")]
Official = Annotated[
    bool,
    typer.Option("--official", help="Write a file that the official BIKE code loads, where it can hold the model."),
]
BranchOption = Annotated[
    OneBranch | None,
    typer.Option(
        "--branch",
        help="Which head an official file holds.",
        show_default="the one the model has",
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
    """Write a model as a folder of bike's own, or as an official BIKE file.

    bike export base models/base && bike classify --model models/base clips/

    bike export models/mine mine.pt --official
    """
    with error_room(quiet=quiet, verbose=verbose):
        config = resolve(EngineConfig, flags={"model": model, "offline": offline})
        if branch is not None and not official:
            raise UsageError("--branch: chooses the head of an official file, and none is asked for; add --official")
        check_out(out, official=official)
        with loading(config.model, quiet=quiet):
            from bike_cli.engine.models.aliases import download_missing

            download_missing([config.model], offline=config.offline)
            from bike_cli.engine.models.checkpoints import open_checkpoint

            _check_not_read(out, config.model)
            checkpoint = open_checkpoint(config.model, offline=config.offline)
        told = _official(checkpoint, branch, out) if official else write_folder(checkpoint, out)
        if not quiet:
            stderr().print(plain(f"{out}: {told}", "dim"))


def _official(checkpoint: Checkpoint, asked: OneBranch | None, out: Path) -> str:
    """Write an official file; return what it is and what to do with it."""
    from bike_cli.engine.models.official import choose_branch, official_arch, save_official
    from bike_cli.engine.models.weights import UNWRITABLE

    branch = choose_branch(checkpoint, asked)
    try:
        save_official(checkpoint, branch, out)
    except UNWRITABLE as e:
        raise _unwritable(out, e) from e
    arch = official_arch(checkpoint)
    network = "" if arch is None else f", network.arch {arch}"
    if branch == "attributes":
        return f"attributes branch of {checkpoint.name}; the official train_attributes.py takes it as pretrain{network}"
    network += f", sim_header {'None' if checkpoint.temporal_head is None else 'Transf'}"
    return f"video branch of {checkpoint.name}; the official test.py takes it as --weights{network}"


def write_folder(checkpoint: Checkpoint, out: Path) -> str:
    """Write a folder of bike's own; return what it is and what to do with it."""
    from bike_cli.engine.models.folder import save_folder
    from bike_cli.engine.models.weights import UNWRITABLE

    try:
        save_folder(out, checkpoint)
    except UNWRITABLE as e:
        raise _unwritable(out, e) from e
    return f"{checkpoint.name}, as a folder of bike's own; use it with bike classify --model"


def _unwritable(out: Path, error: BaseException) -> UsageError:
    fact = getattr(error, "strerror", None) or str(error)
    return UsageError(f"{out}: cannot be written ({fact}); make room, or choose a folder that is yours")


# -- targets, checked before the model is loaded -----------------------------------------------------------------


def check_out(out: Path, *, official: bool) -> None:
    """Raise UsageError where OUT cannot be written, or something that is not ours would be lost."""
    try:
        parent = out.absolute().parent
        if str(out) == "-" or (out.exists() and not out.is_file() and not out.is_dir()):
            raise UsageError(f"{out}: is neither file nor folder; give a name that bike can write")
        if not parent.is_dir():
            raise UsageError(f"{out}: lies in a folder that does not exist; make it, or choose another")
        if official:
            _check_file(out)
        else:
            _check_folder(out)
        if not os.access(out if out.is_dir() else parent, os.W_OK):
            raise UsageError(f"{out}: cannot be written; choose a folder that is yours")
    except OSError as e:
        raise _unwritable(out, e) from e


def _check_file(out: Path) -> None:
    if out.is_dir():
        raise UsageError(f"{out}: is a folder, an official model is a file; name one, such as {out / 'model.pt'}")
    if out.suffix.lower() not in OFFICIAL_SUFFIXES:
        raise UsageError(f"{out}: has not the name of an official model; let it end in .pt or .pth")


def _check_folder(out: Path) -> None:
    if out.is_file():
        raise UsageError(f"{out}: is a file, a model of bike's own is a folder; name one, or add --official")
    if not out.is_dir() and out.suffix.lower() in OFFICIAL_SUFFIXES:
        raise UsageError(f"{out}: is named as a file, a model of bike's own is a folder; add --official, or rename it")
    if out.is_dir() and any(out.iterdir()) and not _is_bikes(out):
        raise UsageError(f"{out}: holds files and is no model of bike; name a new or an empty folder")


def _is_bikes(folder: Path) -> bool:
    from bike_cli.engine.models.folder import CONFIG_FILE, FORMAT

    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("format") == FORMAT


def _check_not_read(out: Path, model: str) -> None:
    from bike_cli.engine.models.catalogue import BUNDLED, bundled_folder
    from bike_cli.engine.models.checkpoints import named_path
    from bike_cli.engine.models.weight_files import file_status

    if not out.exists():
        return
    # As `open_checkpoint` reads a name: the bundled model, or a path, or ARCH,FILE.
    folder = bundled_folder() if model == BUNDLED else None
    names = [] if model == BUNDLED else [name for name in (model, model.partition(",")[2]) if name]
    for path in [folder] if folder is not None else map(named_path, names):
        if file_status(path) is not None and path.samefile(out):
            raise UsageError(f"{out}: is the model that is read and would be overwritten; choose another name")
