"""The page of a report: every figure in its place, nothing from outside is markup, nothing is loaded."""

import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from answers import HOSTILE, steering
from browser import Browser, browsing, find_browser
from page_reader import LINKS, LOWEST_CONTRAST, MARKUP, UNFOLD, Node, Reader, pixels
from PIL import Image

import bike_cli
from bike_cli.cli.eval.page import CONFUSIONS_SHOWN, FAILURES_SHOWN, write_html
from bike_cli.errors import UsageError
from bike_cli.tasks.evaluate.mistakes import Mistake, Mistakes
from bike_cli.tasks.evaluate.report import EvaluationReport

LABELS = ("red square", "blue circle", "green cross")
COUNTS = ((6, 3, 1), (0, 8, 0), (1, 1, 2))  # recalls 0.6, 1, 0.5
NAMES = HOSTILE | MARKUP


# -- reports to write ---------------------------------------------------------------------------------------------


def figure(value: float, margin: float = 0.05) -> dict[str, float]:
    return {"value": value, "low": value - margin, "high": value + margin}


def a_class(label: str, recall: float | None, videos: int = 10, ap: float | None = None) -> dict[str, object]:
    return {"label": label, "videos": videos, "recall": recall, "precision": recall, "f1": recall, "ap": ap}


def a_system(
    name: str = "tiny", *, labels: Sequence[str] = LABELS, counts: Sequence[Sequence[int]] | None = COUNTS
) -> dict[str, object]:
    shares = [row[i] / sum(row) if sum(row) else None for i, row in enumerate(counts or [])]
    classes = [a_class(label, share) for label, share in zip(labels, shares, strict=True)] if counts else []
    metrics = {"top1": figure(0.7273, 0.1), "ece": figure(0.08, 0.01), "auroc_none": figure(0.9)}
    return {
        "name": name,
        "metrics": metrics,
        "official": {"top1": 0.7512},
        "per_class": classes,
        "confusion": None if counts is None else [list(row) for row in counts],
        "reliability": None if counts is None else {"scores": [a_bin(0.4, 0.5), a_bin(0.9, 0.75)]},
    }


def a_bin(confidence: float, accuracy: float) -> dict[str, object]:
    low = int(confidence * 15) / 15
    edges = {"low": low, "high": low + 1 / 15}
    return {**edges, "videos": 4, "confidence": confidence, "accuracy": figure(accuracy, 0.2)}


def a_report(*systems: dict[str, object], **changes: object) -> dict[str, object]:
    found = {
        "command": "eval",
        "protocol": "standard",
        "model": "tiny",
        "fingerprint": "f1" * 32,
        "device": "cpu",
        "dtype": "float32",
        "settings": {"frames": 8, "template": "a video of {}.", "threshold": None, "labels": ["a", "b"]},
        "arguments": {},
        "data": the_data(),
        "systems": list(systems),
        "comparisons": [],
        "splits": [],
        "versions": {"bike": "0.1.0", "decord": None},
        "seed": 7,
    }
    return found | changes


def the_data(**changes: object) -> dict[str, object]:
    nothing: list[str] = []
    known = {"files": ["truth.csv"], "sha256": "ab" * 32, "contents": "cd" * 32, "videos": 1234, "classes": 3}
    return known | {"failed": nothing, "classes_without_videos": nothing} | changes


def a_difference(metric: str, low: float, high: float, p: float = 0.25) -> dict[str, object]:
    return {
        "a": "tiny",
        "b": "other",
        "metric": metric,
        "difference": (low + high) / 2,
        "low": low,
        "high": high,
        "p": p,
        "videos": 1234,
        "left_out": 0,
    }


def a_frame(colour: tuple[int, int, int] = (200, 40, 40), height: int = 240, width: int = 320) -> np.ndarray:
    return np.full((height, width, 3), colour, dtype=np.uint8)


def a_mistake(path: str = "a.mp4", score: float = 0.9, **changes: object) -> Mistake:
    frames = (a_frame((200, 40, 40)), a_frame((40, 40, 200)))
    made = Mistake(path, "red square", "blue circle", score, frames, (0.5, 2.25), (0.4, 0.1), ("grass", "two dogs"))
    return replace(made, **changes)  # type: ignore[arg-type]


def many_classes(count: int, *, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Labels, and a matrix of mostly right answers."""
    rng = np.random.default_rng(seed)
    counts = np.diag(rng.integers(5, 40, count))
    np.add.at(counts, (rng.integers(0, count, 12 * count), rng.integers(0, count, 12 * count)), 1)
    return [f"doing the thing number {i}" for i in range(count)], counts


def everything(name: str = "a name") -> tuple[dict[str, object], list[Mistake]]:
    """A report with a name from outside wherever one can be."""
    labels = (name, *LABELS[1:])
    compared = a_difference(name, 0.05, 0.2, 0.0) | {"a": name, "b": name}
    failed = [{"path": name, "type": name, "message": name}]
    split = {"system": name, "name": name, "classes": 2, "videos": 9, "metrics": {name: 0.5}}
    system = a_system(name, labels=labels) | {"official": {name: 0.5}, "reliability": {name: [a_bin(0.4, 0.5)]}}
    crowded = a_system(name, labels=(name, *(f"{i}" for i in range(63))), counts=many_classes(64)[1].tolist())
    report = a_report(
        system,
        crowded,
        protocol=name,
        model=name,
        fingerprint=name,
        device=name,
        dtype=name,
        settings={name: name, "list": [name]},
        arguments={name: [name]},
        versions={name: name},
        data=the_data(files=[name], sha256=name, failed=failed, classes_without_videos=[name]),
        comparisons=[compared],
        splits=[split],
    )
    return report, [a_mistake(name, label=name, guess=name, attributes=(name,))]


CASES: dict[str, tuple[dict[str, object], list[Mistake]]] = {
    "everything": everything(),
    "nothing": (a_report(data=the_data(videos=0, classes=0, files=[]), settings={}, versions={}), []),
    "one class": (a_report(a_system(labels=["red"], counts=[[3]])), [a_mistake()]),
    "hostile": everything("<b>&\"'\x1b\u202e\udcff"),
    "long": everything("averylongname" * 500),
    "sixty": (a_report(a_system(labels=many_classes(60)[0], counts=many_classes(60)[1].tolist())), []),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "report.html"


def write(report: Mapping[str, object], mistakes: Sequence[Mistake], file: Path) -> None:
    write_html(typed(report), Mistakes(mistakes), file)


def typed(report: Mapping[str, object]) -> EvaluationReport:
    return EvaluationReport.from_json(json.dumps(report))


def written(report: Mapping[str, object], mistakes: Sequence[Mistake], file: Path) -> Node:
    write(report, mistakes, file)
    return Reader(file.read_text(encoding="utf-8")).root


def rows_of(page: Node, id_: str) -> list[dict[str, str]]:
    """Return a table's rows by what the heads of its columns say."""
    table = page.one("div", id=id_).one("table")
    heads = [cell.text for cell in table.one("thead").all("tr")[-1].all("th")]
    rows = [[c for c in row.children if isinstance(c, Node)] for row in table.one("tbody").all("tr")]
    return [dict(zip(heads, (cell.text for cell in row), strict=True)) for row in rows]


# -- the page as such ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_every_tag_is_closed_and_every_name_of_a_place_is_there_once(case: str, file: Path) -> None:
    page = written(*CASES[case], file)

    ids = [node.attributes["id"] for node in page.all() if "id" in node.attributes]
    named = [node.attributes[key] for node in page.all() for key in ("aria-labelledby",) if key in node.attributes]
    aims = [str(node.attributes["href"])[1:] for node in page.all("a")]
    assert sorted(set(ids)) == sorted(ids)  # type: ignore[type-var]
    assert {*named, *aims} <= set(ids)


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_loaded_and_nothing_runs(case: str, file: Path) -> None:
    page = written(*CASES[case], file)

    links = [value for node in page.all() for key, value in node.attributes.items() if key in LINKS]
    assert {str(link).partition(":")[0] for link in links if not str(link).startswith("#")} == {"data"}
    assert {node.tag for node in page.all()}.isdisjoint({"script", "iframe", "object", "embed", "form", "base"})
    assert [k for node in page.all() for k in node.attributes if k.startswith("on") or k == "style"] == []
    assert re.findall(r"url\(|@import|//", page.one("style").text) == []


def test_a_browser_may_load_only_this_style_and_pictures_inside_the_page(file: Path) -> None:
    page = written(*CASES["everything"], file)

    meta = page.one("meta", **{"http-equiv": "Content-Security-Policy"})
    digest = base64.b64encode(hashlib.sha256(page.one("style").text.encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in str(meta.attributes["content"]).split(";"))
    assert rules.pop("default-src") == "'none'"
    assert rules.pop("img-src") == "data:"
    assert rules.pop("style-src") == f"'sha256-{digest}'"
    assert set(rules.values()) == {"'none'"}


def test_a_screen_reader_finds_headings_captions_and_what_pictures_show(file: Path) -> None:
    page = written(*CASES["everything"], file)

    levels = [int(node.tag[1]) for node in page.all() if re.fullmatch("h[1-6]", node.tag)]
    assert page.one("html").attributes["lang"] == "en"
    assert levels[0] == 1
    assert 1 not in levels[1:]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(table.one("caption").text for table in page.all("table"))
    assert {head.attributes.get("scope") for head in page.all("th")} == {"col", "row", "colgroup"}
    assert all(image.attributes["alt"] for image in page.all("img"))
    assert all(box.attributes["tabindex"] == "0" for box in page.all("div", role="region"))
    assert {bar.attributes["aria-hidden"] for bar in page.all("svg")} == {"true"}


# -- figures ------------------------------------------------------------------------------------------------------


def test_each_system_has_a_row_of_figures_with_intervals(file: Path) -> None:
    page = written(a_report(a_system("one"), a_system("two")), [], file)

    rows = rows_of(page, "headline")
    assert [row["system"] for row in rows] == ["one", "two"]
    assert list(rows[0]) == ["system", "top-1", "calibration error", "AUROC, none of these", "official top-1"]
    assert rows[0]["top-1"] == "72.7 62.7 – 82.7"
    assert rows[0]["calibration error"] == "8.0 7.0 – 9.0"
    assert rows[0]["AUROC, none of these"] == "90.0 85.0 – 95.0"


def test_an_official_figure_says_so_in_its_own_head_and_above(file: Path) -> None:
    page = written(a_report(a_system(), a_system("other") | {"official": None}), [], file)

    assert [row["official top-1"] for row in rows_of(page, "headline")] == ["75.1", "–"]
    groups = {g.text: g.attributes["colspan"] for g in page.one("div", id="headline").all("th", scope="colgroup")}
    assert groups == {"": "1", "bike": "3", "official BIKE code": "1"}


def test_without_official_figures_nothing_is_called_official(file: Path) -> None:
    page = written(a_report(a_system() | {"official": None}), [], file)

    assert "official" not in page.one("main").text.lower()


def test_a_metric_that_a_system_lacks_is_a_dash(file: Path) -> None:
    systems = [a_system("one") | {"metrics": {key: figure(0.5)}} for key in ("top1", "map")]

    rows = rows_of(written(a_report(*systems), [], file), "headline")

    assert [(row["top-1"], row["mAP"]) for row in rows] == [("50.0 45.0 – 55.0", "–"), ("–", "50.0 45.0 – 55.0")]


@pytest.mark.parametrize(
    ("metric", "difference", "significant", "differing", "verdict"),
    [
        ("top1", 0.02, True, 9, "significant: other is better"),
        ("top1", -0.02, True, 9, "significant: tiny is better"),
        ("ece", 0.02, True, 9, "significant: tiny is better"),  # a smaller error
        ("ece", -0.02, True, 9, "significant: other is better"),
        ("top1", 0.02, False, 9, "not significant"),
        ("map", 0.02, None, 9, ""),  # does not decide
        ("top1", 0.0, False, 0, "same answers"),
    ],
)
def test_a_difference_has_a_verdict_if_its_metric_decides(
    metric: str, difference: float, significant: bool | None, differing: int, verdict: str, file: Path
) -> None:
    row = a_difference(metric, difference - 0.01, difference + 0.01)
    row |= {"significant": significant, "differing": differing}
    page = written(a_report(a_system(), comparisons=[row]), [], file)

    assert rows_of(page, "comparisons")[0]["verdict"] == verdict


def test_a_system_that_gives_the_same_answers_has_one_row(file: Path) -> None:
    same = [a_difference(metric, -0.1, 0.1) | {"differing": 0} for metric in ("top1", "mean_class", "map")]
    other = [a_difference(metric, 0.0, 0.2) | {"b": "third", "differing": 3} for metric in ("top1", "map")]
    page = written(a_report(a_system(), comparisons=[*same, *other]), [], file)

    assert [row["verdict"] for row in rows_of(page, "comparisons")] == ["same answers", "", ""]


def test_the_metric_that_decides_is_named(file: Path) -> None:
    rows = [a_difference("top1", 0.0, 0.1) | {"p_adjusted": p, "significant": p < 0.05} for p in (0.01, 0.2)]
    page = written(a_report(a_system(), comparisons=[*rows, a_difference("map", 0.0, 0.1)]), [], file)

    assert "; top-1 decides, p adjusted for 2 comparisons (Holm)." in page.one("section", id="differences").text


def test_a_metric_without_a_test_has_a_dash_that_is_explained(file: Path) -> None:
    tested = a_difference("top1", 0.0, 0.1) | {"p_adjusted": 0.01, "significant": True}
    untested = a_difference("map", 0.0, 0.1)
    said = "top-1 decides. – not tested: only top-1 decides."

    for rows, is_said in (([tested, untested], True), ([tested], False), ([untested], False)):
        page = written(a_report(a_system(), comparisons=rows), [], file)
        assert [row["p"] for row in rows_of(page, "comparisons")] == [
            "–" if row is untested else "0.010" for row in rows
        ]
        assert (said in page.one("div", id="comparisons").one("caption").text) is is_said


@pytest.mark.parametrize(
    ("protocol", "left_out", "said"),
    [
        (
            "standard",
            0,
            "In percentage points, on the same videos; not tested, because ",
        ),
        (
            "standard",
            3,
            "In percentage points, on the 1,200 videos that both have; not tested, because ",
        ),
        (
            "fewshot",
            0,
            "In percentage points, on the same videos, for the first draw; not tested, because ",
        ),
        (
            "k600",
            0,
            "In percentage points, on the same videos, over the classes of all splits together; not tested, because ",
        ),
    ],
)
def test_what_differences_are_of_is_said(protocol: str, left_out: int, said: str, file: Path) -> None:
    difference = a_difference("top1", 0.0, 0.1) | {"videos": 1200, "left_out": left_out}

    page = written(a_report(a_system(), comparisons=[difference]) | {"protocol": protocol}, [], file)

    assert said in page.one("section", id="differences").text


def test_pairs_that_share_different_numbers_of_videos_are_reported(file: Path) -> None:
    pairs = [a_difference("top1", 0.0, 0.1) | {"videos": n, "left_out": 20 - n} for n in (2, 8)]

    page = written(a_report(a_system(), comparisons=pairs), [], file)

    assert "on the videos that both have (2 to 8); not tested, because " in page.one("section", id="differences").text


def test_a_difference_has_its_sign_its_interval_and_its_p(file: Path) -> None:
    differences = [a_difference("top1", -0.042, 0.0), a_difference("top1", 0.0, 0.0)]
    differences = [row | {"p_adjusted": p} for row, p in zip(differences, (0.04, 0.0), strict=True)]

    rows = rows_of(written(a_report(a_system(), comparisons=differences), [], file), "comparisons")

    assert [(row["difference"], row["95 % interval"], row["p"]) for row in rows] == [
        ("−2.1", "−4.2 to +0.0", "0.040"),
        ("+0.0", "+0.0 to +0.0", "< 0.001"),
    ]
    assert rows[0]["systems"] == "other vs. tiny"


def test_each_split_has_a_row(file: Path) -> None:
    splits = [
        {"system": "tiny", "name": f"half {i}", "classes": 51, "videos": 1500 + i, "metrics": {"top1": i / 4}}
        for i in (1, 2)
    ]

    rows = rows_of(written(a_report(a_system(), splits=splits), [], file), "split-metrics")

    assert [(row["split"], row["classes"], row["videos"], row["top-1"].strip()) for row in rows] == [
        ("half 1", "51", "1,501", "25.0"),
        ("half 2", "51", "1,502", "50.0"),
    ]


def test_a_mean_over_splits_has_its_deviation_next_to_it(file: Path) -> None:
    metrics = {"top1": 0.5, "top5": 0.75, "top1_std": 0.021, "top5_std": 0.0}
    splits = [{"system": "tiny", "name": "mean ± std", "classes": None, "videos": None, "metrics": metrics}]
    system = a_system() | {"official": {"half_top1": 0.6, "half_top1_std": 0.013}}

    page = written(a_report(system, splits=splits), [], file)

    (row,) = rows_of(page, "split-metrics")
    assert (row["system"], row["classes"], row["top-1"], row["top-5"]) == ("tiny", "–", "50.0 ± 2.1", "75.0 ± 0.0")
    assert rows_of(page, "headline")[0]["official top-1 on halves"] == "60.0 ± 1.3"


# -- classes and confusions ---------------------------------------------------------------------------------------


def test_classes_stand_from_worst_to_best_and_those_without_a_figure_last(file: Path) -> None:
    counts = [(6, 4, 0, 0), (0, 0, 0, 0), (0, 0, 9, 1), (0, 5, 0, 5)]
    page = written(a_report(a_system(labels=("a", "b", "c", "d"), counts=counts)), [], file)

    rows = rows_of(page, "classes-0")

    assert [(row["class"], row["recall"]) for row in rows] == [("d", "50.0"), ("a", "60.0"), ("c", "90.0"), ("b", "–")]


def test_with_one_label_a_video_recall_is_what_counts(file: Path) -> None:
    classes = [a_class("sits", 0.1, ap=0.9), a_class("runs", 0.9, ap=0.25), a_class("eats", 0.5, ap=0.5)]
    page = written(a_report(a_system() | {"per_class": classes}), [], file)

    rows = rows_of(page, "classes-0")
    assert list(rows[0]) == ["class", "recall", "average precision", "precision", "F1", "videos"]
    assert [row["recall"] for row in rows] == ["10.0", "50.0", "90.0"]


def test_a_bar_is_as_long_as_its_share(file: Path) -> None:
    page = written(a_report(a_system()), [], file)

    bars = [row.one("rect", class_="share") for row in page.one("div", id="classes-0").one("tbody").all("tr")]
    assert [float(bar.attributes["width"] or 0) for bar in bars] == [50, 60, 100]


def test_with_several_labels_a_video_average_precision_is_what_counts(file: Path) -> None:
    classes = [a_class("sits", None, ap=0.9), a_class("runs", None, ap=0.25), a_class("eats", None, 0)]
    page = written(a_report(a_system() | {"per_class": classes, "confusion": None}), [], file)

    rows = rows_of(page, "classes-0")
    assert [(row["class"], row["average precision"]) for row in rows][:2] == [("runs", "25.0"), ("sits", "90.0")]
    assert page.all(id="confusions") == []


def test_a_matrix_has_every_count_in_its_row_and_column(file: Path) -> None:
    page = written(a_report(a_system()), [], file)

    table = page.one("div", id="matrix-0").one("table")
    rows = [[cell.text for cell in row.children if isinstance(cell, Node)] for row in table.one("tbody").all("tr")]
    assert [head.text for head in table.all("th", scope="col")] == list(LABELS)
    assert rows == [["red square", "6", "3", "1"], ["blue circle", "", "8", ""], ["green cross", "1", "1", "2"]]


def test_a_cell_is_the_stronger_the_larger_its_share(file: Path) -> None:
    page = written(a_report(a_system()), [], file)

    shades = [cell.attributes.get("class") for cell in page.one("div", id="matrix-0").one("tbody").all("td")]
    assert shades == ["correct3", "wrong2", "wrong1", None, "correct5", None, "wrong2", "wrong2", "correct3"]


def test_of_many_classes_the_most_frequent_confusions_are_reported(file: Path) -> None:
    labels, counts = many_classes(80)
    counts[3, 5], counts[70, 2] = 50, 40
    page = written(a_report(a_system(labels=labels, counts=counts.tolist())), [], file)

    rows = rows_of(page, "matrix-0")

    result = Counter({(labels[i], labels[j]): int(n) for (i, j), n in np.ndenumerate(counts) if i != j})
    assert [int(row["videos"]) for row in rows] == [n for _, n in result.most_common(CONFUSIONS_SHOWN)]
    assert [result[row["class"], row["classified as"]] for row in rows] == [int(row["videos"]) for row in rows]
    assert float(rows[0]["% of class"]) == pytest.approx(100 * 50 / counts[3].sum(), abs=0.05)


def test_many_classes_without_a_confusion_say_so(file: Path) -> None:
    labels = many_classes(70)[0]
    page = written(a_report(a_system(labels=labels, counts=np.eye(70, dtype=int).tolist())), [], file)

    assert "No video was misclassified." in page.one("section", id="confusions").text


def test_of_several_systems_each_has_its_classes_and_the_first_is_open(file: Path) -> None:
    page = written(a_report(a_system("one"), a_system("two")), [], file)

    for section in ("classes", "confusions"):
        systems = page.one("section", id=section).all("details")
        assert [d.one("summary").text for d in systems] == ["one", "two"]
        assert ["open" in d.attributes for d in systems] == [True, False]


def test_a_matrix_of_another_size_than_its_classes_is_refused(file: Path) -> None:
    with pytest.raises(ValueError, match=r"tiny: confusion is not square; expected .* class \(3\)"):
        write(a_report(a_system() | {"confusion": [[1, 0], [0, 1]]}), [], file)


# -- mistakes -----------------------------------------------------------------------------------------------------


def test_whose_mistakes_they_are_is_said_where_there_are_several_systems(file: Path) -> None:
    for system, said in (("<b>probe</b>, 2 shots", ["By <b>probe</b>, 2 shots."]), ("", [])):
        for mistakes in ([a_mistake()], []):
            write_html(typed(a_report(a_system())), Mistakes(mistakes, system), file)

            result = [p.text for p in Reader(file.read_text()).root.one("section", id="mistakes").all("p")]
            assert [text for text in result if text.startswith("By ")] == said


def test_the_surest_mistake_comes_first(file: Path) -> None:
    mistakes = [a_mistake("b.mp4", 0.5), a_mistake("c.mp4", 0.99), a_mistake("a.mp4", 0.7)]

    cards = written(a_report(a_system()), mistakes, file).all("article")

    assert [card.one("code").text for card in cards] == ["c.mp4", "a.mp4", "b.mp4"]
    assert cards[0].one("h3").text == "red square classified as blue circle"
    assert "99.0 % confident" in cards[0].text
    assert [chip.text for chip in cards[0].one("ul", class_="attributes").all("li")] == ["grass", "two dogs"]


def test_a_frame_is_a_small_picture_with_its_time_and_its_weight(file: Path) -> None:
    tall = (a_frame((10, 200, 10), 900, 300), a_frame((250, 250, 10), 30, 40))
    card = written(a_report(a_system()), [a_mistake(frames=tall)], file).one("article")

    first, second = (opened(image) for image in card.all("img"))
    assert first.size == (75, 224)
    assert second.size == (40, 30)
    assert np.abs(np.asarray(first).astype(int) - (10, 200, 10)).max() < 6
    assert [result.text for result in card.all("figcaption")] == ["0.50 s · 40.0 %", "2.25 s · 10.0 %"]
    assert card.all("img")[1].attributes["alt"] == "red square, classified as blue circle: 2.25 s, weight 10.0 %"


def opened(image: Node) -> Image.Image:
    kind, content = str(image.attributes["src"]).split(",", 1)
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content, validate=True)))


def test_a_frame_without_a_clock_has_its_number(file: Path) -> None:
    card = written(a_report(a_system()), [a_mistake(times_s=(float("nan"),) * 2)], file).one("article")

    assert [result.text for result in card.all("figcaption")] == ["frame 1 · 40.0 %", "frame 2 · 10.0 %"]


def test_every_bar_is_as_long_as_the_number_at_it_and_its_section_names_the_scale(file: Path) -> None:
    crowded = a_system("crowded", labels=many_classes(64)[0], counts=many_classes(64)[1].tolist())
    split = {"system": "tiny", "name": "half 1", "classes": 2, "videos": 9, "metrics": {"top1": 0.3333}}
    mistakes = [a_mistake(weights=(0.2757, 0.1)), a_mistake(score=0.5, weights=(0.35, 0.28))]
    page = written(a_report(a_system(), crowded, splits=[split]), mistakes, file)

    sections = {str(section.attributes["id"]): section for section in page.all("section")}
    drawn = {name: section for name, section in sections.items() if section.all("svg", class_="bar")}
    assert set(drawn) == {"metrics", "splits", "classes", "confusions", "mistakes"}
    for section in drawn.values():
        assert "Bars run from 0 to 100 %." in section.text
        for holder in section.all():
            for bar in (child for child in holder.children if isinstance(child, Node) and child.tag == "svg"):
                number = re.findall(r"\d+\.\d+", holder.text.rpartition(" s · ")[2])[0]
                width = float(str(bar.one("rect", class_="share").attributes["width"]))
                assert bar.attributes["viewbox"] == "0 0 100 10"
                assert width == pytest.approx(float(number), abs=0.051)


def test_the_line_across_a_bar_is_the_interval(file: Path) -> None:
    metrics = {"top1": {"value": 0.8, "low": 0.55, "high": 0.9}, "mean_class": {"value": 1.0, "low": 0.48, "high": 1.0}}
    page = written(a_report(a_system() | {"metrics": metrics}), [], file)

    lines = [bar.attributes for bar in page.one("div", id="headline").all("rect", class_="interval")]
    assert [(float(str(line["x"])), float(str(line["width"]))) for line in lines] == [(55, 35), (48, 52)]
    assert "The line across a bar is the interval." in page.one("div", id="headline").one("caption").text


def test_weights_of_nothing_are_empty_bars(file: Path) -> None:
    card = written(a_report(a_system()), [a_mistake(weights=(0.0, 0.0))], file).one("article")

    bars = card.one("ul", class_="frames").all("rect", class_="share")
    assert [bar.attributes["width"] for bar in bars] == ["0", "0"]


def test_a_mistake_without_frames_is_a_card_without_pictures(file: Path) -> None:
    bare = a_mistake(frames=(), times_s=(), weights=(), attributes=())

    card = written(a_report(a_system()), [bare], file).one("article")

    assert card.all("img") == card.all("ul") == []


@pytest.mark.parametrize("wrong", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_frame_is_refused_and_an_older_page_stays(wrong: np.ndarray, file: Path) -> None:
    file.write_text("older")

    with pytest.raises(ValueError, match="expected uint8"):
        write(a_report(a_system()), [a_mistake(frames=(a_frame(), wrong))], file)

    assert file.read_text() == "older"
    assert [f.name for f in file.parent.iterdir()] == ["report.html"]


# -- what is not among the figures, and the manifest --------------------------------------------------------------


def test_failures_are_counted_at_the_top_and_listed_below(file: Path) -> None:
    failed = [{"path": "x.mp4", "type": "damaged", "message": "x.mp4: stops inside"}]
    page = written(a_report(a_system(), data=the_data(failed=failed, classes_without_videos=["b", "c"])), [], file)

    assert page.one("p", class_="note").text == "1 video could not be read. 2 classes have no video. Details"
    assert rows_of(page, "failed") == [{"video": "x.mp4", "type": "damaged", "message": "x.mp4: stops inside"}]
    assert [item.text for item in page.one("ul", class_="names").all("li")] == ["b", "c"]


def test_without_failures_nothing_warns(file: Path) -> None:
    page = written(a_report(a_system()), [], file)

    assert page.all("p", class_="note") == []
    assert "None: every video could be read." in page.one("section", id="failures").text


def test_of_very_many_failures_the_first_are_reported(file: Path) -> None:
    failed = [{"path": f"{i}.mp4", "type": "damaged", "message": "?"} for i in range(FAILURES_SHOWN + 800)]
    page = written(a_report(a_system(), data=the_data(failed=failed)), [], file)

    assert len(rows_of(page, "failed")) == FAILURES_SHOWN
    assert page.one("caption", id="failed-caption").text == "1,000 videos; the first 200 are shown, the JSON has all"


def test_the_manifest_says_how_to_repeat_it(file: Path) -> None:
    page = written(a_report(a_system()), [], file)

    section = page.one("section", id="manifest")
    result = {pair.one("dt").text: pair.one("dd").text for pair in section.one("dl").all("div")}
    assert section.one("pre").text == "bike eval --from report.json"
    assert result == {
        "model": "tiny",
        "fingerprint": "f1" * 32,
        "sha256 of names and labels": "ab" * 32,
        "sha256 of contents": "cd" * 32,
        "seed": "7",
    }
    assert {row["name"]: row["value"] for row in rows_of(page, "settings")} == {
        "frames": "8",
        "template": "a video of {}.",
        "threshold": "not set",
        "labels": '["a", "b"]',
    }
    assert {row["name"]: row["value"] for row in rows_of(page, "versions")} == {"bike": "0.1.0", "decord": "not set"}


def test_of_predictions_made_before_the_model_is_not_guessed(file: Path) -> None:
    unknown = {"device": None, "dtype": None, "fingerprint": None}
    page = written(a_report(a_system(), arguments={"data": ["a.jsonl"]}, **unknown), [], file)

    result = {pair.one("dt").text for pair in page.one("section", id="manifest").one("dl").all("div")}
    assert result == {"model", "sha256 of names and labels", "sha256 of contents", "seed"}
    assert "computed on" not in page.one("header").text
    assert rows_of(page, "arguments") == [{"name": "data", "value": '["a.jsonl"]'}]


# -- names from outside -------------------------------------------------------------------------------------------


def shape(node: Node) -> object:
    """Return a page's elements and the names of their attributes, without a word of it."""
    return node.tag, [*node.attributes], [shape(child) for child in node.children if isinstance(child, Node)]


@pytest.mark.parametrize("hostile", NAMES, ids=ascii)
def test_a_name_is_never_markup(hostile: str, file: Path) -> None:
    harmless = shape(written(*everything("a name"), file))

    page = written(*everything(hostile), file)

    assert shape(page) == harmless
    assert steering(file.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize("hostile", NAMES, ids=ascii)
def test_a_name_is_read_as_it_is_wherever_it_stands(hostile: str, file: Path) -> None:
    page = written(*everything(hostile), file)

    shown = NAMES[hostile]
    assert page.one("title").text == f"bike eval: {shown}, {shown}"
    assert rows_of(page, "headline")[0]["system"] == shown
    assert rows_of(page, "failed") == [{"video": shown, "type": shown, "message": shown}]
    assert page.one("div", id="matrix-0").all("th", scope="row")[0].text == shown
    assert page.one("article").one("h3").text == f"{shown} classified as {shown}"
    assert str(page.all("img")[0].attributes["alt"]).startswith(f"{shown}, classified as {shown}: ")
    assert rows_of(page, "settings")[0] == {"name": shown, "value": shown}


def test_a_very_long_name_keeps_its_start_and_its_end(file: Path) -> None:
    path = "start/" + "x" * 100_000 + "/end.mp4"

    page = written(a_report(a_system()), [a_mistake(path)], file)

    shown = page.one("article").one("code").text
    assert shown.startswith("start/xxx")
    assert shown.endswith("x/end.mp4")
    assert f"{len(path) - 240:,} characters" in shown
    assert len(shown) < 300


# -- size and place -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_four_hundred_classes_are_a_page_of_reasonable_size_and_time(file: Path) -> None:
    labels, counts = many_classes(400)
    systems = [a_system(f"system {i}", labels=labels, counts=counts.tolist()) for i in range(3)]
    noise = np.random.default_rng(0).integers(0, 256, (20, 4, 360, 480, 3), dtype=np.uint8)  # nothing is larger
    mistakes = [a_mistake(frames=tuple(f), times_s=(1.0,) * 4, weights=(0.2,) * 4) for f in noise]

    start = time.process_time()
    page = written(a_report(*systems), mistakes, file)

    assert time.process_time() - start < 10
    assert file.stat().st_size < 4_000_000
    assert len(rows_of(page, "classes-0")) == 400
    assert len(rows_of(page, "worst-0")) == 15


def test_equal_reports_are_equal_bytes(file: Path) -> None:
    written(*everything(), file)
    first = file.read_bytes()

    written(*everything(), file)

    assert file.read_bytes() == first


def test_a_page_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="its folder does not exist"):
        write(a_report(a_system()), [], tmp_path / "none" / "report.html")


# -- in a browser -------------------------------------------------------------------------------------------------

PHONE_PX = 360


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium on this machine: neither in PATH nor from playwright")
    with browsing(program, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.mark.parametrize("case", CASES)
def test_a_page_is_no_wider_than_a_phone(case: str, browser: Browser, file: Path) -> None:
    write(*CASES[case], file)

    browser.open(file, width=PHONE_PX)
    browser.value_of(UNFOLD)

    assert browser.value_of("document.documentElement.clientWidth") == PHONE_PX
    assert browser.value_of("document.documentElement.scrollWidth") == PHONE_PX


HINT = """(() => { const span = document.querySelector('#SHOWN caption span');
  return getComputedStyle(span, '::after').maxHeight != '0px' && span.clientHeight })()"""


def edge_shades(browser: Browser, table: str) -> tuple[int, int]:
    """Return how much darker the right edge of a table is than the paper, at its first and its last columns."""
    shades = []
    for place in ("0", "1e6"):
        place_of_edge = f"""(() => {{ const box = document.getElementById('{table}');
            box.scrollIntoView(); box.scrollLeft = {place};
            const {{right, top}} = box.getBoundingClientRect(); return [right, top] }})()"""
        right, top = (round(float(value)) for value in browser.value_of(place_of_edge))  # type: ignore[attr-defined]
        strip = pixels(browser.screenshot())[top + 4 : top + 20, right - 6 : right - 2].mean(axis=(0, 2))
        shades.append(round(float(255 - strip.min())))
    return shades[0], shades[1]


def test_a_table_that_is_cut_has_a_shadow_and_a_hint_until_its_last_column(browser: Browser, file: Path) -> None:
    labels, counts = many_classes(12)
    write(a_report(a_system(labels=labels, counts=counts.tolist())), [], file)

    for width, is_cut in ((PHONE_PX, True), (1280, False)):
        browser.open(file, width=width)
        for table in ("headline", "classes-0", "matrix-0"):
            overflow = f"(b => b.scrollWidth > b.clientWidth)(document.getElementById('{table}'))"
            first, last = edge_shades(browser, table)
            assert browser.value_of(overflow) is is_cut
            assert (first > 20, last > 20) == (is_cut, False)
            if browser.value_of("CSS.supports('animation-timeline: scroll()')"):
                hint = browser.value_of(HINT.replace("SHOWN", table))
                assert bool(hint) is is_cut


def test_names_of_classes_are_whole_on_a_phone(browser: Browser, file: Path) -> None:
    labels, counts = many_classes(12)
    write(a_report(a_system(labels=labels, counts=counts.tolist())), [], file)

    browser.open(file, width=PHONE_PX)

    cut = """[...document.querySelectorAll('.matrix th, .matrix th span')].filter(
        e => e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1).map(e => e.textContent)"""
    assert browser.value_of(cut) == []


def test_every_table_can_be_reached_and_scrolled_with_the_keyboard(browser: Browser, file: Path) -> None:
    write(*CASES["everything"], file)

    browser.open(file, width=PHONE_PX)
    browser.value_of(UNFOLD)

    unreachable = """[...document.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1
        && getComputedStyle(e).overflowX == 'auto' && e.tabIndex != 0).map(e => e.id || e.tagName)"""
    assert browser.value_of(unreachable) == []
    browser.value_of("document.getElementById('headline').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.ask("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39)
    moved = """new Promise(done => { const start = Date.now(); (function look() {
        const left = document.getElementById('headline').scrollLeft;
        left > 0 || Date.now() - start > 5000 ? done(left) : setTimeout(look, 50) })() })"""
    reply = browser.ask("Runtime.evaluate", expression=moved, returnByValue=True, awaitPromise=True)
    assert reply["result"]["value"] > 0


def test_a_page_too_wide_would_be_seen(browser: Browser, file: Path) -> None:
    write(*CASES["one class"], file)

    browser.open(file, width=PHONE_PX)
    browser.value_of("document.querySelector('article').style.width = '500px'")

    assert int(str(browser.value_of("document.documentElement.scrollWidth"))) > PHONE_PX


def test_a_screenshot_shows_a_page_and_the_dark_one_is_dark(browser: Browser, file: Path) -> None:
    write(*CASES["everything"], file)

    shots = {}
    for scheme in ("light", "dark"):
        browser.open(file, scheme=scheme)
        shots[scheme] = pixels(browser.screenshot())

    assert shots["light"].shape == shots["dark"].shape
    assert all(len(np.unique(shot.reshape(-1, 3), axis=0)) > 50 for shot in shots.values())
    assert shots["light"].mean() > 200
    assert shots["dark"].mean() < 60


def test_the_frames_of_a_mistake_are_seen(browser: Browser, file: Path) -> None:
    write(a_report(a_system()), [a_mistake()], file)

    browser.open(file)
    browser.value_of("document.querySelector('article').scrollIntoView()")

    shot = pixels(browser.screenshot())
    for colour in ((200, 40, 40), (40, 40, 200)):
        assert (np.abs(shot - colour).max(axis=2) < 8).sum() > 1000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_stands_out_from_what_is_behind_it(scheme: str, browser: Browser, file: Path) -> None:
    counts = [[[4, 3, 2, 1, 0][(i + j) % 5] for j in range(5)] for i in range(5)]
    steps = [[n] + [10 - n if i == 1 else 0 for i in range(1, 11)] for n in range(1, 11)]  # every shade, on row 0 too
    shades = [[steps[i][(j - i) % 11] if i < 10 else int(j == 10) for j in range(11)] for i in range(11)]
    systems = [a_system(labels="abcde", counts=counts), a_system(labels="abcdefghijk", counts=shades)]
    report, mistakes = everything()
    differences = [a_difference("top1", 0.01, 0.02), a_difference("top1", -0.01, 0.02)]
    write(report | {"systems": systems, "comparisons": differences}, mistakes, file)

    browser.open(file, scheme=scheme)
    browser.value_of(UNFOLD)

    used = {cell.attributes.get("class") for cell in Reader(file.read_text()).root.all("td")}
    assert {f"{kind}{shade}" for kind in ("correct", "wrong") for shade in range(1, 6)} <= used
    assert browser.value_of(LOWEST_CONTRAST)[0] >= 4.5  # type: ignore[index]


@pytest.mark.parametrize("case", CASES)
def test_a_browser_asks_for_nothing_and_complains_of_nothing(case: str, browser: Browser, file: Path) -> None:
    write(*CASES[case], file)

    browser.open(file)

    assert browser.requests == [file.as_uri()]
    assert browser.complaints == []


def test_even_markup_that_got_in_would_neither_run_nor_load(browser: Browser, file: Path) -> None:
    write(a_report(a_system()), [], file)
    smuggled = (
        "<script>document.title = 'run'</script><img src='http://127.0.0.1:9/x' onerror=\"document.title='run'\">"
    )
    file.write_text(file.read_text().replace("<main>", f"<main>{smuggled}<p style='color: red'>"))

    browser.open(file)

    assert browser.value_of("document.title") == "bike eval: standard, tiny"
    assert any("Content Security Policy" in complaint for complaint in browser.complaints)
    assert browser.value_of("document.querySelector('img').naturalWidth") == 0


# -- in a package that is not a folder ----------------------------------------------------------------------------


@pytest.mark.slow  # compiles the whole package
def test_template_and_style_are_found_in_an_archive(tmp_path: Path) -> None:
    """As in an installed wheel, they are package data: no path next to a source file is needed."""
    package, archive = Path(bike_cli.__file__).parent, tmp_path / "package.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for path in package.rglob("*"):
            if path.suffix in (".py", ".css", ".jinja", ".js"):
                made.write(path, path.relative_to(package.parent))
    (tmp_path / "report.json").write_text(json.dumps(a_report(a_system())))
    program = """
import sys
from pathlib import Path
import bike_cli
from bike_cli.cli.eval.page import write_html
from bike_cli.cli.spot.page import PageBuilder
from bike_cli.tasks.evaluate.mistakes import Mistakes
from bike_cli.tasks.evaluate.report import EvaluationReport
write_html(EvaluationReport.from_json(Path("report.json").read_text()), Mistakes(), Path("report.html"))
PageBuilder(Path("spot.html")).write()
print(bike_cli.__file__)
"""
    environment = {**os.environ, "PYTHONPATH": str(archive)}

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(str(archive))
    written(a_report(a_system()), [], tmp_path / "here.html")
    assert (tmp_path / "report.html").read_text() == (tmp_path / "here.html").read_text()
    assert "<h1>bike spot</h1>" in (tmp_path / "spot.html").read_text()
