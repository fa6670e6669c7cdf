"""Videos with their true segments, to evaluate detections on."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bike_cli.config import SUBSET
from bike_cli.data.detection.annotation_formats import Annotated, Annotations, TrueSegment, read_annotations
from bike_cli.data.labelled.annotations import paths_in
from bike_cli.data.path_lists import existing_path
from bike_cli.data.search import below, is_folder
from bike_cli.errors import UsageError
from bike_cli.records import Source
from bike_cli.wording import all_of, count, either, nearest

logger = logging.getLogger(__name__)

_SAME_SUBSET = {"val": "validation", "test": "testing", "train": "training"}


@dataclass(frozen=True)
class AnnotatedVideo:
    """A video with its true segments, perhaps none.

    Args:
        name: its id, or its path as the annotations write it.
        path: the same, below the folder of the videos.
        segments: as annotated, in the order of the annotations: even if they end before they start.
        duration_s: None if the annotations do not say.
    """

    name: str
    path: str
    segments: tuple[TrueSegment, ...]
    duration_s: float | None = None


@dataclass(frozen=True, repr=False)
class DetectionSet:
    """Videos with their true segments. Their order does not depend on that of the annotations.

    Args:
        origin: the file or folder of the annotations.
        labels: all labels in the annotations, sorted, including those of other subsets.
        videos: sorted by name.
        folder: the folder that paths start at, and that has the videos with ids.
        by_id: videos have ids instead of paths.
        subset: the subset that was read; None if the annotations have no subsets.
        files: the files that were read.
    """

    origin: str
    labels: tuple[str, ...]
    videos: tuple[AnnotatedVideo, ...]
    folder: str = ""
    by_id: bool = False
    subset: str | None = None
    files: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"DetectionSet({self.origin!r}, {count(len(self.videos), 'video')}, {count(len(self.labels), 'label')})"


def read_detection_set(given: str | Path, *, root: str | Path | None = None, subset: str | None = None) -> DetectionSet:
    """Return the videos of a file or folder with true segments; see `read_annotations` for the formats.

    Args:
        root: the folder that relative paths start at, and that has the videos with ids; None: the folder of the file,
            or the folder itself.
        subset: the subset to read; None: validation, or the only one that there is. Short names, such as val, work too.
    Raises:
        UsageError: no such file, another format, malformed annotations, no such subset, or no segment in it.
    """
    origin = str(given)
    if root is not None and not is_folder(root):
        raise UsageError(f"{root}: no such folder; give the folder that has the videos")
    annotations = read_annotations(origin)
    chosen, videos = _of_subset(annotations.videos, subset, origin)
    if not any(video.segments for video in videos):
        labelled = sorted({video.subset for video in annotations.videos if video.segments and video.subset})
        fix = f"choose {either(labelled)} with --subset" if labelled else "give a file with segments"
        of_subset = "" if chosen is None else f"the subset {chosen!r} "
        raise UsageError(f"{origin}: {of_subset}has no true segment; {fix}")
    base = str(root) if root is not None else origin if is_folder(origin) else os.path.dirname(origin)  # noqa: PTH120
    found = tuple(
        AnnotatedVideo(video.name, _path_of(video.name, base, annotations), video.segments, video.duration_s)
        for video in sorted(videos, key=lambda video: video.name)
    )
    labels = sorted({segment.label for video in annotations.videos for segment in video.segments})
    logger.info("%s: %s, %s", origin, count(len(found), "annotated video"), count(len(labels), "label"))
    return DetectionSet(origin, tuple(labels), found, base, annotations.by_id, chosen, annotations.files)


def sources_of(truth: DetectionSet) -> list[Source]:
    """Return the file of each video, in the order of `truth.videos`.

    The video of an id is the file `v_ID` or `ID` with any of `VIDEO_EXTENSIONS`, or a folder of frames. One that does
    not exist is named `ID.mp4`, so that it gets its own failure. The folder is listed once.
    """
    if not truth.by_id:
        return [Source.at(video.path) for video in truth.videos]
    path_of = paths_in(truth.folder, ("", "v_"))
    return [Source.at(below(truth.folder, path_of(video.name))) for video in truth.videos]


def _path_of(name: str, base: str, annotations: Annotations) -> str:
    return below(base, name if annotations.by_id else existing_path(name, base))


def _of_subset(videos: Sequence[Annotated], subset: str | None, origin: str) -> tuple[str | None, Sequence[Annotated]]:
    """Return the subset to read, and its videos; all videos if the annotations have no subsets."""
    known = list(dict.fromkeys(video.subset for video in videos if video.subset is not None))
    without = next((video.name for video in videos if video.subset is None), None)
    if not known:
        if subset is not None:
            raise UsageError(f"{origin}: has no subsets; leave --subset out")
        return None, videos
    if without is not None:
        raise UsageError(f"{origin}, video {without}: has no subset, but others have; add it")
    wanted = subset or (SUBSET if len(known) > 1 else known[0])
    chosen = next((name for name in known if name == wanted), None)
    chosen = chosen or next((name for name in known if _spelled(name) == _spelled(wanted)), None)
    if chosen is None:
        near = f"the nearest is {nearest(wanted, known)!r} (of {all_of(known)})"
        raise UsageError(f"{origin}: contains no video of the subset {wanted!r}, {near}; choose one with --subset")
    return chosen, [video for video in videos if video.subset == chosen]


def _spelled(subset: str) -> str:
    """Return the full name of a subset in lower case: validation for Val."""
    small = subset.strip().casefold()
    return _SAME_SUBSET.get(small, small)
