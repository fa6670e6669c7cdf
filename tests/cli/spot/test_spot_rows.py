"""Records of timelines: which fields there are, in which order, and how numbers are rounded."""

import json
import math

import numpy as np
import pytest
from timelines import LABELS, a_cut, failure, segment, timeline

from bike_cli.cli.spot.rows import CutTimeline, as_object, as_rows, columns, keep_best
from bike_cli.records import Failure, Source

TWO = (segment("goal", 5.0, 7.5, 0.87654321), segment("corner kick", 1.0, 2.5, 0.99999912))


def test_the_fields_of_a_record_and_their_order() -> None:
    found = as_object(timeline(*TWO), "0123abcd")

    assert [*found] == ["path", "status", "segments", "model", "settings", "fps", "frames", "duration_s"]
    assert found["segments"] == [
        {"label": "corner kick", "start_s": 1.0, "end_s": 2.5, "score": 0.99999912, "peak_s": 1.75},
        {"label": "goal", "start_s": 5.0, "end_s": 7.5, "score": 0.876543, "peak_s": 6.25},
    ]
    rest = {name: value for name, value in found.items() if name != "segments"}
    assert rest == {
        "path": "cup/match.mp4",
        "status": "ok",
        "model": "tiny",
        "settings": "0123abcd",
        "fps": 2.0,
        "frames": 40,
        "duration_s": 20.0,
    }


def test_the_best_label_is_named_only_where_nothing_was_found() -> None:
    assert as_object(timeline())["best"] == {"label": "corner kick", "at_s": 2.25, "score": 0.12}
    assert as_object(timeline(best=None))["best"] is None
    assert "best" not in as_object(timeline(*TWO))


def test_times_are_milliseconds() -> None:
    (found,) = as_object(timeline(segment("goal", 1 / 3, 2 / 3), fps=30.0))["segments"]  # type: ignore[misc]

    assert (found["start_s"], found["end_s"], found["peak_s"]) == (0.333, 0.667, 0.5)


def test_what_is_not_there_is_left_out_or_null() -> None:
    found = as_object(timeline(duration_s=None, warning="3 frames could not be read"))

    assert found["duration_s"] is None
    assert found["warning"] == "3 frames could not be read"
    assert "settings" not in found


def test_the_scores_of_bins_are_written_if_asked_for() -> None:
    record = timeline(*TWO, scores=True, bins=40, end_s=19.8)
    assert record.scores is not None
    record.scores[3] = math.nan

    found = json.loads(json.dumps(as_object(record, timeline=True)))["timeline"]

    assert found["times_s"][:2] == [0.25, 0.75]
    assert found["times_s"][-1] == pytest.approx(19.65)  # the last bin is short
    assert [*found["scores"]] == [*LABELS]
    assert found["scores"]["goal"][3] is None
    assert found["scores"]["goal"][12] == 0.8765  # at 6.25 s
    assert {len(of_label) for of_label in found["scores"].values()} == {40}
    assert "timeline" not in as_object(record)
    assert "timeline" not in as_object(timeline(*TWO), timeline=True)


def test_a_failure_has_the_keys_that_classify_gives_it() -> None:
    assert as_object(failure(), "0123abcd") == {
        "path": "b.mp4",
        "status": "error",
        "error": {"type": "damaged", "message": failure().message},
    }


def test_a_clip_says_where_it_begins_and_a_lost_one_why() -> None:
    lost = Failure(Source.at("cup/match.mp4"), "unreadable", "clips/x.mp4: cannot be written (disk full)")
    first, second = as_object(CutTimeline(timeline(*TWO), (a_cut(), lost)))["segments"]  # type: ignore[misc]

    assert first["clip"] == {"path": "clips/match/0001_goal.mp4", "start_s": 1.5, "exact": False}
    assert second["clip"] == {"error": {"type": "unreadable", "message": lost.message}}


def test_clips_that_do_not_fit_the_segments_are_a_bug() -> None:
    with pytest.raises(ValueError, match="1 clips do not fit 2 segments"):
        CutTimeline(timeline(*TWO), (a_cut(),))


# -- rows of cells ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [False, True])
def test_every_row_has_a_cell_for_each_column(cuts: bool) -> None:
    found = timeline(*TWO)
    records = [found, timeline(), failure(), CutTimeline(found, (a_cut(), failure()))]

    rows = [row for record in records for row in as_rows(record, cuts=cuts)]

    assert {len(row) for row in rows} == {len(columns(cuts=cuts))}
    assert len(rows) == 2 + 1 + 1 + 2


def named(record: object, *, cuts: bool = False) -> list[dict[str, object]]:
    return [dict(zip(columns(cuts=cuts), row, strict=True)) for row in as_rows(record, cuts=cuts)]  # type: ignore[arg-type]


def test_a_row_per_segment() -> None:
    first, second = named(timeline(*TWO, warning="careful"))

    assert columns()[:5] == ["path", "start_s", "end_s", "label", "score"]
    assert [*first.values()][:6] == ["cup/match.mp4", 1.0, 2.5, "corner kick", 0.99999912, 1.75]
    assert (second["label"], second["status"], second["warning"], second["error"]) == ("goal", "ok", "careful", None)


def test_no_video_vanishes_from_the_rows() -> None:
    (empty,), (failed,) = named(timeline()), named(failure())

    assert (empty["path"], empty["label"], empty["start_s"], empty["status"]) == ("cup/match.mp4", None, None, "ok")
    assert (failed["path"], failed["status"], failed["error"], failed["label"]) == ("b.mp4", "error", "damaged", None)
    assert failed["message"] == failure().message


def test_clips_take_columns() -> None:
    first, second = named(CutTimeline(timeline(*TWO), (a_cut(), failure())), cuts=True)

    assert (first["clip"], first["clip_start_s"], first["clip_error"]) == ("clips/match/0001_goal.mp4", 1.5, None)
    assert (second["clip"], second["clip_error"]) == (None, failure().message)


# -- the best segments --------------------------------------------------------------------------------------------


def test_the_best_segments_of_each_label_are_kept_in_order() -> None:
    scores = {1: 0.7, 3: 0.9, 5: 0.9, 7: 0.8}
    found = timeline(*(segment("goal", t, t + 1, score) for t, score in scores.items()), segment("replay", 2, 3, 0.6))

    assert [(s.label, s.start_s) for s in keep_best(found, 2).segments] == [("replay", 2), ("goal", 3), ("goal", 5)]
    assert [s.start_s for s in keep_best(found, 1).segments] == [2, 3]
    assert keep_best(found, 9).segments == found.segments


def test_the_arrays_of_a_timeline_are_kept() -> None:
    found = timeline(*TWO, scores=True)

    assert np.array_equal(keep_best(found, 1).scores, found.scores)  # type: ignore[arg-type]
