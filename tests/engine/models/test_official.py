"""Files for the official code have the content that it reads; models that it would compute differently are refused."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from full_disk import files_of_at_most
from numpy.typing import NDArray
from open_clip.model import build_model_from_openai_state_dict
from torch import Tensor

from bike_cli.config import OneBranch, Recipe
from bike_cli.engine.engine import Engine, load
from bike_cli.engine.heads.bike import AttributeHead, TemporalTransformer
from bike_cli.engine.models.checkpoints import open_checkpoint
from bike_cli.engine.models.official import choose_branch, official_arch, save_official
from bike_cli.engine.models.parts import Checkpoint, build_clip
from bike_cli.engine.towers.transforms import ImageRecipe
from bike_cli.errors import ExitCode, ModelError, UsageError

Golden = Mapping[str, NDArray[np.generic]]
State = Mapping[str, Tensor]

# Sizes of a small model that OpenAI's code could have built.
VIT = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
RESNET = {"image_size": 64, "layers": [1, 2, 1, 1], "width": 16, "patch_size": None}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
OPENAI_IMAGE = ImageRecipe(32, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
BIKE = Recipe(spot="all", temperature=0.01, template="bike")
FILES: list[tuple[str, OneBranch]] = [
    ("bike_tiny_checkpoint", "video"),
    ("bike_tiny_attributes_checkpoint", "attributes"),
]


def config(vision: Mapping[str, object] = VIT, text: Mapping[str, object] = TEXT, **top: object) -> dict[str, object]:
    return {"embed_dim": 48, "vision_cfg": dict(vision), "text_cfg": dict(text), "quick_gelu": True, **top}


def model(built: Mapping[str, object] | None = None, *, heads: int = 1) -> Checkpoint:
    """A model with both heads, prepared for the official code's frames and spotting."""
    torch.manual_seed(5)
    built = built or config()
    clip = build_clip(built, "test").eval()
    temporal, attribute = TemporalTransformer(48, heads).eval(), AttributeHead(48).eval()
    return Checkpoint("small", clip, built, OPENAI_IMAGE, BIKE, temporal_head=temporal, attribute_head=attribute)


@pytest.fixture(scope="module")
def small() -> Checkpoint:
    return model()


def read(file: Path) -> dict[str, object]:
    return torch.load(file, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]


def tensors(content: Mapping[str, object], part: str) -> State:
    state = content[f"{part}_state_dict"]
    assert isinstance(state, dict)
    return state


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


# -- there and back


@pytest.mark.parametrize(("name", "branch"), FILES)
def test_official_files_are_restored_bit_by_bit(golden: Path, tmp_path: Path, name: str, branch: OneBranch) -> None:
    save_official(open_checkpoint(str(golden / f"{name}.pt")), branch, tmp_path / "a.pt")

    ours, theirs = read(tmp_path / "a.pt"), read(golden / f"{name}.pt")

    assert list(ours) == list(theirs)
    for part in ("model", "fusion_model"):
        mine, yours = tensors(ours, part), tensors(theirs, part)
        assert {n: t.shape for n, t in mine.items()} == {n: t.shape for n, t in yours.items()}
        assert {t.dtype for t in mine.values()} == {torch.float32}
        assert all(torch.equal(tensor, yours[n].float()) for n, tensor in mine.items())


@pytest.mark.parametrize(("name", "branch"), FILES)
def test_a_model_that_is_loaded_again_has_the_same_features(
    official: Callable[[str], Engine], golden: Path, golden_model: Golden, tmp_path: Path, name: str, branch: OneBranch
) -> None:
    save_official(open_checkpoint(str(golden / f"{name}.pt")), branch, tmp_path / "a.pt")
    before, after = official(name), load(str(tmp_path / "a.pt"), device="cpu", precision="fp32")
    frames, prompts = golden_model["frames_u8"][0].astype(np.uint8), [str(p) for p in golden_model["prompts"]]

    features = [engine.temporal(engine.encode_frames(frames)[None]) for engine in (before, after)]
    texts = [engine.encode_texts(prompts) for engine in (before, after)]

    assert torch.equal(*features)
    assert torch.equal(*(text.classes for text in texts))
    assert torch.equal(*(text.tokens for text in texts))
    assert (after.recipe, after.encoder.recipe) == (before.recipe, before.encoder.recipe)


def test_the_exported_heads_are_those_of_the_branch(small: Checkpoint, tmp_path: Path) -> None:
    save_official(small, "video", tmp_path / "v.pt")
    save_official(small, "attributes", tmp_path / "a.pt")

    video, attributes = (open_checkpoint(str(tmp_path / name)) for name in ("v.pt", "a.pt"))

    assert (video.attribute_head, attributes.temporal_head) == (None, None)
    frames, sentences = torch.randn(2, 4, 48), torch.randn(3, 48)
    assert small.temporal_head
    assert video.temporal_head
    assert small.attribute_head
    assert attributes.attribute_head
    assert torch.equal(video.temporal_head(frames), small.temporal_head(frames))
    assert torch.equal(attributes.attribute_head(sentences, sentences), small.attribute_head(sentences, sentences))


@pytest.mark.parametrize("vision", [VIT, RESNET], ids=["vit", "resnet"])
def test_the_builder_of_openai_computes_the_same(tmp_path: Path, vision: Mapping[str, object]) -> None:
    checkpoint = model(config(vision))
    with torch.no_grad():  # the builder rounds weights to fp16, which must not matter
        for parameter in checkpoint.clip.parameters():
            parameter.copy_(parameter.half().float())
    save_official(checkpoint, "video", tmp_path / "a.pt")

    built = build_model_from_openai_state_dict(dict(tensors(read(tmp_path / "a.pt"), "model"))).float().eval()

    images, texts = torch.randn(2, 3, vision["image_size"], vision["image_size"]), torch.randint(1, 49407, (2, 77))
    with torch.no_grad():
        assert torch.allclose(built.encode_image(images), checkpoint.clip.encode_image(images), atol=1e-5)
        assert torch.allclose(built.encode_text(texts), checkpoint.clip.encode_text(texts), atol=1e-5)


def test_a_model_without_a_temporal_head_has_an_empty_state(small: Checkpoint, tmp_path: Path) -> None:
    save_official(replace(small, temporal_head=None), "video", tmp_path / "a.pt")

    assert tensors(read(tmp_path / "a.pt"), "fusion_model") == {}
    assert open_checkpoint(str(tmp_path / "a.pt")).temporal_head is None


def test_weights_in_other_types_and_shapes_become_the_official_ones(tmp_path: Path) -> None:
    checkpoint = model(config(nonscalar_logit_scale=True))
    checkpoint.clip.visual.proj.data = checkpoint.clip.visual.proj.data.half()

    save_official(checkpoint, "video", tmp_path / "a.pt")

    state = tensors(read(tmp_path / "a.pt"), "model")
    assert state["logit_scale"].shape == ()
    assert state["visual.proj"].dtype == torch.float32


@pytest.mark.parametrize(
    "written",
    [
        {"vision_cfg": {**VIT, "image_size": [32, 32], "head_width": 64, "patch_dropout": 0.5}},
        {"vision_cfg": {**VIT, "timm_model_pretrained": True, "norm_kwargs": {}}},
        {"text_cfg": {**TEXT, "pad_id": 1, "mlp_ratio": 4}},
        {"init_logit_scale": 3.0, "output_dict": True},
    ],
)
def test_the_same_architecture_written_differently_is_not_a_difference(
    small: Checkpoint, tmp_path: Path, written: Mapping[str, object]
) -> None:
    save_official(replace(small, clip_config={**small.clip_config, **written}), "video", tmp_path / "a.pt")

    assert (tmp_path / "a.pt").is_file()


# -- what the official code would compute otherwise


@pytest.mark.parametrize(
    ("built", "said"),
    [
        (config(quick_gelu=False), r"its activation is GELU, not QuickGELU"),
        (config({**VIT, "head_width": 32}), r"vision_cfg\.head_width is 32, not 64"),
        (config({**RESNET, "head_width": 32}), r"vision_cfg\.head_width is 32, not 64"),
        (config({**VIT, "mlp_ratio": 2.0}), r"vision_cfg\.mlp_ratio is 2\.0, not 4\.0"),
        (config({**VIT, "pool_type": "avg"}), r"vision_cfg\.pool_type is avg, not tok"),
        (config({**VIT, "attentional_pool": True}), r"vision_cfg\.attentional_pool is True, not False"),
        (config({**VIT, "ls_init_value": 0.1}), r"vision_cfg\.ls_init_value is 0\.1, not None"),
        (config({**VIT, "no_ln_pre": True}), r"vision_cfg\.no_ln_pre is True, not False"),
        (config({**VIT, "final_ln_after_pool": True}), r"vision_cfg\.final_ln_after_pool is True"),
        (config({**VIT, "norm_kwargs": {"eps": 1e-6}}), r"vision_cfg\.norm_kwargs is \{'eps': 1e-06\}, not None"),
        (config({**VIT, "qk_norm": True}), r"vision_cfg\.qk_norm is True, not False"),
        (config({**VIT, "image_size": 40}), r"vision_cfg\.image_size is 40, not 32"),
        (
            config({"image_size": 64, "timm_model_name": "convnext_atto", "timm_pool": "", "timm_proj": "linear"}),
            r"its image tower is timm's convnext_atto\)",
        ),
        (config(text={**TEXT, "heads": 2}), r"text_cfg\.heads is 2, not 1"),
        (config(text={**TEXT, "context_length": 32}), r"text_cfg\.context_length is 32, not 77"),
        (config(text={**TEXT, "vocab_size": 512}), r"text_cfg\.vocab_size is 512, not 49408"),
        (config(text={**TEXT, "act_kwargs": {}, "mlp_ratio": 3}), r"\(text_cfg\.mlp_ratio is 3, not 4\.0\)"),
        (config(text={**TEXT, "proj_bias": True}), r"OpenAI's CLIP has 'text_projection'"),
        (config(init_logit_bias=-10.0), r"init_logit_bias is -10\.0, not None"),
    ],
)
def test_another_architecture_than_openais_is_refused(tmp_path: Path, built: dict[str, object], said: str) -> None:
    clip = build_clip(built, "test")
    checkpoint = Checkpoint("small", clip, built, OPENAI_IMAGE, BIKE)

    with pytest.raises(ModelError, match=rf"^small: the official code would build.*{said}.*leave --official out") as e:
        save_official(checkpoint, "video", tmp_path / "a.pt")

    assert e.value.exit_code == ExitCode.NO_MODEL
    assert list(tmp_path.iterdir()) == []


def test_many_differences_are_not_all_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"\([^;]+; [^;]+; [^;]+, …\); leave"):
        save_official(
            model(config({**VIT, "head_width": 32, "mlp_ratio": 2.0, "pool_type": "avg"}, quick_gelu=False)),
            "video",
            tmp_path / "a.pt",
        )


def test_a_temporal_head_of_other_attention_heads_is_refused_in_its_own_branch(tmp_path: Path) -> None:
    checkpoint = model(heads=4)

    with pytest.raises(ModelError, match=r"attention heads of the temporal head are 4, not 1"):
        save_official(checkpoint, "video", tmp_path / "v.pt")
    save_official(checkpoint, "attributes", tmp_path / "a.pt")

    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_the_bundled_model_is_not_one_of_the_official_code(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"^tiny: .*text_cfg\.heads is 2, not 1; .*temporal head are 2, not 1\); leave"
    ):
        save_official(open_checkpoint("tiny"), "video", tmp_path / "a.pt")


# -- branches


@pytest.mark.parametrize(
    ("has", "asked", "chosen"),
    [
        ((True, True), "video", "video"),
        ((True, True), "attributes", "attributes"),
        ((True, False), None, "video"),
        ((False, True), None, "attributes"),
        ((False, False), None, "video"),
        ((False, True), "video", "video"),
    ],
)
def test_the_branch_is_the_one_asked_for_or_the_only_one(
    small: Checkpoint, has: tuple[bool, bool], asked: OneBranch | None, chosen: OneBranch
) -> None:
    temporal, attribute = has
    checkpoint = replace(
        small,
        temporal_head=small.temporal_head if temporal else None,
        attribute_head=small.attribute_head if attribute else None,
    )

    assert choose_branch(checkpoint, asked) == chosen


def test_two_heads_ask_for_a_choice(small: Checkpoint) -> None:
    with pytest.raises(UsageError, match=r"a temporal head and an attribute head.*add --branch video or --branch attr"):
        choose_branch(small, None)


def test_a_branch_without_its_head_is_refused(small: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--branch attributes: small has no attribute head; leave --branch out"):
        save_official(replace(small, attribute_head=None), "attributes", tmp_path / "a.pt")


# -- what the official code is fed with


def resized(side: int, to: int | None) -> ImageRecipe:
    return replace(OPENAI_IMAGE, side=side, resize_side=to)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (replace(OPENAI_IMAGE, mean=(0.5, 0.5, 0.5)), "mean and std are not OpenAI's"),
        (replace(OPENAI_IMAGE, std=(0.5, 0.5, 0.5)), "mean and std are not OpenAI's"),
        (replace(OPENAI_IMAGE, interpolation="bilinear"), "resized by bilinear, not bicubic"),
        (replace(OPENAI_IMAGE, resize_mode="squash"), "resized to squash, not shortest"),
        (resized(224, None), "resized to 224 pixels, not 256"),
        (resized(336, 384), "resized to 384 pixels, not 336"),
    ],
)
def test_other_frames_than_the_official_ones_are_reported(
    small: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture, image: ImageRecipe, said: str
) -> None:
    save_official(replace(small, image=image), "video", tmp_path / "a.pt")

    frames = [line for line in warned(caplog) if "frames" in line]
    assert frames == [
        f"small: wants other frames than the official code prepares ({said}); change its test.py",
    ]
    assert (tmp_path / "a.pt").is_file()


@pytest.mark.parametrize("image", [OPENAI_IMAGE, resized(224, 256), resized(336, None), resized(336, 336)])
def test_other_official_frames_do_not_matter(
    small: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture, image: ImageRecipe
) -> None:
    save_official(replace(small, image=image), "video", tmp_path / "a.pt")

    assert [line for line in warned(caplog) if "sizes" not in line] == []


@pytest.mark.parametrize(
    ("recipe", "branch", "said"),
    [
        (replace(BIKE, spot="words"), "video", "spots by words at temperature 0.01, the official code by all at 0.01"),
        (replace(BIKE, temperature=0.1), "video", "spots by all at temperature 0.1, the official code by all at 0.01"),
        (replace(BIKE, template="class"), "attributes", "reads labels with template class, the official code with"),
        (replace(BIKE, attribute_weight=0.5), "attributes", "weights attributes by 0.5, the official code by 0.3"),
    ],
)
def test_another_recipe_is_reported(
    small: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture, recipe: Recipe, branch: OneBranch, said: str
) -> None:
    save_official(replace(small, recipe=recipe), branch, tmp_path / "a.pt")

    (line,) = [line for line in warned(caplog) if "sizes" not in line]
    assert line.startswith(f"small: {said}")


def test_the_attributes_branch_sees_no_frames_and_spots_nothing(
    small: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = replace(small, image=resized(224, None), recipe=replace(BIKE, spot="words"))

    save_official(other, "attributes", tmp_path / "a.pt")

    assert [line for line in warned(caplog) if "sizes" not in line] == []


def test_sizes_that_no_model_of_openai_has_are_reported(
    small: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        save_official(small, "video", tmp_path / "a.pt")

    assert [line.split(";")[0] for line in warned(caplog)] == ["small: has sizes that no model of OpenAI has"]


@pytest.mark.parametrize(
    ("arch", "name"),
    [
        ("ViT-B-32-quickgelu", "ViT-B/32"),
        ("ViT-B-16-quickgelu", "ViT-B/16"),
        ("ViT-L-14-336-quickgelu", "ViT-L/14-336px"),
        ("RN50x4-quickgelu", "RN50x4"),
        ("ViT-H-14-quickgelu", None),
        ("ViT-B-32", None),
    ],
)
def test_the_architecture_has_the_official_configs_name(small: Checkpoint, arch: str, name: str | None) -> None:
    checkpoint = replace(small, clip_config=open_clip.get_model_config(arch))

    assert official_arch(checkpoint) == name


# -- the file


def test_an_older_file_is_replaced_and_no_other_file_is_left(small: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_text("old")

    save_official(small, "video", tmp_path / "a.pt")

    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]
    assert tensors(read(tmp_path / "a.pt"), "model")


def test_a_symbolic_link_stays_a_link(small: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "a.pt").symlink_to(tmp_path / "there" / "real.pt")

    save_official(small, "video", tmp_path / "a.pt")

    assert (tmp_path / "a.pt").is_symlink()
    assert (tmp_path / "there" / "real.pt").is_file()


def test_a_full_disk_is_reported_and_the_older_file_stays(small: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_text("old")

    with files_of_at_most(100_000), pytest.raises(OSError, match="File too large"):
        save_official(small, "video", tmp_path / "a.pt")

    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]
    assert (tmp_path / "a.pt").read_text() == "old"
