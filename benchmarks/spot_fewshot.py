"""Measure `bike spot --classifier` on drawn motions, with and without a class `none`.

    python -m benchmarks.spot_fewshot

Clips of 2 s are cut out of some long videos: of each motion, and of moments in which nothing moves, which become the
class `none`. `bike.fewshot` learns from them, and `bike.spot` finds the motions in other videos. The text of the labels
alone is the baseline. Rendering and reading take minutes; a later run uses the same files.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import bike_cli as bike
from benchmarks.spot_accuracy import COLUMNS, VideoSet, measure, render
from bike_cli.data.detection.detection_sets import AnnotatedVideo
from bike_cli.data.detection.detections import DetectedVideo, Detections, ScoredSegment
from bike_cli.engine.engine import Engine
from bike_cli.records import Source
from bike_cli.video.cutting import cut

CLIP_S = 2.0  # 8 frames at 4 per second
FPS = 8 / CLIP_S
NONE = "none"
STRICT = 0.9  # a threshold that is also measured, with a class `none`


def moments(video: AnnotatedVideo) -> Iterator[tuple[str, float]]:
    """Yield the start of a clip in the middle of each segment, and of each pause, that is long enough."""
    end_s = 0.0
    for segment in sorted(video.segments, key=lambda s: s.start_s):
        if segment.start_s - end_s >= CLIP_S:
            yield NONE, (end_s + segment.start_s - CLIP_S) / 2
        if segment.end_s - segment.start_s >= CLIP_S:
            yield segment.label, (segment.start_s + segment.end_s - CLIP_S) / 2
        end_s = max(end_s, segment.end_s)


def cut_clips(videos: VideoSet, folder: Path) -> None:
    """Cut a clip of each moment into the folder of its class."""
    for file, video in zip(videos.files, videos.truth.videos, strict=True):
        for i, (label, start_s) in enumerate(moments(video)):
            target = folder / label / f"{file.stem}-{i}.mp4"
            if not target.exists():
                cut(Source.at(file), start_s, start_s + CLIP_S, target, exact=True)


def spotted(
    engine: Engine,
    videos: VideoSet,
    saved: bike.SavedClassifier | None,
    fps: float,
    threshold: float | None = None,
) -> Detections:
    """Return what `bike.spot` finds, with its other defaults."""
    labels = videos.labels if saved is None else None
    config = bike.SpotConfig(fps=fps, threshold=threshold)
    detected = []
    for video, found in zip(
        videos.truth.videos, bike.spot(engine, videos.files, labels, config, saved=saved), strict=True
    ):
        assert isinstance(found, bike.Timeline)
        segments = [ScoredSegment(s.label, s.start_s, s.end_s, s.score) for s in found.segments]
        detected.append(DetectedVideo(video.path, tuple(segments), video.duration_s))
    return Detections("bike", tuple(detected))


def print_row(name: str, values: dict[str, float]) -> None:
    """Print a row of the table."""
    cells = [
        f"{values.get(key, math.nan):.2f}" if key.endswith("_s") else f"{100 * values.get(key, math.nan):.1f}"
        for key in COLUMNS
    ]
    print("| " + " | ".join([name, *cells]) + " |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Render, cut, learn, find, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shots", type=int, default=8, help="clips per class (default: %(default)s)")
    parser.add_argument("--train", type=int, default=16, help="videos to cut clips out of (default: %(default)s)")
    parser.add_argument("--test", type=int, default=12, help="videos to find motions in (default: %(default)s)")
    default = Path(tempfile.gettempdir(), "bike_spot_accuracy")
    parser.add_argument("--folder", type=Path, default=default, help="videos and clips (default: %(default)s)")
    options = parser.parse_args(arguments)
    engine = bike.load("tiny", device="cpu")
    train = render("motions", options.train, 6001, options.folder)
    test = render("motions", options.test, 5001, options.folder)
    clips = options.folder / "motion-clips"
    cut_clips(train, clips)
    print(f"\n| | {' | '.join(COLUMNS.values())} |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    print_row(f"text, {FPS:g} fps", measure(test, spotted(engine, test, None, FPS)))
    for classes, name in ((train.labels, "without none"), ((*train.labels, NONE), "with none")):
        with tempfile.TemporaryDirectory() as data:
            for label in classes:
                (Path(data) / label).symlink_to((clips / label).absolute())
            config = bike.FewshotConfig(shots=str(options.shots), trials=1)
            result = bike.fewshot(engine, data, config)
            file = Path(data, "motions.bike")
            result.save(file)
            saved = bike.load_classifier(file)
        for threshold in (None, STRICT) if NONE in classes else (None,):
            shown = f"{options.shots} clips per class, {name}" + (f", threshold {threshold}" if threshold else "")
            print_row(shown, measure(test, spotted(engine, test, saved, FPS, threshold)))


if __name__ == "__main__":
    main()
