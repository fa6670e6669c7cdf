"""`bike eval`, run in this process with the bundled model, on films and on predictions."""

import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from films import drawn, write_video
from invoke import BIKE, ONE_THREAD, Ran, bike, bike_on_terminal
from speed import slow_but

from bike_cli.cli.eval.wording import cautions, short_names
from bike_cli.errors import ExitCode, UsageError
from bike_cli.inference.classifier import Classifier, Scores
from bike_cli.inference.features import EncodedVideo

CLASSES = ("blue_circle", "blue_square", "green_cross", "red_square")
NO_SUCH_MODEL = ("-m", "no-such-model")


pytestmark = pytest.mark.usefixtures("one_store_for_all")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes of three films; the third of each shows the next class."""
    folder = tmp_path_factory.mktemp("eval") / "data"
    for c, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            shown = CLASSES[(c + (i == 2)) % 4].replace("_", " ")
            write_video(folder / name / f"{i}.mp4", np.roll(drawn(shown, frames=8 + i), 4 * i, axis=1))
    return folder


def evaluated(*arguments: object) -> Ran:
    return bike("eval", "-m", "tiny", "--frames", "4", *arguments)


@pytest.fixture(scope="module")
def report(data: Path, tmp_path_factory: pytest.TempPathFactory, store: Path) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(store))
        assert evaluated(data, "--official", "-o", file, "--resamples", "200").exit_code == ExitCode.DONE
    return file


def read(file: Path) -> dict[str, object]:
    return json.loads(file.read_text())


def matrix_of(system: dict[str, object]) -> np.ndarray:
    """Return the confusion matrix of a system in a report."""
    classes, pairs = len(system["per_class"]), system["confusion"]  # type: ignore[arg-type]
    counts = np.zeros((classes, classes), dtype=int)
    counts[pairs["truth"], pairs["guess"]] = pairs["videos"]  # type: ignore[index]
    return counts


# -- videos -------------------------------------------------------------------------------------------------------


def test_figures_are_those_of_a_plain_count(data: Path, report: Path) -> None:
    labels = [name.replace("_", " ") for name in CLASSES]
    answers = bike("classify", "-m", "tiny", "--frames", "4", "-L", ",".join(labels), data).records

    right = [a["label"] == Path(str(a["path"])).parent.name.replace("_", " ") for a in answers]

    (system,) = read(report)["systems"]  # type: ignore[misc]
    assert system["metrics"]["top1"]["value"] == pytest.approx(sum(right) / 12)
    assert np.trace(matrix_of(system)) == sum(right)
    assert [one["videos"] for one in system["per_class"]] == [3, 3, 3, 3]


def test_stdout_gets_tables_and_stderr_nothing(data: Path) -> None:
    ran = evaluated(data, "--resamples", "50")

    assert (ran.exit_code, ran.stderr) == (ExitCode.DONE, "")
    for text in ("top-1", "macro F1", "12 videos · 4 classes · protocol standard"):
        assert text in ran.stdout
    assert "\x1b" not in ran.stdout


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_tables_fit_the_terminal_with_all_digits(data: Path, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))

    lines = evaluated(data, "--pool", "tcs", "--pool", "mean", "--resamples", "50").stdout.splitlines()

    assert max(map(len, lines)) <= columns
    assert lines == [line.rstrip() for line in lines]
    assert "12 videos · 4 classes · protocol standard" in lines
    assert any(" to +" in line for line in lines)
    assert "…" not in "".join(lines)


def test_table_and_json_say_which_metric_decides_and_what_is_not_tested(data: Path, tmp_path: Path) -> None:
    ran = evaluated(data, "--pool", "tcs", "--pool", "mean", "--resamples", "50", "-o", tmp_path / "r.json")

    report = read(tmp_path / "r.json")
    assert report["decided_by"] == "top1"
    rows: list[dict[str, object]] = report["comparisons"]  # type: ignore[assignment]
    assert {row["metric"] for row in rows if row["significant"] is not None} == {"top1"}
    assert "; top-1 decides " in " ".join(ran.stdout.split())
    assert "– not tested: only top-1 decides" in ran.stdout.splitlines()
    untested = ["–" in line for line in ran.stdout.splitlines() if " to +" in line]
    assert untested == [row["p_adjusted"] is None for row in rows]
    assert read_alone(data, tmp_path)["decided_by"] is None


def read_alone(data: Path, tmp_path: Path) -> dict[str, object]:
    evaluated(data, "--resamples", "50", "-o", tmp_path / "alone.json")
    return read(tmp_path / "alone.json")


def test_classes_with_few_videos_carry_a_caution(data: Path) -> None:
    shown = " ".join(evaluated(data, "--resamples", "50").stdout.split())

    expected = "4 classes have fewer than 10 videos, so intervals of macro F1 and mAP may be too narrow"
    assert f"caution: {expected}" in shown
    assert "caution: 12 videos tell little about accuracy; evaluate 20 or more" in shown


def test_a_report_is_not_named_like_a_video(data: Path) -> None:
    assert evaluated(data, "-o", "x.mp4").stderr.startswith("error: -o x.mp4: is the name of a video or image; choose")


def test_a_report_can_be_repeated_to_the_digit(report: Path) -> None:
    ran = bike("eval", "--from", report)

    assert ran.exit_code == ExitCode.DONE
    assert "the metrics agree" in ran.stderr


def test_a_report_is_repeated_whatever_files_and_variables_say_today(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.yaml").write_text("model: tiny\nframes: 4\npool: mean\nresamples: 50\n")
    with monkeypatch.context() as then:
        then.setenv("BIKE_SEED", "3")
        ran = bike("eval", data, "--config", tmp_path / "c.yaml", "-o", tmp_path / "r.json")
    assert ran.exit_code == ExitCode.DONE
    (tmp_path / "c.yaml").unlink()
    for name, value in (("BIKE_POOL", "tcs"), ("BIKE_TEMPLATE", "class"), ("BIKE_MODEL", "none")):
        monkeypatch.setenv(name, value)

    again = bike("eval", "--from", tmp_path / "r.json", "-o", tmp_path / "again.json")

    assert "the metrics agree" in again.stderr
    assert read(tmp_path / "again.json")["settings"] == read(tmp_path / "r.json")["settings"]


def test_a_video_that_failed_again_is_reported_by_the_exit_code(data: Path, tmp_path: Path) -> None:
    rows = [f"{file},{file.parent.name}" for file in sorted(data.rglob("*.mp4"))]
    (tmp_path / "rows.csv").write_text("\n".join(["path,label", *rows, f"{tmp_path}/gone.mp4,{CLASSES[0]}"]))
    first = evaluated(tmp_path / "rows.csv", "--resamples", "50", "-o", tmp_path / "r.json")
    assert first.exit_code == ExitCode.SOME_FAILED

    again = bike("eval", "--from", tmp_path / "r.json")

    assert ("the metrics agree" in again.stderr, again.exit_code) == (True, ExitCode.SOME_FAILED)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"arguments": []}, "arguments is [], expected an object"),
        ({"systems": {}}, "systems is {}, expected an array"),
        ({"data": None}, "data is None, expected an object"),
        ({"settings": 3}, "settings is 3, expected an object"),
        ({"version": 5}, "version is 5, and this bike reads up to 4"),
        ({"settings": {"frames": "x"}}, "--frames is 'x'; give a whole number"),
        ({"settings": {"protocol": "zzz"}}, "--protocol is 'zzz'; give standard, "),
        ({"arguments": {"data": [1]}}, "arguments.data[0] is 1, expected a string"),
        ({"arguments": {}}, "its argument data is invalid"),
        ({"arguments": {"data": ["x"], "labels": 3}}, "its argument labels is invalid"),
        ({"arguments": {"data": ["x"], "merge": "x"}}, "its argument merge is invalid"),
    ],
)
def test_a_report_that_cannot_be_repeated_is_reported(
    report: Path, changed: dict[str, object], message: str, tmp_path: Path
) -> None:
    (tmp_path / "r.json").write_text(json.dumps(read(report) | changed))

    ran = bike("eval", "--from", tmp_path / "r.json")

    assert ran.exit_code == ExitCode.USAGE
    assert f"is not a report of bike eval ({message}" in ran.stderr
    assert ran.stderr.endswith("); name a file that bike eval -o wrote\n")


def test_what_cannot_be_written_keeps_nothing_else_back(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UsageError("r.json: cannot be written (no room); make room")

    monkeypatch.setattr("bike_cli.cli.eval.tables.write_json", refuse)

    ran = evaluated(data, "--resamples", "50", "-o", tmp_path / "r.json", "--report", tmp_path / "r.html")

    assert ran.exit_code == ExitCode.USAGE
    assert ran.stderr == "error: r.json: cannot be written (no room); make room\n"
    assert "mean class" in ran.stdout
    assert (tmp_path / "r.html").exists()


@pytest.mark.parametrize(("part", "key"), [("splits", "top1"), ("splits", "top1_std")])
def test_other_digits_of_splits_are_reported(part: str, key: str, data: Path, tmp_path: Path) -> None:
    assert evaluated(data, "--protocol", "zeroshot-half", "-o", tmp_path / "r.json").exit_code == ExitCode.DONE
    changed = read(tmp_path / "r.json")
    changed[part][-1]["metrics"][key] += 0.01  # type: ignore[index]
    (tmp_path / "r.json").write_text(json.dumps(changed))

    ran = bike("eval", "--from", tmp_path / "r.json")

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert f"1 metric differs, first {part}[10].metrics.{key}" in ran.stderr


def test_other_digits_are_reported(report: Path, tmp_path: Path) -> None:
    changed = read(report)
    changed["systems"][0]["metrics"]["top1"]["value"] += 0.01  # type: ignore[index]
    (tmp_path / "other.json").write_text(json.dumps(changed))

    ran = bike("eval", "--from", tmp_path / "other.json")

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert "1 metric differs, first systems[0].metrics.top1.value" in ran.stderr


def test_other_videos_under_the_same_names_are_reported(data: Path, report: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(data, tmp_path / "elsewhere")
    assert evaluated(moved, "--resamples", "200", "-o", tmp_path / "moved.json").exit_code == ExitCode.DONE
    before = read(tmp_path / "moved.json")
    assert before["data"]["contents"] == read(report)["data"]["contents"]  # type: ignore[index]

    (moved / CLASSES[0] / "0.mp4").write_bytes((moved / CLASSES[1] / "0.mp4").read_bytes())
    ran = bike("eval", "--from", tmp_path / "moved.json", "-o", tmp_path / "again.json")

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert "the videos or labels have changed" in ran.stderr
    after = read(tmp_path / "again.json")
    assert after["data"]["sha256"] == before["data"]["sha256"]  # type: ignore[index]
    assert after["data"]["contents"] != before["data"]["contents"]  # type: ignore[index]


def test_systems_are_compared_on_the_same_videos(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.json"

    ran = evaluated(data, "--pool", "tcs", "--pool", "mean", "--template", "bike", "--template", "class", "-o", file)

    assert ran.exit_code == ExitCode.DONE
    result = read(file)
    assert [one["name"] for one in result["systems"]] == [  # type: ignore[attr-defined]
        *(
            "template bike, pool tcs",
            "template bike, pool mean",
            "template class, pool tcs",
            "template class, pool mean",
        )
    ]
    assert {one["b"] for one in result["comparisons"]} == {one["name"] for one in result["systems"][1:]}  # type: ignore[attr-defined, index]


def test_the_official_figure_is_next_to_ours(report: Path) -> None:
    (system,) = read(report)["systems"]  # type: ignore[misc]

    # Of one view, two softmaxes leave the order of a video's labels as it is.
    assert system["official"]["top1"] == pytest.approx(system["metrics"]["top1"]["value"])


def test_halves_are_the_official_draws(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    assert evaluated(data, "--protocol", "zeroshot-half", "--official", "-o", file).exit_code == ExitCode.DONE

    result = read(file)

    splits = result["splits"]
    assert [one["name"] for one in splits] == [*(f"half {i}" for i in range(10)), "mean ± std"]  # type: ignore[attr-defined]
    assert {one["videos"] for one in splits[:10]} == {6}  # type: ignore[index]
    assert {"half_top1", "half_top1_std"} <= result["systems"][0]["official"].keys()  # type: ignore[index]


@pytest.mark.slow
def test_few_shots_have_the_figures_of_the_few_shot_command(data: Path, tmp_path: Path) -> None:
    asked = (data, "--method", "proto,probe", "--shots", "1,2", "--trials", "2", "--seed", "5", "-o")
    learned = bike("fewshot", "-m", "tiny", "--frames", "4", *asked, tmp_path / "learned.json")
    tested = evaluated(*asked, tmp_path / "report.json", "--protocol", "fewshot", "--report", tmp_path / "page.html")

    assert (learned.exit_code, tested.exit_code) == (ExitCode.DONE, ExitCode.DONE)
    results = {(one["method"], one["shots"]): one for one in read(tmp_path / "learned.json")["results"]}  # type: ignore[attr-defined, misc]
    report = read(tmp_path / "report.json")
    names = {"zeroshot": ("zeroshot", 2)}
    names |= {f"{m}, {k} shot{'s' * (k > 1)}": (m, k) for m in ("proto", "probe") for k in (1, 2)}
    assert [one["name"] for one in report["systems"]] == list(names)  # type: ignore[attr-defined]
    for system in report["systems"]:  # type: ignore[attr-defined]
        of_draws = [one for one in report["splits"] if one["system"] == system["name"]]  # type: ignore[attr-defined]
        wanted = [trial["top1"] for trial in results[names[system["name"]]]["trials"]]
        assert [one["metrics"]["top1"] for one in of_draws[:-1]] == pytest.approx(wanted, abs=1e-6)
        assert of_draws[-1]["metrics"]["top1"] == pytest.approx(np.mean(wanted), abs=1e-6)
        assert system["metrics"]["top1"]["value"] == pytest.approx(wanted[0], abs=1e-6)
    assert "for the first draw" in tested.stdout
    assert "probe, 2 shots" in (tmp_path / "page.html").read_text()

    again = bike("eval", "--from", tmp_path / "report.json")
    assert (again.exit_code, "the metrics agree" in again.stderr) == (ExitCode.DONE, True)


@pytest.mark.parametrize("method", ["probe", pytest.param("bike", marks=pytest.mark.slow)])
def test_mistakes_of_few_shots_are_those_of_the_last_method(method: str, data: Path, tmp_path: Path) -> None:
    asked = ("--protocol", "fewshot", "--shots", "1", "--method", f"proto,{method}", "--seed", "5")

    assert evaluated(data, *asked, "--report", tmp_path / "r.html", "-o", tmp_path / "r.json").exit_code == 0

    system = read(tmp_path / "r.json")["systems"][-1]  # type: ignore[index]
    counts, labels = matrix_of(system), [one["label"] for one in system["per_class"]]
    page = (tmp_path / "r.html").read_text().split('id="mistakes"')[1].split("</section>")[0]
    shown = re.findall(r"<bdi>([^<]*)</bdi> classified as <bdi>([^<]*)</bdi>", page)
    wrong = [(labels[i], labels[j]) for i, j in np.argwhere(counts) for _ in range(counts[i, j]) if i != j]
    assert wrong
    assert sorted(shown) == sorted(wrong)
    assert f"By <bdi>{method}, 1 shot</bdi>." in page
    assert page.count("<img ") == 4 * len(wrong)
    assert page.count('class="attributes"') == len(wrong)


@pytest.mark.slow
def test_several_views_are_averaged(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.json"

    ran = evaluated(data, "--clips", "2", "--crops", "3", "--sampling", "dense", "--no-cache", "-o", file)

    assert ran.exit_code == ExitCode.DONE
    assert read(file)["settings"]["sampling"] == "dense"  # type: ignore[index]


def test_several_labels_have_a_mean_average_precision(data: Path, tmp_path: Path) -> None:
    rows = ["path,label", *(f"{file},{file.parent.name};odd" for file in sorted(data.rglob("1.mp4")))]
    rows += [f"{file},{file.parent.name}" for file in sorted(data.rglob("0.mp4"))]
    (tmp_path / "several.csv").write_text("\n".join(rows))

    ran = evaluated(
        tmp_path / "several.csv", "--multi-label", "--protocol", "multilabel", "--official", "-o", tmp_path / "r.json"
    )

    assert ran.exit_code == ExitCode.DONE
    (system,) = read(tmp_path / "r.json")["systems"]  # type: ignore[misc]
    assert 0 < system["metrics"]["map"]["value"] <= 1
    assert "running_map" in system["official"]


def test_unknown_classes_have_an_auroc(data: Path, tmp_path: Path) -> None:
    ran = evaluated(data, "--unknown", "red_square", "-o", tmp_path / "r.json")

    assert ran.exit_code == ExitCode.DONE
    result = read(tmp_path / "r.json")
    assert result["data"]["classes"] == 3  # type: ignore[index]
    assert "auroc_none" in result["systems"][0]["metrics"]  # type: ignore[index]


def broken(monkeypatch: pytest.MonkeyPatch, *, pool: str, videos: int) -> None:
    """Let a system's scores be NaN, of the first so many videos."""
    tell = Classifier.scores

    def result(self: Classifier, seen: Sequence[EncodedVideo]) -> list[Scores]:
        found = tell(self, seen)
        if self.config.spotting.pool != pool:
            return found
        names = sorted(one[0].source.id for one in seen)[:videos]
        return [
            replace(one, logits=one.logits * math.nan) if video[0].source.id in names else one
            for video, one in zip(seen, found, strict=True)
        ]

    monkeypatch.setattr(Classifier, "scores", result)


def test_a_system_whose_scores_are_no_numbers_keeps_no_other_back(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch, pool="mean", videos=99)

    ran = evaluated(data, "--pool", "tcs", "--pool", "mean", "-o", tmp_path / "r.json", "--report", tmp_path / "r.html")

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert (
        ran.stderr == "warning: pool mean: all its scores are NaN or infinite, so it is left out; check its weights\n"
    )
    result = read(tmp_path / "r.json")
    assert [one["name"] for one in result["systems"]] == ["pool tcs"]  # type: ignore[attr-defined]
    assert result["systems_left_out"] == ["pool mean"]
    assert result["data"]["videos"] == 12  # type: ignore[index]


def test_where_no_system_has_numbers_it_is_reported(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, pool="tcs", videos=99)

    ran = evaluated(data)

    assert ran.exit_code == ExitCode.USAGE
    assert "the scores of tiny are NaN or infinite; try --precision fp32" in ran.stderr


def test_a_video_whose_scores_are_no_numbers_is_a_failure(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch, pool="tcs", videos=1)

    ran = evaluated(data, "-o", tmp_path / "r.json")

    assert ran.exit_code == ExitCode.SOME_FAILED
    failed = read(tmp_path / "r.json")["data"]["failed"]  # type: ignore[index]
    assert {one["type"] for one in failed} == {"no_number"}
    assert read(tmp_path / "r.json")["data"]["videos"] == 12 - len(failed) > 0  # type: ignore[index]


def test_what_a_protocol_lacks_keeps_other_figures_from_nobody(data: Path, tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("id,name\n" + "".join(f"{i},{n}\n" for i, n in enumerate("abcdefgh")))
    rows = [f"{file} 0" for file in sorted((data / CLASSES[0]).glob("*.mp4"))]
    (tmp_path / "rows.txt").write_text("\n".join(rows))

    ran = evaluated(
        tmp_path / "rows.txt", "-l", tmp_path / "names.csv", "--protocol", "zeroshot-half", "-o", tmp_path / "r.json"
    )

    assert ran.exit_code == ExitCode.DONE
    assert "protocol zeroshot-half: its own metrics are left out (" in ran.stderr
    result = read(tmp_path / "r.json")
    assert (result["splits"], "top1" in result["systems"][0]["metrics"]) == ([], True)  # type: ignore[index]


def test_what_systems_are_made_of_is_reported(data: Path, tmp_path: Path) -> None:
    arguments = ("--template", "bike", "--template", "a {}", "--spot", "all", "--resamples", "50")
    assert evaluated(data, *arguments, "-o", tmp_path / "r.json").exit_code == ExitCode.DONE

    one, other = (system["made_of"] for system in read(tmp_path / "r.json")["systems"])  # type: ignore[attr-defined]

    assert (one["template"], other["template"]) == ("bike", "a {}")
    assert (one["model"], one["pool"], one["spot"]) == ("tiny", "tcs", "all")
    assert one["temperature"] > 0
    assert len(one["fingerprint"]) > 8


@pytest.mark.parametrize("flag", [(), ("--attributes",), ("-l",)])
def test_a_name_that_no_file_can_have_is_a_usage_error(flag: tuple[str, ...], data: Path) -> None:
    ran = evaluated(*([data, *flag] if flag else []), "x" * 305)

    assert ran.exit_code == ExitCode.USAGE
    assert ran.stderr.startswith(f"error: {'x' * 60}")


def test_a_model_name_that_no_file_can_have_is_a_model_error(data: Path) -> None:
    ran = evaluated(data, "-m", "x" * 305)

    assert ran.exit_code == ExitCode.NO_MODEL
    assert ran.stderr.startswith(f"error: model '{'x' * 20}")
    assert len(ran.stderr) < 400


def test_a_long_template_is_no_name_of_a_file(data: Path) -> None:
    ran = evaluated(data, "--template", "a video of " * 30 + "{}", "--resamples", "50")

    assert ran.exit_code == ExitCode.DONE


@pytest.mark.parametrize("text", ["[" * 100_000, '{"systems": ' * 50_000])
def test_json_that_is_nested_too_deep_is_no_report(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(text)

    ran = bike("eval", "--from", tmp_path / "r.json")

    assert (ran.exit_code, "is not a report of bike eval" in ran.stderr) == (ExitCode.USAGE, True)


@pytest.mark.parametrize("value", [math.nan, None, [1] * 10_000])
def test_a_metric_that_is_not_a_number_is_not_of_a_report(value: object, report: Path, tmp_path: Path) -> None:
    changed = read(report)
    changed["systems"][0]["metrics"]["top1"]["value"] = value  # type: ignore[index]
    (tmp_path / "r.json").write_text(json.dumps(changed))

    ran = bike("eval", "--from", tmp_path / "r.json")

    assert ran.exit_code == ExitCode.USAGE
    assert "is not a report of bike eval (systems[0].metrics.top1.value is " in ran.stderr
    assert len(ran.stderr) < 400


def test_a_video_that_cannot_be_read_is_reported_and_the_others_count(data: Path, tmp_path: Path) -> None:
    rows = ["path,label", *(f"{file},{file.parent.name}" for file in sorted(data.rglob("*.mp4")))]
    (tmp_path / "bad.mp4").write_bytes(b"no film")
    (tmp_path / "truth.csv").write_text("\n".join([*rows, "bad.mp4,red_square", "gone.mp4,red_square"]))

    ran = evaluated(tmp_path / "truth.csv", "-o", tmp_path / "r.json")

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert "bad.mp4" in ran.stderr
    result = read(tmp_path / "r.json")["data"]
    assert result["videos"] == 12  # type: ignore[index]
    assert sorted(Path(one["path"]).name for one in result["failed"]) == ["bad.mp4", "gone.mp4"]  # type: ignore[index]


def test_a_page_shows_the_mistakes(data: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"

    assert evaluated(data, "--report", page).exit_code == ExitCode.DONE

    text = page.read_text()
    assert text.count("data:image/jpeg") >= 4
    assert "http://" not in text
    assert "https://" not in text


def test_the_confusion_matrix_is_a_table_or_a_picture(data: Path, report: Path, tmp_path: Path) -> None:
    table, picture = tmp_path / "c.csv", tmp_path / "c.png"

    for file in (table, picture):
        assert evaluated(data, "--confusion", file, "--resamples", "50").exit_code == ExitCode.DONE

    rows = list(csv.reader(table.read_text().splitlines()))
    (system,) = read(report)["systems"]  # type: ignore[misc]
    assert rows[0][1:] == [name.replace("_", " ") for name in CLASSES]
    assert [[int(cell) for cell in row[1:]] for row in rows[1:]] == matrix_of(system).tolist()
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize(
    "protocol",
    [(), ("--protocol", "fewshot", "--shots", "1,2", "--method", "proto,tip,probe", "--trials", "3")],
    ids=["standard", "fewshot"],
)
def test_two_processes_give_the_same_json(protocol: Sequence[str], data: Path, tmp_path: Path) -> None:
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "bike_cli",
    ]
    for command, file in zip((BIKE, launcher), files, strict=True):
        arguments = ["eval", "-m", "tiny", "--frames", "4", "--device", "cpu", "--no-cache", str(data), "-o", str(file)]
        arguments += [*protocol, "--report", str(file.with_suffix(".html"))]
        environment = {**os.environ, **ONE_THREAD, "GLOO_SOCKET_IFNAME": "lo"}
        done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    one, two = (read(file) for file in files)

    assert one == two
    assert files[0].with_suffix(".html").read_text() == files[1].with_suffix(".html").read_text()


# -- predictions --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def predicted(data: Path, tmp_path_factory: pytest.TempPathFactory, store: Path) -> tuple[Path, Path]:
    """Predictions of all labels, and the truth."""
    folder = tmp_path_factory.mktemp("predicted")
    labels = ",".join(name.replace("_", " ") for name in CLASSES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(store))
        ran = bike("classify", "-m", "tiny", "--frames", "4", "-L", labels, "-o", folder / "p.jsonl", data)
    assert ran.exit_code == ExitCode.DONE
    rows = ["path,label", *(f"{file},{file.parent.name}" for file in sorted(data.rglob("*.mp4")))]
    (folder / "truth.csv").write_text("\n".join(rows))
    return folder / "p.jsonl", folder / "truth.csv"


def test_predictions_have_the_figures_of_their_videos(
    predicted: tuple[Path, Path], report: Path, tmp_path: Path
) -> None:
    file, truth = predicted

    ran = bike("eval", file, "--labels", truth, "-o", tmp_path / "r.json", "--resamples", "200")

    assert ran.exit_code == ExitCode.DONE
    ours, theirs = (read(one)["systems"][0]["metrics"] for one in (tmp_path / "r.json", report))  # type: ignore[index]
    for name in ("top1", "mean_class", "macro_f1", "map"):
        assert ours[name]["value"] == pytest.approx(theirs[name]["value"], abs=1e-6), name


def test_two_files_of_predictions_are_compared(predicted: tuple[Path, Path], tmp_path: Path) -> None:
    file, truth = predicted
    worse = tmp_path / "worse.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    for one in records:
        one["top"] = [{**top, "label": other["label"]} for top, other in zip(one["top"], one["top"][::-1], strict=True)]
        one["label"] = one["top"][0]["label"]
    worse.write_text("".join(json.dumps(one) + "\n" for one in records))

    ran = bike("eval", file, worse, "--labels", truth, "-o", tmp_path / "r.json")

    assert ran.exit_code == ExitCode.DONE
    top1 = next(one for one in read(tmp_path / "r.json")["comparisons"] if one["metric"] == "top1")  # type: ignore[attr-defined]
    assert (top1["a"], top1["b"]) == ("p", "worse")
    assert top1["high"] < 0


def test_parts_are_merged_to_the_whole(predicted: tuple[Path, Path], tmp_path: Path) -> None:
    file, truth = predicted
    lines = file.read_text().splitlines(keepends=True)
    parts = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    parts[0].write_text("".join(lines[:5]))
    parts[1].write_text("".join(lines[5:]))

    for files, name in (([file], "whole"), (parts, "merged")):
        flags = ["--merge"] if len(files) > 1 else []
        assert bike("eval", *files, "--labels", truth, *flags, "-o", tmp_path / name).exit_code == ExitCode.DONE

    whole, merged = (read(tmp_path / name)["systems"][0]["metrics"] for name in ("whole", "merged"))  # type: ignore[index]
    assert {k: v["value"] for k, v in merged.items()} == pytest.approx({k: v["value"] for k, v in whole.items()})


# -- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "DATA: missing; name labelled videos"),
        (["{data}", "{predicted}"], "{data}: contains no predictions, but {predicted} does; give files of one kind"),
        (["{predicted}"], "{predicted}: contains predictions; name the true labels with --labels truth.csv"),
        (
            ["{predicted}", "-l", "{truth}", "--official"],
            "--official: needs videos, but these are predictions",
        ),
        (["{data}", "--protocol", "k600"], "protocol k600: needs at least 2 splits, got 1; give a list file for each"),
        (
            ["{data}", "--protocol", "multilabel"],
            "protocol multilabel: the videos have one label each; ",
        ),
        (["{data}", "--shots", "1"], "--shots: needs --protocol fewshot, not standard; give that, or leave it out"),
        (["{predicted}", "-l", "{truth}", "--protocol", "fewshot"], "protocol fewshot: learns from videos, and these"),
        (["{data}", "{data}", "--protocol", "fewshot"], "protocol fewshot: draws from one data set, and 2 were named"),
        (["{data}", "--protocol", "fewshot", "--official"], "--official: is not supported by the protocol fewshot"),
        (["{data}", "--resamples", "0"], "resamples is 0; give a whole number of at least 1"),
        (["{data}", "--sampling", "dense", "--frames", "200"], "frames is 200; a dense clip has at most 128"),
        (["{data}", "-o", "{truth}/x"], "{truth}/x: "),
        (
            ["{data}", "--confusion", "c.txt"],
            "--confusion c.txt: --confusion does not write .txt files; end the name in .csv or .png",
        ),
        (["{data}", "--confusion", "c"], "c: is neither a table nor an image; end its name in .csv or .png"),
        (["{data}", "--report", "r.pdf"], "--report r.pdf: --report does not write .pdf files; end the name in .html"),
        (["{data}", "--confusion", "c.pdf"], "--confusion c.pdf: --confusion does not write .pdf files; end the name"),
        (["{data}", "-o", "r.csv"], "-o r.csv: -o does not write .csv files; end the name in .json"),
        (["--from", "{truth}"], "{truth}: is not a report of bike eval"),
        (["{data}", "--from", "{report}"], "--from: repeats the run of {report}, so data cannot be given as well; "),
        (["{data}/none"], "{data}/none: "),
        (["{data}", "--report", "{data}/blue_circle/0.mp4"], "--report does not write .mp4 files; end the name"),
        (["{data}", "-o", "same.csv", "--confusion", "same.csv"], "same.csv: is named by both -o and --confusion; "),
        (["{data}", "-o", "a", "--report", "./a"], "a: is named by both -o and --report; give each its own file"),
        (["{data}", "-o", "{data}/blue_circle/0.mp4"], "-o {data}/blue_circle/0.mp4: is the name of a video or image"),
        (
            ["{predicted}", "-l", "{truth}", "-o", "{data}/blue_circle/0.mp4"],
            "0.mp4: is the name of a video or image",
        ),
        (["{data}", "--attributes", "{truth}", "--report", "{truth}"], "{truth}: is read by this command and would be"),
        (["--from", "{report}", "-o", "{report}"], "{report}: is read by this command and would be overwritten"),
        (["{data}", "-o", "n" * 300], "n" * 60 + "…: cannot be a file (File name too long); choose another name"),
        (
            ["{data}", "--multi-label", "--protocol", "multilabel", "--confusion", "c.csv"],
            "--confusion: needs videos with one label each, and these have several; leave it out",
        ),
        (["{data}", "--names", "{truth}"], "--names: is for predictions, not for videos; leave it out"),
        (["{data}", "--merge"], "--merge: is for predictions, not for videos; leave it out"),
        (["{predicted}", "-l", "{truth}", "--pool", "mean"], "--pool: is for videos, and these are predictions; leave"),
        (["{data}", "--resamples", "100001"], "resamples is 100001; it must be at most 100000"),
        (["--from", "{report}", "--seed", "0"], "--from: repeats the run of {report}, so --seed cannot be given"),
        (["--from", "{report}", "--subset", "x"], "so --subset cannot be given as well; leave it out"),
    ],
)
def test_what_cannot_work_is_reported_before_a_model_is_loaded(
    data: Path, predicted: tuple[Path, Path], report: Path, arguments: list[str], message: str
) -> None:
    places = {"data": data, "predicted": predicted[0], "truth": predicted[1], "report": report}
    filled = [argument.format(**places) for argument in arguments]

    is_made = "--from" in filled or filled[:1] == [str(predicted[0])]
    ran = bike("eval", *filled, *(() if is_made else NO_SUCH_MODEL))

    assert ran.exit_code == ExitCode.USAGE
    assert message.format(**places) in ran.stderr
    assert ran.stderr.count("\n") == 1


@pytest.mark.slow  # over a second of a core
@pytest.mark.parametrize("columns", slow_but([80], [80, 100]))
def test_a_model_folder_is_named_without_its_path_and_nothing_is_broken_without_need(
    data: Path, tmp_path: Path, columns: int
) -> None:
    model = tmp_path / "a long folder" / "mine"
    model.parent.mkdir()
    bike("export", "tiny", model)

    ran = bike_on_terminal("eval", data, "-m", "tiny", "-m", model, "--cache-dir", tmp_path, columns=columns)

    lines = [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", ran.stdout).splitlines()]
    assert str(tmp_path) not in " ".join(lines)
    assert any(line.split() == ["tiny", "mine"] for line in lines)
    assert "mine compared with tiny, in percentage points, on the same videos" in " ".join(lines)
    assert any(line.split()[:1] == ["top-1"] and line.endswith("same answers") for line in lines)
    assert all(len(line) <= columns for line in lines)


def test_each_compared_system_has_a_table(data: Path) -> None:
    shown = evaluated(data, "--pool", "tcs", "--pool", "mean", "--template", "bike", "--template", "class").stdout

    titles = re.findall(r"^(.*) compared with template bike, pool tcs", shown, re.M)
    assert titles == ["template bike, pool mean", "template class, pool tcs", "template class, pool mean"]
    assert " ".join(shown.split()).count("in percentage points") == 1


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["tiny", "/a/b/mine"], ["tiny", "mine"]),
        (["tiny", "./mine/, pool tcs"], ["tiny", "mine, pool tcs"]),
        (["/a/mine", "/b/mine"], ["/a/mine", "/b/mine"]),
        (["ViT-B-32,/a/b.pt", "base"], ["ViT-B-32,/a/b.pt", "base"]),
    ],
)
def test_names_of_systems_are_shortened_while_they_differ(names: list[str], short: list[str]) -> None:
    report = SimpleNamespace(systems=[SimpleNamespace(name=name) for name in names])

    assert list(short_names(report).values()) == short  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("classes", "videos", "said"),
    [(20, 10, ""), (21, 10, "there are more than 20 classes"), (21, 9, "21 classes have fewer")],
)
def test_many_classes_carry_a_caution(classes: int, videos: int, said: str) -> None:
    metrics = {"macro_f1": None}
    per_class = tuple(SimpleNamespace(videos=videos) for _ in range(classes))
    data = SimpleNamespace(videos=classes * videos)
    report = SimpleNamespace(systems=(SimpleNamespace(metrics=metrics, per_class=per_class),), data=data)

    found = cautions(report)  # type: ignore[arg-type]
    assert len(found) == bool(said)
    assert all(text.startswith(said) for text in found)


@pytest.mark.parametrize(("videos", "said"), [(1, "1 video tells little"), (19, "19 videos tell little"), (20, None)])
def test_few_videos_carry_a_caution(videos: int, said: str | None) -> None:
    system = SimpleNamespace(metrics={"top1": None}, per_class=())
    report = SimpleNamespace(systems=(system,), data=SimpleNamespace(videos=videos))

    expected = [] if said is None else [f"{said} about accuracy; evaluate 20 or more"]
    assert cautions(report) == expected  # type: ignore[arg-type]
