"""A classifier: video features in, scores and predictions out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bike_cli.config import Descriptions, ScoreKind, VideoConfig
from bike_cli.engine.attributes import associate, attribute_scores, attribute_sentence
from bike_cli.engine.calibration.calibration import Measure
from bike_cli.engine.engine import Engine
from bike_cli.engine.heads.few_shot import Head, Views, as_views, join_logits
from bike_cli.engine.heads.shot_distances import ShotDistances, fits_of
from bike_cli.engine.scoring import fuse, match_spread, matches, probabilities, rank, unit
from bike_cli.engine.spotting import ClassTexts, saliency
from bike_cli.engine.voters import Voters
from bike_cli.errors import ModelError, UsageError
from bike_cli.inference.features import EncodedVideo
from bike_cli.inference.rejection import Rejector
from bike_cli.records import Attribute, Clip, Lexicon, Prediction, Ranked, Rejection, Source, VideoFeatures
from bike_cli.video.workers.pool import DecodePool

# Views are scored in batches of a fixed size, padded with zeros: the last bits of a matrix product depend on its size,
# and an answer must not depend on which other videos are in its batch. On CUDA it may, a little: many small steps cost
# more than a large one.
VIEWS_TOGETHER = {"cuda": 128}
VIEWS_TOGETHER_ELSEWHERE = 8


Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of videos."""

    view_cosines: Tensor  # [V, K, C], of the video branch
    cosines: Tensor  # [V, C], their means over views
    logits: Tensor  # [V, C], the input of the softmax over classes: averaged over views, with head and attributes
    attributes: tuple[tuple[Attribute, ...], ...]  # per video
    fits: Tensor  # [V], how well the best label fits, as calibrations measure it


@dataclass(frozen=True, eq=False)
class AttributeBranch:
    """A lexicon, and the model that finds its phrases in videos."""

    engine: Engine
    lexicon: Lexicon
    classes: Tensor | None  # [C, D], raw; None where the weight is 0
    weight: float  # of this branch in the answer; 0: attributes are shown, but do not count
    count: int  # phrases per video

    def describe(self, frames: Tensor, *, videos: int | None = None) -> list[tuple[Attribute, ...]]:
        """Return the phrases that fit each video's raw frames [V, T, D] best; see `associate`."""
        return associate(frames, self.lexicon, self.count, videos=videos)

    def logits(self, attributes: Sequence[Sequence[Attribute]], like: Tensor) -> Tensor:
        """Return the logits [V, C] of the attribute sentences, on the scale of the videos' logits `like` [V, C]."""
        # One by one, for the same reason as batches have a fixed size.
        return self.scaled(torch.cat([self.scores(phrases) for phrases in attributes]), like)

    def scaled(self, scores: Tensor, like: Tensor) -> Tensor:
        """Return scores [V, C] on the scale of the videos' logits `like` [V, C]."""
        scores = scores.to(like.device)
        return match_spread(scores, like) if self.engine.attribute_head is None else self.engine.logit_scale * scores

    def scores(self, attributes: Sequence[Attribute]) -> Tensor:
        """Return the cosine of one video's attribute sentence with each class: [1, C]."""
        assert self.classes is not None
        sentence = attribute_sentence([attribute.phrase for attribute in attributes])
        read = self.engine.encode_texts([sentence], positions="eot").classes
        return attribute_scores(read, self.classes, self.engine.attribute_head)


@dataclass(frozen=True, eq=False)
class Classifier:
    """A model, its labels and their text features: everything that all videos share."""

    engine: Engine
    labels: tuple[str, ...]
    texts: ClassTexts  # the labels' text features
    # The tokens that explain an answer; None with mean pooling. Padding may vote on frames, but it points at any frame
    # and must not be shown to people.
    words: Voters | None
    branch: AttributeBranch | None
    config: VideoConfig
    # Trained for the first labels, in their order; the others are scored by their text. None: all are.
    head: Head | None = None
    # What tells that a video shows none of the first labels; the distances are those of the head's training.
    measure: Measure = "cosine"
    distances: ShotDistances | None = None
    # Its phrases are the last of `labels`, and never answers. None: no video is rejected.
    rejector: Rejector | None = None
    descriptions: Descriptions = field(default_factory=dict)  # those that count

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The models that encode each video: the classifier's own and, if another one finds attributes, that one."""
        if self.branch is None or self.branch.engine is self.engine:
            return (self.engine,)
        return self.engine, self.branch.engine

    @cached_property
    def model_digest(self) -> str:
        """Stands for `engines` in records: eight digits for each."""
        return "-".join(engine.short_digest for engine in self.engines)

    @property
    def spotting(self) -> str | None:
        """What weights the frames; see `Prediction.spotting`."""
        if self.texts.voters is None:
            return None
        spot = self.config.spotting.spot or self.engine.recipe.spot
        has_words = spot != "words" or self.engine.encoder.text_tower.has_token_features
        return spot if has_words else "beginnings"

    @torch.no_grad()
    def answer(self, clip: Clip, *, top: int, explain: bool, scores: ScoreKind = "softmax") -> Prediction:
        """Return the answer for a clip; see `answers`."""
        crops = self.config.sampling.crops
        video = tuple(engine.encode_clip(clip, crops=crops) for engine in self.engines)
        return self.answers([video], top=top, explain=explain, scores=scores)[0]

    def explain(self, sources: Sequence[Source], pool: DecodePool) -> list[tuple[Clip, Prediction]]:
        """Return frames and explained answers, with one label each; sources that cannot be read are left out."""
        outcomes = [future.result() for future in [pool.decode(source) for source in sources]]
        return [(clip, self.answer(clip, top=1, explain=True)) for clip in outcomes if isinstance(clip, Clip)]

    @torch.no_grad()
    def answers(
        self, videos: Sequence[EncodedVideo], *, top: int, explain: bool, scores: ScoreKind = "softmax"
    ) -> list[Prediction]:
        """Return the answer for each video; answers do not depend on one another.

        Args:
            top: labels per answer.
            explain: whether answers say which frames decided.
            scores: what scores are.
        Raises:
            UsageError: sigmoid scores of a classifier that compares labels; see `check_scores`.
        """
        self.check_scores(scores)
        return self._in_batches(videos, partial(self._answers, top=top, explain=explain, kind=scores))

    def check_scores(self, scores: ScoreKind) -> None:
        """Raise UsageError for sigmoid scores where something that was not trained to judge a single label counts."""
        if scores == "softmax":
            return
        compares, way_out = "was trained to compare labels, not to judge one", "use softmax"
        if self.engine.logit_bias is None:
            raise UsageError(f"--scores sigmoid: {self.engine.name} {compares}; {way_out}")
        if self.head is not None:
            raise UsageError(f"--scores sigmoid: the classifier {compares}; {way_out}")
        if self.branch is not None and self.branch.weight > 0:
            problem = f"attributes count with weight {self.branch.weight}, and they compare labels, but judge none"
            raise UsageError(f"--scores sigmoid: {problem}; {way_out}, or --attribute-weight 0")

    @torch.no_grad()
    def scores(self, videos: Sequence[EncodedVideo]) -> list[Scores]:
        """Return all scores of each video; they do not depend on one another."""

        def score(batch: Sequence[EncodedVideo]) -> list[Scores]:
            scores = self._scores(batch)
            tensors = (scores.view_cosines, scores.cosines, scores.logits, scores.fits)
            rows = zip(*(tensor.cpu() for tensor in tensors), scores.attributes, strict=True)
            return [
                Scores(views[None], cosines[None], logits[None], (attributes,), fit[None])
                for views, cosines, logits, fit, attributes in rows
            ]

        return self._in_batches(videos, score)

    def _in_batches(
        self, videos: Sequence[EncodedVideo], function: Callable[[Sequence[EncodedVideo]], list[Result]]
    ) -> list[Result]:
        """Return the results of a function on videos, called with batches of one shape."""
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, video in enumerate(videos):
            by_shape.setdefault(tuple(video[0].frames.shape), []).append(i)
        results: dict[int, Result] = {}
        with self.engine.encoder.placement.side_stream():
            for (views, *_), indices in by_shape.items():
                size = self._batch_size(views)
                for start in range(0, len(indices), size):
                    group = indices[start : start + size]
                    results.update(zip(group, function([videos[i] for i in group]), strict=True))
        return [results[i] for i in range(len(videos))]

    def _scores(self, videos: Sequence[EncodedVideo]) -> Scores:
        """Return the scores of videos of one shape, at most a batch."""
        informed = self._informed(videos)
        of_views = self.texts.scores(informed.flatten(0, 1)).reshape(*informed.shape[:2], -1)[: len(videos)]
        cosines = of_views.mean(dim=1)
        logits = self.engine.logit_scale * cosines
        fits = cosines.max(dim=1).values
        if self.head is not None:
            views = self._head_views(self.head, informed)[: len(videos)]
            trained = self.head.logits(views)
            fits = fits_of(self.measure, views, trained, cosines[:, : trained.shape[1]], self.distances)
            logits = join_logits(trained, logits)
        attributes = self._attributes(videos)
        if self.branch is not None and self.branch.weight > 0:
            logits = fuse(logits, self.branch.logits(attributes, like=logits), weight=1 - self.branch.weight)
        return Scores(of_views, cosines, logits, tuple(attributes), fits)

    def _informed(self, videos: Sequence[EncodedVideo]) -> Tensor:
        return self._stacked([video[0].scored_frames for video in videos])  # [V, K, T, D]

    def _answers(self, videos: Sequence[EncodedVideo], *, top: int, explain: bool, kind: ScoreKind) -> list[Prediction]:
        """Return the answers for videos of one shape, at most a batch."""
        features, scores = [video[0] for video in videos], self._scores(videos)
        n_labels = len(self.labels) - (0 if self.rejector is None else len(self.rejector.phrases))
        best = rank(scores.logits[:, :n_labels], top)  # [V, k]
        ranked = self._ranked(scores, best, kind)
        rejections = self._rejections(scores, ranked, n_labels)
        weights: Sequence[NDArray[np.float64] | None] = [None] * len(features)
        if explain:
            weights = self._weights(self._informed(videos).flatten(0, 1), features, best[:, 0].tolist())
        columns = zip(features, ranked, scores.attributes, weights, rejections, strict=True)
        return [self._prediction(*parts, kind) for parts in columns]

    def _rejections(
        self, scores: Scores, ranked: Sequence[tuple[Ranked, ...]], n_labels: int
    ) -> Sequence[Rejection | None]:
        """Return whether each video is none of the first `n_labels` labels."""
        if self.rejector is None:
            return [None] * len(ranked)
        first = rank(scores.logits, 1)[:, 0].tolist()
        phrases = [None if i < n_labels else i - n_labels for i in first]
        # Where cosines decide alone, the best label is the one with the highest; phrases may have a higher one.
        fits = [labels[0].cosine for labels in ranked] if self.head is None else scores.fits.tolist()
        return [self.rejector.judge(*pair) for pair in zip(fits, phrases, strict=True)]

    def _ranked(self, scores: Scores, best: Tensor, kind: ScoreKind) -> list[tuple[Ranked, ...]]:
        """Return the best labels of each video, at the places `best` [V, k]."""
        factor = 1.0 if self.rejector is None else self.rejector.scale
        chances = probabilities(scores.logits.double(), logit_scale=factor).gather(1, best).tolist()
        cosines = scores.cosines.gather(1, best)
        scale, bias = self.engine.logit_scale, self.engine.logit_bias
        judged: list[list[float | None]] = [[None] * best.shape[1]] * len(best)
        if bias is not None:
            judged = matches(cosines.cpu(), scale, bias).tolist()
        if kind == "sigmoid":
            chances = judged
        columns = zip(best.tolist(), chances, cosines.tolist(), judged, strict=True)
        return [tuple(map(Ranked, (self.labels[i] for i in places), *numbers)) for places, *numbers in columns]

    def _prediction(
        self,
        features: VideoFeatures,
        ranked: tuple[Ranked, ...],
        attributes: tuple[Attribute, ...],
        weights: NDArray[np.float64] | None,
        rejection: Rejection | None,
        kind: ScoreKind,
    ) -> Prediction:
        numbers = [x for one in ranked for x in (one.score, one.cosine)] + [one.cosine for one in attributes]
        if not all(map(math.isfinite, numbers)) or (weights is not None and not np.isfinite(weights).all()):
            raise ModelError(
                f"{self.engine.name}: its scores for {features.source.id} are NaN or infinite; use --precision "
                "fp32, or another model"
            )
        return Prediction(
            source=features.source,
            ranked=ranked,
            attributes=attributes,
            # The weights of all clips together sum to 1.
            saliency=None if weights is None else weights.ravel()[features.timeline.order] / len(weights),
            timeline=features.timeline.in_order(),
            frames=features.frames.shape[1],
            model=self.engine.name,
            scores=kind,
            spotting=self.spotting,
            model_digest=self.model_digest,
            rejection=rejection,
        )

    def _head_views(self, head: Head, informed: Tensor) -> Views:
        """Return videos [V, K, T, D] with the frame weights of the head's classes."""
        views = [as_views(frames, self.texts) for frames in informed]
        classes = len(head.weight)
        weights = torch.stack([weights.expand(len(self.labels), -1)[:classes] for _, weights in views])
        return Views(torch.stack([frames for frames, _ in views]), weights)

    def _attributes(self, videos: Sequence[EncodedVideo]) -> list[tuple[Attribute, ...]]:
        if self.branch is None:
            return [()] * len(videos)
        raw = self._stacked([video[-1].frames for video in videos])  # of the branch's engine, the last
        return self.branch.describe(raw.flatten(1, 2), videos=len(videos))

    def _batch_size(self, views: int) -> int:
        """Return how many videos with this number of views are scored together."""
        return max(1, VIEWS_TOGETHER.get(self.texts.classes.device.type, VIEWS_TOGETHER_ELSEWHERE) // views)

    def _stacked(self, frames: Sequence[Tensor]) -> Tensor:
        """Return the frames of videos [K, T, D], padded with zeros to a batch: [V, K, T, D]."""
        device = self.texts.classes.device
        padding = torch.zeros(self._batch_size(len(frames[0])) - len(frames), *frames[0].shape, device=device)
        # Features from the store are on the CPU, those just encoded on the device.
        return torch.cat([torch.stack([video.to(device, non_blocking=True) for video in frames]), padding])

    def _weights(
        self, views: Tensor, features: Sequence[VideoFeatures], best: Sequence[int]
    ) -> list[NDArray[np.float64]]:
        """Return the weights [clips, T] of each video's frames for its class in `best`, averaged over crops."""
        clips, length = features[0].times_s.shape
        if self.words is None:
            return [np.full((clips, length), 1 / length) for _ in features]
        weights = []
        for frames, i in zip(unit(views).chunk(self._batch_size(len(features[0].frames))), best, strict=False):
            by_word = saliency(frames, self.words.of_class(i)[None], self.texts.temperature)[:, 0]  # [K, T]
            weights.append(by_word.reshape(-1, clips, length).mean(dim=0).double().cpu().numpy())
        return weights
