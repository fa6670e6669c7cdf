"""The segments of all videos in the formats of other programs: Label Studio, FiftyOne and ActivityNet's challenge."""

from __future__ import annotations

import json
import logging
import math
import re
from pathlib import Path
from typing import TextIO

from bike_cli.cli.spot.names import stem_of
from bike_cli.cli.spot.rows import Record, timeline_of
from bike_cli.cli.terminal.output_file import open_output
from bike_cli.cli.terminal.targets import explain_unwritable
from bike_cli.json_text import JsonObject, escaped, rounded, significant
from bike_cli.records import Failure, Source, Timeline

LABEL_STUDIO_RATE = 24  # frames per second that its Video tag assumes if it is not told another rate
VIDEO_TAG, LABELS_TAG = "video", "videoLabels"  # names in Label Studio's own template for video timelines
ACTIVITYNET_VERSION = "VERSION 1.3"
_ACTIVITYNET_FILE = re.compile(r"v_(?P<id>.{11})")

logger = logging.getLogger(__name__)


# -- Label Studio -----------------------------------------------------------------------------------------------------


def as_label_studio_task(record: Record, settings: str | None = None) -> JsonObject | None:
    """Return a task whose prediction has a region per segment; None for a video that could not be read.

    Label Studio counts frames from 1, and both ends of a range are part of it; frame f begins (f - 1) / rate seconds
    after the start. The rate is not that of the file, but the one that the Video tag is given: a multiple of the bins
    per second, so that segments begin and end between two frames.

    Source: labelstud.io/guide/predictions, labelstud.io/tags/timelinelabels, and the ML backend's converter for YOLO.
    """
    if isinstance(record, Failure):
        return None
    timeline = timeline_of(record)
    rate = timeline.fps * math.ceil(LABEL_STUDIO_RATE / timeline.fps)
    scores = [segment.score for segment in timeline.segments]
    return {
        "data": {"video": timeline.source.id, "fps": rounded(rate)},
        "predictions": [
            {
                "model_version": f"bike {timeline.model}" + (f" {settings}" if settings else ""),
                **({"score": significant(sum(scores) / len(scores))} if scores else {}),
                "result": _regions(timeline, rate),
            }
        ],
    }


def _regions(timeline: Timeline, rate: float) -> list[JsonObject]:
    found: list[JsonObject] = []
    for number, segment in enumerate(timeline.segments, start=1):
        first = round(segment.start_s * rate) + 1
        last = max(first, round(segment.end_s * rate))
        region = {
            "id": f"segment{number}",
            "type": "timelinelabels",
            "from_name": LABELS_TAG,
            "to_name": VIDEO_TAG,
            "score": significant(segment.score),
            "value": {"ranges": [{"start": first, "end": last}], "timelinelabels": [segment.label]},
        }
        found.append(region)
    return found


# -- ActivityNet ------------------------------------------------------------------------------------------------------


class ActivityNetWriter:
    """Results of ActivityNet's detection challenge: one JSON object with a list of segments for each video.

    After an interrupt between two writes, `close` still completes the object. Videos that could not be read are left
    out. Source: Evaluation/eval_detection.py of activitynet/ActivityNet.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._names: dict[str, Source] = {}
        self._model = ""
        self._stream.write(f'{{"version": {json.dumps(ACTIVITYNET_VERSION)}, "results": {{')
        self._between = "\n"

    def write(self, record: Record) -> None:
        """Write the segments of a video."""
        if isinstance(record, Failure):
            return
        timeline = timeline_of(record)
        name = activitynet_id(timeline.source)
        other = self._names.setdefault(name, timeline.source)
        if other is not timeline.source:
            logger.warning("%s: is left out, because %s has the same id, %s", timeline.source.id, other.id, name)
            return
        self._model = timeline.model
        segments = [
            {
                "label": segment.label,
                "score": significant(segment.score),
                "segment": [rounded(segment.start_s, 3), rounded(segment.end_s, 3)],
            }
            for segment in timeline.segments
        ]
        entry = f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(segments, ensure_ascii=False)}"
        self._stream.write(self._between + escaped(entry))
        self._stream.flush()
        self._between = ",\n"

    def close(self) -> None:
        """Complete the object."""
        details = f"bike spot with the model {self._model}, pretrained on other data" if self._model else "bike spot"
        external = json.dumps({"used": True, "details": details}, ensure_ascii=False)
        self._stream.write(f'\n}}, "external_data": {escaped(external)}}}\n')
        self._stream.flush()


def activitynet_id(source: Source) -> str:
    """Return the id of a video in ActivityNet: the name of its file without the ending and a leading `v_`."""
    stem = stem_of(source)
    match = _ACTIVITYNET_FILE.fullmatch(stem)
    return stem if match is None else match["id"]


# -- FiftyOne ---------------------------------------------------------------------------------------------------------


class FiftyOneWriter:
    """A folder that FiftyOne imports as a `FiftyOneTemporalDetectionDataset`.

    `labels.json` names the videos by absolute paths. The importer also needs the folder `data`, which stays empty. A
    video that could not be read is left out.

    Source: fiftyone.utils.data.importers.FiftyOneTemporalDetectionDatasetImporter.

    Args:
        folder: is created if it does not exist.
    Raises:
        UsageError: the folder cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with explain_unwritable(folder):
            (folder / "data").mkdir(parents=True, exist_ok=True)
        self._classes: dict[str, int] = {}
        self._videos: dict[str, list[JsonObject]] = {}

    def write(self, record: Record) -> None:
        """Keep the segments of a video."""
        if isinstance(record, Failure):
            return
        timeline = timeline_of(record)
        for label in timeline.labels:
            self._classes.setdefault(label, len(self._classes))
        source = timeline.source
        self._videos[str(source.path.absolute()) if source.remote is None else source.id] = [
            {
                "label": self._classes[segment.label],
                "timestamps": [rounded(segment.start_s, 3), rounded(segment.end_s, 3)],
                "confidence": significant(segment.score),
            }
            for segment in timeline.segments
        ]

    def close(self) -> None:
        """Write `labels.json`, which appears when it is complete."""
        with open_output(self._folder / "labels.json") as stream:
            json.dump({"classes": [*self._classes], "labels": self._videos}, stream, indent=1)
            stream.write("\n")
