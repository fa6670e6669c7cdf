"""The table is for eyes: it fits the line, shows what decided, and text from outside is only text."""

import io
import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from answers import HOSTILE, cells, failure, prediction, steering
from invoke import Terminal

from bike_cli.cli.classify.table import SPARK_CELLS, TableWriter, sparkline
from bike_cli.cli.terminal.tables import ASCII_BARS, BARS
from bike_cli.records import Failure, FrameTimes, Prediction, Ranked, Rejection

LONG = "a person " + "assembling and disassembling a computer keyboard " * 6
WIDE = "日本語の動画を見ている人" * 12
PICTURES = "🎬🚲" * 60
COLUMNS = (80, 200)


@pytest.fixture(autouse=True)
def _colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


def screen(
    monkeypatch: pytest.MonkeyPatch,
    *records: Prediction | Failure,
    names: list[str] | None = None,
    columns: int = 80,
    encoding: str = "utf-8",
) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal = Terminal(encoding, errors="replace")  # as `open_stream` makes it
    writer = TableWriter(terminal, names)
    for record in records:
        writer.write(record)
    writer.close()
    return terminal.text


def plain_screen(monkeypatch: pytest.MonkeyPatch, *records: Prediction | Failure, **how: object) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", screen(monkeypatch, *records, **how))  # type: ignore[arg-type]


# -- the sparkline ------------------------------------------------------------------------------------------------


def test_the_heaviest_frame_is_a_full_bar_and_an_empty_one_the_lowest() -> None:
    assert sparkline([0.0, 1.0, 0.0]) == "▁█▁"


def test_bars_grow_with_the_values_whatever_their_scale() -> None:
    assert sparkline([i / 100 for i in range(8)]) == BARS
    assert sparkline([i * 100.0 for i in range(8)], ascii_only=True) == ASCII_BARS


def test_equal_frames_are_equal_bars() -> None:
    assert sparkline([0.25] * 4) == "████"


def test_frames_without_weight_are_low_bars() -> None:
    assert sparkline([0.0, 0.0]) == "▁▁"


@pytest.mark.parametrize("count", [1, SPARK_CELLS, SPARK_CELLS + 1, 1000])
def test_a_sparkline_is_never_longer_than_its_room(count: int) -> None:
    assert len(sparkline([1.0] * count)) <= min(count, SPARK_CELLS)


def test_a_short_peak_among_many_frames_is_seen() -> None:
    assert sparkline([0.0] * 500 + [1.0] + [0.0] * 499).count("█") == 1


# -- one video ----------------------------------------------------------------------------------------------------


def test_one_video_shows_every_label_with_its_score_and_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    text = plain_screen(monkeypatch, prediction(), names=["a.mp4"])

    assert re.search(r"running +50\.0 % +█{10} +0\.200", text)
    assert re.search(r"sitting +12\.5 % +█{2} +0\.000", text)
    assert "grass, dog" in text
    assert "8 frames of 12.3 s, model tiny" in text


def test_one_explained_video_names_the_moments_that_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    text = plain_screen(monkeypatch, prediction(weights=(0.01, 0.0, 0.3, 0.69)), names=["a.mp4"])

    (decided,) = [line for line in text.splitlines() if line.startswith("Decided")]
    assert decided.split(maxsplit=2)[1:] == ["▁▁▄█", "1.00 s 30.0 % · 1.50 s 69.0 %"]  # each bar is one frame


def test_a_frame_that_is_read_twice_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    timeline = FrameTimes(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0, 0, 1, 1]))
    repeated = replace(prediction(weights=(0.46, 0.45, 0.0, 0.09)), timeline=timeline)

    text = plain_screen(monkeypatch, repeated, names=["a.mp4"])

    assert "0.00 s 91.0 % · 1.00 s 9.0 %" in text


def test_without_a_clock_moments_are_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    record = prediction()
    clockless = replace(record, timeline=replace(record.timeline, times_s=np.full(3, np.nan), duration_s=None))

    text = plain_screen(monkeypatch, clockless, names=["a.mp4"])

    assert "frame 11 20.0 % · frame 21 70.0 %" in text
    assert "8 frames, model tiny" in text


@pytest.mark.parametrize("names", [["a.mp4"], None], ids=["one", "many"])
@pytest.mark.parametrize("columns", [40, 60, 80])
def test_an_explanation_of_many_frames_keeps_bars_and_moments_whole(
    monkeypatch: pytest.MonkeyPatch, columns: int, names: list[str] | None
) -> None:
    weights = (*[0.4 / 61] * 61, 0.1, 0.2, 0.3)

    lines = plain_screen(monkeypatch, prediction(weights=weights), names=names, columns=columns).splitlines()

    (first,) = [i for i, line in enumerate(lines) if line.lstrip().startswith("Decided")]
    bars, rest = lines[first].split()[1], " ".join([*lines[first].split()[2:], *lines[first + 1 :]])
    assert bars.endswith("█")
    assert set(bars) <= set(BARS)
    moments = ["30.50 s 10.0 %", "31.00 s 20.0 %", "31.50 s 30.0 %"]
    assert re.findall(r"\d+\.\d\d s \d+\.\d %", rest) == moments
    assert all(any(moment in line for line in lines) for moment in moments)  # none is broken
    assert re.search(r"one bar per (\d+) frames", rest)[1] == str(-(-64 // len(bars)))  # type: ignore[index]
    assert max(map(len, lines)) <= columns


def test_the_heaviest_frame_is_named_even_if_its_share_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = (*[0.97 / 63] * 63, 0.03)

    text = plain_screen(monkeypatch, prediction(weights=weights), names=["a.mp4"])

    assert re.findall(r"(\S+) s \S+ % · one bar per 2 frames$", text, re.MULTILINE) == ["31.50"]


def test_a_single_frame_is_counted_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    record = replace(prediction(), frames=1)

    assert "Read  1 frame of 12.3 s" in plain_screen(monkeypatch, record, names=["a.mp4"])


@pytest.mark.parametrize("names", [["a.mp4"], ["a.mp4", "b.mp4"]], ids=["one", "many"])
def test_a_file_gets_no_spaces_at_the_ends_of_lines(monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    file = io.StringIO()
    writer = TableWriter(file, names)
    for record in (prediction(), failure())[: len(names)]:
        writer.write(record)

    lines = file.getvalue().split("\n")

    assert any("running" in line for line in lines)
    assert [line for line in lines if line != line.rstrip()] == []


def test_a_warning_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "warning: 3 frames" in plain_screen(monkeypatch, prediction(warning="3 frames"), names=["a.mp4"])


def test_one_failed_video_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    text = plain_screen(monkeypatch, failure(), names=["b.mp4"])

    assert " ".join(text.split()) == f"failed {failure().message}"


# -- many videos --------------------------------------------------------------------------------------------------


def test_many_videos_are_rows_under_one_header(monkeypatch: pytest.MonkeyPatch) -> None:
    records = prediction(weights=None), failure(), prediction("c.mp4", weights=None)

    header, first, failed, third = plain_screen(monkeypatch, *records, names=["a.mp4", "b.mp4", "c.mp4"]).splitlines()

    assert header.split() == ["Video", "Label", "Score", "Second", "best"]
    assert first.split()[:3] == ["a.mp4", "running", "50.0"]
    assert "damaged: decoding stops inside" in failed
    assert third.index("running") == first.index("running") == header.index("Label")


def test_a_failure_may_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    header, failed, *_ = plain_screen(monkeypatch, failure(), prediction(), names=["b.mp4", "a.mp4"]).splitlines()

    assert header.split()[0] == "Video"
    assert failed.startswith("b.mp4")


def test_a_wide_screen_has_room_for_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow, wide = (plain_screen(monkeypatch, prediction(), columns=columns) for columns in COLUMNS)

    assert "grass, dog" in wide
    assert "grass" not in narrow


def test_long_paths_keep_their_start_and_the_end_that_distinguishes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/a/very/long/way/" * 9 + "clip_07.mp4"

    text = plain_screen(monkeypatch, prediction(path), names=[path, "b.mp4"])

    assert re.search(r"^/a/very/.*….*/clip_07\.mp4 ", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("score", "shown"),
    [(1.0, "100.0 %"), (0.99998, ">99.9 %"), (0.9994, "99.9 %"), (0.0004, "<0.1 %"), (0.0, "0.0 %"), (0.5, "50.0 %")],
)
@pytest.mark.parametrize("names", [["a.mp4"], None], ids=["one", "many"])
def test_only_certainty_is_100_percent(
    monkeypatch: pytest.MonkeyPatch, score: float, shown: str, names: list[str] | None
) -> None:
    record = replace(prediction(weights=None), ranked=(Ranked("running", score, 0.2),))

    text = plain_screen(monkeypatch, record, names=names)

    assert re.search(rf" {shown}(?![\d.])", text)


def matched(*matches: float | None) -> Prediction:
    ranked = tuple(Ranked(f"label {i}", 0.5, 0.2, match) for i, match in enumerate(matches))
    return replace(prediction(weights=None), ranked=ranked)


def test_a_match_has_a_column_and_is_never_rounded_to_certainty(monkeypatch: pytest.MonkeyPatch) -> None:
    text = plain_screen(monkeypatch, matched(1 - 1e-16, 0.2227, 1e-12), names=["a.mp4"])

    assert re.search(r"Label +Score +Match +Cosine", text)
    shown = re.findall(r"label \d +50\.0 % +█+ +(\S+ %) +0\.200", text)
    assert shown == [">99.9 %", "22.3 %", "<0.1 %"]


@pytest.mark.parametrize("columns", [40, 59, 60, 68, 69, 80])
def test_a_match_costs_bars_and_no_line(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    with_match, without = (
        plain_screen(monkeypatch, record, names=["a.mp4"], columns=columns)
        for record in (matched(0.5, 0.5), matched(None, None))
    )

    assert len(with_match.splitlines()) == len(without.splitlines())
    assert max(map(cells, with_match.splitlines())) <= columns


def test_sigmoid_scores_are_shown_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = plain_screen(monkeypatch, replace(matched(0.5), scores="sigmoid"), names=["a.mp4"])

    assert "Match" not in text
    assert re.search(r"label 0 +50\.0 % +█+ +0\.200", text)


def test_on_a_wide_screen_the_label_takes_no_more_than_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    terminal = Terminal()
    labels = ("running", "jumping", "sitting down")
    TableWriter(terminal, ["a.mp4", "b.mp4"], labels).write(prediction(labels=labels))

    header, row, *_ = re.sub(r"\x1b\[[0-9;]*m", "", terminal.text).splitlines()

    assert header.index("Score") - header.index("Label") <= len("sitting down") + 4
    assert "jumping 25.0 %" in row
    assert "grass, dog" in row


@pytest.mark.parametrize("columns", [110, 120])
def test_the_score_of_a_long_second_label_is_kept_whole(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    labels = ("playing the trumpet in the street", "playing the guitar in the street")
    names = ["examples/clips/yellow_square_among_others.mp4", "b.mp4"]

    text = plain_screen(monkeypatch, prediction(names[0], labels), names=names, columns=columns)

    assert re.search(r" playing [a-z ]*… 25\.0 % ", text)


def test_a_path_gets_the_room_of_the_second_label_on_a_narrow_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    long, short = "examples/clips/yellow_square_among_others.mp4", "clips/a.mp4"

    narrow = plain_screen(monkeypatch, prediction(long), columns=80, names=[long, short])
    roomy = plain_screen(monkeypatch, prediction(short), columns=80, names=[short, "b.mp4"])

    assert long in narrow
    assert "Second best" not in narrow
    assert "Second best" in roomy


def test_a_single_label_has_no_runner_up(monkeypatch: pytest.MonkeyPatch) -> None:
    text = plain_screen(monkeypatch, prediction(labels=("running",), weights=None), columns=200)

    assert text.splitlines()[1].split()[-1] == "dog"


# -- it fits, and it is safe --------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [40, 60, *COLUMNS])
@pytest.mark.parametrize("names", [["a.mp4"], None], ids=["one", "many"])
@pytest.mark.parametrize("text", [LONG, WIDE, PICTURES], ids=["long", "wide", "pictures"])
def test_no_line_is_longer_than_the_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int, names: list[str] | None, text: str
) -> None:
    weights = tuple(np.linspace(0, 1, 100))
    records = prediction(f"{text}.mp4", (text, text + "!"), weights=weights, warning=text), failure(f"{text}.mp4")

    lines = screen(monkeypatch, *records, names=names, columns=columns).splitlines()

    assert lines
    assert max(map(cells, lines)) <= columns


def test_a_line_too_long_would_be_seen() -> None:
    assert cells("\x1b[1m日本\x1b[0m語🚲!") == 9


@pytest.mark.parametrize(("text", "names"), list(product(HOSTILE, (["a.mp4"], None))))
def test_text_from_outside_steers_nothing(monkeypatch: pytest.MonkeyPatch, text: str, names: list[str] | None) -> None:
    shown = screen(monkeypatch, prediction(text, (text, text)), failure(text), names=names, columns=200)

    assert steering(shown) == set()
    assert HOSTILE[text] in shown


def test_colour_is_for_terminals_and_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    colours = re.compile(r"\x1b\[[0-9;]*(?<![0-9])3[0-7]m")
    assert colours.search(screen(monkeypatch, prediction(), names=["a.mp4"]))

    monkeypatch.setenv("NO_COLOR", "1")

    assert not colours.search(screen(monkeypatch, prediction(), names=["a.mp4"]))


def test_a_terminal_without_unicode_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    text = plain_screen(monkeypatch, prediction(), names=["a.mp4"], encoding="ascii")

    assert re.search(r"running .* 50\.0 % *\| #{10} ", text)
    assert "--------" in text


@pytest.mark.parametrize(
    ("fit", "reason"),
    [(None, "Rejected the cosine 0.300 is too low"), (0.04, "Rejected the best label fits too badly")],
)
def test_the_reason_of_a_rejection_is_a_cosine_only_where_no_calibration_measures_something_else(
    fit: float | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rejected = replace(prediction("a.mp4"), rejection=Rejection(is_rejected=True, fit=fit))

    shown = screen(monkeypatch, replace(rejected, ranked=(Ranked("run", 0.9, 0.3),)), names=["a.mp4"])

    words = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", shown).split())
    assert reason in words
    counted = "Fit 4.0 % of the calibration's clips, this video included, fit no better"  # (1 + 0) / (24 + 1)
    assert (counted in words) == (fit is not None)
