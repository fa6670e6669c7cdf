"""The table for people: bars over the time axis, segments below, any width, any label."""

import math
import re
import sys

import numpy as np
import pytest
from answers import COLOUR, HOSTILE, cells, steering
from invoke import Terminal
from timelines import LABELS, a_cut, failure, segment, timeline

from bike_cli.cli.spot.rows import CutTimeline, Record
from bike_cli.cli.spot.table import TableWriter
from bike_cli.cli.terminal.tables import ASCII_BARS, BARS
from bike_cli.records import Failure, Peak, Source

SEGMENTS = (segment("goal", 723.25, 729.0, 0.97), segment("corner kick", 60.0, 90.0, 0.8), segment("goal", 10.0, 11.0))
LONG = {"bins": 7200, "end_s": 3599.6, "scores": True}  # an hour


def shown(monkeypatch: pytest.MonkeyPatch, *records: Record, columns: int = 80, encoding: str = "utf-8") -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    screen = Terminal(encoding, "replace")
    writer = TableWriter(screen)
    for record in records:
        writer.write(record)
    writer.close()
    return screen.text


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in COLOUR.sub("", text).splitlines()]


def bar_of(text: str, label: str) -> str:
    """The bar of a label's row, with its spaces; the label with its padding, without the gap of two."""
    row = next(line for line in COLOUR.sub("", text).splitlines() if line.startswith(f"  {label}  ") and "%" in line)
    match = re.fullmatch(r"(.*)  \d+[×x]  .*", row.removeprefix(f"  {label}  "))
    assert match is not None
    return match[1]


def test_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    found = lines(shown(monkeypatch, timeline(*SEGMENTS, **LONG)))  # type: ignore[arg-type]

    assert found[0] == "cup/match.mp4  00:59:59.60"
    assert re.fullmatch(r"  corner kick  .*  1×  30\.0 s  80 %", found[1])
    assert re.fullmatch(r"  goal         .*  2×   6\.8 s  97 %", found[2])
    assert re.fullmatch(r"               0 +01:00:00", found[3])
    assert found[4:] == [
        "  00:00:10.00–00:00:11.00  goal  90 %",
        "  00:01:00.00–00:01:30.00  corner kick  80 %",
        "  00:12:03.25–00:12:09.00  goal  97 %",
    ]


def test_a_label_that_was_not_found_has_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "replay" not in shown(monkeypatch, timeline(*SEGMENTS, **LONG))  # type: ignore[arg-type]


@pytest.mark.parametrize("scores", [True, False])
@pytest.mark.parametrize("columns", [60, 80, 200])
def test_a_bar_is_high_where_the_label_is_seen(monkeypatch: pytest.MonkeyPatch, columns: int, scores: bool) -> None:
    found = timeline(segment("goal", 5.0, 10.0, 0.97), segment("replay", 0.0, 20.0), scores=scores)

    bar = bar_of(shown(monkeypatch, found, columns=columns), "goal  ")

    for place, sign in enumerate(bar):
        start_s, stop_s = (20 * edge / len(bar) for edge in (place, place + 1))
        assert sign == ("█" if start_s < 10 and stop_s > 5 else " ")


def test_the_highest_score_in_a_cell_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    found = timeline(segment("goal", 0.0, 0.5), bins=4000, scores=True)
    assert found.scores is not None
    found.scores[:, 1] = 0.0
    found.scores[3777, 1] = 0.6  # one bin of four thousand

    bar = bar_of(shown(monkeypatch, found), "goal")

    assert [place for place, sign in enumerate(bar) if sign != " "] == [0, int(len(bar) * 3777 / 4000)]


@pytest.mark.parametrize(("score", "step"), [(0.09, None), (0.1, 0), (0.5, 3), (0.99, 7), (1.0, 7)])
@pytest.mark.parametrize(("encoding", "bars"), [("utf-8", BARS), ("ascii", ASCII_BARS)])
def test_the_height_of_a_bar(
    monkeypatch: pytest.MonkeyPatch, score: float, step: int | None, encoding: str, bars: str
) -> None:
    found = timeline(segment("goal", 0.0, 0.5), bins=40, scores=True)
    assert found.scores is not None
    found.scores[20:, 1] = score

    assert bar_of(shown(monkeypatch, found, encoding=encoding), "goal")[-1] == (" " if step is None else bars[step])


def test_only_what_lies_in_a_segment_is_bold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    found = timeline(segment("goal", 0.0, 10.0), scores=True)
    assert found.scores is not None
    found.scores[:, 1] = 0.9

    row = next(line for line in shown(monkeypatch, found).splitlines() if "█" in line)

    bold, dim = re.findall(r"\x1b\[1;32m(█+)\x1b\[0m", row), re.findall(r"\x1b\[2;32m(█+)\x1b\[0m", row)
    assert (len(bold), len(dim)) == (1, 1)
    assert abs(len(bold[0]) - len(dim[0])) <= 1


def test_bins_that_could_not_be_read_leave_no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    found = timeline(segment("goal", 0.0, 1.0), scores=True)
    assert found.scores is not None
    found.scores[10:] = np.nan

    bar = bar_of(shown(monkeypatch, found), "goal")

    assert bar.rstrip() == "█" * math.ceil(len(bar) / 20)


def test_a_video_without_segments_says_what_came_closest(monkeypatch: pytest.MonkeyPatch) -> None:
    found = timeline(best=Peak("goal", 2470.0, 0.12))
    unread = timeline(best=None)

    assert lines(shown(monkeypatch, found))[1] == "  nothing found; the best is goal at 00:41:10, 12 %"
    assert lines(shown(monkeypatch, unread))[1] == "  nothing found; no frame could be read"


def test_failures_warnings_and_lost_clips_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Failure(Source.at("clips/x.mp4"), "unreadable", "clips/x.mp4: cannot be written (disk full)")
    found = timeline(segment("goal", 1, 2), segment("goal", 4, 5), warning="3 frames could not be read")

    text = lines(shown(monkeypatch, CutTimeline(found, (a_cut(), lost)), failure()))

    assert "  no clip: cannot be written (disk full)" in text
    assert "  warning: 3 frames could not be read" in text
    assert text[-3:] == ["", "b.mp4", "  failed decoding stops inside (bits); repair or replace the file"]


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_line_is_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int, encoding: str) -> None:
    labels = ["a label that goes on and on and on, far beyond what anyone would write " * 2, "足球" * 30, "short"]
    found = timeline(
        *(segment(label, i, i + 1) for i, label in enumerate(labels)),
        labels=labels,
        path="videos/" + "deep/" * 60 + "match.mp4",
        warning="words " * 60,
        scores=True,
    )
    text = shown(monkeypatch, found, failure("f" * 300), timeline(best=Peak(labels[1], 1, 0.1)), columns=columns)

    assert max(cells(line) for line in lines(text)) <= columns


@pytest.mark.parametrize("text", HOSTILE)
def test_labels_and_names_are_inert(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    found = timeline(segment(text, 1, 2), path=text, labels=[text], warning=text)
    records = found, timeline(path=text, labels=[text], best=Peak(text, 1, 0.5)), failure(text)

    screen = shown(monkeypatch, *records, columns=200)

    assert steering(screen) == set()
    assert screen.count(HOSTILE[text]) >= 5


def test_a_pipe_gets_no_padding(capsys: pytest.CaptureFixture[str]) -> None:
    TableWriter(sys.stdout).write(timeline(*SEGMENTS, warning="careful"))

    assert not any(line.endswith(" ") for line in capsys.readouterr().out.splitlines())
    assert LABELS[0] == "corner kick"
