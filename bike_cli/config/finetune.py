"""The configuration of `bike finetune`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from bike_cli.config.commands import VideoConfig
from bike_cli.config.fields import (
    BATCHES,
    DATA,
    KEEPING,
    LEARNING,
    check_above,
    check_at_least,
    check_not_below,
    flag,
)
from bike_cli.errors import ConfigError

OneBranch = Literal["video", "attributes"]
Branch = Literal["video", "attributes", "both"]
HeadKind = Literal["auto", "transf", "none"]
Loss = Literal["auto", "nce", "ds", "ce", "bce"]
Strategy = Literal["ddp", "fsdp"]

RUN_CONFIG = "config.yaml"  # in the folder of a run: the settings that it was started with

_learning = partial(flag, panel=LEARNING, affects="training")
_batches = partial(flag, panel=BATCHES)
_keeping = partial(flag, panel=KEEPING)


@dataclass(frozen=True)
class LearningConfig:
    """What is trained, with which loss, and how fast; the defaults are the paper's recipe for Kinetics-400."""

    branch: Branch = _learning("--branch", default="video", help="Which branch to train.")
    head: HeadKind = _learning(
        "--head", default="auto", help="Temporal head; auto is transf, newly made where the model has none."
    )
    loss: Loss = _learning("--loss", default="auto", help="Training loss; auto is nce, or bce with --multi-label.")
    freeze: str = _learning(
        "--freeze",
        default="text",
        metavar="PART,…",
        help="Parts to freeze, in addition to the text tower: image, image:6 (its first 6 blocks), head, scale. "
        "none freezes nothing, not even the text tower.",
    )
    epochs: int = _learning("--epochs", default=30, help="Passes over the training videos.")
    lr: float = _learning("--lr", default=5e-5, help="Learning rate of the heads.")
    clip_ratio: float = _learning(
        "--clip-ratio",
        "--clip-lr-ratio",
        default=0.1,
        help="Learning rate of CLIP, as a fraction of that of the heads.",
    )
    weight_decay: float = _learning("--weight-decay", "--wd", default=0.2, help="Weight decay of AdamW.")
    warmup: float | None = _learning(
        "--warmup",
        default=None,
        default_text="5, or a quarter of fewer than 20 epochs",
        help="Epochs of linear warm-up.",
    )
    seed: int = _learning("--seed", default=0, help="Seed of everything that is random.")

    def __post_init__(self) -> None:
        check_at_least(1, epochs=self.epochs)
        check_at_least(0, seed=self.seed)
        check_above(0, lr=self.lr)
        check_not_below(0, clip_ratio=self.clip_ratio, weight_decay=self.weight_decay)
        if self.warmup is not None and not 0 <= self.warmup < self.epochs:
            problem = f"warmup is {self.warmup} of {self.epochs} epochs"
            raise ConfigError(f"{problem}; give fewer, or more epochs", settings=("warmup", "epochs"))

    @property
    def warm_up(self) -> float:
        """Epochs of linear warm-up."""
        return min(5.0, self.epochs / 4) if self.warmup is None else self.warmup


@dataclass(frozen=True)
class BatchConfig:
    """How videos are grouped into batches, and how they are augmented."""

    batch_size: int | Literal["auto"] = _batches(
        "--batch-size",
        default=256,
        affects="training",
        metavar="N|auto",
        help="Videos per batch, over all GPUs; auto takes the most that fit.",
    )
    accumulate: int | None = _batches(
        "--accumulate",
        "--accum",
        default=None,
        affects="runtime",
        metavar="PARTS",
        default_text="as few as fit",
        help="Parts into which a batch is split to save memory; the gradients stay the same.",
    )
    augment: bool = _batches(
        "--augment/--no-augment", default=True, affects="training", help="Vary crops, sides and colours."
    )
    flip: Literal["auto", "yes", "no"] = _batches(
        "--flip",
        default="auto",
        affects="training",
        help="Mirror videos; auto does so unless a label says left or right.",
    )
    jitter: bool = _batches(
        "--jitter/--no-jitter", default=True, affects="training", help="Vary colours, including greyscale."
    )
    balanced: bool = _batches("--balanced", default=False, affects="training", help="Draw each class equally often.")
    checkpointing: bool = _batches(
        "--checkpointing",
        "--grad-checkpointing",
        default=False,
        affects="runtime",
        help="Recompute activations instead of storing them: less memory, a third slower.",
    )
    strategy: Strategy = _batches(
        "--strategy",
        default="ddp",
        affects="runtime",
        help="What each of several processes holds: ddp, all trained weights; fsdp, a share of them (for ViT-L and "
        "larger).",
    )

    def __post_init__(self) -> None:
        if self.batch_size == "auto" and self.strategy == "fsdp":
            problem = "batch_size is auto, and what fits is not tried with strategy fsdp"
            raise ConfigError(f"{problem}; give a number", settings=("batch_size", "strategy"))
        if self.batch_size != "auto":
            check_at_least(2, batch_size=self.batch_size)
        check_at_least(1, accumulate=self.accumulate)


@dataclass(frozen=True)
class KeepingConfig:
    """What the model is validated on, when training ends early, and what is saved."""

    val_fraction: float = flag(
        "--val-fraction",
        "--val-frac",
        default=0.1,
        panel=DATA,
        affects="training",
        help="Share of each class to hold back for validation, where the data have no validation part.",
    )
    early_stop: int | None = _keeping(
        "--early-stop",
        default=None,
        affects="training",
        metavar="EPOCHS",
        help="Stop after this many epochs without a better validation result.",
    )
    wise_ft: float | None = _keeping(
        "--wise-ft",
        default=None,
        affects="training",
        metavar="SHARE",
        help="Save weights between the initial ones (0) and the fine-tuned ones (1), to stay accurate on other labels.",
    )
    save_minutes: float = _keeping(
        "--save-minutes",
        default=10.0,
        affects="runtime",
        help="Minutes between checkpoints; one is also written after each epoch.",
    )

    def __post_init__(self) -> None:
        if not 0 < self.val_fraction < 1:
            raise ConfigError(f"val_fraction is {self.val_fraction}; give a number between 0 and 1, such as 0.1")
        if self.wise_ft is not None and not 0 <= self.wise_ft <= 1:
            raise ConfigError(f"wise_ft is {self.wise_ft}; give a number from 0, the start, to 1, such as 0.5")
        check_at_least(1, early_stop=self.early_stop)
        check_above(0, save_minutes=self.save_minutes)


@dataclass(frozen=True)
class FinetuneConfig(VideoConfig):
    """The configuration of `bike finetune`."""

    learning: LearningConfig = field(default_factory=LearningConfig)
    batches: BatchConfig = field(default_factory=BatchConfig)
    keeping: KeepingConfig = field(default_factory=KeepingConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learning.branch == "attributes" and self.keeping.wise_ft is not None:
            raise ConfigError(
                f"wise_ft is {self.keeping.wise_ft}, but branch is attributes, and it mixes weights of the video "
                "branch; leave it out",
                settings=("wise_ft", "branch"),
            )
        if self.sampling.clips != 1 or self.sampling.crops != 1:
            raise ConfigError(
                "clips and crops are for testing; leave them out, a video is trained on one view at a time",
                settings=("clips", "crops"),
            )
