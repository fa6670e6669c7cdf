"""What the shell completes after a flag."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from invoke import BIKE

from bike_cli.cli import completion
from bike_cli.data.labels import TEMPLATES
from bike_cli.data.lexicons import lexicon_names
from bike_cli.engine.models.aliases import ALIASES
from bike_cli.tasks.fewshot import methods

LEARNING = {*methods.METHODS, methods.TRAINED, "all"} - {methods.BASELINE}  # the baseline is always included


def completed(line: str, folder: Path, *, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Complete the last word of a line, as bash does."""
    environment = {
        **os.environ,
        "_BIKE_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(line.count(" ")),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, *python, *BIKE[1:]]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("bike classify --model ", {"tiny", *ALIASES}),
        pytest.param("bike classify -m la", {"large", "large-336"}, marks=pytest.mark.slow),
        pytest.param("bike fewshot --method ", LEARNING, marks=pytest.mark.slow),
        ("bike fewshot --method probe,t", {"probe,tip"}),
        pytest.param("bike classify --attributes ", {"auto", "off", *lexicon_names()}, marks=pytest.mark.slow),
        ("bike eval --attributes im", {"imagenet1k"}),
        pytest.param("bike classify --template ", set(TEMPLATES), marks=pytest.mark.slow),
        pytest.param("bike eval --protocol z", {"zeroshot-full", "zeroshot-half"}, marks=pytest.mark.slow),
        pytest.param("bike eval --pool ", {"tcs", "mean", "scores"}, marks=pytest.mark.slow),
        pytest.param("bike classify --device ", {"auto", "cpu", "cuda", "cuda:0", "mps"}, marks=pytest.mark.slow),
        pytest.param("bike classify --decoder ", {"auto", "decord", "av"}, marks=pytest.mark.slow),
        pytest.param("bike classify --format j", {"jsonl", "json"}, marks=pytest.mark.slow),
        pytest.param("bike finetune --freeze image,s", {"image,scale"}, marks=pytest.mark.slow),
        pytest.param(
            "bike models pull s", {"small", "siglip2", "siglip2-large", "siglip2-so400m"}, marks=pytest.mark.slow
        ),
        pytest.param("bike models verify mu", {"multilingual"}, marks=pytest.mark.slow),
        ("bike models --family Sig", {"SigLIP", "SigLIP2"}),
        pytest.param("bike models list --licence A", {"Apache-2.0", "Apple-AMLR"}, marks=pytest.mark.slow),
        pytest.param(
            "bike eval -m pe-", {"pe-tiny", "pe-small", "pe-base", "pe-large", "pe-giant"}, marks=pytest.mark.slow
        ),
        pytest.param("bike export ti", {"tiny"}, marks=pytest.mark.slow),
        ("bike import --from f", {"froster"}),
        pytest.param("bike import --base ti", {"tiny"}, marks=pytest.mark.slow),
    ],
)
def test_values_are_completed(line: str, words: set[str], tmp_path: Path) -> None:
    assert set(completed(line, tmp_path).stdout.split()) == words


def test_local_models_are_completed(tmp_path: Path) -> None:
    (tmp_path / "tuned").mkdir()
    (tmp_path / "trained.pt").touch()
    (tmp_path / "tuned" / "model.safetensors").touch()

    assert set(completed("bike classify -m t", tmp_path).stdout.split()) == {"tiny", "tuned/", "trained.pt"}
    assert completed("bike classify -m tuned/m", tmp_path).stdout.split() == ["tuned/model.safetensors"]
    assert completed("bike classify -m none/", tmp_path).stdout.strip() == ""


def test_files_are_left_to_the_shell(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").touch()

    assert completed("bike classify --labels ", tmp_path).stdout.strip() == ""


def test_old_names_of_flags_are_not_offered(tmp_path: Path) -> None:
    offered = completed("bike finetune --w", tmp_path).stdout.split()

    assert set(offered) == {"--weight-decay", "--warmup", "--wise-ft", "--workers"}


@pytest.mark.parametrize("flag", ["--model", "--method", "--attributes", "--template"])
def test_completing_does_not_import_torch(flag: str, tmp_path: Path) -> None:
    done = completed(f"bike fewshot {flag} ", tmp_path, python=("-X", "importtime"))

    assert done.stdout
    assert "bike_cli.cli.app" in done.stderr
    assert "torch" not in done.stderr


def test_the_methods_are_those_of_few_shot_learning() -> None:
    assert set(completion.METHODS) == LEARNING
