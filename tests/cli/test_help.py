"""What the help shows, what errors on the command line suggest; and both name the formats that the code reads."""

import re
import shlex

import pytest
from invoke import bike, bike_on_terminal

from bike_cli.cli import help as help_
from bike_cli.cli.eval.request import EvalRequest
from bike_cli.cli.flags import TrainingRequest
from bike_cli.cli.terminal import usage_errors
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


def test_a_wide_terminal_gets_a_shorter_help() -> None:
    wide, usual = (bike_on_terminal("classify", "--help", columns=columns).stdout for columns in (200, 80))
    longest = max(map(len, re.sub(r"\x1b\[\d*m", "", wide).splitlines()))

    assert len(wide.splitlines()) < 0.85 * len(usual.splitlines())
    assert 100 < longest <= help_.WIDEST  # longer lines are hard to read


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


def test_the_help_of_bike_shows_where_to_begin() -> None:
    examples = bike("--help").stdout.partition("Examples:\n")[2]

    assert 'bike classify clip.mp4 -L "running, jumping"' in examples
    assert {line.split()[1] for line in examples.splitlines()} == {"classify", "spot", "fewshot", "doctor"}


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[1m" in bike_on_terminal("--help").stdout

    monkeypatch.setenv("NO_COLOR", "1")

    assert "\x1b" not in bike_on_terminal("--help").stdout


# -- usage errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("classify --lables x", "--lables: no such option; did you mean --labels?"),
        ("clasify", "clasify: no such command; did you mean bike classify?"),
        ("classify --frames", "--frames: needs a value; give a whole number"),
        ("classify -f", "-f: needs a value; give table, jsonl, json, csv, tsv or parquet"),
        ("classify --labels", "--labels: needs a value; write --labels PATH"),
        ("classify --quiet=yes", "--quiet: takes no value; write --quiet alone"),
        ("classify -f xml", "--format is 'xml'; give table, jsonl, json, csv, tsv or parquet"),
        ("classify --crops two", "--crops is 'two'; give 1 or 3"),
        ("classify --frames x", "--frames is 'x'; give a whole number"),
        ("classify --frames 1.5", "--frames is '1.5'; give a whole number"),
        ("classify --decode-timeout x", "--decode-timeout is 'x'; give a number"),
        ("doctor me", "me: unexpected; bike doctor takes no arguments, and names that have spaces need quotes"),
        (
            "fewshot my videos",
            "videos: unexpected; bike fewshot takes only DATA, and names that have spaces need quotes",
        ),
        ("-v", "bike: no command is given; write one, as in bike classify"),
        ("import", "FILE: missing; write bike import FILE OUT (FILE: checkpoint of ActionCLIP,"),
        ("export tiny", "OUT: missing; write bike export MODEL OUT (OUT: folder to write; with --official,"),
    ],
)
def test_a_usage_error_is_one_line_as_all_errors_are_and_a_line_that_names_the_help(arguments: str, error: str) -> None:
    ran = bike(*arguments.split())

    command = " ".join(["bike", *(word for word in arguments.split()[:1] if (word,) in COMMANDS)])
    first, second = ran.stderr.splitlines()
    assert (ran.exit_code, ran.stdout) == (ExitCode.USAGE, "")
    assert first.startswith(f"error: {error}")
    assert second == f"  see {command} --help"


@pytest.mark.parametrize("command", ["fewshot", "finetune"])
def test_a_missing_argument_is_explained_in_the_words_of_the_help(command: str) -> None:
    described = flag_of(TrainingRequest.__dataclass_fields__["data"])
    assert described is not None

    error = bike(command).stderr

    assert error.startswith(
        f"error: DATA: missing; write bike {command} DATA (DATA: labelled videos: a folder of class"
    )
    assert described.help[1:].rstrip(".") in error


def test_on_a_terminal_a_usage_error_breaks_at_spaces_and_has_no_box() -> None:
    ran = bike_on_terminal("fewshot", columns=60)

    assert all(len(line) <= 60 for line in re.sub(r"\x1b\[[\d;]*m", "", ran.stderr).splitlines())
    assert "╭" not in ran.stderr


def test_an_argument_with_escape_codes_is_printed_escaped() -> None:
    error = bike("doctor", "\x1b[31mred").stderr

    assert "\x1b" not in error
    assert "31mred: unexpected" in error


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
    assert f"{typed}: no such command; did you mean bike {meant}?" in ran.stderr


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("cache clear", "cache prune"), ("cache size", "cache info"), ("models download", "models pull")],
)
def test_an_unknown_subcommand_names_the_right_one(typed: str, meant: str) -> None:
    assert f"; did you mean bike {meant}?" in bike(*typed.split()).stderr


def test_suggested_subcommands_exist() -> None:
    for group, names in usage_errors.SUBCOMMANDS.items():
        for meant in set(names.values()):
            assert bike(group, meant, "--help").exit_code == ExitCode.DONE


def test_a_command_that_resembles_none_gets_no_suggestion() -> None:
    assert "draw: no such command; see bike --help\n" in bike("draw").stderr


def test_suggested_commands_exist() -> None:
    for meant in set(usage_errors.COMMANDS.values()):
        assert bike(*meant.split(), *([] if meant.startswith("-") else ["--help"])).exit_code == 0


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("--lables", "--labels"), ("--frame", "--frames"), ("--gpu", "--device"), ("--debug", "--verbose")],
)
def test_an_unknown_flag_names_one(typed: str, meant: str) -> None:
    ran = bike("classify", typed, "x")

    assert ran.exit_code == ExitCode.USAGE
    assert f"{typed}: no such option; did you mean {meant}?" in ran.stderr


@pytest.mark.parametrize("command", ["fewshot", "eval", "finetune"])
@pytest.mark.parametrize("flag", ["-f", "--format", "--json"])
def test_commands_that_print_tables_say_how_to_get_json(command: str, flag: str) -> None:
    error = bike(command, "data", flag, "json").stderr

    assert f"{flag}: no such option; -o report.json writes the report as JSON" in error


def test_a_flag_that_resembles_none_gets_no_suggestion() -> None:
    assert "did you mean" not in bike("classify", "--qqqqq").stderr


def test_a_suggested_flag_is_one_of_the_command() -> None:
    assert "did you mean" not in bike("models", "--gpu").stderr
