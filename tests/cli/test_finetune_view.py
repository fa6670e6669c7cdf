"""The tables of `bike finetune`: they fit the terminal, and have no padding in a file."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from bike_cli.cli.finetune_view import View, print_results
from bike_cli.tasks.finetune.validation import Validation
from bike_cli.tasks.finetune.video_branch import Step

STEP = Step("attributes", 12, 1234, 123_456, 1.23456, 1.5e-5, 16, 3, 0.5, 0.1, 81_559)
VALIDATION = Validation("attributes", 12, {"top1": 0.5, "top5": 1.0, "macro": 0.25}, True, 100, 0)


@pytest.mark.parametrize(("columns", "hidden"), [(120, set()), (80, {"Memory", "Rate"}), (60, {"Waiting", "Memory"})])
def test_progress_fits_the_terminal_with_whole_numbers(columns: int, hidden: set[str]) -> None:
    console = Console(file=io.StringIO(), width=columns, force_terminal=True, color_system=None)
    view = View(console)
    with view:
        view.add(STEP)
        view.add(VALIDATION)

    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue()).replace("\r", "\n").splitlines()  # type: ignore[attr-defined]

    (header,) = {line for line in lines if line.startswith("Branch")}
    (row,) = {line for line in lines if line.startswith("attributes  ") and "1,234" in line}
    assert max(map(len, lines)) <= columns
    assert not hidden & set(header.split())
    assert {"Branch", "Epoch", "Step", "Loss"} <= set(header.split())
    assert "…" not in header + row
    assert ("81,559 MiB" in row) == ("Memory" in header)


def test_results_have_no_padding_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = {"val": 2, "start": {"top1": 0.5}, "epoch": 3, "metrics": {"top1": 1.0}}
    (tmp_path / "report.json").write_text(json.dumps(report))

    print_results(tmp_path)

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("On 2 videos")
    assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize(("classes", "shown"), [(5, False), (6, True)])
def test_results_have_top5_of_more_than_five_classes(
    classes: int, shown: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = {"top1": 0.5, "top5": 1.0, "macro": 0.25}
    report = {
        "val": 20,
        "classes": classes,
        "start": metrics,
        "epoch": 3,
        "metrics": metrics,
    }  # as version 0.1 wrote it
    (tmp_path / "report.json").write_text(json.dumps(report))

    print_results(tmp_path)

    assert ("top-5" in capsys.readouterr().out) == shown


def test_results_of_a_run_that_an_older_version_began_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, now = {"top1": 0.5, "top5": 1.0, "macro": 0.25}, {"top1": 0.75, "macro": 0.5}
    (tmp_path / "report.json").write_text(json.dumps({"val": 20, "classes": 3, "start": start, "metrics": now}))

    print_results(tmp_path)

    head, before, after = (" ".join(line.split()) for line in capsys.readouterr().out.splitlines())
    assert (head, before) == ("On 20 videos top-1 mean class", "before 50.0 % 25.0 %")
    assert after.endswith("75.0 % 50.0 %")
