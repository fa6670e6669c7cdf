"""Every text configuration of open_clip, with two narrow layers and a small image tower."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import open_clip
import torch

from bike_cli.engine.models.catalogue import construct
from bike_cli.engine.towers.text_tower import ImageTextModel

IMAGE = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}


def text_configs(*, with_tokenizer_files: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (the first architecture with it, its small configuration) of each kind of text tower.

    Args:
        with_tokenizer_files: those whose tokenizer is a file; otherwise those with OpenAI's.
    """
    seen = set()
    for arch in open_clip.list_models():
        text = open_clip.get_model_config(arch)["text_cfg"]
        if text.get("hf_model_name") or bool(text.get("hf_tokenizer_name")) != with_tokenizer_files:
            continue
        small = small_config(arch)
        kind = json.dumps(small, sort_keys=True)
        if kind not in seen:
            seen.add(kind)
            yield arch, small


def small_config(arch: str) -> dict[str, Any]:
    """Return the configuration of an architecture with two narrow text layers and a small image tower."""
    config = open_clip.get_model_config(arch)
    sizes = {"width": 32, "heads": 2, "layers": 2}
    text, image = {**config["text_cfg"], **sizes}, dict(IMAGE)
    if text["vocab_size"] == 64_000:  # of an architecture without weights, whose tokenizer is unknown
        text["vocab_size"] = 49_408
    rest = {name: value for name, value in config.items() if not name.endswith("_cfg")}
    if "multimodal_cfg" in config:
        image |= {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
        rest["multimodal_cfg"] = {**config["multimodal_cfg"], **sizes, "attn_pooler_heads": 2, "vocab_size": 100}
    return {**rest, "embed_dim": 24, "vision_cfg": image, "text_cfg": text}


def random_model(config: Mapping[str, Any], seed: int = 0) -> ImageTextModel:
    """Return a model in which every parameter is random, biases too."""
    torch.manual_seed(seed)
    model = construct(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 0:
                continue
            parameter.normal_(1.0 if name.endswith("ln_final.weight") else 0.0, 0.2)
    return model
