import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bike_cli.data.inputs import find_sources, looks_like_text, looks_like_video
from bike_cli.data.path_lists import read_paths
from bike_cli.errors import UsageError

MP4 = b"\x00\x00\x00\x20ftypisom" + bytes(20)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def found(*inputs: str | Path) -> list[str]:
    return [source.id for source in find_sources(inputs)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_keep_the_order_and_the_names_they_were_given_with(here: Path) -> None:
    touch(here, "b.mp4", "a.mp4")

    assert found("./b.mp4", "a.mp4", Path("b.mp4")) == ["./b.mp4", "a.mp4", "b.mp4"]


def test_a_named_file_is_taken_whatever_its_ending(here: Path) -> None:
    touch(here, "film.bin")

    assert found("film.bin") == ["film.bin"]


def test_a_missing_file_stays_a_source_to_become_a_failure(here: Path) -> None:
    assert found("nowhere.mp4") == ["nowhere.mp4"]


def test_a_folder_gives_every_video_below_it_by_name(here: Path) -> None:
    touch(here, "clips/b.MP4", "clips/a/z.webm", "clips/a/y.mkv", "clips/c.avi", "clips/notes.txt", "clips/cover.jpg")

    assert found("clips") == ["clips/a/y.mkv", "clips/a/z.webm", "clips/b.MP4", "clips/c.avi"]


def test_names_below_a_folder_begin_as_the_folder_was_written(here: Path) -> None:
    touch(here, "clips/a.mp4")

    assert found("./clips/", "clips") == ["./clips/a.mp4", "clips/a.mp4"]


def test_hidden_files_and_folders_are_left_out(here: Path) -> None:
    touch(here, "clips/.cache/a.mp4", "clips/._b.mp4", "clips/b.mp4")

    assert found("clips") == ["clips/b.mp4"]


def test_a_link_back_to_a_folder_above_ends_there(here: Path) -> None:
    touch(here, "clips/in/a.mp4")
    (here / "clips/in/back").symlink_to(here / "clips")

    assert found("clips") == ["clips/in/a.mp4"]


def test_folders_that_link_to_one_another_are_each_entered_once_more(here: Path) -> None:
    names = "abcdefg"
    touch(here, *(f"clips/{name}/clip.mp4" for name in names))
    for name in names:
        for other in names.replace(name, ""):
            (here / f"clips/{name}/{other}").symlink_to(here / "clips" / other)

    paths = found("clips")

    assert {f"clips/{name}/clip.mp4" for name in names} <= set(paths)
    assert len(paths) <= 2 * len(names)  # by itself, and by one link


def test_a_folder_may_be_deeper_than_pythons_stack(here: Path) -> None:
    deep = here / "clips"
    deep.mkdir()
    before = os.open(here, os.O_RDONLY)
    try:
        os.chdir(deep)
        for _ in range(1100):  # no path of so many parts may be named at once
            os.mkdir("d")  # noqa: PTH102
            os.chdir("d")
        Path("clip.mp4").touch()
        os.chdir(before)

        assert [path.count("/d") for path in found("clips")] == [1100]
    finally:
        # Deeper than what would tidy up behind pytest can go.
        os.chdir(deep / Path(*["d"] * 1100))
        Path("clip.mp4").unlink()
        for _ in range(1100):
            os.chdir("..")
            os.rmdir("d")  # noqa: PTH106
        os.chdir(before)
        os.close(before)


def test_a_broken_link_in_a_folder_is_not_dropped(here: Path) -> None:
    touch(here, "clips/a.mp4")
    (here / "clips/b.mp4").symlink_to(here / "gone.mp4")

    assert found("clips") == ["clips/a.mp4", "clips/b.mp4"]


def test_what_is_reached_twice_is_yielded_twice(here: Path) -> None:
    touch(here, "clips/in/a.mp4")

    assert found("clips", "clips/in") == ["clips/in/a.mp4", "clips/in/a.mp4"]


def test_a_folder_of_images_only_is_one_video(here: Path) -> None:
    touch(here, "clips/run/img_00001.jpg", "clips/run/img_00002.jpg", "clips/run/.DS_Store", "clips/walk.mp4")

    assert found("clips", "clips/run") == ["clips/run", "clips/walk.mp4", "clips/run"]


def test_a_glob_is_what_a_shell_makes_of_it(here: Path) -> None:
    touch(here, "b.mp4", "a.mp4", "c.txt", "in/d.mp4")

    assert found("*.mp4", "**/d.*") == ["a.mp4", "b.mp4", "in/d.mp4"]


def test_a_file_with_glob_signs_in_its_name_is_itself(here: Path) -> None:
    touch(here, "a[1].mp4", "a1.mp4")

    assert found("a[1].mp4") == ["a[1].mp4"]


def test_a_glob_without_a_match_is_refused(here: Path) -> None:
    with pytest.raises(UsageError, match=r"^\*\.mp4: matches no file"):
        found("*.mp4")


def test_a_folder_without_videos_says_what_it_holds(here: Path) -> None:
    touch(here, "clips/a.txt", "clips/in/b.txt", "clips/in/c.json")

    with pytest.raises(UsageError, match=r"^clips: contains 3 files, none of them a video"):
        found("clips")


def test_an_empty_folder_says_so(here: Path) -> None:
    (here / "clips").mkdir()

    with pytest.raises(UsageError, match=r"^clips: contains no video \("):
        found("clips")


def test_sources_come_as_soon_as_their_input_does(here: Path) -> None:
    asked = []

    def arriving() -> Iterator[str]:
        for name in ("a.mp4", "b.mp4"):
            asked.append(name)
            yield name

    first = next(find_sources(arriving()))

    assert (first.id, asked) == ("a.mp4", ["a.mp4"])


def test_paths_are_read_one_a_line_with_their_spaces() -> None:
    stream = io.BytesIO(b" a b.mp4\n\nc.mp4\r\nlast.mp4")

    assert list(read_paths(stream, nul=False)) == [" a b.mp4", "c.mp4", "last.mp4"]


def test_paths_ended_by_nul_may_hold_line_ends() -> None:
    stream = io.BytesIO(b"a\nb.mp4\0\0c.mp4\0last.mp4")

    assert list(read_paths(stream, nul=True)) == ["a\nb.mp4", "c.mp4", "last.mp4"]


@pytest.mark.parametrize("nul", [False, True])
def test_bytes_that_are_no_utf8_survive(nul: bool) -> None:
    (name,) = read_paths(io.BytesIO(b"\xff\xfe.mp4"), nul=nul)

    assert os.fsencode(name) == b"\xff\xfe.mp4"


def test_a_list_that_ends_with_nul_and_is_read_by_lines_is_refused() -> None:
    with pytest.raises(UsageError, match=r"NUL bytes.*add -0"):
        list(read_paths(io.BytesIO(b"a.mp4\0b.mp4\0"), nul=False))


def test_a_byte_order_mark_is_not_part_of_the_first_name() -> None:
    assert list(read_paths(io.BytesIO(b"\xef\xbb\xbfa.mp4\n"), nul=False)) == ["a.mp4"]


@pytest.mark.parametrize(("nul", "end"), [(False, b"\n"), (True, b"\0")])
def test_a_path_is_given_on_before_the_next_arrives(nul: bool, end: bytes) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as sender:
        sender.write(b"a.mp4" + end)

        assert next(read_paths(stream, nul=nul)) == "a.mp4"  # hangs where reading waits for more


@pytest.mark.parametrize(
    ("name", "content", "text", "video"),
    [
        ("labels.txt", b"running\njumping\n", True, False),
        ("labels.txt", "\ufeffcourir, été\n".encode(), True, False),
        ("labels.mp4", b"running\n", True, False),
        ("film.txt", MP4, False, True),
        ("film.mkv", b"\x1a\x45\xdf\xa3" + bytes(9), False, True),
        ("film.mpg", bytes(range(255)), False, True),
        ("sound.bin", bytes(range(255)), False, False),
        ("empty.txt", b"", False, False),
    ],
)
def test_the_first_bytes_tell_text_from_video(
    tmp_path: Path, name: str, content: bytes, text: bool, video: bool
) -> None:
    file = tmp_path / name
    file.write_bytes(content)

    assert (looks_like_text(file), looks_like_video(file)) == (text, video)


def test_a_character_cut_by_the_end_of_the_look_is_no_fault(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes(b"a" + "é".encode() * 4000)

    assert looks_like_text(file)


def test_what_is_not_there_is_no_text(tmp_path: Path) -> None:
    assert not looks_like_text(tmp_path / "nowhere.txt")


def test_a_missing_file_with_brackets_in_its_name_stays_a_source(tmp_path: Path) -> None:
    (source,) = find_sources([tmp_path / "clip [1].mp4"])

    assert source.path == tmp_path / "clip [1].mp4"


@pytest.mark.parametrize(
    "name", [b"a b.mp4", "日本.mp4".encode(), b"caf\xe9.mp4", b"new\nline.mp4", b"'\".mp4", b"-x.mp4"]
)
def test_a_folder_gives_any_name_byte_for_byte(here: Path, name: bytes) -> None:
    touch(here, os.path.join("clips", os.fsdecode(name)))  # noqa: PTH118

    assert [os.fsencode(found_) for found_ in found("clips")] == [b"clips/" + name]
