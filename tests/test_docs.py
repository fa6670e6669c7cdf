"""The reference pages are up to date, and the site builds."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer

import bike_cli
from bike_cli.cli.app import app

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "scripts" / "generate_docs.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["api.md", "cli.md", "config.md", "evaluation_report.md", "detection_report.md"])
def test_a_reference_page_is_up_to_date(page: str, generator: ModuleType) -> None:
    assert (REFERENCE / page).read_text(encoding="utf-8") == generator.pages()[page], (
        "run: python scripts/generate_docs.py"
    )


def test_the_commands_page_does_not_depend_on_how_typer_words_types_and_usage(
    generator: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise AssertionError("this is worded differently in other versions of Typer")

    tree = typer.main.get_command(app)
    commands = [tree, *tree.commands.values(), *tree.commands["models"].commands.values()]  # type: ignore[attr-defined]
    for cls in {type(command) for command in commands}:
        monkeypatch.setattr(cls, "collect_usage_pieces", fail)
    for cls in {type(parameter) for command in commands for parameter in command.params}:
        monkeypatch.setattr(cls, "get_help_record", fail)
        monkeypatch.setattr(cls, "make_metavar", fail, raising=False)

    assert generator.commands_page() == (REFERENCE / "cli.md").read_text(encoding="utf-8")


def test_all_reference_pages_are_generated(generator: ModuleType) -> None:
    assert {file.name for file in REFERENCE.iterdir()} == set(generator.pages())


def test_the_api_page_has_every_public_name() -> None:
    page = (REFERENCE / "api.md").read_text(encoding="utf-8")

    assert {line.removeprefix("::: bike_cli.") for line in page.splitlines() if line.startswith(":::")} == set(
        bike_cli.__all__
    )


CONTRIBUTING = "".join(
    (ROOT / name).read_text(encoding="utf-8") for name in ("CONTRIBUTING.md", "docs/contributing.md")
)


IS_A_PATH = re.compile(r"\.?[\w-]+(/[\w.-]+)*(/|\.(py|md|toml))|\.?[\w-]+(/[\w.-]+)+")
PATHS = sorted(code for code in set(re.findall(r"`([^`\n]+)`", CONTRIBUTING)) if IS_A_PATH.fullmatch(code))
PLACES = sorted(set(re.findall(r"`(\w+)` in\s+`(\w+/[\w/]+\.py)`", CONTRIBUTING)))


def test_paths_are_told_from_other_code() -> None:
    assert {"pyproject.toml", ".ci/run", "bike_cli/cli/", "examples/clips", "tests/engine/test_golden.py"} <= set(PATHS)


@pytest.mark.parametrize("path", PATHS)
def test_a_file_that_contributing_names_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("name", "path"), PLACES)
def test_a_name_is_in_the_file_that_contributing_says(name: str, path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")

    assert re.search(rf"^ *(def|class) {name}\b|^ *{name}\b.* = ", text, re.MULTILINE)


def test_names_that_contributing_mentions_are_in_the_code() -> None:
    names = set(re.findall(r"`([A-Za-z]\w*)`", CONTRIBUTING))
    sources = [file for folder in ("bike_cli", "tests") for file in (ROOT / folder).rglob("*.py")]
    words = {word for file in sources for word in re.findall(r"\w+", file.read_text(encoding="utf-8"))}

    assert len(names) > 30
    assert names <= words


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is missing: pip install '.[docs]'")

    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reference" / "cli" / "index.html").is_file()
