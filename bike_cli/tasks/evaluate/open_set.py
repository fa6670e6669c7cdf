"""Videos that show none of the labels: which of them a system rejects."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from bike_cli.config import RejectionConfig, VideoConfig
from bike_cli.inference.rejection import Rejector
from bike_cli.tasks.evaluate.score_table import ScoreTable


def rejection_config(config: VideoConfig) -> RejectionConfig:
    """Return a configuration with its own rule of rejection; without any, it rejects nothing."""
    if isinstance(config, RejectionConfig):
        return config
    return RejectionConfig(**{part.name: getattr(config, part.name) for part in fields(VideoConfig)})


def judged(table: ScoreTable, rejector: Rejector | None) -> ScoreTable:
    """Return the table with what `bike classify` answers: which videos are rejected, at the scale of a calibration.

    Args:
        table: of a model, with the best cosines.
        rejector: that of the system; None: the table stays as it is.
    """
    if rejector is None:
        return table
    assert table.best_cosines is not None
    found = [rejector.judge(cosine) for cosine in table.best_cosines.tolist()]
    chances = [one.right for one in found if one.right is not None]
    return replace(
        table,
        rejected=np.array([one.is_rejected for one in found]),
        right=np.array(chances) if chances else None,
        scale=None if rejector.calibration is None else rejector.scale,
    )
