"""Long videos show what their truth says."""

import csv
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import pytest
import torch
from long_videos import (
    LONGEST_ABSENCE_S,
    RATES,
    Kind,
    LongVideo,
    draw_videos,
    write_truth,
)
from shapes import MOTIONS, describe, pose
from torch import Tensor

from bike_cli.data.detection.detection_sets import read_detection_set

COUNT = 16
Set = tuple[tuple[str, ...], list[LongVideo]]


@pytest.fixture(scope="module", params=["objects", "motions"])
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


@pytest.fixture(scope="module")
def drawn(kind: Kind) -> Set:
    return draw_videos(kind, COUNT, seed=0)


def times_of(video: LongVideo, i: int) -> Tensor:
    block = video.blocks[i]
    return torch.arange(block.frames) * block.passes / block.frames % 1


def test_labels_are_ten_objects_that_share_their_words_or_all_motions(kind: Kind, drawn: Set) -> None:
    labels, _ = drawn

    if kind == "motions":
        assert sorted([*labels, "still"]) == sorted(MOTIONS)
        return
    colours, shapes = (Counter(words) for words in zip(*(label.split() for label in labels), strict=True))
    assert len(set(labels)) == 10
    assert list(colours.values()) == list(shapes.values()) == [2] * 5


def test_every_eighth_video_has_no_label_and_all_others_do(drawn: Set) -> None:
    _, videos = drawn

    assert [i for i, video in enumerate(videos) if not video.segments] == [3, 11]


def test_videos_are_long_and_of_several_rates(drawn: Set) -> None:
    _, videos = drawn

    assert all(30 <= video.duration_s <= 120 + 12 for video in videos)
    assert {video.fps for video in videos} <= set(RATES)
    assert len({video.fps for video in videos}) > 1
    cut = [len({float(block.scene.slant) for block in video.blocks}) > 1 for video in videos]
    assert 0 < sum(cut) < COUNT


def test_segments_are_apart_and_last_as_long_as_they_should(kind: Kind, drawn: Set) -> None:
    labels, videos = drawn

    for video in videos:
        assert video.segments == sorted(video.segments, key=lambda s: s.start_s)
        assert all(0 <= s.start_s < s.end_s <= video.duration_s for s in video.segments)
        longest = 5 if kind == "motions" else 10
        assert all(2 - 1 / video.fps <= s.end_s - s.start_s <= longest + 1 / video.fps for s in video.segments)
        for label in labels:
            own = [s for s in video.segments if s.label == label]
            # Segments of one label that are near each other are one for a least duration of 1 s.
            assert all(later.start_s - earlier.end_s >= 2 - 1 / video.fps for earlier, later in pairwise(own))


def test_an_object_is_in_the_picture_exactly_when_the_truth_says(kind: Kind, drawn: Set) -> None:
    labels, videos = drawn

    for video in videos:
        for i, block in enumerate(video.blocks):
            posed = pose(block.scene, times_of(video, i)[None])
            seen = {label: (start, stop) for label, start, stop in block.seen}
            for place in range(block.scene.shape.shape[1]):
                words = describe(block.scene, 0, place)
                label = words["motion"] if kind == "motions" else f"{words['colour']} {words['shape']}"
                if not block.scene.present[0, place]:
                    assert label not in seen
                    continue
                assert (label in seen) == (label in labels)
                visible = posed.opacity[0, place] > 0.3
                centre = posed.centre[0, place][visible]
                assert bool(((centre > 0) & (centre < 1)).all())
                start, stop = seen.get(label, (0, block.frames))
                assert not visible[:start].any()
                assert not visible[stop:].any()
                if words["motion"] != "blinking":
                    assert visible[start:stop].all()


def test_an_object_that_blinks_is_never_away_for_long(drawn: Set) -> None:
    _, videos = drawn
    longest = []

    for video in videos:
        for block in video.blocks:
            blinks = (block.scene.motion == MOTIONS.index("blinking")) & block.scene.present
            times = torch.linspace(0.0, 0.999, 2000)
            opacity = pose(block.scene, times[None]).opacity[0, blinks[0]]
            for row, start, stop in zip(opacity, block.scene.start[blinks], block.scene.stop[blinks], strict=True):
                hidden = row[(times >= start) & (times < stop)] < 0.25
                runs = "".join("x" if h else " " for h in hidden).split()
                longest += [len(run) / 2000 * block.frames / video.fps for run in runs]

    assert longest
    assert max(longest) <= LONGEST_ABSENCE_S + 0.01


def test_the_same_seed_gives_the_same_set(kind: Kind, drawn: Set) -> None:
    labels, videos = drawn

    again, others = draw_videos(kind, 2, seed=0)

    assert again == labels
    assert [video.segments for video in others] == [video.segments for video in videos[:2]]


@pytest.mark.slow
def test_a_file_has_all_frames_at_its_rate(drawn: Set, tmp_path: Path) -> None:
    _, videos = drawn
    video = replace(videos[0], blocks=videos[0].blocks[:2])

    path = video.write(tmp_path)

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == video.fps
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(frames) == round(video.duration_s * video.fps)
    rendered = torch.cat(list(video.frames())).numpy()
    for i in (0, 7, len(frames) - 1):
        difference = torch.from_numpy(frames[i].astype(float) - rendered[i]).permute(2, 0, 1)
        assert torch.nn.functional.avg_pool2d(difference, 16).abs().max() < 12  # H.264 loses noise and sharp colours


def test_the_background_stays_within_a_block_and_noise_does_not(drawn: Set) -> None:
    _, videos = drawn
    scene = next(block.scene for block in videos[3].blocks if not block.scene.present.any())
    block = replace(
        videos[3].blocks[0], scene=replace(scene, noise=torch.full((1,), 0.05)), frames=40, seen=(), passes=1
    )

    first, *_, last = torch.cat(list(LongVideo("a.mp4", 10, 1, (block,)).frames())).float()

    assert (first - last).abs().mean() > 1
    coarse = torch.nn.functional.avg_pool2d((first - last).permute(2, 0, 1), 16)
    assert coarse.abs().max() < 8


def test_both_files_of_truth_say_the_same(drawn: Set, tmp_path: Path) -> None:
    labels, videos = drawn

    write_truth(tmp_path, labels, videos)

    by_json, by_csv = (read_detection_set(tmp_path / name) for name in ("truth.json", "truth.csv"))
    assert (tmp_path / "labels.txt").read_text(encoding="utf-8").split("\n") == [*labels, ""]
    for video, one, other in zip(videos, by_json.videos, by_csv.videos, strict=True):
        assert one.duration_s == pytest.approx(video.duration_s)
        for annotated in (one, other):
            found = [
                (s.label, pytest.approx(s.start_s, abs=1e-5), pytest.approx(s.end_s, abs=1e-5))
                for s in annotated.segments
            ]
            assert [(s.label, s.start_s, s.end_s) for s in video.segments] == found
    with (tmp_path / "truth.csv").open(encoding="utf-8", newline="") as file:
        assert next(csv.reader(file)) == ["path", "start_s", "end_s", "label"]
