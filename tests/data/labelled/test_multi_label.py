"""Videos of several classes: what a cell or a line with more than one says, and what it may not say."""

import unicodedata
from collections.abc import Iterable
from pathlib import Path

import pytest

from bike_cli.data.labelled.train_sets import TrainSet, read_labelled
from bike_cli.errors import UsageError
from bike_cli.records import Sample, Source


def write(name: str, *lines: str) -> Path:
    Path(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return Path(name)


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def shown(labelled: TrainSet, samples: Iterable[Sample] | None) -> list[tuple[str, list[str]]]:
    """Return the samples as (id, labels): what a user would say of them."""
    return [(s.source.id, [labelled.labels[i] for i in s.labels]) for s in samples or ()]


def refused(given: str | Path, message: str, **more: Path | str) -> None:
    with pytest.raises(UsageError, match=message):
        read_labelled(given, multi_label=True, **more)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def names() -> Path:
    return write("names.csv", "id,name", "3,running", "9,jumping", "17,falling")


# -- samples --------------------------------------------------------------------------------------------------------


def test_a_sample_of_one_class_has_one_label() -> None:
    sample = Sample(Source.at("a.mp4"), 4)

    assert sample.labels == (4,)


def test_a_sample_of_several_classes_has_their_labels_in_order() -> None:
    sample = Sample(Source.at("a.mp4"), 1, (4, 6))

    assert sample.labels == (1, 4, 6)


@pytest.mark.parametrize("others", [(1,), (0,), (6, 4), (4, 4)])
def test_labels_of_a_sample_ascend(others: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^Sample.labels are \(1, .*\); expected ascending indices without repeats$"):
        Sample(Source.at("a.mp4"), 1, others)


# -- CSV files ------------------------------------------------------------------------------------------------------


def test_a_cell_holds_several_classes() -> None:
    write("all.csv", "path,label", "a.mp4,running; jumping", "b.mp4,TaiChi", 'c.mp4,"stop, drop;TaiChi;jumping"')

    labelled = read_labelled("all.csv", multi_label=True)

    assert labelled.multi_label
    assert labelled.names == ("TaiChi", "jumping", "running", "stop, drop")
    assert labelled.train == (
        Sample(Source.at("a.mp4"), 1, (2,)),
        Sample(Source.at("b.mp4"), 0),
        Sample(Source.at("c.mp4"), 0, (1, 3)),
    )


def test_blanks_around_and_within_classes_are_tidied() -> None:
    write("all.csv", "path,label", "a.mp4,  long   jump ;run", "b.mp4,run;\tlong jump")

    labelled = read_labelled("all.csv", multi_label=True)

    assert labelled.names == ("long jump", "run")
    assert [s.labels for s in labelled.train] == [(0, 1), (0, 1)]


def test_the_order_of_classes_and_rows_does_not_matter() -> None:
    write("one.csv", "path,label", "a.mp4,run;jump;fly", "b.mp4,jump;swim")
    write("two.csv", "path,label", "b.mp4,swim;jump", "a.mp4,fly;jump;run")

    assert read_labelled("one.csv", multi_label=True) == read_labelled("two.csv", multi_label=True)


def test_a_semicolon_belongs_to_the_name_of_a_class_where_videos_have_one() -> None:
    write("all.csv", "path,label", "a.mp4,run; jump", "b.mp4,run")

    labelled = read_labelled("all.csv")

    assert not labelled.multi_label
    assert labelled.names == ("run", "run; jump")
    assert shown(labelled, labelled.train) == [("a.mp4", ["run; jump"]), ("b.mp4", ["run"])]


def test_one_video_can_bring_all_classes() -> None:
    write("all.csv", "path,label", "a.mp4,run;jump")

    assert read_labelled("all.csv", multi_label=True).names == ("jump", "run")


def test_every_side_may_have_several_classes() -> None:
    write("all.csv", "path,label,split", "a,run;jump,train", "b,fly,train", "c,fly;run,test", "d,jump;fly,val")

    labelled = read_labelled("all.csv", multi_label=True, keep_val=True)

    assert shown(labelled, labelled.train) == [("a", ["jump", "run"]), ("b", ["fly"])]
    assert shown(labelled, labelled.test) == [("c", ["fly", "run"])]
    assert shown(labelled, labelled.val) == [("d", ["fly", "jump"])]


@pytest.mark.parametrize("side", ["test", "val"])
def test_a_side_given_apart_may_have_several_classes(side: str) -> None:
    write("all.csv", "path,label", "a,run;jump", "b,fly")
    write("held.csv", "path,label", "c,fly;run")

    labelled = read_labelled("all.csv", multi_label=True, **{side: "held.csv"})

    assert shown(labelled, getattr(labelled, side)) == [("c", ["fly", "run"])]


def test_labels_are_said_otherwise_by_class() -> None:
    write("all.csv", "path,label", "a.mp4,YoYo;run", "b.mp4,run")
    write("names.csv", "name,label", 'YoYo,"YoYo; up and down"')

    labelled = read_labelled("all.csv", multi_label=True, names_file="names.csv")

    assert labelled.labels == ("YoYo; up and down", "run")


def test_a_path_twice_with_the_same_classes_is_used_once_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    write("all.csv", "path,label", "a.mp4,run;jump", "a.mp4,jump; run")

    labelled = read_labelled("all.csv", multi_label=True)

    assert shown(labelled, labelled.train) == [("a.mp4", ["jump", "run"])]
    assert caplog.messages == ["all.csv:3: 1 video named more than once, used once"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ("a,run;;jump",),
            "^all.csv:2: label 'run;;jump' has an empty part; write one ';' between two classes, and none at an end",
        ),
        (("a,jump", "b,run;"), "^all.csv:3: label 'run;' has an empty part"),
        (("a,; run",), "^all.csv:2: label '; run' has an empty part"),
        (("a,run; ;jump",), "^all.csv:2: label 'run; ;jump' has an empty part"),
        (("a,;",), "^all.csv:2: label ';' has an empty part"),
        (("a, ",), "^all.csv:2: label is empty; fill it in, or remove the row"),
        (("a,run;jump; run ",), "^all.csv:2: class 'run' is named twice; remove one"),
        (("a,long jump;long  jump",), "^all.csv:2: class 'long jump' is named twice; remove one"),
        (("a,run;Run",), "^all.csv:2: classes 'Run' and 'run' have the same label, 'run'; rename one, or give them"),
        (("a,run;ju\x1bmp",), r"^all.csv:2: contains the control character '\\x1b'"),
        (("a,run", "b,run"), "^all.csv: contains one class, 'run'; give two or more"),
        (("a,run;jump", "b,stop, drop"), "^all.csv:3: has 3 cells, not 2; put quotes"),
    ],
)
def test_a_wrong_cell_is_refused_by_line(lines: tuple[str, ...], message: str) -> None:
    refused(write("all.csv", "path,label", *lines), message)


def test_a_class_named_twice_in_two_unicode_forms_is_refused() -> None:
    write("all.csv", "path,label", f"a,café;{unicodedata.normalize('NFD', 'café')}")

    refused("all.csv", "^all.csv:2: class 'café' is named twice; remove one")


def test_classes_of_one_path_stand_on_one_line() -> None:
    write("all.csv", "path,label", "a.mp4,run", "b.mp4,fly", "a.mp4,jump;run")

    message = "^all.csv:4: a.mp4 has classes 'jump', 'run', but 'run' at all.csv:2; keep one, or put all classes on"
    refused("all.csv", message)


@pytest.mark.parametrize(
    ("side", "purpose"),
    [("test", "to test on"), ("val", "for validation")],
)
def test_each_class_of_a_side_is_one_to_train_on(side: str, purpose: str) -> None:
    write("all.csv", "path,label", "a,run;jump", "b,fly")
    write("held.csv", "path,label", "c,run", "d,jump;swim;glide")

    message = f"^held.csv:3: classes 'glide', 'swim' {purpose}, but not in all.csv to train on; add or remove videos"
    refused("all.csv", message, **{side: "held.csv"})


def test_labels_for_several_classes_at_once_are_refused() -> None:
    write("all.csv", "path,label", "a,run;jump", "b,fly")
    write("names.csv", "name,label", "run;jump,both")

    refused(
        "all.csv",
        "^names.csv:2: there is no class 'run;jump'; the nearest is '(run|jump)'",
        names_file="names.csv",
    )


# -- BIKE's list files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        ("in/a b.mp4 3,17", "c.mp4 9"),
        ("in/a b.mp4 17,3", "c.mp4 09"),
        ("in/a b.mp4 250 3,17", "c.mp4 30 9"),
        ("in/a b.mp4 3, 17", "c.mp4 9"),
        ("in/a b.mp4\t250  17 ,  3 ", "", "c.mp4 30 9"),
    ],
)
def test_a_line_ends_in_several_ids(lines: tuple[str, ...], names: Path) -> None:
    labelled = read_labelled(write("all.txt", *lines), names_file=names, multi_label=True)

    assert labelled.multi_label
    assert labelled.names == ("3", "9", "17")
    assert shown(labelled, labelled.train) == [("c.mp4", ["jumping"]), ("in/a b.mp4", ["running", "falling"])]


def test_the_smallest_id_is_the_label_by_value(names: Path) -> None:
    write("all.txt", "a 17,9,3", "b 9")

    labelled = read_labelled("all.txt", names_file=names, multi_label=True)

    assert [(s.label, s.others) for s in labelled.train] == [(0, (1, 2)), (1, ())]


@pytest.mark.parametrize(
    ("there", "ids"),
    [((), ["clip", "clop"]), (("clip 8",), ["clip 8", "clop 4"]), (("clip",), ["clip", "clop"])],
)
def test_a_file_that_exists_says_whether_a_number_before_ids_is_a_frame_count(
    there: tuple[str, ...], ids: list[str], names: Path
) -> None:
    touch(*there)
    write("all.txt", "clip 8 3,17", "clop 4 9")

    labelled = read_labelled("all.txt", names_file=names, multi_label=True)

    assert [s.source.id for s in labelled.train] == ids


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("a 3", "b 9,"), "^all.txt:2: 'b 9,' has an empty id; write one comma between two ids, and none at the end"),
        (("a 3,,9",), "^all.txt:1: 'a 3,,9' has an empty id"),
        (("a 3, ,9",), "^all.txt:1: 'a 3, ,9' has an empty id"),
        (
            ("a 3", "b ,9"),
            "^all.txt:2: 'b ,9' does not end in a class id; write path and ids, whole numbers from 0 with a",
        ),
        (("a 3", "b 9;17"), "^all.txt:2: 'b 9;17' does not end in a class id"),
        (("a 3", "b 9,one"), "^all.txt:2: 'b 9,one' does not end in a class id"),
        (("a 3", "b 9,-1"), "^all.txt:2: 'b 9,-1' does not end in a class id"),
        (("a 3", "b 9," + "9" * 5000), "^all.txt:2: 'b 9,9999.* does not end in a class id"),
        (("a 3", "b"), "^all.txt:2: 'b' does not end in a class id"),
        (("a 3,9,03",), "^all.txt:1: class '3' is named twice; remove one"),
        (("a 3,5", "b 9"), "^all.txt:1: id 5 has no name in names.csv; add it there"),
        (("a 3", "b 3"), "^all.txt: contains one class, '3'; give two or more"),
        (("a 3,9", "b 9", "a 3"), "^all.txt:3: a has class '3', but '3', '9' at all.txt:1; keep one, or put all"),
    ],
)
def test_a_wrong_line_is_refused(lines: tuple[str, ...], message: str, names: Path) -> None:
    refused(write("all.txt", *lines), message, names_file=names)


def test_several_ids_are_refused_where_videos_have_one_class(names: Path) -> None:
    write("all.txt", "a 3", "b 9,17")

    with pytest.raises(
        UsageError, match=r"^all.txt:2: 'b 9,17' does not end in a class id; write path and id, a whole number"
    ):
        read_labelled("all.txt", names_file=names)


def test_a_long_line_of_blanks_and_commas_is_refused_at_once(names: Path) -> None:
    write("all.txt", "a 3", "b 9" + " , " * 2000 + "x")

    refused("all.txt", "^all.txt:2: .* does not end in a class id", names_file=names)


# -- class folders --------------------------------------------------------------------------------------------------


def test_a_video_in_a_class_folder_has_one_class() -> None:
    touch("data/run; jump/a.mp4", "data/run/b.mp4")

    labelled = read_labelled("data", multi_label=True)

    assert labelled.multi_label
    assert shown(labelled, labelled.train) == [("data/run/b.mp4", ["run"]), ("data/run; jump/a.mp4", ["run; jump"])]


def test_class_folders_to_train_on_go_with_a_file_of_several_classes_to_test_on() -> None:
    touch("data/run/a.mp4", "data/jump/b.mp4")
    write("held.csv", "path,label", "c.mp4,run;jump")

    labelled = read_labelled("data", test="held.csv", multi_label=True)

    assert shown(labelled, labelled.test) == [("c.mp4", ["jump", "run"])]
