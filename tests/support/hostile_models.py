"""Malicious model files: each function writes a file or folder below a path, and returns the value for -m."""

import io
import json
import os
import pickle
import socket
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from small_models import tiny_checkpoint

from bike_cli.engine.models.folder import save_folder

Config = dict[str, Any]
Maker = Callable[[Path], Path]


def folder(path: Path, change: Callable[[Config], object] = lambda _: None) -> Path:
    """Write a small model of bike's own, with a changed configuration."""
    save_folder(path, tiny_checkpoint())
    config = json.loads((path / "config.json").read_text())
    change(config)
    (path / "config.json").write_text(json.dumps(config))
    return path


def folder_with_text(path: Path, text: str) -> Path:
    folder(path)
    (path / "config.json").write_text(text)
    return path


def folder_with_tensor(path: Path, name: str, value: float, dtype: torch.dtype = torch.float32) -> Path:
    """Write a small model in which one number of one tensor is `value`."""
    folder(path)
    tensors = load_file(path / "model.safetensors")
    tensor = tensors[name].to(dtype).clone()
    tensor.reshape(-1)[-1] = value
    save_file({**tensors, name: tensor}, path / "model.safetensors")
    return path


def archive(path: Path, pickled: bytes, *, compression: int = zipfile.ZIP_STORED) -> Path:
    """Write a file that looks like one of torch.save, with a pickle of our own."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", "little")
    return path


def archive_of(path: Path, *records: tuple[str, bytes]) -> Path:
    """Write an archive with these records in this order."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in records:
            file.writestr(name, content)
        file.writestr("archive/version", "3\n")
    return path


def two_lists(path: Path) -> Path:
    """Write an archive with two lists of records: the end gives the place of the first, and the size of the second."""
    archive(path, BYTEARRAY)
    hostile = path.read_bytes()
    archive(path, torch_pickle(b"}"))
    harmless = path.read_bytes()
    _, _, _, _, _, _, start, _ = struct.unpack("<4s4H2LH", hostile[-22:])
    end = bytearray(harmless[-22:])
    end[16:20] = struct.pack("<L", start)
    path.write_bytes(hostile[:-22] + harmless[:-22] + bytes(end))
    return path


def bomb_of_800_mb(path: Path) -> Path:
    """Write a pickle of 800 MB of zeros that deflates to 778 kB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("archive/data.pkl", "w") as record:
            record.write(b"\x80\x02X" + struct.pack("<I", 800_000_000))
            for _ in range(800):
                record.write(bytes(1_000_000))
            record.write(b".")
        file.writestr("archive/version", "3\n")
    assert path.stat().st_size < 1_000_000
    return path


def torch_pickle(build: bytes) -> bytes:
    """Return a pickle of protocol 2 with these opcodes in it."""
    return b"\x80\x02" + build + b"."


def call(name: str, arguments: bytes) -> bytes:
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n".encode() + b"(" + arguments + b"tR"


def number(value: int) -> bytes:
    packed = pickle.encode_long(value)
    return b"\x8a" + bytes([len(packed)]) + packed


BYTEARRAY = torch_pickle(call("builtins.bytearray", number(10**11)))
SET_OF_ARRAY = torch_pickle(call("builtins.set", call("builtins.bytearray", number(10**10))))
# Each tuple holds the one before it twice; the last is the key of a dict, and its hash visits 2**40 objects.
SHARED_KEY = torch_pickle(b"})" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(40)) + b"Ns")
DEEP_KEY = torch_pickle(b"})" + b"\x85" * 2_000_000 + b"Ns")  # its hash recurses two million times in C
MANY_OBJECTS = torch_pickle(b"](" + b"N" * 20_000_000 + b"e")
TENSOR_CLASS = torch_pickle(call("torch.FloatTensor", number(10**11)))
OTHER_NAME = torch_pickle(call("UserDict.Counter", call("builtins.bytearray", number(10**10))))


def storage_larger_than_the_file(path: Path) -> Path:
    """Write a tensor of 10**12 numbers, of which there are six."""
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(6)}, buffer)
    with zipfile.ZipFile(buffer) as source:
        records = {record.filename: source.read(record) for record in source.infolist()}
    name = next(name for name in records if name.endswith("data.pkl"))
    records[name] = records[name].replace(b"K\x06tq", number(10**12) + b"tq", 1)
    with zipfile.ZipFile(path, "w") as target:
        for record, content in records.items():
            target.writestr(record, content)
    return path


def legacy_storage(path: Path) -> Path:
    """Write the same without an archive, as PyTorch did before 1.6."""
    torch.save({"a": torch.zeros(6)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    changed = content.replace(b"K\x06", number(10**12), 1)
    assert changed != content
    path.write_bytes(changed)
    return path


def save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def expanded(path: Path) -> Path:
    """Write a tensor of 10**12 numbers that are one number seen again and again."""
    return save(path, {"a": torch.zeros(1).expand(10**6, 10**6)})


def views(path: Path) -> Path:
    """Write 20,000 tensors that are all of the same megabyte."""
    storage = torch.zeros(2**18)
    return save(path, {f"t{i}": storage.view(2**18) for i in range(20_000)})


def sparse(path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions of PyTorch warn of the checks even where they are on
        return _sparse(path)


def _sparse(path: Path) -> Path:
    return save(path, {"a": torch.sparse_coo_tensor([[0], [0]], [1.0], (10**6, 10**6), check_invariants=True)})


def many_layers(path: Path) -> Path:
    """Write an OpenAI state dict whose names announce 100,000 wide layers."""
    sizes = {
        "ln_final.weight": (4096,),
        "positional_embedding": (77, 4096),
        "token_embedding.weight": (512, 4096),
        "text_projection": (4096, 64),
        "visual.proj": (64, 64),
        "visual.conv1.weight": (64, 3, 16, 16),
        "visual.positional_embedding": (5, 64),
        "input_resolution": (),
    }
    state = {name: torch.zeros(size, dtype=torch.float16) for name, size in sizes.items()}
    state["visual.transformer.resblocks.0.a"] = one = torch.zeros(())
    return save(path, state | {f"transformer.resblocks.{i}.a": one for i in range(20_000)})


def safetensors_header(path: Path, header: bytes, *, announced: int | None = None) -> Path:
    path.write_bytes(struct.pack("<Q", len(header) if announced is None else announced) + header)
    return path


def many_records(path: Path) -> Path:
    """Write an archive of a million empty records."""
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = entry * 1_000_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(directory), 30, 0)
    path.write_bytes(b"PK\x03\x04" + bytes(26) + directory + end)
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def bound_socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # a name below 108 bytes
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)
    return path


def loop(path: Path) -> Path:
    path.symlink_to(path.name)
    return path


def nested(depth: int) -> str:
    return '{"format": ' + "[" * depth + "]" * depth + "}"
