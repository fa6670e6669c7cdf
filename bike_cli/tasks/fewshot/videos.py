"""The reading phase: each video that a trial needs is read once, and copies are left out."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bike_cli.data.labelled.train_sets import TrainSet
from bike_cli.engine.heads.few_shot import Views, as_views
from bike_cli.errors import UsageError
from bike_cli.inference.classifier import Classifier
from bike_cli.inference.contents import digests_of
from bike_cli.inference.features import EncodedVideo, Features, Shelf
from bike_cli.inference.prepare import open_shelf
from bike_cli.inference.processes import ProcessGroup
from bike_cli.records import Failure, Sample, Timings
from bike_cli.tasks.fewshot.drawing import Drawing
from bike_cli.video.workers.pool import DecodePool

logger = logging.getLogger(__name__)

EMPTY = hashlib.sha256().digest()  # of a file without content


@dataclass(frozen=True, eq=False)
class VideoView:
    """A video as the classes see it."""

    frames: Tensor  # float32 [K T, D], the frames of all views
    weights: Tensor  # float32 [C or 1, K T], the weight of each frame for each class
    attribute_scores: Tensor | None = None  # float32 [1, C]; None if attributes do not count

    def to(self, device: torch.device) -> VideoView:
        """Return the view on a device."""
        scores = None if self.attribute_scores is None else self.attribute_scores.to(device)
        return VideoView(self.frames.to(device), self.weights.to(device), scores)


def stack_views(views: Sequence[VideoView], classes: int) -> Views:
    """Return views as a batch. Views with fewer frames than the longest are padded with frames of weight zero."""
    length = max(len(view.frames) for view in views)
    pad = torch.nn.functional.pad
    frames = [pad(view.frames, (0, 0, 0, length - len(view.frames))) for view in views]
    weights = [pad(view.weights.expand(classes, -1), (0, length - view.weights.shape[1])) for view in views]
    return Views(torch.stack(frames), torch.stack(weights))


@dataclass(frozen=True, eq=False)
class Videos:
    """What is known about the videos of a study, by their place among the samples; `Reading` fills it in."""

    samples: tuple[Sample, ...]
    views: dict[int, VideoView] = field(default_factory=dict)  # of the videos that were read
    digests: dict[int, bytes] = field(default_factory=dict)  # SHA-256 of the content of each video that could be opened
    failures: dict[int, Failure] = field(default_factory=dict)  # of the videos that could not be read
    left_out: dict[int, int] = field(default_factory=dict)  # for each copy, the place of the video that is used instead

    @property
    def unusable(self) -> Set[int]:
        """The places of videos that cannot be read, or are copies."""
        return self.failures.keys() | self.left_out.keys()


@dataclass(eq=False)
class Reading:
    """Reads every video that some trial learns from or tests on; iterate to read.

    A video that cannot be read, or that is a copy of another one, is replaced by the next in the order of the draw.
    """

    labelled: TrainSet
    drawing: Drawing
    classifier: Classifier  # its engines encode the videos, and its class texts weight the frames
    pool: DecodePool
    processes: ProcessGroup  # they share the work; afterwards each process has all videos
    spent: Timings  # decoding and encoding times are added to it

    def __post_init__(self) -> None:
        self.videos = Videos(self.drawing.samples)

    def __iter__(self) -> Iterator[tuple[int, int, Failure | None]]:
        """Yield the number of videos done, their total, and the failure of the last one if it could not be read."""
        done = 0
        with open_shelf(self.classifier.engines, self.classifier.config) as shelf:
            # All videos, drawn or not: which copy is left out must not depend on the draw.
            self._digest_all(shelf)
            # A draw may fail because of these videos; report each of them first.
            unreadable = sorted(self.videos.failures)
            for place in unreadable:
                done += 1
                yield done, len(unreadable), self.videos.failures[place]
            while missing := self._missing_places():
                share = self.processes.shard(missing)
                total = done + len(share)
                outcomes: list[VideoView | Failure] = []
                for outcome in self._read(share, shelf):
                    done += 1
                    outcomes.append(outcome)
                    yield done, total, outcome if isinstance(outcome, Failure) else None
                for place, outcome in zip(missing, self.processes.merge_shards(outcomes), strict=True):
                    if isinstance(outcome, Failure):
                        self.videos.failures[place] = outcome
                    else:
                        self.videos.views[place] = outcome.to(self.classifier.texts.classes.device)

    def _missing_places(self) -> list[int]:
        reasons = {place: failure.message for place, failure in self.videos.failures.items()}
        draws = self.drawing.draws(self.videos.unusable, reasons)
        return [place for place in draws.places if place not in self.videos.views]

    def _read(self, places: Sequence[int], shelf: Shelf | None) -> Iterator[VideoView | Failure]:
        sources = [self.videos.samples[place].source for place in places]
        engines, sampling = self.classifier.engines, self.classifier.config.sampling
        for batch in Features(sources, engines, sampling, pool=self.pool, shelf=shelf, spent=self.spent):
            for outcome in batch:
                yield outcome if isinstance(outcome, Failure) else self._view(outcome)

    @torch.no_grad()
    def _view(self, video: EncodedVideo) -> VideoView:
        features, classifier = video[0], self.classifier
        device = classifier.texts.classes.device
        branch, scores = classifier.branch, None
        if branch is not None and branch.weight:
            raw = video[-1].frames.to(device)  # the branch's engine is the last
            scores = branch.scores(branch.describe(raw.flatten(0, 1)[None])[0])
        if features.warning is not None:
            logger.warning("%s: %s", features.source.id, features.warning)
        view = VideoView(*as_views(features.scored_frames.to(device), classifier.texts), scores)
        # Only tensors on the CPU can be sent to other processes.
        return view.to(torch.device("cpu")) if self.processes.count > 1 else view

    # -- copies ------------------------------------------------------------------------------------------------------

    def _digest_all(self, shelf: Shelf | None) -> None:
        sources = self.processes.shard([sample.source for sample in self.videos.samples])
        digests = self.processes.merge_shards(list(digests_of(sources, self.pool, shelf)))
        for place, digest in enumerate(digests):
            if isinstance(digest, Failure):
                self.videos.failures[place] = digest
            else:
                self.videos.digests[place] = digest
        self._leave_out_copies()

    def _leave_out_copies(self) -> None:
        """Keep one of several copies of a video, a test video if possible, and leave out the others."""
        samples, labels, tested_from = self.videos.samples, self.labelled.labels, len(self.labelled.train)
        kept: dict[bytes, int] = {}
        for place in sorted(self.videos.digests, key=lambda place: (place < tested_from, place)):
            digest = self.videos.digests[place]
            if digest == EMPTY:
                continue  # the decoder will report it
            first = kept.setdefault(digest, place)
            if first == place or place in self.videos.left_out:
                continue
            copy, original = samples[place], samples[first]
            if original.label != copy.label:
                raise UsageError(
                    f"{copy.source.id}: is the same video as {original.source.id}, but one is {labels[copy.label]!r} "
                    f"and one {labels[original.label]!r}; keep the right one"
                )
            self.videos.left_out[place] = first
            logger.warning("%s: is the same video as %s, and is left out", copy.source.id, original.source.id)
