"""Repositories of open_clip weights load from the hub's cache and from folders, and never from anywhere else."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub import constants
from open_clip import hf_model
from repositories import COMMIT, changing_config, features, put_on_hub, write_repository
from small_models import assembled
from text_configs import small_config

import bike_cli as bike
from bike_cli.engine.download.hub import HubSource
from bike_cli.engine.models.checkpoints import open_checkpoint
from bike_cli.engine.models.folder import load_folder, save_folder
from bike_cli.errors import ModelError

pytestmark = pytest.mark.usefixtures("_no_network")

TEXTS = ["riding a bike", "Tai chi!", "体操", ""]
# One architecture of each kind of text tower, with the tokenizer that it needs.
KINDS = {
    "ViT-B-32": None,
    "PE-Core-B-16": None,
    "MobileCLIP-S1": None,
    "coca_ViT-B-32": None,
    "ViT-B-16-SigLIP": "siglip",
    "ViT-B-16-SigLIP2-256": "siglip2",
    "ViT-L-14-CLIPA": "clipa",
    "ViT-H-14-worldwide": "metaclip2",
}


@pytest.mark.parametrize("arch", KINDS)
def test_a_model_is_the_same_from_the_hub_from_folders_and_from_bikes_own(arch: str, tmp_path: Path) -> None:
    repository = write_repository(tmp_path / "repository", arch, KINDS[arch])
    put_on_hub(tmp_path / "hub", repository)
    names = ["hf-hub:nobody/small", f"hf-hub:nobody/small@{COMMIT}", f"local-dir:{repository}", str(repository)]

    engines = [assembled(open_checkpoint(name, offline=True)) for name in names]
    save_folder(tmp_path / "bikes", engines[0].as_checkpoint())
    shutil.rmtree(tmp_path / "hub")
    shutil.rmtree(repository)
    engines.append(assembled(load_folder(tmp_path / "bikes")))

    expected = features(engines[0], TEXTS)
    for engine in engines[1:]:
        assert all(torch.equal(ours, first) for ours, first in zip(features(engine, TEXTS), expected, strict=True))
    assert len({engine.fingerprint for engine in engines}) == 1


@torch.no_grad()
def test_features_are_those_of_open_clip(tmp_path: Path) -> None:
    repository = write_repository(tmp_path / "repository", "coca_ViT-B-32")

    engine = assembled(open_checkpoint(f"local-dir:{repository}"))

    theirs = open_clip.create_model(f"local-dir:{repository}").eval()
    pixels = torch.rand(2, 3, 32, 32)
    assert torch.allclose(engine.encoder.tower(pixels), theirs.encode_image(pixels, normalize=False), atol=1e-6)
    rows = open_clip.get_tokenizer("coca_ViT-B-32")(TEXTS)
    assert torch.allclose(engine.encode_texts(TEXTS).classes, theirs.encode_text(rows, normalize=False), atol=1e-6)


def test_the_fingerprint_covers_the_tokenizer(tmp_path: Path) -> None:
    repository = write_repository(tmp_path / "repository", "ViT-B-16-SigLIP", "siglip")
    before = assembled(open_checkpoint(str(repository)))
    file = repository / "tokenizer.json"
    file.write_text(file.read_text().replace("NFKC", "NFKD"))

    after = assembled(open_checkpoint(str(repository)))

    assert before.fingerprint != after.fingerprint
    assert before.short_digest != after.short_digest
    assert before.identity == after.identity  # features of frames do not depend on it


@pytest.mark.parametrize(
    "change",
    [{"tokenizer_kwargs": {"clean": "lower"}}, {"pool_type": "first"}, {"act_kwargs": {}}, {"heads": 4}],
)
def test_the_fingerprint_covers_what_has_no_weights(tmp_path: Path, change: dict[str, Any]) -> None:
    repository = write_repository(tmp_path, "ViT-B-16-SigLIP2", "siglip2")
    before = assembled(open_checkpoint(str(repository)))
    with changing_config(repository) as content:
        content["model_cfg"]["text_cfg"] |= change

    after = assembled(open_checkpoint(str(repository)))

    texts = ["Riding, a bike!"]
    assert not torch.allclose(before.encode_texts(texts).classes, after.encode_texts(texts).classes, atol=1e-5)
    assert before.fingerprint != after.fingerprint
    assert before.short_digest != after.short_digest


@pytest.mark.parametrize("change", [{"head_width": 8}, {"pool_type": "avg"}, {"norm_kwargs": {"eps": 0.1}}])
def test_features_of_frames_are_not_shared_with_a_tower_of_the_same_weights(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    repository = write_repository(tmp_path, "ViT-B-32")
    before = assembled(open_checkpoint(str(repository)))
    with changing_config(repository) as content:
        content["model_cfg"]["vision_cfg"] |= change

    after = assembled(open_checkpoint(str(repository)))

    assert not torch.allclose(features(before, TEXTS)[0], features(after, TEXTS)[0], atol=1e-5)
    assert before.identity != after.identity
    assert before.fingerprint != after.fingerprint
    assert before.short_digest != after.short_digest


def test_the_fingerprint_does_not_depend_on_how_defaults_are_written(tmp_path: Path) -> None:
    repository = write_repository(tmp_path, "ViT-B-16-SigLIP", "siglip")
    before = assembled(open_checkpoint(str(repository)))
    with changing_config(repository) as content:
        content["model_cfg"]["quick_gelu"] = False
        content["model_cfg"]["vision_cfg"] |= {"image_size": [32, 32], "timm_pool": "avg"}
        content["model_cfg"]["text_cfg"] = {"pad_id": 0, "output_tokens": False, **content["model_cfg"]["text_cfg"]}

    assert assembled(open_checkpoint(str(repository))).fingerprint == before.fingerprint


def test_a_tokenizer_that_changed_after_saving_is_refused(tmp_path: Path) -> None:
    repository = write_repository(tmp_path / "repository", "ViT-B-16-SigLIP", "siglip")
    save_folder(tmp_path / "bikes", open_checkpoint(str(repository)))
    file = tmp_path / "bikes" / "tokenizer.json"
    file.write_text(file.read_text().replace("NFKC", "NFKD"))

    with pytest.raises(ModelError, match=r"bikes/tokenizer\.json: is not the file that was saved"):
        load_folder(tmp_path / "bikes")


def test_a_folder_without_the_tokenizer_of_its_model_is_refused(tmp_path: Path) -> None:
    save_folder(tmp_path, open_checkpoint(str(write_repository(tmp_path / "r", "ViT-B-16-SigLIP", "siglip"))))
    content = json.loads((tmp_path / "config.json").read_text())
    del content["tokenizer"]
    (tmp_path / "config.json").write_text(json.dumps(content))

    with pytest.raises(ModelError, match=r"config\.json: does not describe its tokenizer"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sha256": 3}, "is not the file that was saved"),
        ({"clean": "upper"}, "tokenizer.clean is 'upper'"),
        ({"pad": -1}, "tokenizer.pad is"),
        ({"extra": 1}, "tokenizer has an unknown key, extra"),
    ],
)
def test_a_wrong_description_of_the_tokenizer_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    save_folder(tmp_path, open_checkpoint(str(write_repository(tmp_path / "r", "ViT-B-16-SigLIP", "siglip"))))
    content = json.loads((tmp_path / "config.json").read_text())
    content["tokenizer"] |= change
    (tmp_path / "config.json").write_text(json.dumps(content))

    with pytest.raises(ModelError, match=said):
        load_folder(tmp_path)


# -- what is missing ----------------------------------------------------------------------------------------------


def test_offline_names_every_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as refused:
        open_checkpoint("hf-hub:nobody/small", offline=True)

    message = "\n".join([str(refused.value), *refused.value.details])
    assert "its configuration and weights are not on this disk, and --offline forbids downloading them" in message
    assert "needed: open_clip_config.json of nobody/small" in message
    assert "needed: open_clip_model.safetensors of nobody/small" in message


def test_a_missing_tokenizer_is_named_and_never_replaced(tmp_path: Path) -> None:
    snapshot = put_on_hub(tmp_path / "hub", write_repository(tmp_path / "r", "ViT-B-16-SigLIP", "siglip"))
    (snapshot / "tokenizer.json").unlink()
    (tmp_path / "r" / "tokenizer.json").unlink()

    with pytest.raises(ModelError, match=r"its tokenizer is not on this disk, and --offline forbids downloading it"):
        open_checkpoint("hf-hub:nobody/small", offline=True)
    with pytest.raises(ModelError, match=r"tokenizer\.json: cannot be read \(no such file"):
        open_checkpoint(str(tmp_path / "r"))


def test_missing_weights_never_become_random_ones(tmp_path: Path) -> None:
    snapshot = put_on_hub(tmp_path / "hub", write_repository(tmp_path / "r", "ViT-B-32"))
    (snapshot / "open_clip_model.safetensors").unlink()
    (tmp_path / "r" / "open_clip_model.safetensors").unlink()

    with pytest.raises(ModelError, match=r"its weights are not on this disk"):
        open_checkpoint("hf-hub:nobody/small", offline=True)
    with pytest.raises(ModelError, match=r"has no open_clip_model\.safetensors or open_clip_pytorch_model\.bin"):
        open_checkpoint(f"local-dir:{tmp_path / 'r'}")


def test_a_tag_offline_names_its_weights_and_its_tokenizer() -> None:
    with pytest.raises(ModelError) as refused:
        open_checkpoint("ViT-B-16-SigLIP2-256,webli", offline=True)

    assert "its weights and tokenizer are not on this disk" in str(refused.value)
    needed = [line for line in refused.value.details if line.startswith("needed: ")]
    assert [line.split(" of ")[1].split(",")[0] for line in needed] == ["timm/ViT-B-16-SigLIP2-256"] * 2


def test_a_revision_picks_its_snapshot(tmp_path: Path) -> None:
    put_on_hub(tmp_path / "hub", write_repository(tmp_path / "r", "ViT-B-32"), revision="v1")

    assert open_checkpoint("hf-hub:nobody/small@v1", offline=True).name == "hf-hub:nobody/small@v1"
    with pytest.raises(ModelError, match="are not on this disk"):
        open_checkpoint("hf-hub:nobody/small@v2", offline=True)


@pytest.mark.parametrize(
    "name",
    [
        "hf-hub:",
        "hf-hub:small",
        "hf-hub:a/b/c",
        "hf-hub:../x",
        "hf-hub:a/b@",
        "hf-hub:a/b@../../x",
        "hf-hub:a/b@/etc/x",
        "hf-hub:a/b@x//y",
        "hf-hub:a/b@x/",
        "hf-hub:a b/c",
        "hf-hub:a--b/c",
        "hf-hub:-a/b",
    ],
)
def test_a_malformed_name_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=r"is not hf-hub:OWNER/NAME or hf-hub:OWNER/NAME@REVISION"):
        open_checkpoint(name, offline=True)


def test_weights_of_other_libraries_are_refused_with_their_twin() -> None:
    with pytest.raises(ModelError, match="use the same weights as -m siglip2"):
        open_checkpoint("hf-hub:google/siglip2-base-patch16-256", offline=True)
    with pytest.raises(ModelError, match=r"no such file or folder, .* use the same weights as -m base"):
        open_checkpoint("openai/clip-vit-base-patch16", offline=True)
    with pytest.raises(ModelError, match=r"no such file or folder; check the path, or use -m hf-hub:some/body for"):
        open_checkpoint("some/body", offline=True)


def test_a_model_that_cannot_run_is_refused_before_its_weights_are_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_repository(tmp_path / "r", "ViT-B-32")
    with changing_config(tmp_path / "r") as content:
        content["model_cfg"]["text_cfg"]["hf_model_name"] = "xlm-roberta-base"
    (put_on_hub(tmp_path / "hub", tmp_path / "r") / "open_clip_model.safetensors").unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hf_model, "transformers", None)

    with pytest.raises(ModelError, match=r"pip install 'bike-cli\[hf\]'"):
        open_checkpoint("hf-hub:nobody/small")


# -- where weights are from


@pytest.mark.parametrize("is_linked", [True, False])
def test_the_commit_and_the_checksum_are_recorded_in_folders(tmp_path: Path, is_linked: bool) -> None:
    snapshot = put_on_hub(tmp_path / "hub", write_repository(tmp_path / "r", "ViT-B-32"))
    weights, sha256 = snapshot / "open_clip_model.safetensors", None
    if is_linked:  # as the cache lays them out where links exist
        sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
        blob = snapshot.parents[1] / "blobs" / sha256
        blob.parent.mkdir()
        weights.rename(blob)
        weights.symlink_to(blob)

    engine = assembled(open_checkpoint("hf-hub:nobody/small", offline=True))
    save_folder(tmp_path / "bikes", engine.as_checkpoint())

    expected = HubSource("nobody/small", COMMIT, "open_clip_model.safetensors", sha256)
    assert engine.source == load_folder(tmp_path / "bikes").source == expected
    assert open_checkpoint(str(tmp_path / "r")).source is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"commit": "../x"}, r"source\.commit is '\.\./x', which is not a name"),
        ({"repository": 3}, r"source\.repository is 3"),
        ({"sha256": "abc"}, r"source\.sha256 is 'abc', which is not a checksum"),
        ({"speed": 1}, "source has an unknown key, speed"),
    ],
)
def test_a_wrong_source_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    put_on_hub(tmp_path / "hub", write_repository(tmp_path / "r", "ViT-B-32"))
    save_folder(tmp_path / "bikes", open_checkpoint("hf-hub:nobody/small", offline=True))
    content = json.loads((tmp_path / "bikes" / "config.json").read_text())
    content["source"] |= change
    (tmp_path / "bikes" / "config.json").write_text(json.dumps(content))

    with pytest.raises(ModelError, match=said):
        load_folder(tmp_path / "bikes")


# -- configurations from strangers --------------------------------------------------------------------------------


def _nested(section: str, **values: object) -> Callable[[dict[str, Any]], None]:
    return lambda config: config[section].update(values)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(speed=1), r"clip has an unknown key \(speed\)"),
        (_nested("text_cfg", speed=1), r"clip\.text_cfg has an unknown key \(speed\)"),
        (_nested("text_cfg", hf_model_name="/etc"), "hf_model_name is /etc, not OWNER/NAME of a model"),
        (_nested("text_cfg", layers=10**7), r"clip\.text_cfg\.layers is 10000000"),
        (_nested("text_cfg", context_length=10**6), r"clip\.text_cfg\.context_length is 1000000"),
        (_nested("vision_cfg", timm_model_name="hf-hub:a/b"), "would be fetched from the network"),
        (_nested("vision_cfg", timm_model_pretrained=True), "timm_model_pretrained is true"),
        (_nested("vision_cfg", image_size=64), "does not fit its architecture"),
        (_nested("text_cfg", tokenizer_kwargs={"clean": "canonicalize"}), "options of its tokenizer"),
        (_nested("text_cfg", tokenizer_kwargs={"reduction_mask": "syntax"}), "options of its tokenizer"),
        (_nested("text_cfg", hf_tokenizer_name="a/b", tokenizer_kwargs={"n": 1}), "options of its tokenizer"),
        (_nested("text_cfg", hf_tokenizer_name="a/b", tokenizer_mode="clips"), "options of its tokenizer"),
        (lambda c: c.update(text_cfg=3), "text_cfg is not an object"),
        (lambda c: c.update(custom_text="yes"), r"clip\.custom_text is 'yes'"),
        (lambda c: c.update(multimodal_cfg={"width": 10**9}), r"clip\.multimodal_cfg\.width is 1000000000"),
        (lambda c: c.pop("embed_dim"), "clip lacks embed_dim"),
    ],
)
def test_an_impossible_configuration_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    write_repository(tmp_path, "PE-Core-B-16")
    with changing_config(tmp_path) as content:
        change(content["model_cfg"])

    with pytest.raises(ModelError, match=said):
        open_checkpoint(str(tmp_path))


@pytest.mark.parametrize("content", ["{}", "[]", '{"model_cfg": 3}', "{", '{"model_cfg": {}}'])
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, content: str) -> None:
    write_repository(tmp_path, "ViT-B-32")
    (tmp_path / "open_clip_config.json").write_text(content)

    with pytest.raises(ModelError, match=r"open_clip_config\.json"):
        open_checkpoint(str(tmp_path))


def test_weights_without_a_bias_make_a_model_without_one(tmp_path: Path) -> None:
    config = small_config("MobileCLIP-S1")
    write_repository(tmp_path, "MobileCLIP-S1", init_logit_bias=-10.0, **{"embed_dim": config["embed_dim"]})

    assert getattr(open_checkpoint(str(tmp_path)).clip, "logit_bias", None) is None


@pytest.mark.parametrize(("arch", "spotting"), [("PE-Core-B-16", "words"), ("MobileCLIP-S1", "beginnings")])
def test_an_answer_says_what_weighted_its_frames(tmp_path: Path, arch: str, spotting: str) -> None:
    engine = assembled(open_checkpoint(str(write_repository(tmp_path, arch))))
    film = np.zeros((4, 20, 30, 3), dtype=np.uint8)
    config = {
        spot: bike.ClassifyConfig(spotting=bike.SpottingConfig(spot=spot), explain=True) for spot in ("words", "eot")
    }
    config["mean"] = bike.ClassifyConfig(spotting=bike.SpottingConfig(pool="mean"), explain=True)

    answers = {name: next(iter(bike.classify(engine, [film], ["a", "b c"], chosen))) for name, chosen in config.items()}

    assert [answers[name].spotting for name in ("words", "eot", "mean")] == [spotting, "eot", None]  # type: ignore[union-attr]
