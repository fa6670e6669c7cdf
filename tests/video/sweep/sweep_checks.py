"""Compare the frames that bike returns with those that ffmpeg shows."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sweep_cases import MATRICES, ODD_MATRICES, Case
from sweep_files import LIMIT_S, number_in, turned

from bike_cli.config import Decoder, SamplingConfig
from bike_cli.records import Clip, Failure
from bike_cli.video.sampling import positions_of

MOST_DIFFERENCE = 2.0  # mean absolute difference of a frame, of 255
DRAFT_DIFFERENCE = 8.0  # without the loop filter
DRAFT_DISTANCE = 1  # frames; the README's promise
EXPECTED_NOTES = (  # warnings that intact files may have
    re.compile(r"the video has [\d,]+ frames?, [\d,]+ are requested: some are repeated"),
    re.compile(r"[\d,]+ frames requested, [\d,]+ read: the video has no more keyframes near them"),
    re.compile(r"[\d,]+ frames requested, [\d,]+ read: a draft decodes no more frames near them"),
)
# Notes that are right for some files: those that begin in mid-GOP, and those whose timestamps repeat.
CUT_NOTE = re.compile(r"(the first )?[\d,]+ of [\d,]+ frames cannot be decoded")
NO_CLOCK_NOTE = re.compile(r"the file has no timestamps: times and duration are unknown")
CLOCK_NOTE = re.compile(r"the file's timestamps run backwards: times and duration are unknown")
DECORD_NOTE = re.compile(r"decord may be off by some frames in such files; --decoder auto is exact")


@dataclass(frozen=True)
class Reading:
    """One way to read a file."""

    name: str
    sampling: SamplingConfig
    decoder: Decoder = "auto"


READINGS = (
    Reading("uniform-8", SamplingConfig(frames=8)),
    Reading("uniform-16", SamplingConfig(frames=16)),
    Reading("dense", SamplingConfig(frames=16, sampling="dense")),
    Reading("keyframe", SamplingConfig(frames=8, sampling="keyframe")),
    Reading("draft", SamplingConfig(frames=8, draft=True)),
    Reading("clips", SamplingConfig(frames=6, clips=2)),
    Reading("decord", SamplingConfig(frames=8), "decord"),
)


@dataclass(frozen=True)
class KnownFault:
    """Faults that are known and not fixed yet, as patterns separated by `|`, and the reason for them."""

    reason: str
    fault: str = "*"
    reading: str = "*"
    codec: str = "*"
    container: str = "*"
    clock: str = "*"
    packing: str = "*"

    def covers(self, case: Case, reading: Reading, fault: str) -> bool:
        """Return whether a fault is one of these."""
        values = (fault, reading.name, case.codec, case.container, case.clock, case.packing)
        patterns = (self.fault, self.reading, self.codec, self.container, self.clock, self.packing)
        return all(
            any(fnmatchcase(value, choice) for choice in pattern.split("|"))
            for value, pattern in zip(values, patterns, strict=True)
        )


KNOWN_FAULTS = (
    KnownFault(
        "libxvid's B-frames outside AVI have the timestamps of another frame, and some packets cannot be decoded",
        fault="times: *|warns: damaged*|positions: *",
        codec="mpeg4-xvid",
    ),
    KnownFault(
        "AVI has no presentation times, and stores gaps as empty packets", "times: *", container="avi", clock="vfr"
    ),
    KnownFault("frames of an MPEG-PS without timestamps are one frame off", "times: *", container="mpg"),
)


@dataclass(frozen=True)
class Shown:
    """The frames that ffmpeg shows, uint8 [N, H, W, 3], and their times in seconds, float64 [N]."""

    frames: NDArray[np.uint8]
    times_s: NDArray[np.float64]


@dataclass
class Verdict:
    """The faults of one reading of a file, and how many frames were compared."""

    faults: list[str] = field(default_factory=list)
    frames: int = 0
    worst: float = 0.0
    outcome: str = "exact"


def shown_by_ffmpeg(path: Path, case: Case) -> Shown:
    """Decode a file with ffmpeg; a matrix that is not a quarter turn or mirror is ignored.

    ffmpeg itself turns a picture before it converts it to RGB, which moves the chroma by half a pixel. Here it converts
    first; its own picture only shows which way to turn.

    Raises:
        subprocess.CalledProcessError: ffmpeg failed.
        ValueError: ffmpeg shows a picture that is not a turned or mirrored one of the stored.
    """
    raw, first = path.with_name(f"{path.name}.shown.rgb"), path.with_name(f"{path.name}.first.rgb")
    decoding = []
    if case.codec.startswith("av1") and case.container in {"mp4", "mov"}:
        decoding += ["-c:v", "libaom-av1"]  # before FFmpeg 6, libdav1d ignores edits
    options = ["-an", "-sn", "-dn", "-fps_mode", "passthrough", "-enc_time_base", "-1"]
    # Convert the chroma of interlaced frames by field, as swscale does by default since FFmpeg 8.
    options += ["-vf", "scale=interl=-1", "-pix_fmt", "rgb24"]
    ffmpeg = ["ffmpeg", "-v", "error", "-nostdin", "-y"]
    stored = [*ffmpeg, "-noautorotate", *decoding, "-i", str(path), *options, "-f", "rawvideo", str(raw)]
    shown = [*ffmpeg, *decoding, "-i", str(path), *options, "-frames:v", "1", "-f", "rawvideo", str(first)]
    try:
        done = subprocess.run(
            [*stored, *options, "-f", "framecrc", "-"], check=True, capture_output=True, timeout=LIMIT_S
        )
        parsed = _parsed(raw, done.stdout.decode())
        if case.orientation in ODD_MATRICES or not len(parsed.frames):
            return parsed
        subprocess.run(shown, check=True, capture_output=True, timeout=LIMIT_S)
        matrix = _turn_between(parsed.frames[0], np.fromfile(first, np.uint8))
        return Shown(np.stack([turned(frame, matrix) for frame in parsed.frames]), parsed.times_s)
    finally:
        raw.unlink(missing_ok=True)
        first.unlink(missing_ok=True)


def _turn_between(stored: NDArray[np.uint8], shown: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Return the matrix, one of eight, that gives the picture shown."""
    turns = [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] + [(0, b, c, 0) for b in (1, -1) for c in (1, -1)]
    off = [float(np.abs(turned(stored, turn).ravel().astype(np.int16) - shown).mean()) for turn in turns]
    if min(off) > 2 * MOST_DIFFERENCE:
        raise ValueError(f"ffmpeg shows none of the eight orientations: {off}")
    return turns[int(np.argmin(off))]


def _parsed(raw: Path, crcs: str) -> Shown:
    lines = crcs.splitlines()
    tick = next(line.split(": ")[1].split("/") for line in lines if line.startswith("#tb 0"))
    width, height = next(map(int, line.split(": ")[1].split("x")) for line in lines if line.startswith("#dimensions 0"))
    starts = [int(line.split(",")[2]) for line in lines if not line.startswith("#")]
    frames = np.fromfile(raw, np.uint8).reshape(-1, height, width, 3)
    times_s = np.array(starts, np.float64) * int(tick[0]) / int(tick[1])
    return Shown(frames, times_s - times_s[0] if len(times_s) else times_s)


def check_shown(shown: Shown, case: Case) -> list[str]:
    """Check ffmpeg's own frames against the numbers painted into them; return what is unexpected."""
    if case.orientation == "movie-clockwise" or case.extra == "default-second" or case.packing == "mid-gop":
        return []
    if case.codec == "mpeg4-xvid":  # the encoder drops frames, and repeats others
        return []
    faults = []
    if len(shown.frames) > 1:
        steps = differences(shown.frames[1:], shown.frames[:-1])
        if steps.min() < 2 * MOST_DIFFERENCE:
            faults.append(f"ffmpeg: frames {steps.argmin()} and the next are alike ({steps.min():.1f})")
    is_whole = case.packing not in {"fragment-per-frame", "fragments-from-second"} and case.clock in {
        "plain",
        "ntsc",
        "vfr",
        "jumps",
        "coarse",
    }
    if is_whole and case.extra != "large-second" and case.orientation not in ODD_MATRICES:
        numbers = numbers_of(shown, case)
        if (np.diff(numbers) != 1).any():
            faults.append(f"ffmpeg: shows {numbers}")
    return faults


def numbers_of(shown: Shown, case: Case) -> list[int]:
    """Return the numbers that ffmpeg's frames show."""
    matrix = MATRICES.get(case.orientation, (1, 0, 0, 1))
    a, b, c, d = matrix
    inverse = (a, c, b, d)  # of turns and mirrors, the transpose
    return [number_in(turned(frame, inverse)) for frame in shown.frames]


def differences(ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the mean absolute difference of each pair of frames."""
    return np.abs(ours.astype(np.int16) - theirs).mean(axis=(-3, -2, -1))


def check(outcome: Clip | Failure, shown: Shown, case: Case, reading: Reading) -> Verdict:
    """Check the outcome of one reading of a file."""
    verdict = Verdict()
    if isinstance(outcome, Failure):
        verdict.outcome = outcome.kind
        is_refusal = reading.decoder == "decord" and outcome.kind == "not_video"
        if len(shown.frames) and not is_refusal:
            verdict.faults.append(f"{outcome.kind}: {outcome.message}")
        return verdict
    warning = outcome.warning or ""
    is_cut = case.packing == "mid-gop"
    if DECORD_NOTE.search(warning) and reading.decoder == "decord":
        verdict.outcome = "admits"
        return verdict
    if (strange := _beyond_expected(warning, case)) and not is_cut:
        verdict.faults.append(f"warns: {strange}")
    verdict.outcome = "warned" if warning else "exact"
    _check_frames(verdict, outcome, shown, reading, is_cut=is_cut)
    _check_times(verdict, outcome, shown, case)
    return verdict


def _beyond_expected(warning: str, case: Case) -> str:
    """Return a warning without the notes that the file may have; empty if nothing is left."""
    notes = list(EXPECTED_NOTES)
    if case.clock in {"cut-by-copy", "copyts"} and case.container in {"ts", "m2ts", "mpg"}:
        notes.append(CUT_NOTE)
    if case.packing == "fragments-from-second":  # the first B-frames need a frame of the fragment before
        notes.append(CUT_NOTE)
    if case.container in {"h264", "hevc"}:
        notes.append(NO_CLOCK_NOTE)
    if case.clock in {"2000-fps", "two-edits"}:
        notes.append(CLOCK_NOTE)
    for note in notes:
        warning = note.sub("", warning)
    return warning.strip("; ")


def _check_frames(verdict: Verdict, clip: Clip, shown: Shown, reading: Reading, *, is_cut: bool) -> None:
    n, positions = len(shown.frames), clip.positions
    assert positions is not None
    if clip.frames.shape[2:] != shown.frames.shape[1:]:
        verdict.faults.append(f"size: {list(clip.frames.shape[2:4])}, ffmpeg {list(shown.frames.shape[1:3])}")
        return
    asked = positions_of(reading.sampling, n)
    limit = MOST_DIFFERENCE
    if not is_cut:
        if reading.sampling.draft:
            near = np.abs(positions[..., None] - asked[:, None, :]).min(axis=-1)
            limit = DRAFT_DIFFERENCE
            if near.max() > DRAFT_DISTANCE:
                verdict.faults.append(f"positions: {positions.tolist()} for {asked.tolist()} of {n}")
        elif reading.sampling.sampling != "keyframe" and not np.array_equal(positions, asked):
            verdict.faults.append(f"positions: {positions.tolist()} for {asked.tolist()} of {n}")
        if positions.max() >= n:
            verdict.faults.append(f"positions: {positions.tolist()} in a video of {n}")
            return
    pairs = list(zip(positions.ravel().tolist(), clip.frames.reshape(-1, *clip.frames.shape[2:]), strict=True))
    verdict.frames = len(pairs)
    if is_cut:  # decoders differ in what they return before the first keyframe
        nearest = [_nearest(frame, shown) for _, frame in pairs]
        verdict.worst = max(difference for _, difference in nearest)
        places = np.array([place for place, _ in nearest]).reshape(positions.shape)
        if (np.diff(places) < 0).any() and reading.sampling.sampling != "dense":
            verdict.faults.append(f"order: gives ffmpeg's {places.tolist()}")
    else:
        verdict.worst = max(float(differences(frame, shown.frames[position])) for position, frame in pairs)
    if verdict.worst >= limit:
        nearest = [_nearest(frame, shown) for _, frame in pairs]
        given = [place for place, _ in nearest]
        closest = max(difference for _, difference in nearest)
        where = "" if is_cut else f" at {[position for position, _ in pairs]}"
        verdict.faults.append(f"frames: differ by {verdict.worst:.1f}; gives {given}{where} (within {closest:.1f})")


def _nearest(frame: NDArray[np.uint8], shown: Shown) -> tuple[int, float]:
    off = differences(shown.frames, frame[None])
    return int(off.argmin()), float(off.min())


def has_ambiguous_clock(case: Case) -> bool:
    """Return whether the timestamps are ambiguous, so that versions of FFmpeg differ."""
    return (
        (case.container == "avi" and case.clock == "cut-by-copy")
        or case.clock in {"two-edits", "2000-fps"}
        or (case.container == "mkv" and case.clock == "starts-below-0")  # FFmpeg 5 repeats times
        or (case.container == "mpg" and case.clock == "cut-by-copy")
        or case.packing == "fragment-per-frame"
    )


def _check_times(verdict: Verdict, clip: Clip, shown: Shown, case: Case) -> None:
    assert clip.positions is not None
    times_s, duration_s = clip.times_s, clip.duration_s
    if np.isnan(times_s).all():
        if not clip.warning:
            verdict.faults.append("times: none, without a warning")
        return
    for clip_times, clip_positions in zip(times_s, clip.positions, strict=True):
        order = np.argsort(clip_positions, kind="stable")
        steps, moves = np.diff(clip_times[order]), np.diff(clip_positions[order])
        # Neighbours share a time where the clock is coarser than the frame rate, or where edits overlap.
        may_stand_still = case.clock in {"2000-fps", "two-edits"}
        if np.isnan(clip_times).any() or (steps[moves > 0] < (0 if may_stand_still else 1e-9)).any():
            verdict.faults.append(f"times: do not increase: {np.round(clip_times, 3).tolist()}")
    if np.nanmin(times_s) < 0:
        verdict.faults.append(f"times: begin below 0: {np.nanmin(times_s)}")
    if duration_s is None:
        if not clip.warning:
            verdict.faults.append("duration: none, without a warning")
    elif duration_s <= 0 or duration_s < np.nanmax(times_s):
        verdict.faults.append(f"duration: {duration_s} with times up to {np.nanmax(times_s)}")
    if (
        case.packing == "mid-gop"
        or case.clock in {"twice", "jumps"}
        or has_ambiguous_clock(case)
        or clip.positions.max() >= len(shown.times_s)
    ):
        return
    off_s = np.abs(times_s - shown.times_s[clip.positions]).max()
    if off_s > 0.002:
        verdict.faults.append(
            f"times: {off_s:.3f} s off ffmpeg's: {np.round(times_s.ravel(), 3).tolist()} for "
            f"{np.round(shown.times_s[clip.positions].ravel(), 3).tolist()}"
        )
    end_s = float(shown.times_s[-1])
    if duration_s is not None and not (end_s - 0.002 <= duration_s):
        verdict.faults.append(f"duration: {duration_s:.3f} s, the last frame is shown at {end_s:.3f} s")
