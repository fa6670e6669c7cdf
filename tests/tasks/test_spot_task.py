"""`bike.spot`: segments where things are drawn, order, failures in place, the store, and workers that share a video."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from films import FPS, drawn, write_video
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

import bike_cli as bike
from bike_cli.config import DecodingConfig, SpotConfig, StoreConfig
from bike_cli.engine.engine import Engine
from bike_cli.errors import UsageError
from bike_cli.inference import bin_features, frame_streams
from bike_cli.records import Failure, FrameTimes, Source, Timeline, Timings, VideoFeatures
from bike_cli.tasks.spot import default_spot_config, prepare_localiser
from bike_cli.video.streams.values import StreamRequest

LABELS = ("red square", "blue circle", "green cross")
SCRIPT = (("red square", 4.0), (None, 3.0), ("blue circle", 5.0), ("green cross", 3.0), (None, 2.0))  # label, seconds
CONFIG = SpotConfig(fps=4.0, decoding=DecodingConfig(workers=1))


def film_of(script: Sequence[tuple[str | None, float]]) -> NDArray[np.uint8]:
    parts = []
    for label, seconds in script:
        frames = round(seconds * FPS)
        if label is None:
            parts.append(np.zeros((frames, 64, 64, 3), np.uint8))
        else:  # the object moves to the right, again and again
            parts.append(np.concatenate([drawn(label, frames=8)] * -(-frames // 8))[:frames])
    return np.concatenate(parts)


def truth_of(script: Sequence[tuple[str | None, float]]) -> list[tuple[str, float, float]]:
    found, start_s = [], 0.0
    for label, seconds in script:
        if label is not None:
            found.append((label, start_s, start_s + seconds))
        start_s += seconds
    return found


@pytest.fixture(scope="module")
def match(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("films") / "match.mp4", film_of(SCRIPT))


def spotted(engine: Engine, path: Path | str, config: SpotConfig = CONFIG, **given: object) -> Timeline:
    (timeline,) = bike.spot(engine, [path], LABELS, config, **given)  # type: ignore[arg-type]
    assert isinstance(timeline, Timeline)
    return timeline


def without_store(config: SpotConfig) -> SpotConfig:
    return replace(config, store=StoreConfig(cache=False))


def check_equal(one: Timeline, other: Timeline) -> None:
    """Compare all numbers, bit by bit."""
    assert one.segments == other.segments
    assert (one.best, one.frames, one.duration_s, one.warning) == (
        other.best,
        other.frames,
        other.duration_s,
        other.warning,
    )
    assert_array_equal(one.edges_s, other.edges_s)
    assert one.scores is not None
    assert other.scores is not None
    assert_array_equal(one.scores, other.scores)


def test_segments_lie_where_labels_are_drawn(tiny: Engine, match: Path) -> None:
    timeline = spotted(tiny, match, keeps_scores=True)

    truth = truth_of(SCRIPT)
    assert [segment.label for segment in timeline.segments] == [label for label, _, _ in truth]
    for segment, (_, start_s, end_s) in zip(timeline.segments, truth, strict=True):
        assert segment.start_s == pytest.approx(start_s, abs=0.25)  # a bin
        assert segment.end_s == pytest.approx(end_s, abs=0.25)
        assert segment.start_s <= segment.peak_s <= segment.end_s
        assert segment.score > 0.8
    assert timeline.duration_s == pytest.approx(17.0)
    assert (timeline.fps, timeline.frames, len(timeline.edges_s)) == (4.0, 68, 69)
    assert timeline.scores is not None
    assert timeline.scores.shape == (68, 3)


def test_where_nothing_is_found_the_best_moment_is_known(tiny: Engine, tmp_path: Path) -> None:
    film = write_video(tmp_path / "empty.mp4", film_of([(None, 3.0)]))

    timeline = spotted(tiny, film)
    assert timeline.segments == ()
    assert timeline.best is not None
    assert timeline.best.score < 0.5
    assert 0 < timeline.best.at_s < 3


def test_answers_come_in_order_and_failures_in_their_places(tiny: Engine, match: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    short = write_video(tmp_path / "short.mp4", drawn("red square", frames=12))
    given = Failure(Source.at("listed"), "missing", "listed: was not found")
    sources = [short, broken, match, given, tmp_path / "gone.mp4"]
    config = replace(CONFIG, decoding=DecodingConfig(workers=2))

    answers = list(bike.spot(tiny, sources, LABELS, config))

    assert [answer.source.id for answer in answers] == [*map(str, sources[:3]), "listed", str(sources[4])]
    assert [type(answer).__name__ for answer in answers] == ["Timeline", "Failure", "Timeline", "Failure", "Failure"]
    kinds = [answer.kind for answer in answers if isinstance(answer, Failure)]
    assert kinds == ["not_video", "missing", "missing"]
    (alone,) = bike.spot(tiny, [match], LABELS, without_store(CONFIG))
    assert isinstance(alone, Timeline)
    assert isinstance(answers[2], Timeline)
    assert answers[2].segments == alone.segments


def test_a_second_run_decodes_nothing_and_is_the_same_to_the_bit(tiny: Engine, match: Path) -> None:
    first, spent = spotted(tiny, match, keeps_scores=True), Timings()

    check_equal(spotted(tiny, match, keeps_scores=True, spent=spent), first)
    assert spent.decoded == 0
    check_equal(spotted(tiny, match, without_store(CONFIG), keeps_scores=True), first)
    (other,) = bike.spot(tiny, [match], ["blue circle", "red circle"], CONFIG, spent=spent)
    assert spent.decoded == 0
    assert isinstance(other, Timeline)
    assert other.segments[0].label == "blue circle"


@pytest.mark.slow  # over a second of a core
@pytest.mark.parametrize("change", [{"fps": 2.0}, {"draft": True}])
def test_features_of_other_frames_are_not_mixed(tiny: Engine, match: Path, change: dict[str, object]) -> None:
    spotted(tiny, match)
    spent = Timings()
    spotted(tiny, match, replace(CONFIG, **change), spent=spent)  # type: ignore[arg-type]

    assert spent.decoded == 1


def test_whole_numbers_of_frames_per_second_are_the_same_in_any_type(tiny: Engine, match: Path) -> None:
    spotted(tiny, match)
    spent = Timings()
    spotted(tiny, match, replace(CONFIG, fps=4), spent=spent)

    assert spent.decoded == 0


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[StreamRequest]]:
    """What workers are asked to read."""
    asked: list[StreamRequest] = []

    class Watched(frame_streams.FrameStream):
        def __init__(self, source: Source, request: StreamRequest, decoding: DecodingConfig) -> None:
            asked.append(request)
            super().__init__(source, request, decoding)

    monkeypatch.setattr(frame_streams, "FrameStream", Watched)
    return asked  # type: ignore[return-value]


def test_a_run_that_was_stopped_does_not_read_again(
    tiny: Engine, match: Path, requests: list[StreamRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = spotted(tiny, match, without_store(CONFIG), keeps_scores=True)
    monkeypatch.setattr(bin_features, "CHUNK", 8)
    kept = bin_features.ChunkShelf.keep

    def keep_and_stop(*given: object) -> None:
        kept(*given)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(bin_features.ChunkShelf, "keep", keep_and_stop)
    with pytest.raises(KeyboardInterrupt):
        spotted(tiny, match)
    monkeypatch.setattr(bin_features.ChunkShelf, "keep", kept)
    check_equal(spotted(tiny, match, keeps_scores=True), whole)

    assert requests[-1].first_bin > 0
    assert requests[-1].first_bin % 8 == 0


@pytest.mark.slow
def test_workers_that_share_a_video_find_the_same(tiny: Engine, tmp_path: Path, requests: list[StreamRequest]) -> None:
    film = write_video(tmp_path / "long.mp4", film_of(SCRIPT * 7))  # x264 puts a keyframe every 250 frames
    config = without_store(replace(CONFIG, fps=2.0))
    alone = spotted(tiny, film, config, keeps_scores=True)
    together = spotted(tiny, film, replace(config, decoding=DecodingConfig(workers=3)), keeps_scores=True)

    assert len(requests) > 2
    assert together.segments == alone.segments
    check_equal(together, alone)


def test_a_folder_of_frames_needs_its_rate(tiny: Engine, tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "frames"
    folder.mkdir()
    for i, frame in enumerate(film_of(SCRIPT)[::2]):
        Image.fromarray(frame).save(folder / f"img_{i:05d}.png")

    (refused,) = bike.spot(tiny, [folder], LABELS, replace(CONFIG, fps=None))
    assert isinstance(refused, Failure)
    assert (
        refused.message == f"{folder}: is a folder of frames, which has no clock; give its frames per second with --fps"
    )

    timeline = spotted(tiny, folder)
    assert [segment.label for segment in timeline.segments] == [label for label, _, _ in truth_of(SCRIPT)]


def test_rivals_are_not_reported(tiny: Engine, match: Path) -> None:
    (timeline,) = bike.spot(tiny, [match], LABELS[:1], CONFIG, none=LABELS[1:])

    assert isinstance(timeline, Timeline)
    assert {segment.label for segment in timeline.segments} == {"red square"}
    assert timeline.labels == LABELS[:1]


@pytest.mark.parametrize(
    ("change", "given", "message"),
    [
        (
            {"min_duration": 0.2},
            {},
            "min_duration is 0.2 s, shorter than a frame at 4 per second; give a longer one, or ",
        ),
        ({}, {"none": ["Red  Square"]}, "--none Red  Square: is a label, too; remove it from one of them"),
        ({"threshold": 0.998}, {}, "threshold is 0.998, which no probability exceeds; give at most 0.99"),
        (
            {"threshold": 0.8, "exclusive": True},
            {},
            "threshold is 0.8, which no probability exceeds; give at most 0.73",
        ),
        ({"attributes": "no-such-lexicon"}, {}, "no-such-lexicon"),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    tiny: Engine, change: dict[str, object], given: dict[str, object], message: str
) -> None:
    config = replace(SpotConfig(), **change)  # type: ignore[arg-type]
    with pytest.raises(UsageError) as e:
        bike.spot(tiny, ["never read"], LABELS, config, **given)  # type: ignore[arg-type]
    assert message in str(e.value)


def test_sources_and_labels_are_lists(tiny: Engine) -> None:
    with pytest.raises(TypeError, match="must be lists"):
        bike.spot(tiny, "match.mp4", LABELS)


# -- saved classifiers


@pytest.fixture(scope="module")
def saved(tiny: Engine, tmp_path_factory: pytest.TempPathFactory) -> bike.SavedClassifier:
    """A classifier of two objects and of nothing, from clips of 8 frames."""
    folder = tmp_path_factory.mktemp("classes")
    for label in ("red square", "blue circle", "none"):
        (folder / label).mkdir()
        for i in range(3):
            film = (
                np.full((8, 64, 64, 3), 3 * i, np.uint8)
                if label == "none"
                else np.roll(drawn(label, frames=8), 3 * i, 1)
            )
            write_video(folder / label / f"{i}.mp4", film)
    result = bike.fewshot(tiny, folder, bike.FewshotConfig(shots="2", trials=1, store=StoreConfig(cache=False)))
    result.save(folder / "a.bike")
    return bike.load_classifier(folder / "a.bike")


def test_a_saved_classifier_judges_windows(tiny: Engine, tmp_path: Path, saved: bike.SavedClassifier) -> None:
    film = write_video(tmp_path / "known.mp4", film_of([*SCRIPT[:3], (None, 2.0)]))  # a green cross it does not know
    config = without_store(replace(default_spot_config(saved), fps=8.0))
    (timeline,) = bike.spot(tiny, [film], None, config, saved=saved)

    assert isinstance(timeline, Timeline)
    assert timeline.labels == ("blue circle", "red square")
    red, blue = timeline.segments[0], next(s for s in timeline.segments if s.label == "blue circle")
    assert (red.label, red.start_s) == ("red square", 0.0)
    assert red.end_s == pytest.approx(4.0, abs=0.75)  # windows of 1 s reach over the end
    assert (blue.start_s, blue.end_s) == pytest.approx((7.0, 12.0), abs=0.75)


def test_without_a_class_none_the_threshold_is_higher(tiny: Engine, saved: bike.SavedClassifier) -> None:
    others = replace(saved, labels=("blue circle", "gone", "red square"))
    config = default_spot_config(saved)

    assert prepare_localiser(tiny, saved.labels, config, saved=saved).rule.threshold == 0.5
    assert prepare_localiser(tiny, others.labels, config, saved=others).rule.threshold == 0.9


@pytest.mark.slow
def test_log_odds_of_a_saved_classifier_are_those_of_its_windows(
    tiny: Engine, match: Path, saved: bike.SavedClassifier
) -> None:
    """Compare with a plain loop: each window is classified as a clip, and speaks for its middle half."""
    config = without_store(replace(default_spot_config(saved), fps=4.0))
    (timeline,) = bike.spot(tiny, [match], None, config, saved=saved, keeps_scores=True)
    assert isinstance(timeline, Timeline)
    assert timeline.scores is not None

    with av.open(str(match)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    frames = tiny.encode_frames(np.stack(pictures[1::2]))  # shown in the middle of bins of 1/4 s
    classifier = prepare_localiser(tiny, saved.labels, config, saved=saved).classifier
    times_s = np.arange(8.0)[None]
    expected = []
    for t in range(4, 60):
        chances = []
        for first in range(t - 5, t - 1):  # windows of 8 frames whose frames 2 to 5 contain t
            if 0 <= first <= len(frames) - 8:
                window = frames[first : first + 8][None]
                clip = VideoFeatures(Source.at("clip"), window, FrameTimes(times_s), tiny.temporal(window))
                chances.append(classifier.scores([(clip,)])[0].logits[0].double().softmax(0))
        mean = torch.stack(chances).mean(dim=0)
        expected.append(torch.sigmoid(torch.log(mean / (1 - mean)) + math.log(2)))  # of three classes
    reported = [saved.labels.index(label) for label in timeline.labels]
    np.testing.assert_allclose(timeline.scores[4:60], torch.stack(expected)[:, reported].numpy(), atol=1e-4)
