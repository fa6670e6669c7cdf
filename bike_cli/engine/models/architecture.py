"""Check an architecture that a file describes before anything of its size is built.

A configuration from outside may ask for ten million layers, or have a string in place of a number. It is checked in
three steps that take no memory: types and ranges of its values, the size of the position table, and a copy of the model
on PyTorch's `meta` device, which must have the names and shapes of the tensors in the file.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from open_clip.coca_model import CoCa, MultimodalCfg
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bike_cli.engine.models.open_clip.text_models import KEY as TEXT_MODEL
from bike_cli.engine.models.open_clip.text_models import TextModelCfg, names_text_model
from bike_cli.engine.models.weights import check_fit, fill
from bike_cli.engine.towers.text_tower import ImageTextModel
from bike_cli.engine.towers.transforms import MAX_SIDE, as_pair
from bike_cli.errors import ModelError, first_line, shorten

Module = TypeVar("Module", bound=nn.Module)

WAY_OUT = "fix the configuration, or save the model again"
MAX_LAYERS = 512
MAX_WIDTH = 2**16
LIMITS: Mapping[str, tuple[int, int]] = {  # lowest and highest value
    "embed_dim": (1, MAX_WIDTH),
    "layers": (1, MAX_LAYERS),
    "width": (1, MAX_WIDTH),
    "head_width": (1, MAX_WIDTH),
    "heads": (1, MAX_WIDTH),
    "patch_size": (1, MAX_SIDE),
    "image_size": (1, MAX_SIDE),
    "context_length": (3, 4096),  # start, a word, end; the attention mask is the square of it
    "vocab_size": (1, 2**20),
    "attn_pooler_queries": (1, 4096),
    "attn_pooler_heads": (1, MAX_WIDTH),
    "mlp_ratio": (0, 64),
    # of text towers that are models of their own
    "num_hidden_layers": (1, MAX_LAYERS),
    "encoder_layers": (1, MAX_LAYERS),
    "num_layers": (1, MAX_LAYERS),
    "hidden_size": (1, MAX_WIDTH),
    "d_model": (1, MAX_WIDTH),
    "d_kv": (1, MAX_WIDTH),
    "intermediate_size": (1, MAX_WIDTH),
    "encoder_ffn_dim": (1, MAX_WIDTH),
    "d_ff": (1, MAX_WIDTH),
    "num_attention_heads": (1, MAX_WIDTH),
    "encoder_attention_heads": (1, MAX_WIDTH),
    "num_heads": (1, MAX_WIDTH),
    "max_position_embeddings": (3, 8192),
    "type_vocab_size": (1, 1024),
    "relative_attention_num_buckets": (1, 4096),
}
# With these keys alone, a CLIP that can be built can also be run.
USUAL = {"image_size", "layers", "width", "head_width", "patch_size", "context_length", "vocab_size", "heads"}
# Where weights and tokenizers come from, and how the model is built before its weights are loaded.
NOT_COMPUTED = {"init_logit_scale", "init_logit_bias", "hf_tokenizer_name", "tokenizer_kwargs", "tokenizer_mode"} | {
    *("hf_model_name", "hf_model_pretrained", "timm_model_pretrained", "timm_drop", "timm_drop_path", "patch_dropout"),
}
UNBUILDABLE = (TypeError, ValueError, LookupError, AssertionError, ArithmeticError, AttributeError, RuntimeError)
# Functions of torch, by name: transformers replaces them by its own while it builds a model.
RANDOM = {"normal_", "uniform_", "kaiming_uniform_"}


def check_config(config: Mapping[str, object], origin: str) -> None:
    """Check the types and ranges of an open_clip configuration; `origin` begins the message.

    Raises:
        ModelError: an unknown or missing key, a value of another type or out of range; the message names the key.
    """
    hints = typing.get_type_hints(CLIP.__init__) | {"custom_text": bool}
    towers = {"vision_cfg": CLIPVisionCfg, "text_cfg": CLIPTextCfg}
    if "multimodal_cfg" in config:
        hints |= typing.get_type_hints(CoCa.__init__)
        towers["multimodal_cfg"] = MultimodalCfg
    if names_text_model(config):
        towers[TEXT_MODEL] = TextModelCfg
    _check_keys(config, hints | towers, origin, "clip")
    missing = {"embed_dim", *towers} - config.keys()
    if missing:
        raise ModelError(f"{origin}: clip lacks {', '.join(sorted(missing))}; {WAY_OUT}")
    if config.get("cast_dtype") is not None:
        raise ModelError(f"{origin}: clip.cast_dtype is set, and bike computes in float32; {WAY_OUT}")
    for name, value in config.items():
        if name not in towers:
            _check_value(f"clip.{name}", value, hints[name], origin)
    for tower, description in towers.items():
        values, hints = config[tower], typing.get_type_hints(description)
        if not isinstance(values, Mapping):
            raise ModelError(f"{origin}: clip.{tower} is {_shown(values)}, not an object; {WAY_OUT}")
        _check_keys(values, hints, origin, f"clip.{tower}")
        for name, value in values.items():
            is_resnets = name == "patch_size" and value is None and isinstance(values.get("layers"), list | tuple)
            if not is_resnets:
                _check_value(f"clip.{tower}.{name}", value, hints[name], origin)


def described(config: Mapping[str, Any], *, image_alone: bool = False) -> str:
    """Return what a model computes with its weights, but not its tokenizer.

    It is the same whether defaults are given or left out. Weights do not say it all: the number of attention heads,
    what is pooled and what is masked leave no trace in them.

    Args:
        image_alone: leave the text tower out.
    """
    towers = {"vision_cfg": CLIPVisionCfg, "text_cfg": CLIPTextCfg, "multimodal_cfg": MultimodalCfg}
    skipped = NOT_COMPUTED | ({"text_cfg", "multimodal_cfg", "custom_text", TEXT_MODEL} if image_alone else set())
    values = {name: value for name, value in config.items() if name not in skipped and value not in (None, False)}
    for name in towers.keys() & values.keys():
        filled = {f.name: config[name].get(f.name, f.default) for f in dataclasses.fields(towers[name])}
        values[name] = {key: _plain(v) for key, v in filled.items() if key not in skipped and v not in (None, {})}
        if isinstance(filled["layers"], list | tuple):  # a ResNet
            values[name] = {key: values[name][key] for key in ("image_size", "layers", "width")}
    return json.dumps(values, sort_keys=True)


def _plain(value: object) -> object:
    """Return the same value for both ways of writing a size: 224 and [224, 224]."""
    is_pair = isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1]
    return value[0] if is_pair else value  # type: ignore[index]


def check_outputs(clip: ImageTextModel, config: Mapping[str, Any], *, origin: str) -> None:
    """Check that both towers of a model on the `meta` device turn one input into one vector of the same size.

    This takes 0.2 s, so it is only done where the configuration says more than sizes.

    Raises:
        ModelError: they do not.
    """
    if not config.get("custom_text") and config["vision_cfg"].keys() | config["text_cfg"].keys() <= USUAL:
        return
    height, width = as_pair(clip.visual.image_size)
    try:
        with torch.no_grad():
            image = clip.encode_image(torch.empty(1, 3, height, width, device="meta"))
            if names_text_model(config):  # cannot run on the `meta` device; see `check_text`
                text = torch.empty(1, clip.text.output_dim, device="meta")
            else:
                text = clip.encode_text(torch.empty(1, clip.context_length, dtype=torch.int64, device="meta"))
            fits = image.ndim == text.ndim == 2 and image.shape == text.shape
    except UNBUILDABLE as e:
        raise ModelError(f"{origin}: its towers cannot run ({first_line(e)}); {WAY_OUT}") from e
    if not fits:
        raise ModelError(
            f"{origin}: its towers give {list(image.shape)} for an image and {list(text.shape)} for a text, not one "
            f"vector each of the same size; {WAY_OUT}"
        )


def check_text(clip: ImageTextModel, config: Mapping[str, Any], *, origin: str) -> None:
    """Check that the text tower of a model turns a text of the longest length into one vector.

    Raises:
        ModelError: it does not.
    """
    context = config["text_cfg"].get("context_length", CLIPTextCfg.context_length)
    try:
        with torch.no_grad():
            ids = (torch.arange(context) + clip.text.config.pad_token_id + 1) % clip.text.config.vocab_size
            shape = clip.encode_text(ids[None]).shape
    except UNBUILDABLE as e:
        raise ModelError(f"{origin}: its text tower cannot run ({first_line(e)}); {WAY_OUT}") from e
    if shape != (1, config["embed_dim"]):
        raise ModelError(f"{origin}: its text tower gives {list(shape)} for a text, not one vector; {WAY_OUT}")


def outline(build: Callable[[], Module], state: Mapping[str, Tensor], *, origin: str) -> Module:
    """Return a module on the `meta` device, where it takes no memory, after checking that `state` fits it.

    Args:
        state: tensors of any device; only their shapes count.
    Raises:
        ModelError: a tensor that is missing, has no place, or another shape or type.
    """
    with torch.device("meta"):
        module = build()
    check_fit(module, state, origin=origin)
    return module.eval()


def build_and_fill(build: Callable[[], Module], state: Mapping[str, Tensor], *, origin: str) -> Module:
    """Return a module with the tensors of `state`, without drawing random initial weights.

    Drawing these takes 1.5 s for a ViT-B/16.

    Args:
        build: must not redraw numbers until they meet a condition, as `torch.nn.init.trunc_normal_` does.
    Raises:
        ModelError: tensors that do not fit, or hold NaN or infinity.
    """
    with _WithoutRandomNumbers():
        module = build()
    fill(module, state, origin=origin)
    return module.eval()


class _WithoutRandomNumbers(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - what torch's function returns
        kwargs = kwargs or {}
        if getattr(func, "__name__", None) in RANDOM:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def check_positions(config: Mapping[str, object], state: Mapping[str, Tensor], origin: str) -> None:
    """Check that a vision transformer's image and patch size make as many positions as the file has.

    open_clip computes a fixed position table in NumPy, which fills memory on the `meta` device as well.

    Raises:
        ModelError: another number of positions.
    """
    vision = config["vision_cfg"]
    assert isinstance(vision, Mapping)
    described = {f.name: f.default for f in dataclasses.fields(CLIPVisionCfg)} | dict(vision)
    if described["timm_model_name"] or isinstance(described["layers"], list | tuple):
        return
    height, width = as_pair(described["image_size"])
    patch_height, patch_width = as_pair(described["patch_size"])
    expected = (height // patch_height) * (width // patch_width) + 1
    table = state.get("visual.positional_embedding")
    shape = None if table is None else tuple(table.shape)
    if shape != (expected, described["width"]):
        found = "no visual.positional_embedding" if shape is None else f"visual.positional_embedding of {list(shape)}"
        raise ModelError(
            f"{origin}: does not fit its architecture (image_size {described['image_size']}, patch_size "
            f"{described['patch_size']} and width {described['width']} need {expected} positions; it has {found}); "
            f"{WAY_OUT}"
        )


def _check_keys(values: Mapping[str, object], known: Mapping[str, object], origin: str, where: str) -> None:
    unknown = sorted(str(name) for name in values.keys() - known.keys())
    if unknown:
        raise ModelError(f"{origin}: {where} has an unknown key ({shorten(unknown[0])}); {WAY_OUT}")


def _check_value(name: str, value: object, hint: object, origin: str) -> None:
    if not _accepts(hint, value) and not (value is None and hint is dict):
        raise ModelError(f"{origin}: {name} is {_shown(value)}; {WAY_OUT}")
    lowest, highest = LIMITS.get(name.rsplit(".", 1)[-1], (-math.inf, math.inf))
    numbers = value if isinstance(value, list | tuple) else [value]
    for number in numbers:
        if isinstance(number, int | float) and not isinstance(number, bool) and not lowest <= number <= highest:
            raise ModelError(f"{origin}: {name} is {_shown(value)}, not from {lowest} to {highest}; {WAY_OUT}")


def _accepts(hint: object, value: object) -> bool:
    """Return whether a value of a JSON file has a type; a list may be a tuple, a whole number a float."""
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union or origin is types.UnionType:
        return any(_accepts(choice, value) for choice in choices)
    if origin is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(choices):
            return False
        return all(_accepts(choice, item) for choice, item in zip(choices, value, strict=True))
    if hint is float:
        return type(value) is int or (isinstance(value, float) and math.isfinite(value))
    return type(value) is hint or (value is None and hint is type(None))


def _shown(value: object) -> str:
    return shorten(repr(value), 60)
