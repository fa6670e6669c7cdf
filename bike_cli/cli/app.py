"""The commands of `bike`, and what they share."""

from __future__ import annotations

from typing import Annotated

import typer

import bike_cli
from bike_cli.cli import options as o
from bike_cli.cli.cache import cache_app
from bike_cli.cli.calibrate.command import calibrate_command
from bike_cli.cli.classify.command import classify_command
from bike_cli.cli.doctor.command import doctor_command
from bike_cli.cli.embed.command import embed_command
from bike_cli.cli.eval.command import eval_command
from bike_cli.cli.export import export_command
from bike_cli.cli.fewshot import fewshot_command
from bike_cli.cli.finetune import FinetuneCommand, finetune_command
from bike_cli.cli.help import WIDEST, BikeCommand, BikeGroup
from bike_cli.cli.import_model import import_command
from bike_cli.cli.labels.command import labels_app
from bike_cli.cli.models.command import models_app
from bike_cli.cli.spot.command import spot_command

app = typer.Typer(
    cls=BikeGroup,
    help="""Zero- and few-shot video classification: any videos, any labels, one command.

    bike classify clip.mp4 -L "running, jumping"

    bike spot match.mp4 -L "corner kick, goal"

    bike fewshot data/ --shots 4 --save actions.bike

    bike doctor
    """,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDEST + 2},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bike {bike_cli.__version__}")
        raise typer.Exit


def _defaults_of_commands(group: object, verbose: int) -> dict[str, object]:
    """Return the default of `--verbose` for each command of a group and of its subgroups."""
    commands: dict[str, object] = getattr(group, "commands", {})
    return {
        name: _defaults_of_commands(command, verbose) if hasattr(command, "commands") else {"verbose": verbose}
        for name, command in commands.items()
    }


@app.callback()
def _shared(
    context: typer.Context,
    verbose: o.Verbose = 0,
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Accept options in front of a command: `bike -v classify` is `bike classify -v`."""
    if verbose:
        context.default_map = _defaults_of_commands(context.command, verbose)


app.command("classify", cls=BikeCommand)(classify_command)
app.command("spot", cls=BikeCommand)(spot_command)
app.command("embed", cls=BikeCommand)(embed_command)
app.command("calibrate", cls=BikeCommand)(calibrate_command)
app.command("fewshot", cls=BikeCommand)(fewshot_command)
app.command("finetune", cls=FinetuneCommand)(finetune_command)
app.command("eval", cls=BikeCommand)(eval_command)
app.add_typer(labels_app, name="labels")
app.add_typer(models_app, name="models")
app.command("export", cls=BikeCommand)(export_command)
app.command("import", cls=BikeCommand)(import_command)
app.command("doctor", cls=BikeCommand)(doctor_command)
app.add_typer(cache_app, name="cache")
