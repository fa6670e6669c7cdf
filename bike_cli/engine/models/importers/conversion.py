"""Turn checkpoints of other video models into models of bike.

Every tensor of the file is used, listed as left out, or refused because CLIP has no place for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from bike_cli.config import Pool, Recipe, SamplingConfig, TrainingRecord
from bike_cli.config.sections import Sampling
from bike_cli.engine.models.checkpoints import BIKE_RESIZE, config_of, official_checkpoint, open_checkpoint
from bike_cli.engine.models.importers.layouts import NAMES, Origin, model_state, origin_of
from bike_cli.engine.models.official import OFFICIAL_ARCHS, VOCABULARY, arch_of
from bike_cli.engine.models.open_clip.preprocessing import OPENAI, image_recipe
from bike_cli.engine.models.parts import Checkpoint, fill_clip, outline_clip
from bike_cli.engine.models.weights import is_official, read_content, tensors_in
from bike_cli.engine.towers.neighbours import read_neighbours
from bike_cli.engine.towers.transforms import Interpolation
from bike_cli.errors import ModelError, UsageError, shorten
from bike_cli.wording import all_of, either

DEFAULT_BASE = "ViT-B-16-quickgelu,openai"
EMBEDDING = "token_embedding.weight"
NEIGHBOUR_ATTENTION = "expand_temporal_view"  # the only kind of attention over frames that imported weights may have
PATCHED: tuple[Origin, ...] = ("openvclip", "froster")
SHOWN = 60  # characters of a name in a message


@dataclass(frozen=True)
class Defaults:
    """How a video model reads and scores videos; these become the defaults of an imported model.

    Args:
        frames: per clip, for most of its checkpoints.
        resizes_larger: whether frames are resized to a larger side before the crop.
        licence: of the weights; None if the authors do not state it.
    """

    template: str
    pool: Pool
    frames: int
    clips: int = 1
    sampling: Sampling = "uniform"
    interpolation: Interpolation = "bilinear"
    resizes_larger: bool = True
    licence: str | None = None


_CLIPS_OF_NEIGHBOURS = Defaults("action", "scores", 8, clips=3, sampling="dense", resizes_larger=False)
DEFAULTS: Mapping[Origin, Defaults] = {
    "actionclip": Defaults("actionclip", "mean", 8, interpolation="bicubic"),
    "vifi": Defaults("a photo of a {}.", "mean", 16),
    "openvclip": _CLIPS_OF_NEIGHBOURS,
    "froster": replace(_CLIPS_OF_NEIGHBOURS, licence="CC BY-NC-SA 4.0"),
}


@dataclass(frozen=True)
class Options:
    """What the user says about a checkpoint.

    Args:
        name: of the model, for records.
        origin: the video model; needed if the files of two look alike.
        base: the model that it was trained from, as `open_checkpoint` takes it; None: chosen by the sizes.
        patch: the share of the base in averaged weights; None: do not average.
        licence: of the weights; None: the one that the authors state.
        frames: per clip in training; None: as for most checkpoints.
        offline: never access the network.
    """

    name: str
    origin: Origin | None = None
    base: str | None = None
    patch: float | None = None
    licence: str | None = None
    frames: int | None = None
    offline: bool = False


@dataclass(frozen=True)
class ImportedModel:
    """A model that was read from a checkpoint of another video model.

    Args:
        left_out: tensors and other contents of the file that are not used, with the reason.
        base: the model from which weights were taken, if any.
    """

    checkpoint: Checkpoint
    origin: Origin
    left_out: tuple[str, ...]
    base: str | None = None


def import_model(file: Path, options: Options) -> ImportedModel:
    """Return the model in a checkpoint of another video model.

    Raises:
        ModelError: a file of another kind, damaged, or of a video model that bike cannot run; tensors that are missing
            or have no place; a base that does not fit.
        UsageError: options that contradict the file.
    """
    content = read_content(file)
    origin = _chosen(origin_of(content, file), content, options.origin, file)
    _check(options, origin, file)
    if origin == "actionclip":
        return _from_actionclip(file, content, options)
    _check_attention(content, file)
    key, nested = model_state(content)
    tensors = tensors_in(nested, file)
    place = _place_in_vifi if origin == "vifi" else _place_in_open_vclip
    state, left_out = _renamed(tensors, place, file)
    state, base = _with_base(state, origin, options, file)
    others = [] if key is None else [name for name in content if name != key]
    if others:
        left_out.append(f"{_listed(others)} (training state)")
    checkpoint = _checkpoint(state, DEFAULTS[origin], options, file)
    if origin in PATCHED:
        read_neighbours(checkpoint.clip.visual)
    return ImportedModel(checkpoint, origin, tuple(left_out), base)


def _chosen(found: Origin | None, content: Mapping[str, object], asked: Origin | None, file: Path) -> Origin:
    if found is None and not is_official(content):
        raise ModelError(
            f"{file}: is not a checkpoint of {either(NAMES.values())}; give one of them, or use the file with --model"
        )
    if found is None and asked is None:
        raise UsageError(
            f"{file}: may come from BIKE or from ActionCLIP, whose files look alike; add --from actionclip, or use it "
            f"with --model {file} if it comes from BIKE"
        )
    found = found or "actionclip"
    is_either = asked == "froster" and found == "openvclip"  # without the projectors of its training
    if asked is None or asked == found or is_either:
        return asked or found
    raise UsageError(f"--from {asked}: {file} has the layout of {NAMES[found]}; leave --from out")


def _check(options: Options, origin: Origin, file: Path) -> None:
    if options.patch is not None and origin not in PATCHED:
        kinds = all_of(NAMES[kind] for kind in PATCHED)
        raise UsageError(f"--patch: only works for {kinds}, but {file} is from {NAMES[origin]}; leave it out")
    if options.patch is not None and not 0 < options.patch < 1:
        raise UsageError(f"--patch {options.patch:g}: is not a share of the base; give a number between 0 and 1")
    if options.base is not None and origin != "vifi" and options.patch is None:
        raise UsageError(f"--base {options.base}: is not used for {NAMES[origin]} without --patch; leave it out")


def _check_attention(content: Mapping[str, object], file: Path) -> None:
    """Raise ModelError if the settings in a file name another attention over frames, which tensors do not show."""
    settings = content.get("cfg")
    found = re.search(r"TEMPORAL_MODELING_TYPE:[ \t]*(\S+)", settings) if isinstance(settings, str) else None
    kind = NEIGHBOUR_ATTENTION if found is None else found[1].strip("'\"")
    if kind != NEIGHBOUR_ATTENTION:
        raise ModelError(
            f"{file}: was trained with TEMPORAL_MODELING_TYPE {shorten(kind, SHOWN)}, but bike only supports "
            f"{NEIGHBOUR_ATTENTION}; import another checkpoint"
        )


# -- tensors -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Unused:
    """Why tensors are left out, and what to call them together."""

    group: str
    reason: str


def _place_in_vifi(name: str) -> str | _Unused:
    """Return the name that CLIP has for a tensor of ViFi-CLIP; an unknown name stays, and is refused later."""
    if name == "prompt_learner.complete_text_embeddings":
        return _Unused(name, "texts of the training labels")
    if name.startswith("image_encoder."):
        return "visual." + name.removeprefix("image_encoder.")
    return name.removeprefix("text_encoder.")


def _place_in_open_vclip(name: str) -> str | _Unused:
    """Return the name that CLIP has for a tensor of Open-VCLIP or FROSTER; an unknown name stays."""
    top = name.partition(".")[0]
    if top == "raw_model":
        return _Unused("raw_model.*", "the frozen CLIP used in training")
    if top in ("projector_v", "projector_t"):
        return _Unused(f"{top}.*", "only used in training")
    return name.removeprefix("model.")


def _renamed(
    tensors: Mapping[str, Tensor], place: Callable[[str], str | _Unused], file: Path
) -> tuple[dict[str, Tensor], list[str]]:
    """Return tensors by CLIP's names, and a description of those that are left out."""
    state: dict[str, Tensor] = {}
    unused: dict[_Unused, int] = {}
    for name, tensor in tensors.items():
        placed = place(name)
        if isinstance(placed, _Unused):
            unused[placed] = unused.get(placed, 0) + 1
        elif placed in state:
            raise ModelError(f"{file}: has two tensors for {shorten(placed, SHOWN)}; remove one of them")
        else:
            state[placed] = tensor
    return state, [f"{unused_.group} ({unused_.reason})" for unused_ in unused]


def _with_base(
    state: dict[str, Tensor], origin: Origin, options: Options, file: Path
) -> tuple[dict[str, Tensor], str | None]:
    """Return the tensors, completed or averaged with those of the base, and its name; None if it is not used."""
    needs_embedding = origin == "vifi" and EMBEDDING not in state
    if options.base is not None and not needs_embedding and options.patch is None:
        raise UsageError(f"--base {options.base}: is not needed, because {file} has all tensors; leave it out")
    if not needs_embedding and options.patch is None:
        return state, None
    name = options.base or _default_base(state, file)
    base = open_checkpoint(name, offline=options.offline).clip.state_dict()
    if needs_embedding:
        return {**state, EMBEDDING: _embedding(base, name, state, file)}, name
    assert options.patch is not None
    return _averaged(state, base, options.patch, name=name, file=file), name


def _default_base(state: Mapping[str, Tensor], file: Path) -> str:
    """Return the weights of OpenAI with the sizes of a file."""
    final = state.get("ln_final.weight")
    width = 0 if final is None else final.shape[0]  # 0: reported by `config_of`
    arch = arch_of(config_of({EMBEDDING: torch.empty(VOCABULARY, width, device="meta"), **state}, file))
    return DEFAULT_BASE if arch is None else f"{OFFICIAL_ARCHS[arch]},openai"


def _embedding(base: Mapping[str, Tensor], name: str, state: Mapping[str, Tensor], file: Path) -> Tensor:
    """Return the token embedding of the base."""
    embedding, final = base.get(EMBEDDING), state.get("ln_final.weight")
    fits = embedding is not None and len(embedding) == VOCABULARY
    if embedding is None or not fits or (final is not None and embedding.shape[1:] != final.shape):
        raise ModelError(
            f"{name}: its token embedding does not fit {file}; name the CLIP that the file was trained from with --base"
        )
    return embedding


def _averaged(
    state: Mapping[str, Tensor], base: Mapping[str, Tensor], share: float, *, name: str, file: Path
) -> dict[str, Tensor]:
    """Return the weights averaged with those of the base.

    Source: Open-VCLIP, tools/test_net.py: `PATCHING_RATIO` is the share of the base.
    """
    # Tensors that only the file has are refused by the check of all tensors.
    differing = sorted(n for n in base if n not in state or state[n].shape != base[n].shape)
    if differing:
        raise ModelError(
            f"{name}: its tensors differ from those of {file} ({_listed(differing)}); name the CLIP that the file was "
            "trained from with --base"
        )
    return {n: t.float() * (1 - share) + base[n].float() * share if n in base else t for n, t in state.items()}


def _listed(names: Iterable[str]) -> str:
    first, *others = (shorten(name, SHOWN) for name in names)
    return ", ".join([first, *others[:4], *(["…"] if len(others) > 4 else [])])


# -- the model ---------------------------------------------------------------------------------------------------


def _checkpoint(state: Mapping[str, Tensor], defaults: Defaults, options: Options, file: Path) -> Checkpoint:
    config, origin = config_of(state, file), f"{file}, with CLIP's names"
    outline_clip(config, state, origin=origin)
    clip = fill_clip(config, state, origin=origin)
    plain = Checkpoint(options.name, clip, config, image_recipe(OPENAI, clip.visual, origin), Recipe())
    return _with_defaults(plain, defaults, options)


def _from_actionclip(file: Path, content: Mapping[str, object], options: Options) -> ImportedModel:
    plain = official_checkpoint(file)
    if plain.attribute_head is not None:
        raise ModelError(f"{file}: has an attribute head, which only BIKE models have; use it with --model {file}")
    others = [name for name in content if name not in ("model_state_dict", "fusion_model_state_dict")]
    left_out = (f"{_listed(others)} (training state)",) if others else ()
    checkpoint = _with_defaults(plain, DEFAULTS["actionclip"], options)
    return ImportedModel(checkpoint, "actionclip", left_out)


def _with_defaults(plain: Checkpoint, defaults: Defaults, options: Options) -> Checkpoint:
    frames = options.frames or defaults.frames
    sampling = SamplingConfig(frames=frames, clips=defaults.clips, sampling=defaults.sampling)
    side = BIKE_RESIZE.get(plain.image.side) if defaults.resizes_larger else None
    return replace(
        plain,
        name=options.name,
        image=replace(plain.image, interpolation=defaults.interpolation, resize_side=side),
        recipe=Recipe(template=defaults.template),
        licence=options.licence or defaults.licence,
        training=TrainingRecord((), sampling, defaults.pool),
    )
