"""Videos to test on: which side, which candidates, whose class, and what is refused."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from bike_cli.data.tested import NONE, read_tested
from bike_cli.data.tested import Tested as Truth  # pytest takes what is called Test… for tests
from bike_cli.errors import UsageError
from bike_cli.records import Sample, Source


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def write(name: str, *lines: str) -> Path:
    Path(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return Path(name)


def shown(tested: Truth, samples: Iterable[Sample] | None = None) -> list[tuple[str, str | None]]:
    """Return the samples as (id, label): what a user would say of them."""
    taken = tested.samples if samples is None else samples
    return [(s.source.id, None if s.label == NONE else tested.labels[s.label]) for s in taken]


def refused(given: Sequence[str | Path], message: str, **more: object) -> None:
    with pytest.raises(UsageError, match=message):
        read_tested(given, **more)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# -- what is taken --------------------------------------------------------------------------------------------------


def test_class_folders_without_sides_are_taken_whole(caplog: pytest.LogCaptureFixture) -> None:
    touch("data/YoYo/b.mp4", "data/jump/a.mp4")

    tested = read_tested(["data"])

    assert tested == Truth(
        labels=("yo yo", "jump"),
        names=("YoYo", "jump"),
        samples=(Sample(Source.at("data/YoYo/b.mp4"), 0), Sample(Source.at("data/jump/a.mp4"), 1)),
        splits=((0, 1),),
    )
    assert caplog.messages == []


def test_one_class_is_enough() -> None:
    touch("data/run/a.mp4")

    assert shown(read_tested(["data"])) == [("data/run/a.mp4", "run")]


def test_the_test_side_is_taken_aloud(caplog: pytest.LogCaptureFixture) -> None:
    touch("data/train/run/a.mp4", "data/train/jump/b.mp4", "data/test/run/c.mp4", "data/val/run/d.mp4")

    tested = read_tested(["data"])

    assert shown(tested) == [("data/test/run/c.mp4", "run")]
    assert tested.side == "test"
    assert caplog.messages == [
        "data: takes 1 video to test on; leaves out 2 videos to train on and 1 video for validation",
    ]


def test_classes_of_other_sides_are_candidates() -> None:
    touch("data/train/run/a.mp4", "data/train/jump/b.mp4", "data/test/run/c.mp4")

    assert read_tested(["data"]).labels == ("jump", "run")


def test_validation_stands_in_for_no_test(caplog: pytest.LogCaptureFixture) -> None:
    write("all.csv", "path,label,split", "a.mp4,run,train", "b.mp4,jump,val", "c.mp4,run,validation")

    tested = read_tested(["all.csv"])

    assert shown(tested) == [("b.mp4", "jump"), ("c.mp4", "run")]
    assert tested.side == "val"
    assert caplog.messages == ["all.csv: takes 2 videos for validation; leaves out 1 video to train on"]


@pytest.mark.parametrize(("side", "id_"), [("train", "a.mp4"), ("val", "b.mp4"), ("test", "c.mp4")])
def test_a_side_that_is_chosen_is_taken_in_silence(side: str, id_: str, caplog: pytest.LogCaptureFixture) -> None:
    write("all.csv", "path,label,split", "a.mp4,run,train", "b.mp4,run,val", "c.mp4,run,test")

    tested = read_tested(["all.csv"], side=side)  # type: ignore[arg-type]

    assert (tested.side, [s.source.id for s in tested.samples]) == (side, [id_])
    assert caplog.messages == []


@pytest.mark.parametrize("side", ["auto", "train", "val", "test"])
def test_videos_that_nobody_marked_are_of_any_side(side: str) -> None:
    write("all.csv", "path,label", "a.mp4,run")

    tested = read_tested(["all.csv"], side=side)  # type: ignore[arg-type]

    assert tested.side is None
    assert shown(tested) == [("a.mp4", "run")]


def test_several_files_are_one_set_and_keep_apart_as_splits(caplog: pytest.LogCaptureFixture) -> None:
    write("one.csv", "path,label", "c.mp4,run", "a.mp4,jump")
    write("two.csv", "path,label", "b.mp4,run", "c.mp4,run")

    tested = read_tested(["one.csv", "two.csv"])

    assert [s.source.id for s in tested.samples] == ["a.mp4", "b.mp4", "c.mp4"]
    assert tested.splits == ((0, 2), (1, 2))
    assert caplog.messages == ["two.csv:3: 1 video named more than once, used once"]


def test_all_that_is_given_is_of_one_side() -> None:
    touch("data/train/run/a.mp4", "data/test/run/b.mp4")
    write("marked.csv", "path,label,split", "c.mp4,run,val", "d.mp4,run,train")

    refused(
        ["data", "marked.csv"], "^marked.csv: holds no video to test on, but 1 video to train on and 1 video for val"
    )


def test_unmarked_videos_go_with_marked_ones() -> None:
    touch("data/train/run/a.mp4", "data/test/run/b.mp4")
    write("more.csv", "path,label", "c.mp4,run")

    assert [s.source.id for s in read_tested(["data", "more.csv"]).samples] == ["data/test/run/b.mp4", "c.mp4"]


@pytest.mark.parametrize(
    ("side", "message"),
    [
        ("auto", "^all.csv: holds videos to train on only; mark some as test, or choose the side"),
        ("test", "^all.csv: holds no video to test on, but 2 videos to train on; choose another side"),
    ],
)
def test_what_is_all_for_training_is_refused(side: str, message: str) -> None:
    write("all.csv", "path,label,split", "a.mp4,run,train", "b.mp4,jump,train")

    refused(["all.csv"], message, side=side)


def test_nothing_given_is_a_callers_mistake() -> None:
    with pytest.raises(ValueError, match=r"^given is empty; name a folder or a file"):
        read_tested([])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("path,label", "a.mp4,run", "a.mp4,jump"), "^all.csv:3: a.mp4 is of class 'jump', but of 'run' at all.csv:2"),
        (("path,label", "a.mp4,run", "b.mp4,Run"), "classes 'Run' and 'run' have the same label, 'run'"),
        (("path,label",), "^all.csv: holds no video"),
        (("path,labels", "a,run"), "^all.csv:1: column 'labels' is unknown, the nearest is 'label'"),
        (("path,label", "a.mp4"), "^all.csv:2: has 1 cells, not 2"),
    ],
)
def test_a_wrong_csv_file_is_refused_by_line(lines: tuple[str, ...], message: str) -> None:
    refused([write("all.csv", *lines)], message)


def test_a_root_is_for_files() -> None:
    touch("data/run/a.mp4", "videos/b.mp4")
    write("all.csv", "path,label", "b.mp4,run")

    assert [s.source.path for s in read_tested(["all.csv"], root="videos").samples] == [Path("videos/b.mp4")]
    refused(["data"], "^videos: is a root for the paths in a file, but data is a folder", root="videos")


def test_what_is_not_there_is_refused() -> None:
    refused(["nowhere"], "^nowhere: no such file or folder; give a folder of class folders")


def test_ids_and_names_do_not_go_together() -> None:
    touch("data/run/a.mp4")
    write("all.txt", "a 0")

    refused(["data", "all.txt"], "^all.txt: has class ids, but data class names; give all in one form")


# -- ids ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [("a.mp4 2", "b.mp4 0"), ("a.mp4 30 2", "b.mp4 9 0")])
def test_ids_are_places_among_all_names_with_a_video_or_without(lines: tuple[str, ...]) -> None:
    write("names.csv", "id,name", "2,running", "0,jumping", "3,flying", '1,"stop, drop"')

    tested = read_tested([write("all.txt", *lines)], names_file="names.csv")

    assert tested.labels == ("jumping", "stop, drop", "running", "flying")
    assert tested.names == ("0", "1", "2", "3")
    assert tested.samples == (Sample(Source.at("a.mp4"), 2), Sample(Source.at("b.mp4"), 0))


def test_several_ids_of_a_video_are_its_labels() -> None:
    write("names.csv", "id,name", "0,running", "1,jumping", "2,flying")

    tested = read_tested([write("all.txt", "a.mp4 2,0", "b.mp4 1")], names_file="names.csv", multi_label=True)

    assert tested.multi_label
    assert [s.labels for s in tested.samples] == [(0, 2), (1,)]


def test_a_label_that_is_a_number_is_no_id() -> None:
    write("names.csv", "id,name", "0,five", "1,5")

    refused([write("all.txt", "a 5")], "^all.txt:1: id 5 is none of the 2 classes", names_file="names.csv")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("id,name", "0,run", "1,jump"),
            "^all.txt:2: id 3 is none of the 2 classes of names.csv, which end with 1; mend",
        ),
        (("id,name", "0,run", "3,jump"), "^names.csv: has ids up to 3, but none is 1; name every class from 0 on"),
        (("id,name", "1,run", "2,jump", "3,fly"), "^names.csv: has ids up to 3, but none is 0"),
        (("id,name", "0,run", "0,jump"), "^names.csv:3: id '0' is at names.csv:2 too; remove one"),
        (("id,name", "0,run", "1,Run"), "^names.csv:3: classes '0' and '1' have the same label, 'Run'"),
        (("id,name", "zero,run"), "^names.csv:2: id 'zero' is no whole number"),
        (("id,name",), "^names.csv: holds no labels"),
        (("run", "jump"), "^names.csv:1: column 'run' is unknown, .*; begin the file with id,name"),
        (("name,label", "run,jump"), "^names.csv:1: column 'label' is unknown, .*; begin the file with id,name"),
        ((), "^names.csv: column 'id' comes 0 times; begin the file with id,name"),
    ],
)
def test_ids_without_a_name_are_refused(names: tuple[str, ...], message: str) -> None:
    write("all.txt", "a.mp4 0", "b.mp4 3")

    refused(["all.txt"], message, names_file=write("names.csv", *names))


def test_ids_need_a_names_file() -> None:
    refused(
        [write("all.txt", "a 0")], "^all.txt:1: has an id, no name; give --labels a CSV file that begins with id,name"
    )


# -- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (("# ours", "running", "Tai  Chi", "jumping"), ("running", "Tai Chi", "jumping")),
        (("id,name", "2,jumping", "0,running", "1,Tai Chi"), ("running", "Tai Chi", "jumping")),
    ],
)
def test_candidates_are_those_of_the_names_file_in_its_order(lines: tuple[str, ...], names: tuple[str, ...]) -> None:
    touch("data/TaiChi/a.mp4", "data/running/b.mp4")

    tested = read_tested(["data"], names_file=write("names.txt", *lines))

    assert tested.labels == tested.names == names
    assert shown(tested) == [("data/TaiChi/a.mp4", "Tai Chi"), ("data/running/b.mp4", "running")]


def test_a_file_says_what_the_model_reads_for_each_name() -> None:
    write("all.csv", "path,label", "a.mp4,YoYo", "b.mp4,run")
    write("names.csv", "name,label", "run,running fast", "fly,flying", 'YoYo,"yo-yo, up and down"')

    tested = read_tested(["all.csv"], names_file="names.csv")

    assert tested.names == ("run", "fly", "YoYo")
    assert tested.labels == ("running fast", "flying", "yo-yo, up and down")
    assert [s.label for s in tested.samples] == [2, 0]


def test_the_spelling_that_is_most_alike_decides() -> None:
    write("all.csv", "path,label", "a.mp4,Run", "b.mp4,run")
    write("names.csv", "name,label", "run,moving fast", "Run,leading a company")

    assert [s.label for s in read_tested(["all.csv"], names_file="names.csv").samples] == [1, 0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("running", "jumping"), "^all.csv:3: class 'jumpin' is none of the 2 of names.txt; the nearest is 'jumping'"),
        (("running", "jumpin", "Running"), "classes 'running' and 'Running' have the same label, 'Running'"),
        (("# nothing",), "^names.txt: holds no labels"),
        (("name,label", "running,a", "running,b"), "^names.txt:3: name 'running' is at names.txt:2 too"),
        (("name,label", "running,"), "^names.txt:2: label is empty"),
    ],
)
def test_a_class_that_is_no_candidate_is_refused(lines: tuple[str, ...], message: str) -> None:
    write("all.csv", "path,label", "a.mp4,running", "b.mp4,jumpin")

    refused(["all.csv"], message, names_file=write("names.txt", *lines))


def test_two_spellings_of_one_candidate_are_one_class() -> None:
    write("all.csv", "path,label", "a.mp4,TaiChi", "b.mp4,tai chi", "c.mp4,tai_chi; run", "d.mp4,TaiChi;tai_chi")
    write("names.txt", "run", "tai chi")

    tested = read_tested(["all.csv"], names_file="names.txt", multi_label=True)

    assert [s.labels for s in tested.samples] == [(1,), (1,), (0, 1), (1,)]


# -- none of these --------------------------------------------------------------------------------------------------


def test_videos_of_none_of_the_labels_have_none() -> None:
    touch("data/run/a.mp4", "data/Unknown/b.mp4", "data/jump/c.mp4")

    tested = read_tested(["data"], none_of_these="unknown")

    assert tested.labels == ("jump", "run")
    assert shown(tested) == [("data/Unknown/b.mp4", None), ("data/jump/c.mp4", "jump"), ("data/run/a.mp4", "run")]


def test_the_names_file_need_not_name_what_is_none_of_these() -> None:
    write("all.csv", "path,label", "a.mp4,run", "b.mp4,something else")
    write("names.txt", "run", "jump")

    tested = read_tested(["all.csv"], names_file="names.txt", none_of_these="something_else")

    assert tested.labels == ("run", "jump")
    assert [s.label for s in tested.samples] == [0, -1]


def test_an_id_may_be_none_of_these_by_its_name() -> None:
    write("names.csv", "id,name", "0,run", "1,unknown", "2,jump")

    tested = read_tested([write("all.txt", "a 0", "b 1", "c 2")], names_file="names.csv", none_of_these="unknown")

    assert tested.labels == ("run", "jump")
    assert tested.names == ("0", "2")
    assert [s.label for s in tested.samples] == [0, -1, 1]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("a,run", "b,unknwon"), "^no class is named 'unknown', for videos of none .*; the nearest is 'unknwon'"),
        (("a,unknown",), "^all.csv:2: no class is there but 'unknown'; add videos of others"),
        (("a,run;unknown", "b,run"), "^all.csv:2: a is of none of the labels and of others; keep one"),
    ],
)
def test_a_wrong_name_for_none_of_these_is_refused(lines: tuple[str, ...], message: str) -> None:
    refused([write("all.csv", "path,label", *lines)], message, none_of_these="unknown", multi_label=True)
