"""Every default of bike, and nowhere else: dataclasses whose fields carry their flags, help and effects.

`fields.py` has the helper that describes a field, `sections.py` what commands share, and `commands.py`,
`evaluation.py`, `finetune.py` and `spot.py` the configurations of the commands. They import nothing but the standard
library and `errors`.
"""

from bike_cli.config.commands import (
    CalibrateConfig,
    ClassifyConfig,
    DrawConfig,
    FewshotConfig,
    RejectionConfig,
    VideoConfig,
)
from bike_cli.config.embed import EmbedConfig
from bike_cli.config.evaluation import SUBSET, EvalConfig, Protocol
from bike_cli.config.fields import RESULTS, Affects, Flag, flag, flag_of
from bike_cli.config.finetune import (
    BatchConfig,
    Branch,
    FinetuneConfig,
    HeadKind,
    KeepingConfig,
    LearningConfig,
    OneBranch,
    Strategy,
)
from bike_cli.config.sections import (
    DENSE_WINDOW,
    PROMPT,
    TRAINED_ATTRIBUTE_WEIGHT,
    AttributeConfig,
    Decoder,
    DecodingConfig,
    Descriptions,
    DescriptionUse,
    Device,
    EngineConfig,
    Pool,
    Precision,
    Recipe,
    SamplingConfig,
    ScoreKind,
    Spot,
    SpottingConfig,
    StoreConfig,
    TrainingRecord,
)
from bike_cli.config.spot import SpotConfig

__all__ = [
    "DENSE_WINDOW",
    "PROMPT",
    "RESULTS",
    "SUBSET",
    "TRAINED_ATTRIBUTE_WEIGHT",
    "Affects",
    "AttributeConfig",
    "BatchConfig",
    "Branch",
    "CalibrateConfig",
    "ClassifyConfig",
    "Decoder",
    "DecodingConfig",
    "DescriptionUse",
    "Descriptions",
    "Device",
    "DrawConfig",
    "EmbedConfig",
    "EngineConfig",
    "EvalConfig",
    "FewshotConfig",
    "FinetuneConfig",
    "Flag",
    "HeadKind",
    "KeepingConfig",
    "LearningConfig",
    "OneBranch",
    "Pool",
    "Precision",
    "Protocol",
    "Recipe",
    "RejectionConfig",
    "SamplingConfig",
    "ScoreKind",
    "Spot",
    "SpotConfig",
    "SpottingConfig",
    "StoreConfig",
    "Strategy",
    "TrainingRecord",
    "VideoConfig",
    "flag",
    "flag_of",
]
