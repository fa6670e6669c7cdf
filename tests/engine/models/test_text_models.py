"""Text towers that are models of their own, run by transformers: as open_clip builds them, and never from a network."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from odd_texts import ODD_TEXTS
from open_clip import CustomTextCLIP, hf_model
from repositories import PREPROCESS, features, put_on_hub, write_repository
from safetensors.torch import load_file, save_file
from small_models import assembled
from text_configs import DESCRIPTIONS, random_model, small_config

from bike_cli.engine.engine import Engine
from bike_cli.engine.models import catalogue
from bike_cli.engine.models.checkpoints import open_checkpoint
from bike_cli.engine.models.folder import load_folder, save_folder
from bike_cli.engine.towers.text_tower import set_grad_checkpointing
from bike_cli.errors import ModelError, UsageError
from bike_cli.records import Prompt

pytestmark = pytest.mark.usefixtures("_no_network")
needs_transformers = pytest.mark.skipif(
    hf_model.transformers is None, reason="needs transformers: pip install -e '.[dev,hf]'"
)
TOKENIZERS = Path(__file__).parents[1] / "towers" / "tokenizers"
# An architecture of each kind, and a tokenizer of tests/engine/towers/tokenizers. mT5's is of the kind of SigLIP 2's.
KINDS = {
    "roberta-ViT-B-32": "roberta",
    "xlm-roberta-base-ViT-B-32": "xlm_roberta",
    "nllb-clip-base": "nllb",
    "nllb-clip-large-siglip": "nllb",
    "mt5-base-ViT-B-32": "siglip2",
}
WITH_ROWS = [arch for arch, tokenizer in KINDS.items() if tokenizer != "siglip2"]  # which were made for another context
TAG = "roberta-ViT-B-32,laion2b_s12b_b32k"
TEXTS = ODD_TEXTS[40:60]


def opened(folder: Path, arch: str, tokenizer: str) -> Engine:
    return assembled(open_checkpoint(str(write_repository(folder, arch, tokenizer)), offline=True))


def open_clips_own(folder: Path, arch: str, weights: Path) -> CustomTextCLIP:
    """Return the model as open_clip builds it from the whole description, with its decoder, and from these weights."""
    config = small_config(arch)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config.pop("hf_text_cfg")))
    config.pop("custom_text", None)
    config["text_cfg"] = {**config["text_cfg"], "hf_model_name": str(folder), "hf_model_pretrained": False}
    model = CustomTextCLIP(**config)
    model.load_state_dict(load_file(weights))
    return model.eval()


# -- features -----------------------------------------------------------------------------------------------------


@needs_transformers
@torch.no_grad()
@pytest.mark.parametrize("arch", WITH_ROWS)
def test_features_are_those_of_open_clip(tmp_path: Path, arch: str) -> None:
    engine = opened(tmp_path / "r", arch, KINDS[arch])

    theirs = open_clips_own(tmp_path / "theirs", arch, tmp_path / "r" / "open_clip_model.safetensors")
    rows = torch.tensor(json.loads((TOKENIZERS / KINDS[arch] / "rows.json").read_text()))
    expected = theirs.encode_text(rows, normalize=False)
    assert torch.allclose(engine.encode_texts(ODD_TEXTS).classes, expected, atol=1e-6, rtol=1e-5)
    pixels = torch.rand(2, 3, 32, 32)
    assert torch.allclose(engine.encoder.tower(pixels), theirs.encode_image(pixels, normalize=False), atol=1e-6)


@needs_transformers
@torch.no_grad()
def test_mt5_has_the_features_of_open_clip(tmp_path: Path) -> None:
    engine = opened(tmp_path / "r", "mt5-base-ViT-B-32", "siglip2")
    texts = ODD_TEXTS[40:60]

    theirs = open_clips_own(tmp_path / "theirs", "mt5-base-ViT-B-32", tmp_path / "r" / "open_clip_model.safetensors")
    tokenizer = engine.encoder.tokenizer
    rows = [tokenizer.padded(tokenizer.row(tokenizer.encode(text)).ids, 77) for text in texts]
    expected = theirs.encode_text(torch.tensor(rows), normalize=False)
    assert torch.allclose(engine.encode_texts(texts).classes, expected, atol=1e-6, rtol=1e-5)


@needs_transformers
@pytest.mark.parametrize("arch", KINDS)
def test_a_text_has_the_same_features_in_any_batch(tmp_path: Path, arch: str) -> None:
    engine = opened(tmp_path / "r", arch, KINDS[arch])
    many = [f"{n} {'very ' * (n % 9)}small steps" for n in range(40)]

    together = engine.encode_texts(many).classes

    alone = torch.cat([engine.encode_texts([text]).classes for text in many])
    assert torch.allclose(together, alone, atol=1e-6, rtol=1e-5)


@needs_transformers
def test_a_position_has_no_features_of_its_own(tmp_path: Path) -> None:
    engine = opened(tmp_path / "r", "xlm-roberta-base-ViT-B-32", "xlm_roberta")
    prompt = Prompt("a video of red bikes", 11, 20)

    words = engine.encode_texts([prompt], positions="words")

    beginnings = engine.encode_texts(["a video of red", "a video of red bikes"]).classes
    assert torch.allclose(words.tokens[0], beginnings, atol=1e-6)
    with pytest.raises(UsageError, match=r"spot all: .*; give eot or words"):
        engine.encode_texts([prompt], positions="all")
    assert engine.encoder.unknown(["riding"]) == []


@needs_transformers
def test_the_language_of_nllb_is_english(tmp_path: Path) -> None:
    opened(tmp_path / "r", "nllb-clip-base", "nllb")  # its rows are compared in towers/test_tokenizers.py
    file = tmp_path / "r" / "tokenizer.json"

    file.write_text(file.read_text().replace("eng_Latn", "fra_Latn"))
    with pytest.raises(ModelError, match=r"its tokenizer\.json has no token eng_Latn"):
        open_checkpoint(str(tmp_path / "r"))


@needs_transformers
@pytest.mark.parametrize("arch", KINDS)
def test_the_text_tower_can_be_trained(tmp_path: Path, arch: str) -> None:
    encoder = opened(tmp_path / "r", arch, KINDS[arch]).encoder

    encoder.read_texts(["riding a bike"], positions="eot").classes.square().sum().backward()

    tower = encoder.text_tower
    assert tower.trains()
    trained = {name for name, weights in tower.modules.named_parameters() if weights.grad is not None}
    assert trained == {name for name, _ in tower.modules.named_parameters()}
    tower.modules.transformer.requires_grad_(False)
    assert not tower.trains()


@needs_transformers
def test_only_the_image_tower_computes_states_again(tmp_path: Path) -> None:
    model = opened(tmp_path / "r", "nllb-clip-base", "nllb").encoder.model

    for enabled in (True, False):
        set_grad_checkpointing(model, enabled)
        assert model.visual.transformer.grad_checkpointing is enabled
        assert not any(getattr(m, "gradient_checkpointing", False) for m in model.text.modules())


# -- where models come from ---------------------------------------------------------------------------------------


@needs_transformers
@pytest.mark.parametrize("arch", KINDS)
def test_a_model_is_the_same_from_the_hub_from_folders_and_from_bikes_own(tmp_path: Path, arch: str) -> None:
    repository = write_repository(tmp_path / "repository", arch, KINDS[arch])
    snapshot = put_on_hub(tmp_path / "hub", repository)
    (snapshot / "text_config.json").unlink()
    described = tmp_path / "described"
    described.mkdir()
    shutil.copyfile(repository / "text_config.json", described / "config.json")
    put_on_hub(tmp_path / "hub", described, name=small_config(arch)["text_cfg"]["hf_model_name"])

    names = ["hf-hub:nobody/small", f"local-dir:{repository}", str(repository)]
    engines = [assembled(open_checkpoint(name, offline=True)) for name in names]
    save_folder(tmp_path / "bikes", engines[0].as_checkpoint())
    shutil.rmtree(tmp_path / "hub")
    shutil.rmtree(repository)
    engines.append(assembled(load_folder(tmp_path / "bikes")))

    expected = features(engines[0], TEXTS)
    for engine in engines[1:]:
        assert all(torch.equal(ours, first) for ours, first in zip(features(engine, TEXTS), expected, strict=True))
    assert len({engine.fingerprint for engine in engines}) == 1


@pytest.fixture
def tag_on_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The files of a tag in the cache, with a small model; open_clip's configuration is made as small."""
    small = small_config("roberta-ViT-B-32")
    config = {name: value for name, value in small.items() if name != "hf_text_cfg"}
    state = {name: tensor.contiguous() for name, tensor in random_model(small).state_dict().items()}
    # As old versions of transformers stored it.
    state["text.transformer.embeddings.position_ids"] = torch.arange(90)[None]
    weights, text = tmp_path / "weights", tmp_path / "text"
    weights.mkdir()
    text.mkdir()
    save_file(state, weights / "open_clip_model.safetensors")
    (text / "config.json").write_text(json.dumps(small["hf_text_cfg"]))
    shutil.copyfile(TOKENIZERS / "roberta" / "tokenizer.json", text / "tokenizer.json")
    put_on_hub(tmp_path / "hub", weights, name=open_clip.get_pretrained_cfg(*TAG.split(","))["hf_hub"].rstrip("/"))
    put_on_hub(tmp_path / "hub", text, name="roberta-base")
    monkeypatch.setattr(catalogue, "architecture", lambda arch: config)
    return state


@needs_transformers
def test_a_tag_loads_from_the_cache(tag_on_hub: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = open_checkpoint(TAG, offline=True)

    loaded = checkpoint.clip.state_dict()
    tag_on_hub.pop("text.transformer.embeddings.position_ids")
    assert loaded.keys() == tag_on_hub.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tag_on_hub.items())
    assert checkpoint.name == TAG
    assert assembled(checkpoint).encode_texts(["riding"]).classes.shape == (1, 24)


@needs_transformers
def test_weights_in_a_file_take_what_lies_next_to_them(tag_on_hub: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "mine" / "weights.safetensors"
    file.parent.mkdir()
    save_file(tag_on_hub, file)

    from_cache = assembled(open_checkpoint(f"roberta-ViT-B-32,{file}"))
    (file.parent / "text_config.json").write_text(json.dumps({**DESCRIPTIONS["roberta"], "layer_norm_eps": 0.5}))
    from_beside = assembled(open_checkpoint(f"roberta-ViT-B-32,{file}"))

    assert from_cache.fingerprint != from_beside.fingerprint
    assert from_cache.identity == from_beside.identity  # features of frames do not depend on it
    shutil.rmtree(tmp_path / "hub")
    (file.parent / "text_config.json").unlink()
    shutil.copyfile(TOKENIZERS / "roberta" / "tokenizer.json", file.with_name("tokenizer.json"))
    with pytest.raises(
        ModelError, match=r"has no text_config\.json next to it; download config\.json from roberta-base"
    ):
        open_checkpoint(f"roberta-ViT-B-32,{file}")


@needs_transformers
def test_a_tag_offline_names_its_weights_its_tokenizer_and_its_description() -> None:
    with pytest.raises(ModelError) as refused:
        open_checkpoint(TAG, offline=True)

    assert "its weights, tokenizer and configuration are not on this disk" in str(refused.value)
    needed = [line.split(", from")[0] for line in refused.value.details if line.startswith("needed: ")]
    assert needed == [
        "needed: open_clip_model.safetensors of laion/CLIP-ViT-B-32-roberta-base-laion2B-s12B-b32k",
        "needed: tokenizer.json of roberta-base",
        "needed: config.json of roberta-base",
    ]


@needs_transformers
@pytest.mark.parametrize("arch", KINDS)
def test_loading_draws_no_random_weights(tmp_path: Path, arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing those of NLLB takes 14 s."""
    repository = write_repository(tmp_path, arch, KINDS[arch])
    drawn = []

    def draw(tensor: torch.Tensor, *_: object) -> torch.Tensor:
        drawn.append(tensor.device.type)
        return tensor

    monkeypatch.setattr(torch.nn.init, "_no_grad_normal_", draw)
    open_checkpoint(str(repository))

    assert set(drawn) == {"meta"}


@needs_transformers
def test_a_description_is_kept_as_far_as_a_tower_follows_from_it(tmp_path: Path) -> None:
    repository = write_repository(tmp_path, "nllb-clip-base", "nllb")
    assert "auto_map" in json.loads((repository / "text_config.json").read_text())  # it names code to run

    checkpoint = open_checkpoint(str(repository))

    assert checkpoint.clip_config["hf_text_cfg"] == DESCRIPTIONS["facebook/nllb"]


# -- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["tag", "repository", "bikes"])
def test_without_transformers_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr(hf_model, "transformers", None)
    config = small_config("roberta-ViT-B-32")
    if way == "repository":
        (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": PREPROCESS}))
        save_file({"logit_scale": torch.ones(())}, tmp_path / "open_clip_model.safetensors")
    elif way == "bikes":
        save_folder(tmp_path, open_checkpoint("tiny"))
        content = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**content, "clip": config}))

    with pytest.raises(
        ModelError, match=r"its text tower \(roberta-base\) needs transformers .*; run pip install 'bike-c"
    ):
        open_checkpoint(TAG if way == "tag" else str(tmp_path), offline=True)
    assert len(catalogue.runnable_tags()) == 160


@pytest.mark.parametrize("name", ["/etc", "./own", "../own", "a/b/c", "own/..", "C:\\own", "a b", 7, ["a"]])
def test_a_text_tower_that_is_a_path_is_refused(tmp_path: Path, name: object) -> None:
    config = small_config("roberta-ViT-B-32")
    config["text_cfg"] = {**config["text_cfg"], "hf_model_name": name}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    save_file({"logit_scale": torch.ones(())}, tmp_path / "open_clip_model.safetensors")

    with pytest.raises(ModelError, match=r"hf_model_name is .*, not OWNER/NAME of a model on the hub"):
        open_checkpoint(str(tmp_path))


def _described(**values: object) -> Callable[[dict[str, Any]], None]:
    return lambda config: config["hf_text_cfg"].update(values)


def _texts(**values: object) -> Callable[[dict[str, Any]], None]:
    return lambda config: config["text_cfg"].update(values)


@needs_transformers
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.pop("hf_text_cfg"), "clip lacks hf_text_cfg"),
        (lambda c: c.update(hf_text_cfg=3), r"clip\.hf_text_cfg is 3, not an object"),
        (lambda c: c.update(multimodal_cfg={}), "is part of a CoCa"),
        (_described(model_type="gpt2"), "is a 'gpt2'; choose roberta, xlm-roberta"),
        (_described(model_type=["roberta"]), "is a \\['roberta'\\]; choose roberta"),
        (_described(auto_map={"AutoModel": "evil.Own"}), r"clip\.hf_text_cfg has an unknown key \(auto_map\)"),
        (_described(num_hidden_layers=10**7), r"clip\.hf_text_cfg\.num_hidden_layers is 10000000"),
        (_described(num_hidden_layers=3), "does not fit its architecture"),
        (_described(hidden_size="32"), r"clip\.hf_text_cfg\.hidden_size is '32'"),
        (_described(hidden_size=10**6), r"clip\.hf_text_cfg\.hidden_size is 1000000"),
        (_described(hidden_act="none"), "cannot build this architecture"),
        (_described(num_attention_heads=5), "cannot build this architecture"),
        (_described(pad_token_id=500), "cannot build this architecture"),
        (_described(position_embedding_type="relative_key"), "has 'relative_key' positions"),
        (_texts(context_length=120), r"its text tower cannot run"),
        (_texts(hf_pooler_type="none"), "cannot build this architecture"),
        (_texts(hf_proj_type="none"), "does not fit its architecture"),
    ],
)
def test_an_impossible_description_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    repository = write_repository(tmp_path / "r", "roberta-ViT-B-32", "roberta")
    save_folder(tmp_path / "bikes", open_checkpoint(str(repository)))
    content = json.loads((tmp_path / "bikes" / "config.json").read_text())
    change(content["clip"])
    (tmp_path / "bikes" / "config.json").write_text(json.dumps(content))

    with pytest.raises(ModelError, match=said):
        load_folder(tmp_path / "bikes")


@needs_transformers
@pytest.mark.parametrize("content", ["[]", "{", "{}", '{"model_type": "roberta", "hidden_size": -1}'])
def test_a_file_that_is_no_description_is_refused(tmp_path: Path, content: str) -> None:
    repository = write_repository(tmp_path, "roberta-ViT-B-32", "roberta")
    (repository / "text_config.json").write_text(content)

    with pytest.raises(ModelError):
        open_checkpoint(str(repository))


@needs_transformers
def test_a_tokenizer_with_another_padding_is_refused(tmp_path: Path) -> None:
    repository = write_repository(tmp_path, "roberta-ViT-B-32", "roberta")
    description = json.loads((repository / "text_config.json").read_text())
    (repository / "text_config.json").write_text(json.dumps({**description, "pad_token_id": 0}))
    checkpoint = open_checkpoint(str(repository))

    with pytest.raises(ModelError, match="expects texts padded with 0, but its tokenizer pads with 1"):
        assembled(checkpoint)
