"""A name after --model becomes a checkpoint, or an error that says what to do."""

import json
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.model import build_model_from_openai_state_dict
from safetensors.torch import save_file
from small_models import ARCH, INCEPTION, TAG, put_in_cache, tiny_checkpoint

from bike_cli.config import Recipe
from bike_cli.engine.heads.bike import TemporalTransformer
from bike_cli.engine.models import catalogue
from bike_cli.engine.models.aliases import weights_named
from bike_cli.engine.models.checkpoints import infer_config, open_checkpoint
from bike_cli.engine.models.folder import save_folder
from bike_cli.engine.models.parts import Checkpoint, build_clip
from bike_cli.errors import ExitCode, ModelError

OPENAI = {
    "vit": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
    "resnet": {"image_size": 64, "layers": [1, 2, 1, 1], "width": 16, "patch_size": None},
}
TEXT = {"context_length": 77, "vocab_size": 512, "width": 64, "heads": 1, "layers": 2}


def openai_config(tower: str = "vit") -> dict[str, object]:
    return {"embed_dim": 48, "vision_cfg": OPENAI[tower], "text_cfg": TEXT, "quick_gelu": True}


def openai_state(tower: str = "vit") -> dict[str, torch.Tensor]:
    sizes = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(77), "vocab_size": torch.tensor(512)}
    return dict(build_clip(openai_config(tower), "test").state_dict()) | sizes


def bike_file(path: Path, head: dict[str, torch.Tensor], clip: dict[str, torch.Tensor] | None = None) -> str:
    content = {"epoch": 1, "model_state_dict": clip or openai_state(), "fusion_model_state_dict": head}
    torch.save({**content, "optimizer_state_dict": {}}, path)
    return str(path)


# -- tags


@pytest.mark.usefixtures("_registered")
def test_a_cached_tag_loads_with_its_own_preprocessing_and_no_network(tmp_path: Path) -> None:
    weights = tiny_checkpoint()
    put_in_cache(tmp_path / "hub", weights)

    checkpoint = open_checkpoint(f"{ARCH},{TAG}", offline=True)

    assert (checkpoint.name, checkpoint.recipe) == (f"{ARCH},{TAG}", Recipe())
    assert (checkpoint.image.side, checkpoint.image.mean, checkpoint.image.resize_mode) == (32, (0.5,) * 3, "squash")
    assert checkpoint.image.interpolation == "bilinear"
    assert torch.equal(checkpoint.clip.visual.proj, weights.clip.visual.proj)


@pytest.mark.usefixtures("_registered")
def test_offline_uses_no_network_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)

    with pytest.raises(ModelError, match=r"--offline forbids downloading") as caught:
        open_checkpoint(f"{ARCH},{TAG}", offline=True)

    assert caught.value.exit_code == ExitCode.NO_MODEL
    assert f"bike models pull {ARCH},{TAG} --to DIR" in str(caught.value)
    assert re.search(r"needed: open_clip_model.safetensors \(about \d+ MB\) of nobody/bike-test", str(caught.value))


@pytest.mark.usefixtures("_registered")
def test_a_damaged_download_is_named(tmp_path: Path) -> None:
    file = put_in_cache(tmp_path / "hub", tiny_checkpoint())
    file.write_bytes(file.read_bytes()[:1000])

    with pytest.raises(ModelError, match=r"open_clip_model.safetensors: cannot be loaded .* run bike models pull"):
        open_checkpoint(f"{ARCH},{TAG}")


@pytest.mark.usefixtures("_registered")
def test_nan_in_the_weights_of_a_tag_is_named(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    with torch.no_grad():
        checkpoint.clip.visual.proj[3, 5] = float("nan")
    put_in_cache(tmp_path / "hub", checkpoint)

    with pytest.raises(ModelError, match=r"open_clip_model.safetensors: .*visual\.proj"):
        open_checkpoint(f"{ARCH},{TAG}")


@pytest.mark.usefixtures("_registered")
@pytest.mark.parametrize(
    ("name", "right"), [(f"bike-test,{TAG}", f"{ARCH},{TAG}"), (f"{ARCH},plain", "bike-test,plain")]
)
def test_another_activation_than_the_weights_is_refused_with_the_right_name(name: str, right: str) -> None:
    with pytest.raises(ModelError, match=rf"QuickGELU\); use {right}$"):
        open_checkpoint(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ViT-B-16,openai", "use ViT-B-16-quickgelu,openai"),
        ("ViT-B/16,openai", "use ViT-B-16-quickgelu,openai"),
        ("ViT-B-16,opnai", r"no such weights; did you mean openai\?"),
        ("ViT-B-61,openai", r"no such architecture; did you mean .*ViT-B-16"),
        ("bsae", r"is not a short name, ARCH,TAG, file or folder; did you mean base\?"),
        ("tny", "did you mean tiny"),
        ("ViT-B-32", r"an architecture without a tag of weights; use ViT-B-32,"),
        ("", "is empty; name one"),
        ("gone/model.pt", "gone/model.pt: no such file or folder"),
        ("model.safetensors", "no such file"),
        ("ViT-B-32,gone.pt", r"gone\.pt: cannot be read"),
    ],
)
def test_a_model_that_cannot_be_run_is_recognised_by_its_configuration(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ModelError, match=said):
        open_checkpoint(name)


# -- files


@pytest.mark.parametrize("tower", ["vit", "resnet"])
def test_inferred_architectures_are_those_of_open_clips_builder(tower: str) -> None:
    state = dict(build_clip(openai_config(tower), "test").state_dict())

    config = infer_config(state)

    built = build_model_from_openai_state_dict(dict(state))
    ours = build_clip(config, "test")
    assert {n: t.shape for n, t in ours.state_dict().items()} == {n: t.shape for n, t in built.state_dict().items()}
    assert ours.visual.image_size == built.visual.image_size
    assert config == openai_config(tower)


@pytest.mark.parametrize("arch", ["ViT-B-32-quickgelu", "ViT-L-14-336-quickgelu", "RN50-quickgelu", "RN50x4-quickgelu"])
def test_inferred_architectures_are_those_of_openais_models(arch: str) -> None:
    config = open_clip.get_model_config(arch)
    with torch.device("meta"):
        state = open_clip.CLIP(**config).state_dict()

    assert infer_config(state) == config


def test_openais_state_dict_loads_without_its_architecture(tmp_path: Path) -> None:
    state = openai_state()
    torch.save(state, tmp_path / "a.pt")

    checkpoint = open_checkpoint(str(tmp_path / "a.pt"))

    assert torch.equal(checkpoint.clip.visual.proj, state["visual.proj"])
    assert checkpoint.recipe == Recipe()
    assert checkpoint.image.resize_side is None
    assert checkpoint.temporal_head is None


def test_weights_are_not_rounded_through_fp16(tmp_path: Path) -> None:
    state = openai_state()
    torch.save(state, tmp_path / "a.pt")

    weight = open_checkpoint(str(tmp_path / "a.pt")).clip.transformer.resblocks[0].mlp.c_fc.weight

    assert torch.equal(weight, state["transformer.resblocks.0.mlp.c_fc.weight"])
    assert not torch.equal(weight, weight.half().float())


def test_a_file_without_its_activation_asks_for_the_architecture(tmp_path: Path) -> None:
    with torch.device("meta"):
        empty = open_clip.CLIP(**open_clip.get_model_config("ViT-B-32")).state_dict()
    # One number per tensor, expanded to its size: small on disk.
    state = {name: torch.zeros(()).expand(tensor.shape) for name, tensor in empty.items()}
    torch.save({"state_dict": state}, tmp_path / "a.pt")

    said = r"activation function; use --model ViT-B-32,\S+ or ViT-B-32-quickgelu,\S+a\.pt$"
    with pytest.raises(ModelError, match=said):
        open_checkpoint(str(tmp_path / "a.pt"))


@pytest.mark.usefixtures("_registered")
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_file_loads_for_a_named_architecture(tmp_path: Path, suffix: str) -> None:
    weights, file = tiny_checkpoint(), tmp_path / f"a.{suffix}"
    if suffix == "pt":
        torch.save({"epoch": 1, "state_dict": {f"module.{n}": t for n, t in weights.clip.state_dict().items()}}, file)
    else:
        save_file(weights.clip.state_dict(), file)

    checkpoint = open_checkpoint(f"{ARCH},{file}")

    assert torch.equal(checkpoint.clip.visual.proj, weights.clip.visual.proj)
    assert checkpoint.name == f"{ARCH},{file}"


@pytest.mark.usefixtures("_registered")
def test_preprocessing_next_to_a_file_is_used(tmp_path: Path) -> None:
    save_file(tiny_checkpoint().clip.state_dict(), tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"preprocess_cfg": INCEPTION}))

    image = open_checkpoint(f"{ARCH},{tmp_path / 'open_clip_model.safetensors'}").image

    assert (image.side, image.mean, image.resize_mode) == (32, (0.5, 0.5, 0.5), "squash")


def test_a_file_of_another_architecture_names_what_does_not_fit(tmp_path: Path) -> None:
    torch.save(openai_state(), tmp_path / "a.pt")

    with pytest.raises(
        ModelError, match=r"a\.pt as RN50-quickgelu: does not fit its architecture \(\d+ missing: .* unexpected"
    ):
        open_checkpoint(f"RN50-quickgelu,{tmp_path / 'a.pt'}")


def test_openai_weights_under_another_activation_are_refused(tmp_path: Path) -> None:
    torch.save(openai_state(), tmp_path / "a.pt")

    with pytest.raises(ModelError, match=r"trained with another activation than ViT-B-32 has; use ViT-B-32-quickgelu,"):
        open_checkpoint(f"ViT-B-32,{tmp_path / 'a.pt'}")


def test_a_state_dict_that_is_no_clip_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(3, 3).state_dict(), tmp_path / "a.pt")

    with pytest.raises(ModelError, match=r"a\.pt: is not a CLIP"):
        open_checkpoint(str(tmp_path / "a.pt"))


def drop(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {n: t for n, t in state.items() if n != name}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda s: drop(s, "ln_final.bias"), "1 missing: ln_final.bias"),
        (lambda s: drop(s, "visual.conv1.weight"), "is not a CLIP"),
        (lambda s: s | {"extra": torch.zeros(2)}, "1 unexpected: extra"),
        (lambda s: s | {"ln_final.bias": torch.zeros(3)}, "1 with a different shape: ln_final.bias"),
        (lambda s: s | {"visual.positional_embedding": torch.zeros(4, 64)}, "a square number of positions"),
        (lambda s: s | {"visual.conv1.weight": torch.zeros(4)}, "is not a CLIP"),
    ],
)
def test_tensors_that_do_not_fit_a_clip_are_named(
    tmp_path: Path, damage: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], said: str
) -> None:
    file = bike_file(tmp_path / "a.pt", {}, damage(openai_state()))

    with pytest.raises(ModelError, match=said):
        open_checkpoint(file)


# -- official BIKE


def test_official_files_bring_bikes_recipe(golden: Path) -> None:
    checkpoint = open_checkpoint(str(golden / "bike_tiny_checkpoint.pt"))

    assert checkpoint.recipe == Recipe(spot="all", temperature=0.01, template="bike")
    assert checkpoint.temporal_head is not None
    assert checkpoint.temporal_head.heads == 1  # text width 64


def test_an_official_file_without_a_head_has_none(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(bike_file(tmp_path / "a.pt", {}))

    assert (checkpoint.temporal_head, checkpoint.attribute_head, checkpoint.recipe.spot) == (None, None, "all")


def test_official_models_of_224_pixels_resize_to_256(tmp_path: Path) -> None:
    config = openai_config()
    config["vision_cfg"] = {**OPENAI["vit"], "image_size": 224, "patch_size": 32}
    state = dict(build_clip(config, "test").state_dict())

    checkpoint = open_checkpoint(bike_file(tmp_path / "a.pt", {}, state))

    assert (checkpoint.image.side, checkpoint.image.resize_side) == (224, 256)


def test_another_head_is_named(tmp_path: Path) -> None:
    file = bike_file(tmp_path / "a.pt", {"gru_visual.weight_ih_l0": torch.zeros(2, 2)})

    with pytest.raises(ModelError, match=r"a head of an unknown kind \(gru_visual.weight_ih_l0"):
        open_checkpoint(file)


def test_tensors_that_do_not_fit_a_head_are_named(tmp_path: Path) -> None:
    file = bike_file(tmp_path / "a.pt", {"transformer.resblocks.0.ln_1.weight": torch.zeros(48)})

    with pytest.raises(ModelError, match="temporal head: does not fit its architecture"):
        open_checkpoint(file)


# -- folders and the bundled model


def test_a_folder_of_bike_is_loaded(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_folder(tmp_path / "m", checkpoint)

    assert open_checkpoint(str(tmp_path / "m")).name == "small one"


def test_a_folder_of_another_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is not a model folder, it has no config\.json"):
        open_checkpoint(str(tmp_path))


@pytest.mark.parametrize("place", ["bike_cli/weights/tiny", "weights/tiny"])
def test_the_bundled_model_is_in_the_package_or_next_to_it(
    tmp_path: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    save_folder(tmp_path / place, checkpoint)
    monkeypatch.setattr(catalogue, "__file__", str(tmp_path / "bike_cli" / "engine" / "models" / "catalogue.py"))

    assert open_checkpoint("tiny", offline=True).name == "small one"

    shutil.rmtree(tmp_path / place)

    with pytest.raises(ModelError, match="'tiny': this installation lacks weights/tiny; install bike again"):
        open_checkpoint("tiny")


@pytest.mark.parametrize("part", ["clip", "head"])
def test_an_official_file_with_nan_is_refused_with_its_tensor(tmp_path: Path, part: str) -> None:
    clip, head = openai_state(), {n: t.clone() for n, t in TemporalTransformer(48, 1).state_dict().items()}
    name = {"clip": "ln_final.bias", "head": "transformer.resblocks.5.ln_2.bias"}[part]
    {"clip": clip, "head": head}[part][name][0] = float("nan")

    with pytest.raises(ModelError, match=rf"a tensor contains NaN or infinity \({name}\)"):
        open_checkpoint(bike_file(tmp_path / "a.pt", head, clip))


@pytest.mark.parametrize(
    "preprocessing",
    [{"mean": ["a", "b", "c"]}, {"mean": "abc"}, {"std": 0}, {"interpolation": "nearest"}, {"fill_color": "white"}],
    ids=str,
)
@pytest.mark.usefixtures("_registered")
def test_invalid_preprocessing_is_refused(tmp_path: Path, preprocessing: dict[str, object]) -> None:
    save_file(tiny_checkpoint().clip.state_dict(), tmp_path / "a.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"preprocess_cfg": preprocessing}))

    with pytest.raises(ModelError, match=r"its preprocessing is invalid \((mean|std|interpolation|fill) is "):
        open_checkpoint(f"{ARCH},{tmp_path / 'a.safetensors'}")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("tiny", "tiny"),
        ("base", "ViT-B-16-quickgelu,openai"),
        ("ViT-B/16-quickgelu,openai", "ViT-B-16-quickgelu,openai"),
        ("ViT-B-32,laion2b_s34b_b79k", "ViT-B-32,laion2b_s34b_b79k"),
        ("model.pt", None),
        ("some-folder", None),
        ("ViT-B-16,weights/model.pt", None),
        ("ViT-B-16,model.safetensors", None),
    ],
)
def test_weights_have_one_name_unless_they_are_files(model: str, name: str | None) -> None:
    assert weights_named(model) == name
