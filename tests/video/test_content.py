"""Stamps and digests of videos, on which cached results depend."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from bike_cli.records import Source
from bike_cli.video.content import changed_lately, digest_of, stamp_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of three frames with a companion file."""
    for i in range(3):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "Thumbs.db").write_bytes(b"one")
    return tmp_path


def seen(folder: Path) -> tuple[bytes, bytes | None]:
    return digest_of(Source.at(str(folder))), stamp_of(folder)


@pytest.mark.parametrize("name", ["Thumbs.db", "caption.txt", "._0.png", ".hidden.png"])
def test_files_that_are_not_frames_change_nothing(name: str, folder: Path) -> None:
    before = seen(folder)

    (folder / name).write_bytes(b"another")

    assert seen(folder) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: Image.new("RGB", (8, 8), (9, 9, 9)).save(folder / "1.png"),
        lambda folder: (folder / "3.png").write_bytes((folder / "0.png").read_bytes()),
        lambda folder: (folder / "2.png").unlink(),
        lambda folder: (folder / "2.png").rename(folder / "5.png"),
        lambda folder: (folder / "2.png").rename(folder / "2.txt"),
    ],
    ids=["content", "added", "removed", "renamed", "no frame any more"],
)
def test_a_change_of_the_frames_changes_both(change: Callable[[Path], None], folder: Path) -> None:
    digest, stamp = seen(folder)

    change(folder)

    assert digest_of(Source.at(str(folder))) != digest
    assert stamp_of(folder) != stamp


def test_a_new_file_next_to_frames_is_not_a_recent_change(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newest_s = max((folder / f"{i}.png").stat().st_ctime for i in range(3))
    monkeypatch.setattr("bike_cli.video.content.time.time", lambda: newest_s + 10)
    os.utime(folder / "Thumbs.db", (newest_s + 10, newest_s + 10))

    assert not changed_lately(folder)
