"""Cut the clips of `bike spot --cut`."""

from __future__ import annotations

import logging
from pathlib import Path

from bike_cli.cli.spot.names import VideoNames
from bike_cli.cli.spot.request import SpotRequest
from bike_cli.cli.spot.rows import CutTimeline
from bike_cli.data.remote.fetching import fetched
from bike_cli.records import Failure, Segment, Source, Timeline
from bike_cli.video.cutting import Cut, clip_name, clip_suffix
from bike_cli.video.workers.media_worker import MediaWorker
from bike_cli.wording import count

logger = logging.getLogger(__name__)


class Cutter:
    """Cuts a clip for each segment, into a folder per video.

    Args:
        folder: where the folders of the videos are.
        request: `cut_exact`, `margin`, `force` and the inputs, whose trees are kept.
        limit_s: how long a store of videos may send nothing.
    """

    def __init__(self, folder: Path, request: SpotRequest, worker: MediaWorker, *, limit_s: float) -> None:
        self._request, self._worker, self._limit_s = request, worker, limit_s
        self._names = VideoNames(folder, arguments=request.videos)
        self._lost: list[Failure] = []
        self._tried = 0

    def cut(self, timeline: Timeline) -> CutTimeline:
        """Return the timeline with the clips of its segments, or why there is none."""
        folder = self._names.path_of(timeline.source)
        clips: list[Cut | Failure] = []
        if timeline.segments:
            with fetched(timeline.source, self._limit_s) as local:
                clips = [
                    self._clip(timeline, segment, local, folder, i)
                    for i, segment in enumerate(timeline.segments, start=1)
                ]
        self._lost += [clip for clip in clips if isinstance(clip, Failure)]
        self._tried += len(clips)
        return CutTimeline(timeline, tuple(clips))

    def warn(self) -> None:
        """Log how many clips could not be cut, and why the first of them could not."""
        if self._lost:
            first = self._lost[0].message
            logger.warning(
                "--cut: %d of %s could not be cut (first: %s)", len(self._lost), count(self._tried, "clip"), first
            )

    def _clip(
        self, timeline: Timeline, segment: Segment, local: Source | Failure, folder: Path, number: int
    ) -> Cut | Failure:
        if isinstance(local, Failure):
            return local
        margin_s, exact = self._request.margin, self._request.cut_exact
        start_s = max(0.0, segment.start_s - margin_s)
        end_s = segment.end_s + margin_s
        if timeline.duration_s is not None:
            end_s = min(end_s, timeline.duration_s)
        suffix = clip_suffix(local, exact=exact)
        target = folder / clip_name(number, segment.label, segment.start_s, suffix)
        return self._worker.cut(local, start_s, end_s, target, exact=exact, overwrite=self._request.force)
