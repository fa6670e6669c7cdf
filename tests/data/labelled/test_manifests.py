import contextlib
import csv
import logging
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import pytest

from bike_cli.data.labelled.train_sets import TrainSet, label_of, read_labelled
from bike_cli.errors import UsageError
from bike_cli.records import Sample

TWO = ("run/a.mp4", "jump/b.mp4")


def touch(folder: str | Path, *names: str) -> Path:
    for name in names:
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Path(folder)


def write(name: str, *lines: str) -> Path:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return Path(name)


def shown(labelled: TrainSet, samples: Iterable[Sample] | None) -> list[tuple[str, str]]:
    """Return the samples as (id, label): what a user would say of them."""
    return [(s.source.id, labelled.labels[s.label]) for s in samples or ()]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def names() -> Path:
    return write("names.csv", "id,name", "0,running", "1,jumping")


# -- what a class name says -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("playing_guitar", "playing guitar"),
        ("tai-chi", "tai chi"),
        ("push_up_2", "push up 2"),
        ("push_up-2", "push up-2"),
        ("season 2010-11", "season 2010-11"),
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("HandstandPushups", "handstand pushups"),
        ("YoYo", "yo yo"),
        ("TaiChi", "tai chi"),
        ("Archery", "archery"),
        ("Playing_Guitar", "playing guitar"),
        ("TakeAPhoto", "take a photo"),
        ("TV", "TV"),
        ("A", "A"),
        ("BMX riding", "BMX riding"),
        ("BMX_Riding", "BMX riding"),
        ("playing_TV", "playing TV"),
        ("PlayingTV", "playing TV"),
        ("HTMLWriting", "HTML writing"),
        ("MP3Player", "MP3 player"),
        ("Sit2Stand", "sit2 stand"),
        ("Apply Eye-Shadow to O'Neil", "Apply Eye-Shadow to O'Neil"),
        ("high five_(slow)", "high five (slow)"),
        ("  two   spaces ", "two spaces"),
        ("__run__", "run"),
        ("_", "_"),
        ("弹吉他", "弹吉他"),
        ("ИгратьГитара", "ИгратьГитара"),
        ("ÉcrireAuTableau", "écrire au tableau"),
        ("cafe\u0301", "café"),
    ],
)
def test_a_class_name_becomes_a_label_by_rule(name: str, label: str) -> None:
    assert label_of(name) == label


@pytest.mark.parametrize("name", ["playing_guitar", "TakeAPhoto", "HTMLWriting", "BMX riding", "TV", "弹吉他", "_"])
def test_a_label_stays_one(name: str) -> None:
    assert label_of(label_of(name)) == label_of(name)


# -- folders --------------------------------------------------------------------------------------------------------


def test_class_folders_give_labels_and_samples_in_the_order_of_names() -> None:
    touch("data", "YoYo/b.mp4", "YoYo/a.MKV", "playing_guitar/deep/er/c.webm", "TaiChi/d.avi", "TaiChi/notes.txt")

    labelled = read_labelled("data")

    assert labelled.names == ("TaiChi", "YoYo", "playing_guitar")
    assert labelled.labels == ("tai chi", "yo yo", "playing guitar")
    assert shown(labelled, labelled.train) == [
        ("data/TaiChi/d.avi", "tai chi"),
        ("data/YoYo/a.MKV", "yo yo"),
        ("data/YoYo/b.mp4", "yo yo"),
        ("data/playing_guitar/deep/er/c.webm", "playing guitar"),
    ]
    assert labelled.test is None


@pytest.mark.parametrize(
    ("given", "id_"),
    [
        ("data", "data/jump/b.mp4"),
        (Path("./data/"), "data/jump/b.mp4"),
        ("./data/", "./data/jump/b.mp4"),
        ("./all.csv", "./b.mp4"),
        ("data/../all.csv", "data/../b.mp4"),
    ],
)
def test_samples_are_named_as_what_was_given_is_written(given: str | Path, id_: str) -> None:
    touch("data", *TWO)
    write("all.csv", "path,label", "b.mp4,jump", "c.mp4,run")

    assert read_labelled(given).train[0].source.id == id_


def test_the_order_of_the_file_system_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("data", *TWO, "run/c.mp4", "jump/d.mp4", "jump/in/e.mp4")
    forwards, listed = read_labelled("data"), os.scandir

    def backwards(path: str | Path) -> contextlib.AbstractContextManager[list[os.DirEntry[str]]]:
        return contextlib.nullcontext(sorted(listed(path), key=lambda entry: entry.name, reverse=True))

    monkeypatch.setattr(os, "scandir", backwards)

    assert read_labelled("data") == forwards


def test_a_frame_folder_is_one_video_and_hidden_ones_are_none() -> None:
    touch("data", "run/clip/1.jpg", "run/clip/2.jpg", "run/.hidden.mp4", "jump/b.mp4", ".cache/c.mp4")

    labelled = read_labelled("data")

    assert shown(labelled, labelled.train) == [("data/jump/b.mp4", "jump"), ("data/run/clip", "run")]


def test_names_in_two_unicode_forms_are_in_one_order() -> None:
    composed = ("café/a.mp4", "cafz/b.mp4")
    touch("composed", *composed)
    touch("decomposed", *(unicodedata.normalize("NFD", name) for name in composed))

    assert read_labelled("decomposed").names == read_labelled("composed").names == ("cafz", "café")


def test_a_path_that_is_no_utf8_survives() -> None:
    touch("data", *TWO)
    odd = os.fsencode("data/run/") + b"caf\xe9.mp4"
    try:
        Path(os.fsdecode(odd)).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 only")

    assert odd in [os.fsencode(s.source.path) for s in read_labelled("data").train]
    assert odd in [os.fsencode(s.source.id) for s in read_labelled("data").train]


@pytest.mark.parametrize("side", ["test", "Test", "val", "VALIDATION"])
def test_a_folder_of_train_and_test_has_two_sides(side: str) -> None:
    touch("data", "Train/run/a.mp4", "Train/jump/b.mp4", f"{side}/run/c.mp4", "readme.txt", ".git/x")

    labelled = read_labelled("data")

    assert labelled.names == ("jump", "run")
    assert shown(labelled, labelled.train) == [("data/Train/jump/b.mp4", "jump"), ("data/Train/run/a.mp4", "run")]
    assert shown(labelled, labelled.test) == [(f"data/{side}/run/c.mp4", "run")]


def test_validation_is_left_out_next_to_test(caplog: pytest.LogCaptureFixture) -> None:
    touch("data", "train/run/a.mp4", "train/jump/b.mp4", "test/run/c.mp4", "val/run/d.mp4", "val/run/e.mp4")

    labelled = read_labelled("data")

    assert shown(labelled, labelled.test) == [("data/test/run/c.mp4", "run")]
    assert caplog.messages == ["data: leaves out 2 videos for validation, because there is a test side"]


def test_train_alone_has_nobody_say_what_is_for_testing() -> None:
    touch("data/train", *TWO)

    assert read_labelled("data").test is None
    assert read_labelled("data").names == ("jump", "run")


def test_train_is_a_class_next_to_other_classes() -> None:
    touch("data", "train/a.mp4", "test/b.mp4", "car/c.mp4")

    assert read_labelled("data").names == ("car", "test", "train")


def test_test_without_train_is_a_class() -> None:
    touch("data", "test/a.mp4", "val/b.mp4")

    assert read_labelled("data").names == ("test", "val")


def test_videos_next_to_the_class_folders_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    touch("data", *TWO, "stray.mp4", "frames/1.jpg", "frames/2.jpg", "poster.jpg")

    labelled = read_labelled("data")

    assert labelled.names == ("jump", "run")
    assert caplog.messages == [
        "left out: 2 videos outside the class folders (first: data/frames), "
        "1 file that is not a video (first: data/poster.jpg); -v lists them",
    ]


def refused(given: str | Path, message: str, *, keep_val: bool = False, **more: Path | str) -> None:
    with pytest.raises(UsageError, match=message):
        read_labelled(given, keep_val=keep_val, **more)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "^data: contains no class folder; make a folder for each class, such as .*, or give a CSV"),
        (("notes.txt",), "^data: contains no class folder;"),
        (("a.mp4", "b.mp4"), "^data: contains 2 videos and no class folder; make a folder for each class"),
        (("clip/1.jpg", "clip/2.jpg"), "^data: contains 1 video and no class folder;"),
        (("run/a.mp4", "jump/notes.txt"), "^data/jump: is a class folder without a video; add some"),
        (("run/a.mp4", "run/b.mp4"), "^data: contains one class, 'run'; give two"),
        (("tai_chi/a.mp4", "TaiChi/b.mp4"), "classes 'TaiChi' and 'tai_chi' have the same label, 'tai chi'; rename"),
        (("run/a.mp4", "RUN/b.mp4"), "classes 'RUN' and 'run' have the same label, 'run'"),
        (("run/a.mp4", "jump\x1b[31m/b.mp4"), r"contains the control character '\\x1b'"),
        (("train/run/a.mp4", "train/jump/a.mp4", "test/fly/a.mp4"), "^data/test/fly: class 'fly' to test on, but not"),
        (("train/run/a.mp4", "train/jump/a.mp4", "test/a.mp4"), "^data/test: contains 1 video and no class folder"),
        (("train/a.mp4", "test/a.mp4"), "^data/test: contains 1 video and no class folder"),
        (("train/run/a.mp4", "Train/run/a.mp4"), "classes 'Train' and 'train' have the same label"),
    ],
)
def test_a_wrong_folder_is_refused(files: tuple[str, ...], message: str) -> None:
    Path("data").mkdir()
    touch("data", *files)

    refused("data", message)


def test_an_empty_class_folder_is_refused() -> None:
    touch("data", *TWO)
    Path("data/fly").mkdir()

    refused("data", "^data/fly: is a class folder without a video")


def test_a_class_name_that_is_no_utf8_is_refused() -> None:
    touch("data", *TWO)
    try:
        Path(os.fsdecode(b"data/caf\xe9")).mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    touch(os.fsdecode(b"data/caf\xe9"), "a.mp4")

    refused("data", r"class 'caf\\udce9' is not valid UTF-8, so a model cannot read it; rename it")


def test_a_class_folder_that_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("data", *TWO)
    listed = os.scandir

    def refuse(path: str | Path) -> object:  # root may read every folder
        if str(path) == "data/run":
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)

    refused("data", r"^data/run: cannot be read \(Permission denied\); check its permissions")


@pytest.mark.parametrize("name", ["nowhere", "nowhere.csv", "no\0where"])
def test_what_is_not_there_is_refused(name: str) -> None:
    refused(name, "^no.?where.*: no such file or folder; give a folder of class folders, a CSV file")


# -- CSV files ------------------------------------------------------------------------------------------------------


def test_a_csv_file_gives_labels_and_samples() -> None:
    write("lists/all.csv", "path,label", "b.mp4,TaiChi", '"in/a, b.mp4","stop, drop"', "", "/far/c.mp4, tai_po ")

    labelled = read_labelled("lists/all.csv")

    assert labelled.names == ("TaiChi", "stop, drop", "tai_po")
    assert labelled.labels == ("tai chi", "stop, drop", "tai po")
    assert shown(labelled, labelled.train) == [
        ("/far/c.mp4", "tai po"),
        ("lists/b.mp4", "tai chi"),
        ("lists/in/a, b.mp4", "stop, drop"),
    ]
    assert labelled.test is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_utf8_csv_file_is_read(encoding: str, end: str) -> None:
    Path("all.csv").write_bytes(f"Label, Path{end}läuft,é.mp4{end}springt,b.mp4".encode(encoding))

    labelled = read_labelled("all.csv")

    assert labelled.names == ("läuft", "springt")


@pytest.mark.parametrize("odd", [" a.mp4", 'say "hi".mp4', "a\nb.mp4", "#1.mp4", "a,b.mp4", "-a.mp4", "ü.mp4"])
def test_an_odd_path_written_by_a_csv_library_is_read(odd: str) -> None:
    with Path("all.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label"), (odd, "run"), ("b.mp4", "jump")])

    assert (odd, "run") in shown(read_labelled("all.csv"), read_labelled("all.csv").train)


def test_the_order_of_rows_does_not_matter() -> None:
    rows = ["./a.mp4,run", "a.mp4,run", "b.mp4,jump", "c.mp4,fly"]
    write("one.csv", "path,label", *rows)
    write("two.csv", "path,label", *reversed(rows))

    assert read_labelled("one.csv") == read_labelled("two.csv")


def test_relative_paths_begin_at_the_root() -> None:
    write("lists/all.csv", "path,label", "a.mp4,run", "b.mp4,jump")
    Path("videos").mkdir()

    labelled = read_labelled("lists/all.csv", root="videos")

    assert shown(labelled, labelled.train) == [("videos/a.mp4", "run"), ("videos/b.mp4", "jump")]
    assert labelled.train[0].source.path == Path("videos/a.mp4")


@pytest.mark.parametrize("mark", ["test", "VAL", "validation"])
def test_a_split_column_marks_two_sides(mark: str) -> None:
    write("all.csv", "path,split,label", "a.mp4,train,run", f"b.mp4,{mark},run", "c.mp4,Train,jump")

    labelled = read_labelled("all.csv")

    assert shown(labelled, labelled.train) == [("a.mp4", "run"), ("c.mp4", "jump")]
    assert shown(labelled, labelled.test) == [("b.mp4", "run")]


def test_rows_for_validation_are_left_out_next_to_rows_for_testing(caplog: pytest.LogCaptureFixture) -> None:
    write("all.csv", "path,label,split", "a.mp4,run,train", "b.mp4,jump,train", "c.mp4,fly,val", "d.mp4,run,test")

    labelled = read_labelled("all.csv")

    assert labelled.names == ("jump", "run")
    assert shown(labelled, labelled.test) == [("d.mp4", "run")]
    assert caplog.messages == ["all.csv: leaves out 1 video for validation, because there is a test side"]


def test_a_split_of_train_alone_says_nothing_of_testing() -> None:
    write("all.csv", "path,label,split", "a.mp4,run,train", "b.mp4,jump,train")

    assert read_labelled("all.csv").test is None


def test_a_path_twice_with_one_label_is_used_once_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    write("all.csv", "path,label", "a.mp4,run", "b.mp4,jump", f"{Path.cwd()}/a.mp4,run", "a.mp4, run")

    assert len(read_labelled("all.csv").train) == 2
    assert caplog.messages == ["all.csv:2: 2 videos named more than once, used once"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "all.csv: column 'path' comes 0 times; begin the file with path,label"),
        (("path,label",), "all.csv: contains no video; write one per line"),
        (("path",), "all.csv:1: column 'label' comes 0 times; begin the file with path,label"),
        (("path,label,path", "a,b,c"), "all.csv:1: column 'path' comes 2 times"),
        (("path,labels", "a,b"), "all.csv:1: column 'labels' is unknown, the nearest is 'label'; begin"),
        (("path,label,spilt", "a,b,c"), "all.csv:1: column 'spilt' is unknown, the nearest is 'split'"),
        (("a.mp4,run",), "all.csv:1: column 'a.mp4' is unknown, .*; begin the file with path,label"),
        (("a.mp4, 3",), "all.csv:1: column 'a.mp4' is unknown"),
        (("path,label", "a.mp4,run", "b.mp4, "), "all.csv:3: label is empty; fill it in, or remove"),
        (("path,label", ",run"), "all.csv:2: path is empty; fill it in, or remove"),
        (("path,label", "a.mp4"), "all.csv:2: has 1 cell, not 2; put quotes"),
        (("path,label", "a.mp4,stop, drop"), "all.csv:2: has 3 cells, not 2; put quotes"),
        (("path,label", '"a\nb.mp4",run', "c.mp4"), "all.csv:4: has 1 cell"),
        (("path,label", "a.mp4,run", '"b.mp4,run'), "all.csv:3: is not valid CSV"),
        (("path,label,split", "a,b,dev"), "all.csv:2: split 'dev' is unknown; write train, test or val"),
        (("path,label,split", "a,b,"), "all.csv:2: split is empty"),
        (("path,label,split", "a,b,test"), "all.csv: contains no video to train on"),
        (("path,label", "a,run", "b,run"), "all.csv: contains one class, 'run'; give two"),
        (("path,label", "a,run", "b,Run "), "all.csv:2: classes 'Run' and 'run' have the same label, 'run'"),
        (("path,label", "a,run", "b,ju\x1bmp"), r"all.csv:3: contains the control character '\\x1b'"),
        (("path,label", "a,run", "b,run", "a,jump"), "all.csv:4: a has class 'jump', but 'run' at all.csv:2"),
        (("path,label", "./a,run", "b,run", "a,jump"), "a has class '.*', but"),
        (("path,label,split", "a,run,train", "b,jump,train", "a,run,test"), "all.csv:4: a is to test on, but to train"),
        (("path,label,split", "a,run,train", "b,jump,train", "c,fly,test"), "all.csv:4: class 'fly' to test on, but"),
    ],
)
def test_a_wrong_csv_file_is_refused_by_line(lines: tuple[str, ...], message: str) -> None:
    refused(write("all.csv", *lines), f"^{message}" if message.startswith("all") else message)


def test_bytes_that_are_no_utf8_are_named_by_line() -> None:
    Path("all.csv").write_bytes(b"path,label\ncaf\xe9.mp4,run\n")

    refused("all.csv", "^all.csv:2: byte 0xe9 is not UTF-8")


def test_a_video_in_place_of_a_file_is_recognised() -> None:
    Path("film.mp4").write_bytes(b"\x00\x00\x00\x20ftypisom" + bytes(100))

    refused("film.mp4", "^film.mp4: is a video, not a list of labelled videos")


# -- BIKE's list files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        ("run/a b.mp4 0", "c.mp4 1"),
        ("run/a b.mp4 250 0", "c.mp4 9 1"),
        ("\ufeffrun/a b.mp4\t0 ", "", "c.mp4   1"),
        ("run/a b.mp4 250 00", "c.mp4 0 01"),
    ],
)
def test_list_files_are_read_with_frame_counts_and_without(lines: tuple[str, ...], names: Path) -> None:
    labelled = read_labelled(write("lists/val.txt", *lines), names_file=names)

    assert labelled.names == ("0", "1")
    assert labelled.labels == ("running", "jumping")
    assert shown(labelled, labelled.train) == [("lists/c.mp4", "jumping"), ("lists/run/a b.mp4", "running")]


def test_ids_stand_by_value_and_take_names_by_id() -> None:
    write("all.txt", "a 10", "b 9", "c 2")
    write("names.csv", "# BIKE's own", "id,name", "10,ten", "2,two", '9,"stop, drop"')

    labelled = read_labelled("all.txt", names_file="names.csv")

    assert labelled.names == ("2", "9", "10")
    assert shown(labelled, labelled.train) == [("a", "ten"), ("b", "stop, drop"), ("c", "two")]


@pytest.mark.parametrize(
    ("there", "ids"),
    [
        ((), ["clip", "clop"]),
        (("clip 3",), ["clip 3", "clop 4"]),
        (("clop 4",), ["clip 3", "clop 4"]),
        (("clip/1.jpg",), ["clip", "clop"]),
        (("clip", "clip 3", "clop 4"), ["clip 3", "clop 4"]),
        (("clip", "clip 3", "clop"), ["clip", "clop"]),
    ],
)
def test_a_file_that_exists_says_whether_a_number_is_a_frame_count(
    there: tuple[str, ...], ids: list[str], names: Path
) -> None:
    Path("videos").mkdir()
    touch("videos", *there)
    write("all.txt", "clip 3 0", "clop 4 1")

    labelled = read_labelled("all.txt", names_file=names, root="videos")

    assert [s.source.path.relative_to("videos").as_posix() for s in labelled.train] == ids


def test_one_line_without_a_count_says_that_none_has_one(names: Path) -> None:
    write("all.txt", "clip 3 0", "clop 1")

    labelled = read_labelled("all.txt", names_file=names)

    assert shown(labelled, labelled.train) == [("clip 3", "running"), ("clop", "jumping")]


def test_names_without_a_video_are_no_labels_and_this_is_said(caplog: pytest.LogCaptureFixture) -> None:
    write("all.txt", "a 0", "b 2")
    write("names.csv", "id,name", "0,run", "1,fly", "2,jump")

    assert read_labelled("all.txt", names_file="names.csv").labels == ("run", "jump")
    assert caplog.messages == [
        "names.csv:3: class 1 has no video to train on, so it is not among the labels (1 of 3 classes)",
    ]


def test_a_list_file_needs_names() -> None:
    write("all.txt", "a 0", "b 1")

    refused("all.txt", "^all.txt:1: has an id but no name; give --labels a CSV file that begins with id,name")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("a 0", "b 1", "c 2"), "^all.txt:3: id 2 has no name in names.csv; add it there"),
        (("a 0", "b"), "^all.txt:2: 'b' does not end in a class id; write path and id, a whole number from 0"),
        (("a 0", "b one"), "^all.txt:2: 'b one' does not end in a class id"),
        (("a -1", "b 1"), "^all.txt:1: 'a -1' does not end in a class id"),
        (("a 3 -1", "b 3 1"), "^all.txt:1: 'a 3 -1' does not end in a class id"),
        (("a 0", "b " + "9" * 5000), "^all.txt:2: 'b 9999.* does not end in a class id"),
        (("a 0", "b 0"), "^all.txt: contains one class, '0'"),
        (("a 0", "b 1", "a 1"), "^all.txt:3: a has class '1', but '0' at all.txt:1"),
        (("", " "), "^all.txt: column 'path' comes 0 times"),
    ],
)
def test_a_wrong_list_file_is_refused_by_line(lines: tuple[str, ...], message: str, names: Path) -> None:
    refused(write("all.txt", *lines), message, names_file=names)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "^names.csv: column 'id' comes 0 times; begin the file with id,name"),
        (("running", "jumping"), "^names.csv:1: column 'running' is unknown, .*; begin the file with id,name"),
        (("id,name", "zero,run", "1,jump"), "^names.csv:2: id 'zero' is not a whole number"),
        (("id,name", "0,run", "00,walk", "1,jump"), "^names.csv:3: id '0' is at names.csv:2 too; remove one"),
        (("id,name", "0,run", "1,Run"), "^names.csv:3: classes '0' and '1' have the same label, 'Run'"),
        (("id,name", "0,run", "1,"), "^names.csv:3: name is empty"),
        (("id,name", "0,run", "1,stop, drop"), "^names.csv:3: has 3 cells"),
        (("id,name", "0,run", "1,ju\x07mp"), "^names.csv:3: contains the control character"),
    ],
)
def test_wrong_names_are_refused_by_line(lines: tuple[str, ...], message: str) -> None:
    write("all.txt", "a 0", "b 1")

    refused("all.txt", message, names_file=write("names.csv", *lines))


# -- labels said otherwise, the test side apart -----------------------------------------------------------------------


@pytest.mark.parametrize("given", ["data", "all.csv"])
def test_a_file_gives_some_classes_another_label(given: str) -> None:
    touch("data", "YoYo/a.mp4", "Jump/b.mp4")
    write("all.csv", "path,label", "a.mp4,YoYo", "b.mp4,Jump")
    write("names.csv", "name,label", "# what children say", 'YoYo,"YoYo, up  and down"')

    labelled = read_labelled(given, names_file="names.csv")

    assert labelled.names == ("Jump", "YoYo")
    assert labelled.labels == ("jump", "YoYo, up and down")


def test_a_file_distinguishes_classes_with_the_same_label() -> None:
    touch("data", "run/a.mp4", "Run/b.mp4")
    write("names.csv", "name,label", "Run,run a company")

    assert read_labelled("data", names_file="names.csv").labels == ("run a company", "run")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("name,label", "runn,x"), "^names.csv:2: there is no class 'runn'; the nearest is 'run'"),
        (("name,label", "run,x", "run,y"), "^names.csv:3: name 'run' is at names.csv:2 too; remove one"),
        (("name,label", "run,Jump"), "classes 'jump' and 'run' have the same label, 'Jump'"),
        (
            ("id,name", "0,run"),
            "^names.csv:1: column 'id' is unknown, the nearest is .*; begin the file with name,label",
        ),
        (("name,label", "run,"), "^names.csv:2: label is empty"),
        (("name,label", "run,a\x1b"), "^names.csv:2: contains the control character"),
    ],
)
def test_wrong_labels_of_classes_are_refused_by_line(lines: tuple[str, ...], message: str) -> None:
    touch("data", *TWO)

    refused("data", message, names_file=write("names.csv", *lines))


def test_a_missing_file_of_labels_is_named() -> None:
    touch("data", *TWO)

    refused("data", "^nowhere.csv: no such file", names_file="nowhere.csv")


@pytest.mark.parametrize("test", ["held", "held.csv", "marked.csv"])
@pytest.mark.parametrize("given", ["data", "data/train", "all.csv"])
def test_the_test_side_can_be_given_apart(given: str, test: str) -> None:
    touch("data/train", *TWO)
    touch("held", "run/c.mp4")
    write("all.csv", "path,label", "a.mp4,run", "b.mp4,jump")
    write("held.csv", "path,label", "held/run/c.mp4,run")
    write("marked.csv", "path,label,split", "held/run/c.mp4,run,test")

    labelled = read_labelled(given, test=test)

    assert len(labelled.train) == 2
    assert shown(labelled, labelled.test) == [("held/run/c.mp4", "run")]


def test_both_sides_can_be_list_files(names: Path) -> None:
    write("train.txt", "a 0", "b 1")
    write("test.txt", "c 30 1")

    labelled = read_labelled("train.txt", test="test.txt", names_file=names)

    assert shown(labelled, labelled.test) == [("c", "jumping")]


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("nowhere", "^nowhere: no such file or folder"),
        ("list.txt", "^list.txt: has class ids, but data has class names; use the same in all"),
        ("sides.csv", "^sides.csv: also has videos to train on; give only those to test on"),
        ("strange.csv", "^strange.csv:3: classes 'Run', 'fly' to test on, but not in data to train on"),
        ("data", "^data/jump: data/jump/b.mp4 is to test on, but to train on at data/jump; keep one"),
        ("other.csv", "data/run/a.mp4 has class 'jump', but 'run' at data/run|has class 'run', but 'jump'"),
    ],
)
def test_a_wrong_test_side_is_refused(test: str, message: str) -> None:
    touch("data", *TWO)
    write("list.txt", "c 0")
    write("sides.csv", "path,label,split", "c,run,train", "d,run,test")
    write("strange.csv", "path,label", "c,fly", "d,Run", "e,run")
    write("other.csv", "path,label", "data/run/a.mp4,jump")

    refused("data", message, test=test)


def test_many_strange_classes_are_counted() -> None:
    touch("data", *TWO)
    write("test.csv", "path,label", *(f"{i},c{i}" for i in range(8)))

    refused("data", "classes 'c0', 'c1', 'c2', 'c3', 'c4' and 3 more to test on", test="test.csv")


def test_two_test_sides_are_refused() -> None:
    touch("data", "train/run/a.mp4", "train/jump/b.mp4", "test/run/c.mp4")
    touch("held", "run/d.mp4")

    refused("data", "^data: has videos to test on, and so does held; give one of the two", test="held")


def test_a_root_without_a_file_is_refused() -> None:
    touch("data", *TWO)

    refused("data", r"^\.: is a root for the paths in a file, but data is a folder; leave the root out", root=".")


def test_a_root_that_is_no_folder_is_refused() -> None:
    write("all.csv", "path,label", "a,run", "b,jump")

    refused("all.csv", "^nowhere: no such folder; give the folder that relative paths start at", root="nowhere")


def test_nothing_is_said_where_nothing_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    touch("data", *TWO, ".DS_Store", "run/Thumbs.db")

    read_labelled("data")

    assert caplog.messages == ["data: read as class folders"]


# -- the side for validation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["val", "Validation"])
def test_validation_that_is_kept_is_a_side_of_its_own(side: str, caplog: pytest.LogCaptureFixture) -> None:
    touch("data", "train/run/a.mp4", "train/jump/b.mp4", "test/run/c.mp4", f"{side}/jump/d.mp4", f"{side}/run/e.mp4")

    labelled = read_labelled("data", keep_val=True)

    assert shown(labelled, labelled.train) == [("data/train/jump/b.mp4", "jump"), ("data/train/run/a.mp4", "run")]
    assert shown(labelled, labelled.test) == [("data/test/run/c.mp4", "run")]
    assert shown(labelled, labelled.val) == [(f"data/{side}/jump/d.mp4", "jump"), (f"data/{side}/run/e.mp4", "run")]
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.parametrize("mark", ["val", "VALIDATION"])
def test_a_split_column_marks_what_is_kept_for_validation(mark: str) -> None:
    write("all.csv", "path,split,label", f"b.mp4,{mark},run", "d.mp4,test,jump", "a.mp4,train,run", "c.mp4,train,jump")

    labelled = read_labelled("all.csv", keep_val=True)

    assert shown(labelled, labelled.train) == [("a.mp4", "run"), ("c.mp4", "jump")]
    assert shown(labelled, labelled.test) == [("d.mp4", "jump")]
    assert shown(labelled, labelled.val) == [("b.mp4", "run")]


def test_validation_that_is_kept_stands_in_for_no_test() -> None:
    touch("data", "train/run/a.mp4", "train/jump/b.mp4", "val/run/c.mp4")

    labelled = read_labelled("data", keep_val=True)

    assert labelled.test is None
    assert shown(labelled, labelled.val) == [("data/val/run/c.mp4", "run")]


def test_validation_that_is_kept_goes_with_a_test_side_given_apart() -> None:
    touch("data", "train/run/a.mp4", "train/jump/b.mp4", "val/run/c.mp4")
    touch("held", "jump/d.mp4")

    labelled = read_labelled("data", test="held", keep_val=True)

    assert shown(labelled, labelled.test) == [("held/jump/d.mp4", "jump")]
    assert shown(labelled, labelled.val) == [("data/val/run/c.mp4", "run")]


def test_nobody_says_what_is_for_validation() -> None:
    touch("data", *TWO)

    assert read_labelled("data").val is None
    assert read_labelled("data", keep_val=True).val is None


def test_validation_that_is_not_kept_is_no_side() -> None:
    touch("data", "train/run/a.mp4", "train/jump/b.mp4", "val/run/c.mp4")

    labelled = read_labelled("data")

    assert shown(labelled, labelled.test) == [("data/val/run/c.mp4", "run")]
    assert labelled.val is None


@pytest.mark.parametrize("val", ["held", "held.csv", "marked.csv"])
@pytest.mark.parametrize("keep_val", [False, True])
def test_the_side_for_validation_can_be_given_apart(val: str, keep_val: bool) -> None:
    touch("data", "train/run/a.mp4", "train/jump/b.mp4", "test/jump/d.mp4")
    touch("held", "run/c.mp4")
    write("held.csv", "path,label", "held/run/c.mp4,run")
    write("marked.csv", "path,label,split", "held/run/c.mp4,run,val")

    labelled = read_labelled("data", val=val, keep_val=keep_val)

    assert len(labelled.train) == 2
    assert shown(labelled, labelled.test) == [("data/test/jump/d.mp4", "jump")]
    assert shown(labelled, labelled.val) == [("held/run/c.mp4", "run")]


def test_all_sides_can_be_list_files_below_one_root(names: Path) -> None:
    Path("videos").mkdir()
    write("train.txt", "a 0", "b 1")
    write("val.txt", "c 1")
    write("test.txt", "d 30 0")

    labelled = read_labelled("train.txt", val="val.txt", test="test.txt", names_file=names, root="videos")

    assert shown(labelled, labelled.val) == [("videos/c", "jumping")]
    assert shown(labelled, labelled.test) == [("videos/d", "running")]


@pytest.mark.parametrize(
    ("val", "message"),
    [
        ("nowhere", "^nowhere: no such file or folder"),
        ("list.txt", "^list.txt: has class ids, but data has class names; use the same in all"),
        ("trained.csv", "^trained.csv: also has videos to train on; give only those for validation"),
        ("tested.csv", "^tested.csv: also has videos to test on; give only those for validation"),
        ("strange.csv", "^strange.csv:3: classes 'Run', 'fly' for validation, but not in data to train on; add or"),
        ("again.csv", "^again.csv:2: data/run/a.mp4 is for validation, but to train on at data/run; keep one"),
        ("other.csv", "data/run/a.mp4 has class 'jump', but 'run' at data/run|has class 'run', but 'jump'"),
    ],
)
def test_a_wrong_side_for_validation_is_refused(val: str, message: str) -> None:
    touch("data", *TWO)
    write("list.txt", "c 0")
    write("trained.csv", "path,label,split", "c,run,val", "d,run,train")
    write("tested.csv", "path,label,split", "c,run,val", "d,run,test")
    write("strange.csv", "path,label", "c,fly", "d,Run", "e,run")
    write("again.csv", "path,label", "data/run/a.mp4,run")
    write("other.csv", "path,label", "data/run/a.mp4,jump")

    refused("data", message, val=val)


@pytest.mark.parametrize(
    ("split", "message"),
    [  # the sides are compared in the order train, test, validation
        ("train", "^all.csv:4: c is for validation, but to train on at all.csv:5; keep one"),
        ("test", "^all.csv:4: c is for validation, but to test on at all.csv:5; keep one"),
    ],
)
def test_a_video_for_validation_is_on_no_other_side(split: str, message: str) -> None:
    write("all.csv", "path,label,split", "a,run,train", "b,jump,train", "c,run,val", f"c,run,{split}")

    refused("all.csv", message, keep_val=True)


def test_one_file_is_not_both_for_validation_and_for_testing() -> None:
    touch("data", *TWO)
    write("held.csv", "path,label", "c,run")

    refused(
        "data",
        "^held.csv:2: c is for validation, but to test on at held.csv:2; keep one",
        val="held.csv",
        test="held.csv",
    )


def test_a_test_side_given_apart_holds_nothing_that_is_kept_for_validation() -> None:
    touch("data", *TWO)
    write("held.csv", "path,label,split", "c,run,val")

    refused(
        "data",
        "^held.csv: also has videos for validation; give only those to test on",
        test="held.csv",
        keep_val=True,
    )


def test_classes_for_validation_alone_are_refused_where_it_is_kept() -> None:
    write("all.csv", "path,label,split", "a,run,train", "b,jump,train", "c,fly,val", "d,run,test")

    refused("all.csv", "^all.csv:4: class 'fly' for validation, but not in all.csv to train on", keep_val=True)


def test_strange_classes_are_reported_for_one_side_at_a_time() -> None:
    write("all.csv", "path,label,split", "a,run,train", "b,jump,train", "c,swim,val", "d,fly,test", "e,glide,test")

    refused("all.csv", "^all.csv:5: classes 'fly', 'glide' to test on, but not in", keep_val=True)


def test_two_sides_for_validation_are_refused() -> None:
    touch("data", "train/run/a.mp4", "train/jump/b.mp4", "val/run/c.mp4")
    touch("held", "run/d.mp4")

    refused("data", "^data: has videos for validation, and so does held; give one of the two", val="held")


def test_validation_alone_is_nothing_to_train_on() -> None:
    write("all.csv", "path,label,split", "a,run,val", "b,jump,val")

    refused("all.csv", "^all.csv: contains no video to train on; mark some as train", keep_val=True)


def test_a_root_serves_a_file_for_validation() -> None:
    touch("data", *TWO)
    write("lists/held.csv", "path,label", "c.mp4,run")

    labelled = read_labelled("data", val="lists/held.csv", root="data")

    assert shown(labelled, labelled.val) == [("data/c.mp4", "run")]
