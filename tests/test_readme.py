"""What README and docs say is true: their commands run, their outputs are printed, their lists are the program's."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, get_args

import pytest
from typer.testing import CliRunner, Result

from bike_cli.cli.app import app
from bike_cli.config import ClassifyConfig
from bike_cli.data.lexicons import lexicon_names
from bike_cli.errors import ExitCode, FailureKind
from bike_cli.media import VIDEO_EXTENSIONS
from bike_cli.settings import leaves

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
WRITTEN = {file.name: file.read_text(encoding="utf-8") for file in sorted((ROOT / "docs").glob("*.md"))}
PAGES = {"README.md": README, "CONTRIBUTING.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), **WRITTEN}
COMMANDS_PAGE = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")

# Their commands belong to other programs, too.
OF_OTHER_PROGRAMS = {"benchmarks.md", "contributing.md", "CONTRIBUTING.md"}
OTHER_PROGRAMS_LINES = ("python -m benchmarks", "pip ", "pipx ", "uv ", "docker ", "RUN ", "torchrun ", "#SBATCH ")


class Block(NamedTuple):
    """A fenced block, and the HTML comment right above it."""

    page: str
    comment: str
    language: str
    text: str

    @property
    def is_run(self) -> bool:
        return not self.comment.startswith(("setup:", "not run:"))


def blocks_of(page: str, text: str) -> list[Block]:
    found = re.findall(r"(?:^<!-- ([^\n]*) -->\n)?^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [Block(page, comment, language, content.strip()) for comment, language, content in found]


BLOCKS = [block for page, text in PAGES.items() for block in blocks_of(page, text)]


def blocks_in(language: str) -> list[Block]:
    """Return the blocks of a language, each text once."""
    return list({block.text: block for block in BLOCKS if block.language == language}.values())


def parameters(blocks: Iterable[Block], slow: Collection[str] = ()) -> list[object]:
    """Return the blocks as parameters of a test, named by their page; those of the pages `slow` take seconds."""
    return [
        pytest.param(block, id=block.page, marks=[pytest.mark.slow] if block.page in slow else []) for block in blocks
    ]


def setup(name: str) -> str:
    match = re.search(rf"<!-- setup: {name} -->\n```bash\n(.*?)\n```", README, re.DOTALL)
    assert match, f"the README has no set-up command {name!r}"
    return match[1]


def environment(**more: str) -> dict[str, str]:
    # One thread: the model is small, and a second one only waits where others use the core.
    return {**os.environ, "BIKE_DEVICE": "cpu", "OMP_NUM_THREADS": "1", **more}


def shell(command: str, *, cwd: Path = ROOT, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does, with the `bike` of this environment first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=cwd,
        env=environment(PATH=path, **more),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def in_this_process(line: str) -> Result:
    """Run a line that is bike and its arguments, and needs no shell."""
    name, *arguments = shlex.split(line)
    assert name == "bike"
    return CliRunner().invoke(app, arguments, prog_name=name)


def lines_without_a_shell(block: str) -> list[str] | None:
    """Return the lines of a block in which a shell has nothing to do but to split words."""
    lines = joined_lines(block)
    return lines if all(re.fullmatch(r"""bike [\w\-./,{}"' ]*""", line) for line in lines) else None


def joined_lines(text: str) -> list[str]:
    return text.replace("\\\n", " ").splitlines()


def bike_lines(text: str) -> list[str]:
    return [line for line in joined_lines(text) if re.match(r"bike (classify|fewshot|finetune|eval) (?!--from)", line)]


def without_numbers(text: str) -> list[str]:
    # Scores may differ in the last digit from one processor to another.
    return re.sub(r"\d+\.\d+( %)?", "", text).split()


@pytest.fixture(scope="module")
def first_answer() -> str:
    command = setup("run").split("&&", 1)[1]
    done = shell(f"{command} --format table", COLUMNS="80")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the commands need of a checkout, in a folder that they may write to."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return tmp_path


# -- the README -------------------------------------------------------------------------------------------------------


def test_the_readme_fits_on_a_few_screens() -> None:
    assert len(README.splitlines()) <= 200


@pytest.mark.slow  # .ci/run runs it
def test_the_first_command_prints_the_table_of_the_readme(first_answer: str) -> None:
    shown = re.search(r"<!-- table -->\n```text\n(.*?)```", README, re.DOTALL)
    assert shown

    assert without_numbers(shown[1]) == without_numbers(first_answer)


def test_the_set_up_is_two_commands_that_install_and_do() -> None:
    assert setup("run").startswith("pip install . && bike classify ")
    assert setup("test") == "pip install -e '.[dev]' && pytest"


# -- commands ---------------------------------------------------------------------------------------------------------

SHELL_BLOCKS = blocks_in("bash")
RUN_BLOCKS = [block for block in SHELL_BLOCKS if block.is_run]
IN_THIS_PROCESS = [block for block in RUN_BLOCKS if lines_without_a_shell(block.text)]


def test_shell_blocks_are_bash_and_name_what_they_are_not_run_for() -> None:
    assert not [block for block in BLOCKS if block.language in {"sh", "shell", "console", ""}]
    comments = {block.comment for block in SHELL_BLOCKS}
    assert all(re.fullmatch(r"|slow|setup: \w+|not run: \w.{4,}", comment) for comment in comments)


@pytest.mark.slow  # .ci/run runs it
@pytest.mark.parametrize("block", parameters(block for block in RUN_BLOCKS if block not in IN_THIS_PROCESS))
def test_a_command_that_needs_a_shell_runs(block: Block, checkout: Path) -> None:
    done = shell(block.text, cwd=checkout)

    assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow  # .ci/run runs it
@pytest.mark.parametrize("block", parameters(IN_THIS_PROCESS))
def test_a_command_runs(block: Block, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # That `bike` is a program of its own is seen above; here, each would import torch for seconds.
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("BIKE_DEVICE", "cpu")

    for line in lines_without_a_shell(block.text) or ():
        done = in_this_process(line)

        assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exc_info}"


SHOWN = [
    (command, output)
    for command, output in pairwise(BLOCKS)
    if output.comment in ("output", "output: excerpt") and command.page == output.page
]


@pytest.mark.slow  # .ci/run runs it
@pytest.mark.parametrize(
    ("command", "output"),
    [pytest.param(*pair, id=pair[0].page) for pair in SHOWN],
)
def test_a_command_prints_the_output_that_follows_it(
    command: Block, output: Block, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("BIKE_DEVICE", "cpu")
    monkeypatch.setenv("COLUMNS", "80")

    done = [in_this_process(line) for line in joined_lines(command.text)]

    printed = without_numbers("".join(ran.stdout for ran in done))
    shown = without_numbers(output.text)
    if output.comment == "output":
        assert printed == shown
    else:
        assert f" {' '.join(shown)} " in f" {' '.join(printed)} "


NOT_RUN = [line for block in SHELL_BLOCKS if block.comment.startswith("not run:") for line in bike_lines(block.text)]


@pytest.mark.parametrize("line", NOT_RUN)
def test_flags_of_commands_that_need_weights_exist(line: str) -> None:
    words = shlex.split(line.split(">")[0].split("|")[0])
    if "--ray" in words:
        pytest.importorskip("ray")

    result = CliRunner().invoke(app, [*words[1:], "--dump-config"])

    # A saved classifier that an earlier line would write is missing here. Wrong flags are noticed before.
    expected = ExitCode.NO_MODEL if "--classifier" in words else ExitCode.DONE
    assert result.exit_code == expected, result.output


@pytest.mark.parametrize("page", sorted(PAGES.keys() - OF_OTHER_PROGRAMS))
def test_every_flag_that_a_page_names_exists(page: str) -> None:
    own = "\n".join(line for line in PAGES[page].splitlines() if not line.startswith(OTHER_PROGRAMS_LINES))

    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", own))

    assert named <= set(re.findall(r"--[a-z][\w-]*", COMMANDS_PAGE)) | {"--help"}


# -- programs ---------------------------------------------------------------------------------------------------------

FIRST_PROGRAM, *OTHER_PROGRAMS = blocks_in("python")
FILES = {  # what programs read, and the commands that make it
    "answers/": "bike classify examples/clips -m tiny -l examples/labels.txt -o answers/ --device cpu",
    "embeddings/": "bike embed examples/clips -m tiny -o embeddings/ --device cpu",
    "texts/": "bike embed -m tiny -L 'a red heart,a blue star' -o texts/ --device cpu",
    '"report.json"': "bike eval examples/by_shape.csv -m tiny -o report.json --device cpu",
}


@pytest.mark.slow  # .ci/run runs it
def test_the_first_program_runs(checkout: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FIRST_PROGRAM.text],
        cwd=checkout,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.slow  # over a second of a core
@pytest.mark.parametrize("program", parameters(OTHER_PROGRAMS, slow={"fewshot.md", "spot.md"}))
def test_a_program_runs(program: Block, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    if program.comment.startswith("needs: "):
        pytest.importorskip(program.comment.removeprefix("needs: "))
    for name, line in FILES.items():
        if name in program.text:
            assert in_this_process(line).exit_code == 0

    exec(compile(program.text, program.page, "exec"), {"__name__": "__main__"})


# -- lists and tables -------------------------------------------------------------------------------------------------


def test_the_extensions_a_folder_is_searched_for_are_listed() -> None:
    listed = re.search(r"files that end in (.*?), in upper or lower case", WRITTEN["classify.md"], re.DOTALL)
    assert listed

    assert set(re.findall(r"`(\.\w+)`", listed[1])) == VIDEO_EXTENSIONS


def test_the_documented_fields_are_those_of_the_json(monkeypatch: pytest.MonkeyPatch) -> None:
    section = WRITTEN["output.md"].split("## One record per video")[1].split("\n## ")[0]
    documented = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    monkeypatch.chdir(ROOT)
    line = "bike classify examples/clips -m tiny -l examples/labels.txt --explain --reject 0.1 -f jsonl --device cpu"
    done = in_this_process(line)

    written = set(json.loads(done.stdout.splitlines()[0]))

    assert written <= documented
    assert documented - written <= {"error", "warning"}


def test_the_documented_columns_are_those_of_the_csv(monkeypatch: pytest.MonkeyPatch) -> None:
    documented = next(block.text for block in BLOCKS if block.comment == "columns: 2")
    monkeypatch.chdir(ROOT)

    done = in_this_process("bike classify examples/clips -m tiny -l examples/labels.txt -k 2 -f csv --device cpu")

    assert done.stdout.splitlines()[0] == documented


@pytest.mark.slow  # over a second of a core
@pytest.mark.parametrize(
    ("page", "flags"),
    [
        ("evaluate.md", ""),
        ("fewshot.md", "--shots 1 --trials 1 --frames 1"),
        ("finetune.md", "--save run --branch both --wise-ft 0.5 --epochs 1 --frames 1 --batch-size 4"),
    ],
)
def test_the_documented_keys_are_those_of_the_report(
    page: str, flags: str, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = WRITTEN[page].split("<!-- keys: report -->\n")[1].split("\n\n")[0]
    documented = {key for row in table.splitlines()[2:] for key in re.findall(r"`(\w+)`", row.split("|")[1])}
    command = page.removesuffix(".md").replace("evaluate", "eval")
    monkeypatch.chdir(checkout)
    done = in_this_process(f"bike {command} examples/by_shape.csv -m tiny --device cpu -o report.json -q {flags}")
    assert done.exit_code == 0, done.output

    assert set(json.loads((checkout / "report.json").read_text())) == documented


def test_every_exit_code_is_listed() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", WRITTEN["output.md"], re.MULTILINE)}

    assert listed == {int(code) for code in ExitCode}


@pytest.mark.parametrize("lexicon", lexicon_names())
def test_every_lexicon_is_named(lexicon: str) -> None:
    assert f"| `{lexicon}` |" in WRITTEN["attributes.md"]


@pytest.mark.parametrize("name", sorted(leaves(ClassifyConfig)))
def test_every_option_is_explained(name: str) -> None:
    assert any(f"--{name.replace('_', '-')}" in text for text in WRITTEN.values())


@pytest.mark.parametrize("kind", get_args(FailureKind))
def test_every_error_is_explained(kind: str) -> None:
    assert f"| `{kind}` |" in WRITTEN["output.md"]


# -- links ------------------------------------------------------------------------------------------------------------

LINKS = [
    (page, target)
    for page, text in PAGES.items()
    for target in dict.fromkeys(re.findall(r"\]\(((?!https?://)[^)\s]+)\)", text))
]


def anchors_of(text: str) -> set[str]:
    """Return the anchors that Markdown makes of headings."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


@pytest.mark.parametrize(("page", "target"), LINKS, ids=[f"{page}:{target}" for page, target in LINKS])
def test_a_link_leads_to_a_file_and_a_heading(page: str, target: str) -> None:
    folder = ROOT if page in {"README.md", "CONTRIBUTING.md"} else ROOT / "docs"
    path, _, anchor = target.partition("#")
    file = folder / path if path else folder / page

    assert file.exists()
    assert not anchor or anchor in anchors_of(file.read_text(encoding="utf-8"))
