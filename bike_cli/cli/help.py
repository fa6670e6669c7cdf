"""The layout of `--help`, and how commands parse their arguments."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from bike_cli.cli.terminal.console import can_style
from bike_cli.cli.terminal.usage_errors import (
    CommandLineError,
    describe,
    exit_with_usage_error,
    option_names,
    unknown_command,
)
from bike_cli.config.fields import GENERAL

EXAMPLE_STARTS = ("bike ", "find ", "torchrun ")
OPTIONS, WIDEST, WIDEST_NAMES = "Options", 118, 26  # columns


class _Explained:
    """Lay out the help of a command, and print errors in its arguments."""

    params: list[Any]
    help: str | None

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - classes that Typer does not export
        """Write the usage, what the command does, its options in panels, its commands and examples."""
        formatter.width = max(min(formatter.width, WIDEST), 50)
        shown = [parameter for parameter in self.get_params(ctx) if not parameter.hidden]  # type: ignore[attr-defined]
        usage = usage_words(shown, commands=getattr(self, "commands", None), is_optional=_is_optional(self))
        formatter.write_usage(ctx.command_path, " ".join(usage))
        examples: list[str] = []
        for paragraph in paragraphs(self.help or ""):
            if paragraph.startswith(EXAMPLE_STARTS):
                examples.append(paragraph)
            else:
                formatter.write_paragraph()
                formatter.write_text(paragraph)
        for panel, rows in _panels(shown).items():
            _write_rows(formatter, panel, rows)
        commands = [(name, sub) for name, sub in getattr(self, "commands", {}).items() if not sub.hidden]
        rows = [(name, next(iter(paragraphs(sub.help or "")), "")) for name, sub in commands]
        _write_rows(formatter, "Commands", rows)
        if examples:
            with formatter.section(_bold("Examples")):
                for example in examples:
                    formatter.write(f"  {continued(example, formatter.width - 2)}\n")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Parse arguments; print errors as bike prints all others."""
        if not args and getattr(self, "no_args_is_help", False) and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            raise typer.Exit(2)
        try:
            return super().parse_args(ctx, args)  # type: ignore[misc, no-any-return]
        except CommandLineError as e:
            if ctx.resilient_parsing:  # the shell completes a line that is not finished
                raise
            exit_with_usage_error(describe(e, ctx), ctx)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:  # noqa: ANN401
        """Return completions, without old names of options."""
        shown = {name for p in self.params if p.param_type_name == "option" for name in option_names(p)}
        items = super().shell_complete(ctx, incomplete)  # type: ignore[misc]
        return [item for item in items if not item.value.startswith("-") or item.value in {*shown, "-h", "--help"}]


class BikeCommand(_Explained, TyperCommand):
    """A command of bike.

    With --dump-config, nothing is required: only the configuration is printed.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Parse arguments; see the class."""
        required = [parameter for parameter in self.params if parameter.required]
        for parameter in required:
            parameter.required = "--dump-config" not in args
        try:
            return super().parse_args(ctx, args)
        finally:
            for parameter in required:
                parameter.required = True


class BikeGroup(_Explained, TyperGroup):
    """A command of bike that has subcommands."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401
        """Return the subcommand that the arguments name; suggest the right one for a name from another tool."""
        name = args[0]
        if name not in self.commands and not name.startswith("-") and not ctx.resilient_parsing:
            exit_with_usage_error(unknown_command(name, ctx, self.commands), ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        """Run the subcommand; print an error if the arguments name none."""
        try:
            return super().invoke(ctx)
        except CommandLineError as e:
            exit_with_usage_error(describe(e, ctx), ctx)


def usage_words(shown: Iterable[Any], *, commands: Any, is_optional: bool) -> list[str]:  # noqa: ANN401
    """Return what follows the name of a command in its usage."""
    words = ["[OPTIONS]"] if any(p.param_type_name == "option" for p in shown) else []
    words += [argument_usage(p) for p in shown if p.param_type_name == "argument"]
    if commands:
        words.append("[COMMAND] ..." if is_optional else "COMMAND ...")
    return words


def argument_usage(argument: Any) -> str:  # noqa: ANN401
    """Return how an argument is written in the usage: `DATA`, `[VIDEOS]...`."""
    several = "..." if argument.nargs == -1 else ""
    return f"{argument.metavar}{several}" if argument.required else f"[{argument.metavar}]{several}"


def default_of(parameter: Any) -> str:  # noqa: ANN401
    """Return the default that the help shows; empty for none."""
    if parameter.required or not parameter.show_default:
        return ""
    shown = parameter.show_default if isinstance(parameter.show_default, str) else parameter.default
    return "" if shown in (None, False, (), []) else str(shown)


def paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help text, each in one line."""
    for paragraph in inspect.cleandoc(text.replace("\b", "")).split("\n\n"):
        if paragraph.strip():
            yield " ".join(paragraph.split())


def continued(example: str, width: int) -> str:
    """Return an example that can be copied: a command that is too wide continues on the next line after a backslash."""
    if len(example) <= width:
        return example
    operators = [match.start() for match in re.finditer(r" (?=&&|\||>)", example) if match.start() + 2 <= width]
    flags = [match.start() for match in re.finditer(r" (?=--?\w)", example) if match.start() + 2 <= width]
    at = max(operators or flags, default=None)
    return example if at is None else f"{example[:at]} \\\n      {example[at + 1 :]}"


def _is_optional(command: Any) -> bool:  # noqa: ANN401
    return bool(getattr(command, "invoke_without_command", False))


def _panels(parameters: Iterable[Any]) -> dict[str, list[tuple[str, str]]]:
    """Return the rows of each panel: the names of parameters, and their help with the default."""
    panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], OPTIONS: []}
    general: list[tuple[str, str]] = []
    for parameter in parameters:
        if parameter.param_type_name == "argument":
            panels["Arguments"].append((argument_usage(parameter), parameter.help or ""))
            continue
        names = option_names(parameter)
        value = "" if parameter.is_flag or parameter.count else f" {parameter.metavar or 'TEXT'}"
        # Names without a short form line up with the long names of others.
        indent = "    " if names[0].startswith("--") else ""
        default = default_of(parameter)
        text = " ".join(filter(None, [parameter.help, f"[default: {default}]" if default else ""]))
        text = f"{text} [required]" if parameter.required else text
        row = (f"{indent}{', '.join(names)}{value}", text)
        panel = GENERAL if parameter.name == "help" else parameter.rich_help_panel or OPTIONS
        (general if panel == GENERAL else panels.setdefault(panel, [])).append(row)
    if len(general) > 1:
        return {**panels, GENERAL: general}
    panels[OPTIONS] += general  # --help alone
    return panels


def _write_rows(formatter: Any, title: str, rows: list[tuple[str, str]]) -> None:  # noqa: ANN401
    if not rows:
        return
    column = min(max(len(first) for first, _ in rows), WIDEST_NAMES)
    with formatter.section(_bold(title)):
        for first, text in rows:
            # Typer's own wrapping would break --multi-label after its hyphen.
            lines = textwrap.wrap(text, formatter.width - column - 4, break_on_hyphens=False)
            fits = len(first) <= column
            padding = " " * (column - len(first) + 2) if fits else "\n" + " " * (column + 4)
            styled = re.sub(r"-+\w[\w-]*", lambda name: _bold(name.group()), first)
            formatter.write(f"  {styled}{padding}" + ("\n" + " " * (column + 4)).join(lines) + "\n")


def _bold(text: str) -> str:
    """Return a text in bold; Typer removes the style where stdout is not a terminal."""
    return typer.style(text, bold=True) if can_style() else text
