"""Label files in the forms people have them: read as meant, or refused; never a brace, header or id as a label."""

import json
import logging
import warnings
from pathlib import Path

import pytest

from bike_cli.data.labelled.candidates import read_candidates
from bike_cli.data.labelled.train_sets import read_labelled
from bike_cli.data.labels import parse_labels, read_labels
from bike_cli.errors import UsageError

FAULTS = Path(__file__).parents[3] / "shared" / "faults" / "text"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(text: str, name: str = "labels.txt") -> list[str]:
    Path(name).write_text(text, encoding="utf-8")
    return list(read_labels(name))


@pytest.mark.parametrize(
    "text",
    [
        # JSON, Python and YAML
        '["run", "walk"]',
        '[\n  "run",\n  "walk"\n]\n',
        '["run", "walk",]',
        "['run', 'walk']",
        "('run', 'walk')",
        "[run, walk]",
        '{"0": "run", "1": "walk"}',
        "{0: 'run', 1: 'walk'}",
        "{0:'run', 1:'walk'}",
        '{"run": 0, "walk": 1}',
        '{"run": "0", "walk": "1"}',
        '{"a": "run", "b": "walk"}',
        '[{"id": 0, "name": "run"}, {"id": 1, "name": "walk"}]',
        '[{"name": "run"}, {"name": "walk"}]',
        '[{"label": "run", "index": 3}, {"label": "walk", "index": 5}]',
        '{"id": 0, "name": "run"}\n{"id": 1, "name": "walk"}\n',
        '[[0, "run"], [1, "walk"]]',
        '[["run", 0], ["walk", 1]]',
        '{"labels": ["run", "walk"]}',
        '{"classes": {"0": "run", "1": "walk"}, "version": 2}',
        '{"id2label": {"0": "run", "1": "walk"}, "label2id": {"run": 0, "walk": 1}, "hidden_size": 8}',
        '{"info": {}, "categories": [{"id": 1, "name": "run", "supercategory": "x"}, {"id": 2, "name": "walk"}]}',
        '{"0": ["n01440764", "run"], "1": ["n01443537", "walk"]}',
        "names:\n  0: run\n  1: walk\n",
        "names:\n- run\n- walk\n",
        "names: [run, walk]\n",
        "- name: run\n  id: 0\n- name: walk\n  id: 1\n",
        "---\n- run\n- walk\n",
        # tables
        "id,name\n0,run\n1,walk\n",
        "name,id\nrun,0\nwalk,1\n",
        "ID, Name\n0, run\n1, walk\n",
        "id;name\n0;run\n1;walk\n",
        "id\tname\n0\trun\n1\twalk\n",
        "id|name\n0|run\n1|walk\n",
        "| id | name |\n|----|------|\n| 0 | run |\n| 1 | walk |\n",
        "class_id,class_name\n0,run\n1,walk\n",
        "index;label\n0;run\n1;walk\n",
        "label,name\n0,run\n1,walk\n",
        "name,label\nr,run\nw,walk\n",
        '"id","name"\n"0","run"\n"1","walk"\n',
        "id,name,description\n0,run,fast\n1,walk,slow\n",
        "key_id,key\n0,run\n1,walk\n",
        "id name\n0 run\n1 walk\n",
        "0,run\n1,walk\n",
        "1,run\n2,walk\n",
        "3;run\n7;walk\n",
        "0\trun\n1\twalk\n",
        "run\t0\nwalk\t1\n",
        "0|run\n1|walk\n",
        "run,0\nwalk,1\n",
        "run;0\nwalk;1\n",
        "0: run\n1: walk\n",
        "run: 0\nwalk: 1\n",
        "run = 0\nwalk = 1\n",
        "0=run\n1=walk\n",
        '0,"run"\n1,"walk"\n',
        "name\nrun\nwalk\n",
        "labels\nrun\nwalk\n",
        '"class_name"\n"run"\n"walk"\n',
        # lines
        "run\nwalk",
        "run\r\nwalk\r\n",
        "\ufeffrun\r\n\r\nwalk\r\n",
        "# labels\nrun\n\n  walk  \n",
        "1 run\n2 walk\n",
        "0 run\n1 walk\n",
        "001 run\n002 walk\n",
        "1. run\n2. walk\n",
        "1) run\n2) walk\n",
        "(1) run\n(2) walk\n",
        "[0] run\n[1] walk\n",
        "1 - run\n2 - walk\n",
        "run 0\nwalk 1\n",
        "c000 run\nc001 walk\n",
        "A1. run\nA2. walk\n",
        "n01440764 run\nn02119789 walk\n",
        "- run\n- walk\n",
        "* run\n* walk\n",
        "\u2022 run\n\u2022 walk\n",
        '"run"\n"walk"\n',
        "'run'\n'walk'\n",
        "\u201crun\u201d\n\u201cwalk\u201d\n",
        '- "run"\n- "walk"\n',
        "run,\nwalk\n",
        "run,\nwalk,\n",
        '"run",\n"walk",\n',
        "run;\nwalk;\n",
        "run, walk\n",
        'run, "walk"\n',
    ],
)
def test_labels_are_read_as_meant(text: str) -> None:
    assert read(text) == ["run", "walk"]


@pytest.mark.parametrize(
    "labels",
    [
        ["3 point shot", "slam dunk"],
        ["100 m sprint", "400 m hurdles", "4x100 relay"],
        ["100 m sprint", "200 m sprint"],
        ["1 person", "2 people", "3 people"],
        ["1 on 1", "2 on 2", "3 on 3"],
        ["zone 1", "zone 2"],
        ["take 5", "high five"],
        ["football, American", "football, Australian"],
        ["stop, drop", "roll"],
        ["stop; drop", "roll; jump"],
        ["10,000 m race", "5,000 m race"],
        ["9:15 am news", "10:30 pm news"],
        ["1. Bundesliga", "2. Bundesliga"],
        ["action", "comedy", "drama"],
        ["class", "break"],
        ["name calling", "label making"],
        ["title fight", "text message"],
        ["(none of these)", "running"],
        ["[none]", "running"],
        ["running (fast)", "walking (slow)"],
        ["C++ tutorial", "C# tutorial"],
        ["don't move", "move"],
        ['"Gangnam style" dance', "polka"],
        ["rock'n'roll", "'80s dance"],
        ["x = y", "z"],
        ["import goods", "package delivery", "class act"],
        ["A1", "B2"],
        ["F1 race", "MotoGP race"],
        ["-5 degrees", "warm"],
        ["self-defence", "t-shirt folding"],
        ["日本", "été", "👍"],
        ["<unknown>", "running"],
        ["no", "yes", "on", "null"],
        ["1st place", "2nd place"],
        ["no. 1", "no. 2"],
        ["50/50", "24/7"],
        ["run\u00a0fast", "walk"],
    ],
)
def test_honest_labels_stay_whole(labels: list[str]) -> None:
    expected = [" ".join(label.split()) for label in labels]
    if labels[0] == "class":  # alone in the first line, it may be a header
        labels = expected = labels[::-1]

    assert read("\n".join(labels)) == expected
    assert read(json.dumps(labels)) == expected


def test_a_number_or_comma_in_a_label_of_a_table_stays() -> None:
    assert read("0;3 point shot\n1;run\n") == ["3 point shot", "run"]
    assert read('0,"stop, drop"\n1,"go, on"\n') == ["stop, drop", "go, on"]
    assert read("0,stop, drop\n1,run\n") == ["stop, drop", "run"]
    assert read('"run"\n"walk, fast"\n') == ["run", "walk, fast"]
    assert read('run\n"walk, fast"\n') == ["run", "walk, fast"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["run", "walk"', "labels.txt: begins like JSON, but is not valid"),
        ('{\n  "run": 0\n', "labels.txt: begins like JSON, but is not valid"),
        ("['run' 'walk']", "labels.txt: begins like JSON, but is not valid"),
        ("{}", "contains no labels|begins like JSON"),
        ("[]", "contains no labels|begins like JSON"),
        ('{"a": {"x": "y"}}', "a value is not a text"),
        ('{"a": 1.5}', "a value is not a text"),
        ("[true, false]", "entry 1 is not a text"),
        ('["run", ""]', "entry 2 is not a text"),
        ('[{"id": 0}, {"id": 1}]', "has no column of names"),
        ('{"0": "run", "1": "run"}', r"label 'run' repeats 'run' \(.*\)"),
        ("<!DOCTYPE html>\n<html>run</html>", "is HTML or XML, not a list of labels"),
        ("<ul><li>run</li></ul>", "is HTML or XML, not a list of labels"),
        ('<?xml version="1.0"?>\n<a/>', "is HTML or XML, not a list of labels"),
        ("import os\nfrom x import y\nCLASSES = [\n'run',\n]", "is program code, not a list of labels"),
        ("CLASSES = ['run', 'walk']", "is program code, not a list of labels"),
        ("#!/usr/bin/env python\nprint()", "is program code"),
        ("{\\rtf1 run}", "is an RTF document"),
        ('item {\n  id: 1\n  name: "run"\n}\n', r"labels.txt:1: 'item {' is a part of JSON or another format"),
        ("run\n}\n", r"labels.txt:2: '}' is not a label"),
        ("run\n---\nwalk\n", r"labels.txt:2: '---' is not a label"),
        ("0,run\n0,walk\n", "every line has a number, but some are duplicated"),
        ("0,run,sports\n1,walk,sports\n", "has more than two columns and no header"),
        ("run\ta person runs\nwalk\ta person walks\n", "has several columns and no header"),
        ("path,label\na.mp4,run\n", "is a list of videos, not of labels"),
        ("video;class\na.mp4;run\n", "is a list of videos, not of labels"),
        ("label,youtube_id,time_start\nrun,x,0\n", "is a list of videos, not of labels"),
        ("id;name\n0;run;x\n", "labels.txt:2: has 3 cells, not 2"),
        ("id;name\nzero;run\n", "id 'zero' is not a whole number"),
        ("id;name\n0;run\n0;walk\n", "labels.txt:3: id 0 is at labels.txt:2 too"),
        ("id,name\n0,\n", "labels.txt:2: name is empty"),
        ("id;name\n", "contains no labels"),
        ("", "labels.txt: contains no labels"),
        ("run\nRUN\n", r"labels.txt:2: label 'RUN' repeats 'run' \(labels.txt:1\)"),
    ],
)
def test_what_is_not_a_list_of_labels_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(text)


@pytest.mark.parametrize("name", ["a.py", "a.ipynb", "a.yaml", "a.json"])
def test_a_file_of_another_kind_is_refused_by_its_name_and_content(name: str) -> None:
    with pytest.raises(
        UsageError, match=r"^a\.\w+: (is program code|is a notebook|is not valid YAML|begins like JSON)"
    ):
        read("{'run': [walk", name)


def test_a_yaml_file_that_holds_itself_is_refused() -> None:
    with pytest.raises(UsageError, match="is not valid YAML"):
        read("labels: &a\n  labels: *a\n", "a.yaml")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf16_is_named(encoding: str) -> None:
    Path("labels.txt").write_bytes("running\r\nwalking\r\n".encode(encoding))

    with pytest.raises(UsageError, match=r"^labels.txt: is UTF-(16|32); save it as UTF-8"):
        read_labels("labels.txt")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04\x14\0", "a ZIP archive or an Office document"),
        (b"%PDF-1.7\n\0", "a PDF document"),
        (b"\x1f\x8b\x08\0", "a gzip"),
    ],
)
def test_files_that_are_not_text_are_named(content: bytes, what: str) -> None:
    Path("labels.txt").write_bytes(content)

    with pytest.raises(UsageError, match=f"^labels.txt: is {what}.*, not a list of labels"):
        read_labels("labels.txt")


def test_how_a_file_was_read_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bike_cli")

    read("1. run\n2. walk\n")

    assert caplog.messages == ["labels.txt: read as numbered list from 1, 2 labels"]


@pytest.mark.parametrize("text", ["3 run\n7 walk\n", "100 m sprint\n200 m hurdles\n"])
def test_numbers_that_stay_in_labels_are_said(text: str, caplog: pytest.LogCaptureFixture) -> None:
    assert read(text) == text.splitlines()
    assert "every label begins with a number, which stays a part of it" in caplog.text


def test_labels_that_are_all_numbers_are_said(caplog: pytest.LogCaptureFixture) -> None:
    assert read("0\n1\n2\n") == ["0", "1", "2"]
    assert "all labels are numbers" in caplog.text


# -- -l and -L taken for one another --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["running, jumping", "running", "stop, drop.txt"])
def test_labels_after_the_flag_for_files_are_sent_to_the_other(name: str) -> None:
    with pytest.raises(UsageError, match=r": no such file; -l takes a file of labels, -L the labels"):
        read_labels(name)


@pytest.mark.parametrize("text", ["labels.txt", "labels.txt, run", "./labels.txt", "a, b.txt"])
def test_a_file_after_the_flag_for_labels_is_sent_to_the_other(text: str) -> None:
    for name in ("labels.txt", "a, b.txt"):
        Path(name).write_text("run\nwalk\n")

    with pytest.raises(UsageError, match=r"^-L: .* is a file; a file of labels goes after -l: -l "):
        parse_labels(text)


def test_a_label_like_the_name_of_a_missing_file_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^-L: labels.csv looks like a file name, but no such file exists"):
        parse_labels("labels.csv")


def test_labels_like_files_and_folders_that_are_there_are_labels() -> None:
    Path("running").mkdir()
    Path("star").touch()

    assert parse_labels("running, star, v1.5, either/or") == ("running", "star", "v1.5", "either/or")


# -- where else files of labels are read ----------------------------------------------------------------------------

IDS = [
    "id;name\n0;run\n1;walk\n",
    "0,run\n1,walk\n",
    '{"0": "run", "1": "walk"}',
    "0 run\n1 walk\n",
    '{"run": 0, "walk": 1}',
]


@pytest.mark.parametrize("text", IDS)
def test_ids_of_list_files_may_have_names_in_any_form(text: str) -> None:
    Path("labels").write_text(text)
    Path("all.txt").write_text("a.mp4 1\nb.mp4 0\n")

    assert read_candidates(Path("labels"), by_id=True).labels == ("run", "walk")
    assert read_labelled("all.txt", names_file="labels").labels == ("run", "walk")


@pytest.mark.parametrize(
    "text", ["name;label\nr;run\nw;walk\n", '{"r": "run", "w": "walk"}', "label\tname\nrun\tr\nwalk\tw\n"]
)
def test_names_of_classes_may_have_labels_in_any_form(text: str) -> None:
    Path("labels").write_text(text)
    Path("all.csv").write_text("path,label\na.mp4,r\nb.mp4,w\n")

    assert read_labelled("all.csv", names_file="labels").labels == ("run", "walk")
    assert read_candidates(Path("labels"), by_id=False)[:2] == (("r", "w"), ("run", "walk"))


@pytest.mark.skipif(not FAULTS.exists(), reason="needs ../shared/faults")
@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("l.json", ("run", "walk")),
        ("nameid.csv", ("run", "walk")),
        ("semi_id.csv", ("run", "walk")),
        ("ucfc.txt", ("ApplyEyeMakeup", "Archery")),
        ("q.txt", ("run", "walk, fast")),
    ],
)
def test_the_shared_label_files_are_read_as_meant(name: str, labels: tuple[str, ...]) -> None:
    assert read_labels(FAULTS / name) == labels


def test_brackets_without_an_end_are_refused_at_once() -> None:
    with pytest.raises(UsageError, match=r"begins like JSON, but is not valid"):
        read("[" * 100_000)


@pytest.mark.parametrize(
    "text",
    [
        "id,name\n{n},run\n1,walk\n",
        "{n},run\n1,walk\n",
        "{n};run\n1;walk\n",
        "{n}. run\n1. walk\n",
        "{n} run\n1 walk\n",
        "run {n}\nwalk 1\n",
        "a{n} run\na1 walk\n",
        '{{"{n}": "run", "1": "walk"}}',
        '[{{"id": "{n}", "name": "run"}}, {{"id": 1, "name": "walk"}}]',
        '[[{n}, "run"], [1, "walk"]]',
        "[0x{n}, 1]",
        "{n}: run\n1: walk\n",
    ],
)
def test_ids_of_thousands_of_digits_are_no_bug(text: str) -> None:
    for name in ("labels.txt", "labels.csv", "labels.yaml"):
        try:
            labels = read(text.format(n="9" * 5000), name)
        except UsageError:
            continue
        assert labels != ["run", "walk"]


def test_an_id_of_too_many_digits_is_named_in_short() -> None:
    with pytest.raises(UsageError, match=r"^labels.txt:2: id '999.* is not a whole number of at most 18") as caught:
        read(f"id;name\n{'9' * 5000};run\n1;walk\n")

    assert len(str(caught.value)) < 200


def test_escapes_in_lists_of_python_warn_of_nothing() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read(r"['a\d', 'b\w']")

    assert not caught


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("class\nteacher\n", "labels.txt: the first line 'class' is read as a header, not as a label"),
        ("name\nrun\nwalk\n", "labels.txt: the first line 'name' is read as a header, not as a label"),
        ("man, running\n", "labels.txt: one line with commas is read as 2 labels; otherwise write one label per line"),
        ("run\nwalk\n", None),
        ('"man, running"\n', None),
        ("id,name\n0,run\n1,walk\n", None),
    ],
)
def test_what_may_be_read_otherwise_is_said(text: str, warning: str | None, caplog: pytest.LogCaptureFixture) -> None:
    read(text)

    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [message[: len(warning or "")] for message in messages] == ([] if warning is None else [warning])


def test_one_line_that_is_too_long_for_a_cell_is_refused() -> None:
    with pytest.raises(UsageError, match="is not valid CSV"):
        read("a," + "b" * 200_000)
