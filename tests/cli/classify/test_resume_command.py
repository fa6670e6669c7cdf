"""`bike classify --resume`: whatever ended a run, the next one completes it, and no video is done twice."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from invoke import BIKE, ONE_THREAD, Interrupted, Ran, bike, bike_on_terminal
from small_models import write_tiny

from bike_cli.cli.classify import writers
from bike_cli.cli.terminal import output_file
from bike_cli.cli.terminal.output_file import part_of
from bike_cli.data.predictions.objects import as_object
from bike_cli.engine import engine
from bike_cli.errors import ExitCode, UsageError
from bike_cli.records import Failure, Prediction

Record = dict[str, object]


pytestmark = pytest.mark.usefixtures("one_store_for_all")


def classify(*arguments: object, stdin: bytes = b"") -> Ran:
    return bike("classify", "-m", "tiny", *arguments, stdin=stdin)


def read(file: Path) -> list[Record]:
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def as_set(records: list[Record]) -> Counter[str]:
    """Return records without their order; what a second run may round in another way is left out."""
    return Counter(json.dumps([r["path"], r["status"], r.get("label"), r.get("error")]) for r in records)


def write_list(folder: Path, clips: Path) -> Path:
    names = ["red_square", "blue_circle", "missing", "green_cross", "red_square", "blue_circle", "green_cross"]
    file = folder / "list"
    file.write_text("".join(f"{clips / name}.mp4\n" for name in names))
    return file


@pytest.fixture
def listed(clips: Path, tmp_path: Path) -> Path:
    """A list of seven paths: one twice, one missing."""
    return write_list(tmp_path, clips)


@pytest.fixture(scope="module")
def complete(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The complete answers to the list, which are the same for every test."""
    folder = tmp_path_factory.mktemp("complete")
    answers = folder / "answers.jsonl"
    listed = write_list(folder, clips)
    done = classify("--files-from", listed, "-L", "red square,blue circle,green cross", "-o", answers)
    assert done.exit_code == ExitCode.SOME_FAILED
    return answers.read_bytes()


@pytest.fixture
def answers(complete: bytes, tmp_path: Path) -> Path:
    """A file of the complete answers to the list."""
    file = tmp_path / "answers.jsonl"
    file.write_bytes(complete)
    return file


def resume(listed: Path, labels: Path, answers: Path, *flags: object) -> Ran:
    return classify("--files-from", listed, "-l", labels, "-o", answers, "--resume", *flags)


# -- kill -9 ------------------------------------------------------------------------------------------------------


def run_and_kill(command: list[str], files: tuple[Path, Path], *, after: int, delay_s: float) -> bool:
    """Run bike and kill it when there are `after` lines more and a moment has gone; return whether it was alive."""
    before = _lines(files)
    with subprocess.Popen(command, env={**os.environ, **ONE_THREAD}, start_new_session=True) as process:
        ends = time.monotonic() + 60
        while process.poll() is None and _lines(files) < before + after:
            assert time.monotonic() < ends, "no record came"
            time.sleep(0.002)
        time.sleep(delay_s)
        was_alive = process.poll() is None
        process.send_signal(signal.SIGKILL)
    return was_alive


def _lines(files: tuple[Path, Path]) -> int:
    # At the moment at which one becomes the other, neither or both may be there.
    return max(file.read_bytes().count(b"\n") if file.exists() else 0 for file in files)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [2, 10])
def test_a_run_killed_again_and_again_is_completed(clips: Path, labels: Path, tmp_path: Path, kills: int) -> None:
    rng = random.Random(kills)
    names = [*sorted(map(str, clips.iterdir())), str(clips / "missing.mp4")]
    listed, answers = tmp_path / "list", tmp_path / "answers.jsonl"
    listed.write_text("".join(f"{rng.choice(names)}\n" for _ in range(60 * kills)))
    given = [*BIKE, "classify", "-m", "tiny", "-l", str(labels), "--files-from", str(listed), "-o", str(answers)]
    given.append("--no-cache")  # from the cache they would be done before they are killed

    killed = 0
    for i in range(kills):
        resumed = [*given, "--resume"] if i else given  # the first one leaves its hidden file
        files = (answers, part_of(answers))
        killed += run_and_kill(resumed, files, after=rng.randint(1, 15), delay_s=rng.random() / 20)
    ran = resume(listed, labels, answers)

    assert killed == kills
    assert ran.exit_code == ExitCode.SOME_FAILED
    assert as_set(read(answers)) == as_set(classify("-l", labels, "--files-from", listed).records)
    assert not part_of(answers).exists()


@pytest.mark.parametrize("cut", [1, 2, 30, -1])
@pytest.mark.parametrize("end", [b"", b"\n", b"\xff\n", bytes(64)])
def test_a_torn_last_line_is_done_again(listed: Path, labels: Path, answers: Path, cut: int, end: bytes) -> None:
    whole = read(answers)
    *lines, last = answers.read_bytes().splitlines(keepends=True)
    answers.write_bytes(b"".join(lines) + last[:cut] + (end if cut > 0 else b""))

    ran = resume(listed, labels, answers)

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert read(answers) == whole


# -- what is left -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("done", [[], [0], [1, 2], [4], [0, 4], [6], [5, 3, 2]])
def test_what_the_file_holds_is_not_done_again(listed: Path, labels: Path, answers: Path, done: list[int]) -> None:
    whole, lines = read(answers), answers.read_text().splitlines(keepends=True)
    answers.write_text("".join(lines[i] for i in done))

    ran = resume(listed, labels, answers)

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert as_set(read(answers)) == as_set(whole)
    assert answers.read_text().startswith("".join(lines[i] for i in done))


@pytest.mark.parametrize("has_flock", [True, False])
@pytest.mark.parametrize("failed", [[0], [2], [1, 4], [5, 6], [0, 1, 2, 3, 4, 5, 6]])
def test_internal_failures_are_tried_again(
    listed: Path, labels: Path, answers: Path, failed: list[int], has_flock: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_file, "HAS_FLOCK", has_flock)
    whole, lines = read(answers), answers.read_text().splitlines(keepends=True)
    error = {"type": "internal", "message": "a bug"}
    failures = {i: json.dumps({"path": whole[i]["path"], "status": "error", "error": error}) + "\n" for i in failed}
    answers.write_text("".join(failures.get(i, line) for i, line in enumerate(lines)))
    answers.chmod(0o640)

    ran = resume(listed, labels, answers, "-v")

    kept = [line for i, line in enumerate(lines) if i not in failed]
    assert ran.exit_code == ExitCode.SOME_FAILED
    n_retried = "1 internal failure is" if len(failed) == 1 else f"{len(failed)} internal failures are"
    assert f": {n_retried} tried again" in ran.stderr
    assert as_set(read(answers)) == as_set(whole)
    assert answers.read_text().startswith("".join(kept))
    assert answers.stat().st_mode & 0o777 == 0o640
    assert {path.name for path in answers.parent.iterdir()} == {"answers.jsonl", "list", labels.name}


def internal_failure(path: object) -> str:
    error = {"type": "internal", "message": "a bug"}
    return json.dumps({"path": str(path), "status": "error", "error": error}) + "\n"


def test_an_internal_failure_stays_until_its_video_is_done_again(
    listed: Path, labels: Path, answers: Path, clips: Path
) -> None:
    red, blue = clips / "red_square.mp4", clips / "blue_circle.mp4"
    answers.write_text(internal_failure(red) + internal_failure(clips / "green_cross.mp4"))

    ran = classify(blue, "-l", labels, "-o", answers, "--resume")

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert "; 2 existed before" in ran.stderr
    assert [(r["path"], r["status"]) for r in read(answers)] == [
        (str(red), "error"),
        (str(clips / "green_cross.mp4"), "error"),
        (str(blue), "ok"),
    ]

    assert classify(red, blue, "-l", labels, "-o", answers, "--resume").exit_code == ExitCode.SOME_FAILED

    assert [(Path(str(r["path"])).stem, r["status"]) for r in read(answers)] == [
        ("green_cross", "error"),
        ("blue_circle", "ok"),
        ("red_square", "ok"),
    ]
    assert "nothing left to do, 3 records exist" in classify(blue, "-l", labels, "-o", answers, "--resume").stderr


def test_a_failure_that_a_killed_run_has_replaced_is_removed(labels: Path, answers: Path, clips: Path) -> None:
    red, blue = clips / "red_square.mp4", clips / "blue_circle.mp4"
    classify(red, blue, "-l", labels, "-o", answers)
    whole = answers.read_text()
    answers.write_text(internal_failure(blue) + whole)  # it appends before it removes

    ran = classify(red, blue, "-l", labels, "-o", answers, "--resume")

    assert (ran.exit_code, answers.read_text()) == (ExitCode.DONE, whole)


def test_an_interrupt_removes_replaced_failures(clips: Path, labels: Path, answers: Path) -> None:
    video = clips / "red_square.mp4"
    answers.write_text(internal_failure(video).replace("_", "\\u005f"))  # `Interrupted` waits for the plain name
    stdin = Interrupted(os.fsencode(video), record_in=answers)

    ran = bike_on_terminal("classify", "-m", "tiny", "-", "-l", labels, "-o", answers, "--resume", "-q", stdin=stdin)

    assert ran.exit_code == ExitCode.INTERRUPTED
    assert [record["status"] for record in read(answers)] == ["ok"]


@pytest.mark.parametrize("has_flock", [True, False])
def test_removing_failures_keeps_other_runs_out(
    has_flock: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_file, "HAS_FLOCK", has_flock)
    file = tmp_path / "answers.jsonl"
    file.write_bytes(b"first\nsecond\nthird\n")

    with output_file.open_resumed(file) as resumed:
        resumed.keep([(0, 6), (13, 19)])
        assert file.read_bytes() == b"first\nthird\n"
        with pytest.raises(UsageError, match="another run is writing it"), output_file.open_resumed(file):
            pass
        resumed.stream.write("fourth\n")

    assert file.read_bytes() == b"first\nthird\nfourth\n"
    assert [path.name for path in tmp_path.iterdir()] == ["answers.jsonl"]


@pytest.mark.parametrize("is_there", [False, True])
def test_a_first_run_may_say_resume(listed: Path, labels: Path, answers: Path, is_there: bool) -> None:
    whole = answers.read_text()
    answers.unlink()
    if is_there:
        answers.touch()

    ran = resume(listed, labels, answers)

    assert (ran.exit_code, answers.read_text()) == (ExitCode.SOME_FAILED, whole)


def test_paths_that_arrive_are_skipped_where_they_are_done(clips: Path, labels: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    one, two = (os.fsencode(clips / f"{name}.mp4") + b"\0" for name in ("red_square", "blue_circle"))
    classify("-0", "-", "-l", labels, "-o", answers, stdin=one)

    ran = classify("-0", "-", "-l", labels, "-o", answers, "--resume", stdin=two + one + one)

    assert ran.exit_code == ExitCode.DONE
    assert [str(record["path"]).encode() + b"\0" for record in read(answers)] == [one, two, one]


@pytest.mark.parametrize("name", [b"new\nline.mp4", b"caf\xe9.mp4", "a\u202eb日.mp4".encode(), b"quote\"'.mp4"])
def test_any_name_is_known_again(clips: Path, labels: Path, tmp_path: Path, name: bytes) -> None:
    video, answers = tmp_path / os.fsdecode(name), tmp_path / "answers.jsonl"
    video.write_bytes((clips / "red_square.mp4").read_bytes())

    for _ in range(2):
        classify(video, "-l", labels, "-o", answers, "--resume")

    assert len(read(answers)) == 1


def test_nothing_left_is_said_without_loading_a_model(listed: Path, labels: Path, answers: Path) -> None:
    whole = answers.read_bytes()

    ran = bike("classify", "-m", "no-such-model", "--files-from", listed, "-l", labels, "-o", answers, "--resume")

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert ran.stderr == f"{answers}: nothing left to do, 7 records exist\n"
    assert answers.read_bytes() == whole


@pytest.mark.parametrize(
    ("held", "code"), [([2], ExitCode.ALL_FAILED), ([0], ExitCode.DONE), ([0, 2], ExitCode.SOME_FAILED)]
)
def test_the_exit_code_counts_what_was_there(
    clips: Path, labels: Path, answers: Path, held: list[int], code: ExitCode
) -> None:
    lines = answers.read_text().splitlines(keepends=True)
    answers.write_text("".join(lines[i] for i in held))
    again = [str(read(answers)[i]["path"]) for i in range(len(held))]

    assert classify(*again, "-l", labels, "-o", answers, "--resume").exit_code == code


def test_an_interrupt_keeps_what_is_there_and_what_is_new(clips: Path, labels: Path, answers: Path) -> None:
    before, stdin = len(read(answers)), Interrupted(os.fsencode(clips / "../clips2.mp4"), record_in=answers)

    ran = bike_on_terminal("classify", "-m", "tiny", "-", "-l", labels, "-o", answers, "--resume", "-q", stdin=stdin)

    assert ran.exit_code == ExitCode.INTERRUPTED
    assert len(read(answers)) == before + 1


@pytest.mark.parametrize(("name", "names_resume"), [("new.jsonl", True), ("new.csv", False)])
def test_an_interrupt_names_resume_for_files_that_can_be_resumed(
    clips: Path, labels: Path, tmp_path: Path, name: str, names_resume: bool
) -> None:
    output = tmp_path / name
    stdin = Interrupted(os.fsencode(clips / "red_square.mp4"), record_in=part_of(output))

    ran = bike_on_terminal("classify", "-m", "tiny", "-", "-l", labels, "-o", output, stdin=stdin, columns=500)

    assert ran.exit_code == ExitCode.INTERRUPTED
    end = f"written to {output}" + ("; continue with --resume" if names_resume else "")
    assert ran.stderr.splitlines()[-1].endswith(end)


def test_a_bug_keeps_the_records_for_resume(
    listed: Path, labels: Path, answers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read(answers)
    answers.unlink()

    with monkeypatch.context() as patch:
        patch.setattr(writers, "as_object", BreaksDown(after=2))
        with pytest.raises(ZeroDivisionError):
            classify("--files-from", listed, "-l", labels, "-o", answers)
    kept = read(part_of(answers))
    resume(listed, labels, answers)

    assert kept == whole[:2]
    assert read(answers) == whole


class BreaksDown:
    """What makes an object of a record, with a bug."""

    def __init__(self, *, after: int) -> None:
        self.left = after

    def __call__(self, record: Prediction | Failure, settings: str | None = None) -> dict[str, object]:
        self.left -= 1
        return as_object(record, settings) if self.left >= 0 else {"": 1 // 0}


# -- nothing is mixed ---------------------------------------------------------------------------------------------


def result(ran: Ran) -> str:
    assert (ran.exit_code, ran.stdout) == (ExitCode.USAGE, "")
    assert ran.stderr.count("\n") == 1
    return ran.stderr.removeprefix("error: ")


def test_another_model_is_refused(clips: Path, labels: Path, answers: Path) -> None:
    answers.write_text(answers.read_text().replace('"model": "tiny"', '"model": "large"'))

    ran = classify(clips / "red_square.mp4", clips / "x.mp4", "-l", labels, "-o", answers, "--resume")

    assert result(ran).startswith(f"{answers}: contains answers of the model large, and this run uses tiny; use")


def test_other_weights_of_the_same_name_are_refused(listed: Path, clips: Path, labels: Path, tmp_path: Path) -> None:
    answers, first = tmp_path / "answers.jsonl", write_tiny(tmp_path / "first")
    bike("classify", clips / "red_square.mp4", "-l", labels, "-m", first, "-o", answers)
    before = answers.read_bytes()

    ran = resume(listed, labels, answers, "-m", write_tiny(tmp_path / "other", scale=1.5))

    digest = read(answers)[0]["model_digest"]
    assert result(ran).startswith(
        f"{answers}: contains answers of another version of the model mine (its digest was {digest} and is now "
    )
    assert result(ran).rstrip().endswith("restore its weights and settings, or choose another -o")
    assert answers.read_bytes() == before
    copied = shutil.copytree(first, tmp_path / "copy")
    assert resume(listed, labels, answers, "-m", copied).exit_code == ExitCode.SOME_FAILED
    assert {record["model_digest"] for record in read(answers) if record["status"] == "ok"} == {digest}


@pytest.mark.slow
def test_other_weights_of_the_attribute_model_are_refused(
    listed: Path, clips: Path, labels: Path, tmp_path: Path
) -> None:
    answers, flag = tmp_path / "answers.jsonl", ("--attributes", "shapes", "--attribute-model", tmp_path / "seen")
    write_tiny(tmp_path / "seen")
    assert classify(clips / "red_square.mp4", "-l", labels, "-o", answers, *flag).exit_code == ExitCode.DONE
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{8}", str(read(answers)[0]["model_digest"]))
    engine.load.cache_clear()  # type: ignore[attr-defined] # other tests load each model once
    write_tiny(tmp_path / "seen", scale=1.5)

    ran = resume(listed, labels, answers, *flag)

    assert "contains answers of another version of the model tiny" in result(ran)


def test_a_file_without_digests_is_completed_and_they_are_compared_from_then_on(
    listed: Path, labels: Path, answers: Path, tmp_path: Path
) -> None:
    lines = re.sub('"model_digest": "[0-9a-f]{8}", ', "", answers.read_text()).splitlines(True)
    answers.write_text("".join(lines[:-2]))

    done = resume(listed, labels, answers)
    answers.write_bytes(b"".join(answers.read_bytes().splitlines(True)[:-1]))
    other = resume(listed, labels, answers, "-m", write_tiny(tmp_path / "other", scale=1.5, name="tiny"))

    assert done.exit_code == ExitCode.SOME_FAILED, done.stderr
    assert ["model_digest" in record for record in read(answers)] == [False] * 5 + [True]
    assert "contains answers of another version of the model tiny" in result(other)


def test_records_of_two_digests_in_one_file_are_refused(listed: Path, labels: Path, answers: Path) -> None:
    lines = answers.read_text().splitlines(True)
    lines[1] = re.sub('"model_digest": "[0-9a-f]{8}"', '"model_digest": "01234567"', lines[1])
    answers.write_text("".join(lines))

    ran = resume(listed, labels, answers)

    digest = json.loads(lines[0])["model_digest"]
    assert result(ran) == f"{answers}:2: the digest of the model is 01234567, and {digest} above; split the file\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-L", "red square,dog,cat"], "has the label 'blue circle', and this run has cat, dog, red square"),
        (["-l", "{labels}", "-k", "2"], "has 3 labels, this run 2; set --top"),
        (["-l", "{labels}", "--explain"], "has no explanation, unlike this run; remove --explain"),
    ],
)
def test_other_settings_that_show_are_refused(
    clips: Path, labels: Path, answers: Path, flags: list[str], message: str
) -> None:
    before = answers.read_bytes()

    ran = classify(clips, *(flag.format(labels=labels) for flag in flags), "-o", answers, "--resume")

    assert message in result(ran)
    assert answers.read_bytes() == before


@pytest.mark.parametrize("line", [b"{", b"red square", b"[]", b"{}", b'{"path": 1}', b'{"path": "a", "status": "ok"}'])
def test_a_broken_line_in_the_middle_is_named(listed: Path, labels: Path, answers: Path, line: bytes) -> None:
    first, rest = answers.read_bytes().split(b"\n", 1)
    answers.write_bytes(first + b"\n" + line + b"\n" + rest)
    before = answers.read_bytes()

    ran = resume(listed, labels, answers)

    assert result(ran).startswith(f"{answers}:2: is not a record of bike; remove the line, or leave --resume out")
    assert answers.read_bytes() == before


def test_a_file_that_is_no_answer_is_not_cut(clips: Path, labels: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.jsonl"
    notes.write_text("remember the milk")

    ran = classify(clips, "-l", labels, "-o", notes, "--resume")

    assert "notes.jsonl:1: is not a record of bike" in result(ran)
    assert notes.read_text() == "remember the milk"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--resume: needs the file of the earlier run; add -o"),
        (["-o", "a.csv"], "--resume: needs JSON lines, not csv"),
        (["-o", "a.jsonl", "-f", "table"], "--resume: needs JSON lines, not table"),
        (["-o", "/dev/null"], "/dev/null: is not an ordinary file"),
    ],
)
def test_resume_needs_a_file_of_json_lines(clips: Path, labels: Path, flags: list[str], message: str) -> None:
    assert result(classify(clips, "-l", labels, "--resume", *flags)).startswith(message)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--frames", 4), "was made with other labels or settings"),
        (("--attributes", "off"), "was made with other labels or settings"),
        (("--spot", "all"), "was made with other labels or settings"),
        (("--template", "class"), "was made with other labels or settings"),
        (("--precision", "bf16"), "was made with other labels or settings"),
    ],
    ids=lambda value: value[0].strip("-") if isinstance(value, tuple) else "",
)
def test_answers_of_other_settings_are_not_gone_on_with(
    listed: Path, labels: Path, answers: Path, flags: tuple[object, ...], message: str
) -> None:
    before = answers.read_bytes()

    done = resume(listed, labels, answers, *flags)

    assert done.exit_code == ExitCode.USAGE
    assert message in done.stderr
    assert answers.read_bytes() == before


SETTINGS_0_1 = "63b6c65e"  # of the three labels and the defaults, as version 0.1 wrote it, whatever the precision


def test_a_file_of_version_0_1_is_completed_and_its_precision_is_compared_from_then_on(
    listed: Path, labels: Path, answers: Path
) -> None:
    lines = re.sub('"settings": "[0-9a-f]{8}"', f'"settings": "{SETTINGS_0_1}"', answers.read_text()).splitlines(True)
    answers.write_text("".join(lines[:-2]))

    done = resume(listed, labels, answers, "--precision", "bf16")
    again = resume(listed, labels, answers, "--precision", "fp32")

    assert done.exit_code == ExitCode.SOME_FAILED, done.stderr
    marked = [record.get("settings") == SETTINGS_0_1 for record in read(answers)]
    assert marked == [True, True, False, True, True, False, False]  # the third failed; the last two are new
    assert again.exit_code == ExitCode.USAGE
    assert f"{answers}:6: was made with other labels or settings" in again.stderr


def test_answers_over_fewer_labels_are_not_gone_on_with(listed: Path, labels: Path, tmp_path: Path) -> None:
    answers = tmp_path / "best.jsonl"
    resume(listed, labels, answers, "--top", 1)
    labels.write_text(labels.read_text() + "\nnoise stripes\n")

    done = resume(listed, labels, answers, "--top", 1)

    assert done.exit_code == ExitCode.USAGE
    assert "was made with other labels or settings" in done.stderr


def test_what_changes_no_score_may_change(listed: Path, labels: Path, answers: Path) -> None:
    done = resume(listed, labels, answers, "--workers", 1, "--no-cache", "--decode-timeout", 5)

    assert done.exit_code == ExitCode.SOME_FAILED


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk here")
@pytest.mark.parametrize("format_", ["jsonl", "json", "csv"])
def test_a_full_disk_is_reported_in_a_line(clips: Path, labels: Path, format_: str) -> None:
    done = classify(clips / "red_square.mp4", "-l", labels, "-f", format_, "-o", "/dev/full")

    assert done.exit_code == ExitCode.USAGE
    assert "error: cannot write the output (No space left on device); free some space" in done.stderr


def test_no_path_on_stdin_is_reported(labels: Path) -> None:
    done = classify("-", "-l", labels)

    assert done.exit_code == ExitCode.ALL_FAILED
    assert "stdin: contains no path" in done.stderr


@pytest.mark.parametrize("resumes", [True, False])
def test_a_list_may_name_the_file_that_the_answers_go_to(
    clips: Path, labels: Path, tmp_path: Path, resumes: bool
) -> None:
    answers = tmp_path / "answers.jsonl"
    written = [answers] if resumes else [answers, part_of(answers)]
    names = [clips / "red_square.mp4", *written, clips / "blue_circle.mp4"]
    answers.touch()
    listing = "".join(f"{name}\n" for name in names).encode()

    done = classify("-", "-l", labels, "-o", answers, *["--resume"] * resumes, stdin=listing)

    assert [record["path"] for record in read(answers)] == [str(names[0]), str(names[-1])]
    assert done.exit_code == ExitCode.DONE
    assert f"{answers}: is the output of this run, and is left out" in done.stderr


def test_a_closed_stdin_is_reported(labels: Path) -> None:
    done = subprocess.run([*BIKE, "classify", "-", "-l", labels], capture_output=True, preexec_fn=lambda: os.close(0))

    assert done.returncode == ExitCode.USAGE
    assert b"stdin: is closed" in done.stderr


@pytest.mark.parametrize("spelled", ["../clips/red_square.mp4", "./../clips/red_square.mp4", "{clips}/red_square.mp4"])
def test_a_path_that_is_spelled_in_another_way_is_known(
    clips: Path, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelled: str
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "clips").symlink_to(clips)
    monkeypatch.chdir(tmp_path / "here")
    flags = ("-l", labels, "-o", "answers.jsonl", "--resume")
    classify("../clips/red_square.mp4", *flags)

    ran = classify(spelled.format(clips=tmp_path / "clips"), *flags)

    assert ran.stderr == "answers.jsonl: nothing left to do, 1 record exists\n"
    assert len(read(Path("answers.jsonl"))) == 1
