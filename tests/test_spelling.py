"""Names and documentation use one spelling, the British one: summarise, colour, centre."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
STEMS = "categor|emphas|general|initial|maxim|minim|normal|organ|recogn|regular|special|summar|synchron|token|visual"
# Not "tokenizer" and "optimizer", which are names of things in PyTorch and open_clip.
OTHER = re.compile(
    rf"(?<![a-z])(({STEMS})iz(e|es|ed|ing|ation)|(behavi|col|fav|neighb)ors?|center(s|ed)?|gray|label(ed|ing)|licenses?)"
    r"(?![a-z])",
    re.IGNORECASE,
)


def names_in(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def prose_in(page: Path) -> str:
    """Return the text of a page without code, addresses and names of files."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`]*`|\]\([^)]*\)|https?://\S+", "", text)


def test_names_have_one_spelling() -> None:
    files = sorted((ROOT / "bike_cli").rglob("*.py"))

    assert [f"{file.name}: {name}" for file in files for name in names_in(file) if OTHER.search(name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_have_one_spelling(page: Path) -> None:
    assert [found[0] for found in OTHER.finditer(prose_in(page))] == []


@pytest.mark.parametrize("word", ["summarize", "_initialized", "Normalize", "grayscale mode, gray", "color"])
def test_another_spelling_would_be_seen(word: str) -> None:
    assert OTHER.search(word)


@pytest.mark.parametrize("word", ["summarise", "tokenizer", "optimizer", "colour", "organism", "Decentered_view"])
def test_the_spelling_of_bike_and_of_libraries_is_allowed(word: str) -> None:
    assert not OTHER.search(word)
