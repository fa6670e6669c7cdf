"""Videos to test on: which side, which candidates, whose class, and what is refused."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from bike_cli.data.labelled.eval_sets import NONE, read_eval_set
from bike_cli.data.labelled.eval_sets import EvalSet as Truth
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
        read_eval_set(given, **more)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# -- what is taken --------------------------------------------------------------------------------------------------


def test_class_folders_without_sides_are_taken_whole(caplog: pytest.LogCaptureFixture) -> None:
    touch("data/YoYo/b.mp4", "data/jump/a.mp4")

    tested = read_eval_set(["data"])

    assert tested == Truth(
        labels=("yo yo", "jump"),
        names=("YoYo", "jump"),
        samples=(Sample(Source.at("data/YoYo/b.mp4"), 0), Sample(Source.at("data/jump/a.mp4"), 1)),
        splits=((0, 1),),
    )
    assert caplog.messages == []


def test_one_class_is_enough() -> None:
    touch("data/run/a.mp4")

    assert shown(read_eval_set(["data"])) == [("data/run/a.mp4", "run")]


def test_the_test_side_is_taken_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    touch("data/train/run/a.mp4", "data/train/jump/b.mp4", "data/test/run/c.mp4", "data/val/run/d.mp4")

    tested = read_eval_set(["data"])

    assert shown(tested) == [("data/test/run/c.mp4", "run")]
    assert tested.side == "test"
    assert caplog.messages == [
        "data: uses its 1 test video, and leaves out 2 training videos and 1 validation video",
    ]


def test_classes_of_other_sides_are_candidates() -> None:
    touch("data/train/run/a.mp4", "data/train/jump/b.mp4", "data/test/run/c.mp4")

    assert read_eval_set(["data"]).labels == ("jump", "run")


def test_validation_stands_in_for_no_test(caplog: pytest.LogCaptureFixture) -> None:
    write("all.csv", "path,label,split", "a.mp4,run,train", "b.mp4,jump,val", "c.mp4,run,validation")

    tested = read_eval_set(["all.csv"])

    assert shown(tested) == [("b.mp4", "jump"), ("c.mp4", "run")]
    assert tested.side == "val"
    assert caplog.messages == ["all.csv: uses its 2 validation videos, and leaves out 1 training video"]


@pytest.mark.parametrize(("side", "id_"), [("train", "a.mp4"), ("val", "b.mp4"), ("test", "c.mp4")])
def test_a_side_that_is_chosen_is_taken_in_silence(side: str, id_: str, caplog: pytest.LogCaptureFixture) -> None:
    write("all.csv", "path,label,split", "a.mp4,run,train", "b.mp4,run,val", "c.mp4,run,test")

    tested = read_eval_set(["all.csv"], side=side)  # type: ignore[arg-type]

    assert (tested.side, [s.source.id for s in tested.samples]) == (side, [id_])
    assert caplog.messages == []


@pytest.mark.parametrize("side", ["auto", "train", "val", "test"])
def test_videos_that_nobody_marked_are_of_any_side(side: str) -> None:
    write("all.csv", "path,label", "a.mp4,run")

    tested = read_eval_set(["all.csv"], side=side)  # type: ignore[arg-type]

    assert tested.side is None
    assert shown(tested) == [("a.mp4", "run")]


def test_several_files_are_one_set_and_keep_apart_as_splits(caplog: pytest.LogCaptureFixture) -> None:
    write("one.csv", "path,label", "c.mp4,run", "a.mp4,jump")
    write("two.csv", "path,label", "b.mp4,run", "c.mp4,run")

    tested = read_eval_set(["one.csv", "two.csv"])

    assert [s.source.id for s in tested.samples] == ["a.mp4", "b.mp4", "c.mp4"]
    assert tested.splits == ((0, 2), (1, 2))
    assert caplog.messages == ["two.csv:3: 1 video named more than once, used once"]


def test_all_that_is_given_is_of_one_side() -> None:
    touch("data/train/run/a.mp4", "data/test/run/b.mp4")
    write("marked.csv", "path,label,split", "c.mp4,run,val", "d.mp4,run,train")

    refused(
        ["data", "marked.csv"],
        "^marked.csv: contains no test video, but 1 training video and 1 validation video; choose",
    )


def test_unmarked_videos_go_with_marked_ones() -> None:
    touch("data/train/run/a.mp4", "data/test/run/b.mp4")
    write("more.csv", "path,label", "c.mp4,run")

    assert [s.source.id for s in read_eval_set(["data", "more.csv"]).samples] == ["data/test/run/b.mp4", "c.mp4"]


@pytest.mark.parametrize(
    ("side", "message"),
    [
        ("auto", "^all.csv: contains only videos to train on; mark some as test, or choose the side"),
        ("test", "^all.csv: contains no test video, but 2 training videos; choose another side"),
    ],
)
def test_what_is_all_for_training_is_refused(side: str, message: str) -> None:
    write("all.csv", "path,label,split", "a.mp4,run,train", "b.mp4,jump,train")

    refused(["all.csv"], message, side=side)


def test_nothing_given_is_a_callers_mistake() -> None:
    with pytest.raises(ValueError, match=r"^given is empty; name a folder or a file"):
        read_eval_set([])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("path,label", "a.mp4,run", "a.mp4,jump"), "^all.csv:3: a.mp4 has class 'jump', but 'run' at all.csv:2"),
        (("path,label", "a.mp4,run", "b.mp4,Run"), "classes 'Run' and 'run' have the same label, 'run'"),
        (("path,label",), "^all.csv: contains no video"),
        (("path,labels", "a,run"), "^all.csv:1: column 'labels' is unknown, the nearest is 'label'"),
        (("path,label", "a.mp4"), "^all.csv:2: has 1 cell, not 2"),
    ],
)
def test_a_wrong_csv_file_is_refused_by_line(lines: tuple[str, ...], message: str) -> None:
    refused([write("all.csv", *lines)], message)


def test_a_root_is_for_files() -> None:
    touch("data/run/a.mp4", "videos/b.mp4")
    write("all.csv", "path,label", "b.mp4,run")

    assert [s.source.path for s in read_eval_set(["all.csv"], root="videos").samples] == [Path("videos/b.mp4")]
    refused(["data"], "^videos: is a root for the paths in a file, but data is a folder", root="videos")


def test_what_is_not_there_is_refused() -> None:
    refused(["nowhere"], "^nowhere: no such file or folder; give a folder of class folders")


def test_ids_and_names_do_not_go_together() -> None:
    touch("data/run/a.mp4")
    write("all.txt", "a 0")

    refused(["data", "all.txt"], "^all.txt: has class ids, but data has class names; use the same in all")


# -- ids ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [("a.mp4 2", "b.mp4 0"), ("a.mp4 30 2", "b.mp4 9 0")])
def test_ids_are_places_among_all_names_with_a_video_or_without(lines: tuple[str, ...]) -> None:
    write("names.csv", "id,name", "2,running", "0,jumping", "3,flying", '1,"stop, drop"')

    tested = read_eval_set([write("all.txt", *lines)], names_file="names.csv")

    assert tested.labels == ("jumping", "stop, drop", "running", "flying")
    assert tested.names == ("0", "1", "2", "3")
    assert tested.samples == (Sample(Source.at("a.mp4"), 2), Sample(Source.at("b.mp4"), 0))


def test_several_ids_of_a_video_are_its_labels() -> None:
    write("names.csv", "id,name", "0,running", "1,jumping", "2,flying")

    tested = read_eval_set([write("all.txt", "a.mp4 2,0", "b.mp4 1")], names_file="names.csv", multi_label=True)

    assert tested.multi_label
    assert [s.labels for s in tested.samples] == [(0, 2), (1,)]


def test_a_label_that_is_a_number_is_no_id() -> None:
    write("names.csv", "id,name", "0,five", "1,5")

    refused([write("all.txt", "a 5")], "^all.txt:1: id 5 is not in names.csv", names_file="names.csv")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("id,name", "0,run", "1,jump"),
            "^all.txt:2: id 3 is not in names.csv, where the last of 2 classes is 1; fix",
        ),
        (("id,name", "0,run", "3,jump"), "^names.csv: has ids up to 3, but not 1; name every class from 0"),
        (("id,name", "1,run", "2,jump", "3,fly"), "^names.csv: has ids up to 3, but not 0"),
        (("id,name", "0,run", "0,jump"), "^names.csv:3: id '0' is at names.csv:2 too; remove one"),
        (("id,name", "0,run", "1,Run"), "^names.csv:3: classes '0' and '1' have the same label, 'Run'"),
        (("id,name", "zero,run"), "^names.csv:2: id 'zero' is not a whole number"),
        (("id,name",), "^names.csv: contains no labels"),
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
        [write("all.txt", "a 0")],
        "^all.txt:1: has an id but no name; give --labels a CSV file that begins with id,name",
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

    tested = read_eval_set(["data"], names_file=write("names.txt", *lines))

    assert tested.labels == tested.names == names
    assert shown(tested) == [("data/TaiChi/a.mp4", "Tai Chi"), ("data/running/b.mp4", "running")]


def test_a_file_says_what_the_model_reads_for_each_name() -> None:
    write("all.csv", "path,label", "a.mp4,YoYo", "b.mp4,run")
    write("names.csv", "name,label", "run,running fast", "fly,flying", 'YoYo,"yo-yo, up and down"')

    tested = read_eval_set(["all.csv"], names_file="names.csv")

    assert tested.names == ("run", "fly", "YoYo")
    assert tested.labels == ("running fast", "flying", "yo-yo, up and down")
    assert [s.label for s in tested.samples] == [2, 0]


def test_the_spelling_that_is_most_alike_decides() -> None:
    write("all.csv", "path,label", "a.mp4,Run", "b.mp4,run")
    write("names.csv", "name,label", "run,moving fast", "Run,leading a company")

    assert [s.label for s in read_eval_set(["all.csv"], names_file="names.csv").samples] == [1, 0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ("running", "jumping"),
            "^all.csv:3: class 'jumpin' is not among the 2 in names.txt; the nearest is",
        ),
        (("running", "jumpin", "Running"), "classes 'running' and 'Running' have the same label, 'Running'"),
        (("# nothing",), "^names.txt: contains no labels"),
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

    tested = read_eval_set(["all.csv"], names_file="names.txt", multi_label=True)

    assert [s.labels for s in tested.samples] == [(1,), (1,), (0, 1), (1,)]


# -- none of these --------------------------------------------------------------------------------------------------


def test_videos_of_none_of_the_labels_have_none() -> None:
    touch("data/run/a.mp4", "data/Unknown/b.mp4", "data/jump/c.mp4")

    tested = read_eval_set(["data"], none_of_these="unknown")

    assert tested.labels == ("jump", "run")
    assert shown(tested) == [("data/Unknown/b.mp4", None), ("data/jump/c.mp4", "jump"), ("data/run/a.mp4", "run")]


def test_the_names_file_need_not_name_what_is_none_of_these() -> None:
    write("all.csv", "path,label", "a.mp4,run", "b.mp4,something else")
    write("names.txt", "run", "jump")

    tested = read_eval_set(["all.csv"], names_file="names.txt", none_of_these="something_else")

    assert tested.labels == ("run", "jump")
    assert [s.label for s in tested.samples] == [0, -1]


def test_an_id_may_be_none_of_these_by_its_name() -> None:
    write("names.csv", "id,name", "0,run", "1,unknown", "2,jump")

    tested = read_eval_set([write("all.txt", "a 0", "b 1", "c 2")], names_file="names.csv", none_of_these="unknown")

    assert tested.labels == ("run", "jump")
    assert tested.names == ("0", "2")
    assert [s.label for s in tested.samples] == [0, -1, 1]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("a,run", "b,unknwon"), "^there is no class 'unknown', for videos without any .*; the nearest is 'unknwon'"),
        (("a,unknown",), "^all.csv:2: 'unknown' is the only class; add videos of others"),
        (("a,run;unknown", "b,run"), "^all.csv:2: a has none of the labels and also has others; keep one"),
    ],
)
def test_a_wrong_name_for_none_of_these_is_refused(lines: tuple[str, ...], message: str) -> None:
    refused([write("all.csv", "path,label", *lines)], message, none_of_these="unknown", multi_label=True)


# -- one file, many spellings ---------------------------------------------------------------------------------------


@pytest.fixture
def spellings() -> dict[str, str]:
    """Ways to write `videos/a.mp4`."""
    touch("videos/a.mp4", "other/b.mp4")
    Path("link.mp4").symlink_to("videos/a.mp4")
    Path("linked").symlink_to("videos")
    return {
        "dots": "videos/../other/../videos/a.mp4",
        "dot": "./videos/a.mp4",
        "whole": str(Path("videos/a.mp4").absolute()),
        "link": "link.mp4",
        "linked folder": "linked/a.mp4",
    }


@pytest.mark.parametrize("way", ["dots", "dot", "whole", "link", "linked folder"])
def test_one_file_of_two_classes_is_refused_however_it_is_spelled(way: str, spellings: dict[str, str]) -> None:
    write("all.csv", "path,label", "videos/a.mp4,run", f"{spellings[way]},jump")

    refused(["all.csv"], r"^all.csv:\d: .* has class '\w+', but '\w+' at all.csv:\d; keep one")


@pytest.mark.parametrize("way", ["dots", "dot", "whole", "link", "linked folder"])
def test_one_file_counts_once_however_it_is_spelled(way: str, spellings: dict[str, str]) -> None:
    one = write("one.csv", "path,label", "videos/a.mp4,run", "other/b.mp4,jump")
    two = write("two.csv", "path,label", f"{spellings[way]},run")

    tested = read_eval_set([one, two])

    assert len(tested.samples) == 2
    assert [[Path(tested.samples[i].source.path).resolve().name for i in split] for split in tested.splits] in (
        [["a.mp4", "b.mp4"], ["a.mp4"]],
        [["b.mp4", "a.mp4"], ["a.mp4"]],
    )


def test_links_to_different_files_are_different_videos() -> None:
    touch("data/run/a.mp4", "data/jump/a.mp4")
    for name in ("run", "jump"):
        Path(f"{name}.mp4").symlink_to(f"data/{name}/a.mp4")
    write("all.csv", "path,label", "run.mp4,run", "jump.mp4,jump")

    assert shown(read_eval_set(["all.csv"])) == [("jump.mp4", "jump"), ("run.mp4", "run")]


def test_files_that_are_not_there_and_links_to_nowhere_are_samples() -> None:
    Path("nowhere.mp4").symlink_to("gone.mp4")
    Path("round.mp4").symlink_to("round.mp4")
    write("all.csv", "path,label", "nowhere.mp4,run", "round.mp4,jump", "no/such.mp4,run")

    assert len(read_eval_set(["all.csv"]).samples) == 3


# -- a names file for each list -------------------------------------------------------------------------------------


@pytest.fixture
def lists() -> tuple[list[Path], list[Path]]:
    """Three lists as BIKE's of Kinetics-600: an id is a place in the list's own names file."""
    write("s1.txt", "run.mp4 0", "fly.mp4 1", "swim.mp4 2")
    write("s2.txt", "hop.mp4 0", "run.mp4 2")
    write("s3.txt", "more/swim.mp4 0", "more/fly.mp4 1")
    write("n1.csv", "id,name", "0,running", "1,flying", "2,swimming")
    write("n2.csv", "id,name", "0,hopping", "1,sleeping", "2,Running")
    write("n3.csv", "id,name", "1,  flying ", "0,swimming")
    return [Path(f"s{i}.txt") for i in (1, 2, 3)], [Path(f"n{i}.csv") for i in (1, 2, 3)]


def test_ids_are_places_in_the_names_file_of_their_list(lists: tuple[list[Path], list[Path]]) -> None:
    given, names = lists

    tested = read_eval_set(given, names_file=names)

    assert tested.labels == tested.names == ("running", "flying", "swimming", "hopping", "sleeping")
    assert shown(tested) == [
        ("fly.mp4", "flying"),
        ("hop.mp4", "hopping"),
        ("more/fly.mp4", "flying"),
        ("more/swim.mp4", "swimming"),
        ("run.mp4", "running"),
        ("swim.mp4", "swimming"),
    ]
    assert tested.splits == ((0, 4, 5), (1, 4), (2, 3))
    assert [[tested.labels[i] for i in tested.classes_of(split)] for split in range(3)] == [
        ["running", "flying", "swimming"],
        ["running", "hopping", "sleeping"],
        ["flying", "swimming"],
    ]


def test_one_names_file_for_all_lists_leaves_a_split_the_classes_that_it_has(
    lists: tuple[list[Path], list[Path]],
) -> None:
    (one, _, three), names = lists

    tested = read_eval_set([one, three], names_file=names[:1])

    assert tested.names == ("0", "1", "2")
    assert tested.candidates == ()
    assert [tested.classes_of(split) for split in range(2)] == [(0, 1, 2), (0, 1)]


def test_one_video_of_two_classes_by_two_names_files_is_refused(lists: tuple[list[Path], list[Path]]) -> None:
    given, names = lists
    write("s2.txt", "run.mp4 0")  # there 0 is hopping

    refused(given, "^s2.txt:1: run.mp4 has class 'hopping', but 'running' at s1.txt:1; keep one", names_file=names)


@pytest.mark.parametrize("count", [2, 4])
def test_names_files_are_one_or_as_many_as_lists(count: int, lists: tuple[list[Path], list[Path]]) -> None:
    given, names = lists

    refused(
        given,
        f"^--labels: there are {count} files for 3 lists; give one for all, or one",
        names_file=(names * 2)[:count],
    )
    refused(
        given[:1], "^--labels: there are 2 files for 1 list; give one for all, or one for each", names_file=names[:2]
    )


def test_an_id_that_its_own_names_file_lacks_is_refused(lists: tuple[list[Path], list[Path]]) -> None:
    given, names = lists
    write("s3.txt", "more/swim.mp4 0", "more/fly.mp4 2")

    refused(given, "^s3.txt:2: id 2 is not in n3.csv, where the last of 2 classes is 1; fix the id", names_file=names)


def test_class_names_are_looked_up_in_their_own_names_file() -> None:
    one = write("one.csv", "path,label", "a.mp4,TaiChi", "b.mp4,run")
    two = write("two.csv", "path,label", "c.mp4,run", "d.mp4,tai_chi")
    names = [write("n1.csv", "name,label", "TaiChi,tai chi", "run,running"), write("n2.txt", "Tai Chi", "run")]

    tested = read_eval_set([one, two], names_file=names)

    assert tested.labels == ("tai chi", "running", "run")
    assert shown(tested) == [("a.mp4", "tai chi"), ("b.mp4", "running"), ("c.mp4", "run"), ("d.mp4", "tai chi")]
    assert tested.candidates == ((0, 1), (0, 2))


def test_several_labels_of_a_video_have_their_own_names_file_each() -> None:
    given = [write("one.txt", "a.mp4 0,1"), write("two.txt", "b.mp4 1,0", "a.mp4 0,2")]
    names = [write("n1.csv", "id,name", "0,run", "1,jump"), write("n2.csv", "id,name", "0,jump", "1,fly", "2,run")]

    tested = read_eval_set(given, names_file=names, multi_label=True)

    assert tested.labels == ("run", "jump", "fly")
    assert [s.labels for s in tested.samples] == [(0, 1), (1, 2)]


def test_what_is_none_of_these_is_no_candidate_of_any_list(lists: tuple[list[Path], list[Path]]) -> None:
    given, names = lists

    tested = read_eval_set(given, names_file=names, none_of_these="running")

    assert tested.labels == ("flying", "swimming", "hopping", "sleeping")
    assert dict(shown(tested))["run.mp4"] is None
    assert tested.candidates == ((0, 1), (2, 3), (0, 1))
