"""`bike classify`, run in this process with the bundled model."""

import csv
import io
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from answers import HOSTILE, steering
from huggingface_hub import constants
from invoke import Interrupted, Ran, bike, bike_on_terminal

import bike_cli
from bike_cli.engine.towers.text_tower import TextTower
from bike_cli.errors import ExitCode
from bike_cli.tasks import classify as classify_task

FIELDS = [
    "path",
    "status",
    "label",
    "score",
    "top",
    "attributes",
    "scores",
    "model",
    "model_digest",
    "settings",
    "frames",
    "duration_s",
]
NO_SUCH_MODEL = ("-m", "no-such-model")  # an error that comes before this one was found before the model is loaded


pytestmark = pytest.mark.usefixtures("one_store_for_all")


def classify(*arguments: object, stdin: bytes = b"") -> Ran:
    return bike("classify", "-m", "tiny", *arguments, stdin=stdin)


def copied(clip: Path, target: Path) -> Path:
    shutil.copy(clip, target)
    return target


@pytest.fixture
def damaged(clips: Path, tmp_path: Path) -> Path:
    """A folder of a good clip, a broken one and another good one, in this order."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    copied(clips / "red_square.mp4", folder / "1.mp4")
    (folder / "2.mp4").write_bytes((clips / "red_square.mp4").read_bytes()[:500])
    copied(clips / "blue_circle.mp4", folder / "3.mp4")
    return folder


# -- answers ------------------------------------------------------------------------------------------------------


def test_a_pipe_gets_one_json_object_a_video_with_the_fields_of_the_design(clips: Path, labels: Path) -> None:
    ran = classify(clips, "-l", labels)

    assert (ran.exit_code, ran.stderr) == (ExitCode.DONE, "")
    assert [list(record) for record in ran.records] == [FIELDS] * 3
    assert [list(best) for best in ran.records[0]["top"]] == [["label", "score", "cosine", "match"]] * 3  # type: ignore[attr-defined]
    assert [list(seen) for seen in ran.records[0]["attributes"]] == [["phrase", "cosine"]] * 5  # type: ignore[attr-defined]


def test_every_clip_gets_the_label_of_what_it_shows(clips: Path, labels: Path) -> None:
    ran = classify(clips, "-l", labels)

    assert {(Path(str(r["path"])).stem, str(r["label"]).replace(" ", "_")) for r in ran.records} == {
        (stem, stem) for stem in ("blue_circle", "green_cross", "red_square")
    }
    assert [record["duration_s"] for record in ran.records] == [2.0] * 3


@pytest.mark.parametrize(("limit", "releases"), [(classify_task.LARGE_TEXT_TOWER, False), (1000, True)])
def test_a_large_text_tower_is_freed(
    limit: int, releases: bool, clips: Path, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    towers = []
    monkeypatch.setattr(classify_task, "LARGE_TEXT_TOWER", limit)
    monkeypatch.setattr(TextTower, "release", lambda tower: towers.append(tower.parameters))

    assert classify(clips / "red_square.mp4", "-l", labels).exit_code == ExitCode.DONE

    assert len(towers) == int(releases)


def test_labels_may_stand_on_the_command_line(clips: Path) -> None:
    ran = classify(clips / "red_square.mp4", "-L", "blue circle, red square")

    assert ran.records[0]["label"] == "red square"


def test_labels_of_several_flags_are_joined(clips: Path) -> None:
    (record,) = classify(clips / "red_square.mp4", "-L", "blue circle, red square", "-L", "green cross").records

    assert {of["label"] for of in record["top"]} == {"blue circle", "red square", "green cross"}  # type: ignore[attr-defined]


def test_all_formats_hold_the_same_answers(damaged: Path, labels: Path) -> None:
    jsonl, array, commas, tabs = (classify(damaged, "-l", labels, "-f", f) for f in ("jsonl", "json", "csv", "tsv"))

    records = jsonl.records
    as_texts = [(r["path"], r["status"], str(r.get("label", "")), str(r.get("score", ""))) for r in records]
    rows = [list(csv.DictReader(io.StringIO(commas.stdout)))]
    rows += [list(csv.DictReader(io.StringIO(tabs.stdout), delimiter="\t", quoting=csv.QUOTE_NONE))]
    assert json.loads(array.stdout) == records
    assert [[(r["path"], r["status"], r["label"], r["score"]) for r in of] for of in rows] == [as_texts] * 2


def test_a_table_into_a_pipe_has_no_colour(clips: Path, labels: Path) -> None:
    ran = classify(clips, "-l", labels, "-f", "table")

    assert "red square" in ran.stdout
    assert "\x1b" not in ran.stdout


def test_explained_answers_say_which_frames_decided(clips: Path, labels: Path) -> None:
    (record,) = classify(clips / "red_square.mp4", "-l", labels, "--explain", "--frames", "4").records

    assert list(record) == [*FIELDS, "times_s", "positions", "saliency", "spotting"]
    assert record["positions"] == [0, 4, 8, 12]
    assert record["times_s"] == [0.0, 0.5, 1.0, 1.5]  # 16 frames at 8 a second, in four segments
    assert sum(record["saliency"]) == pytest.approx(1, abs=1e-5)  # type: ignore[call-overload]


def test_top_limits_the_labels(clips: Path, labels: Path) -> None:
    (record,) = classify(clips / "red_square.mp4", "-l", labels, "-k", "2").records

    assert len(record["top"]) == 2  # type: ignore[arg-type]


def test_a_config_file_says_how_and_flags_say_otherwise(clips: Path, labels: Path, tmp_path: Path) -> None:
    config = tmp_path / "bike.yaml"
    config.write_text("model: tiny\nframes: 4\ntop: 1\n")

    (record,) = bike("classify", clips / "red_square.mp4", "-l", labels, "--config", config, "--top", "2").records

    assert (record["model"], record["frames"], len(record["top"])) == ("tiny", 4, 2)  # type: ignore[arg-type]


def test_a_variable_that_sets_nothing_is_warned_of_once(
    clips: Path, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIKE_FRAMEZ", "4")
    monkeypatch.setenv("BIKE_EPOCHS", "4")  # another command has it

    loud, quiet = (classify(clips / "red_square.mp4", "-l", labels, *flags) for flags in ((), ("-q",)))

    assert loud.stderr == (
        "warning: environment: no setting is named BIKE_FRAMEZ (nearest: BIKE_FRAMES); correct or unset it\n"
    )
    assert (quiet.stderr, quiet.exit_code) == ("", ExitCode.DONE)


def test_a_terminal_gets_a_table_and_progress(clips: Path, labels: Path) -> None:
    ran = bike_on_terminal("classify", "-m", "tiny", clips, "-l", labels)

    assert ran.exit_code == ExitCode.DONE
    assert "Video" in ran.stdout
    assert "loading tiny" in ran.stderr


def test_quiet_shows_the_table_alone(clips: Path, labels: Path) -> None:
    ran = bike_on_terminal("classify", "-m", "tiny", clips, "-l", labels, "-q")

    assert "Video" in ran.stdout
    assert ran.stderr == ""


# -- failures -----------------------------------------------------------------------------------------------------


def test_a_failure_is_a_record_in_its_place_and_an_exit_code(damaged: Path, labels: Path) -> None:
    ran = classify(damaged, "-l", labels)

    assert ran.exit_code == ExitCode.SOME_FAILED == 3
    assert [record["status"] for record in ran.records] == ["ok", "error", "ok"]
    failed = ran.records[1]
    assert list(failed) == ["path", "status", "error"]
    assert list(failed["error"]) == ["type", "message"]  # type: ignore[call-overload]
    assert (failed["path"], failed["error"]["type"]) == (str(damaged / "2.mp4"), "damaged")  # type: ignore[index]


def test_all_failed_has_its_own_exit_code(damaged: Path, labels: Path) -> None:
    ran = classify(damaged / "2.mp4", damaged / "none.mp4", "-l", labels)

    assert ran.exit_code == ExitCode.ALL_FAILED == 4
    assert [record["error"]["type"] for record in ran.records] == ["damaged", "missing"]  # type: ignore[index]


def test_no_input_at_all_counts_as_all_failed(labels: Path) -> None:
    ran = classify("-", "-l", labels)

    assert (ran.exit_code, ran.stdout) == (ExitCode.ALL_FAILED, "")


def test_a_label_that_was_cut_is_a_warning_unless_quiet(clips: Path) -> None:
    given = (clips / "red_square.mp4", "-L", f"blue circle, red square {'very ' * 100}")

    stderr_of, quiet = classify(*given), classify(*given, "-q")

    assert stderr_of.stderr.startswith("warning: label 'red square very")
    assert stderr_of.stderr.count("\n") == 1
    assert quiet.stderr == ""
    assert quiet.stdout == stderr_of.stdout


# -- inputs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flags", "end"), [([], b"\n"), (["-0"], b"\0")], ids=["lines", "nul"])
def test_paths_come_on_stdin(clips: Path, labels: Path, flags: list[str], end: bytes) -> None:
    paths = [str(clips / "red_square.mp4"), str(clips / "none.mp4"), str(clips / "blue_circle.mp4")]

    ran = classify(*flags, "-", "-l", labels, stdin=b"".join(path.encode() + end for path in paths))

    assert [record["path"] for record in ran.records] == paths
    assert ran.exit_code == ExitCode.SOME_FAILED


def test_a_wrong_path_on_stdin_fails_alone(clips: Path, labels: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    paths = [tmp_path / "empty", clips / "red_square.mp4"]

    ran = classify("-", "-l", labels, stdin=b"\n".join(map(os.fsencode, paths)))

    assert [record["status"] for record in ran.records] == ["error", "ok"]


def test_paths_come_from_a_file(clips: Path, labels: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list"
    listed.write_text(f"{clips / 'blue_circle.mp4'}\n")

    ran = classify(clips / "red_square.mp4", "--files-from", listed, "-l", labels)

    assert [record["label"] for record in ran.records] == ["red square", "blue circle"]


def test_a_name_may_begin_with_a_dash(
    clips: Path, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(clips / "red_square.mp4", tmp_path / "-k.mp4")
    monkeypatch.chdir(tmp_path)

    ran = classify("-l", labels, "--", "-k.mp4")

    assert [(record["path"], record["label"]) for record in ran.records] == [("-k.mp4", "red square")]


@pytest.mark.parametrize("name", [b"new\nline.mp4", b"quote\"'.mp4", b"caf\xe9.mp4", b"[red]x[_red].mp4", b" .mp4"])
def test_any_name_comes_back_byte_for_byte(clips: Path, labels: Path, tmp_path: Path, name: bytes) -> None:
    path = copied(clips / "red_square.mp4", tmp_path / os.fsdecode(name))

    (record,) = classify(path, "-l", labels).records

    assert os.fsencode(str(record["path"])) == os.fsencode(path)
    assert record["label"] == "red square"


# -- text from outside --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [text for text in HOSTILE if "/" not in text])
def test_a_name_steers_no_terminal(clips: Path, labels: Path, tmp_path: Path, text: str) -> None:
    film, broken = copied(clips / "red_square.mp4", tmp_path / f"{text}.mp4"), tmp_path / f"{text}.none"
    broken.touch()

    ran = bike_on_terminal("classify", "-m", "tiny", "-q", film, broken, "-l", labels, columns=300)

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert steering(ran.stdout) == set()
    assert f"{HOSTILE[text]}.mp4" in ran.stdout


@pytest.mark.parametrize(
    ("text", "safely_written"),
    [("[red]markup[/red]",) * 2, (":smiley:",) * 2, ("a\u202eb", "a\\u202eb"), ("\u2066x", "\\u2066x")],
)
def test_a_label_steers_no_terminal(clips: Path, text: str, safely_written: str) -> None:
    ran = bike_on_terminal("classify", "-m", "tiny", "-q", clips / "red_square.mp4", "-L", f"{text}, blue circle")

    assert steering(ran.stdout) == set()
    assert safely_written in ran.stdout


@pytest.mark.parametrize("text", ["\x1b[31m", "a\u202eb", "[red]x[/red]", "caf\udce9"])
@pytest.mark.parametrize("flag", ["-l", "-o", "-m", "--config", "--files-from", "--template", "--attributes"])
def test_a_message_steers_no_terminal(clips: Path, flag: str, text: str) -> None:
    labels = [] if flag == "-l" else ["-L", "blue circle"]

    ran = bike("classify", clips / "red_square.mp4", "-m", "tiny", *labels, flag, f"/nowhere/{text}")

    assert ran.exit_code in (ExitCode.USAGE, ExitCode.NO_MODEL)
    assert ran.stderr.startswith("error: /nowhere/")
    assert steering(ran.stderr) == set()


# -- wrong use ----------------------------------------------------------------------------------------------------


def stderr_of(ran: Ran) -> str:
    """Return the one line that says what is wrong."""
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1
    assert ran.stderr.startswith("error: ")
    return ran.stderr.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{clip}"], "labels: missing; add -l labels.txt"),
        (["{clip}", "-L", "a", "-l", "{labels}"], "labels: both -l and -L were given; choose one"),
        (["{clip}", "-L", " , "], "-L: contains no label"),
        (["{clip}", "-l", "{empty}"], "{empty}: contains no labels"),
        (["{clip}", "-L", "Red  Square, red square"], "-L, label 2: label 'red square' repeats 'Red Square'"),
        (["{clip}", "-l", "{clip}"], "{clip}: is a video, not a list of labels"),
        (["{labels}", "-L", "a"], "{labels}: is a text file, not a video; a file of labels goes after -l"),
        (["{folder}", "-L", "a"], "{folder}: contains no video ("),
        (["{folder}/*.mp4", "-L", "a"], "{folder}/*.mp4: matches no file"),
        (["-L", "a"], "videos: missing"),
        (["{clip}", "-L", "a", "-o", "{folder}", "-f", "csv"], "{folder}: is a folder; name a file"),
        (
            ["{clip}", "-L", "a", "-o", "s3://a/b", "-f", "csv"],
            "-o s3://a/b: object stores take only folders of Parquet files; name one, such as s3://bucket/answers/,",
        ),
        (["{clip}", "-L", "a", "-o", "{folder}/no/a.csv"], "{folder}/no/a.csv: its folder does not exist"),
        (["{clip}", "-l", "{labels}", "-o", "{labels}"], "{labels}: is read by this command and would be overwritten"),
        (["{clip}", "-L", "a", "-o", "{clip}"], "-o {clip}: is the name of a video or image; choose another"),
        (
            ["{clip}", "-one-pixel.mp4", "-L", "a"],
            "-o ne-pixel.mp4: is the name of a video or image; choose another, such as answers.jsonl; "
            "an input named -one-pixel.mp4 is written ./-one-pixel.mp4",
        ),
        (["{clip}", "-orange.PNG", "-L", "a"], "-o range.PNG: is the name of a video or image; "),
        (["{clip}", "-L", "a", "--crops", "2"], "--crops is 2; give 1 or 3"),
        (["{clip}", "-L", "a", "--config", "{labels}"], "{labels}: "),
        (["-L", "a", "--files-from", "{folder}/no"], "{folder}/no: cannot be read"),
        (["{clip}", "-L", "{labels}"], "-L: {labels} is a file; a file of labels goes after -l"),
        (["{clip}", "-l", "a, b"], "a, b: no such file; -l takes a file of labels, -L the labels"),
        (["https://example.org/a.mp4", "-L", "a"], "https://example.org/a.mp4: bike does not read URLs; download it"),
        (["{clip}", "rtsp://camera/1", "-L", "a"], "rtsp://camera/1: bike does not read streams; record a part first"),
        (["{clip}", "", "-L", "a"], "'': is an empty name; give the path of a video"),
    ],
)
def test_wrong_use_is_reported_before_the_model_is_loaded(
    clips: Path, labels: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.txt").touch()
    places = {"clip": clips / "red_square.mp4", "labels": labels}
    places |= {"folder": tmp_path / "folder", "empty": tmp_path / "empty.txt"}

    ran = bike("classify", *NO_SUCH_MODEL, *(a.format(**places) for a in arguments))

    assert stderr_of(ran).startswith(message.format(**places))
    assert ran.exit_code == ExitCode.USAGE == 2


def test_what_a_search_leaves_out_is_said_once_and_not_where_quiet(clips: Path, labels: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        copied(clips / "red_square.mp4", tmp_path / name / "a.mp4")
        (tmp_path / name / "notes.txt").touch()

    ran = classify(tmp_path / "one", tmp_path / "two", "-l", labels)
    quiet = classify(tmp_path / "one", "-l", labels, "-q")

    assert ran.exit_code == quiet.exit_code == ExitCode.DONE
    notes = tmp_path / "one" / "notes.txt"
    assert ran.stderr == f"warning: left out: 2 files that are not videos (first: {notes}); -v lists them\n"
    assert quiet.stderr == ""


def test_a_url_in_a_list_fails_alone(clips: Path, labels: Path, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"https://example.org/a.mp4\n{clips / 'red_square.mp4'}\n/nowhere/*.mp4\n")

    for given in (["--files-from", tmp_path / "list"], ["-"]):
        ran = classify(*given, "-l", labels, stdin=(tmp_path / "list").read_bytes())

        records = [json.loads(line) for line in ran.stdout.splitlines()]
        assert ran.exit_code == ExitCode.SOME_FAILED
        assert [record["status"] for record in records] == ["error", "ok", "error"]
        assert "bike does not read URLs" in records[0]["error"]["message"]


@pytest.mark.parametrize("nul", [[], ["-0"]])
def test_a_video_on_stdin_is_not_a_list(clips: Path, labels: Path, nul: list[str]) -> None:
    film = clips / "red_square.mp4"

    ran = classify("-", *nul, "-l", labels, stdin=film.read_bytes())
    listed = classify("--files-from", film, *nul, "-l", labels)

    assert (
        stderr_of(ran) == "stdin: is a video, not a list of paths; name the file itself, as in bike classify clip.mp4"
    )
    assert stderr_of(listed).startswith(f"{film}: is a video, not a list of paths; ")
    assert ran.exit_code == listed.exit_code == ExitCode.USAGE


def test_one_label_alone_is_warned_of(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("red square\n")
    warning = (
        "warning: label 'red square': is the only label, so its score is 1.0 whatever a video shows; add labels of"
    )

    for given in (["-L", "red square"], ["-l", tmp_path / "one.txt"]):
        ran = classify(clips / "red_square.mp4", *given)

        assert ran.exit_code == ExitCode.DONE
        assert ran.stderr.startswith(warning)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--frames", "78"], "frames is 78, but the temporal head of tiny has positions for 77"),
        (["--template", "bikes"], "bikes: no such set of templates; the nearest is 'bike'"),
        (["--attributes", "scene"], "scene: no such lexicon; the nearest is 'scenes'"),
        (
            ["--attributes", "off", "--attribute-weight", "0.5"],
            "--attribute-weight 0.5: is not used, as attributes are off; give a lexicon",
        ),
        (["--device", "cuda:99"], "device 'cuda:99': is not on this machine"),
    ],
)
def test_wrong_use_that_the_model_decides_is_reported_too(
    clips: Path, labels: Path, flags: list[str], message: str
) -> None:
    ran = classify(clips, "-l", labels, *flags)

    assert stderr_of(ran).startswith(message)
    assert ran.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("arguments", [["--no-such-flag"], ["--pool", "max"], ["--frames", "many"], ["-k"]])
def test_flags_that_do_not_parse_are_wrong_use(arguments: list[str]) -> None:
    ran = bike("classify", *arguments)

    assert (ran.exit_code, ran.stdout) == (ExitCode.USAGE, "")
    assert ran.stderr != ""


def test_an_unknown_model_names_the_nearest(clips: Path, labels: Path) -> None:
    ran = bike("classify", clips, "-l", labels, "-m", "tinny")

    message = "model 'tinny': is not a short name, ARCH,TAG, file or folder; did you mean tiny or pe-tiny?"
    assert stderr_of(ran).startswith(message)
    assert ran.exit_code == ExitCode.NO_MODEL == 5


def test_offline_a_model_that_is_not_here_names_the_ways_out(
    clips: Path, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    ran = bike("classify", clips, "-l", labels, "--offline")

    error, *details = ran.stderr.splitlines()
    assert error == "error: model 'base': its weights are not on this disk, and --offline forbids downloading them"
    assert all(line.startswith("  ") for line in details)
    assert "bike models pull base --to DIR" in ran.stderr
    assert (ran.exit_code, ran.stdout) == (ExitCode.NO_MODEL, "")


# -- a file -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv"])
def test_a_file_holds_what_a_pipe_would(clips: Path, labels: Path, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"answers.{suffix}"

    ran, piped = classify(clips, "-l", labels, "-o", output), classify(clips, "-l", labels, "-f", suffix)

    assert (ran.exit_code, ran.stdout) == (ExitCode.DONE, "")
    assert output.read_text() == piped.stdout


def test_a_run_that_cannot_start_leaves_no_file(clips: Path, labels: Path, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())

    bike("classify", clips, "-l", labels, *NO_SUCH_MODEL, "-o", tmp_path / "answers.jsonl")

    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv"])
def test_an_interrupt_leaves_a_valid_file(clips: Path, labels: Path, tmp_path: Path, suffix: str) -> None:
    first, output = os.fsencode(clips / "red_square.mp4"), tmp_path / f"answers.{suffix}"

    stdin = Interrupted(first, record_in=tmp_path / f".answers.{suffix}.part")
    ran = bike_on_terminal("classify", "-m", "tiny", "-", "-l", labels, "-o", output, "-q", stdin=stdin)

    assert ran.exit_code == ExitCode.INTERRUPTED == 130
    assert output.read_text() == classify(clips / "red_square.mp4", "-l", labels, "-f", suffix).stdout


# -- without a run ------------------------------------------------------------------------------------------------


def test_the_version_is_the_packages() -> None:
    assert bike("--version").stdout == f"bike {bike_cli.__version__}\n"


def test_a_dumped_config_needs_no_video_and_no_label() -> None:
    ran = bike("classify", "--frames", "4", "--dump-config")

    assert ran.exit_code == ExitCode.DONE
    assert "frames: 4\n" in ran.stdout


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_shows_every_flag_with_its_default(flag: str) -> None:
    text = bike("classify", flag).stdout

    assert "--attribute-weight" in text
    assert "[default: base]" in text


# -- pipes, links and strange streams -----------------------------------------------------------------------------


def test_labels_may_come_through_a_pipe(clips: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "labels"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("red square\nblue circle\n",))
    writer.start()

    (record,) = classify(clips / "red_square.mp4", "-l", pipe).records

    writer.join()
    assert record["label"] == "red square"


def test_a_pipe_is_no_video_and_is_not_waited_for(clips: Path, labels: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    failed, answered = classify(tmp_path / "pipe", clips / "red_square.mp4", "-l", labels).records

    assert (failed["status"], answered["status"]) == ("error", "ok")


def test_stdin_and_a_list_of_files_add_up(clips: Path, labels: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"{clips / 'blue_circle.mp4'}\n")

    done = classify("-", "--files-from", listed, "-l", labels, stdin=os.fsencode(clips / "red_square.mp4") + b"\n")

    names = ("red_square.mp4", "blue_circle.mp4")
    assert [record["path"] for record in done.records] == [str(clips / name) for name in names]


def test_an_answer_never_replaces_a_video_of_a_searched_folder(clips: Path, labels: Path, tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes((clips / "red_square.mp4").read_bytes())

    done = classify(tmp_path, "-l", labels, "-o", video)

    assert done.exit_code == 2
    assert f"-o {video}: is the name of a video or image; choose another, such as answers.jsonl" in done.stderr


def test_a_link_to_the_output_stays_a_link(clips: Path, labels: Path, tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "target.csv")

    classify(clips / "red_square.mp4", "-l", labels, "-o", tmp_path / "link.csv")

    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "target.csv").read_text().startswith("path,status")


def test_a_stream_that_nothing_decodes_fails_alone(clips: Path, labels: Path, tmp_path: Path) -> None:
    strange = tmp_path / "strange.mp4"
    strange.write_bytes((clips / "red_square.mp4").read_bytes().replace(b"avc1", b"zzzz"))

    failed, answered = classify(strange, clips / "red_square.mp4", "-l", labels).records

    assert (failed["status"], answered["status"]) == ("error", "ok")


# -- names of files and formats -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-o", "a.xlsx"], "-o a.xlsx: .xlsx is not an output format; end the name in .jsonl, .ndjson, .json, .csv or"),
        (["-o", "b.md"], "-o b.md: .md is not an output format; "),
        (["-o", "c.HTML"], "-o c.HTML: .html is not an output format; "),
        (["-o", "b.json", "-f", "csv"], "-o b.json: ends in .json, but --format is csv; change one of them"),
        (["-o", "b.csv", "-f", "table"], "-o b.csv: ends in .csv, but --format is table; change one of them"),
        (["-o", "b.TSV", "-f", "jsonl", "--resume"], "-o b.TSV: ends in .tsv, but --format is jsonl; "),
    ],
)
def test_a_name_that_promises_another_format_is_refused_before_any_work(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)

    ran = bike("classify", *NO_SUCH_MODEL, clips, "-L", "red square,blue circle", *flags)

    assert stderr_of(ran).startswith(message)
    assert ran.exit_code == ExitCode.USAGE
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "first"),
    [
        (["-o", "answers"], "{"),
        (["-o", "answers.2026-01-31"], "{"),
        (["-o", "a.ndjson"], "{"),
        (["-o", "a.txt", "-f", "csv"], "p"),
        (["-o", "a.csv", "-f", "csv"], "p"),
    ],
)
def test_a_name_that_promises_nothing_else_is_allowed(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], first: str
) -> None:
    monkeypatch.chdir(tmp_path)

    ran = classify(clips / "red_square.mp4", "-L", "red square,blue circle", "-q", *flags)

    assert (ran.exit_code, ran.stderr) == (ExitCode.DONE, "")
    assert Path(flags[1]).read_text()[0] == first


def test_a_pipe_may_have_any_name(clips: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "answers.fifo"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True)

    ran = classify(clips / "red_square.mp4", "-L", "red square,blue circle", "-o", pipe)

    assert json.loads(reader.communicate(timeout=30)[0])["label"] == "red square"
    assert ran.exit_code == ExitCode.DONE


@pytest.mark.parametrize("format_", ["csv", "tsv"])
def test_rows_keep_the_explanation(clips: Path, format_: str) -> None:
    given = (clips / "red_square.mp4", clips / "no.mp4", "-L", "red square,blue circle", "--explain")
    rows = classify(*given, "-f", format_).stdout.splitlines()
    record = classify(*given).records[0]

    answered, failed = csv.DictReader(rows, delimiter="," if format_ == "csv" else "\t")

    for name in ("times_s", "positions", "saliency"):
        assert [float(number) for number in answered[name].split(";")] == record[name]
        assert failed[name] == ""


@pytest.mark.parametrize(
    ("given", "code", "kinds"),
    [
        (["no.mp4"], ExitCode.ALL_FAILED, ["missing"]),
        (["no.mp4", "{clip}"], ExitCode.SOME_FAILED, ["missing"]),
        (["{labels}", "{clip}"], ExitCode.SOME_FAILED, ["not_video"]),
        (["{labels}"], ExitCode.USAGE, []),
        (["no/*.mp4"], ExitCode.USAGE, []),
    ],
)
def test_inputs_without_a_video_have_the_exit_codes_of_the_docs(
    clips: Path, labels: Path, given: list[str], code: ExitCode, kinds: list[str]
) -> None:
    places = {"clip": clips / "red_square.mp4", "labels": labels}

    ran = classify(*(name.format(**places) for name in given), "-l", labels)

    assert ran.exit_code == code
    assert [record["error"]["type"] for record in ran.records if record["status"] == "error"] == kinds  # type: ignore[index]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["-L", "red", "square,", "blue", "circle"],
            "-L: 'square,' is not a file, and 'square,' ends with a comma; quote the labels, such as -L 'running, ",
        ),
        (["-L", "red,", "blue"], "-L: 'blue' is not a file, and 'red,' ends with a comma; quote the labels"),
    ],
)
def test_labels_without_quotes_are_explained(clips: Path, given: list[str], message: str) -> None:
    ran = classify(clips / "red_square.mp4", *given)

    assert stderr_of(ran).startswith(message)
    assert (ran.exit_code, ran.stdout) == (ExitCode.USAGE, "")


def test_a_comma_at_the_end_of_quoted_labels_is_no_mistake(clips: Path) -> None:
    assert classify(clips / "red_square.mp4", "-L", "red square, blue circle,").exit_code == ExitCode.DONE


def test_a_classifier_that_is_given_as_a_model_is_explained(clips: Path, tmp_path: Path) -> None:
    classifier = tmp_path / "mine.bike"
    classifier.touch()

    ran = bike("classify", clips / "red_square.mp4", "-m", classifier)

    assert ran.stderr == f"error: {classifier}: is a classifier, not a model; give it with --classifier\n"


def test_an_output_in_a_folder_that_does_not_exist_is_explained(clips: Path, labels: Path, tmp_path: Path) -> None:
    ran = classify(clips, "-l", labels, "-o", tmp_path / "none" / "a.jsonl")

    assert stderr_of(ran) == f"{tmp_path}/none/a.jsonl: its folder does not exist; create it, or choose another"
