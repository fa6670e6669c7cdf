"""What the README says is true: its commands run, its table is printed, its lists are the program's."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner, Result

from bike_cli.cli.app import app
from bike_cli.cli.options import DEFAULTS
from bike_cli.data.lexicons import lexicon_names
from bike_cli.errors import ExitCode, FailureKind
from bike_cli.media import VIDEO_EXTENSIONS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, without those of the set-up, which install."""
    found = re.findall(rf"(<!-- setup: \w+ -->\n)?```{language}\n(.*?)```", README, re.DOTALL)
    return [text.strip() for setup, text in found if not setup]


def setup(name: str) -> str:
    match = re.search(rf"<!-- setup: {name} -->\n```bash\n(.*?)\n```", README, re.DOTALL)
    assert match, f"the README has no set-up command {name!r}"
    return match[1]


def environment(**more: str) -> dict[str, str]:
    # One thread: the model is small, and a second one only waits where others use the core.
    return {**os.environ, "BIKE_DEVICE": "cpu", "OMP_NUM_THREADS": "1", **more}


def shell(command: str, *, cwd: Path = ROOT, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the README as a user does, with the `bike` of this environment first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=cwd,
        env=environment(PATH=path, **more),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def in_this_process(line: str) -> Result:
    """Run a line that is bike and its arguments, and nothing that takes a shell."""
    name, *arguments = shlex.split(line)
    assert name == "bike"
    return CliRunner().invoke(app, arguments, prog_name=name)


def lines_without_a_shell(block: str) -> list[str] | None:
    """Return the lines of a block in which a shell has nothing to do but to split words."""
    lines = joined_lines(block)
    return lines if all(re.fullmatch(r'bike [\w\-./,{}" ]*', line) for line in lines) else None


def joined_lines(text: str) -> list[str]:
    return text.replace("\\\n", " ").splitlines()


def bike_lines(text: str) -> list[str]:
    return [line for line in joined_lines(text) if line.startswith(("bike classify", "bike fewshot", "bike finetune"))]


@pytest.fixture(scope="module")
def first_answer() -> str:
    command = setup("run").split("&&", 1)[1]
    done = shell(f"{command} --format table", COLUMNS="80")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_command_prints_the_table_of_the_readme(first_answer: str) -> None:
    shown = re.search(r"<!-- table -->\n```text\n(.*?)```", README, re.DOTALL)
    assert shown

    # Scores may differ in the last digit from one processor to another.
    without_scores = [re.sub(r"\d+\.\d %", "", text).split() for text in (shown[1], first_answer)]

    assert without_scores[0] == without_scores[1]


def test_the_extensions_a_folder_is_searched_for_are_listed() -> None:
    listed = re.search(r"files count that end in (.*?), in any case", README, re.DOTALL)
    assert listed

    assert set(re.findall(r"`(\.\w+)`", listed[1])) == VIDEO_EXTENSIONS


def test_the_set_up_is_two_commands_that_install_and_do() -> None:
    assert setup("run").startswith("pip install . && bike classify ")
    assert setup("test") == "pip install -e '.[dev]' && pytest"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the README's commands need of a checkout, in a folder that they may write to."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return tmp_path


IN_THIS_PROCESS = [block for block in blocks("bash") if lines_without_a_shell(block)]


@pytest.mark.parametrize("command", [block for block in blocks("bash") if block not in IN_THIS_PROCESS])
def test_a_command_of_the_readme_that_takes_a_shell_runs(command: str, checkout: Path) -> None:
    done = shell(command, cwd=checkout)

    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("command", IN_THIS_PROCESS)
def test_a_command_of_the_readme_runs(command: str, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # That `bike` is a program of its own is seen above; here, each would import torch for seconds.
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("BIKE_DEVICE", "cpu")

    for line in lines_without_a_shell(command) or ():
        done = in_this_process(line)

        assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exc_info}"


@pytest.mark.parametrize("line", [line for block in blocks("sh") for line in bike_lines(block)])
def test_flags_of_commands_that_need_weights_exist(line: str) -> None:
    words = shlex.split(line.split(">")[0].split("|")[0])

    result = CliRunner().invoke(app, [*words[1:], "--dump-config"])

    assert result.exit_code == 0, result.output


FIRST_PROGRAM, *OTHER_PROGRAMS = blocks("python")


def test_the_first_program_of_the_readme_runs(checkout: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FIRST_PROGRAM],
        cwd=checkout,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("program", OTHER_PROGRAMS)
def test_a_program_of_the_readme_runs(program: str, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)

    exec(compile(program, "README.md", "exec"), {"__name__": "__main__"})


def test_the_json_of_the_readme_has_the_fields_that_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", README.split("## What comes out")[1], re.MULTILINE))
    monkeypatch.chdir(ROOT)
    done = in_this_process("bike classify examples -m tiny -l examples/labels.txt --explain -f jsonl --device cpu")

    written = set(json.loads(done.stdout.splitlines()[0]))

    assert written <= documented
    assert documented - written <= {"error", "warning"}


def test_the_readme_lists_every_exit_code() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}

    assert listed == {int(code) for code in ExitCode}


@pytest.mark.parametrize("lexicon", lexicon_names())
def test_the_readme_names_every_lexicon(lexicon: str) -> None:
    assert f"`{lexicon}`" in README


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_the_readme_names_every_option(name: str) -> None:
    assert f"--{name.replace('_', '-')}" in README


@pytest.mark.parametrize("target", re.findall(r"\]\(((?!https?://|#)[^)]+)\)", README))
def test_a_link_of_the_readme_leads_to_a_file(target: str) -> None:
    assert (ROOT / target.split("#")[0]).exists()


@pytest.mark.parametrize("kind", get_args(FailureKind))
def test_the_readme_explains_every_error(kind: str) -> None:
    assert f"| `{kind}` |" in README
