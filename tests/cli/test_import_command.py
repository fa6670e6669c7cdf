"""`bike import`: a checkpoint of another video model becomes a folder that other commands use."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from films import drawn, write_video
from invoke import Ran, bike
from video_models import Content, actionclip_content, base_file, open_vclip_content, vifi_content

from bike_cli.data.labels import TEMPLATES
from bike_cli.engine.heads.saved_classifier import load_classifier
from bike_cli.engine.models.folder import load_folder
from bike_cli.errors import ExitCode

LABELS = ("-L", "red square,blue circle,green cross")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of checkpoints of video models, and the CLIP that they were trained from."""
    folder = tmp_path_factory.mktemp("files")
    contents: dict[str, Callable[[], Content]] = {
        "vifi": vifi_content,
        "openvclip": open_vclip_content,
        "actionclip": lambda: actionclip_content("Transf"),
    }
    for name, content in contents.items():
        torch.save(content(), folder / f"{name}.pth")
    base_file(folder / "base.pt")
    return folder


def error_of(ran: Ran, code: ExitCode = ExitCode.USAGE) -> str:
    assert (ran.exit_code, ran.stdout) == (code, "")
    assert ran.stderr.count("\n") == 1
    return ran.stderr.removeprefix("error: ").rstrip()


def test_the_result_and_what_was_left_out_are_shown(files: Path, tmp_path: Path) -> None:
    ran = bike("import", files / "vifi.pth", tmp_path / "mine", "--base", files / "base.pt")

    assert (ran.exit_code, ran.stdout) == (ExitCode.DONE, "")
    assert ran.stderr.splitlines() == [
        f"{tmp_path}/mine: imported from ViFi-CLIP, licence not stated, with weights of {files}/base.pt",
        "  left out: prompt_learner.complete_text_embeddings (texts of the training labels)",
        "  left out: optimizer, epoch (training state)",
        f"  use it with bike classify -m {tmp_path}/mine -l labels.txt video.mp4",
    ]
    config = json.loads((tmp_path / "mine" / "config.json").read_text())
    assert (config["name"], config["licence"], config["training"]["pool"]) == ("mine", None, "mean")


@pytest.mark.parametrize(
    ("name", "flags", "frames"),
    [("openvclip", (), 24), ("vifi", ("--base", "{files}/base.pt"), 16), ("actionclip", ("--from", "actionclip"), 8)],
)
def test_the_model_is_used_with_its_own_settings(
    files: Path, tmp_path: Path, clips: Path, name: str, flags: tuple[str, ...], frames: int
) -> None:
    given = [flag.format(files=files) for flag in flags]
    assert bike("import", files / f"{name}.pth", tmp_path / "mine", *given).exit_code == ExitCode.DONE

    ran = bike("classify", clips, *LABELS, "-m", tmp_path / "mine", "--explain", "-f", "jsonl")

    assert (ran.exit_code, ran.stderr) == (ExitCode.DONE, "")
    assert len(ran.records) == 3
    for record in ran.records:
        assert record["model"] == "mine"
        assert record["saliency"] == pytest.approx([1 / frames] * frames, abs=1e-4)


@pytest.mark.slow  # over a second of a core
def test_features_of_other_frames_are_not_taken_from_the_cache(files: Path, tmp_path: Path, clips: Path) -> None:
    bike("import", files / "openvclip.pth", tmp_path / "mine")

    def run(*flags: object) -> list[object]:
        ran = bike("classify", clips, *LABELS, "-m", tmp_path / "mine", "-f", "jsonl", "-q", *flags)
        return [record["top"] for record in ran.records]

    for flags in ((), ("--frames", 4), ("--clips", 1), ("--sampling", "uniform")):
        assert run(*flags) == run(*flags, "--no-cache")


def test_other_settings_than_its_own_are_a_warning(files: Path, tmp_path: Path, clips: Path) -> None:
    bike("import", files / "actionclip.pth", tmp_path / "mine", "--from", "actionclip")

    ran = bike("classify", clips / "red_square.mp4", *LABELS, "-m", tmp_path / "mine", "--pool", "tcs")

    assert "model mine: was trained with pool mean, but this run has pool tcs; leave out --pool" in ran.stderr


def test_labels_are_still_needed(files: Path, tmp_path: Path, clips: Path) -> None:
    bike("import", files / "openvclip.pth", tmp_path / "mine")

    assert error_of(bike("classify", clips, "-m", tmp_path / "mine")).startswith("labels: missing; add -l")
    assert error_of(bike("classify", clips, "-m", tmp_path / "mine", "--also", "a")).startswith("--also: adds labels")


def test_training_is_refused_before_videos_are_read(files: Path, tmp_path: Path, clips: Path) -> None:
    bike("import", files / "openvclip.pth", tmp_path / "mine")
    for label in ("red", "blue"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(3):
            (tmp_path / "data" / label / f"{i}.mp4").write_bytes(b"not a video")

    finetune = bike("finetune", tmp_path / "data", "-m", tmp_path / "mine", "--save", tmp_path / "run")
    fewshot = bike("fewshot", tmp_path / "data", "-m", tmp_path / "mine", "--method", "bike", "--shots", "1")

    for ran in (finetune, fewshot):
        assert ran.exit_code == ExitCode.USAGE
        assert "mine: its frames attend to their neighbours, but bike only trains image towers" in ran.stderr


def test_weights_are_averaged_with_the_base(files: Path, tmp_path: Path) -> None:
    ran = bike("import", files / "openvclip.pth", tmp_path / "a", "--patch", "0.25", "--base", files / "base.pt", "-q")

    assert (ran.exit_code, ran.stderr) == (ExitCode.DONE, "")
    own, base = open_vclip_content()["model_state"]["model.visual.proj"], torch.load(files / "base.pt")["visual.proj"]
    assert torch.allclose(load_folder(tmp_path / "a").clip.visual.proj, 0.75 * own + 0.25 * base, atol=1e-7)


def test_the_licence_is_shown(files: Path, tmp_path: Path) -> None:
    ran = bike("import", files / "openvclip.pth", tmp_path / "a", "--from", "froster")
    other = bike("import", files / "openvclip.pth", tmp_path / "b", "--licence", " by letter ")

    assert "imported from FROSTER, licence CC BY-NC-SA 4.0" in ran.stderr
    assert "imported from Open-VCLIP, licence by letter" in other.stderr


def test_the_base_is_not_downloaded_offline(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))

    ran = bike("import", files / "vifi.pth", tmp_path / "mine", "--offline")

    assert ran.exit_code == ExitCode.NO_MODEL
    assert ran.stderr.startswith("error: model 'ViT-B-16-quickgelu,openai': its weights are not on this disk, and")
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("actionclip.pth", "{here}/a"), ExitCode.USAGE, "may come from BIKE or from ActionCLIP"),
        (("no.pth", "{here}/a"), ExitCode.NO_MODEL, "no.pth: cannot be read (no such file or folder)"),
        (("base.pt", "{here}/a"), ExitCode.NO_MODEL, "base.pt: is not a checkpoint of ActionCLIP"),
        (("openvclip.pth", "{here}/a", "--licence", " "), ExitCode.USAGE, "--licence: is empty"),
        (("openvclip.pth", "{here}/a", "--patch", "2"), ExitCode.USAGE, "--patch 2: is not a share"),
        (
            ("openvclip.pth", "{here}/a.pt"),
            ExitCode.USAGE,
            "a.pt: is named like a file, but a model of bike is",
        ),
        (("openvclip.pth", "{here}/no/a"), ExitCode.USAGE, "its folder does not exist"),
    ],
)
def test_what_cannot_be_imported_is_an_error_and_writes_nothing(
    files: Path, tmp_path: Path, arguments: tuple[str, ...], code: ExitCode, said: str
) -> None:
    file, *others = (argument.format(here=tmp_path) for argument in arguments)

    assert said in error_of(bike("import", files / file, *others), code)
    assert list(tmp_path.iterdir()) == []


def test_the_base_is_not_overwritten(files: Path, tmp_path: Path) -> None:
    bike("import", files / "openvclip.pth", tmp_path / "base")

    ran = bike("import", files / "openvclip.pth", tmp_path / "base", "--base", tmp_path / "base", "--patch", "0.5")

    assert error_of(ran) == f"{tmp_path}/base: is read by this command and would be overwritten; choose another name"


@pytest.mark.slow
def test_the_templates_of_actionclip_stay_with_the_model(files: Path, tmp_path: Path) -> None:
    for label in ("red square", "blue circle"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(3):
            write_video(tmp_path / "data" / label / f"{i}.mp4", drawn(label, frames=6 + i))
    data, video, mine = tmp_path / "data", tmp_path / "data" / "red square" / "0.mp4", tmp_path / "mine"
    once = ("--frames", "2", "--device", "cpu")
    training = ("--epochs", "1", "--warmup", "0", "--batch-size", "2", *once)
    few = ("--shots", "1", "--trials", "1", *once)
    assert bike("import", files / "actionclip.pth", mine, "--from", "actionclip").exit_code == ExitCode.DONE

    for command in (
        ("export", mine, tmp_path / "exported"),
        ("finetune", data, "-m", mine, "--save", tmp_path / "fine-tuned", *training),
        ("fewshot", data, "-m", mine, "--method", "bike", "--save", tmp_path / "few-shot", *few),
        ("fewshot", data, "-m", mine, "--method", "probe", "--save", tmp_path / "classifier", *few),
    ):
        ran = bike(*command)
        assert ran.exit_code == ExitCode.DONE, ran.stderr

    for name in ("mine", "exported", "fine-tuned", "few-shot"):
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert config["recipe"]["template"] == "actionclip", name
    saved = load_classifier(tmp_path / "classifier")
    assert (saved.template, saved.templates) == ("actionclip", TEMPLATES["actionclip"])
    by_all, by_one, by_export = (
        [entry["cosine"] for entry in bike("classify", video, *LABELS, *flags, "-f", "jsonl").records[0]["top"]]
        for flags in (("-m", mine), ("-m", mine, "--template", "A video of {}"), ("-m", tmp_path / "exported"))
    )
    assert by_all == by_export
    assert by_all != by_one
