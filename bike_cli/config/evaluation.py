"""The configuration of `bike eval`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bike_cli.config.commands import DrawConfig, RejectionConfig
from bike_cli.config.fields import DETECTION, METRICS, check_at_least, flag, same_flag
from bike_cli.config.spot import SpotConfig
from bike_cli.config.thresholds import ACTIVITYNET, AUTO, THUMOS14, Thresholds
from bike_cli.errors import ConfigError, UsageError

Protocol = Literal["standard", "zeroshot-full", "zeroshot-half", "k600", "fewshot", "multilabel", "anet", "detection"]

MOST_RESAMPLES = 100_000
WITH_UNSEEN_SPLIT = ("standard", "zeroshot-full", "anet")  # protocols that evaluate all videos and labels at once
SUBSET = "validation"  # of ActivityNet annotations


@dataclass(frozen=True)
class EvalConfig(DrawConfig, RejectionConfig):
    """The configuration of `bike eval`.

    `shots`, `method` and `trials` belong to the protocol `fewshot`, `trials` also to `unseen_split`; `tiou` and
    everything after it to the protocol `detection`.
    """

    seed: int = flag(
        "--seed",
        default=DrawConfig.seed,
        panel=METRICS,
        affects="scores",
        help="Seed of the bootstrap and of random draws.",
    )
    protocol: Protocol = flag(
        "--protocol",
        default="standard",
        panel=METRICS,
        affects="scores",
        metavar="NAME",
        help="Which metrics to compute, and how: standard, zeroshot-full, zeroshot-half, k600, fewshot, multilabel, "
        "anet or detection.",
    )
    unseen_split: int | None = flag(
        "--unseen-split",
        default=None,
        panel=METRICS,
        affects="scores",
        metavar="K",
        help="Leave K classes out of the labels, so that their videos have none of the labels; each of --trials "
        "draws anew.",
    )
    official: bool = flag(
        "--official",
        default=False,
        panel=METRICS,
        affects="scores",
        help="Also report what the official code would print; with protocol detection, break ties as it does.",
    )
    resamples: int = flag(
        "--resamples",
        default=1000,
        panel=METRICS,
        affects="scores",
        help="Bootstrap resamples for confidence intervals.",
    )
    official_batch: int = flag(
        "--official-batch",
        default=16,
        panel=METRICS,
        affects="scores",
        help="Videos per batch in the official code's running mAP.",
    )
    tiou: str = flag(
        "--tiou",
        default=AUTO,
        panel=METRICS,
        affects="scores",
        metavar="START:END:STEP|T,…",
        help="Temporal overlaps (tIoU) at which protocol detection computes mAP; auto takes those of ActivityNet and "
        f"THUMOS14, {ACTIVITYNET} and {THUMOS14}.",
    )

    # The store of single clips does not depend on this rate, so their keys must not either.
    fps: float | None = same_flag(SpotConfig, "fps", panel=DETECTION, affects="scores")
    min_duration: float = same_flag(SpotConfig, "min_duration", panel=DETECTION)
    threshold: float | None = same_flag(SpotConfig, "threshold", panel=DETECTION)
    exclusive: bool = same_flag(SpotConfig, "exclusive", panel=DETECTION)

    def __post_init__(self) -> None:
        super().__post_init__()
        SpotConfig(self.fps, self.min_duration, self.threshold, self.exclusive)  # checks them
        Thresholds.parse(self.tiou)
        if self.resamples > MOST_RESAMPLES:
            raise ConfigError(f"resamples is {self.resamples}; it must be at most {MOST_RESAMPLES}")
        check_at_least(1, resamples=self.resamples, official_batch=self.official_batch)
        check_at_least(1, unseen_split=self.unseen_split)

    def check_unseen_split(self, *, multi_label: bool, has_unknown: bool) -> None:
        """Raise UsageError for `unseen_split` with a protocol, or with videos, that it does not suit."""
        if self.unseen_split is None:
            return
        problems = {
            f"is not supported by the protocol {self.protocol}": self.protocol not in WITH_UNSEEN_SPLIT,
            "needs videos with one label each, and these have several": multi_label,
            "chooses which videos have none of the labels, and --unknown does, too": has_unknown,
            "has no figures of the official code, and --official asks for them": self.official,
        }
        problem = next((text for text, is_one in problems.items() if is_one), None)
        if problem is not None:
            raise UsageError(f"--unseen-split: {problem}; leave one of them out", settings=("unseen_split",))

    def spot_config(self) -> SpotConfig:
        """Return how `bike spot` finds segments with the same settings.

        Raises:
            ConfigError: a setting that `bike spot` refuses.
        """
        return SpotConfig(
            fps=self.fps,
            min_duration=self.min_duration,
            threshold=self.threshold,
            exclusive=self.exclusive,
            template=self.template,
            descriptions=self.descriptions,
            attributes=self.attributes.attributes,
            spot=self.spotting.spot,
            temperature=self.spotting.temperature,
            draft=self.sampling.draft,
            engine=self.engine,
            decoding=self.decoding,
            store=self.store,
        )
