"""`bike classify --scores`, and `bike eval` of what it writes."""

import csv
import json
from pathlib import Path

import pytest
from biased_models import biased_checkpoint
from invoke import Ran, bike

from bike_cli.cli.classify.writers import Format
from bike_cli.config import ScoreKind
from bike_cli.data.predictions.merge import merge_parts
from bike_cli.data.predictions.predictions import read_predictions
from bike_cli.engine.models.folder import save_folder
from bike_cli.errors import ExitCode, UsageError

LABELS = ("red square", "blue circle", "green cross")
FLAGS = ("-L", ",".join(LABELS), "--attributes", "off", "--frames", "4")

pytestmark = pytest.mark.usefixtures("one_store_for_all")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model with a bias."""
    folder = tmp_path_factory.mktemp("model") / "small"
    save_folder(folder, biased_checkpoint())
    return folder


def classify(model: object, clips: Path, *flags: object) -> Ran:
    return bike("classify", clips, "-m", model, *FLAGS, *flags)


def test_a_model_without_a_bias_is_refused_with_exit_code_2(clips: Path) -> None:
    ran = classify("tiny", clips, "--scores", "sigmoid")

    assert ran.exit_code == ExitCode.USAGE
    assert "tiny was trained to compare labels, not to judge one; use softmax" in ran.stderr
    assert ran.stdout == ""


def test_records_have_the_match_of_each_label(clips: Path, model: Path) -> None:
    compared, judged = (classify(model, clips, "--scores", kind).records for kind in ("softmax", "sigmoid"))

    assert [record["scores"] for record in compared + judged] == ["softmax"] * 3 + ["sigmoid"] * 3
    for before, after in zip(compared, judged, strict=True):
        assert after["top"] == [{**one, "score": one["match"]} for one in before["top"]]  # type: ignore[attr-defined]
        assert after["score"] == after["top"][0]["match"]  # type: ignore[index]


def test_a_table_of_cells_has_the_match_of_each_label(clips: Path, model: Path) -> None:
    records, ran = classify(model, clips).records, classify(model, clips, "-f", "csv")

    rows = list(csv.DictReader(ran.stdout.splitlines()))
    matches = [[float(row[name]) for name in ("match", "match_2", "match_3")] for row in rows]
    assert matches == [[one["match"] for one in record["top"]] for record in records]  # type: ignore[attr-defined]
    assert {row["scores"] for row in rows} == {"softmax"}


@pytest.mark.parametrize("first", ["softmax", "sigmoid"])
def test_a_run_is_not_resumed_with_other_scores(first: str, clips: Path, model: Path, tmp_path: Path) -> None:
    answers, other = tmp_path / "answers.jsonl", {"softmax": "sigmoid", "sigmoid": "softmax"}[first]
    assert classify(model, clips / "red_square.mp4", "--scores", first, "-o", answers).exit_code == ExitCode.DONE
    before = answers.read_bytes()

    refused = classify(model, clips, "--scores", other, "-o", answers, "--resume")

    assert refused.exit_code == ExitCode.USAGE
    assert f"answers.jsonl:1: has {first} scores, this run {other}; set --scores" in refused.stderr
    assert answers.read_bytes() == before
    assert classify(model, clips, "--scores", first, "-o", answers, "--resume").exit_code == ExitCode.DONE
    assert len(answers.read_text().splitlines()) == 3


def test_records_without_settings_are_not_resumed_with_other_scores(clips: Path, model: Path, tmp_path: Path) -> None:
    """Records of the first versions say nothing about their scores, which are softmax."""
    answers = tmp_path / "answers.jsonl"
    (record,) = classify(model, clips / "red_square.mp4").records
    answers.write_text(json.dumps({k: v for k, v in record.items() if k not in ("scores", "settings")}) + "\n")

    refused = classify(model, clips, "--scores", "sigmoid", "-o", answers, "--resume")

    assert "answers.jsonl:1: has softmax scores, this run sigmoid" in refused.stderr
    assert classify(model, clips, "-o", answers, "--resume").exit_code == ExitCode.DONE


# -- evaluation -----------------------------------------------------------------------------------------------------


@pytest.fixture
def truth(clips: Path, tmp_path: Path) -> Path:
    """Labels of the clips, the first of them with two."""
    file = tmp_path / "truth.csv"
    rows = [f"{clip},{clip.stem.replace('_', ' ')}" for clip in sorted(clips.iterdir())]
    file.write_text("\n".join(["path,label", rows[0] + ";green cross", *rows[1:]]) + "\n")
    return file


def written(model: Path, clips: Path, folder: Path, kind: ScoreKind, form: Format, *flags: object) -> Path:
    file = folder / f"{kind}.{form}"
    assert classify(model, clips, "--scores", kind, "-o", file, *flags).exit_code == ExitCode.DONE
    return file


def metrics_of(file: Path) -> dict[str, float]:
    (system,) = json.loads(file.read_text())["systems"]
    return {name: metric["value"] for name, metric in system["metrics"].items()}


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_map_of_several_labels_does_not_depend_on_scores(
    form: Format, clips: Path, model: Path, truth: Path, tmp_path: Path
) -> None:
    report, flags = tmp_path / "report.json", ("--multi-label", "--protocol", "multilabel")
    found = []
    for kind in ("softmax", "sigmoid"):
        file = written(model, clips, tmp_path, kind, form)  # type: ignore[arg-type]
        ran = bike("eval", file, "--labels", truth, *flags, "-o", report)
        assert ran.exit_code == ExitCode.DONE, ran.stderr
        found.append(metrics_of(report))

    ran = bike("eval", truth, "-m", model, *FLAGS[2:], *flags, "-o", report)

    assert ran.exit_code == ExitCode.DONE, ran.stderr
    assert found == [metrics_of(report)] * 2
    assert found[0]["map"] < 1


def test_metrics_of_one_label_do_not_depend_on_scores(clips: Path, model: Path, truth: Path, tmp_path: Path) -> None:
    """The softmax of log-odds is that of the logits: what is compared does not know the bias."""
    truth.write_text(truth.read_text().replace(";green cross", ""))
    found = []
    for kind in ("softmax", "sigmoid"):
        file = written(model, clips, tmp_path, kind, "jsonl")  # type: ignore[arg-type]
        assert bike("eval", file, "--labels", truth, "-o", tmp_path / "report.json").exit_code == ExitCode.DONE
        found.append(metrics_of(tmp_path / "report.json"))

    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert "brier" in found[0]


def test_sigmoid_scores_of_some_labels_are_not_evaluated(clips: Path, model: Path, truth: Path, tmp_path: Path) -> None:
    file = written(model, clips, tmp_path, "sigmoid", "jsonl", "-k", 2)

    ran = bike("eval", file, "--labels", truth, "--multi-label", "--protocol", "multilabel")

    assert ran.exit_code == ExitCode.USAGE
    assert "sigmoid.jsonl: has sigmoid scores of 2 of 3 labels" in ran.stderr
    assert "classify with -k 3, or with --scores softmax" in " ".join(ran.stderr.split())


def test_scores_of_both_kinds_are_not_mixed(clips: Path, model: Path, tmp_path: Path) -> None:
    files = [written(model, clips, tmp_path, kind, "jsonl") for kind in ("softmax", "sigmoid")]  # type: ignore[arg-type]
    both = tmp_path / "both.jsonl"
    both.write_text("".join(file.read_text().replace("/", str(i)) for i, file in enumerate(files)))

    with pytest.raises(UsageError, match=r"both.jsonl:4: has sigmoid scores, and records above have softmax scores"):
        read_predictions(both)
    with pytest.raises(UsageError, match=r"sigmoid.jsonl: has sigmoid scores, and .*softmax.jsonl has softmax scores"):
        merge_parts([read_predictions(file) for file in files])
