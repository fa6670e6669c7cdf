"""Names of what is written per video: unique, with the tree of a searched folder, and no input of the next run."""

from pathlib import Path

import pytest

from bike_cli.cli.spot.names import VideoNames, check_clip_folder, stem_of
from bike_cli.errors import UsageError
from bike_cli.records import Source


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("videos/a/x.mp4", "videos/b/x.mp4", "videos/x.mp4", "videos/shots/0001.png", "other/x.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_tree_of_a_searched_folder_is_kept(tree: Path) -> None:
    names = VideoNames(Path("out"), ".srt", ["videos", "other/x.mp4"])
    sources = [Source.at(name) for name in ("videos/a/x.mp4", "videos/b/x.mp4", "videos/shots")]

    names.check(sources)
    assert [names.path_of(s) for s in sources] == [Path(f"out/{name}.srt") for name in ("a/x", "b/x", "shots")]


def test_the_innermost_folder_counts(tree: Path) -> None:
    names = VideoNames(Path("out"), "", ["videos", "videos/a"])

    assert names.path_of(Source.at("videos/a/x.mp4")) == Path("out/x")


def test_a_folder_of_frames_that_is_named_itself(tree: Path) -> None:
    assert VideoNames(Path("out"), ".vtt", ["videos/shots"]).path_of(Source.at("videos/shots")) == Path("out/shots.vtt")


def test_two_spellings_of_one_video_do_not_clash(tree: Path) -> None:
    names = VideoNames(Path("out"), ".srt")
    sources = [Source.at("other/x.mp4"), Source(tree / "other/x.mp4", "x")]

    names.check(sources)
    assert {names.path_of(s) for s in sources} == {Path("out/x.srt")}


def test_videos_of_one_name_clash(tree: Path) -> None:
    names = VideoNames(Path("out"), ".srt", ["videos"])

    with pytest.raises(UsageError, match=r"^other/x\.mp4: would be written to out/x\.srt, as videos/x\.mp4 would"):
        names.check([Source.at("videos/x.mp4"), Source.at("other/x.mp4")])


def test_a_clash_that_is_found_late_gets_a_number(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = VideoNames(Path("out"), ".srt")
    found = [names.path_of(Source.at(name)) for name in ("videos/x.mp4", "other/x.mp4", "videos/a/x.mp4")]

    assert found == [Path("out/x.srt"), Path("out/x-2.srt"), Path("out/x-3.srt")]
    assert "other/x.mp4: is written to out/x-2.srt, because x.srt is of another video" in caplog.text
    assert names.path_of(Source.at("other/x.mp4")) == Path("out/x-2.srt")


@pytest.mark.parametrize(
    ("path", "stem"),
    [("a/b.c.mp4", "b.c"), ("a/shots.2026", "shots.2026"), ("a/plain", "plain"), ("a/X.MKV", "X"), ("a/.mp4", ".mp4")],
)
def test_only_the_ending_of_a_video_is_dropped(path: str, stem: str) -> None:
    assert stem_of(Source.at(path)) == stem


def test_the_current_folder_has_a_name(tree: Path) -> None:
    assert stem_of(Source.at(".")) == tree.name


@pytest.mark.parametrize("folder", ["videos", "videos/clips", "videos/../videos/a", "./videos/x/y"])
def test_clips_never_become_inputs(tree: Path, folder: str) -> None:
    with pytest.raises(UsageError, match=r"lies in videos, which is searched for videos.*choose a folder outside"):
        check_clip_folder(Path(folder), ["other/x.mp4", "videos"])


def test_clips_may_lie_next_to_the_inputs(tree: Path) -> None:
    check_clip_folder(Path("clips"), ["videos", "other/x.mp4", "-"])
    check_clip_folder(Path("other"), ["other/x.mp4"])
