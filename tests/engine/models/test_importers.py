"""Checkpoints of other video models score videos as their own code does, and what bike cannot run is refused."""

import json
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import assembled, tiny_config
from video_models import (
    LABELS,
    LENGTHS,
    Content,
    actionclip_content,
    base_file,
    clip_of,
    golden,
    open_vclip_content,
    videos,
    vifi_content,
)

from bike_cli.config import ClassifyConfig, Recipe, SamplingConfig
from bike_cli.data.labels import read_templates
from bike_cli.engine.engine import Engine
from bike_cli.engine.models.checkpoints import open_checkpoint
from bike_cli.engine.models.folder import load_folder, save_folder
from bike_cli.engine.models.importers.conversion import ImportedModel, Options, import_model
from bike_cli.engine.models.parts import Checkpoint, build_clip
from bike_cli.engine.scoring import unit
from bike_cli.engine.towers.transforms import ImageRecipe
from bike_cli.errors import ModelError, UsageError
from bike_cli.inference.prepare import encode_labels, prepare
from bike_cli.settings import build


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(base_file(tmp_path_factory.mktemp("base") / "clip.pt"))


def saved(content: object, folder: Path) -> Path:
    torch.save(content, folder / "video_model.pth")
    return folder / "video_model.pth"


def imported(content: Content, folder: Path, **options: object) -> ImportedModel:
    return import_model(saved(content, folder), Options("mine", **options))  # type: ignore[arg-type]


def engine_of(model: ImportedModel, folder: Path) -> Engine:
    """Return the engine of an imported model that was written and read again."""
    save_folder(folder / "model", model.checkpoint)
    return assembled(load_folder(folder / "model"))


def logits(engine: Engine, length: int, **settings: object) -> torch.Tensor:
    """Return the logits [2, C] of the two videos, with the settings that come with the model, except those given."""
    assert engine.training is not None
    config = build(ClassifyConfig, {**engine.training.settings, "attributes": "off", **settings})
    classifier = prepare(engine, LABELS, config)
    clips = [clip_of(video[None]) for video in videos(length)]
    return torch.cat([score.logits for score in classifier.scores([(f,) for f in engine.encode_clips(clips)])])


def difference(ours: torch.Tensor, theirs: np.ndarray) -> float:  # type: ignore[type-arg]
    assert ours.shape == theirs.shape
    return float((ours - torch.from_numpy(theirs)).abs().max())


# -- the same scores as their own code


def test_vifi_clip_scores_as_its_own_code(tmp_path: Path, base: str) -> None:
    engine = engine_of(imported(vifi_content(), tmp_path, base=base), tmp_path)

    assert all(difference(logits(engine, length), golden("vifi")[f"logits_{length}"]) < 1e-6 for length in LENGTHS)


def test_vifi_clip_takes_its_token_embedding_from_the_base(tmp_path: Path, base: str) -> None:
    model = imported(vifi_content(), tmp_path, base=base)

    names = [torch.load(base)["token_embedding.weight"], model.checkpoint.clip.token_embedding.weight]
    assert torch.equal(*names)
    assert model.base == base


@pytest.mark.parametrize("head", ["meanP", "Transf"])
def test_actionclip_scores_as_its_own_code(tmp_path: Path, head: str) -> None:
    engine = engine_of(imported(actionclip_content(head), tmp_path, origin="actionclip"), tmp_path)

    assert (engine.temporal_head is not None) == (head == "Transf")
    for length in LENGTHS:
        cosines = logits(engine, length, template="A video of {}") / engine.logit_scale
        assert difference(cosines, golden("actionclip")[f"{head}_cosines_{length}"]) < 1e-5


def test_the_templates_of_actionclip_are_those_of_its_own_code(tmp_path: Path) -> None:
    engine = engine_of(imported(actionclip_content("meanP"), tmp_path, origin="actionclip"), tmp_path)
    texts = golden("actionclip")["texts"]

    templates = read_templates(engine.recipe.template)

    assert len(templates) == len(texts) == 16
    for template, expected in zip(templates, texts, strict=True):
        encoded = encode_labels(engine, LABELS, template=template, spot="eot")
        assert difference(unit(encoded.classes), expected) < 1e-5


@pytest.mark.parametrize("head", ["meanP", "Transf"])
def test_an_actionclip_uses_the_mean_feature_of_its_templates(tmp_path: Path, head: str) -> None:
    engine = engine_of(imported(actionclip_content(head), tmp_path, origin="actionclip"), tmp_path)
    mean = golden("actionclip")["texts"].mean(axis=0)
    classes = mean / np.linalg.norm(mean, axis=1, keepdims=True)

    for length in LENGTHS:
        cosines = logits(engine, length) / engine.logit_scale
        assert difference(cosines, golden("actionclip")[f"{head}_videos_{length}"] @ classes.T) < 1e-5


def test_a_folder_with_another_template_keeps_it(tmp_path: Path) -> None:
    save_folder(tmp_path / "model", imported(actionclip_content("meanP"), tmp_path, origin="actionclip").checkpoint)
    file = tmp_path / "model" / "config.json"
    config = json.loads(file.read_text())
    config["recipe"]["template"] = "A video of {}"  # as bike wrote before it had the set
    file.write_text(json.dumps(config))

    engine = assembled(load_folder(tmp_path / "model"))

    cosines = logits(engine, 8) / engine.logit_scale
    assert difference(cosines, golden("actionclip")["meanP_cosines_8"]) < 1e-5


def test_open_vclip_scores_as_its_own_code(tmp_path: Path) -> None:
    engine = engine_of(imported(open_vclip_content(), tmp_path), tmp_path)

    for length in LENGTHS:
        encoded = torch.cat([engine.encode_clip(clip_of(video[None])).frames[0] for video in videos(length)])
        assert difference(encoded, golden("openvclip")[f"frames_{length}"]) < 1e-5
        assert difference(logits(engine, length), golden("openvclip")[f"logits_{length}"]) < 1e-5


def test_open_vclip_is_patched_as_by_its_own_code(tmp_path: Path, base: str) -> None:
    engine = engine_of(imported(open_vclip_content(), tmp_path, patch=0.5, base=base), tmp_path)

    for length in LENGTHS:
        assert difference(logits(engine, length), golden("openvclip")[f"patched_{length}"]) < 1e-5


@pytest.mark.parametrize("length", LENGTHS)
def test_without_its_attention_open_vclip_is_another_model(tmp_path: Path, length: int) -> None:
    content = open_vclip_content()["model_state"]
    plain = {name.removeprefix("model."): tensor for name, tensor in content.items()}
    file = tmp_path / "plain.pt"
    torch.save({**plain, "input_resolution": torch.tensor(32)}, file)

    engine = assembled(open_checkpoint(str(file)))

    encoded = engine.encode_frames(videos(length).reshape(-1, 32, 32, 3))
    assert difference(encoded, golden("openvclip")[f"frames_{length}"]) > 0.01


def test_froster_is_open_vclip_without_what_only_its_training_needs(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    froster = imported(open_vclip_content("froster"), tmp_path)
    other = imported(open_vclip_content(), tmp_path / "other")

    assert (froster.origin, froster.checkpoint.licence) == ("froster", "CC BY-NC-SA 4.0")
    ours, theirs = froster.checkpoint.clip.state_dict(), other.checkpoint.clip.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert froster.left_out == (
        "raw_model.* (the frozen CLIP used in training)",
        "projector_v.* (only used in training)",
        "projector_t.* (only used in training)",
        "optimizer_state, epoch (training state)",
    )


# -- what comes with the model


@pytest.mark.parametrize(
    ("content", "options", "recipe"),
    [
        (vifi_content, {}, ("a photo of a {}.", "mean", SamplingConfig(frames=16), "bilinear")),
        (
            open_vclip_content,
            {},
            ("action", "scores", SamplingConfig(frames=8, clips=3, sampling="dense"), "bilinear"),
        ),
        (
            lambda: actionclip_content("meanP"),
            {"origin": "actionclip", "frames": 32},
            ("actionclip", "mean", SamplingConfig(frames=32), "bicubic"),
        ),
    ],
    ids=["vifi", "openvclip", "actionclip"],
)
def test_the_settings_of_the_video_model_come_with_it(
    tmp_path: Path, base: str, content: Callable[[], Content], options: dict[str, object], recipe: tuple[object, ...]
) -> None:
    options = options if content is not vifi_content else {**options, "base": base}
    model = imported(content(), tmp_path, **options).checkpoint

    assert model.training is not None
    assert (model.recipe.template, model.training.pool, model.training.sampling, model.image.interpolation) == recipe
    assert (model.name, model.licence, model.training.labels) == ("mine", None, ())


def test_a_licence_is_recorded_as_given(tmp_path: Path) -> None:
    model = imported(open_vclip_content("froster"), tmp_path, licence="agreed by letter")

    assert engine_of(model, tmp_path).licence == "agreed by letter"


def test_froster_without_its_projectors_is_told_apart_by_the_user(tmp_path: Path) -> None:
    assert imported(open_vclip_content(), tmp_path).origin == "openvclip"
    assert imported(open_vclip_content(), tmp_path, origin="froster").checkpoint.licence == "CC BY-NC-SA 4.0"


def test_what_is_left_out_is_named(tmp_path: Path, base: str) -> None:
    assert imported(vifi_content(), tmp_path, base=base).left_out == (
        "prompt_learner.complete_text_embeddings (texts of the training labels)",
        "optimizer, epoch (training state)",
    )


# -- every tensor is accounted for


def _without_prefix(name: str) -> str:
    name = name.removeprefix("module.").removeprefix("model.").removeprefix("text_encoder.")
    return name.replace("image_encoder.", "visual.", 1)


@pytest.mark.slow
def test_each_missing_tensor_of_vifi_clip_is_named(tmp_path: Path, base: str) -> None:
    content = vifi_content()
    needed = [name for name in content["model"] if "prompt_learner" not in name]
    assert len(needed) == 49
    for name in needed:
        lacking = {**content, "model": {n: t for n, t in content["model"].items() if n != name}}
        with pytest.raises(ModelError) as caught:
            imported(lacking, tmp_path, base=base)
        assert _without_prefix(name) in str(caught.value)


@pytest.mark.slow
def test_each_missing_tensor_of_open_vclip_is_named(tmp_path: Path) -> None:
    state = open_vclip_content()["model_state"]
    assert len(state) == 50
    for name in state:
        lacking = {n: t for n, t in state.items() if n != name}
        with pytest.raises(ModelError) as caught:
            imported({"model_state": lacking}, tmp_path)
        assert _without_prefix(name) in str(caught.value)


@pytest.mark.parametrize(
    "name", ["model.visual.transformer.resblocks.0.message_fc.weight", "head", "model.visual.conv1.bias"]
)
def test_a_tensor_that_has_no_place_is_refused(tmp_path: Path, name: str) -> None:
    content = open_vclip_content()
    content["model_state"][name] = torch.zeros(64)

    with pytest.raises(ModelError, match=f"1 unexpected: {_without_prefix(name)}"):
        imported(content, tmp_path)


def test_two_tensors_for_one_place_are_refused(tmp_path: Path, base: str) -> None:
    content = vifi_content()
    content["model"]["module.text_encoder.logit_scale"] = torch.tensor(2.0)

    with pytest.raises(ModelError, match="has two tensors for logit_scale"):
        imported(content, tmp_path, base=base)


def test_nan_is_refused(tmp_path: Path) -> None:
    content = open_vclip_content()
    content["model_state"]["model.visual.proj"] = torch.full((64, 32), float("nan"))

    with pytest.raises(ModelError, match=r"NaN or infinity \(visual.proj\)"):
        imported(content, tmp_path)


# -- what bike cannot run


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "module.image_encoder.VPT",
            "a prompted ViFi-CLIP, .* because its towers read trained prompt tokens",
        ),
        ("module.image_encoder.transformer.resblocks.1.VPT_shallow", "a prompted ViFi-CLIP"),
        ("module.prompt_learner.ctx", "a prompted ViFi-CLIP"),
        (
            "prompt_generation_layer.0.weight",
            "TC-CLIP, which bike cannot run because its text features depend",
        ),
        ("module.mit.positional_embedding", "X-CLIP, which bike cannot run because its frames exchange messages"),
        ("prompts_generator.alpha", "X-CLIP"),
    ],
)
def test_other_video_models_are_refused_by_name(tmp_path: Path, base: str, name: str, said: str) -> None:
    content = vifi_content()
    content["model"][name] = torch.zeros(4, 64)
    file = saved(content, tmp_path)

    with pytest.raises(ModelError, match=f"is a checkpoint of {said}"):
        import_model(file, Options("mine", base=base))
    with pytest.raises(ModelError, match=f"is a checkpoint of {said}"):
        open_checkpoint(str(file))


def test_x_clip_of_transformers_is_refused_by_name(tmp_path: Path) -> None:
    state = {"mit.position_embedding": torch.zeros(1, 8, 64), "vision_model.post_layernorm.bias": torch.zeros(64)}

    with pytest.raises(ModelError, match="is a checkpoint of X-CLIP"):
        open_checkpoint(str(saved(state, tmp_path)))


@pytest.mark.parametrize("head", ["LSTM", "Conv_1D", "Transf_cls"])
def test_other_heads_of_actionclip_are_refused_by_name(tmp_path: Path, head: str) -> None:
    with pytest.raises(ModelError, match=f"has the head {head}, which bike does not support"):
        imported(actionclip_content(head), tmp_path, origin="actionclip")


@pytest.mark.parametrize(
    ("kind", "said"), [("channel_shift", "channel_shift"), ("null", "null"), ("'expand_temporal_view_step2'", "step2")]
)
def test_another_attention_over_frames_is_refused(tmp_path: Path, kind: str, said: str) -> None:
    content = {**open_vclip_content(), "cfg": f"MODEL:\n  TEMPORAL_MODELING_TYPE: {kind}\n  ARCH: vitb16\n"}

    with pytest.raises(ModelError, match=f"was trained with TEMPORAL_MODELING_TYPE .*{said}, but bike only"):
        imported(content, tmp_path)


def test_the_attention_that_bike_has_is_accepted(tmp_path: Path) -> None:
    content = {**open_vclip_content(), "cfg": "MODEL:\n  TEMPORAL_MODELING_TYPE: expand_temporal_view\n"}

    assert imported(content, tmp_path).left_out == ("optimizer_state, epoch, cfg (training state)",)


# -- files that need an import


@pytest.mark.parametrize(
    ("content", "name"), [(vifi_content, "ViFi-CLIP"), (open_vclip_content, "Open-VCLIP")], ids=["vifi", "openvclip"]
)
@pytest.mark.parametrize("model", ["{file}", "ViT-B-16-quickgelu,{file}"])
def test_the_command_that_imports_a_file_is_shown(
    tmp_path: Path, content: Callable[[], Content], name: str, model: str
) -> None:
    (tmp_path / "my files").mkdir()
    file = saved(content(), tmp_path / "my files")

    with pytest.raises(ModelError) as caught:
        open_checkpoint(model.format(file=file))

    assert str(caught.value) == (
        f"{file}: is a checkpoint of {name}, which must be imported; run bike import '{file}' video_model, then use "
        "--model video_model"
    )


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": s}])
def test_a_plain_import_of_open_vclip_is_impossible(tmp_path: Path, wrap: Callable[[object], object]) -> None:
    file = saved(wrap(open_vclip_content()["model_state"]), tmp_path)

    with pytest.raises(ModelError, match="is a checkpoint of Open-VCLIP, which must be imported"):
        open_checkpoint(str(file))
    for other in ("vifi", "actionclip"):
        with pytest.raises(UsageError, match=f"--from {other}: .* has the layout of Open-VCLIP"):
            import_model(file, Options("mine", origin=other))  # type: ignore[arg-type]


def test_a_file_of_bike_or_actionclip_needs_a_decision(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="may come from BIKE or from ActionCLIP, whose files look alike; add --from"):
        imported(actionclip_content("meanP"), tmp_path)


def test_a_head_for_attributes_is_bikes(tmp_path: Path) -> None:
    content = actionclip_content("meanP")
    content["fusion_model_state_dict"] = {
        f"{side}_fc.{layer}.{kind}": torch.zeros(*[32] * (2 if kind == "weight" else 1))
        for side in ("query", "sentence")
        for layer in (0, 2)
        for kind in ("weight", "bias")
    }

    with pytest.raises(ModelError, match="has an attribute head, which only BIKE models have"):
        imported(content, tmp_path, origin="actionclip")


def test_any_other_file_is_refused(tmp_path: Path, base: str) -> None:
    with pytest.raises(ModelError, match=r"clip.pt: is not a checkpoint of ActionCLIP, .* or FROSTER"):
        import_model(Path(base), Options("mine"))


# -- the base


def test_a_base_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    config = tiny_config()
    config["text_cfg"] = {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 1}
    image = ImageRecipe(32, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    save_folder(tmp_path / "wider", Checkpoint("wider", build_clip(config, "test"), config, image, Recipe()))

    with pytest.raises(ModelError, match=r"wider: its token embedding does not fit .*; name the CLIP"):
        imported(vifi_content(), tmp_path, base=str(tmp_path / "wider"))
    with pytest.raises(ModelError, match=r"tiny: its tensors differ from those of .*; name the CLIP"):
        imported(open_vclip_content(), tmp_path, base="tiny", patch=0.5)


def test_the_base_is_openais_of_the_same_size_unless_one_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))

    with pytest.raises(ModelError, match="ViT-B-16"):
        imported(vifi_content(), tmp_path, offline=True)


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (vifi_content, {"patch": 0.5}, "--patch: only works for Open-VCLIP and FROSTER, but .* is from ViFi-CLIP"),
        (open_vclip_content, {"patch": 1.0}, "--patch 1: is not a share of the base"),
        (open_vclip_content, {"base": "tiny"}, "--base tiny: is not used for Open-VCLIP without --patch"),
        (open_vclip_content, {"origin": "vifi"}, "--from vifi: .* has the layout of Open-VCLIP"),
        (lambda: open_vclip_content("froster"), {"origin": "openvclip"}, "has the layout of FROSTER"),
        (lambda: actionclip_content("meanP"), {"origin": "vifi"}, "has the layout of ActionCLIP"),
        (lambda: actionclip_content("meanP"), {"origin": "actionclip", "base": "tiny"}, "--base tiny: is not used"),
    ],
)
def test_options_that_contradict_the_file_are_refused(
    tmp_path: Path, content: Callable[[], Content], options: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        imported(content(), tmp_path, **options)


# -- the file


def test_the_settings_next_to_the_weights_are_read_without_their_code(
    tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CfgNode(dict):  # type: ignore[type-arg]
        """As yacs has it: a dictionary with attributes of its own."""

    CfgNode.__module__, CfgNode.__qualname__ = "yacs.config", "CfgNode"
    module = types.ModuleType("yacs.config")
    module.CfgNode = CfgNode  # type: ignore[attr-defined]
    settings = CfgNode(MODEL=CfgNode(ARCH="ViT-B/16"))
    settings.__dict__["__immutable__"] = True
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
        patch.setitem(sys.modules, "yacs.config", module)
        file = saved({**vifi_content(), "config": settings}, tmp_path)

    model = import_model(file, Options("mine", base=base))

    assert model.left_out[-1] == "optimizer, epoch, config (training state)"
    assert "yacs" not in sys.modules


def test_code_in_a_file_never_runs(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> object:
            return Path.touch, (tmp_path / "ran",)

    with pytest.raises(ModelError, match="which no dense tensor needs and bike never runs"):
        imported({**open_vclip_content(), "cfg": Evil()}, tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_state_that_holds_more_than_tensors_is_refused(tmp_path: Path) -> None:
    content = open_vclip_content()
    content["model_state"]["model.extra"] = OrderedDict()

    with pytest.raises(ModelError, match=r"'model.extra' is a OrderedDict, not a tensor"):
        imported(content, tmp_path)
