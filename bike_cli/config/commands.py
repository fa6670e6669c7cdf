"""The configurations of `bike classify`, `bike calibrate` and `bike fewshot`, and what commands share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from bike_cli.config.fields import DATA, LEARNING, OUTPUT, TEXTS, check_at_least, flag
from bike_cli.config.sections import (
    AttributeConfig,
    DecodingConfig,
    DescriptionUse,
    EngineConfig,
    SamplingConfig,
    ScoreKind,
    SpottingConfig,
    StoreConfig,
    check_decoder,
)
from bike_cli.errors import ConfigError, UsageError

MOST_PROMISED = 0.5  # share of the videos of known labels that may be rejected

Given = TypeVar("Given")
Own = TypeVar("Own", covariant=True)


class HasCalibration(Protocol[Own]):
    """A saved classifier, perhaps with a calibration of its own."""

    @property
    def calibration(self) -> Own | None:
        """The calibration that `reject` auto uses, if there is one."""


@dataclass(frozen=True)
class VideoConfig:
    """How videos and labels are read: what all commands that read videos share."""

    engine: EngineConfig = field(default_factory=EngineConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    spotting: SpottingConfig = field(default_factory=SpottingConfig)
    attributes: AttributeConfig = field(default_factory=AttributeConfig)
    template: str | None = flag(
        "--template",
        default=None,
        panel=TEXTS,
        affects="scores",
        default_text="the model's own",
        help="Prompt template: bike, class, action, actionclip, a file of templates, or a text with {} in it; several "
        "templates are averaged.",
    )
    descriptions: DescriptionUse = flag(
        "--descriptions",
        default="add",
        panel=TEXTS,
        affects="scores",
        help="How to use descriptions in a file of labels: add averages them with the template, only uses them instead "
        "of it, off ignores them.",
    )

    def __post_init__(self) -> None:
        check_decoder(self.decoding, draft=self.sampling.draft)


@dataclass(frozen=True)
class RejectionConfig(VideoConfig):
    """When to answer that a video shows none of the labels; shared by the commands that do."""

    reject: str = flag(
        "--reject",
        default="off",
        panel=TEXTS,
        affects="scores",
        metavar="auto|COSINE|off",
        help="When to answer none of these: auto, if the best label fits worse than --calibration (or the calibration "
        "in the classifier) allows; or if its cosine is below a number, such as 0.24.",
    )
    promise: float | None = flag(
        "--promise",
        default=None,
        panel=TEXTS,
        affects="scores",
        metavar="SHARE",
        default_text="that of the calibration",
        help="Share of videos of your labels that --reject auto may reject.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reject not in ("off", "auto") and self.least_cosine is None:
            raise ConfigError(f"reject is {self.reject!r}; give off, auto, or a cosine between -1 and 1 such as 0.24")
        if self.promise is not None:
            check_promise(self.promise)

    def choose_calibration(self, given: Given | None, saved: HasCalibration[Own] | None) -> Given | Own | None:
        """Return the calibration of a run: the one that is given, or for `reject` auto the classifier's own.

        Args:
            given: the calibration, or its file.
            saved: the classifier that decides; None: cosines do. A threshold on cosines means nothing to a classifier.
        Raises:
            UsageError: a `reject` without a basis, or a promise without `reject` auto.
        """
        has_classifier = saved is not None
        own = saved.calibration if saved is not None and self.reject == "auto" else None
        chosen = own if given is None else given
        if self.reject == "auto" and chosen is None:
            problem, way_out = "has nothing to go by", "run bike calibrate and give its file with --calibration"
            if has_classifier:
                problem = "the classifier was saved without a calibration"
                way_out = "run bike calibrate --classifier and give its file with --calibration, or use --none"
            else:
                way_out += ", or give a cosine such as --reject 0.24"
            raise UsageError(f"--reject auto: {problem}; {way_out}", settings=("reject",))
        if self.least_cosine is not None and has_classifier:
            raise UsageError(
                f"--reject {self.reject}: is a cosine, but a classifier does not decide by cosines alone; give --reject"
                " auto, or --none",
                settings=("reject",),
            )
        if self.promise is not None and self.reject != "auto":
            raise UsageError(
                f"--promise {self.promise:g}: only counts with --reject auto; add it", settings=("promise",)
            )
        return chosen

    @property
    def least_cosine(self) -> float | None:
        """The cosine below which the best label is no answer; None if `reject` is not a number."""
        try:
            cosine = float(self.reject)
        except ValueError:
            return None
        return cosine if -1 <= cosine <= 1 else None


@dataclass(frozen=True)
class ClassifyConfig(RejectionConfig):
    """The configuration of `bike classify`."""

    scores: ScoreKind = flag(
        "--scores",
        default="softmax",
        panel=TEXTS,
        affects="scores",
        help="How scores are computed: softmax compares the labels, and scores sum to 1; sigmoid judges each label "
        "alone, for models that were trained to do so, such as SigLIP.",
    )
    top: int = flag("-k", "--top", default=5, panel=OUTPUT, affects="nothing", help="Labels to show per video.")
    explain: bool = flag(
        "--explain",
        default=False,
        panel=OUTPUT,
        affects="nothing",
        help="Show which frames decided the answer; tables name up to three of them.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, top=self.top)


def check_promise(promise: float) -> None:
    """Raise ConfigError for a share of videos that cannot be promised."""
    if not 0 < promise < MOST_PROMISED:
        raise ConfigError(f"promise is {promise:g}; give a number above 0 and below {MOST_PROMISED}, such as 0.05")


@dataclass(frozen=True)
class CalibrateConfig(VideoConfig):
    """The configuration of `bike calibrate`."""

    promise: float = flag(
        "--promise",
        default=0.05,
        panel=TEXTS,
        affects="scores",
        metavar="SHARE",
        help="Share of known clips that may be rejected, on average; below 0.5. 0.05 needs 19 known clips, 0.1 needs "
        "9.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_promise(self.promise)


@dataclass(frozen=True)
class DrawConfig(VideoConfig):
    """How training videos are drawn, and which few-shot methods learn from them."""

    shots: str = flag(
        "--shots",
        default="auto",
        affects="training",
        metavar="K,…",
        help="Training videos per class; auto tries 1, 2, 4, 8 and 16, as far as the data allow.",
    )
    method: str = flag(
        "--method",
        default="probe",
        panel=LEARNING,
        affects="training",
        metavar="NAME,…",
        help="Few-shot methods: probe, proto, tip or all of these; bike trains the image tower. Zero-shot is "
        "always reported.",
    )
    trials: int = flag("--trials", default=3, panel=LEARNING, affects="training", help="Number of random draws.")
    seed: int = flag("--seed", default=0, panel=LEARNING, affects="training", help="Seed of the random draws.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, trials=self.trials)
        check_at_least(0, seed=self.seed)


@dataclass(frozen=True)
class FewshotConfig(DrawConfig):
    """The configuration of `bike fewshot`."""

    test_fraction: float | None = flag(
        "--test-fraction",
        "--test-frac",
        default=None,
        panel=DATA,
        affects="training",
        default_text="test on all videos that are not drawn",
        help="Share of each class to hold back for testing.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.test_fraction is not None and not 0 < self.test_fraction < 1:
            raise ConfigError(f"test_fraction is {self.test_fraction}; give a number between 0 and 1, such as 0.3")
