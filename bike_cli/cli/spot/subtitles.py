"""The segments of one video as subtitles (SRT, WebVTT), chapters (FFmpeg metadata) or an edit decision list.

Times are whole milliseconds. Rounding keeps their order, so segments that touch still touch. Subtitles of several
labels may overlap, as their segments do; chapters and edits never do.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from bike_cli.cli.spot.clock import timestamp, to_ms
from bike_cli.records import Timeline

GAP = "–"  # the title of chapters in which nothing is found
SKIP = 0  # the action of an edit that MPlayer, Kodi and LosslessCut have in common: leave the part out

# Line ends and other characters that no title has. Unicode's line separators end lines in some programs.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_ESCAPED_IN_METADATA = re.compile(r"[=;#\\]")


class Cue(NamedTuple):
    """A segment in whole milliseconds, at least one long.

    Args:
        rank: place among the segments, best first.
    """

    start_ms: int
    end_ms: int
    label: str
    rank: int = 0


def cues(timeline: Timeline) -> list[Cue]:
    """Return the segments of a timeline by start, then end, then the order of the labels."""
    order = {label: place for place, label in enumerate(timeline.labels)}
    segments = sorted(timeline.segments, key=lambda s: (s.start_s, s.end_s, order.get(s.label, len(order))))
    best_first = sorted(range(len(segments)), key=lambda place: -segments[place].score)
    ranks = {place: rank for rank, place in enumerate(best_first)}
    found = []
    for place, segment in enumerate(segments):
        start_ms = to_ms(segment.start_s)
        end_ms = max(start_ms + 1, to_ms(segment.end_s))
        found.append(Cue(start_ms, end_ms, _one_line(segment.label), ranks[place]))
    return found


def chapters(timeline: Timeline) -> list[Cue]:
    """Return chapters that fill the video without gaps: the best label at each time, or `GAP`; none without a segment.

    MP4 chapters have neither gaps nor overlaps, so only these mean the same in every container.
    """
    segments = cues(timeline)
    if not segments:
        return []
    end_ms = max(to_ms(float(timeline.edges_s[-1])), *(cue.end_ms for cue in segments))
    bounds = sorted({0, end_ms, *(cue.start_ms for cue in segments), *(cue.end_ms for cue in segments)})
    found: list[Cue] = []
    active: list[tuple[int, Cue]] = []  # a heap, the best segment first
    arriving = iter(segments)
    following = next(arriving, None)
    for start_ms, stop_ms in pairwise(bounds):
        while following is not None and following.start_ms <= start_ms:
            heapq.heappush(active, (following.rank, following))
            following = next(arriving, None)
        while active and active[0][1].end_ms <= start_ms:
            heapq.heappop(active)
        label = active[0][1].label if active else GAP
        if found and found[-1].label == label:
            found[-1] = found[-1]._replace(end_ms=stop_ms)
        else:
            found.append(Cue(start_ms, stop_ms, label))
    return found


def as_srt(timeline: Timeline) -> str:
    """Return SubRip subtitles: one per segment, with the label as its text."""
    # SRT has no escapes; a label that looks like a line of times would begin a subtitle.
    parts = [
        f"{number}\n{timestamp(cue.start_ms, point=',')} --> {timestamp(cue.end_ms, point=',')}\n{text}\n"
        for number, cue in enumerate(cues(timeline), start=1)
        for text in [cue.label.replace("-->", "-- >")]
    ]
    return "\n".join(parts)


def as_vtt(timeline: Timeline) -> str:
    """Return WebVTT subtitles: one per segment, with the label as its text; W3C, WebVTT, 4.1."""
    parts = [
        f"{timestamp(cue.start_ms)} --> {timestamp(cue.end_ms)}\n{_escaped_in_vtt(cue.label)}\n"
        for cue in cues(timeline)
    ]
    return "\n".join(["WEBVTT\n", *parts])


def as_ffmetadata(timeline: Timeline) -> str:
    """Return chapters in FFmpeg's metadata format; FFmpeg, doc/metadata.texi.

    `ffmpeg -i video.mp4 -i chapters.ffmetadata -map 0 -map_chapters 1 -c copy with_chapters.mp4` adds them to a video.
    """
    return "".join([";FFMETADATA1\n", *(_chapter(cue) for cue in chapters(timeline))])


def as_edl(timeline: Timeline) -> str:
    """Return an edit decision list of MPlayer and Kodi: players leave out what was found.

    Each line has the start and the end in seconds, and the action 0. Segments that overlap or touch become one.
    """
    return "".join(f"{start / 1000:.3f} {end / 1000:.3f} {SKIP}\n" for start, end in _merged(timeline))


def _one_line(label: str) -> str:
    return _CONTROLS.sub(" ", label).strip() or GAP


def _escaped_in_vtt(text: str) -> str:
    # An escaped ">" also breaks up "-->", which no text of a subtitle may contain.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _chapter(cue: Cue) -> str:
    title = _ESCAPED_IN_METADATA.sub(r"\\\g<0>", cue.label)
    if title.endswith("\\"):  # FFmpeg would take it for an escape of the line end
        title += " "
    return f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={cue.start_ms}\nEND={cue.end_ms}\ntitle={title}\n"


def _merged(timeline: Timeline) -> Iterator[tuple[int, int]]:
    start_ms = end_ms = None
    for cue in cues(timeline):
        if start_ms is not None and end_ms is not None and cue.start_ms <= end_ms:
            end_ms = max(end_ms, cue.end_ms)
            continue
        if start_ms is not None and end_ms is not None:
            yield start_ms, end_ms
        start_ms, end_ms = cue.start_ms, cue.end_ms
    if start_ms is not None and end_ms is not None:
        yield start_ms, end_ms
