from pathlib import Path

import pytest

from bike_cli.config import PROMPT
from bike_cli.data.labels import TEMPLATES, fill, parse_labels, read_label_set, read_labels, read_templates
from bike_cli.errors import UsageError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "labels.txt"


def test_labels_are_read_one_a_line_in_order(file: Path) -> None:
    file.write_text("# sports\nrunning\n\n  high   jump \n  # more\nfootball, American\n")

    assert read_labels(file) == ("running", "high jump", "football, American")


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfone\r\ntwo\r\n", b"one\rtwo", b"one\ntwo"])
def test_every_kind_of_line_end_and_a_byte_order_mark_are_read(file: Path, content: bytes) -> None:
    file.write_bytes(content)

    assert read_labels(file) == ("one", "two")


def test_bikes_own_label_files_are_read(file: Path) -> None:
    file.write_text('id,name\n1,running\n0,"stop, drop"\n\n')

    assert read_labels(file) == ("running", "stop, drop")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "labels.txt: contains no labels"),
        ("# only\n\n", "labels.txt: contains no labels"),
        ("id,name\n", "labels.txt: contains no labels"),
        ("Run\njump\nrun \n", r"labels.txt:3: label 'run' repeats 'Run' \(.*labels.txt:1\)"),
        ("caf\u00e9\ncafe\u0301\n", "labels.txt:2: label .* repeats"),
        ("one\ntwo\x1b[31m\n", "labels.txt:2: contains the control character"),
        ("one\nt\0wo\n", "labels.txt:2: contains the control character"),
        ("id,name\n0,run\n0,jump\n", "labels.txt:3: id 0 is at .*labels.txt:2 too"),
        ("id,name\nzero,run\n", "labels.txt:2: id 'zero' is not a whole number"),
        ("id,name\n0,stop, drop\n", "labels.txt:2: has 3 cells"),
        ("id,name\n0,run\n1,Run\n", r"labels.txt:3: label 'Run' repeats 'run' \(.*labels.txt:2\)"),
        ('id,name\n0,"run\n', "labels.txt:2: is not valid CSV"),
    ],
)
def test_a_wrong_label_file_is_refused_by_line(file: Path, content: str, message: str) -> None:
    file.write_text(content, encoding="utf-8")

    with pytest.raises(UsageError, match=message):
        read_labels(file)


def test_bytes_that_are_no_utf8_are_named_by_line(file: Path) -> None:
    file.write_bytes(b"one\ntwo\ncaf\xe9\n")

    with pytest.raises(UsageError, match=r"labels.txt:3: byte 0xe9 is not UTF-8"):
        read_labels(file)


def test_a_video_in_place_of_labels_is_recognised(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"\x00\x00\x00\x20ftypisom" + bytes(100))

    with pytest.raises(UsageError, match=r"film.mp4: is a video, not a list of labels; did you swap"):
        read_labels(film)


def test_a_missing_label_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere.txt: no such file"):
        read_labels(tmp_path / "nowhere.txt")


def test_labels_in_an_object_store_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^s3://films/l\.txt: labels are not read from object stores; copy the file"):
        read_label_set(Path("s3://films/l.txt"))


def test_a_folder_in_place_of_labels_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is a folder, not a list of labels"):
        read_labels(tmp_path)


def test_labels_on_the_command_line_are_split_at_commas() -> None:
    assert parse_labels('running,  "stop, drop", high   jump ,') == ("running", "stop, drop", "high jump")


def test_labels_of_several_flags_are_joined() -> None:
    assert parse_labels(["running, jumping", '"stop, drop"']) == ("running", "jumping", "stop, drop")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" , ", "^-L: contains no label"),
        ("run, jump, RUN", r"^-L, label 3: label 'RUN' repeats 'run' \(-L, label 1\)"),
        ('run, "jump', "^-L:1: is not valid CSV"),
        ('"run" fast, jump', "^-L:1: is not valid CSV"),
        (("run, jump", "Run"), r"^-L, label 3: label 'Run' repeats 'run' \(-L, label 1\)"),
        (("run", " "), "^-L: contains no label"),
        ("run, ion.mp4", "^-L: ion.mp4 is the name of a video, not a label; name videos without a flag$"),
        ("ion.mp4", r"^-L: ion.mp4 is the name of a video, not a label; .* a video named -Lion.mp4 is written \./-L"),
        ("run, \x07", "^-L, label 2: contains the control character"),
    ],
)
def test_wrong_labels_on_the_command_line_are_refused(text: str | tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_labels(text)


def test_the_named_templates_are_those_of_bike_clip_and_actionclip() -> None:
    assert read_templates("bike") == (PROMPT,)
    assert read_templates("class") == ("{}",)
    assert len(set(read_templates("action"))) == 28
    assert {"a photo of {}.", "a demonstration of a person practicing {}."} < set(TEMPLATES["action"])
    assert len(set(read_templates("actionclip"))) == 16
    assert {"{}", "{}, an action", "Can you recognize the action of {}?"} < set(TEMPLATES["actionclip"])


def test_templates_are_read_from_a_file(file: Path) -> None:
    file.write_text("# two\na clip of {}\n{} in the snow\n")

    assert read_templates(file) == ("a clip of {}", "{} in the snow")


def test_a_template_can_be_given_itself() -> None:
    assert read_templates("a clip of {}") == ("a clip of {}",)


@pytest.mark.parametrize("line", ["a clip", "{} and {}", "a {label}"])
def test_a_template_in_a_file_needs_one_place_for_the_label(file: Path, line: str) -> None:
    file.write_text(f"a clip of {{}}\n{line}\n")

    with pytest.raises(UsageError, match=r"labels.txt:2: has \d places for the label"):
        read_templates(file)


def test_an_unknown_template_name_meets_the_nearest_one() -> None:
    with pytest.raises(UsageError, match=r"^actoin: no such set of templates; the nearest is 'action'"):
        read_templates("actoin")


def test_a_filled_template_knows_where_the_label_is() -> None:
    prompt = fill("a {nice} clip of {}.", "high jump")

    assert prompt.text == "a {nice} clip of high jump."
    assert prompt.text[prompt.start : prompt.stop] == "high jump"


def test_a_label_may_hold_braces() -> None:
    assert fill("a clip of {}", "{} and {x}").text == "a clip of {} and {x}"
