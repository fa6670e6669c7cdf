"""`bike eval --unseen-split`: the figures of runs whose labels lack some classes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calibration_clips import LABELS
from films import drawn, write_video
from invoke import bike

from bike_cli.errors import ExitCode

FLAGS = ("-m", "tiny", "--frames", "4", "--resamples", "50", "-q")
SPLIT = ("--unseen-split", "2", "--trials", "3", "--seed", "4")

pytestmark = pytest.mark.usefixtures("one_store_for_all")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films of six labels, so noisy that some are mistaken."""
    folder, rng = tmp_path_factory.mktemp("unseen") / "films", np.random.default_rng(7)
    for label in LABELS:
        (folder / label.replace(" ", "_")).mkdir(parents=True)
        for i, share in enumerate((0.3, 0.75, 0.9)):
            film = drawn(label, frames=6)
            mixed = (1 - share) * film + share * rng.uniform(0, 255, film.shape)
            write_video(folder / label.replace(" ", "_") / f"{label.replace(' ', '_')}_{i}.mp4", mixed.astype(np.uint8))
    return folder


def report_of(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())  # type: ignore[no-any-return]


def evaluated(films: Path, file: Path, *flags: object) -> dict[str, Any]:
    ran = bike("eval", films, *FLAGS, *flags, "-o", file)
    assert ran.exit_code == ExitCode.DONE, ran.stderr
    return report_of(file)


def with_unknown(films: Path, unseen: list[str], folder: Path, *flags: object) -> dict[str, dict[str, float]]:
    """Return the metrics of a run with the labels that remain, where the videos of the others are `other`."""
    rows = [
        (film, "other" if (label := film.parent.name.replace("_", " ")) in unseen else label)
        for film in sorted(films.rglob("*.mp4"))
    ]
    (folder / "truth.csv").write_text("path,label\n" + "".join(f"{film},{label}\n" for film, label in rows))
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS if label not in unseen))
    given = ("--labels", folder / "labels.txt", "--unknown", "other", "--seed", "4", *flags)
    return evaluated(folder / "truth.csv", folder / "known.json", *given)["systems"][0]["metrics"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "flags", [("--reject", "0.2"), ("--pool", "scores"), ("--spot", "eot", "--template", "a {}, seen")]
)
def test_figures_are_those_of_runs_with_the_labels_that_remain(
    flags: tuple[str, ...], films: Path, tmp_path: Path
) -> None:
    report = evaluated(films, tmp_path / "report.json", *SPLIT, *flags)

    *draws, mean = report["splits"]
    assert [draw["name"] for draw in draws] == ["draw 1", "draw 2", "draw 3"]
    for i, draw in enumerate(draws):
        assert (len(set(draw["unseen"])), draw["classes"], draw["videos"]) == (2, 4, 18)
        wanted = with_unknown(films, draw["unseen"], tmp_path, *flags)
        for key, value in draw["metrics"].items():
            assert value == pytest.approx(wanted[key]["value"], abs=1e-5), key
        if i == 0:
            assert report["systems"][0]["metrics"].keys() == wanted.keys()
            for key, metric in report["systems"][0]["metrics"].items():
                assert metric == pytest.approx(wanted[key], abs=1e-5), key
    assert {"top1", "auroc_none", "auroc_cosine", "fpr95_none", "fpr95_cosine"} <= draws[0]["metrics"].keys()
    assert ("rejected_none" in draws[0]["metrics"]) == ("--reject" in flags)
    values = [draw["metrics"]["auroc_cosine"] for draw in draws]
    assert 0 < min(values) < max(values) < 1
    assert mean["metrics"]["auroc_cosine"] == pytest.approx(np.mean(values))
    assert mean["metrics"]["auroc_cosine_std"] == pytest.approx(np.std(values, ddof=1))


def test_predictions_with_all_labels_give_the_same_figures(films: Path, tmp_path: Path) -> None:
    videos = evaluated(films, tmp_path / "videos.json", *SPLIT)
    for k in (6, 5):
        given = ("-L", ",".join(LABELS), "-m", "tiny", "--frames", "4", "-k", k, "-q")
        bike("classify", films, *given, "-o", tmp_path / f"{k}.jsonl")
    asked = ("-l", films, *SPLIT, "--resamples", "50", "-o", tmp_path / "saved.json")

    saved, few = (bike("eval", tmp_path / f"{k}.jsonl", *asked) for k in (6, 5))

    assert (saved.exit_code, few.exit_code) == (ExitCode.DONE, ExitCode.USAGE)
    assert "has 5 of 6 labels per video, but --unseen-split needs all; classify with -k 6" in few.stderr
    records = report_of(tmp_path / "saved.json")
    for mine, other in zip(videos["splits"], records["splits"], strict=True):
        assert mine["unseen"] == other["unseen"]
        assert other["metrics"] == pytest.approx(mine["metrics"], abs=1e-5)
    assert videos["systems"][0]["metrics"].keys() == records["systems"][0]["metrics"].keys()
    again = bike("eval", "--from", tmp_path / "saved.json")
    assert (again.exit_code, "the metrics agree" in again.stderr) == (ExitCode.DONE, True)


def test_rejection_of_all_labels_is_left_out_with_a_warning(films: Path, tmp_path: Path) -> None:
    given = ("-L", ",".join(LABELS), "-m", "tiny", "--frames", "4", "-k", 6, "-q")
    for name, flags in (("plain", ()), ("rejecting", ("--reject", "0.2"))):
        bike("classify", films, *given, *flags, "-o", tmp_path / f"{name}.jsonl")
    asked = ("-l", films, *SPLIT, "--resamples", "50", "-o", tmp_path / "saved.json")

    rejecting, plain = (bike("eval", tmp_path / f"{name}.jsonl", *asked) for name in ("rejecting", "plain"))

    assert rejecting.exit_code == plain.exit_code == ExitCode.DONE
    problem = (
        "says which videos fit none of all labels, not which fit none of those that remain, so rejection is left out"
    )
    assert f"rejecting.jsonl: {problem}; evaluate the videos" in rejecting.stderr
    assert "rejection is left out" not in plain.stderr
    for ran in (rejecting, plain):
        assert "unknown rejected" not in ran.stdout
        assert "AUROC by cosine" in ran.stdout


def test_draws_are_shown_and_other_seeds_draw_others(films: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    ran = bike(
        "eval", films, *FLAGS, *SPLIT, "-o", tmp_path / "a.json", "--report", page, "--pool", "tcs", "--pool", "mean"
    )
    other = evaluated(films, tmp_path / "b.json", *SPLIT[:4], "--seed", "5")

    report = report_of(tmp_path / "a.json")
    first = " and ".join(report["splits"][0]["unseen"])
    assert f"for the first draw without {first}" in " ".join(ran.stdout.split())
    assert "mean ± std over 3 draws of 2 classes to leave out" in " ".join(ran.stdout.split())
    assert f"draw 1 without {first}" in page.read_text()
    assert "on the same videos, for the first draw" in " ".join(ran.stdout.split())
    assert {row["metric"] for row in report["comparisons"]} >= {"top1", "auroc_cosine"}
    assert [s["unseen"] for s in report["splits"]] != [s["unseen"] for s in other["splits"]]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--unseen-split", "0"), "unseen_split is 0; give a whole number of at least 1"),
        (("--unseen-split", "5"), "--unseen-split 5: leaves fewer than 2 of the 6 classes with videos; give at most 4"),
        (
            (*SPLIT, "--unknown", "red circle"),
            "--unseen-split: chooses which videos have none of the labels, and --unk",
        ),
        ((*SPLIT, "--protocol", "fewshot"), "--unseen-split: is not supported by the protocol fewshot"),
        ((*SPLIT, "--protocol", "detection"), "--unseen-split: is not supported by the protocol detection"),
        ((*SPLIT, "--protocol", "multilabel"), "--unseen-split: is not supported by the protocol multilabel"),
        ((*SPLIT, "--multi-label"), "--unseen-split: needs videos with one label each"),
        ((*SPLIT, "--official"), "--unseen-split: has no figures of the official code"),
        ((*SPLIT, "--attributes", "auto", "--attribute-weight", "0.3"), "--unseen-split: attributes count here"),
        (("--trials", "2"), "--trials: needs --protocol fewshot, not standard"),
    ],
)
def test_what_makes_no_sense_is_refused(flags: tuple[str, ...], message: str, films: Path) -> None:
    ran = bike("eval", films, *FLAGS, *flags)

    assert ran.exit_code == ExitCode.USAGE
    assert message in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_scores_of_zero_say_nothing_about_the_labels_that_remain(films: Path, tmp_path: Path) -> None:
    sure = [
        {"path": str(film), "top": [{"label": label, "score": float(i == 0)} for i, label in enumerate(order)]}
        for film in sorted(films.rglob("*.mp4"))
        for own in [film.parent.name.replace("_", " ")]
        for order in [[own, *(label for label in LABELS if label != own)]]
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"status": "ok", **record}) + "\n" for record in sure))

    ran = bike("eval", tmp_path / "a.jsonl", "-l", films, *SPLIT)

    assert ran.exit_code == ExitCode.USAGE
    assert "the prediction has the score 0 for each of the 4 labels that remain; save more digits" in ran.stderr
