"""Every text configuration of open_clip, with two narrow layers and a small image tower."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import open_clip
import torch

from bike_cli.engine.models.catalogue import construct
from bike_cli.engine.towers.text_tower import ImageTextModel

# What the hub says of text towers that are models of their own, with two narrow layers. By the name of the model.
_ROBERTA = {
    **{"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48},
    **{"max_position_embeddings": 90, "type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5},
    "hidden_act": "gelu",
}
DESCRIPTIONS: dict[str, dict[str, Any]] = {
    "roberta": {"model_type": "roberta", **_ROBERTA},
    "xlm-roberta": {"model_type": "xlm-roberta", **_ROBERTA},
    "facebook/nllb": {
        **{"model_type": "m2m_100", "vocab_size": 400, "d_model": 32, "max_position_embeddings": 90, "pad_token_id": 1},
        **{"encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 48, "activation_function": "relu"},
        "scale_embedding": True,
    },
    "google/mt5": {
        **{"model_type": "mt5", "vocab_size": 400, "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2},
        **{"num_heads": 2, "pad_token_id": 0, "feed_forward_proj": "gated-gelu", "layer_norm_epsilon": 1e-6},
    },
}
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
    rest = {name: value for name, value in config.items() if not name.endswith("_cfg")}
    if config["text_cfg"].get("hf_model_name"):
        kind = max((kind for kind in DESCRIPTIONS if config["text_cfg"]["hf_model_name"].startswith(kind)), key=len)
        described = {"text_cfg": config["text_cfg"], "hf_text_cfg": dict(DESCRIPTIONS[kind])}
        return {**rest, "embed_dim": 24, "vision_cfg": dict(IMAGE), **described}
    sizes = {"width": 32, "heads": 2, "layers": 2}
    text, image = {**config["text_cfg"], **sizes}, dict(IMAGE)
    if text["vocab_size"] == 64_000:  # of an architecture without weights, whose tokenizer is unknown
        text["vocab_size"] = 49_408
    if "multimodal_cfg" in config:
        image |= {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
        rest["multimodal_cfg"] = {**config["multimodal_cfg"], **sizes, "attn_pooler_heads": 2, "vocab_size": 100}
    return {**rest, "embed_dim": 24, "vision_cfg": image, "text_cfg": text}


def config_with_whole_image_tower(arch: str) -> dict[str, Any]:
    """Return the configuration of an architecture with its own image tower, and two narrow text layers."""
    config = open_clip.get_model_config(arch)
    text = {**small_config(arch)["text_cfg"], "vocab_size": 49_408}  # that of OpenAI's tokenizer
    return {**config, "text_cfg": text}


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
