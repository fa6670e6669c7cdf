"""Subtitles, chapters and edits: programs that know the formats read the same times and labels."""

import json
import random
import re
import shutil
import subprocess
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest
from answers import HOSTILE
from films import drawn, write_video
from timelines import segment, timeline

from bike_cli.cli.spot.clock import clock, timestamp, to_ms
from bike_cli.cli.spot.subtitles import GAP, as_edl, as_ffmetadata, as_srt, as_vtt, chapters, cues
from bike_cli.records import Timeline

FFMPEG, FFPROBE = shutil.which("ffmpeg"), shutil.which("ffprobe")
needs_ffmpeg = pytest.mark.skipif(not FFMPEG or not FFPROBE, reason="ffmpeg and ffprobe are not installed")
THREE = (segment("goal", 2.5, 6.0, 0.7), segment("replay", 5.0, 8.0, 0.9), segment("corner kick", 12.0, 12.5))
AWKWARD = (  # labels that mean something in one of the formats
    "a --> b",
    "00:00:01,000 --> 00:00:02,000",
    "00:00:01.000 --> 00:00:02.000",
    "<i>fast</i> & <b>loose</b>",
    "&lt;b&gt;",
    "a=b;c#d\\e",
    "[CHAPTER]",
    "# comment",
    "; comment",
    "NOTE",
    "STYLE",
    "WEBVTT",
    "12",
    "back\\",
    "{\\an8}top",
    "«Tor!» 足球 ⚽",
)


def any_timeline(seed: int) -> Timeline:
    """Segments of odd lengths at odd times, many of which touch or overlap."""
    rng = random.Random(seed)
    labels = ("a", "b", "c")
    found = []
    for label in labels:
        edges = sorted(rng.sample(range(300), 12))
        found += [
            segment(label, start / 29.97, end / 29.97, rng.choice((0.6, 0.7, 0.8)))
            for start, end in zip(edges[::2], edges[1::2], strict=True)
        ]
        found.append(segment(label, edges[-1] / 29.97, (edges[-1] + 7) / 29.97, 0.75))  # touches the one before
    return timeline(*found, labels=labels, bins=320, fps=29.97)


# -- times --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "00:00:00.00"),
        (723.25, "00:12:03.25"),
        (59.999, "00:01:00.00"),
        (3599.996, "01:00:00.00"),
        (360000, "100:00:00.00"),
        (-1e-9, "00:00:00.00"),
    ],
)
def test_a_clock_never_shows_sixty_seconds(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_a_clock_without_fractions() -> None:
    assert clock(2470.1, digits=0) == "00:41:10"


def test_milliseconds_never_run_backwards() -> None:
    times = [k / 29.97 for k in range(10_000)]

    assert [to_ms(t) for t in times] == sorted(to_ms(t) for t in times)
    assert timestamp(to_ms(3723.2504), point=",") == "01:02:03,250"


@pytest.mark.parametrize("seed", range(20))
def test_segments_of_one_label_never_overlap_in_milliseconds(seed: int) -> None:
    found = any_timeline(seed)

    for label in found.labels:
        of_label = [cue for cue in cues(found) if cue.label == label]
        assert all(one.start_ms < one.end_ms for one in of_label)
        assert all(one.end_ms <= other.start_ms for one, other in pairwise(of_label))


def test_even_a_segment_of_no_length_is_shown() -> None:
    (cue,) = cues(timeline(segment("goal", 1.0001, 1.0002)))

    assert (cue.start_ms, cue.end_ms) == (1000, 1001)


# -- chapters -----------------------------------------------------------------------------------------------------


def best_at(found: Timeline, ms: int) -> str:
    """The label that a slow look at each millisecond finds: the best one, the first of equals."""
    active = [cue for cue in cues(found) if cue.start_ms <= ms < cue.end_ms]
    return min(active, key=lambda cue: cue.rank).label if active else GAP


@pytest.mark.parametrize("seed", range(20))
def test_chapters_have_the_best_label_at_each_time(seed: int) -> None:
    found = any_timeline(seed)

    parts = chapters(found)

    assert parts[0].start_ms == 0
    assert parts[-1].end_ms == to_ms(found.edges_s[-1])
    assert all(one.end_ms == other.start_ms for one, other in pairwise(parts))
    assert all(one.label != other.label for one, other in pairwise(parts))
    for part in parts:
        assert {best_at(found, ms) for ms in range(part.start_ms, part.end_ms, 7)} == {part.label}


def test_chapters_fill_the_gaps_of_a_video() -> None:
    assert [(c.start_ms, c.end_ms, c.label) for c in chapters(timeline(*THREE))] == [
        (0, 2500, GAP),
        (2500, 5000, "goal"),
        (5000, 8000, "replay"),
        (8000, 12000, GAP),
        (12000, 12500, "corner kick"),
        (12500, 20000, GAP),
    ]


def test_a_video_without_segments_has_no_chapter() -> None:
    assert chapters(timeline()) == []
    assert as_ffmetadata(timeline()) == ";FFMETADATA1\n"


# -- the texts ----------------------------------------------------------------------------------------------------


def test_an_srt_file() -> None:
    assert as_srt(timeline(*THREE[:2])) == (
        "1\n00:00:02,500 --> 00:00:06,000\ngoal\n\n2\n00:00:05,000 --> 00:00:08,000\nreplay\n"
    )


def test_a_vtt_file() -> None:
    found = timeline(segment("a & <b> --> c", 1, 2), labels=["a & <b> --> c"])

    assert as_vtt(found) == "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\na &amp; &lt;b&gt; --&gt; c\n"
    assert as_vtt(timeline()) == "WEBVTT\n"


def test_an_ffmetadata_file_escapes_what_has_a_meaning() -> None:
    found = timeline(segment("a=b;c#d\\e\nf", 0, 20), labels=["a=b;c#d\\e\nf"])

    assert as_ffmetadata(found).splitlines()[1:] == [
        "[CHAPTER]",
        "TIMEBASE=1/1000",
        "START=0",
        "END=20000",
        "title=a\\=b\\;c\\#d\\\\e f",
    ]


def test_an_edit_list_merges_what_overlaps_or_touches() -> None:
    touching = segment("goal", 8.0, 9.25)

    assert as_edl(timeline(*THREE, touching)) == "2.500 9.250 0\n12.000 12.500 0\n"
    assert as_edl(timeline()) == ""


@pytest.mark.parametrize("text", [*HOSTILE, "\n\n1\n00:00:00,000 --> 00:00:09,000\nother", "\r", "\u2029"])
def test_no_label_breaks_a_line(text: str) -> None:
    found = timeline(segment(text, 1, 2), labels=[text])

    assert len(as_srt(found).splitlines()) == 3
    assert len(as_vtt(found).splitlines()) == 4
    chapter = as_ffmetadata(found)
    assert len(chapter.splitlines()) == 1 + 5 * len(chapters(found))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", as_srt(found) + as_vtt(found) + chapter)


# -- read back ----------------------------------------------------------------------------------------------------


def packets_of(file: Path) -> list[tuple[int, int, str]]:
    """The subtitles that FFmpeg's demuxer finds: start and end in milliseconds, and the text of the file."""
    with av.open(file) as container:
        stream = container.streams.subtitles[0]
        found = []
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None and packet.time_base is not None:
                start, length = packet.pts * packet.time_base, packet.duration * packet.time_base
                found.append((int(start * 1000), int((start + length) * 1000), bytes(packet).decode()))
        return found


@pytest.mark.parametrize(("suffix", "as_text"), [("srt", as_srt), ("vtt", as_vtt)])
def test_pyav_reads_the_same_subtitles(suffix: str, as_text: object, tmp_path: Path) -> None:
    found = any_timeline(3)
    file = tmp_path / f"a.{suffix}"
    file.write_text(as_text(found), encoding="utf-8")  # type: ignore[operator]

    assert packets_of(file) == [(c.start_ms, c.end_ms, c.label) for c in cues(found)]


@needs_ffmpeg
@pytest.mark.parametrize(("suffix", "as_text"), [("srt", as_srt), ("vtt", as_vtt)])
def test_ffmpeg_reads_awkward_labels_as_texts(suffix: str, as_text: object, tmp_path: Path) -> None:
    segments = [segment(label, 2 * i, 2 * i + 1) for i, label in enumerate(AWKWARD)]
    found = timeline(*segments, labels=AWKWARD, bins=80)
    file = tmp_path / f"a.{suffix}"
    file.write_text(as_text(found), encoding="utf-8")  # type: ignore[operator]

    shown = subprocess.run(
        [str(FFPROBE), "-v", "error", "-show_packets", "-of", "json", file], capture_output=True, check=True
    )

    times = [(p["pts_time"], p["duration_time"]) for p in json.loads(shown.stdout)["packets"]]
    assert times == [(f"{2 * i}.000000", "1.000000") for i in range(len(AWKWARD))]
    # VTT has escapes, which every text survives; SRT has none.
    raw = [text for _, _, text in packets_of(file)]
    unescaped = [t.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for t in raw]
    assert (unescaped if suffix == "vtt" else raw) == [
        label if suffix == "vtt" else label.replace("-->", "-- >") for label in AWKWARD
    ]


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("kind", ["ordinary", "awkward"])
def test_chapters_survive_in_containers(suffix: str, kind: str, tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", drawn("red square", frames=160))  # 20 s
    if kind == "ordinary":
        found = timeline(*THREE)
    else:
        labels = AWKWARD[:16]
        found = timeline(*(segment(label, i, i + 0.75) for i, label in enumerate(labels)), labels=labels)
    file, out = tmp_path / "chapters.ffmetadata", tmp_path / f"out.{suffix}"
    file.write_text(as_ffmetadata(found), encoding="utf-8")
    command = [str(FFMPEG), "-v", "error", "-i", film, "-i", file, "-map", "0", "-map_chapters", "1", "-c", "copy", out]
    subprocess.run(command, check=True)

    with av.open(out) as container:
        read = [
            (
                int(chapter["start"] * Fraction(chapter["time_base"]) * 1000),
                int(chapter["end"] * Fraction(chapter["time_base"]) * 1000),
                chapter["metadata"]["title"].rstrip(),
            )
            for chapter in container.chapters()
        ]

    assert read == [(c.start_ms, c.end_ms, c.label) for c in chapters(found)]
