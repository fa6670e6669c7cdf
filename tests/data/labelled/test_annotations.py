"""Charades and ActivityNet as they are distributed."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from bike_cli.data.labelled.eval_sets import read_eval_set
from bike_cli.data.labelled.train_sets import read_labelled
from bike_cli.errors import UsageError
from bike_cli.records import Failure, Sample, Source

HEADER = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length"


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def write(name: str, *lines: str) -> Path:
    Path(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return Path(name)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# -- Charades -------------------------------------------------------------------------------------------------------


@pytest.fixture
def classes() -> Path:
    names = ("Holding some clothes", "Putting clothes somewhere", "Closing a door", "Opening a door, wide")
    return write("Charades_v1_classes.txt", *(f"c{i:03d} {name}" for i, name in enumerate(names)))


def charades(id_: str, actions: str, *, script: str = '"Someone, somewhere, said ""hello""."') -> str:
    return f"{id_},HR43,Kitchen,6,7,Yes,{script},box;dog,A person.;Again.,{actions},24.83"


def test_actions_of_charades_are_labels_each_once(classes: Path) -> None:
    touch("videos/46GP8.mp4", "videos/N11GT.mkv")
    rows = (charades("N11GT", "c003 8.60 14.20;c001 0.00 11.70;c003 15.00 16"), charades("46GP8", "c002 11.90 21.20"))
    write("Charades_v1_test.csv", HEADER, *rows)

    tested = read_eval_set(["Charades_v1_test.csv"], root="videos", names_file=classes)

    assert tested.multi_label
    assert tested.labels == (
        "Holding some clothes",
        "Putting clothes somewhere",
        "Closing a door",
        "Opening a door, wide",
    )
    assert tested.names == ("0", "1", "2", "3")
    assert tested.samples == (
        Sample(Source.at("videos/46GP8.mp4"), 2),
        Sample(Source.at("videos/N11GT.mkv"), 1, (3,)),
    )


def test_a_video_without_actions_is_of_none_of_the_labels(classes: Path) -> None:
    write("test.csv", HEADER, charades("AAAAA", ""), charades("BBBBB", "c000 0.00 1.00"))

    assert [s.label for s in read_eval_set(["test.csv"], names_file=classes).samples] == [-1, 0]


def test_names_of_charades_may_be_those_of_ids(classes: Path) -> None:
    write("test.csv", HEADER, charades("AAAAA", "c001 0.00 1.00"))

    tested = read_eval_set(["test.csv"], names_file=write("names.csv", "id,name", "1,two", "0,one"))

    assert [tested.labels[s.label] for s in tested.samples] == ["two"]


def test_codes_of_charades_are_left_out_of_labels_for_other_files(classes: Path) -> None:
    write("all.csv", "path,label", "a.mp4,Closing a door")

    tested = read_eval_set(["all.csv"], names_file=classes)

    assert tested.labels[2] == tested.names[2] == "Closing a door"
    assert [s.label for s in tested.samples] == [2]


def test_a_video_that_is_missing_is_a_sample(classes: Path) -> None:
    write("test.csv", HEADER, charades("AAAAA", "c001 0.00 1.00"))

    assert [s.source for s in read_eval_set(["test.csv"], names_file=classes).samples] == [Source.at("AAAAA.mp4")]


def test_the_video_is_the_first_of_the_usual_kinds(classes: Path) -> None:
    touch("A.avi", "A.webm", "A.MP4", "A.txt", "B.mov", "B.avi", "C/1.jpg", "D.txt", "D.mp4.part")
    write("test.csv", HEADER, *(charades(id_, "c001 0.00 1.00") for id_ in "ABCD"))

    tested = read_eval_set(["test.csv"], names_file=classes)

    assert [s.source.id for s in tested.samples] == ["A.MP4", "B.avi", "C", "D.mp4"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            (charades("A", "c004 0.00 1.00"),),
            "^test.csv:2: id 4 is not in Charades_v1_classes.txt, where the last",
        ),
        (
            (charades("A", "c01 0.00 1.00"),),
            "^test.csv:2: action 'c01 0.00 1.00' is not a class with two times; write it as",
        ),
        ((charades("A", "c001 0.00"),), "^test.csv:2: action 'c001 0.00' is not a class"),
        ((charades("A", "c001 0.00 1.00;"),), "^test.csv:2: action '' is not a class"),
        ((charades("A", ""), charades("", "c001 0.00 1.00")), "^test.csv:3: id is empty"),
        ((charades("A", "", script="one, two"),), "^test.csv:2: has 12 cells, not 11; put quotes"),
        ((charades("A", "", script='"open'),), "^test.csv:2: is not valid CSV"),
        ((), "^test.csv: contains no video"),
        (
            (charades("A", "c001 0.00 1.00"), charades("A", "")),
            "^test.csv:3: A.mp4 has no class, but '1' at test.csv:2; keep one",
        ),
        (
            (charades("A", ""), charades("A", "c001 0.00 1.00")),
            "^test.csv:3: A.mp4 has class '1', but none at test.csv:2; keep one",
        ),
    ],
)
def test_wrong_rows_are_refused_by_line(rows: tuple[str, ...], message: str, classes: Path) -> None:
    write("test.csv", HEADER, *rows)

    with pytest.raises(UsageError, match=message):
        read_eval_set(["test.csv"], names_file=classes)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("c000 Holding", "c000 Closing"), "^names.txt:2: code 'c000' is at names.txt:1 too; remove one"),
        (("c000 Holding", "c002 Closing"), "^names.txt: has ids up to 2, but not 1"),
    ],
)
def test_wrong_classes_of_charades_are_refused(lines: tuple[str, ...], message: str) -> None:
    write("test.csv", HEADER, charades("A", "c000 0.00 1.00"))

    with pytest.raises(UsageError, match=message):
        read_eval_set(["test.csv"], names_file=write("names.txt", *lines))


def test_classes_of_charades_need_names() -> None:
    write("test.csv", HEADER, charades("A", ""), charades("B", "c000 0.00 1.00"))

    with pytest.raises(UsageError, match=r"^test.csv:3: has an id but no name; give --labels a CSV file"):
        read_eval_set(["test.csv"])


# -- ActivityNet ----------------------------------------------------------------------------------------------------


def activitynet(videos: Mapping[str, tuple[str, tuple[str, ...]]], name: str = "anet.json") -> Path:
    """Write a file of videos, of which the subset and the label of each annotation are known."""
    database = {
        id_: {
            "duration": 82.75,
            "subset": subset,
            "resolution": "320x240",
            "url": f"https://www.youtube.com/watch?v={id_}",
            "annotations": [{"segment": [i, i + 1.5], "label": label} for i, label in enumerate(labels)],
        }
        for id_, (subset, labels) in videos.items()
    }
    Path(name).write_text(json.dumps({"database": database, "taxonomy": [], "version": "VERSION 1.3"}))
    return Path(name)


SOME = {
    "-abc_d": ("validation", ("Tai chi", "Tai chi", "Tai chi")),
    "xyz": ("validation", ("Drinking coffee",)),
    "train1": ("training", ("Archery",)),
    "test1": ("testing", ()),
}


def test_videos_for_validation_are_taken_and_labels_of_all_are_candidates() -> None:
    touch("videos/v_xyz.webm")

    tested = read_eval_set([activitynet(SOME)], root="videos")

    assert tested.labels == ("archery", "Drinking coffee", "Tai chi")
    assert not tested.multi_label
    assert tested.samples == (
        Sample(Source.at("videos/v_-abc_d.mp4"), 2),
        Sample(Source.at("videos/v_xyz.webm"), 1),
    )


def test_another_subset_can_be_taken() -> None:
    tested = read_eval_set([activitynet(SOME)], subset="training")

    assert tested.samples == (Sample(Source.at("v_train1.mp4"), 0),)


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (("v_xyz.mp4", "v_xyz.mkv", "xyz.mp4"), "v_xyz.mp4"),
        (("v_xyz.mkv", "v_xyz.avi"), "v_xyz.mkv"),
        (("xyz.avi", "xyz.webm", "vxyz.mp4"), "xyz.webm"),
        (("v_xyz/000001.jpg", "xyz.mp4"), "v_xyz"),
        (("xyz.txt", "v_xyz.json"), "v_xyz.mp4"),
    ],
)
def test_a_video_is_found_by_its_id(there: tuple[str, ...], found: str) -> None:
    touch(*there)

    tested = read_eval_set([activitynet({"xyz": ("validation", ("run",))})])

    assert [s.source.id for s in tested.samples] == [found]


def test_of_several_labels_that_of_the_first_annotation_counts(caplog: pytest.LogCaptureFixture) -> None:
    path = activitynet(
        {
            "a": ("validation", ("run", "jump", "jump")),
            "b": ("validation", ("jump", "run")),
            "c": ("validation", ("run", "run")),
            "d": ("training", ("fly", "run")),
        }
    )

    tested = read_eval_set([path])

    assert not tested.multi_label
    assert tested.labels == ("fly", "jump", "run")
    assert [(s.source.id, s.label, s.others) for s in tested.samples] == [
        ("v_a.mp4", 2, ()),
        ("v_b.mp4", 1, ()),
        ("v_c.mp4", 2, ()),
    ]
    assert caplog.messages == ["anet.json: 2 videos with several labels, first v_a.mp4; only the first label counts"]


def test_a_video_without_a_label_keeps_no_other_back(caplog: pytest.LogCaptureFixture) -> None:
    path = activitynet({"a": ("validation", ()), "b": ("validation", ("run",)), "c": ("validation", ())})

    tested = read_eval_set([path])

    assert [s.source.id for s in tested.samples] == ["v_b.mp4"]
    assert tested.left_out == (
        Failure(Source.at("v_a.mp4"), "no_label", "anet.json, video a: has no label; annotate it"),
        Failure(Source.at("v_c.mp4"), "no_label", "anet.json, video c: has no label; annotate it"),
    )
    assert caplog.messages == ["anet.json, video a: has no label; annotate it; 2 videos left out"]


@pytest.mark.parametrize(("id_", "shown"), [("\ud800", r"\ud800"), ("a\0b", r"a\x00b")])
def test_an_id_that_is_no_file_name_keeps_no_other_back(id_: str, shown: str) -> None:
    """JSON may write half a character."""
    path = activitynet({id_: ("validation", ("run",)), "b": ("validation", ("run",))})

    tested = read_eval_set([path])

    assert [s.source.id for s in tested.samples] == ["v_b.mp4"]
    message = f"anet.json, video {shown}: has an id that cannot be a file name; fix it"
    assert tested.left_out == (Failure(Source.at(f"v_{shown}.mp4"), "no_name", message),)


def test_an_id_may_be_bytes_that_are_no_text() -> None:
    tested = read_eval_set([activitynet({"\udcff": ("validation", ("run",))})])

    assert [s.source.id for s in tested.samples] == ["v_\udcff.mp4"]
    assert tested.left_out == ()


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_subset_without_labels_names_those_that_have_some(multi_label: bool) -> None:
    message = "^anet.json: the subset 'testing' has no labels; choose validation or training$"

    with pytest.raises(UsageError, match=message):
        read_eval_set([activitynet(SOME)], subset="testing", multi_label=multi_label)


def test_a_video_may_have_several_labels_or_none_if_so_said() -> None:
    path = activitynet({"a": ("validation", ("run", "jump", "run")), "b": ("validation", ())})

    tested = read_eval_set([path], multi_label=True)

    assert tested.labels == ("jump", "run")
    assert [s.labels for s in tested.samples] == [(0, 1), (-1,)]


def test_a_names_file_orders_the_labels() -> None:
    names = write("names.csv", "id,name", "0,Tai chi", "1,drinking coffee", "2,Archery", "3,Polo")

    tested = read_eval_set([activitynet(SOME)], names_file=names)

    assert tested.labels == ("Tai chi", "drinking coffee", "Archery", "Polo")
    assert [s.label for s in tested.samples] == [0, 1]


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        (
            {"none": ("validation", ())},
            "^anet.json: the subset 'validation' has no labels; give a file with labels",
        ),
        (
            {"a": ("training", ("run",)), "b": ("testing", ())},
            r"^anet.json: contains no video of the subset 'validation', the nearest is '\w+' \(of training, testing\)",
        ),
        ({"a": ("validation", (" ",))}, "^anet.json, video a: has an annotation without a label"),
        ({}, "^anet.json: contains no video of the subset 'validation'; choose another"),
    ],
)
def test_labels_that_do_not_do_are_refused(videos: Mapping[str, tuple[str, tuple[str, ...]]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_eval_set([activitynet(videos)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"database":\n {"a": {"subset": }}}',
            r"^anet.json:2: is not valid JSON \(Expecting value\); download the file",
        ),
        ('{"database": {"a": {"subset": "validation"', "^anet.json:1: is not valid JSON"),
        ('{"database": ["a"]}', "^anet.json: has no object 'database'"),
        ('{"other": "\\"database\\"", "x": {"database": {}}}', "^anet.json: has no object 'database'"),
        ('{"database": {"a": 3}}', "^anet.json, video a: has no string 'subset'"),
        ('{"database": {"a": {"subset": 3}}}', "^anet.json, video a: has no string 'subset'"),
        (
            '{"database": {"a": {"subset": "validation", "annotations": "x"}}}',
            "^anet.json, video a: has an annotation with",
        ),
        (
            '{"database": {"a": {"subset": "validation", "annotations": [3]}}}',
            "^anet.json, video a: has an annotation with",
        ),
        ('{"database": ' + "[" * 100000, "^anet.json: is nested too deeply|^anet.json:1: is not valid JSON"),
    ],
)
def test_malformed_annotations_are_refused(text: str, message: str) -> None:
    Path("anet.json").write_text(text)

    with pytest.raises(UsageError, match=message):
        read_eval_set(["anet.json"])


def test_a_root_that_cannot_be_listed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str | Path) -> list[str]:  # root may read every folder
        raise PermissionError(13, "Permission denied", path)

    Path("videos").mkdir()
    monkeypatch.setattr("os.scandir", refuse)

    with pytest.raises(UsageError, match=r"^videos: cannot be read \(Permission denied\); check its permissions"):
        read_eval_set([activitynet(SOME)], root="videos")


# -- as training data -------------------------------------------------------------------------------------------------


TO_TRAIN = {
    "a": ("training", ("run", "jump")),
    "b": ("training", ("jump",)),
    "c": ("training", ()),
    "d": ("validation", ("jump",)),
    "e": ("testing", ()),
}


def test_subsets_of_activitynet_are_sides(caplog: pytest.LogCaptureFixture) -> None:
    touch("videos/a.webm")

    kept, tested_on = (read_labelled(activitynet(TO_TRAIN), root="videos", keep_val=keep) for keep in (True, False))

    assert kept.labels == ("jump", "run")
    assert kept.train == (Sample(Source.at("videos/a.webm"), 1), Sample(Source.at("videos/v_b.mp4"), 0))
    assert (kept.test, kept.val) == (None, (Sample(Source.at("videos/v_d.mp4"), 0),))
    assert (tested_on.train, tested_on.test, tested_on.val) == (kept.train, kept.val, None)
    assert caplog.messages[:2] == [
        "anet.json, video c: has no label; annotate it; 2 videos left out",
        "anet.json: 1 video with several labels, first videos/a.webm; only the first label counts",
    ]


def test_all_labels_of_activitynet_are_learned_if_so_said() -> None:
    labelled = read_labelled(activitynet(TO_TRAIN), multi_label=True)

    assert [sample.labels for sample in labelled.train] == [(0, 1), (0,)]


def test_a_side_that_bike_does_not_know_is_refused() -> None:
    path = activitynet({"a": ("training", ("run",)), "b": ("holdout", ("jump",))})

    with pytest.raises(
        UsageError, match=r"^anet.json, video b: subset 'holdout' is unknown; write training, validation"
    ):
        read_labelled(path)


@pytest.mark.parametrize("multi_label", [False, True])
def test_charades_is_learned_from(multi_label: bool, classes: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch("videos/B.mkv")
    rows = (charades("A", "c003 8.60 14.20;c001 0.00 11.70"), charades("B", "c001 11.90 21.20"), charades("C", ""))
    write("train.csv", HEADER, *rows, charades("D", "c003 0.00 1.00"))
    write("test.csv", HEADER, charades("E", "c001 0.00 1.00"))

    labelled = read_labelled("train.csv", test="test.csv", names_file=classes, root="videos", multi_label=multi_label)

    assert labelled.labels == ("Putting clothes somewhere", "Opening a door, wide")
    assert [(s.source.id, s.labels) for s in labelled.train] == [
        ("videos/A.mp4", (0, 1) if multi_label else (1,)),
        ("videos/B.mkv", (0,)),
        ("videos/D.mp4", (1,)),
    ]
    assert labelled.test == (Sample(Source.at("videos/E.mp4"), 0),)
    assert caplog.messages[0] == "train.csv:4: has no label; annotate it; 1 video left out"
    several = "train.csv: 1 video with several labels, first videos/A.mp4; only the first label counts"
    assert (several in caplog.messages) != multi_label


def test_annotations_without_a_label_hold_nothing_to_train_on() -> None:
    with pytest.raises(UsageError, match=r"^anet.json: contains no video to train on; mark some as train"):
        read_labelled(activitynet({"e": ("testing", ())}))
