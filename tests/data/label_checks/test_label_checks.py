"""Checks of labels without a model: each problem is found where it is, and a clean list has none."""

from pathlib import Path

import pytest

from bike_cli.data.label_checks.describing import description_prompt, merge_descriptions
from bike_cli.data.label_checks.findings import CheckedLabels
from bike_cli.data.label_checks.fixing import fix_labels, labels_text
from bike_cli.data.label_checks.reading import parse_to_check, read_to_check
from bike_cli.data.label_checks.spelling import check_spelling, corrected, same_number, same_spelling
from bike_cli.data.labels import LabelSet, read_label_set
from bike_cli.data.lexicons import read_lexicon
from bike_cli.data.lines import Line
from bike_cli.errors import UsageError


def checked(text: str, folder: Path, name: str = "l.txt") -> list[tuple[str, str, str | None]]:
    """Return line, kind and correction of each finding."""
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return [
        (f.where.removeprefix(f"{file}").removeprefix(":"), f.kind, f.corrected)
        for f in check_spelling(read_to_check(file))
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run\nwalk\nplay the guitar\n", []),
        ("run\nRun\nwalk\n", [("2", "duplicate", "")]),
        ("PlayingGuitar\nwalk\n", [("1", "spelling", "playing guitar")]),
        ("run\nplaying_guitar\n", [("2", "spelling", "playing guitar")]),
        ("playing guitar\nPlayingGuitar\n", [("2", "spelling", "playing guitar"), ("2", "duplicate", "")]),
        ("push-ups\npush ups\n", [("2", "duplicate", "")]),
        ("pull up\npull ups\nboss\n", [("2", "plural", None)]),
        ("running.\nwalk!?\n", [("1", "punctuation", "running"), ("2", "punctuation", "walk")]),
        ('"run"\nwalk\n', [("1", "quotes", "run")]),
        ("\u201crun\u201d\nwalk\n", [("1", "quotes", "run")]),
        ("  run\nwalk  fast\nsit\n", [("1", "blanks", "run"), ("2", "blanks", "walk fast")]),
        (
            "run\u200b\nwalk\x07\nsit\u00a0down\n",
            [("1", "invisible", "run"), ("2", "invisible", "walk"), ("3", "invisible", "sit down")],
        ),
        ("0 archery\n1 archery\n5 run\n", [("1", "id", "archery"), ("2", "id", "archery"), ("3", "id", "run")]),
        ("3 point shot\nrun\nwalk\nsit\n", []),
        ("run\nwalk\n3 archery\n", [("3", "id", None)]),  # an id, or a part of the name as in "3 point shot"
        ("run\n12\n", [("2", "number", None)]),
        ("id,name\nrun\nwalk\n", [("1", "header", "")]),
        ("run\nother\nNone of these\n", [("2", "none", None), ("3", "none", None)]),
        ("run\nwalk\nsit\na person who rides a horse through a wood\n", [("4", "mixture", None)]),
        ("run\n", [("", "few", None)]),
        ("C\nC++\nC#\n", []),
        ("a dog\nthe dog's bone\nthe dogs bone\n", [("3", "duplicate", "")]),
    ],
)
def test_each_problem_is_found_in_its_line(
    text: str, expected: list[tuple[str, str, str | None]], tmp_path: Path
) -> None:
    assert checked(text, tmp_path) == expected


def test_a_long_list_is_named(tmp_path: Path) -> None:
    found = checked("".join(f"thing {chr(97 + i % 26)}{chr(97 + i // 26)}x\n" for i in range(26 * 26))[:-1], tmp_path)
    assert found == []
    names = [f"{a}{b}{c}q" for a in "abcdefghijk" for b in "abcdefghij" for c in "abcdefghij"]
    assert [kind for _, kind, _ in checked("\n".join(names), tmp_path)] == ["many"]


@pytest.mark.parametrize("name", ["kinetics400", "imagenet1k", "common", "scenes", "shapes"])
def test_lists_of_well_known_datasets_are_hardly_corrected(name: str) -> None:
    words = read_lexicon(name)
    labels = CheckedLabels(tuple(Line(f"f:{i}", word) for i, word in enumerate(words)), {})

    wrong = [f for f in check_spelling(labels) if f.kind not in ("mixture", "many", "plural")]

    assert len(wrong) <= len(words) / 100, [f.label for f in wrong]


def test_the_fix_of_quotes_has_no_quotes() -> None:
    (finding,) = check_spelling(parse_to_check(["run, 'walk'"]))

    assert (finding.kind, finding.fix) == ("quotes", "write walk without quotes")


def test_labels_of_the_command_line() -> None:
    found = check_spelling(parse_to_check(["run, PlayingGuitar", "Run"]))

    assert [(f.where, f.kind) for f in found] == [("-L, label 2", "spelling"), ("-L, label 3", "duplicate")]


@pytest.mark.parametrize(
    "text",
    ["run", "playing guitar", "YMCA dance", "3 point shot", "TV", "ÉCOLE", "走る", "C++", "push-up", "rock 'n' roll"],
)
def test_good_labels_stay_as_they_are(text: str) -> None:
    assert corrected(text) == text


def test_keys() -> None:
    assert (
        len(
            {
                same_spelling(t)
                for t in ("Playing Guitar", "playing_guitar", "PlayingGuitar", "playing  guitar!", "playing-guitar")
            }
        )
        == 1
    )
    assert same_number("two dogs") == same_number("two dog")
    assert same_number("tennis") != same_number("tenni")
    assert same_number("glass") != same_number("glas")


# -- corrected lists --------------------------------------------------------------------------------------------------


def fixed(text: str, folder: Path, name: str = "l.txt") -> tuple[LabelSet, CheckedLabels, object]:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    labels = read_to_check(file)
    result = fix_labels(labels, check_spelling(labels))
    return result.labels, labels, result


def test_a_corrected_list_keeps_the_order_and_has_no_problem_that_can_be_corrected(tmp_path: Path) -> None:
    text = 'ZumbaClass\n"archery"\nplaying_guitar\nPlayingGuitar\nrun.\npull ups\npull up\nother\n'
    labels, *_ = fixed(text, tmp_path)

    assert labels.labels == ("zumba class", "archery", "playing guitar", "run", "pull ups", "pull up", "other")
    again = tmp_path / "again.txt"
    again.write_text(labels_text(labels, again))
    assert {(f.kind, f.corrected) for f in check_spelling(read_to_check(again))} == {("plural", None), ("none", None)}


def test_descriptions_of_merged_labels_are_joined(tmp_path: Path) -> None:
    labels, *_ = fixed("Play_Guitar: [a, b]\nrun:\nplay guitar: [b, c]\n", tmp_path, "l.yaml")

    assert labels == LabelSet(("play guitar", "run"), {"play guitar": ("a", "b", "c")})


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".yaml"])
@pytest.mark.parametrize("labels", [("run", "walk"), ("no", "3", "a: b", "x, y"), ("走る", "sit")])
def test_written_lists_are_read_back_the_same(suffix: str, labels: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / f"l{suffix}"
    file.write_text(labels_text(LabelSet(labels), file), encoding="utf-8")
    assert read_label_set(file) == LabelSet(labels)
    if suffix == ".txt":
        with pytest.raises(UsageError, match=r"no room for descriptions; end the name in .yaml or .csv"):
            labels_text(LabelSet(labels, {labels[0]: ("a",)}), file)
        return
    described = LabelSet(labels, {labels[0]: ("a, b", 'say "c": d'), labels[1]: ("no",)})
    file.write_text(labels_text(described, file), encoding="utf-8")
    assert read_label_set(file) == described


def test_ids_and_second_names_are_written_as_csv(tmp_path: Path) -> None:
    file = tmp_path / "l.csv"
    assert labels_text(LabelSet(("run", "walk")), file, ids=(4, 7)) == "id,name\n4,run\n7,walk\n"
    assert labels_text(LabelSet(("run", "walk")), file, names=("r", "w")) == "name,label\nr,run\nw,walk\n"


def test_a_list_that_would_be_read_in_another_way_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="would be read in another way"):
        labels_text(LabelSet(("1. run", "2. walk")), tmp_path / "l.txt")


# -- descriptions -----------------------------------------------------------------------------------------------------


def test_descriptions_are_merged_by_spelling_in_the_order_of_the_labels() -> None:
    labels = LabelSet(("run", "playing guitar", "sit"), {"run": ("own",)})
    others = [
        LabelSet(("PlayingGuitar", "swim"), {"PlayingGuitar": ("a",), "swim": ("w",)}),
        LabelSet(("Run",), {"Run": ("b", "own")}),
    ]

    merged = merge_descriptions(labels, others)

    assert merged.labels == LabelSet(labels.labels, {"run": ("own", "b"), "playing guitar": ("a",)})
    assert (merged.undescribed, merged.strange) == (("sit",), ("swim",))


def test_the_prompt_has_every_label_once_and_an_example_that_bike_reads(tmp_path: Path) -> None:
    labels = ("run", "no", "a: b")
    prompt = description_prompt(labels)
    before, listed = prompt.split("The labels:\n\n")
    (tmp_path / "labels.yaml").write_text(listed)
    (tmp_path / "example.yaml").write_text(before[before.index("archery:") :])

    assert read_label_set(tmp_path / "labels.yaml").labels == labels
    assert [len(texts) for texts in read_label_set(tmp_path / "example.yaml").descriptions.values()] == [3]
    assert "visible" in prompt
