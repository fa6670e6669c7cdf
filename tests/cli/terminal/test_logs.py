"""`-v` and `-vv`: what was chosen and how long it took, as single lines on stderr; stdout stays data only."""

import json
import logging
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import rich.live
from answers import HOSTILE, steering
from films import drawn, write_video
from invoke import Terminal, bike, shell
from rich.console import Console

from bike_cli.cli.terminal import console, logs
from bike_cli.cli.terminal.console import display, handle_errors, notice
from bike_cli.cli.terminal.secrets import mask, mask_address
from bike_cli.errors import ExitCode

LINE = re.compile(r"(error|warning|info|debug): \S")
CLASSIFY = ("classify", "-m", "tiny", "--device", "cpu", "-L", "red square,blue circle")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes of two films."""
    folder = tmp_path_factory.mktemp("data")
    for label in ("red square", "blue circle"):
        (folder / label).mkdir()
        for i in range(2):
            write_video(folder / label / f"{i}.mp4", drawn(label, frames=8 + i))
    return folder


def infos(stderr: str) -> list[str]:
    return [line.removeprefix("info: ") for line in stderr.splitlines() if line.startswith("info: ")]


# -- what is logged ---------------------------------------------------------------------------------------------------


def test_without_it_nothing_is_logged(clips: Path) -> None:
    assert bike(*CLASSIFY, clips).stderr == ""


@pytest.fixture(scope="module")
def verbose(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """stderr of a run with `-v` in a process of its own, and of the same once more."""
    cache = tmp_path_factory.mktemp("cache")
    script = 'bike classify -v -m tiny --device cpu -l "$2" "$1" -f jsonl --cache-dir "$3"'
    labels = cache / "labels.txt"
    labels.write_text("red square\nblue circle\n")
    given = ("classify", "-v", "-m", "tiny", "--device", "cpu", "-l", labels, clips, "-f", "jsonl", "--frames", 4)
    runs = [shell(script, clips, labels, cache, BIKE_FRAMES="4"), bike(*given, "--cache-dir", cache)]
    for ran in runs:
        assert ran.exit_code == ExitCode.DONE, ran.stderr
        assert [record["status"] for record in ran.records] == ["ok"] * 3
    return runs[0].stderr, runs[1].stderr


@pytest.mark.parametrize(
    "fact",
    [
        r"BIKE_FRAMES: sets frames to 4",
        r"\S+labels\.txt: read as one label per line, 2 labels",
        r"decoding: (1 worker|\d+ workers) on (1 core|\d+ cores), decoder auto",
        r"device cpu \(--device cpu\), precision float32 \(auto\)",
        r"torch and open_clip: imported in \d+\.\d\d s",
        r"model tiny: weights from \S+model\.safetensors",
        r"model tiny: loaded in \d+\.\d\d s",
        r"2 labels: encoded with template \w+, spotting by \w+, in \d+\.\d\d s",
        r"cache: \S+features\.sqlite",
        r"\S+red_square\.mp4: not in the cache, will be decoded",
        r"3 videos: 0 from the cache, 3 decoded in [\d.]+ s of \d+ workers?; encoded in .* s, waited .* s for videos",
    ],
)
def test_it_says_what_was_chosen_and_how_long_it_took(verbose: tuple[str, str], fact: str) -> None:
    assert any(re.fullmatch(fact, line) for line in infos(verbose[0])), verbose[0]


def test_it_says_what_came_from_the_cache(verbose: tuple[str, str]) -> None:
    hits = [line for line in infos(verbose[1]) if line.endswith(": features from the cache")]

    assert len(hits) == 3
    assert any(line.startswith("3 videos: 3 from the cache, 0 decoded") for line in infos(verbose[1]))


def test_timings_are_printed_once(verbose: tuple[str, str]) -> None:
    assert len([line for line in infos(verbose[0]) if re.search("decode.* s ", line)]) == 1


def test_each_message_is_one_line(verbose: tuple[str, str]) -> None:
    assert [line for line in "".join(verbose).splitlines() if not LINE.match(line)] == []


def test_twice_logs_debug_records_with_time_and_origin(clips: Path) -> None:
    stderr = bike(*CLASSIFY, "-vv", clips / "red_square.mp4").stderr

    decoded = r"^debug: \[\d+\.\d\d s, bike_cli\.video\.workers\.pool\] \S+red_square\.mp4: decoded in"
    assert re.search(decoded, stderr, re.M)
    assert re.search(r"^info: \[\d+\.\d\d s, bike_cli\.engine\.store\.store\] cache: ", stderr, re.M)


def test_once_logs_no_debug_record(clips: Path) -> None:
    assert "debug:" not in bike(*CLASSIFY, "-v", clips / "red_square.mp4").stderr


@pytest.mark.parametrize(
    ("device", "reason"), [("auto", r"device (cpu|cuda:0|mps) \(auto: .+\)"), ("cpu", r"device cpu \(--device cpu\)")]
)
def test_the_reason_for_a_device_is_logged(
    device: str, reason: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bike_cli.engine.engine import load

    uncached = getattr(load, "__wrapped__", load)  # another test may have loaded it
    with caplog.at_level(logging.INFO, "bike_cli"):
        uncached("tiny", device)

    assert re.search(reason, caplog.text)


def test_the_python_interface_logs_through_the_logging_module(clips: Path, caplog: pytest.LogCaptureFixture) -> None:
    import bike_cli

    engine = bike_cli.load("tiny", "cpu")
    with caplog.at_level(logging.INFO, "bike_cli"):
        list(bike_cli.classify(engine, [clips / "red_square.mp4"], ["red square", "blue circle"]))

    assert "not in the cache, will be decoded" in caplog.text


# -- every command ----------------------------------------------------------------------------------------------------


def commands(clips: Path, data: Path, tmp_path: Path) -> dict[str, tuple[object, ...]]:
    return {
        "classify": (*CLASSIFY, clips / "red_square.mp4"),
        "fewshot": ("fewshot", data, "-m", "tiny", "--shots", "1", "--trials", "1"),
        "calibrate": ("calibrate", data, "-m", "tiny", "--promise", "0.3"),
        "eval": ("eval", data, "-m", "tiny", "--resamples", "10"),
        "finetune": ("finetune", data, "--save", tmp_path / "run", "-m", "tiny", "--dry-run", "--batch-size", "2"),
        "export": ("export", "tiny", tmp_path / "exported"),
        "models": ("models",),
        "cache info": ("cache", "info"),
        "cache prune": ("cache", "prune", "--all"),
    }


NAMES = ["classify", "calibrate", "fewshot", "eval", "finetune", "export", "models", "cache info", "cache prune"]
QUIET = ["classify", "calibrate", "fewshot", "eval", "finetune", "export"]
LOGGING = QUIET  # the others have nothing to choose


@pytest.mark.parametrize(
    ("name", "flag"), [*((name, "-vv") for name in NAMES), ("classify", "-v"), ("export", "--verbose")]
)
def test_every_command_takes_it_and_keeps_stdout_as_it_is(
    name: str, flag: str, clips: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIKE_DEVICE", "cpu")
    ran = bike(*commands(clips, data, tmp_path)[name], flag)

    assert ran.exit_code == ExitCode.DONE, ran.stderr
    assert not re.search(r"^(info|debug): ", ran.stdout, re.M)
    assert not [line for line in ran.stderr.splitlines() if line and not LINE.match(line) and name != "export"]
    if name in LOGGING:
        assert re.search(r"^info: ", ran.stderr, re.M)


@pytest.mark.parametrize("name", QUIET)
def test_quiet_and_verbose_together_are_a_usage_error(name: str, clips: Path, data: Path, tmp_path: Path) -> None:
    ran = bike(*commands(clips, data, tmp_path)[name], "-q", "-v")

    assert (ran.exit_code, ran.stdout) == (ExitCode.USAGE, "")
    assert ran.stderr == "error: --quiet: cannot be combined with --verbose; give one of them\n"


def test_it_works_before_the_command(clips: Path) -> None:
    assert "info: " in bike("-v", *CLASSIFY, clips / "red_square.mp4").stderr
    assert "debug: " in bike("-vv", *CLASSIFY, clips / "green_cross.mp4").stderr


def test_it_works_before_a_command_in_a_group() -> None:
    ran = bike("-v", "cache", "info")

    assert (ran.exit_code, json.loads(ran.stdout)["videos"]) == (ExitCode.DONE, 0)


def test_it_is_no_setting() -> None:
    assert bike("classify", "--dump-config", "-v").stdout == bike("classify", "--dump-config").stdout


def test_results_are_the_same_with_it(clips: Path) -> None:
    assert bike(*CLASSIFY, clips, "-vv").stdout == bike(*CLASSIFY, clips).stdout


def test_a_report_of_eval_does_not_hold_it(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    bike("eval", data, "-m", "tiny", "--resamples", "10", "-v", "-o", file)

    assert "verbose" not in file.read_text()
    assert bike("eval", "--from", file, "-v").exit_code == ExitCode.DONE


# -- lines ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub_logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("huggingface_hub")
    level, handlers = logger.level, list(logger.handlers)
    yield logger
    logger.setLevel(level)
    logger.handlers = handlers


@pytest.mark.parametrize("text", HOSTILE)
def test_a_record_cannot_steer_the_terminal(
    text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("bike_cli"), "propagate", False)  # pytest-xdist cannot send such a record
    with handle_errors(verbose=1):
        logging.getLogger("bike_cli.somewhere").info("%s: chosen", text)

    written = capsys.readouterr().err
    assert written == f"info: {HOSTILE[text]}: chosen\n"
    assert steering(written) <= {"\n"}


def test_libraries_are_named(capsys: pytest.CaptureFixture[str], hub_logger: logging.Logger) -> None:
    with handle_errors(verbose=1):
        logging.getLogger("huggingface_hub.file_download").info("downloading")
        logging.getLogger("unknown_library").info("hello")

    assert capsys.readouterr().err.splitlines() == [
        "info: huggingface_hub: downloading",
        "info: unknown_library: hello",
    ]


@pytest.mark.parametrize("verbose", [0, 1])
def test_the_handler_of_the_hub_prints_nothing(
    verbose: int, capsys: pytest.CaptureFixture[str], hub_logger: logging.Logger
) -> None:
    handlers = list(hub_logger.handlers)
    later = logging.StreamHandler()
    with handle_errors(verbose=verbose):
        hub_logger.addHandler(later)  # as its import does
        hub_logger.warning("first\nsecond")

    assert capsys.readouterr().err == "warning: huggingface_hub: first\\x0asecond\n"
    assert hub_logger.handlers == [*handlers, later]


def test_a_library_that_prints_its_records_itself_does_not_appear_twice(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("some_library")
    logger.addHandler(handler := logging.StreamHandler())
    with handle_errors(verbose=1):
        logger.warning("first")
    logger.removeHandler(handler)

    assert capsys.readouterr().err == "first\n"


def test_records_through_the_root_logger_do_not_double_those_of_bike() -> None:
    # In a process of its own: under pytest the root logger has handlers.
    program = """
import logging
from bike_cli.cli.terminal.console import handle_errors
with handle_errors():
    logging.info("open_clip does so, which installs a handler where the root logger has none")
    logging.getLogger("bike_cli.somewhere").warning("label: is long")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert done.stderr == "warning: label: is long\n"


def test_a_python_warning_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with handle_errors(verbose=1), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)  # catch_warnings has put Python's own display back
        warnings.warn("this is old", UserWarning, stacklevel=1)
        logging.captureWarnings(False)

    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert "UserWarning: this is old" in written


def test_the_same_warning_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # for each command
        with handle_errors(quiet=False, verbose=1):
            for label in ("star", "heart", "star"):
                logging.getLogger("bike_cli.x").warning("label %s: is unknown", label)
                logging.getLogger("bike_cli.x").info("label %s: is read", label)

        lines = capsys.readouterr().err.splitlines()
        assert [line for line in lines if line.startswith("warning")] == [
            "warning: label star: is unknown",
            "warning: label heart: is unknown",
        ]
        assert len(lines) == 5


def test_an_exception_is_named_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with handle_errors(verbose=1):
        try:
            raise ValueError("no number")
        except ValueError:
            logging.getLogger("bike_cli.somewhere").info("gave up", exc_info=True)

    assert capsys.readouterr().err == "info: gave up (ValueError: no number)\n"


def test_levels_and_handlers_are_as_before_afterwards() -> None:
    names = ("", "bike_cli", "huggingface_hub", "PIL", "matplotlib")
    before = [(logging.getLogger(name).level, list(logging.getLogger(name).handlers)) for name in names]

    with handle_errors(verbose=2):
        assert logging.getLogger("bike_cli").level == logging.DEBUG

    assert [(logging.getLogger(name).level, list(logging.getLogger(name).handlers)) for name in names] == before
    assert "HF_HUB_VERBOSITY" not in os.environ


def test_quiet_hides_warnings_of_libraries_too(capsys: pytest.CaptureFixture[str]) -> None:
    with handle_errors(quiet=True):
        logging.getLogger("unknown_library").warning("hello")

    assert capsys.readouterr().err == ""


# -- progress ---------------------------------------------------------------------------------------------------------


def test_a_message_goes_through_the_console_that_shows_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    shown = console.stderr()

    with display(shown), rich.live.Live("progress bar", console=shown, auto_refresh=False, transient=True):
        notice("chosen", level="info")

    # The bar was drawn, taken away, and drawn again below the message, on a line of its own.
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.text)
    assert re.search(r"(^|\r)info: chosen$", plain, re.M)
    assert "progress barinfo" not in plain


def test_a_quiet_display_hides_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    with display(Console(stderr=True, quiet=True)):
        notice("x: is wrong", level="error")

    assert capsys.readouterr().err == "error: x: is wrong\n"


# -- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET http://me:pass@proxy:8080/x", "GET http://***@proxy:8080/x"),
        ("https://huggingface.co/@someone/model", "https://huggingface.co/@someone/model"),
        ("a hf_abcdefGHIJK123456 b", "a *** b"),
        ("https://cdn/x?X-Amz-Signature=abc123&n=1", "https://cdn/x?X-Amz-Signature=***&n=1"),
        ("https://cdn/x?token=abc", "https://cdn/x?token=***"),
        ("nothing secret", "nothing secret"),
    ],
)
def test_secrets_are_masked(text: str, shown: str) -> None:
    assert mask(text, {}) == shown


def test_values_of_the_environment_are_masked_wherever_they_occur() -> None:
    environment = {"HF_TOKEN": "custom-token-value", "https_proxy": "http://user:s3cret%21@proxy:1"}

    masked = mask("custom-token-value, s3cret%21, s3cret!, user:s3cret%21", environment)

    assert masked == "***, ***, ***, ***"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://user:pa/ss@proxy:8080", "http://***@proxy:8080"),
        ("http://user:p@ss@proxy:8080/", "http://***@proxy:8080/"),
        ("user:pass@proxy:8080", "***@proxy:8080"),
        ("https://mirror.example/hub?token=abc", "https://mirror.example/hub?***"),
        ("http://proxy:8080", "http://proxy:8080"),
        ("localhost,127.0.0.1", "localhost,127.0.0.1"),
    ],
)
def test_an_address_shows_no_password(address: str, shown: str) -> None:
    assert mask_address(address) == shown


def test_a_log_line_shows_no_password(capsys: pytest.CaptureFixture[str], hub_logger: logging.Logger) -> None:
    with handle_errors(verbose=1):
        hub_logger.info("HTTP Request: GET https://me:secret@hub/x")

    assert capsys.readouterr().err == "info: huggingface_hub: HTTP Request: GET https://***@hub/x\n"


def test_the_font_cache_of_matplotlib_is_no_warning() -> None:
    lines: list[str] = []
    with logs.logs_on_stderr(lambda message, level: lines.append(f"{level}: {message}"), quiet=False, verbose=0):
        logging.getLogger("matplotlib.font_manager").warning("Matplotlib is building the font cache")
        logging.getLogger("matplotlib.font_manager").error("no font")

    assert lines == ["error: matplotlib: no font"]
