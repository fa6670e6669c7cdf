"""decord has wheels for few platforms: bike works without it, and says so where somebody asks for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bike_cli.cli.app import app
from bike_cli.errors import ExitCode

EXAMPLES = Path(__file__).parents[2] / "examples"
CLASSIFY = ["classify", str(EXAMPLES / "clips" / "blue_star_spinning.mp4"), "-m", "tiny", "-L", "blue star, red circle"]


def test_asking_for_decord_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)  # as if it were not installed

    result = CliRunner().invoke(app, [*CLASSIFY, "--decoder", "decord"])

    assert result.exit_code == ExitCode.USAGE
    assert "decord: is not installed" in result.stderr
    assert "--decoder" in result.stderr
    assert not result.stdout


@pytest.mark.slow
def test_everything_else_works_without_decord(tmp_path: Path) -> None:
    (tmp_path / "decord.py").write_text("raise ImportError('no wheel for this platform')")

    done = subprocess.run(
        [sys.executable, "-m", "bike_cli", *CLASSIFY, "-f", "jsonl"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{EXAMPLES.parent}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == ExitCode.DONE, done.stderr
    assert '"label": "blue star"' in done.stdout
