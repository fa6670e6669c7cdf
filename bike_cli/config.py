"""Every default of bike, and nowhere else."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from typing import Literal

from bike_cli.errors import ConfigError, shorten

Device = str
Precision = Literal["auto", "fp32", "fp16", "bf16"]
Pool = Literal["tcs", "mean"]
Spot = Literal["words", "eot", "all"]
Sampling = Literal["uniform", "keyframe", "dense"]
Decoder = Literal["auto", "decord", "av"]
OneBranch = Literal["video", "attributes"]
Branch = Literal["video", "attributes", "both"]
HeadKind = Literal["auto", "transf", "none"]
Loss = Literal["auto", "nce", "ds", "ce", "bce"]
Strategy = Literal["ddp", "fsdp"]
Protocol = Literal["standard", "zeroshot-full", "zeroshot-half", "k600", "fewshot", "multilabel", "anet"]

DENSE_WINDOW = 128  # frames that a dense clip spans, whatever their rate: the official `sample_range`
MOST_RESAMPLES = 100_000
PROMPT = "This is a video about {}"  # BIKE's, without a full stop; the prefix of the attribute sentence too
# Where and how a run is computed, not what: no part of a report.
PRIVATE = ("device", "workers", "cache", "cache_dir", "decode_timeout", "decode_memory", "offline", "compile")


@dataclass(frozen=True)
class EngineConfig:
    """Which model, and where it runs."""

    model: str = "base"
    device: Device = "auto"
    precision: Precision = "auto"
    offline: bool = False
    compile: bool = False


@dataclass(frozen=True)
class SamplingConfig:
    """Which frames of a video are read, and how many crops of each are seen.

    `sampling`: `uniform` spreads the frames over the whole video, `keyframe` takes the keyframes nearest to those,
    `dense` spreads each clip over 128 neighbouring frames.
    `draft`: skip the frames on which no other depends, and the loop filter.
    """

    frames: int = 8
    clips: int = 1
    crops: Literal[1, 3] = 1
    sampling: Sampling = "uniform"
    draft: bool = False

    def __post_init__(self) -> None:
        _at_least(1, frames=self.frames, clips=self.clips)
        if self.sampling == "dense" and self.frames > DENSE_WINDOW:
            raise ConfigError(f"frames is {self.frames}; a dense clip has at most {DENSE_WINDOW}")


@dataclass(frozen=True)
class DecodingConfig:
    """How videos are decoded; frames do not depend on it, but for which decoder reads them.

    `workers`: processes; None: one a core. `decode_timeout`: seconds a video. `decode_memory`: MiB a worker may take
    on top of what it has when it starts.
    """

    decoder: Decoder = "auto"
    workers: int | None = None
    decode_timeout: float = 30.0
    decode_memory: int = 4096

    def __post_init__(self) -> None:
        _at_least(1, decode_memory=self.decode_memory, **({} if self.workers is None else {"workers": self.workers}))
        if not 0 < self.decode_timeout < float("inf"):
            raise ConfigError(f"decode_timeout is {self.decode_timeout}; give seconds above 0, such as 30")


@dataclass(frozen=True)
class StoreConfig:
    """Whether frame features are kept on disk, and where; `cache_dir` None: the user's cache folder."""

    cache: bool = True
    cache_dir: str | None = None


@dataclass(frozen=True)
class SpottingConfig:
    """How frames are weighed. None: what the model was trained or validated with."""

    pool: Pool = "tcs"
    spot: Spot | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        if self.temperature is not None and not 0 < self.temperature < float("inf"):
            raise ConfigError(f"temperature is {self.temperature}; give a number above 0, such as 0.01")


@dataclass(frozen=True)
class AttributeConfig:
    """Which words may describe a video, and how much they count.

    `attributes`: `auto` (the model's own lexicon), `off`, a lexicon's name or a file of phrases.
    `attribute_weight`: None means 0, or where a trained attribute branch or an `attribute_model` gives them what
    training has chosen, else 0.3.
    """

    attributes: str = "auto"
    attribute_weight: float | None = None
    attribute_model: str | None = None
    attribute_count: int = 5

    def __post_init__(self) -> None:
        _at_least(1, attribute_count=self.attribute_count)
        if self.attribute_weight is not None and not 0 <= self.attribute_weight <= 1:
            raise ConfigError(f"attribute_weight is {self.attribute_weight}; give a number from 0 to 1")


TRAINED_ATTRIBUTE_WEIGHT = 0.3  # the official fusion, 0.7 video + 0.3 attributes


@dataclass(frozen=True)
class _SeeingConfig:
    """How videos are seen and labels read: what commands that look at videos share."""

    engine: EngineConfig = field(default_factory=EngineConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    spotting: SpottingConfig = field(default_factory=SpottingConfig)
    attributes: AttributeConfig = field(default_factory=AttributeConfig)
    template: str | None = None

    def __post_init__(self) -> None:
        if self.sampling.draft and self.decoding.decoder == "decord":
            raise ConfigError("draft is on and decoder is decord, which skips no frame; give decoder auto, or no draft")

    @property
    def classifying(self) -> ClassifyConfig:
        """What `classify` would have to be told to see videos in the same way."""
        return ClassifyConfig(**{f.name: getattr(self, f.name) for f in dataclasses.fields(_SeeingConfig)})


@dataclass(frozen=True)
class ClassifyConfig(_SeeingConfig):
    """All that `bike classify` can be told."""

    top: int = 5
    explain: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(1, top=self.top)


@dataclass(frozen=True)
class FewshotConfig(_SeeingConfig):
    """All that `bike fewshot` can be told.

    `shots`: numbers of videos a class, `1,2,4`; `auto`: 1, 2, 4, 8, 16 as far as the data go. `method`: names, or
    `all`. `test_fraction`: of each class's videos, held back for testing; None: what is not drawn is tested on.
    """

    shots: str = "auto"
    method: str = "probe"
    trials: int = 3
    seed: int = 0
    test_fraction: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(1, trials=self.trials)
        _at_least(0, seed=self.seed)
        if self.test_fraction is not None and not 0 < self.test_fraction < 1:
            raise ConfigError(f"test_fraction is {self.test_fraction}; give a number between 0 and 1, such as 0.3")


@dataclass(frozen=True)
class EvalConfig(_SeeingConfig):
    """All that `bike eval` can be told.

    `official`: tell what the official code would print, too, beside our figures. `resamples`: of the bootstrap; its
    intervals are of 95 %. `official_batch`: videos a batch, on which the official running mAP depends. `shots`,
    `method`, `trials`: of the protocol `fewshot`, as for `bike fewshot`.
    """

    protocol: Protocol = "standard"
    official: bool = False
    seed: int = 0
    resamples: int = 1000
    official_batch: int = 16
    shots: str = "auto"
    method: str = "probe"
    trials: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least(0, seed=self.seed)
        if self.resamples > MOST_RESAMPLES:
            raise ConfigError(f"resamples is {self.resamples}; at most {MOST_RESAMPLES}, which no interval needs")
        _at_least(1, resamples=self.resamples, official_batch=self.official_batch, trials=self.trials)


@dataclass(frozen=True)
class LearningConfig:
    """What learns, from what signal, and how fast: the paper's recipe for Kinetics-400.

    `head`: the temporal head: `transf`, `none`, or `auto`: `transf`, new where the model has none. `loss`: `auto` is
    `nce`, and `bce` where videos have several labels. `freeze`: of `text`, `image`, `image:N` (up to its block N),
    `head`, `scale`; the text tower is frozen beside them, unless it is `none`. `lr`: of heads; CLIP's is `clip_ratio`
    of it. `warmup`: epochs; None: 5, a quarter where there are fewer than 20.
    """

    branch: Branch = "video"
    head: HeadKind = "auto"
    loss: Loss = "auto"
    freeze: str = "text"
    epochs: int = 30
    lr: float = 5e-5
    clip_ratio: float = 0.1
    weight_decay: float = 0.2
    warmup: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _at_least(1, epochs=self.epochs)
        _at_least(0, seed=self.seed)
        _above(0, lr=self.lr)
        _from(0, clip_ratio=self.clip_ratio, weight_decay=self.weight_decay)
        if self.warmup is not None and not 0 <= self.warmup < self.epochs:
            raise ConfigError(f"warmup is {self.warmup} of {self.epochs} epochs; give fewer, or more epochs")

    @property
    def warm_up(self) -> float:
        """Epochs of linear warm-up."""
        return min(5.0, self.epochs / 4) if self.warmup is None else self.warmup


@dataclass(frozen=True)
class BatchConfig:
    """How videos come together, and how they are varied.

    `batch_size`: videos, over all processes and parts; `auto`: what fits. `accumulate`: parts a batch goes through the
    model in, one behind the other, for the same gradients; None: as few as fit. `flip`: `auto` mirrors videos unless a
    label says left or right. `jitter`: of colours, grey among them. `balanced`: each class comes up equally often.
    `strategy`: what each of several processes holds: `ddp` all learning weights and their optimizer's numbers, `fsdp` a
    share of them.
    """

    batch_size: int | Literal["auto"] = 256
    accumulate: int | None = None
    augment: bool = True
    flip: Literal["auto", "yes", "no"] = "auto"
    jitter: bool = True
    balanced: bool = False
    checkpointing: bool = False
    strategy: Strategy = "ddp"

    def __post_init__(self) -> None:
        if self.batch_size == "auto" and self.strategy == "fsdp":
            raise ConfigError("batch_size is auto, and what fits is not tried with strategy fsdp; give a number")
        if self.batch_size != "auto":
            _at_least(2, batch_size=self.batch_size)
        if self.accumulate is not None:
            _at_least(1, accumulate=self.accumulate)


@dataclass(frozen=True)
class KeepingConfig:
    """What is validated on, when training ends early, and what is kept.

    `val_fraction`: of each class's training videos, where there is no validation side. `early_stop`: epochs without a
    better validation. `wise_ft`: how far the kept weights go from the starting ones (0) to the fine-tuned ones (1).
    `save_minutes`: between checkpoints.
    """

    val_fraction: float = 0.1
    early_stop: int | None = None
    wise_ft: float | None = None
    save_minutes: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.val_fraction < 1:
            raise ConfigError(f"val_fraction is {self.val_fraction}; give a number between 0 and 1, such as 0.1")
        if self.wise_ft is not None and not 0 <= self.wise_ft <= 1:
            raise ConfigError(f"wise_ft is {self.wise_ft}; give a number from 0, the start, to 1, such as 0.5")
        if self.early_stop is not None:
            _at_least(1, early_stop=self.early_stop)
        _above(0, save_minutes=self.save_minutes)


@dataclass(frozen=True)
class FinetuneConfig(_SeeingConfig):
    """All that `bike finetune` can be told."""

    learning: LearningConfig = field(default_factory=LearningConfig)
    batches: BatchConfig = field(default_factory=BatchConfig)
    keeping: KeepingConfig = field(default_factory=KeepingConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learning.branch == "attributes" and self.keeping.wise_ft is not None:
            raise ConfigError(
                f"wise_ft is {self.keeping.wise_ft}, but branch is attributes, and it mixes weights of the video "
                "branch; leave it out"
            )
        if self.sampling.clips != 1 or self.sampling.crops != 1:
            raise ConfigError(
                "clips and crops are for testing; leave them out, a video is trained on one view at a time"
            )


@dataclass(frozen=True)
class Recipe:
    """What a model was trained or validated with: the defaults it brings along."""

    spot: Spot = "eot"  # the one text feature that every CLIP is trained on
    temperature: float = 0.01
    template: str = "bike"
    lexicon: str = "common"  # a third of ImageNet's names: on a CPU their texts are read in seconds
    attribute_weight: float | None = None  # of the attribute branch, where training has chosen it

    def __post_init__(self) -> None:
        if not isinstance(self.spot, str) or self.spot not in typing.get_args(Spot):
            raise ValueError(f"spot is {shorten(repr(self.spot), 60)}, not one of {', '.join(typing.get_args(Spot))}")
        if not _is_number_in(self.temperature, 1e-6, 1e6):  # beyond, float32 overflows
            raise ValueError(
                f"temperature is {shorten(repr(self.temperature), 60)}, not a number above 0, such as 0.01"
            )
        for name in ("template", "lexicon"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ValueError(f"{name} is {shorten(repr(getattr(self, name)), 60)}, not a text")
        if self.attribute_weight is not None and not _is_number_in(self.attribute_weight, 0, 1):
            shown = shorten(repr(self.attribute_weight), 60)
            raise ValueError(f"attribute_weight is {shown}, not a number from 0 to 1")


def _is_number_in(value: object, lowest: float, highest: float) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and lowest <= value <= highest  # type: ignore[operator]


def _at_least(lowest: int, **values: int) -> None:
    for name, value in values.items():
        if value < lowest:
            raise ConfigError(f"{name} is {value}; give a whole number of at least {lowest}")


def _above(limit: float, **values: float) -> None:
    for name, value in values.items():
        if not limit < value < float("inf"):
            raise ConfigError(f"{name} is {value}; give a number above {limit}")


def _from(lowest: float, **values: float) -> None:
    for name, value in values.items():
        if not lowest <= value < float("inf"):
            raise ConfigError(f"{name} is {value}; give a number of at least {lowest}")
