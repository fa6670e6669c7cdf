"""The configuration of `bike spot`."""

from __future__ import annotations

from dataclasses import dataclass, field

from bike_cli.config.commands import VideoConfig
from bike_cli.config.fields import FRAMES, OUTPUT, TEXTS, check_at_least, flag, same_flag
from bike_cli.config.sections import (
    AttributeConfig,
    DecodingConfig,
    DescriptionUse,
    EngineConfig,
    SamplingConfig,
    Spot,
    SpottingConfig,
    StoreConfig,
    check_decoder,
)
from bike_cli.errors import ConfigError

MOST_FPS = 60.0
FPS, FPS_WITH_HEAD = 2.0, 4.0  # a temporal head sees windows of 8 frames: 2 s at 4 per second


@dataclass(frozen=True)
class SpotConfig:
    """The configuration of `bike spot`.

    `fps`: None is 2, or 4 for a model with a temporal head. `threshold`: None is 0.5, or 0.9 for a saved classifier
    without a class `none`.
    """

    fps: float | None = flag(
        "--fps",
        default=None,
        affects="pixels",
        default_text="2; 4 for a model with a temporal head",
        help="Frames to look at per second of video; more find shorter events and place their ends more exactly.",
    )
    min_duration: float = flag(
        "--min-duration",
        default=1.0,
        affects="scores",
        metavar="SECONDS",
        help="Seconds below which segments, and gaps between them, are not told apart from noise.",
    )
    threshold: float | None = flag(
        "--threshold",
        default=None,
        affects="scores",
        default_text="0.5; 0.9 for a classifier without a class named none",
        help="Probability from which on a label counts as seen, against 300 typical phrases of the lexicon; between "
        "0 and 1.",
    )
    exclusive: bool = flag(
        "--exclusive", default=False, affects="scores", help="Report only one label at a time, the most probable."
    )
    top: int | None = flag(
        "-k",
        "--top",
        default=None,
        panel=OUTPUT,
        affects="nothing",
        default_text="all",
        help="Segments to report per label, best first.",
    )
    timeline: bool = flag(
        "--timeline",
        default=False,
        panel=OUTPUT,
        affects="nothing",
        help="Add the probability of each label at each time to JSON records.",
    )
    template: str | None = same_flag(VideoConfig, "template")
    descriptions: DescriptionUse = same_flag(VideoConfig, "descriptions")
    attributes: str = flag(
        "--attributes",
        default=AttributeConfig.attributes,
        panel=TEXTS,
        affects="scores",
        help="Lexicon of typical phrases, which a label must beat: auto (the model's own), a name or a file.",
    )
    spot: Spot | None = same_flag(SpottingConfig, "spot")
    temperature: float | None = same_flag(SpottingConfig, "temperature")
    draft: bool = same_flag(SamplingConfig, "draft", panel=FRAMES)
    engine: EngineConfig = field(default_factory=EngineConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    store: StoreConfig = field(default_factory=StoreConfig)

    def __post_init__(self) -> None:
        if self.fps is not None and not 0 < self.fps <= MOST_FPS:
            raise ConfigError(f"fps is {self.fps:g}; give a number above 0, and at most {MOST_FPS:g}")
        if not 0 < self.min_duration < float("inf"):
            raise ConfigError(f"min_duration is {self.min_duration:g}; give a number of seconds above 0")
        if self.fps is not None and self.min_duration < 1 / self.fps:
            problem = f"min_duration is {self.min_duration:g} s, shorter than a frame at {self.fps:g} per second"
            raise ConfigError(f"{problem}; give a longer one, or more --fps", settings=("min_duration", "fps"))
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ConfigError(f"threshold is {self.threshold:g}; give a number between 0 and 1")
        check_at_least(1, top=self.top)
        SpottingConfig(temperature=self.temperature)  # checks it
        check_decoder(self.decoding, draft=self.draft)
        if self.attributes == "off":
            raise ConfigError("attributes is off; give a lexicon: bike spot compares labels with its phrases")
        if self.decoding.decoder == "decord":
            raise ConfigError("decoder is decord, which cannot read a video in parts; give decoder auto")

    @property
    def sampling(self) -> SamplingConfig:
        """The part that decides what is decoded."""
        return SamplingConfig(draft=self.draft)

    def video_config(self) -> VideoConfig:
        """Return what classification of single clips would be configured with; attributes do not count."""
        return VideoConfig(
            engine=self.engine,
            sampling=self.sampling,
            decoding=self.decoding,
            store=self.store,
            spotting=SpottingConfig(spot=self.spot, temperature=self.temperature),
            attributes=AttributeConfig(attributes=self.attributes, attribute_weight=0.0),
            template=self.template,
            descriptions=self.descriptions,
        )
