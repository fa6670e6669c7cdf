"""bike's own folders: what is written is restored, and faults are named."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import tiny_checkpoint

from bike_cli.config import SamplingConfig, TrainingRecord
from bike_cli.engine.models.folder import load_folder, save_folder
from bike_cli.engine.models.parts import Checkpoint
from bike_cli.engine.models.training_records import training_of
from bike_cli.errors import ModelError


@pytest.fixture
def folder(tmp_path: Path, checkpoint: Checkpoint) -> Path:
    save_folder(tmp_path / "model", checkpoint)
    return tmp_path / "model"


def rewrite(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def states(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    modules = {"clip": checkpoint.clip, "temporal": checkpoint.temporal_head, "attribute": checkpoint.attribute_head}
    return {f"{p}.{n}": t for p, m in modules.items() if m is not None for n, t in m.state_dict().items()}


@pytest.mark.parametrize("tower", ["vit", "resnet", "convnext"])
def test_a_checkpoint_is_restored_completely(tmp_path: Path, tower: str) -> None:
    before = tiny_checkpoint(tower)
    save_folder(tmp_path / "m", before)

    after = load_folder(tmp_path / "m")

    assert (after.name, after.licence, after.image, after.recipe) == ("small one", "MIT", before.image, before.recipe)
    assert after.clip_config == before.clip_config
    assert states(after).keys() == states(before).keys()
    assert all(torch.equal(tensor, states(after)[name]) for name, tensor in states(before).items())


def test_missing_heads_stay_missing(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_folder(tmp_path / "m", replace(checkpoint, temporal_head=None, attribute_head=None, licence=None))

    after = load_folder(tmp_path / "m")

    assert (after.temporal_head, after.attribute_head, after.licence) == (None, None, None)


RECORD = TrainingRecord(("running", "jumping"), SamplingConfig(frames=4, sampling="dense"), "mean", ("swimming",))


def test_what_a_model_was_trained_for_is_restored(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_folder(tmp_path / "m", replace(checkpoint, training=RECORD))

    assert load_folder(tmp_path / "m").training == RECORD
    assert training_of(str(tmp_path / "m")) == RECORD


def test_a_record_without_labels_is_restored(tmp_path: Path, checkpoint: Checkpoint) -> None:
    record = TrainingRecord((), SamplingConfig(frames=16), "scores")
    save_folder(tmp_path / "m", replace(checkpoint, training=record))

    assert training_of(str(tmp_path / "m")) == record


def test_a_model_without_training_can_be_read_by_version_0_1(folder: Path) -> None:
    keys = {"format", "version", "name", "licence", "clip", "image", "recipe", "temporal_heads", "attribute_head"}

    assert json.loads((folder / "config.json").read_text()).keys() == keys
    assert training_of(str(folder)) is None


def test_only_a_folder_of_bike_records_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text("broken")
    (tmp_path / "piped").mkdir()
    os.mkfifo(tmp_path / "piped" / "config.json")
    monkeypatch.chdir(tmp_path)

    names = ("tiny", "base", "", "ViT-B-32,openai", "no/such/folder", "piped", "~nobody-here/x", "a\0b")
    assert [training_of(name) for name in names] == [None] * len(names)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.clear(), "training is not an object with the keys also, labels, pool, sampling"),
        (lambda t: t.update(more=1), "training is not an object with the keys"),
        (lambda t: t.update(labels="running"), "training.labels is not a list of texts"),
        (lambda t: t.update(labels=["running", 1]), "training.labels is not a list of texts"),
        (lambda t: t.update(labels=["running", " "]), "training.labels is not a list of texts"),
        (lambda t: t.update(also=None), "training.also is not a list of texts"),
        (lambda t: t.update(pool="max"), "training: .*pool is 'max'"),
        (lambda t: t.update(pool=None), "training.pool is missing"),
        (lambda t: t.update(sampling=8), "training.sampling is not an object"),
        (lambda t: t["sampling"].update(frames=0), "training: frames is 0"),
        (lambda t: t["sampling"].update(frames="8"), "training: .*frames is '8'"),
        (lambda t: t["sampling"].update(model="base"), "training.sampling has missing or unknown keys"),
        (lambda t: t["sampling"].pop("clips"), "training.sampling has missing or unknown keys"),
    ],
)
def test_a_malformed_record_of_training_is_named(
    tmp_path: Path, checkpoint: Checkpoint, change: Callable[[dict[str, object]], object], said: str
) -> None:
    save_folder(tmp_path / "m", replace(checkpoint, training=RECORD))
    rewrite(tmp_path / "m", lambda config: change(config["training"]))  # type: ignore[arg-type]

    for read in (lambda: load_folder(tmp_path / "m"), lambda: training_of(str(tmp_path / "m"))):
        with pytest.raises(ModelError, match=said) as error:
            read()
        assert str(error.value).startswith(f"{tmp_path}/m/config.json: ")


def test_half_precision_halves_the_file_and_loads_as_fp32(folder: Path, tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_folder(tmp_path / "half", checkpoint, dtype=torch.float16)

    after = load_folder(tmp_path / "half")

    sizes = [(f / "model.safetensors").stat().st_size for f in (tmp_path / "half", folder)]
    assert sizes[0] < 0.51 * sizes[1]
    assert {t.dtype for t in states(after).values() if t.is_floating_point()} == {torch.float32}
    assert torch.equal(after.clip.visual.proj, checkpoint.clip.visual.proj.half().float())
    assert torch.equal(after.clip.logit_scale, checkpoint.clip.logit_scale)  # never rounded


def test_rows_of_unseen_tokens_are_not_stored(tmp_path: Path) -> None:
    sparse = tiny_checkpoint()
    embedding = sparse.clip.token_embedding.weight
    with torch.no_grad():
        embedding[300:49400] = 0
    save_folder(tmp_path / "m", sparse)

    tensors = load_file(tmp_path / "m" / "model.safetensors")

    assert tensors["clip.token_embedding.values"].shape == (308, 64)
    assert tensors["clip.token_embedding.rows"].dtype == torch.int32
    assert torch.equal(load_folder(tmp_path / "m").clip.token_embedding.weight, embedding)


def test_a_model_card_next_to_the_model_survives_another_save(folder: Path, checkpoint: Checkpoint) -> None:
    (folder / "README.md").write_text("a card")

    save_folder(folder, replace(checkpoint, name="other"))

    assert {p.name for p in folder.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    assert load_folder(folder).name == "other"


def test_a_failed_save_leaves_the_old_model(folder: Path, checkpoint: Checkpoint) -> None:
    broken = replace(checkpoint, clip_config={"embed_dim": object()})

    with pytest.raises(TypeError):
        save_folder(folder, broken)

    assert load_folder(folder).name == "small one"
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(format="cat"), "is not a bike model"),
        (lambda c: c.update(version=2), r"is of version 2, but this bike reads version 1; upgrade bike"),
        (lambda c: c.pop("recipe"), r"missing or unknown keys \(recipe\)"),
        (lambda c: c.update(extra=1), r"missing or unknown keys \(extra\)"),
        (lambda c: c.update(clip=3), "clip is a int, not an object"),
        (lambda c: c["clip"].pop("embed_dim"), "clip lacks embed_dim"),
        (lambda c: c["clip"].update(custom_text=True), r"does not fit its architecture \(.* missing: text\."),
        (lambda c: c["clip"]["vision_cfg"].update(timm_model_name="hf-hub:a/b"), "fetched from the network"),
        (lambda c: c["clip"].update(embed_dim=32), "with a different shape"),
        (lambda c: c["image"].update(side="big"), r"image\.side is 'big'"),
        (lambda c: c["image"].pop("mean"), "image lacks mean"),
        (lambda c: c["recipe"].update(magic=1), "recipe has an unknown key, magic"),
        (lambda c: c.update(temporal_heads=5), "5 attention heads do not divide"),
        (lambda c: c.update(temporal_heads=None), r"does not describe \(temporal\."),
        (lambda c: c.update(attribute_head=False), r"does not describe \(attribute\."),
    ],
)
def test_a_wrong_config_is_named(folder: Path, change: Callable[[dict[str, object]], object], said: str) -> None:
    rewrite(folder, change)

    with pytest.raises(ModelError, match=said):
        load_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()

    with pytest.raises(ModelError, match=name):
        load_folder(folder)


def test_missing_weights_are_named(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["temporal.frame_position_embeddings.weight"]
    save_file(tensors, folder / "model.safetensors")

    with pytest.raises(ModelError, match=r"temporal head: .*\(1 missing: frame_position_embeddings.weight"):
        load_folder(folder)


def test_rows_beyond_the_vocabulary_are_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["clip.token_embedding.weight"]
    rows = {"clip.token_embedding.rows": torch.tensor([0, 49408]), "clip.token_embedding.values": torch.zeros(2, 64)}
    save_file(tensors | rows, folder / "model.safetensors")

    with pytest.raises(ModelError, match="do not make an embedding of 49408 rows"):
        load_folder(folder)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("recipe", "temperature", 0), ("recipe", "spot", "wrods"), ("image", "side", 64)],
)
def test_a_recipe_that_does_not_fit_is_refused(folder: Path, section: str, key: str, value: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    config[section][key] = value
    (folder / "config.json").write_text(json.dumps(config))

    with pytest.raises(ModelError, match="save the model again"):
        load_folder(folder)


def test_a_number_that_overflows_in_half_precision_is_not_saved(tmp_path: Path) -> None:
    large = tiny_checkpoint()
    with torch.no_grad():
        large.clip.ln_final.bias[0] = 1e6

    with pytest.raises(
        ModelError, match=r"small one as float16: a tensor contains NaN or infinity \(clip.ln_final.bias\)"
    ):
        save_folder(tmp_path / "m", large, dtype=torch.float16)

    assert not (tmp_path / "m" / "config.json").exists()
