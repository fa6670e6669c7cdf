"""The values that travel between the layers, and the letters of their shapes.

    V videos      K views (clips x crops)   T frames            H, W pixels      S model input side
    C classes     L token positions         D embedding         P phrases of a lexicon

Arrays of pixels and times are NumPy, features are torch tensors. Features are raw encoder output, because the
trained heads read them before normalisation; unit vectors are made once, in `engine/scoring.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bike_cli.shapes import ShowsShapes, check_shape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from bike_cli.config import ScoreKind
    from bike_cli.media import RemoteFile

SHOWN_LABELS = 3  # of a prediction, on a screen


@dataclass(frozen=True)
class Source:
    """One input: a video file or a folder of frames."""

    path: Path
    id: str  # the name that the user gave it, unchanged; records and messages show it
    remote: RemoteFile | None = None  # what to fetch before it can be read; `path` then only says how it is named

    @classmethod
    def at(cls, path: str | Path) -> Source:
        """Return the source at `path`, with the path as its name."""
        return cls(Path(path), str(path))


@dataclass(frozen=True)
class Sample:
    """One labelled video."""

    source: Source
    label: int  # index of its class among the labels; with several classes, the smallest
    others: tuple[int, ...] = ()  # indices of its further classes, ascending

    def __post_init__(self) -> None:
        if self.others and sorted(set(self.labels)) != list(self.labels):
            raise ValueError(f"Sample.labels are {self.labels}; expected ascending indices without repeats")

    @property
    def labels(self) -> tuple[int, ...]:
        """The indices of all its classes, ascending."""
        return (self.label, *self.others)


@dataclass(frozen=True, repr=False)
class FrameTimes(ShowsShapes):
    """Where the frames read from a video lie in it, and what the reader reports about the video."""

    times_s: NDArray[np.float64]  # [K, T], seconds from the start of the video; NaN where a source has no clock
    # int64 [K, T], place of each frame in the video, from 0; None where it is not known.
    positions: NDArray[np.int64] | None = None
    duration_s: float | None = None  # length of the whole video; None where a source has no clock
    warning: str | None = None  # what a user should know about these frames, in one line

    def __post_init__(self) -> None:
        if self.positions is not None:
            check_shape("FrameTimes.positions", self.positions.shape, *self.times_s.shape)

    @property
    def order(self) -> NDArray[np.intp]:
        """The order in which the frames of all clips follow one another: indices into the flat arrays, [K * T]."""
        clock = self.times_s if self.positions is None else self.positions
        return clock.argsort(axis=None, kind="stable")

    def in_order(self) -> FrameTimes:
        """Return the timeline with the frames of all clips in one row, in time order: [K * T]."""
        positions = None if self.positions is None else self.positions.ravel()[self.order]
        return replace(self, times_s=self.times_s.ravel()[self.order], positions=positions)


class _OnTimeline:
    """Give the fields of `timeline` as attributes."""

    timeline: FrameTimes

    @property
    def times_s(self) -> NDArray[np.float64]:
        """Seconds from the start of the video; NaN where a source has no clock. float64, shaped as in `timeline`."""
        return self.timeline.times_s

    @property
    def positions(self) -> NDArray[np.int64] | None:
        """Place of each frame in the video, from 0; None where it is not known. int64, shaped as in `timeline`."""
        return self.timeline.positions

    @property
    def duration_s(self) -> float | None:
        """Length of the whole video; None where a source has no clock."""
        return self.timeline.duration_s

    @property
    def warning(self) -> str | None:
        """What a user should know about the frames, in one line."""
        return self.timeline.warning


@dataclass(frozen=True, repr=False)
class Clip(ShowsShapes, _OnTimeline):
    """The frames read from one source.

    Args:
        frames: uint8 [K, T, H, W, 3], RGB; K counts clips in time (crops are cut by the encoder).
        timeline: of the frames, [K, T].
        details: how the source was read, for the log of `-v`.
        decode_s: seconds that a worker spent on it.
    """

    source: Source
    frames: NDArray[np.uint8]
    timeline: FrameTimes
    details: tuple[str, ...] = ()
    decode_s: float = 0.0

    def __post_init__(self) -> None:
        check_shape("Clip.frames", self.frames.shape, None, None, None, None, 3)
        check_shape("Clip.timeline", self.times_s.shape, *self.frames.shape[:2])
        if str(self.frames.dtype) != "uint8":
            raise ValueError(f"Clip.frames is {self.frames.dtype}; expected uint8")


@dataclass(frozen=True, repr=False)
class VideoFeatures(ShowsShapes, _OnTimeline):
    """The features of one clip from one model's image tower.

    Args:
        frames: float32 [crops * K, T, D], raw; views in crop-major order, as in the official code.
        timeline: of the clip's frames, [K, T].
        informed: float32 of the shape of `frames`, the output of the temporal head, which relates the frames of a view
            to one another; None where the model has no such head.
    """

    source: Source
    frames: Tensor
    timeline: FrameTimes
    informed: Tensor | None = None

    def __post_init__(self) -> None:
        check_shape("VideoFeatures.frames", tuple(self.frames.shape), None, self.times_s.shape[1], None)
        if self.informed is not None:
            check_shape("VideoFeatures.informed", tuple(self.informed.shape), *self.frames.shape)
        if self.frames.shape[0] % self.times_s.shape[0]:
            raise ValueError(f"{self.frames.shape[0]} views cannot be whole crops of {self.times_s.shape[0]} clips")

    @property
    def scored_frames(self) -> Tensor:
        """The frames to compare with texts: `informed` where the model has a temporal head, otherwise `frames`."""
        return self.frames if self.informed is None else self.informed


@dataclass(frozen=True)
class Prompt:
    """A text with a label in it: `text[start:stop]` are the label's own words."""

    text: str
    start: int
    stop: int

    @classmethod
    def plain(cls, text: str) -> Prompt:
        """Return `text` as a prompt in which every word is the label's."""
        return cls(text, 0, len(text))

    def beginnings(self) -> list[str]:
        """Return the text up to each of the label's words: "a video of riding", "a video of riding a", and so on.

        A label without words has one beginning, the whole text.
        """
        ends = [word.end() for word in re.finditer(r"\S+", self.text[self.start : self.stop])]
        return [self.text[: self.start + end] for end in ends] or [self.text]


@dataclass(frozen=True, repr=False)
class TextFeatures(ShowsShapes):
    """The features of texts from one model's text tower.

    Args:
        texts: C texts.
        classes: float32 [C, D], raw feature of the whole text.
        tokens: float32 [C, L, D], the features of the positions, or of the beginnings, that are kept.
        token_mask: bool [C, L], True on those of the label's own words.
    """

    texts: tuple[str, ...]
    classes: Tensor
    tokens: Tensor
    token_mask: Tensor

    def __post_init__(self) -> None:
        classes, dim = len(self.texts), self.classes.shape[-1]
        check_shape("TextFeatures.classes", tuple(self.classes.shape), classes, dim)
        check_shape("TextFeatures.tokens", tuple(self.tokens.shape), classes, None, dim)
        check_shape("TextFeatures.token_mask", tuple(self.token_mask.shape), *tuple(self.tokens.shape)[:2])


@dataclass(frozen=True, repr=False)
class Lexicon(ShowsShapes):
    """Words that can describe a video.

    Args:
        phrases: P phrases.
        features: float32 [P, D], end-of-text features, unit vectors.
    """

    phrases: tuple[str, ...]
    features: Tensor

    def __post_init__(self) -> None:
        check_shape("Lexicon.features", tuple(self.features.shape), len(self.phrases), None)


@dataclass(frozen=True)
class Ranked:
    """One label of an answer.

    Args:
        score: its probability among the given labels; with `scores` sigmoid, `match`.
        cosine: the similarity of the video and the label's text.
        match: the sigmoid of the scaled cosine plus the model's bias, whatever the other labels; None without a bias.
    """

    label: str
    score: float
    cosine: float
    match: float | None = None


@dataclass(frozen=True)
class Attribute:
    """One phrase that fits a video, with its mean cosine over the frames."""

    phrase: str
    cosine: float


@dataclass(frozen=True)
class Rejection:
    """Whether a video fits none of the labels."""

    is_rejected: bool
    fit: float | None = None  # share of this video and the calibration's clips that fit no better, 0 to 1
    right: float | None = None  # probability that the best label is right; None without clips of none of the labels
    none: str | None = None  # the phrase for none of the labels that fits better than all labels, if one does


@dataclass(frozen=True, repr=False)
class Prediction(ShowsShapes, _OnTimeline):
    """The answer for one video.

    Args:
        ranked: labels, best first; at least one.
        saliency: float64 [T], weight of each frame for the best label, in time order, summing to 1; the frames of
            several clips are sorted by time. None unless `explain` is set.
        timeline: of the frames of `saliency`, [T].
        frames: frames per clip.
        scores: what the scores of `ranked` are.
        spotting: what weights the frames: `words`, `eot`, `all`, or the label's `beginnings`; None with mean pooling.
        model_digest: stands for the weights and settings of the model, and of the attribute model, if there is one.
        rejection: whether the video fits none of the labels; None if that was not asked for.
    """

    source: Source
    ranked: tuple[Ranked, ...]
    attributes: tuple[Attribute, ...]
    saliency: NDArray[np.float64] | None
    timeline: FrameTimes
    frames: int
    model: str
    scores: ScoreKind = "softmax"
    spotting: str | None = None
    model_digest: str | None = None
    rejection: Rejection | None = None

    def __repr__(self) -> str:
        """Return the source and the best labels, short enough for one line; the fields have the rest."""
        shown = ", ".join(f"{ranked.label!r}: {ranked.score:.3f}" for ranked in self.ranked[:SHOWN_LABELS])
        more = ", …" if len(self.ranked) > SHOWN_LABELS else ""
        return f"Prediction({self.source.id!r}, {'rejected, ' * self.is_rejected}{{{shown}{more}}})"

    @property
    def best(self) -> Ranked:
        """The winning label, also of a rejected video."""
        return self.ranked[0]

    @property
    def is_rejected(self) -> bool:
        """Whether the video fits none of the labels."""
        return self.rejection is not None and self.rejection.is_rejected


@dataclass(frozen=True)
class Segment:
    """A part of a video in which a label is seen.

    Args:
        start_s, end_s: bounds of the first and the last bin, in seconds of the video; `end_s` is exclusive.
        score: mean probability of the label over the bins in which it is more likely there than not, 0 to 1.
        peak_s: middle of the bin in which the label is most probable.
    """

    label: str
    start_s: float
    end_s: float
    score: float
    peak_s: float


@dataclass(frozen=True)
class Peak:
    """The most probable label of a video and the time at which it is."""

    label: str
    at_s: float
    score: float


@dataclass(frozen=True, repr=False)
class Timeline(ShowsShapes):
    """When labels are seen in one video.

    Args:
        labels: C labels.
        segments: by start, then end, then the order of the labels.
        edges_s: float64 [T + 1], bounds of the bins, in seconds from the start of the video.
        best: the most probable label of all; None if no frame could be read.
        scores: float32 [T, C], probability of each label in each bin, NaN in bins whose frame could not be read; None
            unless they are requested.
        fps: bins per second.
        frames: number of different frames that were read.
        duration_s: length of the video; None where a source has no clock.
        warning: what a user should know about the frames, in one line.
        model_digest: stands for the weights and settings of the model.
    """

    source: Source
    labels: tuple[str, ...]
    segments: tuple[Segment, ...]
    edges_s: NDArray[np.float64]
    best: Peak | None
    model: str
    fps: float
    frames: int
    duration_s: float | None = None
    warning: str | None = None
    scores: NDArray[np.float32] | None = None
    model_digest: str | None = None

    def __post_init__(self) -> None:
        check_shape("Timeline.edges_s", self.edges_s.shape, None)
        if self.scores is not None:
            check_shape("Timeline.scores", self.scores.shape, len(self.edges_s) - 1, len(self.labels))


@dataclass
class Timings:
    """How a run spent its time, in seconds; updated while it runs."""

    decode_s: float = 0.0  # inside the workers, summed over them
    encode_s: float = 0.0  # in towers and scores
    wait_s: float = 0.0  # waiting for the next clip to be decoded, or for the next input
    decoded: int = 0  # number of videos that were given to a decoder
    cached: int = 0  # number of videos whose features came from the store


@dataclass(frozen=True)
class Failure:
    """One input without an answer, and why.

    Args:
        kind: a `FailureKind`; `no_label`, `no_name` or `no_number` if the video cannot be evaluated; or what another
            program wrote.
        decode_s: seconds that a worker spent on it.
    """

    source: Source
    kind: str
    message: str
    decode_s: float = field(default=0.0, compare=False, repr=False)

    def to_json(self) -> dict[str, str]:
        """Return the JSON object of the failure in reports."""
        return {"path": self.source.id, "type": self.kind, "message": self.message}
