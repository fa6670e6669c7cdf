"""Label files with descriptions: their forms, their order, and what is wrong with others, by line."""

import json
from pathlib import Path

import pytest

from bike_cli.data.labelled.candidates import read_candidates
from bike_cli.data.labelled.eval_sets import read_eval_set
from bike_cli.data.labelled.train_sets import read_labelled
from bike_cli.data.labels import LabelSet, read_label_set, read_labels
from bike_cli.errors import UsageError

BOW, ARROW, RUN = "a person draws a bow", "an arrow, in a target", "someone runs"
EXPECTED = LabelSet(("archery", "trail running", "standing"), {"archery": (BOW, ARROW), "trail running": (RUN,)})

FORMS = {
    "lists.yaml": f"# mine\narchery:\n  - {BOW}\n  - '{ARROW}'\ntrail running: [{RUN}]\nstanding:\n",
    "one_text.yaml": f"archery: [{BOW}, '{ARROW}']\ntrail running: {RUN}\nstanding: []\n",
    "objects.yaml": f"- label: archery\n  descriptions:\n  - {BOW}\n  - '{ARROW}'\n- name: trail running\n"
    f"  description: {RUN}\n- label: standing\n",
    "contained.yml": f"labels:\n  archery: [{BOW}, '{ARROW}']\n  trail running: [{RUN}]\n  standing: null\n",
    "map.json": json.dumps({"archery": [BOW, ARROW], "trail running": [RUN], "standing": []}, indent="\t"),
    "objects.json": json.dumps(
        [
            {"label": "archery", "descriptions": [BOW, ARROW]},
            {"label": "trail running", "description": RUN},
            {"label": "standing"},
        ]
    ),
    "lines.jsonl": json.dumps({"label": "archery", "descriptions": [BOW, ARROW]})
    + "\n"
    + json.dumps({"label": "trail running", "descriptions": [RUN]})
    + "\n"
    + json.dumps({"label": "standing", "descriptions": []}),
    "rows.csv": f'label,description\narchery,{BOW}\ntrail running,{RUN}\nArchery,"{ARROW}"\nstanding,\n',
    "ids.csv": f'id,name,description\n4,archery,{BOW}\n,archery,"{ARROW}"\n7,trail running,{RUN}\n9,standing,\n',
    "other_order.tsv": f"description\tlabel\n{BOW}\tarchery\n{ARROW}\tarchery\n{RUN}\ttrail running\n\tstanding\n",
}


def write(name: str, text: str, folder: Path) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("name", FORMS)
def test_every_form_has_the_same_labels_and_descriptions_in_order(name: str, tmp_path: Path) -> None:
    file = write(name, FORMS[name], tmp_path)

    assert read_label_set(file) == EXPECTED
    assert read_labels(file) == EXPECTED.labels


@pytest.mark.parametrize("name", [name for name in FORMS if not name.endswith((".csv", ".tsv"))])
def test_the_form_does_not_depend_on_the_name_which_a_pipe_does_not_have(name: str, tmp_path: Path) -> None:
    assert read_label_set(write("11", FORMS[name], tmp_path)) == EXPECTED


@pytest.mark.parametrize(
    ("name", "text", "labels"),
    [
        ("a.yaml", "a: run\nb: walk\n", ("run", "walk")),  # names and labels, as before
        ("a.yaml", "labels: [run, walk]\n", ("run", "walk")),
        ("a.json", '{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}', ("tench", "goldfish")),
        ("a.csv", "id,name\n0,run\n1,walk\n", ("run", "walk")),
        ("a.csv", "name,label\nr,run\nw,walk\n", ("run", "walk")),
    ],
)
def test_files_without_descriptions_keep_their_meaning(
    name: str, text: str, labels: tuple[str, ...], tmp_path: Path
) -> None:
    assert read_label_set(write(name, text, tmp_path)) == LabelSet(labels)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.yaml",
            "run: [a, b]\nwalk:\n- c\n- d: e\n",
            r":4: a description of 'walk' is a map, not a text; put quotes",
        ),
        ("a.yaml", "run: [a]\nwalk: ['']\n", r":2: a description of 'walk' is empty; fill it in, or remove it"),
        ("a.yaml", "run: [a]\n\nwalk: [b]\nRUN: [c]\n", r":4: label 'RUN' repeats 'run' \(.*:1\); remove one"),
        ("a.yaml", "run: [a]\nwalk: [b\n", r":3: is not valid YAML \(.*\); correct it, or write"),
        ("a.yaml", "- label: run\n  descriptions: [a]\n- descriptions: [b]\n", ":3: has descriptions, but no label"),
        ("a.yaml", "run: [a]\n'': [b]\n", ":2: the label is empty; write each label as"),
        ("a.json", '{"run": ["a"],\n "walk": [["b"]]}', ":2: a description of 'walk' is a list, not a text"),
        ("a.csv", "label,description\nrun,a\nrun,b,c\n", ":3: has 3 cells, not 2; put quotes around"),
        ("a.csv", "label,description\nrun,a\n,b\n", ":3: label is empty; fill it in, or remove the row"),
        ("a.csv", "id,label,description\n0,run,a\n1,run,b\n", ":2: label 'run' has two ids, 0 and 1; keep one"),
        ("a.csv", 'label,description\nrun,"a\x07b"\n', r":2: contains the control character '\\x07'; remove it"),
    ],
)
def test_a_wrong_file_is_one_error_with_its_line(name: str, text: str, message: str, tmp_path: Path) -> None:
    file = write(name, text, tmp_path)

    with pytest.raises(UsageError, match=message) as caught:
        read_label_set(file)

    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_a_description_counts_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write("a.yaml", "run: [a person runs, A person  runs, fast]\nwalk:\n", tmp_path)

    assert read_label_set(file).descriptions == {"run": ("a person runs", "fast")}
    assert "describes 'run' twice" in caplog.text


def test_json_escapes_are_read(tmp_path: Path) -> None:
    text = json.dumps({"bow \U0001f3f9": ['a \U0001f3f9 / \t "arrow" é']})
    assert "\\ud83c" in text

    assert read_label_set(write("a.json", text, tmp_path)).descriptions == {
        "bow \U0001f3f9": ('a \U0001f3f9 / "arrow" é',)
    }


def test_labelled_sets_have_the_descriptions_of_their_names_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("all.csv").write_text("path,label\na.mp4,TrailRunning\nb.mp4,archery\n")
    file = write("described.yaml", FORMS["lists.yaml"], tmp_path)

    with_all = read_eval_set(["all.csv"], names_file=file)
    without_one = read_eval_set(["all.csv"], names_file=file, none_of_these="archery")

    assert (with_all.labels, with_all.descriptions) == (EXPECTED.labels, EXPECTED.descriptions)
    assert without_one.descriptions == {"trail running": (RUN,)}
    assert read_candidates(file, by_id=False).descriptions == EXPECTED.descriptions
    file.write_text(FORMS["lists.yaml"].replace("standing:\n", ""))
    trained = read_labelled("all.csv", names_file=file)
    assert dict(zip(trained.names, trained.labels, strict=True)) == {
        "TrailRunning": "trail running",
        "archery": "archery",
    }
    assert trained.descriptions == EXPECTED.descriptions
    with pytest.raises(UsageError, match="there is no class 'standing'"):
        read_labelled("all.csv", names_file=write("more.yaml", FORMS["lists.yaml"], tmp_path))
