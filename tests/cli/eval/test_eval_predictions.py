"""`bike eval` of predictions made before, run in this process; figures against plain counts."""

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from invoke import Ran, bike
from numpy.typing import NDArray

from bike_cli.cli.classify.writers import Format, make_writer
from bike_cli.data.predictions.files import DataFile, inspect_files
from bike_cli.errors import ExitCode
from bike_cli.records import FrameTimes, Prediction, Ranked, Source

LABELS = tuple(f"class {letter}" for letter in "abcdefgh")
OLD_REPORT = Path(__file__).parents[2] / "tasks" / "evaluate" / "reports" / "predictions_0_1.json"
VIDEOS, NONE = 60, 10  # videos, of which so many are of none of the labels

Table = tuple[NDArray[np.float64], NDArray[np.int64]]  # probabilities [V, C], truth [V]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table(seed: int = 0) -> Table:
    """Return what a classifier that is often right says of videos, and what is true; -1: none of the labels."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(LABELS), VIDEOS)
    logits = 1.5 * rng.normal(size=(VIDEOS, len(LABELS)))
    logits[np.arange(VIDEOS), truth] += 2
    truth[:NONE] = -1
    powers = np.exp(logits)
    shares = powers / powers.sum(axis=1, keepdims=True)
    return np.array([[float(f"{p:.6g}") for p in row] for row in shares]), truth


def record(video: str, scores: Sequence[float], k: int = len(LABELS), **more: object) -> dict[str, object]:
    """Return what is said of a video, its k best labels."""
    best = sorted(range(len(LABELS)), key=lambda c: -scores[c])[:k]
    top = [{"label": LABELS[c], "score": scores[c]} for c in best]
    return {"path": video, "status": "ok", "top": top, "model": "tiny", "settings": "0a1b2c3d", **more}


def failed(video: str) -> dict[str, object]:
    return {"path": video, "status": "error", "error": {"type": "missing", "message": f"{video}: no such file"}}


def records(shares: NDArray[np.float64], k: int = len(LABELS), **more: object) -> list[dict[str, object]]:
    return [record(f"{i}.mp4", row, k, **more) for i, row in enumerate(shares.tolist())]


def write(name: str, found: Sequence[object], indent: int | None = None) -> str:
    Path(name).write_text("".join(json.dumps(one, indent=indent) + "\n" for one in found))
    return name


def write_cells(name: str, found: Sequence[dict[str, object]], k: int) -> str:
    """Write what `bike classify -k` writes as CSV or TSV, as far as it matters."""
    tab = "\t" if name.endswith(".tsv") else ","
    names = ["label", "score", *(f"{what}_{i}" for i in range(2, k + 1) for what in ("label", "score"))]
    rows = [["path", "status", *names, "model"]]
    for one in found:
        top = cast("list[dict[str, object]]", one["top"])
        rows.append([str(one["path"]), "ok", *(str(cell) for t in top for cell in t.values()), "tiny"])
    Path(name).write_text("".join(tab.join(row) + "\n" for row in rows))
    return name


def write_truth(truth: NDArray[np.int64], name: str = "truth.csv") -> str:
    rows = [f"{i}.mp4,{'other' if c < 0 else LABELS[c]}" for i, c in enumerate(truth.tolist())]
    Path(name).write_text("\n".join(["path,label", *rows]) + "\n")
    return name


def evaluated(*arguments: object, truth: str = "truth.csv") -> Ran:
    return bike("eval", *arguments, "--labels", truth, "-o", "r.json", "--resamples", "50")


def report() -> dict[str, object]:
    return json.loads(Path("r.json").read_text())  # type: ignore[no-any-return]


def systems() -> list[dict[str, dict[str, dict[str, float]]]]:
    return report()["systems"]  # type: ignore[return-value]


def figures(place: int = 0) -> dict[str, float]:
    return {name: one["value"] for name, one in systems()[place]["metrics"].items()}


def counted(shares: NDArray[np.float64], truth: NDArray[np.int64]) -> dict[str, float]:
    """Return all figures that the best answers tell, by plain counts."""
    known, best, sure = truth >= 0, shares.argmax(axis=1), shares.max(axis=1)
    right = best == truth
    recalls, f1s = [], []
    for c in np.unique(truth[known]):
        its, guessed = truth == c, (best == c) & known
        recalls.append(right[its].mean())
        f1s.append(2 * right[its].sum() / (its.sum() + guessed.sum()))
    ece = 0.0
    for b in range(15):
        inside = known & (sure > b / 15) & (sure <= (b + 1) / 15)
        ece += abs(right[inside].sum() - sure[inside].sum()) / known.sum()
    won = [(a > b) + (a == b) / 2 for a in sure[known] for b in sure[~known]]
    least = max(t for t in sure[known] if (sure[known] >= t).mean() >= 0.95)
    return {
        "top1": right[known].mean(),
        "mean_class": np.mean(recalls),
        "macro_f1": np.mean(f1s),
        "ece": ece,
        "auroc_none": np.mean(won),
        "fpr95_none": np.mean(sure[~known] >= least),
    }


def top5(shares: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    best = np.argsort(-shares, axis=1)[:, :5]
    return float(np.mean([c in row for c, row in zip(truth, best, strict=True) if c >= 0]))


# -- fewer labels than classes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 5, 8])
@pytest.mark.parametrize("form", ["jsonl", "csv", "tsv"])
def test_figures_of_a_files_best_labels_are_those_of_a_plain_count(k: int, form: str) -> None:
    shares, truth = table()
    write_truth(truth)
    file = f"p.{form}"
    write(file, records(shares, k)) if form == "jsonl" else write_cells(file, records(shares, k), k)

    ran = evaluated(file, "--unknown", "other")

    assert ran.exit_code == ExitCode.DONE
    found = figures()
    wanted = counted(shares, truth)
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=2e-9)
    assert found.get("top5") == (None if k < 5 else pytest.approx(top5(shares, truth)))
    assert ("map" in found) == (k == 8)
    shown = [one["ap"] for one in systems()[0]["per_class"]]  # type: ignore[index]
    assert all(ap is None for ap in shown) == (k < 8)


def test_what_is_left_out_is_said_once_with_the_way_out() -> None:
    shares, truth = table()
    write_truth(truth)

    for k, left_out in (
        (5, "log loss, the Brier score and mAP are"),
        (2, "top-5, log loss, the Brier score and mAP are"),
    ):
        ran = evaluated(write("p.jsonl", records(shares, k)), "--unknown", "other")
        fact = f"p.jsonl: has {k} of 8 labels per video, so {left_out} left out; classify with -k 8"
        assert ran.stderr.splitlines() == [f"warning: {fact}"]
    assert evaluated(write("p.jsonl", records(shares)), "--unknown", "other").stderr == ""


def test_one_video_with_fewer_labels_is_enough_to_leave_figures_out() -> None:
    shares, truth = table()
    write_truth(truth)
    found = records(shares)
    found[30] = record("30.mp4", shares[30].tolist(), 3)

    ran = evaluated(write("p.jsonl", found), "--unknown", "other")

    assert (
        "has as few as 3 of 8 labels per video, so top-5, log loss, the Brier score and mAP are left out" in ran.stderr
    )
    assert set(figures()) == {"top1", "mean_class", "macro_f1", "ece", "auroc_none", "fpr95_none"}


def test_the_figures_that_both_have_are_compared_and_shown_on_the_page() -> None:
    shares, truth = table()
    write_truth(truth)
    files = [write("few.jsonl", records(shares, 5)), write("all.jsonl", records(table(1)[0]))]

    ran = evaluated(*files, "--unknown", "other", "--report", "r.html", "--confusion", "c.csv")

    assert ran.exit_code == ExitCode.DONE
    shown = cast("list[dict[str, str]]", report()["comparisons"])
    both = {"top1", "top5", "mean_class", "macro_f1", "ece", "auroc_none", "fpr95_none"}
    assert {one["metric"] for one in shown} == both
    assert ("map" in figures(0), "map" in figures(1)) == (False, True)
    assert "few" in Path("r.html").read_text()


def test_several_labels_a_video_keep_what_the_best_says() -> None:
    shares, truth = table()
    rows = [f"{i}.mp4,{LABELS[c]};{LABELS[(c + 1) % 8]}" for i, c in enumerate(truth.tolist())]
    Path("truth.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    flags = ["--multi-label", "--protocol", "multilabel", "--report", "r.html"]

    ran = evaluated(write("p.jsonl", records(shares, 2)), *flags)

    assert ran.exit_code == ExitCode.DONE
    best = shares.argmax(axis=1)
    right = [b in (c % 8, (c + 1) % 8) for b, c in zip(best, truth, strict=True)]
    assert figures() == {"top1": pytest.approx(np.mean(right))}


@pytest.mark.parametrize("first", [2, 8])
def test_the_metric_that_decides_does_not_depend_on_the_order(first: int) -> None:
    shares, truth = table()
    rows = [f"{i}.mp4,{LABELS[c]};{LABELS[(c + 1) % 8]}" for i, c in enumerate(truth.tolist())]
    Path("truth.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    files = [write(f"{k}.jsonl", records(shares, k)) for k in (first, 10 - first)]

    ran = evaluated(files[0], files[1], "--multi-label", "--protocol", "multilabel")

    assert "not tested, because a system lacks the metric that decides" in " ".join(ran.stdout.split())


def test_halves_of_the_classes_need_all_scores() -> None:
    shares, truth = table()
    write_truth(truth)

    ran = evaluated(write("p.jsonl", records(shares, 5)), "--unknown", "other", "--protocol", "zeroshot-half")

    assert ran.exit_code == ExitCode.USAGE
    assert "p.jsonl: has 5 of 8 labels per video, but zeroshot-half needs all; " in ran.stderr


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "tsv"])
def test_small_scores_keep_their_order(form: Format) -> None:
    """Every video's own class has a score far below the sixth decimal, those of others are below that."""
    truth = np.arange(VIDEOS) % 7
    write_truth(truth)
    Path("names.txt").write_text("\n".join(LABELS))
    with Path(f"p.{form}").open("w", newline="") as file:
        writer = make_writer(file, form, top=len(LABELS), names=None)
        for i, c in enumerate(truth.tolist()):
            small = [Ranked(LABELS[d], (3 if c == d else 1 + i / 100) * 1e-9, 0.0) for d in range(7)]
            ranked = (Ranked(LABELS[7], 1.0, 0.0), *sorted(small, key=lambda r: -r.score))
            writer.write(
                Prediction(Source.at(f"{i}.mp4"), ranked, (), None, FrameTimes(np.zeros(0), None, 1.0), 8, "tiny")
            )
        writer.close()

    assert evaluated(f"p.{form}", "--names", "names.txt").exit_code == ExitCode.DONE

    assert figures()["map"] == 1.0


# -- parts --------------------------------------------------------------------------------------------------------


def test_parts_of_which_some_are_empty_or_failed_are_the_whole() -> None:
    shares, truth = table()
    write_truth(truth)
    whole = [*records(shares)[:-2], failed("58.mp4"), failed("59.mp4")]
    assert evaluated(write("whole.jsonl", whole), "--unknown", "other").exit_code == ExitCode.SOME_FAILED
    before = report()
    files = [write("0.jsonl", []), write("1.jsonl", whole[::2][:-1]), write("2.jsonl", whole[1::2][:-1])]
    files += [write("3.jsonl", whole[-2:]), write_cells("4.csv", [], 8), "5.json"]
    Path("5.json").write_text("[\n]\n")

    ran = evaluated(*files, "--merge", "--unknown", "other")

    assert (ran.exit_code, ran.stderr) == (ExitCode.SOME_FAILED, "")
    assert figures() == {name: one["value"] for name, one in before["systems"][0]["metrics"].items()}  # type: ignore[index]
    assert [one["path"] for one in report()["data"]["failed"]] == ["58.mp4", "59.mp4"]  # type: ignore[index]


@pytest.mark.parametrize("text", ["", "\n", "[\n]\n", "path,status,label,score\n"])
@pytest.mark.parametrize("flags", [(), ("--merge",)])
def test_a_file_that_is_empty_is_said_to_be(text: str, flags: tuple[str, ...]) -> None:
    write_truth(table()[1])
    Path("p.csv").write_text(text)

    ran = evaluated("p.csv", *flags)

    assert ran.exit_code == ExitCode.USAGE
    assert "p.csv: is empty" in ran.stderr


def test_an_empty_file_next_to_predictions_is_a_part_or_a_mistake() -> None:
    shares, truth = table()
    write_truth(truth)
    files = [write("p.jsonl", records(shares)), write("q.jsonl", [])]

    assert "q.jsonl: is empty" in evaluated(*files, "--unknown", "other").stderr
    assert evaluated(*files, "--unknown", "other", "--merge").exit_code == ExitCode.DONE


def test_a_file_whose_videos_all_failed_is_refused() -> None:
    write_truth(table()[1])

    ran = evaluated(write("p.jsonl", [failed("1.mp4")]), "--unknown", "other")

    assert ran.exit_code == ExitCode.USAGE
    assert "p.jsonl: 1 video with labels failed, none was predicted; fix the first failure: 1.mp4: no" in ran.stderr


def test_what_failed_in_one_part_only_is_no_failure() -> None:
    shares, truth = table()
    write_truth(truth)
    found = records(shares)

    ran = evaluated(
        write("1.jsonl", [*found[:30], failed("30.mp4")]), write("2.jsonl", found[30:]), "--merge", "--unknown", "other"
    )

    assert (ran.exit_code, ran.stderr) == (ExitCode.DONE, "")
    assert figures()["top1"] == pytest.approx(counted(shares, truth)["top1"])


def test_parts_that_overlap_count_a_video_once() -> None:
    shares, truth = table()
    write_truth(truth)
    found = records(shares)

    ran = evaluated(write("1.jsonl", found[:40]), write("2.jsonl", found[30:]), "--merge", "--unknown", "other")

    assert ran.exit_code == ExitCode.DONE
    assert ran.stderr == "warning: 2.jsonl:1: 10 videos with an identical answer in another part, used once\n"
    assert report()["data"]["videos"] == VIDEOS  # type: ignore[index]
    assert figures()["top1"] == pytest.approx(counted(shares, truth)["top1"])


def test_parts_of_other_models_are_reported_and_all_are_named() -> None:
    shares, truth = table()
    write_truth(truth)
    parts = [records(shares[:20]), records(shares, model="X")[20:40], records(shares, model="Y")[40:]]
    files = [write(f"{i}.jsonl", part) for i, part in enumerate(parts)]

    ran = evaluated(*files, "--merge", "--unknown", "other")

    assert ran.stderr == "warning: 1.jsonl: has predictions of model X, 0.jsonl of tiny; are they parts of one run?\n"
    assert report()["model"] == "tiny, X, Y"


def test_the_models_of_all_files_are_named() -> None:
    shares, truth = table()
    write_truth(truth)
    files = [write(f"{m}.jsonl", records(shares, model=m)) for m in ("X", "Y")] + [write("Z.jsonl", records(shares))]

    ran = evaluated(*files, "--unknown", "other")

    assert (report()["model"], ran.stderr) == ("X, Y, tiny", "")


# -- where they come from -----------------------------------------------------------------------------------------


@contextmanager
def pipe(name: str, text: bytes) -> Iterator[str]:
    """Make a pipe of which the text comes once."""
    os.mkfifo(name)
    writer = threading.Thread(target=lambda: Path(name).write_bytes(text))
    writer.start()
    yield name
    writer.join(timeout=30)


@pytest.mark.parametrize("layout", ["indented lines", "indented array", "lines"])
@pytest.mark.parametrize("way", ["file", "pipe"])
def test_predictions_are_known_however_they_are_laid_out_and_come(layout: str, way: str) -> None:
    shares, truth = table()
    write_truth(truth)
    found = records(shares)
    text = json.dumps(found, indent=2) if layout == "indented array" else ""
    text = text or "".join(json.dumps(one, indent=2 if "indented" in layout else None) + "\n" for one in found)

    if way == "pipe":
        with pipe("p", text.encode()) as file:
            ran = evaluated(file, "--unknown", "other")
    else:
        Path("p").write_text(text)
        ran = evaluated("p", "--unknown", "other")

    assert (ran.exit_code, ran.stderr) == (ExitCode.DONE, "")
    assert figures()["ece"] == pytest.approx(counted(shares, truth)["ece"])
    assert systems()[0]["name"] == "p"
    result = report()["data"]
    assert result["files"] == ["p", "truth.csv"]  # type: ignore[index]
    assert result["contents"] == hashlib.sha256(text.encode() + Path("truth.csv").read_bytes()).hexdigest()  # type: ignore[index]


def test_a_pipe_of_a_bash_process_is_read() -> None:
    shares, truth = table()
    write_truth(truth)
    reader, writer = os.pipe()
    os.write(writer, "".join(json.dumps(one) + "\n" for one in records(shares, 1)).encode())
    os.close(writer)

    ran = evaluated(f"/dev/fd/{reader}", "--unknown", "other")
    os.close(reader)

    assert ran.exit_code == ExitCode.DONE
    assert f"/dev/fd/{reader}: has 1 of 8 labels" in ran.stderr


def test_a_list_of_videos_still_comes_through_a_pipe() -> None:
    text = "path,label\na.mp4,run\n"

    with pipe("list", text.encode()) as file:
        (inspected,), is_predicted = inspect_files([file], merge=False)

    assert not is_predicted
    assert inspected.name == file
    assert Path(inspected.path).read_text() == text
    copy = inspected.path
    del inspected
    assert not Path(copy).exists()


def test_annotations_are_no_predictions() -> None:
    database = {"v_1": {"subset": "validation", "annotations": [{"label": "run"}], "path": "v_1.mp4"}}
    for indent in (None, 2):
        Path("a.json").write_text(json.dumps({"database": database}, indent=indent))
        assert inspect_files(["a.json"], merge=False) == ([DataFile("a.json", "a.json")], False)
        Path("b.json").write_text(json.dumps([{"path": "v_1.mp4", "label": "run"}], indent=indent))
        assert inspect_files(["b.json"], merge=False) == ([DataFile("b.json", "b.json")], False)


def test_a_hash_identifies_the_contents_of_files() -> None:
    shares, truth = table()
    write_truth(truth)
    files = [write("1.jsonl", records(shares)), write("2.jsonl", records(shares))]

    evaluated(*files, "--unknown", "other")
    before = report()["data"]["contents"]  # type: ignore[index]
    Path("2.jsonl").write_text(Path("2.jsonl").read_text() + "\n")
    evaluated(*files, "--unknown", "other")

    read = [Path(name).read_bytes() for name in ("1.jsonl", "2.jsonl", "truth.csv")]
    after = report()["data"]["contents"]  # type: ignore[index]
    assert after == hashlib.sha256(b"".join(read)).hexdigest()
    assert before == hashlib.sha256(b"".join([read[0], read[1][:-1], read[2]])).hexdigest()


def test_paths_may_be_spelled_otherwise() -> None:
    shares, truth = table()
    rows = [f"clips/{c}/../{i}.mp4,{LABELS[c]}" for i, c in enumerate(truth.tolist()) if c >= 0]
    Path("truth.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    found = [{**one, "path": str(Path.cwd() / "clips" / str(one["path"]))} for one in records(shares)][NONE:]

    ran = evaluated(write("p.jsonl", found))

    assert (ran.exit_code, ran.stderr) == (ExitCode.DONE, "")
    assert figures()["top1"] == pytest.approx(counted(shares, truth)["top1"])


# -- what cannot be -----------------------------------------------------------------------------------------------


def test_splits_are_refused_where_there_are_none() -> None:
    shares, truth = table()
    write_truth(truth)

    ran = evaluated(write("p.jsonl", records(shares)), "--unknown", "other", "--protocol", "k600")

    assert ran.exit_code == ExitCode.USAGE
    assert "protocol k600: averages over splits, but predictions have no splits; evaluate the videos" in ran.stderr


def test_an_unknown_label_lists_the_classes_that_may_be_named() -> None:
    shares, truth = table()
    write_truth(truth)
    found = records(shares)
    cast("list[dict[str, object]]", found[3]["top"])[0]["label"] = "class z"

    ran = evaluated(write("p.jsonl", found))

    assert ran.exit_code == ExitCode.USAGE
    assert "p.jsonl:4: label 'class z' is not one of the 9 labels of the videos" in ran.stderr
    assert "--names, and the class for videos without any of them with --unknown" in ran.stderr
    assert "--unknown" not in evaluated("p.jsonl", "--unknown", "other").stderr


def test_of_many_processes_the_first_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    shares, truth = table()
    write_truth(truth)
    write("p.jsonl", records(shares))
    monkeypatch.setenv("WORLD_SIZE", "2")

    monkeypatch.setenv("RANK", "1")
    second = evaluated("p.jsonl", "--unknown", "other")
    is_written = Path("r.json").exists()
    monkeypatch.setenv("RANK", "0")
    first = evaluated("p.jsonl", "--unknown", "other")

    assert (second.exit_code, second.stdout, second.stderr, is_written) == (ExitCode.DONE, "", "", False)
    assert first.exit_code == ExitCode.DONE
    assert "top-1" in first.stdout
    assert figures()["top1"] == pytest.approx(counted(shares, truth)["top1"])


def test_quiet_says_nothing_of_what_is_left_out() -> None:
    shares, truth = table()
    write_truth(truth)

    assert evaluated(write("p.jsonl", records(shares[:50], 2)), "--unknown", "other", "-q").stderr == ""


# -- reports of earlier versions ----------------------------------------------------------------------------------


def test_a_report_of_0_1_is_repeated() -> None:
    classes = ("jump", "run", "sit")
    rows = [f"clip{i:02}.mp4,{classes[i % 3]}" for i in range(12)]
    Path("truth.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    for name, answers in (("a", "jjsjrjjrrjrj"), ("b", "jrsjrssrsjrs")):
        lines = []
        for i, letter in enumerate(answers):
            ranked = sorted(classes, key=lambda label, first=letter: label[0] != first)
            top = [{"label": label, "score": score} for label, score in zip(ranked, (0.625, 0.25, 0.125), strict=True)]
            lines.append({"path": f"clip{i:02}.mp4", "status": "ok", "top": top, "model": "tiny"})
        write(f"{name}.jsonl", lines)

    ran = bike("eval", "--from", OLD_REPORT)

    assert (ran.stderr, ran.exit_code) == ("the metrics agree with those of --from\n", ExitCode.DONE)


# -- predictions of other programs ----------------------------------------------------------------------------------


def write_simple(name: str, shares: NDArray[np.float64], header: Sequence[str]) -> str:
    """Write the best label of each video, and its score if the header has three columns."""
    rows = [[f"{i}.mp4", LABELS[row.argmax()], str(row.max())][: len(header)] for i, row in enumerate(shares)]
    if name.endswith("jsonl"):
        typed = [dict(zip(header, [*row[:2], *map(float, row[2:])], strict=True)) for row in rows]
        return write(name, typed)
    tab = "\t" if name.endswith(".tsv") else ","
    Path(name).write_text("".join(tab.join(row) + "\n" for row in [header, *rows]))
    return name


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("p.csv", ("path", "label", "score")),
        ("p.tsv", ("path", "label", "score")),
        ("p.txt", ("video", "Prediction", "confidence")),
        ("p.jsonl", ("path", "label", "score")),
    ],
)
def test_predictions_of_other_programs_are_read(name: str, header: Sequence[str]) -> None:
    shares, truth = table()
    write_truth(truth)

    ran = evaluated(write_simple(name, shares, header), "--unknown", "other")

    assert ran.exit_code == ExitCode.DONE
    assert figures() == pytest.approx(counted(shares, truth))


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl"])
def test_predictions_without_scores_have_no_calibration_error(name: str) -> None:
    shares, truth = table()
    write_truth(truth)

    ran = evaluated(write_simple(name, shares, ("path", "label")), "--unknown", "other")

    assert ran.exit_code == ExitCode.DONE
    right = counted(shares, truth)
    assert figures() == pytest.approx(
        {name: right[name] for name in ("top1", "mean_class", "macro_f1")} | {"auroc_none": 0.5, "fpr95_none": 1.0}
    )


def test_a_list_of_labelled_videos_needs_predictions() -> None:
    write_truth(table()[1])
    Path("p.csv").write_text("path,class a,class b\n0.mp4,0.5,0.5\n")

    ran = evaluated("p.csv")

    assert ran.exit_code == ExitCode.USAGE
    assert ran.stderr == (
        "error: p.csv: contains no predictions for truth.csv; give the output of bike classify -o, or CSV with the "
        "columns path, label and score\n"
    )


def test_labelled_videos_are_no_predictions_without_truth() -> None:
    write_truth(table()[1])
    Path("labels.csv").write_text("name,label\na,b\n")

    for labels in ([], [Path("labels.csv")]):
        assert inspect_files(["truth.csv"], merge=False, labels=labels)[1] is False


@pytest.mark.parametrize("format_", ["jsonl", "csv", "tsv", "json"])
def test_rejected_videos_are_evaluated(clips: Path, tmp_path: Path, format_: str) -> None:
    """Three clips, of which the green cross has none of the labels."""
    answers, truth = tmp_path / f"answers.{format_}", tmp_path / "truth.csv"
    names = ("red square", "blue circle", "green cross")
    truth.write_text("path,label\n" + "".join(f"{clips}/{name.replace(' ', '_')}.mp4,{name}\n" for name in names))
    flags = ("-m", "tiny", "-L", "red square,blue circle", "--frames", "4", "--attributes", "off")
    assert bike("classify", clips, *flags, "--none", "green cross", "-o", answers).exit_code == ExitCode.DONE

    ran = bike("eval", answers, "-l", truth, "--unknown", "green cross", "-o", tmp_path / "report.json")

    assert ran.exit_code == ExitCode.DONE, ran.stderr
    (system,) = json.loads((tmp_path / "report.json").read_text())["systems"]
    found = {name: metric["value"] for name, metric in system["metrics"].items()}
    assert {name: found[name] for name in ("top1", "top1_none", "rejected_known", "rejected_none")} == {
        "top1": 1,
        "top1_none": 1,
        "rejected_known": 0,
        "rejected_none": 1,
    }
    assert (found["auroc_cosine"], found["fpr95_cosine"]) == (1, 0)


def test_rejection_in_some_records_only_is_left_out_with_a_warning() -> None:
    shares, truth = table()
    write_truth(truth)
    found = records(shares)
    found[3] = {**found[3], "rejected": True, "label": None}

    ran = evaluated(write("p.jsonl", found), "--unknown", "other")

    assert "some records say whether a video fits none of the labels, others do not" in ran.stderr
    assert not {"top1_none", "rejected_known", "rejected_none"} & figures().keys()
