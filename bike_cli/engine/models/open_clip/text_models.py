"""Text towers that are separate models on the hub, such as XLM-RoBERTa; the transformers library runs them.

open_clip names such a model (`hf_model_name`), and downloads its configuration while it builds the tower. bike stores
this "description" in the configuration of the whole model, under `hf_text_cfg`. The tower then depends on the
configuration alone: building it downloads nothing, and only runs code of transformers.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from open_clip import CustomTextCLIP, hf_model
from open_clip.hf_configs import arch_dict

from bike_cli.engine.download import hub
from bike_cli.engine.download.file_names import DESCRIPTION_FILE, LOCAL_DESCRIPTION_FILE
from bike_cli.engine.models.json_files import read_json
from bike_cli.engine.models.weight_files import file_status
from bike_cli.errors import ModelError, shorten
from bike_cli.wording import either

KEY = "hf_text_cfg"

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_SHOWN = 60  # characters of a value in a message
# open_clip builds the whole of such a model and keeps its encoder.
_WITHOUT_DECODER: Mapping[str, Mapping[str, int]] = {"m2m_100": {"decoder_layers": 0}, "mt5": {"num_decoder_layers": 0}}


@dataclass(frozen=True)
class TextModelCfg:
    """The part of a description that determines the tower; names and types are those of transformers."""

    model_type: str
    vocab_size: int = 1
    pad_token_id: int = 0
    max_position_embeddings: int = 1
    layer_norm_eps: float = 0
    # RoBERTa, XLM-RoBERTa and BERT
    hidden_size: int = 1
    num_hidden_layers: int = 1
    num_attention_heads: int = 1
    intermediate_size: int = 1
    type_vocab_size: int = 1
    hidden_act: str = ""
    position_embedding_type: str = "absolute"
    hidden_dropout_prob: float = 0
    attention_probs_dropout_prob: float = 0
    # NLLB
    d_model: int = 1
    encoder_layers: int = 1
    encoder_attention_heads: int = 1
    encoder_ffn_dim: int = 1
    activation_function: str = ""
    scale_embedding: bool = True
    dropout: float = 0
    attention_dropout: float = 0
    activation_dropout: float = 0
    encoder_layerdrop: float = 0
    # mT5
    num_layers: int = 1
    num_heads: int = 1
    d_ff: int = 1
    d_kv: int = 1
    feed_forward_proj: str = ""
    relative_attention_num_buckets: int = 1
    relative_attention_max_distance: int = 1
    layer_norm_epsilon: float = 0
    dropout_rate: float = 0


def names_text_model(config: Mapping[str, object]) -> bool:
    """Return whether the text tower of an open_clip configuration is a separate model."""
    text = config.get("text_cfg")
    return isinstance(text, Mapping) and bool(text.get("hf_model_name"))


def fault(config: Mapping[str, object]) -> str | None:
    """Return why bike cannot run a configuration whose text tower is a separate model, and the fix; None if it can."""
    text, description = config["text_cfg"], config.get(KEY)
    assert isinstance(text, Mapping)
    name = shorten(str(text["hf_model_name"]), _SHOWN)
    if not _is_repository(text["hf_model_name"]):
        return f"hf_model_name is {name}, not OWNER/NAME of a model on the hub; fix the configuration"
    if "multimodal_cfg" in config:
        return f"its text tower ({name}) is part of a CoCa model, which bike does not support; choose another model"
    if isinstance(description, Mapping):
        kind, positions = description.get("model_type"), description.get("position_embedding_type", "absolute")
        if not isinstance(kind, str) or kind not in arch_dict:
            return f"its text tower ({name}) is a {shorten(repr(kind), _SHOWN)}; choose {either(list(arch_dict))}"
        if positions != "absolute":
            problem = f"has {shorten(repr(positions), _SHOWN)} positions, not absolute ones"
            return f"its text tower ({name}) {problem}; choose another model"
    if hf_model.transformers is None:
        return f"its text tower ({name}) needs transformers 5 or newer; run pip install 'bike-cli[hf]'"
    return None


def description_of(text_cfg: Mapping[str, object], *, model: str, arch: str = "ARCH") -> hub.ModelFile | None:
    """Return where the description of a text tower is on the hub; None if the tower is not a separate model there."""
    name = text_cfg.get("hf_model_name")
    if not _is_repository(name):
        return None
    return hub.ModelFile(model, arch, str(name), (DESCRIPTION_FILE,), kind="configuration")


def _is_repository(name: object) -> bool:
    return isinstance(name, str) and _REPOSITORY.fullmatch(name) is not None and ".." not in name


def description_next_to(weights: Path, on_hub: hub.ModelFile) -> Path:
    """Return the description next to weights on this disk, or else the downloaded one.

    Raises:
        ModelError: neither exists.
    """
    local = weights.with_name(LOCAL_DESCRIPTION_FILE)
    description = local if file_status(local) is not None else hub.cached_file(on_hub)
    if description is None:
        raise ModelError(
            f"{weights}: has no {LOCAL_DESCRIPTION_FILE} next to it; download {DESCRIPTION_FILE} from "
            f"{on_hub.repository}, and save it there under that name"
        )
    return description


def with_description(config: Mapping[str, object], file: Path) -> dict[str, object]:
    """Return a configuration with the description of its text tower from a file, without fields that do not matter.

    The result is not checked yet; see `architecture.check_config`.

    Raises:
        ModelError: a file that is missing or is not a JSON object.
    """
    content, known = read_json(file), {field.name for field in fields(TextModelCfg)}
    return {**config, KEY: {name: value for name, value in content.items() if name in known}}


def build(parts: Mapping[str, Any]) -> CustomTextCLIP:
    """Return a model whose text tower is a separate model, with random weights.

    Args:
        parts: the configuration that `fault` has accepted, without `custom_text`.
    """
    others = {name: part for name, part in parts.items() if name != KEY}
    description = {**parts[KEY], **_WITHOUT_DECODER.get(parts[KEY]["model_type"], {})}
    # open_clip builds the right part of the model only from a name, which may be a folder.
    with tempfile.TemporaryDirectory(prefix="bike-") as folder:
        Path(folder, DESCRIPTION_FILE).write_text(json.dumps(description), encoding="utf-8")
        own = {"hf_model_name": folder, "hf_model_pretrained": False, "output_tokens": False}
        return CustomTextCLIP(**{**others, "text_cfg": {**others["text_cfg"], **own}})
