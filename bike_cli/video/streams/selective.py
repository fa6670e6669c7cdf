"""Stream a file whose packets predict its frames: decode little more than the frames of the bins.

The packets are read first, without decoding. Then the file is decoded in order, without frames that no other frame
depends on, unless a bin needs them, and without the ends of groups of pictures after the last frame that one needs. So
a stream can also start at any bin, at the keyframe before its frame.

After an error, decoders fill gaps with whatever they decoded before. So that frames do not depend on where a stream
started, a damaged file is decoded again from its first packet; frames with errors leave their bins missing. If frames
differ from the prediction although nothing is damaged, a full decode must find them (see `sequential`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bike_cli.records import Source
from bike_cli.video.readers.nearby_frames import nearer_picture
from bike_cli.video.readers.packets import UnpredictableFileError
from bike_cli.video.readers.runs import Run, RunDecoder, runs_of
from bike_cli.video.readers.selective import PredictedFrames
from bike_cli.video.readers.video_file import VideoFile, open_video
from bike_cli.video.streams.bins import bin_count, end_of_bin, frames_of_bins, rows_of
from bike_cli.video.streams.conversion import StreamConverter
from bike_cli.video.streams.outcomes import BinFrame, Outcome, Step, rate_notes
from bike_cli.video.streams.pictures import DamagedPictures, DamageError, IntactPictures, Positioned
from bike_cli.video.streams.values import StreamRequest

# Frames after the last wanted one that can replace it in a draft, and those that may be stored before these.
_BEYOND = 32

_Pictures: TypeAlias = IntactPictures | DamagedPictures


class SelectiveStream:
    """The frames that the packets of a file predict.

    Args:
        step: called before each packet is read.
    Attributes:
        next_bin: all bins before it were filled, or are missing.
        has_frames: whether any bin was filled.
    """

    def __init__(
        self, source: Source, predicted: PredictedFrames, request: StreamRequest, *, step: Step | None = None
    ) -> None:
        self.next_bin = request.first_bin
        self.has_frames = False
        self._source, self._request, self._step = source, request, step
        self._predicted, self._table = predicted, predicted.table
        self._converter = StreamConverter(request.short_side)
        self._positions = frames_of_bins(predicted.starts_s, predicted.duration_s, request.fps)  # [n_bins]

    @property
    def ends_at_s(self) -> float:
        """End of the last frame on the file's own clock."""
        return self._predicted.ends_at_s

    def frames(self, file: VideoFile) -> Iterator[BinFrame]:
        """Yield the frames of the requested bins, in order.

        Args:
            file: the source, opened, before its first packet is decoded.
        Raises:
            UnpredictableFileError: the frames from `next_bin` on can only be found by a full decode.
            MemoryError: the file cannot be read.
        """
        if not len(self._rows()[0]):
            return
        try:
            pictures = IntactPictures(self._decoder(file), self._table)
            yield from self._decode(pictures, runs_of(self._table, self._wanted()))
        except DamageError:
            with open_video(self._source) as again:
                damaged = DamagedPictures(self._decoder(again), self._table)
                yield from self._decode(damaged, [Run(0, self._wanted())])
        if not self.has_frames:
            raise UnpredictableFileError("no frame can be decoded")

    def outcome(self) -> Outcome:
        """Return what is known about the whole video."""
        fps, duration_s = self._request.fps, self._predicted.duration_s
        n_bins = bin_count(duration_s, fps)
        n_bins = n_bins if self._request.end_bin is None else min(n_bins, self._request.end_bin)
        return Outcome(
            n_bins=n_bins,
            end_s=end_of_bin(n_bins, fps=fps, duration_s=duration_s),
            duration_s=duration_s,
            notes=tuple(rate_notes(self._predicted.starts_s, fps)),
            details=("read with PyAV, selective",),
        )

    def _rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the positions of the frames that are left, [R], and their bins, [R, 2]."""
        return rows_of(self._positions, self.next_bin, self._request.end_bin)

    def _wanted(self) -> NDArray[np.int64]:
        """Return the packets of the frames to decode, sorted."""
        positions = self._rows()[0]
        if self._request.draft:
            # What replaces the last frame must not depend on where the range of bins ends.
            beyond = positions[-1] + np.arange(1, _BEYOND + 1)
            positions = np.append(positions, beyond[np.isin(beyond, self._positions)])
        # The first frame of the file decides the size of all.
        return np.unique(self._table.shown[np.append(0, positions)])

    def _decoder(self, file: VideoFile) -> RunDecoder:
        if self._request.draft:
            # The decoder opens with its first packet; later, the option would have no effect.
            file.stream.codec_context.options = {"skip_loop_filter": "all"}
        return RunDecoder(file, self._table, step=self._step)

    def _decode(self, pictures: _Pictures, runs: list[Run]) -> Iterator[BinFrame]:
        frames = self._drafts if self._request.draft else self._exact_frames
        for frame in frames(pictures, runs):
            self.has_frames = True
            yield frame
            self.next_bin = frame.end_bin

    def _end_of(self, run: Run) -> int:
        """Return the position after the last one that is wanted from a run."""
        return 1 + int(np.searchsorted(self._table.shown_pts, self._table.pts[run.wanted].max()))

    # -- exact frames ------------------------------------------------------------------------------------------------

    def _exact_frames(self, pictures: _Pictures, runs: list[Run]) -> Iterator[BinFrame]:
        positions, bins = self._rows()
        wanted = {0, *positions.tolist()}
        row = 0
        for run in runs:
            spared = run.wanted if isinstance(pictures, IntactPictures) else None
            for position, picture in pictures.of(run, wanted, spared=spared):
                self._converter.adopt(picture)
                row = self._skip_lost(pictures, positions, row, before=position)
                if row < len(positions) and positions[row] == position:
                    pixels = self._converter.convert(picture)
                    if pixels is not None:
                        yield BinFrame(pixels, *bins[row].tolist())
                    row += 1
            row = self._skip_lost(pictures, positions, row, before=self._end_of(run))

    def _skip_lost(self, pictures: _Pictures, positions: NDArray[np.int64], row: int, *, before: int) -> int:
        """Return the first row whose frame is not before a position: those of the others did not come."""
        while row < len(positions) and positions[row] < before:
            pictures.lose(int(positions[row]))
            row += 1
        return row

    # -- drafts ------------------------------------------------------------------------------------------------------

    def _drafts(self, pictures: _Pictures, runs: list[Run]) -> Iterator[BinFrame]:
        """Yield the decoded frames that are nearest to those of the bins, each once for bins in a row."""
        pending: BinFrame | None = None
        at = -1  # position of the pending frame
        for (first_bin, end_bin), (position, picture) in self._nearest_pictures(pictures, runs):
            if pending is not None and at == position and pending.end_bin == first_bin:
                pending = BinFrame(pending.pixels, pending.first_bin, end_bin)
                continue
            if pending is not None:
                yield pending
            pixels = self._converter.convert(picture)
            pending, at = None if pixels is None else BinFrame(pixels, first_bin, end_bin), position
        if pending is not None:
            yield pending

    def _nearest_pictures(self, pictures: _Pictures, runs: list[Run]) -> Iterator[tuple[list[int], Positioned]]:
        """Yield the bins of each row with the picture that is nearest to its frame."""
        positions, bins = self._rows()
        # Pictures beyond these are outside the edit list, so none could replace them.
        ends = self._table.shown[[0, -1]]
        everything = range(len(self._table.shown))
        row = 0
        for run in runs:
            end = row + int(np.searchsorted(positions[row:], self._end_of(run)))
            before: Positioned | None = None
            for current in pictures.of(run, everything, spared=ends):
                self._converter.adopt(current.picture)
                while row < end and positions[row] <= current.position:
                    own = int(positions[row])
                    nearest = Positioned(*nearer_picture(own, before or current, current))
                    if pictures.can_replace(nearest.position, own):
                        yield bins[row].tolist(), nearest
                    row += 1
                before = current
            for last in range(row, end):
                if before is not None and pictures.can_replace(before.position, int(positions[last])):
                    yield bins[last].tolist(), before
            row = end
            if row == len(positions):
                return
