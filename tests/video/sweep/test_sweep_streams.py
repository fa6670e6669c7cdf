"""Streams of a thousand generated files: each bin has the frame and the time that a clip and ffmpeg have there."""

import functools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bin_oracle import Streamed, differing, streamed
from sweep_cases import Case, cases
from sweep_checks import MOST_DIFFERENCE, Shown, differences, has_ambiguous_clock, shown_by_ffmpeg
from sweep_files import Workshop
from test_sweep import COUNT, encoder_of, encoders

from bike_cli.config import SamplingConfig
from bike_cli.records import Clip, Source
from bike_cli.video.decoding import decode
from bike_cli.video.readers.footage import Request
from bike_cli.video.readers.sequential import read_through

BATCH = 40
RATES = (7.3, 60)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("ffmpeg") is None, reason="needs ffmpeg to create the files and to decode the expected frames"
    ),
]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("sweep"))


@functools.cache
def all_cases() -> list[Case]:
    return cases(COUNT)


@pytest.mark.parametrize("first", range(0, COUNT, BATCH))
def test_bins_have_the_frames_that_are_shown_at_their_middle(first: int, workshop: Workshop) -> None:
    reports = []
    for case in all_cases()[first : first + BATCH]:
        if encoder_of(case) in encoders():
            try:
                path = workshop.make(case)
                shown = shown_by_ffmpeg(path, case)
            except subprocess.CalledProcessError as e:
                pytest.fail(f"{case}\n{e.stderr.decode(errors='replace')}")
            faults = list(_faults(path, case, shown)) if len(shown.frames) else []
            path.unlink()
            if faults:
                reports.append("\n".join([str(case), *map(str, workshop.steps(case)), *faults]))

    assert not reports, "\n\n".join(reports)


def _faults(path: Path, case: Case, shown: Shown) -> Iterator[str]:
    n_frames = read_through(Source.at(path), Request(SamplingConfig(frames=1))).n_frames
    clip = decode(Source.at(path), SamplingConfig(frames=n_frames))
    for fps in RATES:
        whole = streamed(path, fps)
        if case.codec != "mpeg4-xvid":  # packets of its files cannot be decoded, see KNOWN_FAULTS
            yield from _faults_beside_clip(whole, clip, fps)
        yield from _faults_beside_ffmpeg(whole, case, shown, fps)
        if len(whole.end.missing) and "cannot be decoded" not in (clip.warning or ""):
            yield f"{fps} fps: {whole.end}, {whole.end.details}"
        draft = streamed(path, fps, draft=True)
        if len(draft.end.missing) != len(whole.end.missing):
            yield f"{fps} fps, draft: {draft.end}"
        for kind, complete in (("exact", whole), ("draft", draft)):
            first = complete.end.n_bins * 2 // 3
            part = streamed(path, fps, first_bin=first, draft=kind == "draft")
            if differing(part.bins()[first:], complete.bins()[first:]):
                yield f"{fps} fps, {kind}: other frames from bin {first} on: {part.end}, {part.end.details}"


def _faults_beside_clip(found: Streamed, clip: Clip, fps: float) -> Iterator[str]:
    times_s, duration_s = clip.times_s[0], clip.duration_s
    if duration_s is None:
        if not found.end.warning:
            yield f"{fps} fps: no clock, without a warning"
        return
    middles_s = np.arange(0.5 / fps, duration_s - 1e-9, 1 / fps)
    middles_s = middles_s if len(middles_s) else np.array([duration_s / 2])
    expected = [clip.frames[0, np.flatnonzero(times_s <= middle_s + 1e-9)[-1]] for middle_s in middles_s]
    for number in found.end.missing:  # a clip shows the frame before
        expected[number] = None
    if others := differing(found.bins(), expected):
        yield f"{fps} fps: other frames than in a clip in bins {others}: {found.end}, {found.end.details}"


def _faults_beside_ffmpeg(found: Streamed, case: Case, shown: Shown, fps: float) -> Iterator[str]:
    is_odd = case.packing == "mid-gop" or case.clock in {"twice", "jumps"} or has_ambiguous_clock(case)
    # Other times than ffmpeg's, see KNOWN_FAULTS.
    is_odd |= case.codec == "mpeg4-xvid" or case.container == "mpg" or (case.container, case.clock) == ("avi", "vfr")
    if is_odd or found.end.duration_s is None:
        return
    for number, pixels in enumerate(found.bins()):
        middle_s = (number + 0.5) / fps
        # ffmpeg rounds times; which of two frames is shown at a middle between them is uncertain.
        if pixels is None or found.end.n_bins == 1 or np.abs(shown.times_s - middle_s).min() < 0.002:
            continue
        expected = shown.frames[np.flatnonzero(shown.times_s <= middle_s)[-1]]
        if differences(pixels[None], expected[None]).max() >= MOST_DIFFERENCE:
            yield f"{fps} fps: bin {number} has another frame than ffmpeg shows at {middle_s:.3f} s"
