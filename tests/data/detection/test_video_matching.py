"""Which annotated video a path means, and that ambiguous paths are refused."""

import logging
from pathlib import Path

import pytest

from bike_cli.data.detection.detection_sets import AnnotatedVideo, DetectionSet
from bike_cli.data.detection.matching import match_videos, video_id
from bike_cli.errors import UsageError


def truth(*names: str, by_id: bool = False, folder: str = "data") -> DetectionSet:
    videos = tuple(AnnotatedVideo(name, f"{folder}/{name}", ()) for name in names)
    return DetectionSet("truth", ("x",), videos, folder, by_id, "validation" if by_id else None)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("data/a.mp4", "a.mp4"),
        ("./data/x/../a.mp4", "a.mp4"),
        ("a.mp4", "a.mp4"),
        ("/elsewhere/a.mp4", "a.mp4"),
        ("/elsewhere/a.webm", "a.mp4"),
    ],
)
def test_a_path_means_the_video_of_the_same_place_or_name(path: str, name: str) -> None:
    assert match_videos([path], truth("b.mp4", name), origin="found") == {path: 1}


@pytest.mark.parametrize(
    ("path", "id_"),
    [
        ("videos/v_sJbjfL1tDDE.mp4", "sJbjfL1tDDE"),
        ("videos/sJbjfL1tDDE.mkv", "sJbjfL1tDDE"),
        ("sJbjfL1tDDE", "sJbjfL1tDDE"),
        ("v_sJbjfL1tDDE", "sJbjfL1tDDE"),
        ("v_v_JbjfL1tDD.mp4", "v_JbjfL1tDD"),
        ("sJbjfL1tDDE.mp4", "v_sJbjfL1tDDE"),
        ("frames/a.b", "a.b"),
    ],
)
def test_a_path_means_the_video_whose_id_its_file_has(path: str, id_: str) -> None:
    assert match_videos([path], truth("other", id_, by_id=True), origin="found") == {path: 1}


def test_the_id_itself_wins_over_the_id_with_a_prefix() -> None:
    matched = match_videos(["v_a.mp4", "a.mp4"], truth("a", "v_a", by_id=True), origin="found")

    assert matched == {"v_a.mp4": 1, "a.mp4": 0}


def test_the_place_wins_over_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert match_videos(["a.mp4", "data/a.mp4"], truth("a.mp4"), origin="found") == {"data/a.mp4": 0}


def test_what_is_not_annotated_is_not_matched() -> None:
    assert match_videos(["a.mp4", "z.mp4"], truth("a.mp4", "b.mp4"), origin="found") == {"a.mp4": 0}


@pytest.mark.parametrize(
    ("paths", "names", "problem"),
    [
        (["x/a.mp4", "y/a.mp4"], ["a"], r"found: x/a.mp4 and y/a.mp4 both mean the video a"),
        (["a.mp4", "a.mkv"], ["a"], r"a.mp4 and a.mkv both mean the video a; remove one"),
        (["v_a.mp4", "v_a.webm"], ["a"], r"both mean the video a"),
        (["a.mp4"], ["x/a.mp4", "y/a.mp4"], r"a.mp4 means both x/a.mp4 and y/a.mp4; use the paths of the truth"),
        (["a.avi"], ["a.mp4", "a.mkv"], r"a.avi means both a.mp4 and a.mkv"),
        (
            ["z.mp4"],
            ["a", "b"],
            r"has no video in common with truth of the subset 'validation': z.mp4 is detected, a is",
        ),
    ],
)
def test_ambiguous_and_foreign_paths_are_refused(paths: list[str], names: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        match_videos(paths, truth(*names, by_id=True), origin="found")


def test_matches_by_file_name_alone_are_reported_for_paths(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        match_videos(["z/a.mp4"], truth("a", by_id=True), origin="found")
        match_videos(["data/a.mp4"], truth("a.mp4"), origin="found")
        assert caplog.text == ""
        match_videos(["z/a.mp4"], truth("a.mp4"), origin="found")

    assert "found: 1 video matched with annotations by file name alone, first z/a.mp4 with a.mp4" in caplog.text


def test_an_id_is_the_name_of_the_file() -> None:
    assert [video_id(path) for path in ("x/v_ab.c.mp4", "ab", "v_ab.MKV")] == ["ab.c", "ab", "ab"]
