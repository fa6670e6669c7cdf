"""Recognise checkpoints of other video models by the names of their tensors.

ActionCLIP   model_state_dict and fusion_model_state_dict, as in official BIKE files
ViFi-CLIP    model: image_encoder.*, text_encoder.*, logit_scale, prompt_learner.*
Open-VCLIP   model_state: model.*, with the names of a plain CLIP
FROSTER      the same, with projector_v.*, projector_t.* and perhaps raw_model.*
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bike_cli.errors import ModelError

Origin = Literal["actionclip", "vifi", "openvclip", "froster"]
NAMES: Mapping[Origin, str] = {
    "actionclip": "ActionCLIP",
    "vifi": "ViFi-CLIP",
    "openvclip": "Open-VCLIP",
    "froster": "FROSTER",
}
STATES = ("model", "model_state", "state_dict")  # keys that hold the tensors of the model


@dataclass(frozen=True)
class _Refused:
    """A video model that bike cannot run.

    Args:
        marks: parts of names that only its tensors have.
        reason: why bike cannot run it, as a clause.
    """

    name: str
    marks: Collection[str]
    reason: str


_REFUSED = (
    _Refused("TC-CLIP", {"prompt_generation_layer"}, "its text features depend on the video"),
    _Refused(
        "X-CLIP",
        {"prompts_generator", "prompts_visual_proj", "mit"},
        "its frames exchange messages, and its text features depend on the video",
    ),
    _Refused("a prompted ViFi-CLIP", {"VPT", "VPT_shallow", "ctx"}, "its towers read trained prompt tokens"),
)


def model_state(content: Mapping[str, object]) -> tuple[str | None, Mapping[str, object]]:
    """Return the key and the state dict of the model in a checkpoint; the key is None if the file is a state dict."""
    for key in STATES:
        state = content.get(key)
        if isinstance(state, dict):
            return key, state
    return None, content


def origin_of(content: Mapping[str, object], file: Path) -> Origin | None:
    """Return the video model whose code saved a checkpoint; None for CLIP, BIKE and ActionCLIP, which looks like BIKE.

    Raises:
        ModelError: a video model that bike cannot run.
    """
    _, state = model_state(content)
    names = [name.removeprefix("module.") for name in state if isinstance(name, str)]
    parts = {part for name in names for part in name.split(".")}
    for refused in _REFUSED:
        if parts & set(refused.marks):
            raise ModelError(
                f"{file}: is a checkpoint of {refused.name}, which bike cannot run because {refused.reason}; use a "
                "model that bike models lists, or import a checkpoint of ActionCLIP, ViFi-CLIP, Open-VCLIP or FROSTER"
            )
    if any(name.startswith("image_encoder.") for name in names):
        return "vifi"
    if any(name.startswith("model.visual.") for name in names):
        return "froster" if parts & {"projector_v", "projector_t"} else "openvclip"
    return None


def check_needs_no_import(content: Mapping[str, object], file: Path) -> None:
    """Raise ModelError, with the command that imports it, if a file is a checkpoint of another video model.

    Importing may need a second model, so bike never does it implicitly.
    """
    origin = origin_of(content, file)
    if origin is not None:
        line = shlex.join(["bike", "import", str(file), file.stem])
        raise ModelError(
            f"{file}: is a checkpoint of {NAMES[origin]}, which must be imported; run {line}, then use --model "
            f"{shlex.quote(file.stem)}"
        )
