"""The configuration of `bike embed`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bike_cli.config.commands import VideoConfig
from bike_cli.config.fields import OUTPUT, flag, same_flag
from bike_cli.config.sections import (
    DecodingConfig,
    DescriptionUse,
    EngineConfig,
    SamplingConfig,
    StoreConfig,
    check_decoder,
)


@dataclass(frozen=True)
class EmbedConfig:
    """The configuration of `bike embed`."""

    engine: EngineConfig = field(default_factory=EngineConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    dtype: Literal["auto", "float16", "float32"] = flag(
        "--dtype",
        default="auto",
        panel=OUTPUT,
        affects="features",
        help="Numbers in embeddings: auto loses nothing (float16 with --precision fp16, otherwise float32); float16 "
        "takes half the space.",
    )
    template: str | None = same_flag(VideoConfig, "template")
    descriptions: DescriptionUse = same_flag(VideoConfig, "descriptions")

    def __post_init__(self) -> None:
        check_decoder(self.decoding, draft=self.sampling.draft)

    def video_config(self) -> VideoConfig:
        """Return the configuration of what reads the videos."""
        return VideoConfig(self.engine, self.sampling, self.decoding, self.store)
