"""`bike import`: convert a checkpoint of another video model to bike's folder format."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bike_cli.cli import options as o
from bike_cli.cli.completion import models
from bike_cli.cli.flags import metavar_of
from bike_cli.cli.terminal.console import handle_errors, loading, print_usage
from bike_cli.cli.terminal.signals import import_torch
from bike_cli.cli.terminal.targets import check_model_folder, check_not_read, explain_unwritable, warn_of_replacement
from bike_cli.config import EngineConfig
from bike_cli.errors import UsageError
from bike_cli.settings import resolve, warn_of_unknown_variables

if TYPE_CHECKING:
    from bike_cli.engine.models.importers.conversion import ImportedModel

FromModel = Literal["actionclip", "vifi", "openvclip", "froster"]

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="Checkpoint of ActionCLIP, ViFi-CLIP, Open-VCLIP or FROSTER.")
]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")]
From = Annotated[
    FromModel | None,
    typer.Option(
        "--from",
        metavar=metavar_of(FromModel),
        help="Video model that the file comes from; required for ActionCLIP, whose files look like BIKE's.",
        show_default="detected from the names of its tensors",
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="TEXT",
        autocompletion=models,
        help="CLIP model that it was trained from, for --patch and for the tensors that a ViFi-CLIP file lacks.",
        show_default="OpenAI's weights of the same size",
    ),
]
Patch = Annotated[
    float | None,
    typer.Option(
        "--patch",
        metavar="NUMBER",
        help="Average the weights of Open-VCLIP or FROSTER with those of the base, whose share is between 0 and 1.",
    ),
]
Licence = Annotated[
    str | None,
    typer.Option("--licence", metavar="TEXT", help="Licence of the weights to record.", show_default="not stated"),
]
Frames = Annotated[
    int | None,
    typer.Option(
        "--frames",
        metavar="N",
        min=1,
        help="Frames per clip that the model was trained with.",
        show_default="8; 16 for ViFi-CLIP",
    ),
]


def import_command(
    file: File,
    out: Out,
    from_: From = None,
    base: Base = None,
    patch: Patch = None,
    licence: Licence = None,
    frames: Frames = None,
    offline: o.Offline = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
) -> None:
    """Convert a checkpoint of another video model to a folder that --model accepts.

    bike import vifi_clip.pth models/vifi && bike classify -m models/vifi -l labels.txt clips/

    bike import open_vclip.pth models/open-vclip --patch 0.5
    """
    with handle_errors(quiet=quiet, verbose=verbose):
        warn_of_unknown_variables()
        config = resolve(EngineConfig, flags={"offline": offline})
        if licence is not None and not licence.strip():
            raise UsageError("--licence: is empty; give the licence of the weights, or leave it out")
        check_model_folder(out, way_out="name a folder")
        with loading(file.name, quiet=quiet):
            from bike_cli.engine.models.aliases import download_missing

            download_missing([base], offline=config.offline)
            import_torch()
            from bike_cli.engine.models.folder import save_folder
            from bike_cli.engine.models.importers.conversion import Options, import_model
            from bike_cli.engine.models.weights import UNWRITABLE

            for model in (str(file), base):
                if model is not None:
                    check_not_read(out, model)
            options = Options(
                name=out.resolve().name,
                origin=from_,
                base=base,
                patch=patch,
                licence=None if licence is None else licence.strip(),
                frames=frames,
                offline=config.offline,
            )
            imported = import_model(file, options)
            warn_of_replacement(out)
        with explain_unwritable(out, UNWRITABLE):
            save_folder(out, imported.checkpoint)
        for line in _description(imported, out):
            print_usage(line, quiet=quiet)


def _description(imported: ImportedModel, out: Path) -> list[str]:
    """Return what was written, what was left out, and how to use the folder."""
    from bike_cli.engine.models.importers.layouts import NAMES

    parts = [f"imported from {NAMES[imported.origin]}", f"licence {imported.checkpoint.licence or 'not stated'}"]
    parts += [f"with weights of {imported.base}"] if imported.base is not None else []
    command = shlex.join(["bike", "classify", "-m", str(out), "-l", "labels.txt", "video.mp4"])
    left_out = [f"  left out: {what}" for what in imported.left_out]
    return [f"{out}: {', '.join(parts)}", *left_out, f"  use it with {command}"]
