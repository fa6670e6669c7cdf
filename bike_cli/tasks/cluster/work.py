"""What each command lets actors do with videos: what they prepare once, and how they answer a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from bike_cli.config import ClassifyConfig, Descriptions, EmbedConfig, SpotConfig
from bike_cli.records import Failure, Prediction, Source, Timeline, VideoFeatures

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from bike_cli.engine.calibration.calibration import Calibration
    from bike_cli.engine.engine import Engine
    from bike_cli.engine.heads.saved_classifier import SavedClassifier
    from bike_cli.inference.localiser import Localiser
    from bike_cli.video.workers.pool import DecodePool

CHECKED_SIDE = 64  # pixels of the frames that an actor encodes before it takes videos

Given = Source | Failure
Answer = TypeVar("Answer")
Config = TypeVar("Config", ClassifyConfig, SpotConfig, EmbedConfig)


@dataclass(frozen=True, eq=False)
class Prepared(Generic[Answer]):
    """What an actor has ready for its batches.

    Args:
        digest: of the model, and of all else that is loaded with it; see `Prediction.model_digest`.
        answer: yields an answer or a failure for each source, in order. Threads may call it at the same time.
        check: does to a few frames what `answer` does to those of videos.
    """

    digest: str
    answer: Callable[[Sequence[Given]], Iterator[Answer | Failure]]
    check: Callable[[], object]


@dataclass(frozen=True, eq=False)
class Work(ABC, Generic[Config, Answer]):
    """What a command lets actors do.

    Args:
        config: with the device, the precision and the number of decode workers of an actor.
    """

    least_batch: ClassVar[int] = 16  # sources; few, so that the first answers come early
    batch_per_worker: ClassVar[float] = 4

    config: Config

    @abstractmethod
    def prepare(self, engine: Engine, pool: DecodePool) -> Prepared[Answer]:
        """Return what answers batches with a model and running decode workers.

        Raises:
            BikeError: as the command itself does.
        """


@dataclass(frozen=True, eq=False)
class ClassifyWork(Work[ClassifyConfig, Prediction]):
    """Labels videos; the arguments are those of `classify`."""

    labels: tuple[str, ...]
    descriptions: Descriptions = field(default_factory=dict)
    saved: SavedClassifier | None = None
    none: tuple[str, ...] = ()
    calibration: Calibration | None = None

    def prepare(self, engine: Engine, pool: DecodePool) -> Prepared[Prediction]:
        """Encode the labels."""
        from bike_cli.tasks.classify import classify_with, is_worth_releasing, prepare_classifier
        from bike_cli.video.decoding import clip_from_array

        classifier = prepare_classifier(
            *(engine, self.labels, self.config),
            descriptions=self.descriptions,
            saved=self.saved,
            none=self.none,
            calibration=self.calibration,
            releases_text=is_worth_releasing(engine),
        )
        sampling = classifier.config.sampling
        clip = clip_from_array(_checked_frames(sampling.frames), sampling, name="check")
        return Prepared(
            classifier.model_digest,
            partial(classify_with, classifier, pool=pool),
            partial(classifier.answer, clip, top=1, explain=False),
        )


@dataclass(frozen=True, eq=False)
class SpotWork(Work[SpotConfig, Timeline]):
    """Finds labels in long videos; the arguments are those of `spot`."""

    least_batch: ClassVar[int] = 1
    batch_per_worker: ClassVar[float] = 0.5  # a worker reads one video at a time, and an actor has two batches

    labels: tuple[str, ...]
    none: tuple[str, ...] = ()
    descriptions: Descriptions = field(default_factory=dict)
    saved: SavedClassifier | None = None
    videos: int | None = None
    keeps_scores: bool = False

    def localiser(self, engine: Engine) -> Localiser:
        """Encode the labels; see `prepare_localiser`."""
        from bike_cli.tasks.spot import prepare_localiser

        return prepare_localiser(
            *(engine, self.labels, self.config),
            none=self.none,
            descriptions=self.descriptions,
            saved=self.saved,
        )

    def prepare(self, engine: Engine, pool: DecodePool) -> Prepared[Timeline]:
        """Encode the labels."""
        from bike_cli.tasks.spot import spot_with

        localiser = self.localiser(engine)

        def answer(sources: Iterable[Given]) -> Iterator[Timeline | Failure]:
            return spot_with(
                *(localiser, sources, self.config), pool=pool, videos=self.videos, keeps_scores=self.keeps_scores
            )

        return Prepared(engine.short_digest, answer, partial(_spot_in_frames, localiser))


@dataclass(frozen=True, eq=False)
class EmbedWork(Work[EmbedConfig, VideoFeatures]):
    """Computes the features of videos."""

    def prepare(self, engine: Engine, pool: DecodePool) -> Prepared[VideoFeatures]:
        """Return what computes features; there is nothing to encode before."""
        from bike_cli.tasks.embed import embed
        from bike_cli.video.decoding import clip_from_array

        def answer(sources: Iterable[Given]) -> Iterator[VideoFeatures | Failure]:
            return map(_on_cpu, embed(engine, sources, self.config, pool=pool))

        sampling = self.config.sampling
        clip = clip_from_array(_checked_frames(sampling.frames), sampling, name="check")
        return Prepared(engine.short_digest, answer, partial(engine.encode_clip, clip, crops=sampling.crops))


def _checked_frames(count: int) -> NDArray[np.uint8]:
    import numpy as np

    return np.zeros((count, CHECKED_SIDE, CHECKED_SIDE, 3), np.uint8)


def _spot_in_frames(localiser: Localiser) -> Timeline:
    import numpy as np
    import torch

    from bike_cli.inference.bin_features import BinFeatures

    n_bins = localiser.window
    features = localiser.engine.encode_frames(_checked_frames(n_bins), resizer="torch").float().cpu()
    edges_s = np.arange(n_bins + 1) / localiser.rule.fps
    is_read = torch.ones(n_bins, dtype=torch.bool)
    return localiser.timeline(BinFeatures(Source.at("check"), features, is_read, edges_s, n_bins, None, None))


def _on_cpu(video: VideoFeatures | Failure) -> VideoFeatures | Failure:
    if isinstance(video, Failure):
        return video
    informed = None if video.informed is None else _copied(video.informed)
    return replace(video, frames=_copied(video.frames), informed=informed)


def _copied(features: Tensor) -> Tensor:
    return features.cpu().clone()  # a copy, because a part of a tensor travels with all of it
