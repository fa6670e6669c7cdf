"""The sections that configurations share: model, frames, decoding, cache, spotting and attributes."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal

from bike_cli.config.fields import DECODING, FRAMES, MODEL, TEXTS, check_above, check_at_least, flag
from bike_cli.errors import ConfigError, shorten

Device = str
Precision = Literal["auto", "fp32", "fp16", "bf16"]
Pool = Literal["tcs", "mean", "scores"]
ScoreKind = Literal["softmax", "sigmoid"]
Spot = Literal["words", "eot", "all"]
Sampling = Literal["uniform", "keyframe", "dense"]
Decoder = Literal["auto", "decord", "av"]
DescriptionUse = Literal["add", "only", "off"]
Descriptions = Mapping[str, tuple[str, ...]]  # by label; a label without descriptions may be missing

TEMPERATURES = (1e-6, 1e6)  # beyond, float32 overflows
DENSE_WINDOW = 128  # frames that a dense clip spans, whatever their rate: the official `sample_range`
PROMPT = "This is a video about {}"  # BIKE's, without a full stop; the prefix of the attribute sentence too
TRAINED_ATTRIBUTE_WEIGHT = 0.3  # the official fusion, 0.7 video + 0.3 attributes

_model = partial(flag, panel=MODEL)
_frames = partial(flag, panel=FRAMES)
_decoding = partial(flag, panel=DECODING)
_texts = partial(flag, panel=TEXTS, affects="scores")


@dataclass(frozen=True)
class EngineConfig:
    """Which model, and where it runs."""

    model: str = flag(
        "-m",
        "--model",
        default="base",
        affects="features",
        help="Model to use: a short name, ARCH,TAG of open_clip, a file or a folder; see bike models.",
    )
    device: Device = _model(
        "--device", default="auto", affects="runtime", help="Device to run on: auto, cuda, cuda:1, mps or cpu."
    )
    precision: Precision = _model(
        "--precision",
        default="auto",
        affects="features",
        help="Floating-point precision; auto is half precision on CUDA, fp32 elsewhere.",
    )
    offline: bool = _model("--offline", default=False, affects="runtime", help="Never access the network.")
    compile: bool = _model(
        "--compile",
        default=False,
        affects="runtime",
        help="Compile the image tower, which takes half a minute at the start and makes the rest faster.",
    )


@dataclass(frozen=True)
class SamplingConfig:
    """Which frames of a video are read, and how many crops of each frame."""

    frames: int = _frames("--frames", default=8, affects="pixels", help="Frames to read per clip.")
    clips: int = _frames(
        "--clips", default=1, affects="pixels", help="Clips per video, spread over time; their scores are averaged."
    )
    crops: Literal[1, 3] = _frames("--crops", default=1, affects="pixels", help="Crops per frame: 1 or 3.")
    sampling: Sampling = _frames(
        "--sampling",
        default="uniform",
        affects="pixels",
        help="How to choose frames: uniform spreads them over the video; keyframe takes the keyframes nearest to "
        f"those, which is much faster; dense spreads each clip over {DENSE_WINDOW} neighbouring frames.",
    )
    draft: bool = _frames(
        "--draft",
        default=False,
        affects="pixels",
        help="Skip frames that no other frame needs, and the loop filter: faster, with slightly different scores.",
    )

    def __post_init__(self) -> None:
        check_at_least(1, frames=self.frames, clips=self.clips)
        if self.sampling == "dense" and self.frames > DENSE_WINDOW:
            problem = f"frames is {self.frames}; a dense clip has at most {DENSE_WINDOW}"
            raise ConfigError(problem, settings=("frames", "sampling"))


@dataclass(frozen=True)
class DecodingConfig:
    """How videos are decoded; of these fields, only the decoder can affect the frames."""

    decoder: Decoder = _decoding(
        "--decoder",
        default="auto",
        affects="pixels",
        help="Decoder to use; auto picks the fastest that reads a file exactly.",
    )
    workers: int | None = _decoding(
        "--workers", default=None, affects="runtime", default_text="one per core", help="Processes that decode videos."
    )
    decode_timeout: float = _decoding(
        "--decode-timeout",
        default=30.0,
        affects="runtime",
        metavar="SECONDS",
        help="Seconds that decoding a video may take.",
    )
    decode_memory: int = _decoding(
        "--decode-memory",
        default=4096,
        affects="runtime",
        metavar="MIB",
        help="Memory that decoding a video may take, in MiB.",
    )

    def __post_init__(self) -> None:
        check_at_least(1, decode_memory=self.decode_memory, workers=self.workers)
        check_above(0, decode_timeout=self.decode_timeout)


def check_decoder(decoding: DecodingConfig, *, draft: bool) -> None:
    """Raise ConfigError for a draft with a decoder that decodes every frame."""
    if draft and decoding.decoder == "decord":
        problem = "draft is on and decoder is decord, which skips no frame"
        raise ConfigError(f"{problem}; give decoder auto, or no draft", settings=("draft", "decoder"))


@dataclass(frozen=True)
class StoreConfig:
    """Whether frame features are kept on disk, and where."""

    cache: bool = _decoding(
        "--cache/--no-cache",
        default=True,
        affects="runtime",
        help="Keep frame features on disk, so that a run with other labels need not decode again.",
    )
    cache_dir: str | None = _decoding(
        "--cache-dir",
        default=None,
        affects="runtime",
        default_text="the user's cache folder",
        help="Folder of the feature cache.",
    )


@dataclass(frozen=True)
class SpottingConfig:
    """How frames are weighted. None: what the model was trained or validated with."""

    pool: Pool = _frames(
        "--pool",
        default="tcs",
        affects="scores",
        help="How to combine frames: tcs weights them by the label, mean averages their features, scores averages "
        "their scores.",
    )
    spot: Spot | None = _frames(
        "--spot",
        default=None,
        affects="scores",
        default_text="the model's own",
        help="Which tokens weight the frames: the label's words, the end of text, or all positions, as in the "
        "official BIKE code.",
    )
    temperature: float | None = _frames(
        "--temperature",
        default=None,
        affects="scores",
        default_text="the model's own",
        help="Temperature of the frame weights; lower is sharper.",
    )

    def __post_init__(self) -> None:
        if self.temperature is not None and not _is_number_in(self.temperature, *TEMPERATURES):
            raise ConfigError(f"temperature is {self.temperature}; give a number from 0.000001 to 1000000")


@dataclass(frozen=True)
class AttributeConfig:
    """Which words may describe a video, and how much they count.

    `attribute_weight`: None means 0, or, for a trained attribute branch or an `attribute_model`, the weight that
    training chose, else 0.3.
    """

    attributes: str = _texts(
        "--attributes",
        default="auto",
        help="Lexicon of words that may describe a video: auto (the model's own), off, a name or a file.",
    )
    attribute_weight: float | None = _texts(
        "--attribute-weight",
        default=None,
        default_text=f"0; {TRAINED_ATTRIBUTE_WEIGHT} with a trained branch or an --attribute-model",
        help="Weight of attributes in the scores, from 0 to 1.",
    )
    attribute_model: str | None = _texts(
        "--attribute-model", default=None, help="A second, stronger model that finds the attributes."
    )
    attribute_count: int = _texts("--attribute-count", default=5, help="Attributes per video.")

    def __post_init__(self) -> None:
        check_at_least(1, attribute_count=self.attribute_count)
        if self.attribute_weight is not None and not 0 <= self.attribute_weight <= 1:
            raise ConfigError(f"attribute_weight is {self.attribute_weight}; give a number from 0 to 1")


@dataclass(frozen=True)
class Recipe:
    """What a model was trained or validated with: the defaults that come with it."""

    spot: Spot = "eot"  # the one text feature that every CLIP is trained on
    temperature: float = 0.01
    template: str = "bike"
    lexicon: str = "common"  # a third of ImageNet's names: on a CPU their texts are read in seconds
    attribute_weight: float | None = None  # of the attribute branch, where training has chosen it

    def __post_init__(self) -> None:
        if not isinstance(self.spot, str) or self.spot not in typing.get_args(Spot):
            raise ValueError(f"spot is {shorten(repr(self.spot), 60)}, not one of {', '.join(typing.get_args(Spot))}")
        if not _is_number_in(self.temperature, *TEMPERATURES):
            raise ValueError(
                f"temperature is {shorten(repr(self.temperature), 60)}, not a number from 0.000001 to 1000000"
            )
        for name in ("template", "lexicon"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ValueError(f"{name} is {shorten(repr(getattr(self, name)), 60)}, not a text")
        if self.attribute_weight is not None and not _is_number_in(self.attribute_weight, 0, 1):
            shown = shorten(repr(self.attribute_weight), 60)
            raise ValueError(f"attribute_weight is {shown}, not a number from 0 to 1")


@dataclass(frozen=True)
class TrainingRecord:
    """What a model was trained for: the defaults that come with it, in addition to its `Recipe`.

    Args:
        labels: in the order of training; empty where they are not known, as for imported models.
        also: further labels that it is used with, which it was not trained with.
        sampling: how videos were read.
        pool: how frames were combined.
    """

    labels: tuple[str, ...]
    sampling: SamplingConfig
    pool: Pool
    also: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, str | int | bool]:
        """The settings of the training, by the names of config fields."""
        return {**asdict(self.sampling), "pool": self.pool}


def _is_number_in(value: object, lowest: float, highest: float) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and lowest <= value <= highest  # type: ignore[operator]
