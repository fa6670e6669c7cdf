"""Repositories of open_clip weights as they lie on a hub or on a disk, with small random models."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from text_configs import random_model, small_config
from torch import Tensor

from bike_cli.engine.engine import Engine
from bike_cli.records import Prompt

TOKENIZERS = Path(__file__).parents[1] / "engine" / "towers" / "tokenizers"
PREPROCESS = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "resize_mode": "squash"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_repository(folder: Path, arch: str, tokenizer: str | None = None, **changes: Any) -> Path:  # noqa: ANN401
    """Write the files of a repository with a small model of an architecture's kind.

    Args:
        tokenizer: a folder of `tests/engine/towers/tokenizers`.
        changes: of `model_cfg`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = small_config(arch)
    description = config.get("hf_text_cfg")
    if description is not None:
        # As on the hub, with much that a tower does not follow from.
        more = {"architectures": ["Own"], "auto_map": {"AutoModel": "evil.Own"}, "transformers_version": "4.0.0"}
        (folder / "text_config.json").write_text(json.dumps({**description, **more}))
    elif tokenizer is not None:
        config["text_cfg"]["vocab_size"] = 400
    if tokenizer is not None:
        shutil.copyfile(TOKENIZERS / tokenizer / "tokenizer.json", folder / "tokenizer.json")
    state = {name: tensor.contiguous() for name, tensor in random_model(config).state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    written = {name: value for name, value in config.items() if name != "hf_text_cfg"}
    content = {"model_cfg": {**written, **changes}, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return folder


@contextmanager
def changing_config(repository: Path) -> Iterator[dict[str, Any]]:
    """Yield the configuration of a repository, and write it with the changes of the caller."""
    file = repository / "open_clip_config.json"
    content = json.loads(file.read_text())
    yield content
    file.write_text(json.dumps(content))


def features(engine: Engine, texts: Sequence[str]) -> list[Tensor]:
    """Return what a model computes for two frames and for texts: features of frames, of texts, and of their words."""
    frames = torch.arange(2 * 20 * 30 * 3, dtype=torch.uint8).reshape(2, 20, 30, 3)
    text = engine.encode_texts([Prompt.plain(text) for text in texts], positions="words")
    return [engine.encode_frames(frames), text.classes, text.tokens]


def put_on_hub(cache: Path, repository: Path, name: str = "nobody/small", revision: str = "main") -> Path:
    """Lay a repository into a download cache, as the hub's own client does; return the snapshot."""
    root = cache / f"models--{name.replace('/', '--')}"
    snapshot = root / "snapshots" / COMMIT
    shutil.copytree(repository, snapshot)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / revision).write_text(COMMIT)
    return snapshot
