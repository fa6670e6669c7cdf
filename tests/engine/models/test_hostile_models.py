"""Malicious model files are refused in seconds, without the memory that they request, and with a reason."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import hostile_models as hostile
import pytest
import torch
from safetensors.torch import save_file

from bike_cli.engine.models.checkpoints import open_checkpoint
from bike_cli.errors import ModelError

TESTS = Path(__file__).parents[2]
MEMORY = 2**30 + 2**29  # bytes, in addition to those of a process that has loaded the libraries
SECONDS = 60  # of CPU time; each takes less than 3 on an idle machine

# Loads every model in a process whose memory is limited, so that no allocation goes unnoticed.
PROGRAM = """
import json, re, resource, sys, time
from pathlib import Path
from bike_cli.engine.models.checkpoints import open_checkpoint
from bike_cli.errors import ModelError

open_checkpoint("tiny")
used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]),) * 2)
for name in sys.argv[2:]:
    begun = time.process_time()
    try:
        open_checkpoint(name)
        found = "loaded"
    except ModelError as e:
        found = str(e)
    except BaseException as e:
        found = f"{type(e).__name__}: {e}"
    print(json.dumps([name, found, time.process_time() - begun]), flush=True)
"""

HOSTILE: Mapping[str, tuple[hostile.Maker, str]] = {
    "layers 1e7": (lambda p: hostile.folder(p, lambda c: c["clip"]["text_cfg"].update(layers=10**7)), "layers is"),
    "layers 500": (
        lambda p: hostile.folder(p, lambda c: c["clip"]["vision_cfg"].update(layers=500)),
        "does not fit its architecture",
    ),
    "width 1e7": (lambda p: hostile.folder(p, lambda c: c["clip"]["vision_cfg"].update(width=10**7)), "width is"),
    "width 65536": (
        lambda p: hostile.folder(p, lambda c: c["clip"]["text_cfg"].update(width=2**16)),
        "with a different shape",
    ),
    "embed_dim 65536": (
        lambda p: hostile.folder(p, lambda c: c["clip"].update(embed_dim=2**16)),
        "with a different shape",
    ),
    "context 4096": (
        lambda p: hostile.folder(p, lambda c: c["clip"]["text_cfg"].update(context_length=4096)),
        "with a different shape",
    ),
    "image 1e7": (
        lambda p: hostile.folder(p, lambda c: c["clip"]["vision_cfg"].update(image_size=10**7)),
        "image_size is",
    ),
    "sin cos positions": (
        lambda p: hostile.folder(
            p, lambda c: c["clip"]["vision_cfg"].update(pos_embed_type="sin_cos_2d", image_size=2048, patch_size=1)
        ),
        "need 4194305 positions",
    ),
    "a tower of 7 billion": (
        lambda p: hostile.folder(
            p, lambda c: c["clip"].update(vision_cfg={"timm_model_name": "vit_giant_patch14_224", "image_size": 32})
        ),
        "does not fit its architecture",
    ),
    "nested json": (lambda p: hostile.folder_with_text(p, hostile.nested(100_000)), "nested too deeply"),
    "json of 20 MB": (
        lambda p: hostile.folder_with_text(p, '{"format": "' + "a" * 20_000_000 + '"}'),
        "larger than the 16 MiB",
    ),
    "a number of 10,000 digits": (
        lambda p: hostile.folder_with_text(p, '{"format": ' + "1" * 10_000 + "}"),
        "cannot be read as JSON",
    ),
    "bomb of 800 MB": (hostile.bomb_of_800_mb, "contains a compressed record"),
    "deflated record": (
        lambda p: hostile.archive(p, hostile.torch_pickle(b"}"), compression=zipfile.ZIP_DEFLATED),
        "contains a compressed record",
    ),
    "bytearray": (lambda p: hostile.archive(p, hostile.BYTEARRAY), "builtins.bytearray"),
    "data.pkl in other letters": (
        lambda p: hostile.archive_of(
            p, ("archive/DATA.PKL", hostile.BYTEARRAY), ("archive/x/data.pkl", hostile.torch_pickle(b"}"))
        ),
        "2 records are named data.pkl",
    ),
    "data.pkl in another folder": (
        lambda p: hostile.archive_of(p, ("archive/x", b""), ("archive/x/data.pkl", hostile.torch_pickle(b"}"))),
        "is not where PyTorch looks",
    ),
    "names that differ in case": (
        lambda p: hostile.archive_of(
            p, ("archive/data.pkl", hostile.torch_pickle(b"}")), ("archive/data/0", b""), ("archive/DATA/0", b"")
        ),
        "two records have the same name",
    ),
    "two lists of records": (hostile.two_lists, "its list of records is not at its end"),
    "TorchScript in other letters": (
        lambda p: hostile.archive_of(
            p, ("archive/data.pkl", hostile.torch_pickle(b"}")), ("archive/CONSTANTS.PKL", b"")
        ),
        "is a TorchScript program",
    ),
    "an opcode of protocol 4": (
        lambda p: hostile.archive(p, b"\x80\x04\x8c\x01a\x94."),
        "opcode SHORT_BINUNICODE",
    ),
    "set of an array": (lambda p: hostile.archive(p, hostile.SET_OF_ARRAY), "builtins.bytearray"),
    "tensor class": (lambda p: hostile.archive(p, hostile.TENSOR_CLASS), "torch.FloatTensor"),
    "a name of Python 2": (lambda p: hostile.archive(p, hostile.OTHER_NAME), "builtins.bytearray"),
    "key of shared tuples": (lambda p: hostile.archive(p, hostile.SHARED_KEY), "objects inside one another"),
    "key of nested tuples": (lambda p: hostile.archive(p, hostile.DEEP_KEY), "more than 100 deep"),
    "many objects": (lambda p: hostile.archive(p, hostile.MANY_OBJECTS), "Python objects"),
    "many objects, legacy": (lambda p: write(p, hostile.MANY_OBJECTS), "Python objects"),
    "storage of 10**12": (hostile.storage_larger_than_the_file, "1,000,000,000,000 numbers"),
    "storage of 10**12, legacy": (hostile.legacy_storage, "1,000,000,000,000 numbers"),
    "expanded tensor": (hostile.expanded, "far larger than the file"),
    "many views": (hostile.views, "far larger than the file"),
    "sparse tensor": (hostile.sparse, "torch.serialization._get_layout"),
    "20,000 layers": (hostile.many_layers, "layers is 20000"),
    "a million records": (hostile.many_records, "far more records"),
    "safetensors of 2**62": (lambda p: hostile.safetensors_header(p, b"{}", announced=2**62), "contains no weights"),
    "header beyond the file": (
        lambda p: hostile.safetensors_header(p, b'{"a":1}', announced=2**31),
        "not a complete safetensors file",
    ),
    "header of 110 MB": (
        lambda p: hostile.safetensors_header(p, b"{" + b" " * 110_000_000 + b"}"),
        "not a complete safetensors file",
    ),
    "header of brackets": (
        lambda p: hostile.safetensors_header(p, b"{" + b"[" * 10**6),
        "not a complete safetensors file",
    ),
    "tensor beyond the file": (
        lambda p: hostile.safetensors_header(
            p, b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
        ),
        "not a complete safetensors file",
    ),
    "overlapping tensors": (
        lambda p: hostile.safetensors_header(
            p,
            b'{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}'
            + bytes(8),
        ),
        "not a complete safetensors file",
    ),
    "named pipe": (hostile.pipe, "a named pipe, not a file"),
    "config is a pipe": (lambda p: with_pipe(p, "config.json"), "config.json: cannot be read (it is a named pipe"),
    "weights are a pipe": (lambda p: with_pipe(p, "model.safetensors"), "model.safetensors: cannot be read (it is a"),
    "lexicon is a pipe": (lambda p: with_pipe_as_lexicon(p), "recipe.lexicon is"),
    "socket": (hostile.bound_socket, "a socket, not a file"),
    "symbolic link to itself": (hostile.loop, "cannot be read (Too many levels of symbolic links)"),
    "/dev/zero": (lambda p: Path("/dev/zero"), "a device, not a file"),
}


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def with_pipe(path: Path, name: str) -> Path:
    hostile.folder(path)
    (path / name).unlink()
    os.mkfifo(path / name)
    return path


def with_pipe_as_lexicon(path: Path) -> Path:
    pipe = hostile.pipe(path.with_name("phrases"))
    return hostile.folder(path, lambda c: c["recipe"].update(lexicon=str(pipe)))


@pytest.fixture(scope="module")
def refusals(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float]]:
    """Return the message of a process with limited memory for each hostile model, and its seconds of CPU time."""
    if not Path("/proc/self/status").exists():
        pytest.skip("only Linux limits the memory of a process and reports it")
    base = tmp_path_factory.mktemp("hostile")
    functions = [item for item in request.session.items if isinstance(item, pytest.Function)]
    selected = {item.callspec.params["name"] for item in functions if "refusals" in item.fixturenames}
    makers = {name: make for name, (make, _) in HOSTILE.items() if name in selected}
    made = {name: str(make(base / f"m{i}")) for i, (name, make) in enumerate(makers.items())}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(MEMORY), *made.values()],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    found = {name: (said, seconds) for name, said, seconds in map(json.loads, done.stdout.splitlines())}
    assert len(found) == len(set(made.values())), done.stderr[-2000:]
    return {name: found[path] for name, path in made.items()}


@pytest.mark.slow  # seconds each
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_model_is_refused_in_seconds_and_without_the_memory(
    refusals: dict[str, tuple[str, float]], name: str
) -> None:
    said, seconds = refusals[name]

    assert HOSTILE[name][1] in said
    assert "; " in said  # what to do
    assert len(said) < 800
    assert seconds < SECONDS


@pytest.mark.slow
def test_the_limit_of_memory_would_be_hit() -> None:
    limit = (
        "import resource as r, torch; r.setrlimit(r.RLIMIT_AS, (2**35, 2**35)); torch.ones(2**36, dtype=torch.uint8)"
    )
    done = subprocess.run([sys.executable, "-c", limit], capture_output=True, text=True, timeout=300, check=False)

    assert "can't allocate memory" in done.stderr


# -- NaN and infinity ---------------------------------------------------------------------------------------------

NAMES = ["clip.logit_scale", "clip.visual.conv1.weight", "temporal.frame_position_embeddings.weight"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", [*NAMES, "attribute.query_fc.0.bias", "clip.ln_final.bias"])
def test_a_number_that_is_not_finite_is_refused_with_its_tensor(tmp_path: Path, name: str, value: float) -> None:
    hostile.folder_with_tensor(tmp_path / "m", name, value)

    with pytest.raises(ModelError, match=rf"m.*: a tensor contains NaN or infinity \({name.split('.', 1)[1]}\); "):
        open_checkpoint(str(tmp_path / "m"))


@pytest.mark.parametrize(
    ("dtype", "value"),
    [(torch.float64, 1e300), (torch.float16, float("inf")), (torch.bfloat16, float("nan"))],
    ids=str,
)
def test_a_number_that_overflows_when_it_is_converted_is_refused(
    tmp_path: Path, dtype: torch.dtype, value: float
) -> None:
    hostile.folder_with_tensor(tmp_path / "m", "clip.ln_final.bias", value, dtype)

    with pytest.raises(ModelError, match=r"NaN or infinity \(ln_final.bias\)"):
        open_checkpoint(str(tmp_path / "m"))


def test_numbers_whose_sum_overflows_are_finite(tmp_path: Path) -> None:
    hostile.folder_with_tensor(tmp_path / "m", "clip.ln_final.bias", 3e38)
    tensors = hostile.load_file(tmp_path / "m" / "model.safetensors")
    save_file({**tensors, "clip.ln_final.bias": torch.full((64,), 3e38)}, tmp_path / "m" / "model.safetensors")

    assert open_checkpoint(str(tmp_path / "m")).clip.ln_final.bias.tolist() == pytest.approx([3e38] * 64)


def test_a_scale_whose_exponential_overflows_is_refused(tmp_path: Path) -> None:
    hostile.folder_with_tensor(tmp_path / "m", "clip.logit_scale", 89.0)

    with pytest.raises(ModelError, match="logit_scale is 89, whose exponential is too large"):
        open_checkpoint(str(tmp_path / "m"))


def test_integers_in_place_of_weights_are_refused(tmp_path: Path) -> None:
    hostile.folder_with_tensor(tmp_path / "m", "clip.ln_final.bias", 1, torch.int64)

    with pytest.raises(ModelError, match=r"1 with a different type: ln_final\.bias"):
        open_checkpoint(str(tmp_path / "m"))


# -- config.json --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [10**7, 0, -1, 1.5, True, "8", None, [8], {}, float("nan"), float("inf"), 10**400])
@pytest.mark.parametrize(
    "key", ["text_cfg.layers", "text_cfg.width", "vision_cfg.layers", "vision_cfg.width", "vision_cfg.image_size"]
)
def test_an_impossible_size_is_refused_with_its_name(tmp_path: Path, key: str, value: object) -> None:
    tower, name = key.split(".")
    hostile.folder(tmp_path / "m", lambda c: c["clip"][tower].update({name: value}))

    with pytest.raises(ModelError, match=rf"config\.json: clip\.{key} is .*; fix the configuration"):
        open_checkpoint(str(tmp_path / "m"))


IMPOSSIBLE: Mapping[str, list[object]] = {
    "image.side": [0, -1, 10**9, 64.0, True, "64", None],
    "image.fill": [-1, 256, "0"],
    "image.resize_side": [1, 10**9],
    "image.mean": [[float("inf"), 0, 0], [float("nan")] * 3, ["a", "b", "c"], [0, 0], 5, "abc", [None] * 3],
    "image.std": [[0, 1, 1], [-1, 1, 1], [float("nan"), 1, 1], [1e-40, 1, 1], [True] * 3, {}],
    "image.interpolation": ["nearest", 3, ["bicubic"]],
    "image.resize_mode": ["stretch", None],
    "recipe.temperature": [0, -1, float("nan"), float("inf"), "0.1", True, 1e-300],
    "recipe.spot": ["wrods", 3, []],
    "recipe.template": ["", 3, {}],
    "recipe.lexicon": [[]],
    "recipe.attribute_weight": [2, "1"],
}


IMPOSSIBLE_VALUES = [(key, value) for key, values in IMPOSSIBLE.items() for value in values]


@pytest.mark.parametrize(("key", "value"), IMPOSSIBLE_VALUES, ids=str)
def test_an_impossible_value_is_refused_by_name(tmp_path: Path, key: str, value: object) -> None:
    section, name = key.split(".")
    hostile.folder(tmp_path / "m", lambda c: c[section].update({name: value}))

    with pytest.raises(ModelError, match=rf"config\.json: {section}\.{name} is .*; save the model again"):
        open_checkpoint(str(tmp_path / "m"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(name={"a": 1}), "name is"),
        (lambda c: c.update(name=""), "name has 0 characters"),
        (lambda c: c.update(name="a" * 10_000), "name has 10,000 characters"),
        (lambda c: c.update(licence=[1]), "licence is"),
        (lambda c: c.update(version=True), "version True"),
        (lambda c: c.update(temporal_heads=True), "temporal_heads is True"),
        (lambda c: c.update(temporal_heads="2"), "temporal_heads is '2'"),
        (lambda c: c.update(attribute_head=1), "attribute_head is 1"),
        (lambda c: c["clip"].update(speed=1), r"clip has an unknown key \(speed\)"),
        (lambda c: c["clip"]["text_cfg"].update(speed=1), r"clip.text_cfg has an unknown key \(speed\)"),
        (lambda c: c["clip"].pop("text_cfg"), "text_cfg is not an object"),
        (lambda c: c["clip"].update(text_cfg=[]), "text_cfg is not an object"),
        (lambda c: c["clip"].update(cast_dtype="fp16"), "cast_dtype"),
        (lambda c: c["clip"].update(quick_gelu="yes"), "quick_gelu is 'yes'"),
        (lambda c: c["clip"]["text_cfg"].update(heads=7), "open_clip cannot build"),
        (lambda c: c["clip"]["vision_cfg"].update(head_width=2**16), "open_clip cannot build"),
        (lambda c: c["clip"]["vision_cfg"].update(patch_size=8), "need 17 positions"),
        (lambda c: c["clip"]["text_cfg"].update(vocab_size=512), "with a different shape: token_embedding.weight"),
        (lambda c: c["clip"]["text_cfg"].update(context_length=76), "with a different shape: positional_embedding"),
        (lambda c: c["clip"]["vision_cfg"].update(pool_type="none"), "towers give"),
        (lambda c: c["clip"]["vision_cfg"].update(output_tokens=True), "towers cannot run"),
        (lambda c: c["clip"]["vision_cfg"].update(norm_kwargs={"eps": "x"}), "towers cannot run"),
        (lambda c: c["clip"]["vision_cfg"].update(norm_kwargs={"speed": 1}), "open_clip cannot build"),
    ],
)
def test_an_impossible_configuration_is_refused(
    tmp_path: Path, change: Callable[[hostile.Config], object], said: str
) -> None:
    hostile.folder(tmp_path / "m", change)

    with pytest.raises(ModelError, match=said):
        open_checkpoint(str(tmp_path / "m"))


def test_a_duplicate_key_is_refused(tmp_path: Path) -> None:
    hostile.folder(tmp_path / "m")
    config = tmp_path / "m" / "config.json"
    config.write_text(config.read_text().replace('"version": 1', '"version": 1, "version": 1'))

    with pytest.raises(ModelError, match="the key 'version' occurs twice"):
        open_checkpoint(str(tmp_path / "m"))


def test_a_model_that_knows_fewer_tokens_than_the_tokenizer_is_refused(tmp_path: Path) -> None:
    from bike_cli.engine.engine import load

    hostile.folder(tmp_path / "m", lambda c: c["clip"]["text_cfg"].update(vocab_size=512))
    tensors = hostile.load_file(tmp_path / "m" / "model.safetensors")
    tensors["clip.token_embedding.weight"] = torch.zeros(512, 64)
    save_file(tensors, tmp_path / "m" / "model.safetensors")

    with pytest.raises(ModelError, match=r"knows 512 tokens, .* has 49,408"):
        load(str(tmp_path / "m"), device="cpu")


# -- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["", "a" * 5000, "a/" * 2500, "ViT-B-32," + "a" * 5000, "a\0b", "a/\0b", "ViT-B-32,a\0.pt", "~nobody-x/x", "a\nb"],
    ids=lambda name: name[:12].replace("\0", "NUL"),
)
def test_an_empty_name_is_refused_in_one_short_message(name: str) -> None:
    with pytest.raises(ModelError) as refused:
        open_checkpoint(name, offline=True)

    assert len(str(refused.value)) < 600


@pytest.mark.parametrize("name", ["hf-hub:owner/name,tag", "local-dir:/nowhere,tag.pt", "ViT-B-32,hf-hub:a/b"])
def test_an_architecture_is_never_fetched(name: str) -> None:
    with pytest.raises(ModelError, match=r"is not hf-hub:OWNER/NAME|no such folder|cannot be read"):
        open_checkpoint(name, offline=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_missing_permissions_are_reported(tmp_path: Path, kind: str) -> None:
    path = hostile.folder(tmp_path / "m") if kind == "folder" else write(tmp_path / "m", b"PK\x03\x04")
    path.chmod(0)

    with pytest.raises(ModelError, match=r"cannot be read \(Permission denied\)"):
        open_checkpoint(str(path))
