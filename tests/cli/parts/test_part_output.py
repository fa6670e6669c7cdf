"""`bike classify -o DIR/`: a folder of Parquet files that any number of runs and shards add to."""

import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
from invoke import BIKE, ONE_THREAD, bike
from part_runs import classify, lines, records

from bike_cli.cli.videos import sources
from bike_cli.data.parts import writer
from bike_cli.data.shards import Shard
from bike_cli.errors import ExitCode

pq = pytest.importorskip("pyarrow.parquet")

pytestmark = pytest.mark.usefixtures("one_store_for_all")
WITHOUT = Path(__file__).parents[2] / "without"


def done(folder: Path, name: str = "_done.json") -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / name).read_text())
    return found


def test_the_records_are_those_of_json_lines(videos: Path, folder: Path) -> None:
    ran = classify("--files-from", "list.txt")

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert ran.stdout == ""
    assert "6 videos: 4 ok, 2 failed" in ran.stderr
    assert "written to out/" in ran.stderr
    assert records(folder) == lines("--files-from", "list.txt")
    assert len(records(folder)) == 6
    found = done(folder)
    assert (found["videos"], found["ok"], found["exit_code"]) == (6, 4, ExitCode.SOME_FAILED)
    assert found["failed"] == {"missing": 1, "not_video": 1}
    assert {file.name[:5] for file in folder.iterdir()} == {"_run.", "_done", "part-"}


def test_a_second_run_does_nothing(videos: Path, folder: Path) -> None:
    classify("--files-from", "list.txt")
    before = {file.name: file.stat().st_mtime_ns for file in folder.glob("part-*")}

    ran = classify("--files-from", "list.txt", "--resume")

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert "nothing left to do, 6 records exist" in ran.stderr
    assert {file.name: file.stat().st_mtime_ns for file in folder.glob("part-*")} == before
    assert done(folder)["videos"] == 6


def test_a_run_adds_the_videos_that_are_new(videos: Path, folder: Path) -> None:
    classify(videos / "red_square.mp4")
    classify(videos)

    assert records(folder) == lines(videos)


def test_a_list_that_is_named_twice_has_two_records_of_each_video(
    videos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PART_VIDEOS", 3)
    Path("twice.txt").write_text("clips/red_square.mp4\nclips/missing.mp4\nclips/blue_circle.mp4\n" * 2)

    classify("--files-from", "twice.txt")

    assert records(folder) == lines("--files-from", "twice.txt")
    assert len(records(folder)) == 6
    assert "nothing left to do, 6 records exist" in classify("--files-from", "twice.txt").stderr


def test_files_that_have_a_record_are_not_looked_for(
    videos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "LISTED", 1)  # found before it is known which records exist
    classify("--files-from", "list.txt")
    find, looked_for = sources.find_videos, []
    monkeypatch.setattr(sources, "find_videos", lambda name, *rest: (looked_for.append(name), find(name, *rest))[1])

    ran = classify("--files-from", "list.txt")

    assert "nothing left to do, 6 records exist" in ran.stderr
    assert looked_for == ["clips/red_square.mp4", "clips/blue_circle.mp4"]
    Path("more.txt").write_text(Path("list.txt").read_text() + "clips/green_cross.mp4\n")  # a second time
    classify("--files-from", "more.txt")
    assert records(folder) == lines("--files-from", "more.txt")


def test_shards_write_to_one_folder(videos: Path, folder: Path) -> None:
    for i in (1, 2, 3):
        classify("--files-from", "list.txt", "--shard", f"{i}/3")

    assert records(folder) == lines("--files-from", "list.txt")
    counts = [done(folder, f"_done-{i}-of-3.json")["videos"] for i in (1, 2, 3)]
    assert sum(map(int, map(str, counts))) == 6


@pytest.mark.parametrize(("given", "left"), [(["-"], {"_run.json"}), (["--files-from", "empty.txt"], set())])
def test_a_run_without_videos_says_nothing_of_being_done(folder: Path, given: list[str], left: set[str]) -> None:
    Path("empty.txt").touch()

    ran = bike("classify", *given, "-m", "tiny", "-L", "a,b", "-o", "out/")

    assert ran.exit_code == ExitCode.ALL_FAILED
    assert {file.name for file in folder.iterdir()} == left


def test_a_shard_without_videos_is_done(videos: Path, folder: Path) -> None:
    empty = next(i for i in range(1, 17) if not Shard(i, 16).holds("clips/red_square.mp4"))

    ran = classify(videos / "red_square.mp4", "--shard", f"{empty}/16")

    assert ran.exit_code == ExitCode.DONE
    assert done(folder, f"_done-{empty}-of-16.json")["videos"] == 0
    classify(videos)
    assert records(folder) == lines(videos)


def done_files(folder: Path) -> set[str]:
    return {file.name.removeprefix("_done").removesuffix(".json") for file in folder.glob("_done*")}


def test_new_records_make_what_was_said_of_the_same_videos_out_of_date(videos: Path, folder: Path) -> None:
    names = ["clips/red_square.mp4", *(f"clips/missing {i}.mp4" for i in range(9))]
    first = next(i for i in (1, 2) if Shard(i, 2).holds(names[0]))
    classify(names[0])
    for i in range(1, 5):
        classify(names[0], "--shard", f"{i}/4")  # adds nothing
    assert done_files(folder) == {"", "-1-of-4", "-2-of-4", "-3-of-4", "-4-of-4"}

    new = next(name for name in names[1:] if not Shard(first, 2).holds(name))
    classify(names[0], new, "--shard", f"{3 - first}/2")

    assert done_files(folder) == {f"-{3 - first}-of-2", *(f"-{i}-of-4" for i in range(1, 5) if i % 2 == first % 2)}
    classify(*names)
    assert done_files(folder) == {""}
    assert done(folder)["videos"] == 10


def test_another_number_of_shards_completes_a_folder(videos: Path, folder: Path) -> None:
    classify("--files-from", "list.txt", "--shard", "1/3")
    for i in (1, 2):
        classify("--files-from", "list.txt", "--shard", f"{i}/2")

    assert records(folder) == lines("--files-from", "list.txt")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-L", "another"], r"out/: was made with other labels .*: 1 label is new \('another'\); use those"),
        (["--frames", "4"], "which change scores: --frames was 8 and is 4; use those of the earlier run"),
        (["--frames", "4", "--crops", "3", "--pool", "mean", "--template", "a {}"], ", 1 more; use those"),
        (["--scores", "sigmoid"], "--scores was not given and is sigmoid; "),
        (["--none", "sky,sea", "--reject", "0.2"], "--reject was not given and is 0.2, --none was .* and is sea, sky"),
        (["--top", "1"], "has 3 labels, this run 1; set --top"),
        (["--precision", "bf16"], "--precision was auto and is bf16"),
    ],
)
def test_other_settings_are_refused(videos: Path, folder: Path, flags: list[str], message: str) -> None:
    import re

    classify(videos / "red_square.mp4")
    before = records(folder)

    ran = classify(videos, *flags)

    assert ran.exit_code == ExitCode.USAGE
    assert re.search(message, ran.stderr)
    assert records(folder) == before


def test_other_settings_are_refused_where_all_videos_failed(videos: Path, folder: Path) -> None:
    Path("failed.txt").write_text("clips/missing.mp4")
    classify("--files-from", "failed.txt")

    ran = classify(videos, "--frames", "4")

    assert ran.exit_code == ExitCode.USAGE
    assert (
        "out/: was made with other labels or settings, which change scores: --frames was 8 and is 4; use" in ran.stderr
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("red square,green cross", "1 label is missing ('blue circle'); use those"),
        (
            "a,b,c,d,blue circle",
            "2 labels are missing ('green cross', 'red square'), 4 labels are new ('a', 'b', 'c', …);",
        ),
    ],
)
def test_the_labels_that_differ_are_named(videos: Path, folder: Path, labels: str, message: str) -> None:
    classify(videos / "red_square.mp4")

    ran = bike("classify", videos, "-m", "tiny", "-o", "out/", "-L", labels)

    assert ran.exit_code == ExitCode.USAGE
    assert message in ran.stderr


def test_spot_names_the_settings_that_differ(videos: Path, folder: Path) -> None:
    spot = ("spot", videos / "red_square.mp4", "-m", "tiny", "-L", "red square", "-o", "out/")
    bike(*spot, "--none", "sky")

    ran = bike(*spot, "--top", "1", "--none", "sea")

    assert ran.exit_code == ExitCode.USAGE
    assert "--top was not given and is 1, --none was sky and is sea; use those" in ran.stderr


def test_a_folder_that_does_not_say_its_settings_is_refused(videos: Path, folder: Path) -> None:
    classify(videos / "red_square.mp4")
    facts = json.loads((folder / "_run.json").read_text())
    (folder / "_run.json").write_text(json.dumps({k: v for k, v in facts.items() if k not in ("labels", "options")}))

    ran = classify(videos, "--frames", "4")

    assert ran.exit_code == ExitCode.USAGE
    assert "out/: was made with other labels or settings, which change scores; use those" in ran.stderr


def test_another_precision_is_refused(videos: Path, folder: Path) -> None:
    classify(videos / "red_square.mp4")
    facts = json.loads((folder / "_run.json").read_text())
    (folder / "_run.json").write_text(json.dumps({**facts, "precision": "bf16"}))

    ran = classify(videos)

    assert ran.exit_code == ExitCode.USAGE
    assert "its answers were computed in bf16, and this run would compute in fp32; give --precision bf16" in ran.stderr


def test_the_output_of_another_command_is_refused(videos: Path, folder: Path) -> None:
    classify(videos / "red_square.mp4")

    ran = bike("spot", videos, "-m", "tiny", "-L", "red square", "-o", "out/")

    assert ran.exit_code == ExitCode.USAGE
    assert "out/: contains the output of bike classify; choose another -o" in ran.stderr


def test_spot_writes_folders_too(videos: Path, folder: Path) -> None:
    spot = ("spot", videos, "-m", "tiny", "-L", "red square,blue circle")
    bike(*spot, "-o", "whole.jsonl")

    for i in (1, 2):
        bike(*spot, "-o", "out/", "--shard", f"{i}/2")

    assert records(folder) == sorted(Path("whole.jsonl").read_text().splitlines())


def test_a_page_shows_all_videos_of_a_folder(videos: Path, folder: Path) -> None:
    spot = ("spot", videos, "-m", "tiny", "-L", "red square", "-o", "out/", "--report")
    first, second = bike(*spot, "first.html"), bike(*spot, "second.html")

    assert (first.exit_code, second.exit_code) == (ExitCode.SOME_FAILED, ExitCode.USAGE)
    assert "--report: shows the videos of one run, and out/ contains 4 records of earlier runs; choose" in second.stderr
    assert (Path("first.html").exists(), Path("second.html").exists()) == (True, False)


def fail_internally(folder: Path) -> str:
    """Turn the first record of a folder's only part into an internal failure; return the name of its video."""
    import pyarrow as pa

    (part,) = folder.glob("part-*")
    table = pq.read_table(part)
    rows = table.to_pylist()
    name = str(rows[0]["path"])
    failed = {"path": name, "status": "error", "error": {"type": "internal", "message": f"{name}: bug"}}
    rows[0] |= {"status": "error", "error": "internal", "record": json.dumps(failed)}
    part.unlink()
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), folder / part.name.replace(".", "-retry."))
    return name


def test_failures_that_are_not_the_videos_fault_are_tried_again(videos: Path, folder: Path) -> None:
    classify(videos)
    fail_internally(folder)

    ran = classify(videos)

    assert "1 video: 1 ok" in ran.stderr
    assert records(folder) == lines(videos)


def test_the_failure_of_a_video_that_a_run_does_not_name_stays(videos: Path, folder: Path) -> None:
    classify(videos / "red_square.mp4")
    name = fail_internally(folder)

    classify(videos / "blue_circle.mp4")

    paths = [json.loads(record)["path"] for record in records(folder)]
    assert sorted(paths) == ["clips/blue_circle.mp4", name]
    assert done(folder)["failed"] == {"internal": 1}
    assert done(folder)["exit_code"] == ExitCode.SOME_FAILED
    classify(videos)
    assert records(folder) == lines(videos)


def test_strict_keeps_what_is_known(videos: Path, folder: Path) -> None:
    ran = classify("--files-from", "list.txt", "--strict")

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert len(records(folder)) == 3  # up to the one that is missing
    assert not (folder / "_done.json").exists()

    classify("--files-from", "list.txt")

    assert records(folder) == lines("--files-from", "list.txt")


def test_an_error_in_the_middle_keeps_what_is_known(
    videos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PART_VIDEOS", 2)
    classify("--files-from", "list.txt")

    assert len(list(folder.glob("part-*"))) == 3
    assert records(folder) == lines("--files-from", "list.txt")


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            "clips/",
            "clips/: contains other files (first blue_circle.mp4), and no _run.json of an earlier run; name a new",
        ),
        ("list.txt/", "list.txt/: is a file, and Parquet is written to a folder; choose another name"),
        ("answers.parquet", "-o answers.parquet: Parquet is written to a folder; name one, such as -o answers/"),
        ("s3://bucket/a.jsonl", "-o s3://bucket/a.jsonl: is named like a file, and Parquet is written to a folder"),
        ("", "-o '': is not the name of a folder; name one, such as -o answers/"),
        ("ftp://host/out/", "ftp://host/out/: is not a place that bike can write to; give a folder"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(videos: Path, output: str, message: str) -> None:
    ran = classify(videos, output=output)

    assert ran.exit_code == ExitCode.USAGE
    assert message in ran.stderr


@pytest.mark.parametrize("content", ["", "[]", '{"settings"'])
def test_a_damaged_run_file_is_named(videos: Path, folder: Path, content: str) -> None:
    folder.mkdir()
    (folder / "_run.json").write_text(content)

    ran = classify(videos)

    assert ran.exit_code == ExitCode.USAGE
    assert "out/_run.json: is not" in ran.stderr
    assert "restore it, or name a new folder" in ran.stderr


def test_an_existing_folder_needs_no_slash(videos: Path, folder: Path) -> None:
    folder.mkdir()

    classify(videos, output="out")

    assert records(folder) == lines(videos)


def test_the_format_needs_no_slash(videos: Path, folder: Path) -> None:
    classify(videos, "-f", "parquet", output="new")

    assert records(Path("new")) == lines(videos)


def test_parquet_on_stdout_is_refused(videos: Path) -> None:
    ran = bike("classify", videos, "-m", "tiny", "-L", "a,b", "-f", "parquet")

    assert ran.exit_code == ExitCode.USAGE
    assert ran.stderr == "error: --format parquet: writes a folder; name one, such as -o answers/\n"


def test_eval_reads_folders(videos: Path, folder: Path) -> None:
    truth = {"red_square": "red square", "blue_circle": "red square", "green_cross": "green cross"}
    rows = [f"clips/{name}.mp4,{label}\n" for name, label in truth.items()]
    Path("truth.csv").write_text("".join(["path,label\n", *rows]))
    Path("names.txt").write_text("red square\nblue circle\ngreen cross\n")
    for i in (1, 2):
        classify(videos, "--shard", f"{i}/2")
    classify(videos, output="whole.jsonl")
    classify(videos / "red_square.mp4", output="first/")
    evaluate = ("eval", "--labels", "truth.csv", "--names", "names.txt")

    ran = bike(*evaluate, "out/", "-o", "parts.json")
    bike(*evaluate, "whole.jsonl", "-o", "whole.json")
    bike(*evaluate, "first", "out", "--merge", "-o", "merged.json")

    assert ran.stderr.count("warning") == 1  # text.mp4 has no label
    (folder / "_run.json").unlink()  # a copy of the Parquet files alone
    bike(*evaluate, "out", "-o", "alone.json")
    assert (
        json.loads(Path("alone.json").read_text())["systems"] == json.loads(Path("parts.json").read_text())["systems"]
    )
    parts, whole, merged = (json.loads(Path(f"{name}.json").read_text()) for name in ("parts", "whole", "merged"))
    assert parts["systems"][0]["metrics"] == whole["systems"][0]["metrics"] == merged["systems"][0]["metrics"]


def test_eval_names_what_to_do_with_embeddings(videos: Path, folder: Path) -> None:
    bike("embed", videos, "-m", "tiny", "-o", "out/")
    Path("truth.csv").write_text("path,label\nclips/red_square.mp4,red square\n")

    ran = bike("eval", "out/", "--labels", "truth.csv")

    assert ran.exit_code == ExitCode.USAGE
    assert (
        "out/: contains embeddings, not answers; classify them with bike classify --from-embeddings out/" in ran.stderr
    )


@pytest.mark.parametrize(("command", "answers"), [("classify", "top"), ("spot", "segments")])
def test_eval_names_the_part_and_the_row_of_a_bad_record(
    videos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, answers: str
) -> None:
    import pyarrow as pa

    monkeypatch.setattr(writer, "PART_VIDEOS", 2)
    bike(command, videos, "-m", "tiny", "-L", "red square,blue circle,green cross", "-o", "out/")
    parts = sorted(folder.glob("part-*"))
    table = pq.read_table(parts[1])
    rows = table.to_pylist()
    assert [pq.read_metadata(part).num_rows for part in parts] == [2, 2]
    record = json.loads(rows[1]["record"])
    rows[1]["record"] = json.dumps({"path": record["path"], "status": "ok", answers: [{"label": 7}]})
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), parts[1])
    Path("truth.csv").write_text("path,label\nclips/red_square.mp4,red square\nclips/text.mp4,blue circle\n")
    Path("truth.json").write_text(
        json.dumps({"database": {"red_square": {"annotations": [{"label": "red square", "segment": [0, 1]}]}}})
    )
    truth = ["--labels", "truth.csv"] if command == "classify" else ["--labels", "truth.json"]

    ran = bike("eval", "out/", *truth, *([] if command == "classify" else ["--protocol", "detection"]))

    assert ran.exit_code == ExitCode.USAGE
    assert f"out/{parts[1].name}, row 2: " in ran.stderr


@pytest.mark.slow
def test_without_pyarrow_the_message_names_the_package(videos: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(WITHOUT), *filter(None, sys.path)])}
    arguments = ["classify", "clips", "-m", "tiny", "-L", "a,b", "-o", "out/"]

    ran = subprocess.run(
        [sys.executable, "-m", "bike_cli", *arguments],
        env={**environment, "WITHOUT": "pyarrow"},
        capture_output=True,
        text=True,
    )

    assert ran.returncode == ExitCode.USAGE
    assert ran.stderr == (
        "error: out/: a folder of Parquet files needs pyarrow, which is not installed; pip install "
        "'bike-cli[parquet]', or name an ordinary file\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_is_completed_by_the_next(videos: Path, folder: Path, ended_by: signal.Signals) -> None:
    for i in range(40):
        shutil.copy(videos / "red_square.mp4", videos / f"{i}.mp4")
        with (videos / f"{i}.mp4").open("ab") as file:
            file.write(b"\0\0\0\x09free" + bytes([i]))
    flags = ("-m", "tiny", "-L", "red square,blue circle,green cross", "--no-cache", "--workers", "1", "-vv")
    command = [*BIKE, "classify", str(videos), *flags, "-o", "out/"]
    running = subprocess.Popen(command, env={**os.environ, **ONE_THREAD}, stderr=subprocess.PIPE)
    assert running.stderr is not None
    decoded = (line for line in running.stderr if b"decoded in" in line)
    assert len(list(islice(decoded, 8))) == 8
    running.send_signal(ended_by)
    _, stderr = running.communicate(timeout=60)
    if ended_by == signal.SIGINT:
        assert running.returncode == ExitCode.INTERRUPTED
        assert b"written to out/" in stderr
        assert b"the same command continues" in stderr
        assert 0 < len(records(folder)) < 44

    assert classify(videos).exit_code == ExitCode.SOME_FAILED

    assert records(folder) == lines(videos)
    assert {file.name[:5] for file in folder.iterdir()} == {"_run.", "_done", "part-"}
