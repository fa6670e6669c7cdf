"""What the help shows, what errors on the command line suggest; and both name the formats that the code reads."""

import re
import shlex

import pytest
from invoke import bike, bike_on_terminal

from bike_cli.cli import help as help_
from bike_cli.cli.eval.request import EvalRequest
from bike_cli.cli.flags import TrainingRequest
from bike_cli.config import flag_of
from bike_cli.data.labelled.formats import FILE_FORMATS, find_listing
from bike_cli.errors import ExitCode, UsageError


def words_of(text: str) -> set[str]:
    return set(text.replace(",", " ").replace(".", " ").replace(";", " ").replace("files", "file").lower().split())


@pytest.mark.parametrize("request_type", [TrainingRequest, EvalRequest])
@pytest.mark.parametrize("name", FILE_FORMATS)
def test_the_help_of_the_data_names_every_format(request_type: type, name: str) -> None:
    described = flag_of(request_type.__dataclass_fields__["data"])
    assert described is not None

    assert words_of(name) - {"a", "file"} <= words_of(described.help)


@pytest.mark.parametrize("name", FILE_FORMATS)
def test_the_error_for_missing_data_names_every_format(name: str) -> None:
    with pytest.raises(UsageError, match="no such file or folder; give a folder of class folders") as caught:
        find_listing("/nowhere", root=None)

    assert words_of(name) <= words_of(str(caught.value))


# -- what the help shows ----------------------------------------------------------------------------------------------

COMMANDS = [
    *((name,) for name in ("classify", "fewshot", "finetune", "eval", "export", "import", "doctor", "models", "cache")),
    *(("models", "list"), ("models", "pull"), ("cache", "info"), ("cache", "prune")),
]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", [(), *COMMANDS], ids=" ".join)
def test_the_help_names_no_types_and_fits_the_terminal(command: tuple[str, ...], columns: int) -> None:
    shown = re.sub(r"\x1b\[\d*m", "", bike_on_terminal(*command, "--help", columns=columns).stdout)

    text, _, examples = shown.partition("Examples:")
    assert all(len(line) <= columns for line in shown.splitlines())
    assert not re.search(r"<\w+|list\[|default: \(|…\]|\.\.\.\]|bool", text)
    assert not re.search(r"\w-$", text, re.MULTILINE)  # no flag is broken in two
    assert len(examples.splitlines()) <= 5


@pytest.mark.parametrize("columns", [60, 80])
def test_examples_that_are_too_wide_continue_after_a_backslash(columns: int) -> None:
    shown = re.sub(r"\x1b\[\d*m", "", bike_on_terminal("classify", "--help", columns=columns).stdout)

    examples = shown.partition("Examples:\n")[2]
    commands = [shlex.split(command) for command in examples.replace("\\\n", "").splitlines()]
    assert commands[1] == shlex.split(
        "find clips -name '*.mp4' -print0 | bike classify -0 - -l labels.txt > answers.jsonl"
    )
    assert all(len(line) <= columns for line in examples.splitlines())


def test_a_short_example_stays_one_line() -> None:
    assert help_.continued("bike classify clips/ > a.jsonl", 40) == "bike classify clips/ > a.jsonl"


@pytest.mark.parametrize("command", ["classify", "fewshot", "finetune", "eval"])
def test_the_help_shows_first_what_most_runs_need(command: str) -> None:
    shown = bike(command, "--help").stdout

    titles = re.findall(r"^(\w[\w ]*):$", shown, re.MULTILINE)
    assert titles[:2] == ["Arguments", "Options"]
    assert titles.index("Output") < titles.index("Frames") < titles.index("Decoding and cache")
    assert titles[-2:] == ["General", "Examples"]
    assert max(shown.index("--model"), shown.index("--output")) < shown.index("--frames")
    assert "[default: 8]" in shown


@pytest.mark.parametrize(
    ("command", "old"),
    [("finetune", "--clip-lr-ratio"), ("finetune", "--wd"), ("finetune", "--val-frac"), ("fewshot", "--test-frac")],
)
def test_an_old_name_of_a_flag_works_and_is_not_shown(command: str, old: str) -> None:
    ran = bike(command, old, "0.25", "--dump-config")

    assert ran.exit_code == 0
    assert ": 0.25\n" in ran.stdout
    assert not re.search(rf"{old}\b", bike(command, "--help").stdout)


def test_bike_alone_prints_the_help_as_a_wrong_use() -> None:
    ran = bike()

    assert (ran.exit_code, ran.stdout) == (2, bike("--help").stdout)


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[1m" in bike_on_terminal("--help").stdout

    monkeypatch.setenv("NO_COLOR", "1")

    assert "\x1b" not in bike_on_terminal("--help").stdout


# -- suggestions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        *(("train", "finetune"), ("predict", "classify"), ("test", "eval"), ("validate", "eval")),
        *(("help", "--help"), ("version", "--version"), ("clasify", "classify"), ("pull", "models pull")),
    ],
)
def test_an_unknown_command_names_the_right_one(typed: str, meant: str) -> None:
    ran = bike(typed)

    assert ran.exit_code == ExitCode.USAGE
    assert f"No such command: {typed}; did you mean bike {meant}?" in ran.stderr


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("cache clear", "cache prune"), ("cache size", "cache info"), ("models download", "models pull")],
)
def test_an_unknown_subcommand_names_the_right_one(typed: str, meant: str) -> None:
    assert f"; did you mean bike {meant}?" in bike(*typed.split()).stderr


def test_suggested_subcommands_exist() -> None:
    for group, names in help_.SUBCOMMANDS.items():
        for meant in set(names.values()):
            assert bike(group, meant, "--help").exit_code == ExitCode.DONE


def test_a_command_that_resembles_none_gets_no_suggestion() -> None:
    assert "No such command: plot; see bike --help" in bike("plot").stderr  # not export


def test_suggested_commands_exist() -> None:
    for meant in set(help_.COMMANDS.values()):
        assert bike(*meant.split(), *([] if meant.startswith("-") else ["--help"])).exit_code == 0


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("--lables", "--labels"), ("--frame", "--frames"), ("--gpu", "--device"), ("--debug", "--verbose")],
)
def test_an_unknown_flag_names_one(typed: str, meant: str) -> None:
    ran = bike("classify", typed, "x")

    assert ran.exit_code == ExitCode.USAGE
    assert f"No such option: {typed}; did you mean {meant}?" in ran.stderr


@pytest.mark.parametrize("command", ["fewshot", "eval", "finetune"])
@pytest.mark.parametrize("flag", ["-f", "--format", "--json"])
def test_commands_that_print_tables_say_how_to_get_json(command: str, flag: str) -> None:
    error = " ".join(bike(command, "data", flag, "json").stderr.replace("│", " ").split())

    assert f"No such option: {flag}; -o report.json writes the report as JSON" in error


def test_a_flag_that_resembles_none_gets_no_suggestion() -> None:
    assert "did you mean" not in bike("classify", "--qqqqq").stderr


def test_a_suggested_flag_is_one_of_the_command() -> None:
    assert "did you mean" not in bike("models", "--gpu").stderr


def test_a_wrong_choice_is_explained_without_text_of_a_library() -> None:
    error = " ".join(bike("classify", "-f", "xml").stderr.replace("│", " ").split())

    assert "Invalid value for '-f' / '--format': 'xml' is not one of 'table', 'jsonl'" in error


@pytest.mark.parametrize(
    ("flag", "value", "wanted"),
    [("--frames", "x", "a whole number"), ("--frames", "1.5", "a whole number"), ("--decode-timeout", "x", "a number")],
)
def test_a_wrong_number_is_explained_without_text_of_a_library(flag: str, value: str, wanted: str) -> None:
    error = " ".join(bike("classify", flag, value).stderr.replace("│", " ").split())

    assert f"Invalid value for '{flag}': give {wanted} " in error
