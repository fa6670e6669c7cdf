"""Records as JSON objects and as flat cells."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from answers import HOSTILE, failure, prediction, steering

from bike_cli.cli.classify.rows import as_cells, columns
from bike_cli.data.predictions.objects import as_object
from bike_cli.json_text import as_json
from bike_cli.records import Ranked


def test_a_prediction_has_the_fields_of_the_design_in_its_order() -> None:
    assert as_object(prediction(weights=None)) == {
        "path": "a.mp4",
        "status": "ok",
        "label": "running",
        "score": 0.5,
        "top": [
            {"label": "running", "score": 0.5, "cosine": 0.2, "match": None},
            {"label": "jumping", "score": 0.25, "cosine": 0.1, "match": None},
            {"label": "sitting", "score": 0.125, "cosine": 0.0, "match": None},
        ],
        "attributes": [{"phrase": "grass", "cosine": 0.25}, {"phrase": "dog", "cosine": 0.125}],
        "scores": "softmax",
        "model": "tiny",
        "frames": 8,
        "duration_s": 12.346,
    }
    fields = ["path", "status", "label", "score", "top", "attributes", "scores", "model", "frames", "duration_s"]
    assert list(as_object(prediction(weights=None))) == fields


def test_a_match_is_written_with_the_digits_of_a_score() -> None:
    record = replace(
        prediction(weights=None), ranked=(Ranked("a", 1.0, 0.2, 1.41e-7), Ranked("b", 0.0, 0.1, 0.2227001))
    )

    found, row = as_object(record), dict(zip(columns(2), as_cells(record, 2), strict=True))

    assert [one["match"] for one in found["top"]] == [1.41e-7, 0.2227]  # type: ignore[attr-defined]
    assert (row["match"], row["match_2"]) == (1.41e-7, 0.2227)


def test_an_explained_prediction_ends_with_times_positions_and_saliency() -> None:
    explained, plain = as_object(prediction()), as_object(prediction(weights=None))

    added = {"times_s": [0.0, 0.5, 1.0], "positions": [0, 10, 20], "saliency": [0.1, 0.2, 0.7], "spotting": None}
    assert explained == {**plain, **added}


def test_a_warning_is_a_field() -> None:
    assert as_object(prediction(warning="3 frames"))["warning"] == "3 frames"


def test_a_failure_has_its_type_and_message() -> None:
    message = "b.mp4: decoding stops inside (bits); repair or replace the file"

    assert as_object(failure()) == {
        "path": "b.mp4",
        "status": "error",
        "error": {"type": "damaged", "message": message},
    }


def test_what_is_no_number_is_null() -> None:
    record = prediction()
    clockless = replace(record, timeline=replace(record.timeline, times_s=np.full(3, np.nan), duration_s=None))

    found = json.loads(as_json(as_object(clockless)))

    assert (found["times_s"], found["duration_s"]) == ([None] * 3, None)


@pytest.mark.parametrize("text", HOSTILE)
def test_json_is_safe_to_print_and_reads_back_as_it_was(text: str) -> None:
    line = as_json({"path": text})

    assert steering(line) == set()
    assert "\n" not in line
    assert json.loads(line) == {"path": text}


def test_json_keeps_other_scripts_readable() -> None:
    assert as_json("日本語 👩\u200d👧 é") == '"日本語 👩\u200d👧 é"'


def test_bytes_that_are_no_utf8_survive_json() -> None:
    name = b"caf\xe9\xff.mp4"

    assert os.fsencode(json.loads(as_json(os.fsdecode(name)))) == name


@pytest.mark.parametrize("top", [1, 2, 5])
@pytest.mark.parametrize("record", [prediction(labels=("running",)), failure()], ids=["prediction", "failure"])
def test_every_row_has_a_cell_for_each_column(record: object, top: int) -> None:
    assert len(as_cells(record, top)) == len(columns(top))  # type: ignore[arg-type]


def test_cells_stand_under_their_names() -> None:
    row = dict(zip(columns(4), as_cells(prediction(warning="hm"), 4), strict=True))

    assert row == {
        **{"path": "a.mp4", "status": "ok", "label": "running", "score": 0.5, "cosine": 0.2, "match": None},
        **{"label_2": "jumping", "score_2": 0.25, "cosine_2": 0.1, "match_2": None},
        **{"label_3": "sitting", "score_3": 0.125, "cosine_3": 0.0, "match_3": None},
        **{"label_4": None, "score_4": None, "cosine_4": None, "match_4": None},
        **{"attributes": "grass, dog", "scores": "softmax", "model": "tiny", "frames": 8, "duration_s": 12.346},
        **{"warning": "hm", "error": None, "message": None},
    }


def test_a_failures_cells_are_empty_between_its_path_and_its_error() -> None:
    row = dict(zip(columns(2), as_cells(failure(), 2), strict=True))

    filled = {name: cell for name, cell in row.items() if cell is not None}
    assert filled == {"path": "b.mp4", "status": "error", "error": "damaged", "message": failure().message}
