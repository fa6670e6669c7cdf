"""A file is whole or not there, nobody shares it, and what a run wrote before it died is kept."""

import io
import itertools
import os
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import FrameType
from typing import TextIO

import pytest

from bike_cli.cli.terminal.output_file import Resumed, open_output, open_resumed, part_of
from bike_cli.errors import UsageError


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A file with an older answer, alone in its folder."""
    file = tmp_path / "out" / "answers.txt"
    file.parent.mkdir()
    file.write_text("older")
    return file


def other_files(output: Path) -> list[str]:
    return [file.name for file in output.parent.iterdir()]


def write_and_end_with(error: type[BaseException], output: Path) -> None:
    with open_output(output) as stream:
        stream.write("newer")
        stream.flush()
        raise error


def test_a_file_takes_its_name_when_it_is_complete(output: Path) -> None:
    with open_output(output) as stream:
        stream.write("newer")
        stream.flush()
        assert output.read_text() == "older"

    assert output.read_text() == "newer"
    assert other_files(output) == ["answers.txt"]


@pytest.mark.parametrize("left", ["", "left by a killed run"])
def test_bytes_may_be_written(output: Path, left: str) -> None:
    part_of(output).write_text(left)

    with open_output(output) as stream:
        stream.buffer.write(b"\x89new\0er")

    assert output.read_bytes() == b"\x89new\0er"
    assert other_files(output) == ["answers.txt"]


@pytest.mark.parametrize("error", [ValueError, SystemExit, BrokenPipeError, KeyboardInterrupt])
def test_a_failure_keeps_the_older_file_and_the_records(
    output: Path, error: type[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(error) as raised:
        write_and_end_with(error, output)

    assert output.read_text() == "older"
    assert part_of(output).read_text() == "newer"
    said = str(raised.value) if error is KeyboardInterrupt else capsys.readouterr().err
    assert f"its records are in {part_of(output)}" in said


@pytest.mark.parametrize("calls", range(12))
def test_an_interrupt_after_any_call_writes_no_record_twice(tmp_path: Path, calls: int) -> None:
    output, n_calls = tmp_path / "answers.txt", itertools.count()

    def interrupt(_frame: FrameType, event: str, _: object) -> None:
        if event == "c_return" and next(n_calls) == calls:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt), open_output(output) as stream:
        sys.setprofile(interrupt)
        try:
            for record in ("one\n", "two\n"):
                stream.write(record)
                stream.flush()
        finally:
            sys.setprofile(None)

    written = [file.read_text() for file in tmp_path.iterdir()]
    assert written in ([], [""], ["one\n"], ["one\ntwo\n"])


def test_a_failure_before_the_first_record_leaves_nothing(output: Path) -> None:
    with pytest.raises(ValueError, match="x"), open_output(output):
        raise ValueError("x")

    assert other_files(output) == ["answers.txt"]


def test_what_a_killed_run_left_is_kept_until_the_first_record(output: Path) -> None:
    part_of(output).write_text("left")

    with pytest.raises(KeyboardInterrupt), open_output(output):
        raise KeyboardInterrupt

    assert part_of(output).read_text() == "left"


@pytest.mark.parametrize("written", ["", "newer"])
def test_a_run_without_resume_drops_what_a_killed_one_left(output: Path, written: str) -> None:
    part_of(output).write_text("left behind")

    with open_output(output) as stream:
        stream.write(written)

    assert output.read_text() == written
    assert other_files(output) == ["answers.txt"]


def test_an_interrupt_keeps_what_was_written(output: Path) -> None:
    output.unlink()

    with pytest.raises(KeyboardInterrupt):
        write_and_end_with(KeyboardInterrupt, output)

    assert output.read_text() == "newer"


def test_an_interrupt_before_the_answers_begin_keeps_the_older_file(output: Path) -> None:
    with pytest.raises(KeyboardInterrupt), open_output(output):
        raise KeyboardInterrupt

    assert output.read_text() == "older"
    assert other_files(output) == ["answers.txt"]


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()

    with open_output(pipe) as stream:
        stream.write("through")
    reader.join(timeout=10)

    assert read == ["through"]
    assert pipe.is_fifo()


def test_a_file_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match=r"no/a\.csv: its folder does not exist; create it, or"),
        open_output(tmp_path / "no" / "a.csv"),
    ):
        pass


def test_bytes_that_are_no_utf8_come_back_as_they_were(output: Path) -> None:
    with open_output(output) as stream:
        stream.write(os.fsdecode(b"caf\xe9"))

    assert output.read_bytes() == b"caf\xe9"


# -- one run at a time --------------------------------------------------------------------------------------------


def test_a_file_that_is_being_written_is_refused(output: Path) -> None:
    with (
        open_output(output) as stream,
        pytest.raises(UsageError, match=r"answers\.txt: another run is writing it; wait"),
        open_output(output),
    ):
        pass

    assert stream.closed
    assert other_files(output) == ["answers.txt"]


def test_a_file_that_is_being_written_is_not_resumed(output: Path) -> None:
    with open_output(output), pytest.raises(UsageError, match="another run is writing it"), open_resumed(output):
        pass


@pytest.mark.parametrize("is_there", [True, False])
def test_a_file_that_is_being_resumed_is_neither_written_nor_resumed(output: Path, is_there: bool) -> None:
    if not is_there:
        output.unlink()

    with open_resumed(output) as held:
        held.stream.write("more")
        held.stream.flush()
        with pytest.raises(UsageError, match="another run is writing it"), open_output(output):
            pass
        with pytest.raises(UsageError, match="another run is writing it"), open_resumed(output):
            pass

    assert output.read_text() == ("oldermore" if is_there else "more")
    assert other_files(output) == ["answers.txt"]


# -- what --resume continues ---------------------------------------------------------------------------------------


def test_resume_appends_in_place(output: Path) -> None:
    with open_resumed(output) as held:
        held.stream.write("newer")
        held.stream.flush()

        assert (held.path, output.read_text()) == (output, "oldernewer")


def test_resume_takes_up_what_a_killed_run_left(output: Path) -> None:
    output.rename(part_of(output))

    with open_resumed(output) as held:
        held.stream.write("newer")

    assert output.read_text() == "oldernewer"
    assert other_files(output) == ["answers.txt"]


@pytest.mark.parametrize(("age_s", "result"), [(60, "left, newer"), (-60, "older, newer")])
def test_resume_goes_on_with_the_newer_of_two(output: Path, age_s: int, result: str) -> None:
    part_of(output).write_text("left")
    now = part_of(output).stat().st_mtime
    os.utime(output, (now - age_s, now - age_s))

    with open_resumed(output) as held:
        held.stream.write(", newer")

    assert output.read_text() == result


def test_an_older_file_stays_until_the_newer_one_is_complete(output: Path) -> None:
    part_of(output).write_text("left")
    os.utime(output, (0, 0))

    with pytest.raises(ValueError, match="x"), open_resumed(output):
        raise ValueError("x")

    assert (output.read_text(), part_of(output).read_text()) == ("older", "left")


def test_resuming_nothing_leaves_nothing_where_the_run_cannot_start(output: Path) -> None:
    output.unlink()

    with pytest.raises(ValueError, match="x"), open_resumed(output):
        raise ValueError("x")

    assert other_files(output) == []


def test_a_link_is_resumed_where_it_leads(output: Path) -> None:
    link = output.parent / "link"
    link.symlink_to(output)

    with open_resumed(link) as held:
        held.stream.write("newer")

    assert link.is_symlink()
    assert output.read_text() == "oldernewer"


def test_what_is_no_ordinary_file_is_not_resumed() -> None:
    with pytest.raises(UsageError, match="/dev/null: is not an ordinary file"), open_resumed(Path("/dev/null")):
        pass


# -- paths in messages ---------------------------------------------------------------------------------------------

UNFINISHED = "its records are in out/.answers.txt.part, and --resume continues them"


def fail_with(error: BaseException, opened: AbstractContextManager[TextIO | Resumed]) -> None:
    with opened as stream:
        stream = stream if isinstance(stream, io.TextIOBase) else stream.stream
        stream.write("newer")
        raise error


@pytest.mark.parametrize(
    ("exists", "shown"), [(False, "written to out/answers.txt"), (True, f"answers.txt is unchanged; {UNFINISHED}")]
)
def test_an_interrupt_names_the_file_as_the_user_did(
    output: Path, exists: bool, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(output.parent.parent)
    if not exists:
        output.unlink()

    with pytest.raises(KeyboardInterrupt) as raised:
        fail_with(KeyboardInterrupt(), open_output(Path("out/answers.txt")))

    assert raised.value.args == (shown,)


def test_an_interrupted_resume_names_the_file_as_the_user_did(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(output.parent)

    with pytest.raises(KeyboardInterrupt) as raised:
        fail_with(KeyboardInterrupt(), open_resumed(Path("answers.txt")))

    assert raised.value.args == ("written to answers.txt",)


@pytest.mark.parametrize("name", ["answers.csv", "embeddings.npz"])
def test_formats_that_are_not_resumed_do_not_name_it(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="x"):
            fail_with(ValueError("x"), open_output(tmp_path / name))

    assert f"its records are in {tmp_path}/.{name}.part\n" in capsys.readouterr().err
    assert caplog.messages == [f"{tmp_path / name}: replaces the records of an unfinished run"]


@pytest.mark.parametrize("open_", [open_output, open_resumed])
def test_other_messages_name_the_file_as_the_user_did(
    output: Path,
    open_: Callable[[Path], AbstractContextManager[TextIO | Resumed]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(output.parent.parent)
    named = Path("out/answers.txt")

    with open_(named), pytest.raises(UsageError, match=r"^out/answers\.txt: another run is writing it"):
        fail_with(ValueError(), open_(named))
    part_of(output).write_text("left")
    with pytest.raises(ValueError, match="x"):
        fail_with(ValueError("x"), open_(named))

    assert f"warning: out/answers.txt: is not complete; {UNFINISHED}" in capsys.readouterr().err
    (message,) = [record.message for record in caplog.records]
    assert message.startswith("out/answers.txt: ")


def test_the_unfinished_records_behind_a_link_are_named_where_they_are(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = output.parent.parent / "link.txt"
    link.symlink_to(output)

    with pytest.raises(ValueError, match="x"):
        fail_with(ValueError("x"), open_output(link))

    shown = f"{link}: is not complete; its records are in {output.with_name('.answers.txt.part')}, and"
    assert shown in " ".join(capsys.readouterr().err.split())
