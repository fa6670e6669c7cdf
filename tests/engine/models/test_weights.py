"""Untrusted weights files: each kind of fault is named, and nothing is executed."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bike_cli.engine.models.json_files import read_json
from bike_cli.engine.models.weights import check_range, fill, read_state
from bike_cli.errors import ModelError

STATE = {"module.a.weight": torch.arange(6.0).reshape(2, 3), "module.a.bias": torch.zeros(2)}


class Hostile:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.path}'",)


def test_prefixes_of_parallel_training_are_dropped(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": STATE}, tmp_path / "a.pt")

    state = read_state(tmp_path / "a.pt")

    assert state.head is None
    assert torch.equal(state.clip["a.weight"], STATE["module.a.weight"])


@pytest.mark.parametrize("name", ["a.pt", "a.bin", "no suffix"])
def test_content_and_not_the_name_tells_the_kind(tmp_path: Path, name: str) -> None:
    save_file(STATE, tmp_path / name)

    assert read_state(tmp_path / name).clip.keys() == {"a.weight", "a.bias"}


def test_a_header_that_begins_like_a_pickle_is_still_safetensors(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    for length in range(256):  # until the header is 128 bytes beyond a multiple of 256
        save_file({"a" * (length + 1): torch.zeros(1)}, file)
        if file.read_bytes()[0] == 0x80:
            break

    assert file.read_bytes()[0] == 0x80
    assert len(read_state(file).clip) == 1


def test_a_hostile_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save({"state_dict": {"a": Hostile(trace)}}, tmp_path / "zip.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Hostile(trace)))
    assert pickle.loads(pickle.dumps(Hostile(tmp_path / "armed"))) == 0  # the payload works

    for name in ("zip.pt", "plain.pt"):
        with pytest.raises(ModelError, match=f"{name}: .*(never runs|opcode)"):
            read_state(tmp_path / name)

    assert (tmp_path / "armed").exists()
    assert not trace.exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*torch.jit")
def test_a_torchscript_program_is_refused_with_the_way_out(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "ViT-B-32.pt")

    with pytest.raises(ModelError, match=r"TorchScript program, which bike never runs; use --model"):
        read_state(tmp_path / "ViT-B-32.pt")


@pytest.mark.parametrize("share", [0.2, 0.9, 0.999])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_truncated_file_is_reported_as_damaged(tmp_path: Path, suffix: str, share: float) -> None:
    file, state = tmp_path / f"a.{suffix}", {"a": torch.randn(200, 200)}
    if suffix == "pt":
        torch.save(state, file)
    else:
        save_file(state, file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])

    with pytest.raises(ModelError, match=r"a\.\w+: .*(damaged|not a complete safetensors).*; download it again"):
        read_state(file)


def save_as(kind: str, file: Path) -> bytes:
    if kind == "safetensors":
        save_file(STATE, file)
    else:
        torch.save(STATE, file, _use_new_zipfile_serialization=kind == "zip")
    return file.read_bytes()


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_every_cut_is_a_model_error(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "a.pt"
    whole = save_as(kind, file)

    for length in range(0, len(whole), max(1, len(whole) // 100)):
        file.write_bytes(whole[:length])
        with pytest.raises(ModelError):
            read_state(file)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_flipped_bytes_are_a_model_error_or_harmless(tmp_path: Path, kind: str) -> None:
    file, rng = tmp_path / "a.pt", np.random.default_rng(0)
    whole = np.frombuffer(save_as(kind, file), dtype=np.uint8)
    refused = 0

    for _ in range(150):
        damaged = whole.copy()
        damaged[rng.integers(0, min(600, len(whole)), 3)] = rng.integers(0, 256, 3)
        file.write_bytes(damaged.tobytes())
        try:
            read_state(file)
        except ModelError:
            refused += 1

    assert refused > 10


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"version https://git-lfs.github.com/spec/v1\n",
        b"\x89PNG\r\n\x1a\n\0\0",
        b"\0\0\0\x18ftypmp42\0\0",
    ],
    ids=["empty", "text", "git-lfs pointer", "picture", "video"],
)
def test_another_kind_of_file_holds_no_weights(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)

    with pytest.raises(ModelError, match=r"a\.pt: contains no weights; give"):
        read_state(tmp_path / "a.pt")


def test_another_zip_file_is_not_a_pytorch_file(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("hello")
    shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "in")

    with pytest.raises(ModelError, match=r"a\.zip: is damaged or is not a PyTorch file"):
        read_state(tmp_path / "a.zip")


def test_a_missing_file_and_a_folder_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(ModelError, match="cannot be read"):
            read_state(path)


@pytest.mark.parametrize(
    ("content", "said"), [(torch.zeros(3), "contains a Tensor"), ([1], "contains a list"), ({"a": 3}, "'a' is a int")]
)
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: object, said: str) -> None:
    torch.save(content, tmp_path / "a.pt")

    with pytest.raises(ModelError, match=said):
        read_state(tmp_path / "a.pt")


def test_half_precision_is_widened_when_filled() -> None:
    layer = nn.Linear(3, 2)

    fill(layer, {"weight": torch.full((2, 3), 0.5, dtype=torch.float16), "bias": torch.zeros(2)}, origin="a")

    assert layer.weight.dtype == torch.float32
    assert layer.weight.tolist() == [[0.5] * 3] * 2


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"weight": torch.zeros(2, 3)}, "1 missing: bias"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "x": torch.zeros(1)}, "1 unexpected: x"),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, "1 with a different shape: weight"),
    ],
)
def test_tensors_that_do_not_fit_are_named(state: dict[str, torch.Tensor], said: str) -> None:
    with pytest.raises(ModelError, match=rf"^a: does not fit its architecture \({said}\)"):
        fill(nn.Linear(3, 2), state, origin="a")


@pytest.mark.parametrize("text", ["{", "[1]", "\xff"])
def test_json_that_is_not_an_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text, encoding="latin-1")

    with pytest.raises(ModelError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


# -- what training programs save is still read --------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_whole_training_checkpoint_is_read(tmp_path: Path, zipped: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])  # it keeps a Counter
    content = {
        "epoch": 3,
        "state_dict": model.state_dict(),  # an OrderedDict with an attribute
        "ema": dict(model.named_parameters()),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "shape": torch.Size([2, 3]),
        "raw": b"bytes",
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "history": [{"loss": 0.5, "top1": (1, 2)}] * 1000,
    }
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)

    state = read_state(tmp_path / "a.pt")

    assert torch.equal(state.clip["0.weight"], model[0].weight)
    assert state.clip.keys() == model.state_dict().keys()


def test_weights_that_are_tied_are_read(tmp_path: Path) -> None:
    weight = torch.randn(100, 100)
    torch.save({"a": weight, "b": weight, "c": weight[:50], "d": weight.T, "e": weight}, tmp_path / "a.pt")

    assert torch.equal(read_state(tmp_path / "a.pt").clip["d"], weight.T)


@pytest.mark.parametrize("name", [("a", "b"), 3, None, b"a"], ids=str)
def test_a_name_that_is_not_a_string_is_refused(tmp_path: Path, name: object) -> None:
    torch.save({name: torch.zeros(1)}, tmp_path / "a.pt")

    with pytest.raises(ModelError, match="a name in its state dict is a"):
        read_state(tmp_path / "a.pt")


def test_weights_beyond_half_precision_are_refused_where_it_is_asked_for() -> None:
    check_range({"a": torch.full((2,), 65504.0), "n": torch.tensor(10**9)}, torch.float16, origin="m")

    with pytest.raises(ModelError, match=r"^m: has weights beyond 65504, the range of float16 \(a\)"):
        check_range({"a": torch.full((2,), -65536.0)}, torch.float16, origin="m")
