"""Videos, and the folder that their records go to."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output folder that does not exist yet, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "out"


@pytest.fixture
def videos(clips: Path, folder: Path) -> Path:
    """A folder of three films, a broken one, and a list that also names one twice and one that is missing."""
    shutil.copytree(clips, folder.parent / "clips")
    Path("clips/text.mp4").write_text("no video")
    names = ["red_square", "blue_circle", "missing", "text", "green_cross", "red_square"]
    Path("list.txt").write_text("".join(f"clips/{name}.mp4\n" for name in names))
    return Path("clips")
