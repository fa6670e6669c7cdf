"""`bike export`: any model as bike's own folder, or as a file of the official code; nothing of the user's is lost."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from full_disk import files_of_at_most
from invoke import Ran, bike, bike_on_terminal

from bike_cli.config import Recipe
from bike_cli.engine.heads.bike import AttributeHead, TemporalTransformer
from bike_cli.engine.models.catalogue import bundled_folder
from bike_cli.engine.models.checkpoints import open_checkpoint
from bike_cli.engine.models.folder import load_folder, save_folder
from bike_cli.engine.models.parts import Checkpoint, build_clip
from bike_cli.engine.towers.transforms import ImageRecipe
from bike_cli.errors import ExitCode

ROOT = Path(__file__).parents[2]
GOLDEN = next((p for p in (ROOT / "shared/golden", ROOT.parent / "shared/golden") if p.is_dir()), None)
NO_SUCH_MODEL = "no-such-model"  # an error that comes before this one was found before a model is loaded
OPENAI_IMAGE = ImageRecipe(32, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
BIKE = Recipe(spot="all", temperature=0.01)


def model() -> Checkpoint:
    """A small model that the official code could have built, with both heads."""
    torch.manual_seed(5)
    config = {
        "embed_dim": 48,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
        "quick_gelu": True,
    }
    clip = build_clip(config, "test").eval()
    temporal, attribute = TemporalTransformer(48, 1).eval(), AttributeHead(48).eval()
    return Checkpoint("small", clip, config, OPENAI_IMAGE, BIKE, temporal_head=temporal, attribute_head=attribute)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a model with both heads."""
    folder = tmp_path_factory.mktemp("models") / "small"
    save_folder(folder, model())
    return folder


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a model with a temporal head alone."""
    folder = tmp_path_factory.mktemp("models") / "video"
    save_folder(folder, replace(model(), name="video model", attribute_head=None))
    return folder


def error_of(ran: Ran, code: ExitCode = ExitCode.USAGE) -> str:
    """Return the one line that says what is wrong: thing, fact and way out."""
    assert (ran.exit_code, ran.stdout) == (code, "")
    assert ran.stderr.count("\n") == 1
    return ran.stderr.removeprefix("error: ").rstrip()


def states(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    modules = {"clip": checkpoint.clip, "temporal": checkpoint.temporal_head, "attribute": checkpoint.attribute_head}
    return {f"{p}.{n}": t for p, m in modules.items() if m is not None for n, t in m.state_dict().items()}


def assert_same(one: Checkpoint, other: Checkpoint) -> None:
    assert states(one).keys() == states(other).keys()
    assert all(torch.equal(tensor, states(other)[name]) for name, tensor in states(one).items())


# -- folders


def test_the_bundled_model_becomes_a_folder_that_is_the_same_model(tmp_path: Path) -> None:
    ran = bike("export", "tiny", tmp_path / "mine")

    assert (ran.exit_code, ran.stdout) == (ExitCode.DONE, "")
    assert ran.stderr == f"{tmp_path}/mine: tiny, as a folder of bike; use it with -m {tmp_path}/mine\n"
    before, after = open_checkpoint("tiny"), load_folder(tmp_path / "mine")
    assert_same(before, after)
    assert (after.name, after.licence, after.image, after.recipe) == ("tiny", "MIT", before.image, before.recipe)


def test_an_official_file_becomes_a_folder(tmp_path: Path) -> None:
    if GOLDEN is None:
        pytest.skip("shared/golden, the values of the official code, is not next to this checkout")
    file = GOLDEN / "bike_tiny_checkpoint.pt"

    ran = bike("export", file, tmp_path / "mine")

    assert ran.exit_code == ExitCode.DONE
    assert_same(open_checkpoint(str(file)), load_folder(tmp_path / "mine"))


def test_a_folder_of_bikes_is_replaced_and_a_card_next_to_it_stays(small: Path, video: Path, tmp_path: Path) -> None:
    shutil.copytree(small, tmp_path / "mine")
    (tmp_path / "mine" / "README.md").write_text("a card")

    ran = bike("export", video, tmp_path / "mine")

    assert ran.exit_code == ExitCode.DONE
    assert load_folder(tmp_path / "mine").name == "video model"
    assert (tmp_path / "mine" / "README.md").read_text() == "a card"


def test_an_empty_folder_is_filled(video: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()

    assert bike("export", video, tmp_path / "mine").exit_code == ExitCode.DONE
    assert load_folder(tmp_path / "mine").name == "video model"


# -- official files


def test_an_official_file_is_written_and_its_use_shown(video: Path, tmp_path: Path) -> None:
    ran = bike("export", video, tmp_path / "a.pt", "--official")

    assert (ran.exit_code, ran.stdout) == (ExitCode.DONE, "")
    assert ran.stderr.splitlines()[-1] == (
        f"{tmp_path}/a.pt: video branch of video model; the official test.py takes it as --weights, sim_header Transf"
    )
    assert_same(load_folder(video), open_checkpoint(str(tmp_path / "a.pt")))


def test_a_model_with_both_heads_asks_which(small: Path, tmp_path: Path) -> None:
    ran = bike("export", small, tmp_path / "a.pt", "--official")

    assert error_of(ran).startswith(
        "small: has a temporal head and an attribute head, an official file holds one of them"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("branch", "script"), [("video", "test.py"), ("attributes", "train_attributes.py")])
def test_the_branch_that_is_asked_for_is_written(small: Path, tmp_path: Path, branch: str, script: str) -> None:
    ran = bike("export", small, tmp_path / "a.pt", "--official", "--branch", branch)

    written = open_checkpoint(str(tmp_path / "a.pt"))
    assert ran.exit_code == ExitCode.DONE
    assert (written.temporal_head is not None, written.attribute_head is not None) == (
        branch == "video",
        branch == "attributes",
    )
    assert f"{branch} branch of small; the official {script} takes it" in ran.stderr


def test_a_branch_that_the_model_has_not_is_refused(video: Path, tmp_path: Path) -> None:
    ran = bike("export", video, tmp_path / "a.pt", "--official", "--branch", "attributes")

    assert error_of(ran) == "--branch attributes: video model has no attribute head; leave --branch out"


def test_a_branch_of_a_folder_is_refused(tmp_path: Path) -> None:
    ran = bike("export", NO_SUCH_MODEL, tmp_path / "mine", "--branch", "video")

    assert error_of(ran).startswith("--branch: chooses the head of an official file; add --official")


def test_the_bundled_model_is_refused_with_the_reason(tmp_path: Path) -> None:
    ran = bike("export", "tiny", tmp_path / "a.pt", "--official")

    assert error_of(ran, ExitCode.NO_MODEL).startswith(
        "tiny: the official code would build another model (text_cfg.heads"
    )
    assert list(tmp_path.iterdir()) == []


def test_what_the_official_code_does_otherwise_is_a_warning(tmp_path: Path) -> None:
    save_folder(tmp_path / "words", replace(model(), attribute_head=None, recipe=Recipe(spot="words")))

    ran = bike("export", tmp_path / "words", tmp_path / "a.pt", "--official")

    assert ran.exit_code == ExitCode.DONE
    assert "warning: small: spots by words at temperature 0.01, the official code by all at 0.01; expect" in ran.stderr


@pytest.mark.parametrize("arguments", [("{here}/a.pt", "--official"), ("{here}/mine",)])
def test_quiet_says_nothing(video: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ran = bike("export", video, *(a.format(here=tmp_path) for a in arguments), "-q")

    assert (ran.exit_code, ran.stdout, ran.stderr) == (ExitCode.DONE, "", "")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_terminal_is_reported_too(video: Path, tmp_path: Path) -> None:
    ran = bike_on_terminal("export", video, tmp_path / "mine")

    assert ran.exit_code == ExitCode.DONE
    assert "as a folder of bike" in ran.stderr


def test_an_unknown_model_names_the_nearest(tmp_path: Path) -> None:
    ran = bike("export", "tinny", tmp_path / "mine")

    assert error_of(ran, ExitCode.NO_MODEL).startswith(
        "model 'tinny': is not a short name, ARCH,TAG, file or folder; did you mean tiny or pe-tiny?"
    )
    assert list(tmp_path.iterdir()) == []


# -- bad targets


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("{here}/file",), "{here}/file: is a file, but a model of bike is a folder; name a folder, or add --official"),
        (("{here}/a.pt",), "{here}/a.pt: is named like a file, but a model of bike is a folder; name a folder, or"),
        (("{here}/x.onnx",), "{here}/x.onnx: is named like a file, but will be a folder; choose another name, such as"),
        (("{here}/no/mine",), "{here}/no/mine: its folder does not exist; create it, or choose another"),
        (("{here}/file/mine",), "{here}/file/mine: its folder does not exist; create it, or choose another"),
        (("{here}/other",), "{here}/other: contains files and is not a model of bike; name a new or an empty folder"),
        (("{here}/list",), "{here}/list: contains files and is not a model of bike; name a new or an empty folder"),
        (("{here}/text",), "{here}/text: contains files and is not a model of bike; name a new or an empty folder"),
        (("{here}/pipe",), "{here}/pipe: is neither a file nor a folder; give a name that bike can write"),
        (("-",), "-: is neither a file nor a folder; give a name that bike can write"),
        (
            ("{here}/" + "n" * 300,),
            "{here}/" + "n" * 300 + ": cannot be written (File name too long); choose a shorter name",
        ),
        (
            ("{here}/other", "--official"),
            "{here}/other: is a folder, but an official model is a file; name",
        ),
        (("{here}/no/a.pt", "--official"), "{here}/no/a.pt: its folder does not exist; create it, or choose"),
        (("{here}/mine", "--official"), "{here}/mine: must end in .pt or .pth; rename it"),
        (("{here}/a.safetensors", "--official"), "{here}/a.safetensors: must end in .pt or .pth"),
        (("/dev/null", "--official"), "/dev/null: is neither a file nor a folder; give a name that bike can write"),
        (("-", "--official"), "-: is neither a file nor a folder; give a name that bike can write"),
    ],
)
def test_a_bad_target_is_reported_before_the_model_is_loaded(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "file").write_text("mine")
    for name, content in {"other": '{"model_type": "clip"}', "list": "[1]", "text": "not JSON"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(content)
    os.mkfifo(tmp_path / "pipe")

    ran = bike("export", NO_SUCH_MODEL, *(a.format(here=tmp_path) for a in arguments))

    assert error_of(ran).startswith(said.format(here=tmp_path))
    assert json.loads((tmp_path / "other" / "config.json").read_text()) == {"model_type": "clip"}
    assert {p.name for p in tmp_path.iterdir()} == {"file", "other", "list", "text", "pipe"}


@pytest.mark.parametrize("arguments", [("{here}/mine",), ("{here}/a.pt", "--official")])
def test_a_folder_of_somebody_else_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)

    ran = bike("export", NO_SUCH_MODEL, *(a.format(here=tmp_path) for a in arguments))

    assert ": cannot be written; choose a folder that you may write to" in error_of(ran)


def test_the_folder_that_is_read_is_not_overwritten(video: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(video)
    before = (video / "config.json").stat().st_mtime_ns

    for name in (video, tmp_path / "link"):
        assert error_of(bike("export", video, name)) == (
            f"{name}: is read by this command and would be overwritten; choose another name"
        )
    assert (video / "config.json").stat().st_mtime_ns == before


def test_the_bundled_folder_is_not_overwritten() -> None:
    folder = bundled_folder()
    assert folder

    assert "is read by this command" in error_of(bike("export", "tiny", folder))


@pytest.mark.parametrize("model_name", ["{file}", "ViT-B-32-quickgelu,{file}"])
def test_the_file_that_is_read_is_not_overwritten(tmp_path: Path, model_name: str) -> None:
    (tmp_path / "a.pt").write_text("weights")

    ran = bike("export", model_name.format(file=tmp_path / "a.pt"), tmp_path / "a.pt", "--official")

    assert "a.pt: is read by this command and would be overwritten" in error_of(ran)
    assert (tmp_path / "a.pt").read_text() == "weights"


@pytest.mark.parametrize("arguments", [("{here}/mine",), ("{here}/a.pt", "--official", "-q")])
def test_a_full_disk_is_reported_and_leaves_no_model(video: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with files_of_at_most(100_000):
        ran = bike("export", video, *(a.format(here=tmp_path) for a in arguments))

    assert ": cannot be written (" in error_of(ran)
    assert "File too large" in ran.stderr
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("arguments", [("model",), ("model.pt", "--official")])
def test_an_exported_model_is_not_replaced_in_silence(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    out, *flags = arguments
    target = tmp_path / out
    if flags:
        target.write_text("older")
    else:
        bike("export", "tiny", target)

    ran = bike("export", "tiny", target, *flags)

    assert f"warning: {target}: exists and will be replaced\n" in ran.stderr
