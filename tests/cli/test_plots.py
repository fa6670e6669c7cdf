"""The pictures, read from what is drawn: positions, limits, texts, and colours where lines coincide."""

import io
import itertools
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bike_cli.tasks.fewshot.report import Outcome, Report

mpl = pytest.importorskip("matplotlib")

from matplotlib.axes import Axes  # noqa: E402
from matplotlib.colors import to_rgb  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.text import Text  # noqa: E402

from bike_cli.cli.plots import files, fonts  # noqa: E402
from bike_cli.cli.plots.confusion import confusion_figure  # noqa: E402
from bike_cli.cli.plots.learning_curve import learning_curve_figure  # noqa: E402
from bike_cli.cli.plots.training import training_figure  # noqa: E402

KINETICS = [f"doing the thing number {i}" for i in range(1000)]
MISSING = "\U000e0fff\uf8ff"  # private or unassigned: no font is made for them
METRICS = ("top1", "top5", "macro")


def rendered(figure: Figure) -> np.ndarray:
    stream = io.BytesIO()
    figure.savefig(stream, dpi=files.DPI, bbox_inches="tight", pad_inches=files.MARGIN_IN)
    return np.asarray(Image.open(stream).convert("RGB")).astype(int)


def boxes(texts: Sequence[Text]) -> list[Any]:
    """Return where texts stand, as corners of upright boxes even if the texts are turned."""
    return [text.get_window_extent() for text in texts if text.get_text()]


# -- the learning curve -------------------------------------------------------------------------------------------


def a_study(
    shares: Mapping[str, float], shots: Sequence[int] = (1, 2, 4), draws: int = 3, name: str = "tiny"
) -> Report:
    """A study of two classes whose methods classify such shares of 20 videos correctly, one more in each draw."""
    outcomes = []
    for (method, share), k, trial in itertools.product(shares.items(), shots, range(draws)):
        hits = np.arange(20) < min(20, round(20 * share) + trial)
        truth = np.arange(20) % 2
        counts = np.zeros((2, 2), np.int64)
        np.add.at(counts, (truth, np.where(hits, truth, 1 - truth)), 1)
        outcomes.append(Outcome(method, k, trial, counts, hits, np.arange(20), {}))
    engine: Any = SimpleNamespace(name=name)
    nothing: Any = None
    labels = ("stays", "travels")
    drawn: Any = (nothing,) * draws
    return Report(labels, labels, tuple(outcomes), drawn, (), {}, {}, {}, engine, nothing, nothing, 0.0)


def means_of(axes: Axes) -> list[np.ndarray]:
    """Return the points [K, 2] of each method."""
    return [np.asarray(container.lines[0].get_xydata()) for container in axes.containers]


def whiskers_of(axes: Axes) -> list[np.ndarray]:
    """Return the ends [K, 2] of the whiskers of each method."""
    return [np.array([s[:, 1] for s in container.lines[2][0].get_segments()]) for container in axes.containers]


def test_a_curve_has_a_title_named_axes_and_all_of_its_scale() -> None:
    figure = learning_curve_figure(a_study({"zeroshot": 0.5, "tip": 0.6}))

    (axes,) = figure.axes
    texts = [text.get_text() for text in axes.texts]
    assert axes.get_title(loc="left") == "Few-shot accuracy of tiny"
    assert texts == ["2 classes; top-1 mean over 3 draws ± standard error"]
    assert axes.get_xlabel() == "videos per class (shots)"
    assert axes.get_ylabel() == "top-1 accuracy in %"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "4"]
    low, high = axes.get_ylim()
    assert low <= 0 < 100 <= high
    assert high - low < 110
    assert (axes.get_yticks()[0], axes.get_yticks()[-1]) == (0, 100)


def test_points_and_whiskers_are_means_and_standard_errors() -> None:
    figure = learning_curve_figure(a_study({"zeroshot": 0.5, "tip": 0.6}))

    shares = np.array([12, 13, 14]) / 20
    error = shares.std(ddof=1) / 3**0.5
    (points,), (ends,) = means_of(figure.axes[0]), whiskers_of(figure.axes[0])
    assert points[:, 1] == pytest.approx(100 * shares.mean())
    assert ends == pytest.approx(100 * np.array([[shares.mean() - error, shares.mean() + error]] * 3))


def test_zero_shot_is_a_line_from_side_to_side() -> None:
    figure = learning_curve_figure(a_study({"zeroshot": 0.5, "tip": 0.6, "probe": 0.7}))

    (axes,) = figure.axes
    line = next(line for line in axes.lines if line.get_label() == "zero-shot")
    assert np.asarray(line.get_ydata()) == pytest.approx(100 * np.mean([10, 11, 12]) / 20)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["zero-shot", "tip", "probe"]
    assert len(axes.containers) == 2


@pytest.mark.parametrize("shots", [(1, 2, 4, 8, 16), (1, 2, 3), (1, 2, 15, 16), (7,)])
def test_error_bars_of_methods_stand_side_by_side_near_their_own_number(shots: Sequence[int]) -> None:
    methods = dict.fromkeys(("zeroshot", "proto", "tip", "probe", "bike"), 0.6)
    figure = learning_curve_figure(a_study(methods, shots))

    (axes,) = figure.axes
    figure.draw_without_rendering()
    ticks = axes.get_xticks()
    places = np.array([points[:, 0] for points in means_of(axes)])
    pixels = np.sort(axes.transData.transform([(x, 50) for x in places.flat])[:, 0])
    assert np.diff(pixels).min() > 4 * figure.dpi / 72  # points
    assert np.abs(places[:, :, None] - ticks).argmin(axis=2).tolist() == [list(range(len(shots)))] * 4
    assert axes.get_xlabel().endswith("not to scale") == (15 in shots)


def test_the_legend_covers_no_point() -> None:
    figure = learning_curve_figure(a_study({"zeroshot": 0.5, "tip": 1.0}))

    figure.draw_without_rendering()
    assert not figure.legends[0].get_window_extent().overlaps(figure.axes[0].get_window_extent())


def test_no_whisker_leaves_the_scale() -> None:
    figure = learning_curve_figure(a_study({"zeroshot": 0.0, "tip": 1.0}, draws=1))

    (axes,) = figure.axes
    (ends,) = whiskers_of(axes)
    assert ends[:, 1].max() == pytest.approx(100)
    assert ends[:, 0].max() < 100  # one draw has the error over its videos
    assert axes.texts[0].get_text() == "2 classes; top-1 of one draw ± standard error"


# -- the confusion matrix -----------------------------------------------------------------------------------------


def a_matrix(classes: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    counts = np.diag(rng.integers(5, 40, classes))
    np.add.at(counts, (rng.integers(0, classes, 3 * classes), rng.integers(0, classes, 3 * classes)), 1)
    return counts


def numbers_of(axes: Axes) -> dict[tuple[int, int], str]:
    """Return the text at each row and column, from 1."""
    return {
        (round(y), round(x)): text.get_text()
        for text in axes.texts
        for x, y in [text.get_position()]
        if text.get_text().isdigit()
    }


@pytest.mark.parametrize("classes", [1, 2, 30, 60])
def test_each_cell_has_its_number_and_each_side_its_names(classes: int) -> None:
    counts = a_matrix(classes)

    (axes,) = confusion_figure(counts, KINETICS[:classes], title="Confusion matrix: tiny").axes

    assert numbers_of(axes) == {(i + 1, j + 1): str(counts[i, j]) for i, j in np.argwhere(counts)}
    assert [tick.get_text() for tick in axes.get_yticklabels()] == KINETICS[:classes]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == KINETICS[:classes]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true class", "predicted class")
    assert axes.get_title(loc="left") == "Confusion matrix: tiny"
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first class is above


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 30])
@pytest.mark.parametrize("largest", [1, 12_345])
def test_numbers_and_names_do_not_overlap(classes: int, largest: int) -> None:
    counts = np.full((classes, classes), largest)
    figure = confusion_figure(counts, KINETICS[:classes], title="Confusion matrix: tiny")

    (axes,) = figure.axes
    figure.draw_without_rendering()
    cells = sorted(boxes([t for t in axes.texts if t.get_text().isdigit()])[:classes], key=lambda box: box.x0)
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(cells))
    names = sorted(boxes(axes.get_yticklabels()), key=lambda box: box.y0)
    assert all(below.y1 < above.y0 for below, above in itertools.pairwise(names))


def test_names_are_turned_only_where_they_are_wider_than_their_cells() -> None:
    for labels, angle in ((["stays", "travels"], 0), (KINETICS[:30], 45), ([str(i) for i in range(60)], 0)):
        (axes,) = confusion_figure(a_matrix(len(labels)), labels, title="").axes
        assert {text.get_rotation() for text in axes.get_xticklabels()} == {angle}


@pytest.mark.slow  # over a second of a core
def test_many_classes_are_numbered_from_1_and_every_cell_is_seen() -> None:
    counts = np.eye(400, dtype=np.int64)
    counts[10, 300] = 1
    figure = confusion_figure(counts, KINETICS[:400], title="Confusion matrix: tiny")

    (axes,) = figure.axes
    pixels = rendered(figure)
    assert numbers_of(axes) == {}
    assert axes.get_ylabel() == "true class, by its number in the list of labels"
    assert (min(axes.get_xlim()), max(axes.get_xlim())) == (0.5, 400.5)
    assert all(tick == round(tick) for tick in axes.get_xticks())
    orange = (pixels[..., 0] > 150) & (pixels[..., 2] < 120)
    assert orange.sum() >= 8
    assert max(pixels.shape) < 3000


def test_a_correct_cell_is_blue_and_a_wrong_one_orange_and_none_white() -> None:
    (axes,) = confusion_figure(np.array([[3, 1], [0, 0]]), ["a", "b"], title="").axes

    (image,) = axes.images
    (correct, wrong), nothing = np.asarray(image.get_array()).astype(int)
    assert correct[2] > correct[0]
    assert wrong[0] > wrong[2]
    assert correct.sum() < wrong.sum()  # the larger share is darker
    assert nothing.tolist() == [[255] * 3] * 2


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 30, 400])
def test_margins_are_narrow(classes: int) -> None:
    pixels = rendered(confusion_figure(a_matrix(classes), KINETICS[:classes], title="Confusion matrix: tiny"))

    rows, columns = (np.flatnonzero((pixels < 250).any(axis=(axis, 2))) for axis in (1, 0))
    for drawn, size in ((rows, pixels.shape[0]), (columns, pixels.shape[1])):
        assert max(drawn[0], size - 1 - drawn[-1]) <= (files.MARGIN_IN + 0.05) * files.DPI


def test_very_long_names_keep_their_ends() -> None:
    label = "start" + "x" * 500 + "end"
    (axes,) = confusion_figure(a_matrix(2), [label, "b"], title="").axes

    shown = axes.get_yticklabels()[0].get_text()
    assert len(shown) == 40
    assert (shown[:5], shown[-3:]) == ("start", "end")
    assert "…" in shown


def test_numbers_of_several_draws_are_called_a_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, Figure] = {}
    monkeypatch.setattr(files, "_save", lambda figure, file: drawn.update({file.name: figure}))

    files.write_plots(a_study({"zeroshot": 0.5, "tip": 0.6}), tmp_path)

    (axes,) = drawn["confusion_matrix.png"].axes
    assert axes.get_title(loc="left") == "Confusion matrix: tip, 4 shots"
    assert "numbers: videos, summed over 3 draws" in axes.texts[-1].get_text().replace("\n", " ")
    assert sum(map(int, numbers_of(axes).values())) == 60


# -- training -----------------------------------------------------------------------------------------------------


def a_log(
    steps: int, epochs: int, kinds: Sequence[str] = ("video",), metrics: Sequence[str] = METRICS
) -> list[dict[str, object]]:
    """The log of a run in which everything has the same values."""
    log: list[dict[str, object]] = []
    for kind in kinds:
        if kind in ("video", "attributes"):
            log += [
                {"kind": "step", "branch": kind, "step": s, "loss": 2 / s, "rate": 1e-3 / s}
                for s in range(1, steps + 1)
            ]
        first = 0 if kind in ("video", "attributes") else epochs
        log += [
            {"kind": "validated", "what": kind, "epoch": epoch, "metrics": dict.fromkeys(metrics, 0.5)}
            for epoch in range(first, epochs + 1)
        ]
    return log


def panels(figure: Figure) -> dict[str, Axes]:
    return {axes.get_title(loc="left"): axes for axes in figure.axes}


def test_a_run_has_a_titled_panel_for_each_measure() -> None:
    figure = training_figure(a_log(30, 2), name="tr")

    assert list(panels(figure)) == [
        "Training loss",
        "Learning rate",
        *("Validation: top-1", "Validation: top-5", "Validation: mean class"),
    ]
    assert figure.get_suptitle() == "Training run tr"
    for title, axes in panels(figure).items():
        assert axes.get_xlabel() == ("completed epochs" if title.startswith("Validation") else "step")
        assert axes.get_ylabel()
    assert list(panels(training_figure(a_log(3, 1, metrics=["map"]), name="tr")))[2:] == ["Validation: mAP"]


def test_the_metrics_of_the_last_validation_have_panels() -> None:
    log = a_log(3, 1)
    del log[-1]["metrics"]["top5"]  # type: ignore[attr-defined]

    assert "Validation: top-5" not in panels(training_figure(log, name="tr"))


def test_panels_have_the_values_of_the_log() -> None:
    log = a_log(3, 1)
    log[1]["loss"] = None  # no video of that step could be read

    shown = panels(training_figure(log, name="tr"))

    assert shown["Training loss"].lines[0].get_ydata() == pytest.approx([2, float("nan"), 2 / 3], nan_ok=True)
    assert shown["Learning rate"].lines[0].get_ydata() == pytest.approx([1e-3, 1e-3 / 2, 1e-3 / 3])
    assert np.asarray(shown["Validation: top-5"].lines[0].get_xydata()).tolist() == [[0, 50], [1, 50]]


def test_a_single_step_is_seen_and_ticks_are_whole() -> None:
    figure = training_figure(a_log(1, 1), name="tr")

    pixels = rendered(figure)
    figure.draw_without_rendering()
    for axes in figure.axes:
        left, right = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if left <= tick <= right]
        assert ticks
        assert all(tick == round(tick) for tick in ticks)
    assert seen(pixels[: len(pixels) // 2, : pixels.shape[1] // 2], "C0") > 50  # in the panel of the loss


def seen(pixels: np.ndarray, colour: str) -> int:
    wanted = np.round(255 * np.array(to_rgb(colour)))
    return int((np.abs(pixels - wanted).max(axis=2) < 12).sum())


@pytest.mark.slow  # over a second of a core
def test_no_line_is_hidden_by_another_with_the_same_values() -> None:
    figure = training_figure(a_log(20, 4, ("video", "attributes", "wise_ft", "fused"), ["map"]), name="tr")
    for legend in figure.legends:
        legend.set_visible(False)

    pixels = rendered(figure)
    steps, validations = np.array_split(pixels, 2)
    for colour in ("C0", "C1"):
        assert seen(steps, colour) > 100
    for colour in ("C0", "C1", "C2", "C3"):
        assert seen(validations, colour) > 10, colour


def test_the_legend_of_a_run_is_outside_of_all_panels() -> None:
    figure = training_figure(a_log(20, 4, ("video", "attributes", "wise_ft", "fused")), name="tr")

    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["video", "attributes", "wise-ft", "both, fused"]
    assert not [a for a in figure.axes if legend.get_window_extent().overlaps(a.get_window_extent())]
    assert training_figure(a_log(20, 4), name="tr").legends == []


def test_validation_is_from_0_to_100() -> None:
    for title, axes in panels(training_figure(a_log(3, 1), name="tr")).items():
        if title.startswith("Validation"):
            assert (axes.get_yticks()[0], axes.get_yticks()[-1]) == (0, 100)


@pytest.mark.parametrize("log", [[], a_log(2, 0, metrics=[])])
def test_a_run_without_validation_has_two_panels(log: list[dict[str, object]], tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in log))

    assert files.write_training_plot(tmp_path) == tmp_path / "training.png"
    assert len(training_figure(log, name="tr").axes) == 2


# -- fonts --------------------------------------------------------------------------------------------------------


def a_font(file: Path, family: str, characters: str) -> Path:
    """Write a font whose characters are squares."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 700), (700, 700), (700, 0)):
        pen.lineTo(corner)
    pen.closePath()
    names = {ord(c): f"u{ord(c):05X}" for c in characters}
    order = [".notdef", *names.values()]
    font = FontBuilder(1000)
    font.setupGlyphOrder(order)
    font.setupCharacterMap(names)
    font.setupGlyf(dict.fromkeys(order, pen.glyph()))
    font.setupHorizontalMetrics(dict.fromkeys(order, (800, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": family, "styleName": "Regular"})
    font.setupOS2(sTypoAscender=800)
    font.setupPost()
    font.save(file)
    return file


@pytest.fixture
def own_fonts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The fonts of the system: none, until a test adds files."""
    from matplotlib import font_manager

    there: list[str] = []
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: there)
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    return there


def write(labels: Sequence[str], file: Path, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Draw a matrix, and return the warnings."""
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        files.write_matrix(a_matrix(len(labels)), labels, system="tiny", file=file)
    return [record.getMessage() for record in caplog.records]


def test_characters_that_no_font_has_are_reported_once(
    tmp_path: Path, own_fonts: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "c.png"

    assert write([f"a {MISSING[1]}", f"b {MISSING[1]}", "بيت", "é", "😀", "a\u200d\x1b"], file, caplog) == [
        f"{file}: no font has {MISSING[1]}, so boxes are drawn; install one, such as Noto Sans"
    ]
    with Image.open(file) as picture:
        assert picture.format == "PNG"


def test_a_font_of_the_system_draws_what_the_default_lacks(
    tmp_path: Path, own_fonts: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "damaged.ttf").write_bytes(b"no font")
    last_resort = a_font(tmp_path / "LastResort.ttf", "Last Resort", MISSING)
    squares = a_font(tmp_path / "squares.ttf", "Squares of a test", MISSING[1])
    own_fonts += map(str, (tmp_path / "damaged.ttf", last_resort, squares))

    assert write([f"a {MISSING[1]}", "b"], tmp_path / "c.png", caplog) == []
    with fonts.fonts_for([MISSING[1]], tmp_path):
        assert mpl.rcParams["font.family"] == [fonts.DEFAULT, "Squares of a test"]
    assert mpl.rcParams["font.family"] != [fonts.DEFAULT, "Squares of a test"]


def test_names_are_no_formulas(tmp_path: Path, own_fonts: list[str], caplog: pytest.LogCaptureFixture) -> None:
    assert write(["$a_{b$ \\frac", "\x1b]0;x\x07"], tmp_path / "c.png", caplog) == []
