"""The table of `bike labels check`."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from bike_cli.cli.terminal.console import plain, print_table
from bike_cli.data.label_checks.findings import Finding
from bike_cli.wording import count

SHOWN = 200  # findings of a table; more do not help a person


def show_findings(console: Console, labels: int, found: Sequence[Finding]) -> None:
    """Print what was found, one row per finding, and how much that is."""
    if not found:
        print_table(console, f"{count(labels, 'label')}, nothing found")
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name, ratio in (("Place", 2), ("Label", 2), ("Problem", 4), ("Fix", 3)):
        table.add_column(name, overflow="fold", ratio=ratio)
    for finding in found[:SHOWN]:
        row = (finding.where, finding.label, finding.problem, finding.fix)
        table.add_row(*(plain(text, "bold" if text == finding.label else "") for text in row))
    more = f"; {len(found) - SHOWN} more with -f json" if len(found) > SHOWN else ""
    print_table(console, table)
    print_table(console, "", f"{count(labels, 'label')}, {count(len(found), 'problem')}{more}")
