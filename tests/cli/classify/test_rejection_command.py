"""`bike classify --reject` and `--none`: records, tables, and runs that are resumed."""

import csv
import json
from pathlib import Path

import pytest
from invoke import Ran, bike, bike_on_terminal

from bike_cli.errors import ExitCode

LABELS = "red square,blue circle"
FLAGS = ("-m", "tiny", "-L", LABELS, "--attributes", "off", "--frames", "4")

pytestmark = pytest.mark.usefixtures("one_store_for_all")


def classify(clips: Path, *flags: object) -> Ran:
    """Return the run on clips of a red square, a blue circle and a green cross, which is no label."""
    return bike("classify", clips, *FLAGS, *flags)


def labels(ran: Ran) -> dict[str, object]:
    return {Path(str(record["path"])).stem: record["label"] for record in ran.records}


EXPECTED = {"blue_circle": "blue circle", "green_cross": None, "red_square": "red square"}


def test_a_rejected_video_has_no_label_and_the_run_succeeds(clips: Path) -> None:
    by_cosine, by_phrase = classify(clips, "--reject", "0.15"), classify(clips, "--none", "green cross")

    assert (by_cosine.exit_code, by_phrase.exit_code) == (ExitCode.DONE, ExitCode.DONE)
    assert labels(by_cosine) == labels(by_phrase) == EXPECTED
    plain = classify(clips).records
    for before, after in zip(plain, by_cosine.records, strict=True):
        rejected = {"rejected": after["label"] is None, "fit": None, "right": None, "none": None}
        kept = {name: value for name, value in after.items() if name not in rejected}
        assert {name: after[name] for name in rejected} == rejected
        assert {**before, "label": kept["label"], "settings": kept["settings"]} == kept
    assert [record["none"] for record in by_phrase.records] == [None, "green cross", None]


def test_phrases_come_from_a_file_too(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "phrases.txt").write_text("# rivals\ngreen cross\n")

    ran = classify(clips, "--none-from", tmp_path / "phrases.txt", "--none", "pink heart, white ring")

    assert labels(ran) == EXPECTED


def test_records_say_nothing_of_rejection_unless_it_is_asked_for(clips: Path) -> None:
    plain, off = classify(clips), classify(clips, "--reject", "off")

    assert plain.stdout == off.stdout
    assert not {"rejected", "fit", "right", "none"} & plain.records[0].keys()


def test_cells_have_columns_for_it(clips: Path) -> None:
    rows = list(csv.DictReader(classify(clips, "--none", "green cross", "-f", "csv").stdout.splitlines()))

    names = ("label", "rejected", "best", "fit", "right", "none")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("blue circle", "false", "blue circle", "", "", ""),
        ("", "true", rows[1]["best"], "", "", "green cross"),
        ("red square", "false", "red square", "", "", ""),
    ]
    assert rows[1]["best"] in LABELS.split(",")
    assert float(rows[1]["cosine"]) < 0.15


def test_the_table_says_none_of_these(clips: Path) -> None:
    wide = classify(clips, "--reject", "0.15", "-f", "table").stdout.splitlines()
    one = bike("classify", clips / "green_cross.mp4", *FLAGS, "--none", "green cross", "-f", "table").stdout

    (row,) = [line for line in wide if "green_cross" in line]
    assert "none of these" in row
    assert sum("none of these" in line for line in wide) == 1
    assert "green_cross.mp4: none of these" in one
    assert "green cross fits better than all labels" in one


def test_the_end_of_a_run_counts_them(clips: Path, tmp_path: Path) -> None:
    ran = classify(clips, "--reject", "0.15", "-o", tmp_path / "answers.jsonl")

    assert "3 videos: 3 ok (1 rejected)" in ran.stderr


@pytest.mark.parametrize("first", [(), ("--reject", "0.15"), ("--none", "green cross")])
@pytest.mark.parametrize("then", [(), ("--reject", "0.2"), ("--none", "white ring")])
def test_a_run_is_not_resumed_with_another_rule(
    first: tuple[str, ...], then: tuple[str, ...], clips: Path, tmp_path: Path
) -> None:
    answers = tmp_path / "answers.jsonl"
    started = bike("classify", clips / "red_square.mp4", *FLAGS, *first, "-o", answers)
    assert started.exit_code == ExitCode.DONE
    before = answers.read_bytes()

    ran = classify(clips, *then, "-o", answers, "--resume")

    assert ran.exit_code == (ExitCode.DONE if first == then else ExitCode.USAGE)
    assert first == then or answers.read_bytes() == before


def test_a_run_is_not_resumed_with_other_descriptions_of_phrases(clips: Path, tmp_path: Path) -> None:
    answers, phrases = tmp_path / "answers.jsonl", tmp_path / "phrases.yaml"
    phrases.write_text("white ring: [a ring that is white]\n")
    rule = ("--none-from", phrases)
    assert bike("classify", clips / "red_square.mp4", *FLAGS, *rule, "-o", answers).exit_code == ExitCode.DONE
    phrases.write_text("white ring: [a green cross]\n")

    ran = classify(clips, *rule, "-o", answers, "--resume")

    assert ran.exit_code == ExitCode.USAGE
    assert "was made with other labels or settings" in ran.stderr


def test_a_run_is_resumed_with_the_same_rule(clips: Path, tmp_path: Path) -> None:
    answers, rule = tmp_path / "answers.jsonl", ("--reject", "0.15", "--none", "pink heart, white ring")
    bike("classify", clips / "green_cross.mp4", *FLAGS, *rule, "-o", answers)

    ran = classify(clips, *rule, "-o", answers, "--resume")

    assert ran.exit_code == ExitCode.DONE
    found = [json.loads(line) for line in answers.read_text().splitlines()]
    assert {Path(record["path"]).stem: record["label"] for record in found} == EXPECTED


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--reject", "auto"), "--reject auto: has nothing to go by"),
        (("--reject", "2"), "give off, auto, or a cosine"),
        (("--promise", "0.05"), "--promise 0.05: only counts with --reject auto"),
        (("--none", "red square"), "--none red square: is a label, too"),
        (("--none", ""), "--none: contains no label"),
        (("--none-from", "missing.txt"), "missing.txt: no such file"),
        (("--calibration", "missing.json"), "missing.json"),
        (("--reject", "0.2", "--attributes", "auto", "--attribute-weight", "0.3"), "--reject: does not count"),
    ],
)
def test_what_cannot_work_is_refused_with_exit_code_2(flags: tuple[str, ...], message: str, clips: Path) -> None:
    ran = classify(clips, *flags)

    assert ran.exit_code == ExitCode.USAGE
    assert message in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert ran.stdout == ""


def test_a_narrow_terminal_names_the_label_that_fits_best(clips: Path) -> None:
    shown = bike_on_terminal("classify", clips, *FLAGS, "--reject", "0.15", columns=60)

    assert "none of these" in shown.stdout
