"""Detected segments, from the answers of `bike spot` or from files."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bike_cli.data.csv_rows import Row
from bike_cli.data.detection.segment_tables import finite_number, is_segment_table, missing_column, segment_columns
from bike_cli.data.lines import nfc, tidy
from bike_cli.data.predictions.files import HEAD_BYTES, DataFile, Origin
from bike_cli.data.predictions.records import SURE, Answer, TableForm, failure_in, number_in, read_answers
from bike_cli.errors import UsageError
from bike_cli.records import Failure, Timeline
from bike_cli.wording import count

logger = logging.getLogger(__name__)

COMMAND = "bike spot -o"
_RESULTS = re.compile(r'"results"\s*:')


class ScoredSegment(NamedTuple):
    """A part of a video in which a label was detected; times in seconds. A higher score is a more certain one."""

    label: str
    start_s: float
    end_s: float
    score: float


class DetectedVideo(NamedTuple):
    """The detected segments of one video, perhaps none.

    Args:
        path: its path, or its id in results of the ActivityNet challenge.
        duration_s: None where it is not known.
    """

    path: str
    segments: tuple[ScoredSegment, ...]
    duration_s: float | None = None


@dataclass(frozen=True, repr=False)
class Detections:
    """What one system detected.

    Args:
        name: the name of the system.
        videos: in the order of the run or the file.
        failures: the videos without an answer.
        models, settings: of the records, each distinct value once.
        origin: where they are from, for messages; empty: the name.
    """

    name: str
    videos: tuple[DetectedVideo, ...]
    failures: tuple[Failure, ...] = ()
    models: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    origin: str = ""

    def __repr__(self) -> str:
        segments = sum(len(video.segments) for video in self.videos)
        return f"Detections({self.name!r}, {count(len(self.videos), 'video')}, {count(segments, 'segment')})"

    @classmethod
    def of_answers(cls, name: str, answers: Iterable[Timeline | Failure]) -> Detections:
        """Return the answers of `bike_cli.spot` as what the system `name` detected."""
        videos, failures, models = list[DetectedVideo](), list[Failure](), dict[str, None]()
        for answer in answers:
            if isinstance(answer, Failure):
                failures.append(answer)
                continue
            segments = tuple(ScoredSegment(nfc(tidy(s.label)), s.start_s, s.end_s, s.score) for s in answer.segments)
            videos.append(DetectedVideo(answer.source.id, segments, answer.duration_s))
            models[answer.model] = None
        return cls(name, tuple(videos), tuple(failures), tuple(models))


def read_detections(file: DataFile | str | Path, *, name: str | None = None, is_part: bool = False) -> Detections:
    """Return the segments in a file that `bike spot -o` wrote, or in results of the ActivityNet challenge.

    The formats are:
        JSON lines, or an array of such records: `path`, `status` and `segments`, each with `label`, `start_s`, `end_s`
            and `score`; a failure has an `error` instead.
        CSV and TSV: a row per segment with the columns `path`, `start_s`, `end_s`, `label` and `score`. A video without
            a segment has a row in which these are empty, and a failure has an `error` and a `message`.
        results of the challenge: JSON with `results` that has for each id a list of `label`, `score` and `segment`.

    Identical answers are used once; a truncated last record is dropped. Both warn.

    Args:
        name: the name of the system; None: the name of the file.
        is_part: whether the file may be empty, as one of more parts than there are videos.
    Raises:
        UsageError: the file cannot be read or is empty; a record is malformed; two different answers for a video.
    """
    file = file if isinstance(file, DataFile) else DataFile(str(file), str(file))
    collector = _Collector(file.origin)
    for answer in _results(file) if _is_results(_head_of(file)) else read_answers(file, _TABLE):
        collector.add(answer)
    detections = collector.detections(file.name if name is None else name)
    if not is_part and not detections.videos and not detections.failures:
        raise UsageError(f"{file.name}: is empty; give the output of {COMMAND}")
    return detections


def holds_detections(file: DataFile) -> bool:
    """Return whether a file looks like one that `read_detections` reads, rather than one with true segments."""
    head = _head_of(file)
    first_line = next((line for line in head.split("\n") if line.strip()), "")
    if head.startswith(("{", "[")):
        return '"path"' in head or _is_results(head)
    columns = segment_columns(re.split("[,\t;]", first_line))
    return is_segment_table(first_line) and not {"score", "status"}.isdisjoint(columns)


def merge_detections(parts: Sequence[Detections], *, name: str) -> Detections:
    """Return the detections of several parts of one run, such as those of `bike spot --shard`, as those of one system.

    Raises:
        UsageError: two parts have different answers for a video, or all of them are empty.
    """
    if not any(part.videos or part.failures for part in parts):
        raise UsageError(f"{name}: all parts are empty; give the output of {COMMAND}")
    videos: dict[str, DetectedVideo] = {}
    for part in parts:
        for video in part.videos:
            if videos.setdefault(video.path, video) != video:
                raise UsageError(
                    f"{part.origin or part.name}: {video.path} has another answer in an earlier part; keep one"
                )
    failures = {f.source.id: f for part in reversed(parts) for f in part.failures if f.source.id not in videos}
    models = tuple(dict.fromkeys(model for part in parts for model in part.models))
    settings = tuple(dict.fromkeys(one for part in parts for one in part.settings))
    if len(models) > 1 or len(settings) > 1:
        what = "models" if len(models) > 1 else "labels or settings"
        logger.warning("%s: the parts have different %s; are they parts of one run?", name, what)
    return Detections(name, tuple(videos.values()), tuple(failures.values()), models, settings, parts[0].origin)


# -- results of the ActivityNet challenge ------------------------------------------------------------------------------


def _head_of(file: DataFile) -> str:
    path = Path(file.path)
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return stream.read(HEAD_BYTES).decode("utf-8", "replace").lstrip("\ufeff \t\r\n")


def _is_results(head: str) -> bool:
    return head.startswith("{") and '"path"' not in head and _RESULTS.search(head) is not None


def _results(file: DataFile) -> Iterator[Answer]:
    try:
        document = json.loads(Path(file.path).read_bytes())
    except OSError as e:
        raise UsageError(f"{file.name}: cannot be read ({e.strerror}); give the output of {COMMAND}") from e
    except (ValueError, RecursionError) as e:
        reason = e.msg if isinstance(e, json.JSONDecodeError) else str(e)
        raise UsageError(f"{file.name}: is not valid JSON ({reason}); fix it, or write it again") from e
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, dict) or not all(isinstance(found, list) for found in results.values()):
        raise UsageError(f"{file.name}: has no object 'results' of lists; give results of the ActivityNet challenge")
    for id_, found in results.items():
        yield Answer(0, {"path": id_, "status": "ok", "segments": [_as_segment(one) for one in found]})


def _as_segment(result: object) -> object:
    """Return a result of the challenge as a segment of `bike spot`; one of another form becomes an invalid segment."""
    segment = result.get("segment") if isinstance(result, dict) else None
    if not isinstance(result, dict) or not isinstance(segment, list) or len(segment) != 2:
        return None
    return {"label": result.get("label"), "start_s": segment[0], "end_s": segment[1], "score": result.get("score")}


# -- tables ------------------------------------------------------------------------------------------------------------


def _columns(header: Row) -> list[str]:
    columns = segment_columns(header.cells)
    missing = missing_column(columns)
    if missing is not None:
        reason = f"is neither JSON nor a table with the column {missing!r}"
        raise UsageError(f"{header.where}: {reason}; give the output of {COMMAND}")
    if "score" not in columns:
        logger.warning("%s: has no column 'score', so all segments rank alike; mAP says little", header.where)
    return columns


def _record(row: Row, columns: Sequence[str]) -> Mapping[str, object]:
    cells = dict(zip(columns, row.cells, strict=True))
    record: dict[str, object] = {"path": cells["path"], "is_row": True}
    if cells.get("status") == "error" or cells.get("error"):
        error = {"type": cells.get("error"), "message": cells.get("message", "")}
        return {**record, "status": "error", "error": error}
    texts = {name: cells[name] for name in ("label", "start_s", "end_s")}
    segment: dict[str, object] = {**texts, "score": cells.get("score", SURE)}
    record |= {name: cells[name] for name in ("model", "settings") if cells.get(name)}
    duration_s = number_in(row.where, cells.get("duration_s", ""))
    is_empty = not any(cell.strip() for cell in texts.values())
    return {**record, "status": "ok", "segments": [] if is_empty else [segment], "duration_s": duration_s}


_TABLE = TableForm(COMMAND, _columns, _record)


# -- records -----------------------------------------------------------------------------------------------------------


class _Collector:
    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._videos: dict[str, tuple[list[ScoredSegment], float | None]] = {}
        self._seen: dict[str, set[ScoredSegment]] = {}  # of videos with a row per segment
        self._failures: dict[str, Failure] = {}
        self._models: dict[str, None] = {}
        self._settings: dict[str, None] = {}
        self._repeated: list[str] = []

    def add(self, answer: Answer) -> None:
        """Add a record, or raise UsageError if it is invalid or contradicts an earlier one of the same video."""
        record = answer.record
        path = record.get("path") if isinstance(record, dict) else None
        where = self._origin.at(answer.line) if answer.line else f"{self._origin}, video {path}"
        if not isinstance(record, dict) or not isinstance(path, str) or not path:
            raise UsageError(f"{where}: is not an answer of {COMMAND}, as it has no 'path'; remove it")
        segments = record.get("segments")
        if record.get("status") == "error":
            self._add_failure(where, failure_in(where, path, record.get("error")))
        elif record.get("status", "ok") == "ok" and isinstance(segments, list):
            duration = record.get("duration_s")
            duration_s = None if duration is None else finite_number(where, "duration_s", duration)
            found = [_segment(where, segment) for segment in segments]
            self._add_video(where, path, found, duration_s, is_row="is_row" in record)
            for known, key in ((self._models, "model"), (self._settings, "settings")):
                if isinstance(record.get(key), str) and record[key]:
                    known[record[key]] = None
        else:
            problem = "status must be 'ok', with a list 'segments', or 'error'"
            raise UsageError(f"{where}: is not an answer of {COMMAND}: {problem}; remove it")

    def detections(self, name: str) -> Detections:
        if self._repeated:
            text = "%s: %s with more than one identical answer, used once"
            logger.warning(text, self._repeated[0], count(len(self._repeated), "record"))
        videos = (DetectedVideo(path, tuple(found), length) for path, (found, length) in self._videos.items())
        failures = tuple(self._failures.values())
        return Detections(name, tuple(videos), failures, tuple(self._models), tuple(self._settings), self._origin)

    def _add_failure(self, where: str, failure: Failure) -> None:
        path = failure.source.id
        if path in self._videos or self._failures.setdefault(path, failure) != failure:
            raise self._contradiction(where, path)

    def _add_video(
        self, where: str, path: str, found: list[ScoredSegment], duration_s: float | None, *, is_row: bool
    ) -> None:
        if path in self._failures:
            raise self._contradiction(where, path)
        before = self._videos.get(path)
        if before is None:
            self._videos[path] = (found, duration_s)
            self._seen[path] = set(found)
        elif is_row:
            new = [segment for segment in found if segment not in self._seen[path]]
            before[0].extend(new)
            self._seen[path].update(new)
            self._repeated += [where] if len(new) < len(found) else []
        elif before == (found, duration_s):
            self._repeated.append(where)
        else:
            raise self._contradiction(where, path)

    def _contradiction(self, where: str, path: str) -> UsageError:
        return UsageError(f"{where}: {path} has another answer in an earlier record; keep one")


def _segment(where: str, segment: object) -> ScoredSegment:
    record: Mapping[str, object] = segment if isinstance(segment, dict) else {}
    label = record.get("label")
    if not isinstance(label, str) or not tidy(label):
        fix = "write 'label', 'start_s', 'end_s' and 'score' for each"
        raise UsageError(f"{where}: has a segment without a label; {fix}")
    start_s, end_s = (finite_number(where, name, record.get(name)) for name in ("start_s", "end_s"))
    return ScoredSegment(nfc(tidy(label)), start_s, end_s, finite_number(where, "score", record.get("score", SURE)))
