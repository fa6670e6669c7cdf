"""`bike labels`: its outputs, exit codes, and what it writes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from invoke import Ran, bike, bike_on_terminal

from bike_cli.data.labels import read_label_set
from bike_cli.errors import ExitCode
from bike_cli.tasks import label_check
from bike_cli.tasks.label_check import near_pairs

BAD = "PlayingGuitar\nplaying_guitar\nred circle\nred disc\nother\nblue star\n"


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    file = tmp_path / "bad.txt"
    file.write_text(BAD)
    return file


def report_of(ran: Ran) -> dict[str, list[dict[str, object]]]:
    assert ran.exit_code == ExitCode.DONE, ran.stderr
    return json.loads(ran.stdout)


def test_findings_name_line_label_problem_and_fix(bad: Path) -> None:
    report = report_of(bike("labels", "check", bad, "-m", "tiny"))

    found = [(f["where"], f["label"], f["kind"]) for f in report["findings"]]
    assert report["labels"] == 6
    assert found == [
        (f"{bad}:1", "PlayingGuitar", "spelling"),
        (f"{bad}:1", "PlayingGuitar", "unknown"),
        (f"{bad}:2", "playing_guitar", "spelling"),
        (f"{bad}:2", "playing_guitar", "duplicate"),
        (f"{bad}:2", "playing_guitar", "unknown"),
        (f"{bad}:4", "red disc", "similar"),
        (f"{bad}:5", "other", "none"),
        (f"{bad}:5", "other", "unknown"),
    ]
    assert all(f["problem"] and f["fix"] for f in report["findings"])


def test_the_terminal_gets_a_table(bad: Path) -> None:
    shown = bike_on_terminal("labels", "check", bad, "--no-model")

    assert shown.exit_code == ExitCode.DONE
    assert "6 labels, 4 problems" in shown.stdout
    assert "CamelCase" in shown.stdout


def test_strict_and_clean_lists(bad: Path, tmp_path: Path) -> None:
    assert bike("labels", "check", bad, "--no-model", "--strict").exit_code == ExitCode.SOME_FAILED
    clean = tmp_path / "clean.txt"
    clean.write_text("red circle\nblue star\n")
    ran = bike("labels", "check", clean, "-m", "tiny", "--strict")
    assert report_of(ran)["findings"] == []


def test_a_corrected_list_is_written_and_nothing_is_replaced_in_silence(bad: Path, tmp_path: Path) -> None:
    out = tmp_path / "good.txt"
    first = bike("labels", "check", bad, "--no-model", "--fix", out)
    second = bike("labels", "check", bad, "--no-model", "--fix", out)

    assert read_label_set(out).labels == ("playing guitar", "red circle", "red disc", "other", "blue star")
    assert f"{bad}:2: merged 'playing_guitar' into 'playing guitar'" in first.stderr
    assert "5 labels, 1 changed, 1 merged, 1 problem left" in first.stderr
    assert "exists and will be replaced" not in first.stderr
    assert f"{out}: exists and will be replaced" in second.stderr
    same = bike("labels", "check", bad, "--no-model", "--fix", bad)
    assert same.exit_code == ExitCode.USAGE
    assert "is read by this command and would be overwritten" in same.stderr
    assert bad.read_text() == BAD


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "labels: missing; name a file of labels, or give -L"),
        (["FILE", "-L", "a,b"], "labels: both FILE and -L were given; choose one"),
        (["FILE", "--no-model", "-m", "tiny"], "--no-model: leaves out the checks of a model"),
        (["FILE", "--fix", "out.md"], "--fix out.md: labels are written as .txt, .csv or .yaml"),
        (["absent.txt"], "absent.txt: no such file"),
    ],
)
def test_usage_errors(arguments: list[str], message: str, bad: Path) -> None:
    ran = bike("labels", "check", *(str(bad) if a == "FILE" else a for a in arguments))

    assert ran.exit_code == ExitCode.USAGE
    assert message in ran.stderr


def test_without_a_model_torch_is_not_imported(bad: Path) -> None:
    code = (
        "import sys; from bike_cli.cli.app import app\n"
        f"try: app(['labels', 'check', {str(bad)!r}, '--fix', {str(bad.with_name('x.csv'))!r}])\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "sys.exit('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    assert "base: is not on this disk, so the checks that need a model are left out" in ran.stderr


def test_descriptions_are_merged_and_read_by_classify(clips: Path, tmp_path: Path) -> None:
    labels, described, out = (tmp_path / name for name in ("l.txt", "d.csv", "out.yaml"))
    labels.write_text("crimson quadrate\nazure roundel\ngreen cross\n")
    described.write_text(
        "label,description\nCrimsonQuadrate,a red square\nazure_roundel,a blue circle\nsaltire,a cross\n"
    )

    ran = bike("labels", "expand", labels, "--merge", described, "-o", out)
    assert ran.exit_code == ExitCode.DONE
    assert f"{labels}: label 'green cross' has no description" in ran.stderr
    assert f"{labels}: has no label 'saltire'" in ran.stderr
    assert bike("labels", "expand", labels, "--merge", described, "--strict").exit_code == ExitCode.SOME_FAILED
    videos = [clips / f"{name}.mp4" for name in ("red_square", "blue_circle", "green_cross")]
    with_descriptions = bike("classify", "-m", "tiny", "-l", out, *videos)
    assert [r["label"] for r in with_descriptions.records] == ["crimson quadrate", "azure roundel", "green cross"]
    without = bike("classify", "-m", "tiny", "-l", out, "--descriptions", "off", *videos)
    plain = bike("classify", "-m", "tiny", "-l", labels, *videos)
    assert without.records == plain.records
    assert with_descriptions.records[0]["settings"] != plain.records[0]["settings"]


def test_a_resumed_run_with_other_descriptions_is_refused(clips: Path, tmp_path: Path) -> None:
    labels, out = tmp_path / "l.yaml", tmp_path / "a.jsonl"
    video = clips / "red_square.mp4"
    labels.write_text("azure: [a blue circle]\ncrimson: [a red square]\n")
    run = ("classify", "-m", "tiny", "-l", labels, "-o", out, "--resume", video)
    assert bike(*run).exit_code == bike(*run).exit_code == ExitCode.DONE
    labels.write_text("azure: [a blue circle]\ncrimson: [a red box]\n")

    again = bike(*run)

    assert again.exit_code == ExitCode.USAGE
    assert "was made with other labels or settings" in again.stderr


def test_the_prompt_is_plain_text(bad: Path) -> None:
    ran = bike("labels", "expand", bad, "--prompt")

    assert ran.exit_code == ExitCode.DONE
    assert ran.stdout.endswith("- PlayingGuitar\n- playing_guitar\n- red circle\n- red disc\n- other\n- blue star\n")
    assert bike("labels", "expand", bad, "--prompt", "-o", "x.yaml").exit_code == ExitCode.USAGE


# -- labels that look alike -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [3, 7, 1024])
def test_near_pairs_are_those_of_a_slow_loop(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_check, "BLOCK", block)
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(40, 16))
    for i, (j, noise) in {30: (2, 0.02), 31: (2, 0.08), 17: (16, 0.3), 39: (0, 0.0)}.items():
        vectors[i] = vectors[j] + noise * rng.normal(size=16)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    distances = {(i, j): float(np.linalg.norm(vectors[i] - vectors[j])) for i in range(40) for j in range(i + 1, 40)}
    limit = np.median(list(distances.values())) / 3
    expected = sorted((pair for pair in distances if distances[pair] < limit), key=distances.__getitem__)
    assert len(expected) >= 4

    pairs, more = near_pairs(torch.tensor(vectors, dtype=torch.float32))

    assert [(p.first, p.second) for p in pairs] == expected
    np.testing.assert_allclose([p.cosine for p in pairs], [1 - distances[p] ** 2 / 2 for p in expected], atol=1e-5)
    assert more == 0
    few, left = near_pairs(torch.tensor(vectors, dtype=torch.float32), most=2)
    assert [(p.first, p.second) for p in few] == expected[:2]
    assert left == pytest.approx(len(expected) - 2, abs=1)


@pytest.mark.slow
def test_memory_is_that_of_a_block_of_ten_thousand_labels() -> None:
    from tensor_watch import LargestTensor

    generator = torch.Generator().manual_seed(0)
    classes = torch.nn.functional.normalize(torch.randn(10_000, 64, generator=generator), dim=1)

    with LargestTensor() as largest:
        near_pairs(classes)

    assert largest.numbers <= label_check.BLOCK * 10_000


def test_labels_are_read_from_stdin(bad: Path, tmp_path: Path) -> None:
    of_file, out = bike("labels", "check", bad, "--no-model"), tmp_path / "out.txt"

    piped = bike("labels", "check", "-", "--no-model", "--fix", out, stdin=b"\xef\xbb\xbf" + BAD.encode())

    places = [(f["where"], f["kind"]) for f in report_of(of_file)["findings"]]
    expected = [(str(where).replace(str(bad), "stdin"), kind) for where, kind in places]
    assert [(f["where"], f["kind"]) for f in report_of(piped)["findings"]] == expected
    assert out.read_text() == "playing guitar\nred circle\nred disc\nother\nblue star\n"
    prompts = [bike("labels", "expand", name, "--prompt", stdin=BAD.encode()).stdout for name in (bad, "-")]
    assert prompts[0] == prompts[1]
    answer = "red circle: [a round red thing]\n"
    merged = bike("labels", "expand", bad, "--merge", "-", stdin=answer.encode())
    assert "red circle:\n- a round red thing\n" in merged.stdout


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["check", "-"], b"", "stdin: contains no labels"),
        (["check", "-"], b"run\n\xff\n", "stdin:2: byte 0xff is not UTF-8"),
        (["expand", "-", "--merge", "-"], b"run\n", "-: stands for stdin, which can be read only once"),
    ],
)
def test_what_is_wrong_with_stdin_is_one_line(arguments: list[str], stdin: bytes, message: str) -> None:
    ran = bike("labels", *arguments, stdin=stdin)

    assert ran.exit_code == ExitCode.USAGE
    assert ran.stderr.count("\n") == 1
    assert message in ran.stderr


def test_of_many_labels_without_descriptions_the_first_are_named() -> None:
    ran = bike("labels", "expand", "-", stdin="".join(f"thing {i:02}x\n" for i in range(13)).encode())

    warnings = ran.stderr.splitlines()[:-1]
    assert [f"'thing {i:02}x' has no description" in line for i, line in enumerate(warnings)] == [True] * 10 + [False]
    assert warnings[-1].endswith("stdin: 3 more labels without a description")
