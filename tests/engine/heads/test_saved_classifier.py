"""Saved classifiers are restored bit by bit, and any other file is refused."""

import json
import os
import pickle
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from bike_cli.config import AttributeConfig, SamplingConfig
from bike_cli.engine.heads.few_shot import Head
from bike_cli.engine.heads.saved_classifier import KEY, TENSORS, SavedClassifier, load_classifier, save_classifier
from bike_cli.engine.models.checkpoints import open_checkpoint
from bike_cli.errors import ModelError

CLASSES, DIM, KEYS = 3, 5, 4
SETTINGS = ("labels", "also", "method", "model", "fingerprint", "sampling", "pool", "spot", "temperature", "template")


def a_head(*, keys: int = KEYS) -> Head:
    """Return a head like Tip-Adapter's: with keys, a different number for each class."""
    rng = torch.Generator().manual_seed(3)
    return Head(
        weight=torch.randn(CLASSES, DIM, generator=rng),
        bias=torch.randn(CLASSES, generator=rng),
        keys=torch.randn(keys, DIM, generator=rng),
        key_classes=torch.tensor([2, 0, 2, 1][:keys], dtype=torch.int64),
        alpha=0.1 + 0.2,  # no short decimal
        beta=5.5,
        chosen={"alpha": 0.1 + 0.2, "beta": 5.5},
    )


def a_classifier(**changes: object) -> SavedClassifier:
    learnt = SavedClassifier(
        labels=("red square", "走る", "caf\udce9"),
        also=("juggling",),
        method="tip",
        model="tiny",
        fingerprint="a-b-c",
        sampling=SamplingConfig(frames=4, clips=2, crops=3, sampling="keyframe", draft=True),
        pool="tcs",
        spot="words",
        temperature=0.1 + 0.2,
        template="a film of {}",
        templates=("a film of {}",),
        attributes=AttributeConfig(attribute_weight=0.25, attribute_count=3),
        head=a_head(),
        manifest={"seed": 7, "shots": 1, "videos": [{"path": "a/1.mp4", "label": 0, "sha256": "00ff"}]},
    )
    return replace(learnt, **changes)  # type: ignore[arg-type]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A saved classifier."""
    saved = tmp_path / "actions.bike"
    save_classifier(a_classifier(), saved)
    return saved


def rewritten(file: Path, change: Callable[[dict[str, object], dict[str, torch.Tensor]], None]) -> Path:
    """Change header or tensors of a classifier, as another program would."""
    with safe_open(file, framework="pt") as opened:
        header = json.loads(opened.metadata()[KEY])
        tensors = {name: opened.get_tensor(name) for name in TENSORS}
    change(header, tensors)
    save_file(tensors, file, metadata={KEY: json.dumps(header)})
    return file


def assert_refused(file: Path, match: str | None = None) -> None:
    """Check that the error is a ModelError of one line that begins with the file."""
    with pytest.raises(ModelError, match=match) as refused:
        load_classifier(file)
    assert str(refused.value).startswith(f"{file}: ")
    assert "\n" not in str(refused.value)
    assert "; " in str(refused.value)  # the way out


# -- there and back -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [0, 1, KEYS])
def test_tensors_are_restored_bit_by_bit(tmp_path: Path, keys: int) -> None:
    saved = a_classifier(head=a_head(keys=keys))

    save_classifier(saved, tmp_path / "a")
    loaded = load_classifier(tmp_path / "a")

    for name in TENSORS:
        before, after = getattr(saved.head, name), getattr(loaded.head, name)
        assert (after.dtype, after.shape) == (before.dtype, before.shape)
        assert after.numpy().tobytes() == before.numpy().tobytes()
    assert (loaded.head.alpha, loaded.head.beta) == (saved.head.alpha, saved.head.beta)
    assert loaded.head.chosen == saved.head.chosen


@pytest.mark.parametrize("name", SETTINGS)
def test_everything_that_scores_depend_on_is_restored(file: Path, name: str) -> None:
    loaded = load_classifier(file)

    assert getattr(loaded, name) == getattr(a_classifier(), name)
    assert type(getattr(loaded, name)) is type(getattr(a_classifier(), name))


def test_the_manifest_is_restored(file: Path) -> None:
    assert load_classifier(file).manifest == a_classifier().manifest


def test_the_same_classifier_is_the_same_file(file: Path, tmp_path: Path) -> None:
    save_classifier(load_classifier(file), tmp_path / "again")

    assert (tmp_path / "again").read_bytes() == file.read_bytes()


def test_views_of_other_tensors_are_saved_with_their_visible_content(tmp_path: Path) -> None:
    wide = torch.randn(DIM, CLASSES, generator=torch.Generator().manual_seed(1))
    save_classifier(a_classifier(head=replace(a_head(), weight=wide.T)), tmp_path / "a")

    assert torch.equal(load_classifier(tmp_path / "a").head.weight, wide.T)


# -- one word for it ----------------------------------------------------------------------------------------------


def test_the_digest_survives_saving(file: Path) -> None:
    assert load_classifier(file).digest == a_classifier().digest


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ("red square", "走る", "blue circle")},
        {"fingerprint": "a-b-d"},
        {"sampling": SamplingConfig(frames=5, clips=2, crops=3, sampling="keyframe", draft=True)},
        {"pool": "mean"},
        {"spot": "eot"},
        {"temperature": 0.3},
        {"template": "{}"},
        {"head": replace(a_head(), alpha=0.3)},
        {"head": replace(a_head(), beta=1.0)},
        {"head": replace(a_head(), bias=torch.zeros(CLASSES))},
        {"head": replace(a_head(), key_classes=torch.tensor([0, 0, 2, 1]))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_classifiers_with_other_scores_have_another_digest(change: dict[str, object]) -> None:
    assert a_classifier(**change).digest != a_classifier().digest


def test_the_digest_does_not_depend_on_the_manifest() -> None:
    assert a_classifier(manifest={}).digest == a_classifier().digest


# -- the file itself ----------------------------------------------------------------------------------------------


def test_the_file_is_a_safetensors_file_that_ten_lines_can_read(file: Path) -> None:
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, rest = json.loads(content[8 : 8 + length]), content[8 + length :]
    settings = json.loads(header.pop("__metadata__")["bike"])
    begin, end = header["weight"]["data_offsets"]

    assert np.frombuffer(rest[begin:end], "<f4").tolist() == a_head().weight.flatten().tolist()
    assert sorted(header) == sorted(TENSORS)
    assert settings["version"] == 1
    assert settings["labels"] == list(a_classifier().labels)


def test_the_file_holds_numbers_and_its_header_and_no_pickle(file: Path) -> None:
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    numbers = 4 * (CLASSES * DIM + CLASSES + KEYS * DIM) + 8 * KEYS

    assert len(content) == 8 + length + numbers
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(content)


def test_a_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    trap = tmp_path / "actions.bike"
    torch.save({"weight": Trap()}, trap)
    assert_refused(trap)
    trap.write_bytes(pickle.dumps(Trap()))
    assert_refused(trap)

    assert not (tmp_path / "sprung").exists()


# -- files that are none ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 0.1, 0.5, 0.9, -1])
def test_a_file_cut_short_is_refused(file: Path, kept: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])

    assert_refused(file, "not a complete bike classifier")


def test_a_file_cut_between_header_and_numbers_is_refused(file: Path) -> None:
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    file.write_bytes(content[: 8 + length])

    assert_refused(file, "not a complete bike classifier")


@pytest.mark.parametrize(
    "content",
    [
        b"garbage",
        bytes(1000),
        b"\xff" * 1000,
        b'{"labels": ["a"], "version": 1}',
        b"PK\x03\x04" + bytes(100),
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 6) + b'{"a":1',
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 50_000) + b"[" * 50_000,
    ],
    ids=["text", "zeros", "ones", "json", "zip", "list", "empty", "no json", "endless", "deep"],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    foreign = tmp_path / "foreign.bike"
    foreign.write_bytes(content)

    assert_refused(foreign, "not a complete bike classifier")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {KEY: ""}, {KEY: "{"}, {KEY: "[" * 100_000}], ids=str)
def test_weights_of_another_kind_are_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    weights = tmp_path / "model.safetensors"
    save_file({name: getattr(a_head(), name) for name in TENSORS}, weights, metadata=metadata)

    assert_refused(weights, "not a complete bike classifier")


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path / "none.bike", "no such classifier")
    assert_refused(tmp_path, "no such classifier")


@pytest.mark.parametrize("version", [0, 3, "1", None, [], 1.5])
def test_another_version_is_refused(file: Path, version: object) -> None:
    rewritten(file, lambda header, _: header.update(version=version))

    assert_refused(file, f"version {re.escape(str(version))}, but this bike reads 1 and 2; update bike")


@pytest.mark.parametrize("header", [[], 1, None, "x", {}], ids=repr)
def test_a_header_of_another_kind_is_refused(file: Path, header: object) -> None:
    save_file({name: getattr(a_head(), name) for name in TENSORS}, file, metadata={KEY: json.dumps(header)})

    assert_refused(file, "version None")


@pytest.mark.parametrize("name", [*SETTINGS, "manifest", "alpha", "beta", "chosen"])
def test_an_incomplete_header_is_refused(file: Path, name: str) -> None:
    rewritten(file, lambda header, _: header.pop(name))

    assert_refused(file, "not a complete bike classifier")


@pytest.mark.parametrize("name", TENSORS)
def test_a_file_that_lacks_a_tensor_is_refused(file: Path, name: str) -> None:
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    save_file({other: getattr(a_head(), other) for other in TENSORS if other != name}, file, metadata=metadata)

    assert_refused(file, "not a complete bike classifier")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("weight", (CLASSES - 1, DIM)),
        ("weight", (CLASSES + 1, DIM)),
        ("weight", (CLASSES, DIM + 1)),
        ("weight", (CLASSES * DIM,)),
        ("weight", (1, CLASSES, DIM)),
        ("bias", (CLASSES - 1,)),
        ("bias", (CLASSES, 1)),
        ("bias", ()),
        ("keys", (KEYS - 1, DIM)),
        ("keys", (KEYS, DIM - 1)),
        ("keys", (KEYS,)),
        ("key_classes", (KEYS + 1,)),
        ("key_classes", ()),
    ],
)
def test_tensors_that_do_not_fit_one_another_are_refused(file: Path, name: str, shape: tuple[int, ...]) -> None:
    other = torch.zeros(shape, dtype=getattr(a_head(), name).dtype)

    rewritten(file, lambda _, tensors: tensors.update({name: other}))

    assert_refused(file, "not a complete bike classifier")


@pytest.mark.parametrize("classes", [[2, 0, 2, CLASSES], [-1, 0, 2, 1]])
def test_keys_of_unknown_classes_are_refused(file: Path, classes: list[int]) -> None:
    rewritten(file, lambda _, tensors: tensors.update(key_classes=torch.tensor(classes)))

    assert_refused(file, "keys have classes that it does not have")


@pytest.mark.parametrize(
    "labels", [["a", "b"], ["a", "b", "c", "d"], [], "abc", None, {"a": 1, "b": 2, "c": 3}], ids=str
)
def test_labels_that_do_not_fit_the_head_are_refused(file: Path, labels: object) -> None:
    rewritten(file, lambda header, _: header.update(labels=labels))

    assert_refused(file, "not a complete bike classifier")


@pytest.mark.parametrize("sampling", [[], None, {"frames": 4, "speed": 2}, {"frames": "four"}], ids=str)
def test_a_malformed_sampling_is_refused(file: Path, sampling: object) -> None:
    rewritten(file, lambda header, _: header.update(sampling=sampling))

    assert_refused(file, "not a complete bike classifier")


# Not random damage, but edits by hand or by another program. Without checks, each would end in a traceback.
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sampling", {"frames": 0}),
        ("temperature", "hot"),
        ("temperature", -1.0),
        ("labels", [1, 2, 3]),
        ("also", [1]),
        ("template", 5),
        ("alpha", "x"),
        ("beta", None),
    ],
    ids=str,
)
def test_a_value_of_the_wrong_type_or_range_is_refused(file: Path, name: str, value: object) -> None:
    rewritten(file, lambda header, _: header.update({name: value}))

    assert_refused(file)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("key_classes", torch.zeros(KEYS)),
        ("key_classes", torch.zeros(KEYS, 2, dtype=torch.int64)),
        ("weight", torch.zeros(CLASSES, DIM, dtype=torch.int64)),
    ],
    ids=["classes of floats", "classes in pairs", "whole weights"],
)
def test_tensors_of_another_type_are_refused(file: Path, name: str, tensor: torch.Tensor) -> None:
    rewritten(file, lambda _, tensors: tensors.update({name: tensor}))

    assert_refused(file)


# -- whole or not at all ------------------------------------------------------------------------------------------


@pytest.fixture
def _full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(file: Path, content: bytes) -> None:
        file.write_text("half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_half)


@pytest.mark.usefixtures("_full_disk")
def test_an_older_file_survives_a_write_that_fails(tmp_path: Path) -> None:
    older = tmp_path / "actions.bike"
    older.write_text("of last week")

    with pytest.raises(OSError, match="No space left"):
        save_classifier(a_classifier(), older)

    assert older.read_bytes() == b"of last week"
    assert list(tmp_path.iterdir()) == [older]


@pytest.mark.usefixtures("_full_disk")
def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        save_classifier(a_classifier(), tmp_path / "actions.bike")

    assert list(tmp_path.iterdir()) == []


def test_an_older_file_is_replaced_and_nothing_else_is_left(file: Path) -> None:
    save_classifier(a_classifier(method="probe"), file)

    assert load_classifier(file).method == "probe"
    assert list(file.parent.iterdir()) == [file]


def test_a_symbolic_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)

    save_classifier(a_classifier(method="probe"), link)

    assert link.is_symlink()
    assert load_classifier(file).method == "probe"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_the_file_has_the_permissions_of_any_new_file(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        save_classifier(a_classifier(), tmp_path / "a")
        assert os.umask(umask) == umask  # as it was
    finally:
        os.umask(before)

    assert (tmp_path / "a").stat().st_mode & 0o777 == mode


def test_a_missing_folder_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        save_classifier(a_classifier(), tmp_path / "none" / "a")


# -- numbers that are none ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["weight", "bias", "keys"])
def test_a_tensor_with_nan_or_infinity_is_refused_with_its_name(file: Path, name: str, value: float) -> None:
    def spoil(_: object, tensors: dict[str, torch.Tensor]) -> None:
        tensors[name].reshape(-1)[-1] = value

    rewritten(file, spoil)

    assert_refused(file, rf"a tensor contains NaN or infinity \({name}\)")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "1", None, [1]], ids=str)
@pytest.mark.parametrize("name", ["alpha", "beta", "temperature"])
def test_a_number_that_is_not_finite_is_refused(file: Path, name: str, value: object) -> None:
    rewritten(file, lambda header, _: header.update({name: value}))

    assert_refused(file)


@pytest.mark.parametrize(("name", "value"), [("chosen", []), ("chosen", {"trust": "x"}), ("method", 3)], ids=str)
def test_a_fit_that_is_malformed_is_refused(file: Path, name: str, value: object) -> None:
    rewritten(file, lambda header, _: header.update({name: value}))

    assert_refused(file, "trust" if isinstance(value, dict) else name)


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert_refused(tmp_path / "pipe", "a named pipe")


def test_a_classifier_given_as_a_model_names_the_right_flag(file: Path) -> None:
    with pytest.raises(ModelError) as caught:
        open_checkpoint(str(file), offline=True)

    assert str(caught.value.args[0]) == (
        f"{file}: is a saved classifier, not a model; use bike classify --classifier {file}"
    )


def test_descriptions_are_kept_and_need_a_newer_version(tmp_path: Path) -> None:
    plain, described = (
        a_classifier(),
        a_classifier(descriptions={"走る": ("a person runs", "fast")}, description_use="only"),
    )
    for name, classifier in (("plain", plain), ("described", described)):
        save_classifier(classifier, tmp_path / name)
    headers = {name: json.loads(safe_open(tmp_path / name, "pt").metadata()[KEY]) for name in ("plain", "described")}
    restored = load_classifier(tmp_path / "described")

    assert (headers["plain"]["version"], headers["described"]["version"]) == (1, 2)
    assert not {"descriptions", "description_use"} & set(headers["plain"])
    assert (restored.descriptions, restored.description_use) == (described.descriptions, "only")
    assert restored.settings == {**plain.settings, "descriptions": "only"}
    assert restored.digest == described.digest != plain.digest
    assert load_classifier(tmp_path / "plain").descriptions == {}


@pytest.mark.parametrize("given", [{}, {"juggling": ["a"]}, {"走る": "a"}, ["走る"], None], ids=repr)
def test_descriptions_of_other_labels_are_refused(file: Path, given: object) -> None:
    rewritten(file, lambda header, _: header.update(version=2, descriptions=given, description_use="add"))

    assert_refused(file, "is not a complete bike classifier")
