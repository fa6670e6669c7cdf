"""True segments in every format that they are distributed in, and what is wrong with files of other kinds."""

import json
from pathlib import Path

import pytest

from bike_cli.data.detection.annotation_formats import TrueSegment
from bike_cli.data.detection.detection_sets import DetectionSet, read_detection_set, sources_of
from bike_cli.errors import UsageError


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, *lines: str) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return name


def record(*segments: tuple[str, float, float], subset: str | None = "validation", **more: object) -> dict[str, object]:
    annotations = [{"label": label, "segment": [start, end]} for label, start, end in segments]
    return {**({} if subset is None else {"subset": subset}), **more, "annotations": annotations}


def activitynet(**videos: object) -> str:
    return write("anet.json", json.dumps({"version": "1.3", "taxonomy": [], "database": videos}))


def segments_of(truth: DetectionSet) -> dict[str, list[tuple[object, ...]]]:
    return {video.name: [tuple(segment) for segment in video.segments] for video in truth.videos}


# -- ActivityNet ------------------------------------------------------------------------------------------------------


def test_activitynet_has_the_segments_of_a_subset_and_the_labels_of_all() -> None:
    file = activitynet(
        b=record(("Long  jump", 1.5, 20), ("Long jump", 30, 31.25), duration=82.73, url="https://example.org"),
        a=record(("Zumba", 0.0, 5.0), duration=10),
        c=record(("Archery", 2.0, 3.0), subset="training", duration=9.0),
        d=record(subset="testing", duration=9.0),
        e={"subset": "testing", "duration": 9.0},
    )

    truth = read_detection_set(file)

    assert segments_of(truth) == {
        "b": [("Long jump", 1.5, 20.0), ("Long jump", 30.0, 31.25)],
        "a": [("Zumba", 0.0, 5.0)],
    }
    assert [(video.name, video.duration_s) for video in truth.videos] == [("a", 10.0), ("b", 82.73)]
    assert (truth.labels, truth.subset, truth.by_id) == (("Archery", "Long jump", "Zumba"), "validation", True)


@pytest.mark.parametrize("subset", ["training", "train", "Training"])
def test_a_subset_may_have_its_short_name(subset: str) -> None:
    file = activitynet(a=record(("x", 0, 1)), b=record(("x", 0, 1), subset="training"))

    assert [video.name for video in read_detection_set(file, subset=subset).videos] == ["b"]


def test_the_only_subset_is_read() -> None:
    file = activitynet(a=record(("x", 0, 1), subset="my own"))

    assert read_detection_set(file).subset == "my own"


def test_annotations_without_subsets_are_read_whole() -> None:
    truth = read_detection_set(activitynet(a=record(("x", 0, 1), subset=None), b=record(subset=None)))

    assert (len(truth.videos), truth.subset, truth.videos[1].duration_s) == (2, None, None)


@pytest.mark.parametrize(
    ("videos", "subset", "problem"),
    [
        ({"a": record(("x", 0, 1))}, "test", r"no video of the subset 'test', the nearest is 'validation'"),
        (
            {"a": record(("x", 0, 1)), "b": record(subset="testing")},
            "testing",
            r"'testing' has no true segment; choose v",
        ),
        ({"a": record(subset=None)}, None, r"anet.json: has no true segment; give a file with segments"),
        ({"a": record(("x", 0, 1), subset=None)}, "validation", r"has no subsets; leave --subset out"),
        ({"a": record(("x", 0, 1)), "b": record(subset=None)}, None, r"video b: has no subset, but others have"),
        ({"a": record(("x", 0, 1), subset=3)}, None, r"video a: subset 3 is not text"),  # type: ignore[arg-type]
        ({"a": record((" ", 0, 1))}, None, r"video a: has an annotation without a label and two times"),
        ({"a": {"subset": "validation", "annotations": [{"label": "x", "segment": [1]}]}}, None, "two times"),
        ({"a": {"subset": "validation", "annotations": ["x"]}}, None, "two times"),
        ({"a": record(("x", "one", 2))}, None, r"video a: start 'one' is not a finite number"),  # type: ignore[arg-type]
        ({"a": record(("x", 1, True))}, None, r"video a: end True is not a finite number"),
        ({"a": record(("x", 1, float("nan")))}, None, r"video a: end nan is not a finite number"),
        ({"a": record(("x", 0, 1), duration="long")}, None, r"video a: duration 'long' is not a finite number"),
        ({"a": {"subset": "validation", "annotations": {}}}, None, r"anet.json: is JSON, but not annotations of seg"),
        ({"a": []}, None, r"anet.json: is JSON, but not annotations of segments"),
        ({"\ud800": record(("x", 0, 1))}, None, r"has a name that cannot be a file name"),
        ({"a\0": record(("x", 0, 1))}, None, r"has a name that cannot be a file name"),
    ],
)
def test_what_is_wrong_with_annotations_is_named(videos: dict[str, object], subset: str | None, problem: str) -> None:
    file = activitynet(**videos)

    with pytest.raises(UsageError, match=problem):
        read_detection_set(file, subset=subset)


# -- THUMOS14 ---------------------------------------------------------------------------------------------------------


def test_the_class_files_of_thumos14_are_read_without_ambiguous_segments() -> None:
    write("a/BaseballPitch_test.txt", "video_test_0000324  18.0 21.4", "video_test_0000324  62.9 65.6", "")
    write("a/HighJump_test.txt", "video_test_0000998  1.2 3.4", "video_test_0000324  7 9.5")
    write("a/Ambiguous_test.txt", "video_test_0001292  1.0 2.0")
    write("a/readme.txt", "nothing")
    write("a/HighJump_val.txt", "video_validation_0000001  1.0 2.0")

    test, validation = (read_detection_set("a", subset=subset) for subset in ("test", None))

    assert segments_of(test) == {
        "video_test_0000324": [("BaseballPitch", 18.0, 21.4), ("BaseballPitch", 62.9, 65.6), ("HighJump", 7.0, 9.5)],
        "video_test_0000998": [("HighJump", 1.2, 3.4)],
    }
    assert (test.labels, test.subset) == (("BaseballPitch", "HighJump"), "test")
    assert len(test.files) == 4
    assert [video.name for video in validation.videos] == ["video_validation_0000001"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("video_test_1 1.0", r"HighJump_test.txt:2: 'video_test_1 1.0' is not a video with two times"),
        ("video_test_1 1.0 x", r"HighJump_test.txt:2: end 'x' is not a finite number"),
    ],
)
def test_a_malformed_line_of_a_class_file_is_named(line: str, problem: str) -> None:
    write("a/HighJump_test.txt", "video_test_0000998  1.2 3.4", line)

    with pytest.raises(UsageError, match=problem):
        read_detection_set("a")


def test_a_folder_without_class_files_is_refused() -> None:
    write("a/truth.csv", "path,start_s,end_s,label")

    with pytest.raises(UsageError, match="a: is a folder without annotations of segments"):
        read_detection_set("a")


def test_json_of_thumos14_has_its_subsets_in_the_ids() -> None:
    videos = {
        "video_validation_0000365": {
            "duration_second": 269.0,
            "duration_frame": 2690,
            "annotations": [{"segment": ["18.1", "24.3"], "label": "HighJump"}],
        },
        "video_test_0000004": {
            "duration_second": 33.7,
            "annotations": [{"segment": ["0.2", "1.1"], "label": "Diving"}],
        },
    }
    file = write("thumos.json", json.dumps(videos, indent=4))

    truth = read_detection_set(file)

    assert segments_of(truth) == {"video_validation_0000365": [("HighJump", 18.1, 24.3)]}
    assert (truth.videos[0].duration_s, truth.labels) == (269.0, ("Diving", "HighJump"))
    assert read_detection_set(file, subset="test").videos[0].duration_s == 33.7


# -- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [",", "\t", ";"])
def test_a_table_has_a_row_per_segment(mark: str) -> None:
    rows = ["path,start_s,end_s,label", "a.mp4,1.5,2,red  circle", "b.mp4,,,", "a.mp4,0,1,blue star"]
    file = write("sub/truth.csv", *(row.replace(",", mark) for row in rows))

    truth = read_detection_set(file)

    assert segments_of(truth) == {"a.mp4": [("red circle", 1.5, 2.0), ("blue star", 0.0, 1.0)], "b.mp4": []}
    assert [video.path for video in truth.videos] == ["sub/a.mp4", "sub/b.mp4"]
    assert (truth.subset, truth.by_id, truth.labels) == (None, False, ("blue star", "red circle"))


def test_a_table_of_other_programs_has_the_usual_columns() -> None:
    file = write("gt.csv", "video-id,t-start,t-end,label,duration,subset", "v,20.4,29.9,PoleVault,95.5,validation")

    truth = read_detection_set(file)

    assert segments_of(truth) == {"v": [("PoleVault", 20.4, 29.9)]}
    assert (truth.videos[0].duration_s, truth.subset) == (95.5, "validation")


def test_paths_of_a_table_start_at_the_root() -> None:
    file = write("truth.csv", "path,start_s,end_s,label", "a.mp4,0,1,x")
    Path("videos").mkdir()

    assert read_detection_set(file, root="videos").videos[0].path == "videos/a.mp4"
    with pytest.raises(UsageError, match="nowhere: no such folder"):
        read_detection_set(file, root="nowhere")


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (["a.mp4,1,2"], r"t.csv:2: has 3 cells, not 5"),
        (["a.mp4,1,,x,"], r"t.csv:2: end_s is empty; fill it in"),
        ([",1,2,x,"], r"t.csv:2: path is empty"),
        (["a.mp4,1,2,x,9", "a.mp4,3,4,x,8"], r"t.csv:3: a.mp4 has the duration 8.0, and 9.0 in an earlier row"),
        (["a.mp4,1,x,x,"], r"t.csv:2: end_s 'x' is not a finite number"),
        (["a.mp4,1,1e999,x,"], r"t.csv:2: end_s '1e999' is not a finite number"),
        (['a.mp4,1,2,"x,'], r"t.csv:2: is not valid CSV"),
    ],
)
def test_a_malformed_row_is_named(rows: list[str], problem: str) -> None:
    file = write("t.csv", "path,start_s,end_s,label,duration_s", *rows)

    with pytest.raises(UsageError, match=problem):
        read_detection_set(file)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", r"t: contains no true segments; give annotations of ActivityNet or THUMOS14, or a CSV file that begins"),
        ("path,label\na.mp4,x\n", r"t: contains no true segments"),
        ("{", r"t:1: is not valid JSON"),
        ("[1]", r"t: is JSON, but not annotations of segments"),
        ("[" * 100_000, r"t: is nested too deeply"),
        ('{"path": "a.mp4", "status": "ok", "segments": []}\n', r"t: contains predictions, not true segments"),
    ],
)
def test_files_of_other_kinds_are_named(text: str, problem: str) -> None:
    Path("t").write_text(text)

    with pytest.raises(UsageError, match=problem):
        read_detection_set("t")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UsageError, match=r"t.json: no such file"):
        read_detection_set("t.json")


# -- files of videos --------------------------------------------------------------------------------------------------


def test_the_files_of_ids_are_found_with_any_extension_and_prefix() -> None:
    file = activitynet(**{id_: record(("x", 0, 1)) for id_ in ("aa", "bb", "cc")})
    for name in ("v/aa.webm", "v/v_bb.mp4", "v/v_aaa.mp4"):
        write(name)

    assert [source.id for source in sources_of(read_detection_set(file, root="v"))] == [
        "v/aa.webm",
        "v/v_bb.mp4",
        "v/cc.mp4",  # missing: decoding says so
    ]


def test_the_files_of_paths_are_the_paths() -> None:
    file = write("sub/truth.csv", "path,start_s,end_s,label", "a.mp4,0,1,x", "/elsewhere/b.mp4,,,")

    assert [source.id for source in sources_of(read_detection_set(file))] == ["/elsewhere/b.mp4", "sub/a.mp4"]


def test_a_segment_keeps_times_that_make_no_sense() -> None:
    truth = read_detection_set(activitynet(a=record(("x", 5, 5), ("x", 9, 2), ("x", -3, 400), duration=30)))

    assert truth.videos[0].segments == (
        TrueSegment("x", 5.0, 5.0),
        TrueSegment("x", 9.0, 2.0),
        TrueSegment("x", -3.0, 400.0),
    )
