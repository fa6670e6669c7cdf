"""A localiser: the features of a video's bins in, its timeline out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bike_cli.engine.engine import Engine
from bike_cli.engine.localisation.decoding import Run, RunRule
from bike_cli.engine.localisation.localise import Localisation, localise, localise_log_odds
from bike_cli.engine.localisation.log_odds import EXCLUSIVE_LEAD, window_log_odds
from bike_cli.engine.scoring import probabilities
from bike_cli.errors import ModelError
from bike_cli.inference.bin_features import BinFeatures
from bike_cli.inference.classifier import Classifier
from bike_cli.records import FrameTimes, Peak, Segment, Timeline, VideoFeatures

WINDOWS_TOGETHER = 256  # that go through the temporal head and the classifier at once


@dataclass(frozen=True, eq=False)
class Localiser:
    """A model, its labels, and the rule that makes segments: everything that all videos share.

    Args:
        classifier: of the labels, followed by texts that are only rivals.
        labels: that are reported, by their place among the classifier's.
        phrases: [P, D] unit vectors of the lexicon; None where a saved classifier scores windows of `window` frames.
        window: frames per clip that a saved classifier was trained with.
    """

    classifier: Classifier
    labels: tuple[str, ...]
    places: tuple[int, ...]
    phrases: Tensor | None
    rule: RunRule
    exclusive: bool = False
    window: int = 0

    @property
    def engine(self) -> Engine:
        """The model."""
        return self.classifier.engine

    def timeline(self, video: BinFeatures, *, keep_scores: bool = False) -> Timeline:
        """Return when each label is seen in a video.

        Raises:
            ModelError: scores that are NaN or infinite.
        """
        try:
            located = self._localise(video, keep_scores=keep_scores)
        except ValueError as e:
            raise ModelError(
                f"{self.engine.name}: its scores for {video.source.id} are NaN or infinite; use --precision fp32, or "
                "another model"
            ) from e
        middles_s = (video.edges_s[:-1] + video.edges_s[1:]) / 2
        best = located.best
        return Timeline(
            source=video.source,
            labels=self.labels,
            segments=tuple(self._segment(run, video, middles_s) for run in located.runs),
            edges_s=video.edges_s,
            best=None if best is None else Peak(self.labels[best.label], float(middles_s[best.bin]), best.score),
            model=self.engine.name,
            fps=self.rule.fps,
            frames=video.n_frames,
            duration_s=video.duration_s,
            warning=video.warning,
            scores=None if located.chances is None else located.chances.numpy(),
            model_digest=self.engine.short_digest,
        )

    def _segment(self, run: Run, video: BinFeatures, middles_s: NDArray[np.float64]) -> Segment:
        start_s, end_s = video.edges_s[[run.start, run.stop]].tolist()
        return Segment(self.labels[run.label], start_s, end_s, run.score, float(middles_s[run.peak]))

    def _localise(self, video: BinFeatures, *, keep_scores: bool) -> Localisation:
        if self.phrases is None:
            numbers = self._window_log_odds(video)
            return localise_log_odds(numbers, video.is_read, self.rule, keep_chances=keep_scores)
        texts = self.classifier.texts
        with self.engine.encoder.placement.side_stream():
            return localise(
                video.frames.to(texts.classes.device),
                video.is_read,
                texts,
                self.phrases,
                head=self.engine.temporal_head,
                logit_scale=self.engine.logit_scale,
                rule=self.rule,
                exclusive=self.exclusive,
                reported=len(self.labels),
                keep_chances=keep_scores,
            )

    def _window_log_odds(self, video: BinFeatures) -> Tensor:
        """Return the log-odds [T, C] of a saved classifier, from windows of neighbouring frames that were read."""
        places = video.is_read.nonzero()[:, 0]
        width = min(self.window, len(places))
        if not width:
            return torch.full((len(video.is_read), len(self.labels)), math.nan)
        windows = places.unfold(0, width, 1)  # [W, w]
        chances = torch.cat(list(self._chances(video, windows)))
        numbers = window_log_odds(chances, windows, len(video.is_read))
        if self.exclusive:
            numbers = torch.minimum(numbers, EXCLUSIVE_LEAD - (numbers.amax(dim=1, keepdim=True) - numbers))
        return numbers[:, list(self.places)].float()

    def _chances(self, video: BinFeatures, windows: Tensor) -> Iterator[Tensor]:
        """Yield the probabilities of all classes in each window: [n, C] per batch."""
        for some in torch.split(windows, WINDOWS_TOGETHER):
            clips = [_as_video(video, window, self.engine) for window in some]
            logits = torch.cat([scores.logits for scores in self.classifier.scores([(clip,) for clip in clips])])
            yield probabilities(logits.double(), logit_scale=1)


def _as_video(video: BinFeatures, window: Tensor, engine: Engine) -> VideoFeatures:
    """Return the frames of a window as those of a clip."""
    frames = video.frames[window].to(engine.encoder.placement.device)[None]  # [1, w, D]
    times_s = video.edges_s[window.numpy()][None]
    informed = None if engine.temporal_head is None else engine.temporal(frames)
    return VideoFeatures(video.source, frames, FrameTimes(times_s), informed)
