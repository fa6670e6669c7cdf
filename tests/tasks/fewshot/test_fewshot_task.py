"""A study on real files: what is drawn and left out, what fits learn from, and what outcomes depend on."""

import logging
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from films import FPS, drawn, write_video
from numpy.typing import NDArray

import bike_cli as bike
from bike_cli.config import (
    AttributeConfig,
    ClassifyConfig,
    DecodingConfig,
    FewshotConfig,
    SamplingConfig,
    SpottingConfig,
    StoreConfig,
)
from bike_cli.data.labelled.train_sets import TrainSet, read_labelled
from bike_cli.engine.engine import Engine
from bike_cli.engine.heads.bike import AttributeHead
from bike_cli.engine.heads.few_shot import Head, Views
from bike_cli.engine.heads.saved_classifier import TENSORS, SavedClassifier
from bike_cli.engine.scoring import unit
from bike_cli.errors import UsageError
from bike_cli.records import Failure, Prediction, Timings
from bike_cli.settings import build, flatten
from bike_cli.tasks.evaluate.metrics import confusion
from bike_cli.tasks.fewshot import methods
from bike_cli.tasks.fewshot.report import Report
from bike_cli.tasks.fewshot.study import Study
from bike_cli.video.decoding import decode
from bike_cli.video.workers.pool import DecodePool

CLASSES = ("blue_circle", "green_cross", "red_square")
EACH = 5  # videos of a class
METHODS = "zeroshot,proto,tip,probe"


def film_of(name: str, i: int) -> NDArray[np.uint8]:
    """Return a film that differs from all others of its class in motion and length."""
    return np.roll(drawn(name.replace("_", " "), frames=8 + i), 4 * i - 8, axis=1)


def noise(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)


def write_classes(folder: Path, places: Iterable[int]) -> None:
    """Write class folders in which every third film shows what another class shows, so that no method is all right."""
    for c, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for i in places:
            write_video(folder / name / f"{i}.mp4", film_of(CLASSES[(c + (i % 3 == 2)) % 3], i + 3 * (i % 3 == 2)))


FRESH = StoreConfig(cache=False)


@pytest.fixture(scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fewshot_cache")


@pytest.fixture(autouse=True)
def _one_store_for_all(monkeypatch: pytest.MonkeyPatch, _a_cache_of_its_own: None, _cache: Path) -> None:
    """Films that another test has encoded are read from the store, unless a study is `FRESH`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(_cache))


@pytest.fixture(scope="session")
def _classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fewshot") / "data"
    write_classes(folder, range(EACH))
    return folder


@pytest.fixture
def folder(_classes: Path, tmp_path: Path) -> Path:
    """Three classes of five videos, which a test may change; what is not drawn is tested on."""
    return Path(shutil.copytree(_classes, tmp_path / "data"))


@pytest.fixture
def sides(_classes: Path, tmp_path: Path) -> Path:
    """The same videos, three of each class to learn from and two to test on."""
    for name in CLASSES:
        for i in range(EACH):
            target = tmp_path / "sides" / ("train" if i < 3 else "test") / name / f"{i}.mp4"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(_classes / name / f"{i}.mp4", target)
    return tmp_path / "sides"


def config(**changes: object) -> FewshotConfig:
    settings = FewshotConfig(
        sampling=SamplingConfig(frames=4),
        decoding=DecodingConfig(workers=2),
        shots="1,2",
        method=METHODS,
        trials=2,
    )
    return replace(settings, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Studied:
    """What result of a study."""

    report: Report
    failed: list[Failure]
    classifier: SavedClassifier
    decoded: int


def study(engine: Engine, data: Path | TrainSet, settings: FewshotConfig | None = None) -> Studied:
    """Read, report, and keep a classifier."""
    settings = settings or config()
    labelled = read_labelled(data) if isinstance(data, Path) else data
    with DecodePool(settings.sampling, settings.decoding) as pool:
        run = Study(engine, labelled, settings, pool)
        failed = [failure for _, _, failure in run.read() if failure is not None]
        return Studied(run.report(), failed, run.classifier(), run.spent.decoded)


def numbers(report: Report) -> list[object]:
    """All metrics of a report, as values that can be compared exactly."""
    return [(o.method, o.shots, o.trial, o.counts.tolist(), o.hits.tolist(), dict(o.chosen)) for o in report.outcomes]


def names(report: Report, places: Iterable[int]) -> list[str]:
    """What videos are called below their data folder: `red_square/1.mp4`."""
    return ["/".join(report.samples[place].source.path.parts[-2:]) for place in places]


def drawn_names(report: Report) -> list[tuple[list[list[str]], list[str]]]:
    return [([names(report, shots) for shots in one.shots], names(report, one.test)) for one in report.draws]


def bits(head: Head) -> list[bytes]:
    return [getattr(head, name).numpy().tobytes() for name in TENSORS]


def order_of_first_class(engine: Engine, folder: Path, most: int) -> list[Path]:
    """Return the first class's videos in the order in which the first trial draws them."""
    report = study(engine, folder, config(shots=str(most), method="zeroshot", trials=1)).report
    return [report.samples[place].source.path for place in report.draws[0].shots[0]]


# -- what is drawn ------------------------------------------------------------------------------------------------


def test_shots_and_tests_share_no_video_and_leave_none_out(tiny: Engine, folder: Path) -> None:
    report = study(tiny, folder).report

    for one in report.draws:
        drawn_ = {place for places in one.shots for place in places}
        assert [len(places) for places in one.shots] == [2, 2, 2]
        assert drawn_ | set(one.test) == set(range(3 * EACH))
        assert len(drawn_) + len(one.test) == 3 * EACH
        assert all(report.samples[place].label == i for i, places in enumerate(one.shots) for place in places)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_outcomes_and_another_one_other_draws(tiny: Engine, folder: Path) -> None:
    first, second, other = (study(tiny, folder, config(seed=seed, store=FRESH)).report for seed in (3, 3, 4))

    assert numbers(first) == numbers(second)
    assert drawn_names(first) == drawn_names(second)
    assert drawn_names(first) != drawn_names(other)


@pytest.mark.slow
def test_outcomes_do_not_depend_on_the_number_of_workers(tiny: Engine, folder: Path) -> None:
    one, three = (study(tiny, folder, config(decoding=DecodingConfig(workers=n), store=FRESH)).report for n in (1, 3))

    assert drawn_names(one) == drawn_names(three)
    assert numbers(one) == numbers(three)


@pytest.mark.slow
def test_outcomes_do_not_depend_on_the_order_of_files(tiny: Engine, folder: Path, tmp_path: Path) -> None:
    for path in sorted(folder.rglob("*.mp4"), reverse=True):  # the order in which a file system may list them
        target = tmp_path / "again" / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    rows = [f"{path.relative_to(folder)},{path.parent.name}" for path in folder.rglob("*.mp4")]
    listed = tmp_path / "listed.csv"
    listed.write_text("\n".join(["path,label", *sorted(rows, reverse=True)]))

    reports = [study(tiny, data).report for data in (folder, tmp_path / "again")]
    reports.append(study(tiny, read_labelled(listed, root=folder)).report)

    assert drawn_names(reports[1]) == drawn_names(reports[2]) == drawn_names(reports[0])
    assert numbers(reports[1]) == numbers(reports[2]) == numbers(reports[0])


def test_fewer_shots_are_the_first_of_more(tiny: Engine, folder: Path, fits: "list[Fit]") -> None:
    study(tiny, folder, config(shots="2,1", method="proto", trials=1))

    one, two = [fit.shots for fit in fits if fit.method == "proto"][:2]
    assert torch.equal(one.frames, two.frames[::2])


def test_the_videos_held_back_for_testing_do_not_depend_on_the_shots(tiny: Engine, folder: Path) -> None:
    few, many = (
        study(tiny, folder, config(shots=shots, test_fraction=0.4, method="proto")).report for shots in ("1", "3")
    )

    assert [one.test for one in few.draws] == [one.test for one in many.draws]
    assert [sum(few.samples[place].label == c for place in few.draws[0].test) for c in range(3)] == [2, 2, 2]
    assert not set(many.draws[0].test) & {place for places in many.draws[0].shots for place in places}


def test_a_test_side_is_the_test_set_and_only_what_is_drawn_is_read(tiny: Engine, sides: Path) -> None:
    result = study(tiny, sides, config(shots="1", trials=1, store=FRESH))

    tested = set(result.report.draws[0].test)
    assert {result.report.samples[place].source.path.parts[-3] for place in tested} == {"test"}
    assert len(tested) == 6
    assert result.decoded == 6 + 3


# -- videos that cannot be used -----------------------------------------------------------------------------------


def test_the_next_clip_in_the_order_replaces_an_unreadable_one(tiny: Engine, folder: Path) -> None:
    order = order_of_first_class(tiny, folder, most=4)
    before = study(tiny, folder).report
    order[0].write_bytes(order[0].read_bytes()[:400])

    result = study(tiny, folder)

    assert [failure.source.path for failure in result.failed] == [order[0]]
    assert [failure.kind for failure in result.report.failures.values()] == ["damaged"]
    assert [result.report.samples[place].source.path for place in result.report.draws[0].shots[0]] == order[1:3]
    assert drawn_names(result.report)[0][0][1:] == drawn_names(before)[0][0][1:]
    assert not set(result.report.failures) & {place for one in result.report.draws for place in one.test}


def test_a_missing_clip_is_reported_and_the_next_is_drawn(tiny: Engine, folder: Path) -> None:
    labelled = read_labelled(folder)
    order = order_of_first_class(tiny, folder, most=3)
    order[0].unlink()

    result = study(tiny, labelled)

    assert [(failure.kind, failure.source.path) for failure in result.failed] == [("missing", order[0])]
    assert result.report.samples[result.report.draws[0].shots[0][0]].source.path == order[1]


def test_an_unreadable_test_clip_is_reported_and_not_counted(tiny: Engine, sides: Path) -> None:
    (sides / "test" / "red_square" / "3.mp4").write_bytes(b"no film at all")

    result = study(tiny, sides)

    assert [failure.kind for failure in result.failed] == ["not_video"]
    assert {int(outcome.counts.sum()) for outcome in result.report.outcomes} == {5}


def test_a_class_without_enough_readable_clips_is_refused_with_the_reason(tiny: Engine, sides: Path) -> None:
    for i in range(2):
        (sides / "train" / "green_cross" / f"{i}.mp4").write_bytes(b"no film at all")

    with pytest.raises(
        UsageError, match=r"class 'green_cross': has 1 video \(2 more .*\), but 2 shots need 2 to learn from; give"
    ):
        study(tiny, sides)


def test_a_copy_of_a_test_clip_is_not_trained_on(tiny: Engine, sides: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = order_of_first_class(tiny, sides, most=3)[0]
    tested = sides / "test" / "blue_circle" / "4.mp4"
    shutil.copyfile(tested, first)

    with caplog.at_level(logging.WARNING):
        report = study(tiny, sides).report

    left_out = {report.samples[a].source.path: report.samples[b].source.path for a, b in report.left_out.items()}
    assert left_out == {first: tested}
    assert all(place not in report.left_out for one in report.draws for place in one.shots[0])
    assert [len(one.test) for one in report.draws] == [6, 6]
    assert f"{first}: is the same video as {tested}, and is left out" in caplog.messages


def test_copies_on_one_side_count_once(tiny: Engine, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copyfile(folder / "red_square" / "0.mp4", folder / "red_square" / "copy.mp4")

    with caplog.at_level(logging.WARNING):
        report = study(tiny, folder).report

    assert [names(report, pair) for pair in report.left_out.items()] == [["red_square/copy.mp4", "red_square/0.mp4"]]
    assert [len(one.test) for one in report.draws] == [3 * EACH - 6] * 2
    assert sum("is left out" in message for message in caplog.messages) == 1


@pytest.mark.parametrize("copy", ["train/red_square/new.mp4", "test/red_square/new.mp4"])
def test_one_video_with_two_labels_is_refused(tiny: Engine, sides: Path, copy: str) -> None:
    for i in range(3):  # so that it is drawn
        (sides / "train" / "red_square" / f"{i}.mp4").unlink()
    write_video(sides / "train" / "red_square" / "own.mp4", film_of("red_square", 30))
    shutil.copyfile(sides / "test" / "blue_circle" / "3.mp4", sides / copy)

    with pytest.raises(
        UsageError, match=r"new\.mp4: is the same video as .*'red square'.*'blue circle'; keep the right"
    ):
        study(tiny, sides, config(shots="1" if copy.startswith("test") else "2"))


def test_empty_files_of_two_classes_are_unreadable_and_no_contradiction(tiny: Engine, folder: Path) -> None:
    for name in CLASSES[:2]:
        (folder / name / "0.mp4").write_bytes(b"")

    result = study(tiny, folder)

    assert sorted(names(result.report, result.report.failures)) == ["blue_circle/0.mp4", "green_cross/0.mp4"]


def test_automatic_shots_count_only_readable_videos(tiny: Engine, folder: Path) -> None:
    (folder / "red_square" / "0.mp4").write_bytes(b"no film at all")  # of five, so that 4 shots leave no test clip

    assert study(tiny, folder, config(shots="auto")).report.shots == (1, 2)


# -- leakage ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """What a fit was given, and what it made of it."""

    method: str
    shots: Views
    classes: torch.Tensor
    head: Head


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[Fit]:
    """Every fit from now on, in order."""
    seen: list[Fit] = []

    def watched(method: str, fit: methods.Fit) -> Callable[..., Head]:
        def watching(shots: Views, classes: torch.Tensor, text: torch.Tensor, scale: float) -> Head:
            seen.append(Fit(method, shots, classes, fit(shots, classes, text, scale)))
            return seen[-1].head

        return watching

    for method, fit in list(methods.METHODS.items()):
        monkeypatch.setitem(methods.METHODS, method, watched(method, fit))  # type: ignore[arg-type]
    return seen


def seen_of(engine: Engine, report: Report) -> torch.Tensor:
    """Return every video's unit frames, decoded and encoded here: [V, T, D]."""
    features = [engine.encode_clip(decode(sample.source, report.config.sampling)) for sample in report.samples]
    return torch.stack([unit(one.informed[0]) for one in features if one.informed is not None])


def test_every_fit_sees_the_shots_that_were_drawn_and_nothing_else(tiny: Engine, folder: Path, fits: list[Fit]) -> None:
    report = study(tiny, folder).report

    own = seen_of(tiny, report)
    for fit, outcome in zip(fits, report.outcomes, strict=False):  # behind them, the one that is kept
        far = (fit.shots.frames[:, None] - own).abs().amax(dim=(2, 3))  # [shots, V]
        expected = [place for places in report.draws[outcome.trial].shots for place in places[: outcome.shots]]
        assert far.argmin(dim=1).tolist() == expected
        assert float(far.amin(dim=1).max()) < 1e-5
        assert fit.classes.tolist() == [report.samples[place].label for place in expected]
    assert len(fits) == len(report.outcomes) + 1


def test_what_is_not_drawn_changes_no_fit(tiny: Engine, folder: Path, fits: list[Fit]) -> None:
    before = study(tiny, folder, config(trials=1))
    count = len(fits)
    for place in before.report.draws[0].test:
        write_video(before.report.samples[place].source.path, noise(place))

    after = study(tiny, folder, config(trials=1))

    assert drawn_names(after.report) == drawn_names(before.report)
    assert [bits(fit.head) for fit in fits[count:]] == [bits(fit.head) for fit in fits[:count]]
    assert [fit.head.chosen for fit in fits[count:]] == [fit.head.chosen for fit in fits[:count]]
    assert after.classifier.digest == before.classifier.digest
    assert numbers(after.report) != numbers(before.report)  # else the noise was not looked at


def test_the_test_side_changes_no_fit(tiny: Engine, sides: Path, fits: list[Fit]) -> None:
    before = study(tiny, sides)
    count = len(fits)
    for i, path in enumerate(sorted((sides / "test").rglob("*.mp4"))):
        write_video(path, noise(i))

    after = study(tiny, sides)

    assert [bits(fit.head) for fit in fits[count:]] == [bits(fit.head) for fit in fits[:count]]
    assert numbers(after.report) != numbers(before.report)


@pytest.mark.slow
def test_other_shots_would_be_another_fit(tiny: Engine, sides: Path, fits: list[Fit]) -> None:
    study(tiny, sides, config(shots="2"))
    count = len(fits)
    for i, path in enumerate(sorted((sides / "train").rglob("*.mp4"))):
        write_video(path, noise(i))

    study(tiny, sides, config(shots="2"))

    same = {a.method for a, b in zip(fits[:count], fits[count:], strict=True) if bits(a.head) == bits(b.head)}
    assert same == {"zeroshot"}


# -- the same as classify says ------------------------------------------------------------------------------------


def with_keyframes(path: Path, film: NDArray[np.uint8], *, every: int) -> None:
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"g": str(every), "sc_threshold": "0"})
        stream.width, stream.height, stream.pix_fmt = film.shape[2], film.shape[1], "yuv420p"
        for frame in film:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())


def classifying(settings: FewshotConfig) -> ClassifyConfig:
    """Return the config with which `classify` reads videos and labels in the same way."""
    return build(ClassifyConfig, flatten(settings))


def counts_of(
    engine: Engine, result: Studied, settings: ClassifyConfig, classifier: SavedClassifier | None
) -> list[list[int]]:
    """Return the confusion matrix of the first draw's test set, as `classify` answers."""
    report = result.report
    tested = [report.samples[place] for place in report.draws[0].test]
    answers = bike.classify(engine, [one.source for one in tested], report.labels, settings, saved=classifier)
    guesses = [report.labels.index(answer.best.label) for answer in answers if isinstance(answer, Prediction)]
    truth = np.array([sample.label for sample in tested])
    return confusion(truth, np.array(guesses), len(report.labels)).tolist()


WAYS = {
    "plain": {},
    "mean": {"spotting": SpottingConfig(pool="mean")},
    "all words, sharp": {"spotting": SpottingConfig(spot="all", temperature=0.02)},
    "views": {"sampling": SamplingConfig(frames=2, clips=2, crops=3)},
    "mean of views": {"sampling": SamplingConfig(frames=2, clips=2), "spotting": SpottingConfig(pool="mean")},
    "template": {"template": "class"},
}


@pytest.mark.slow  # over a second of a core
@pytest.mark.parametrize(("way", "method"), [*((way, "probe") for way in WAYS), ("plain", "tip"), ("mean", "tip")])
def test_classify_answers_as_the_report_says(tiny: Engine, folder: Path, way: str, method: str) -> None:
    settings = config(method=method, trials=1, **WAYS[way])
    result = study(tiny, folder, settings)

    (outcome,) = result.report.of(method, 2)
    (baseline,) = result.report.of("zeroshot", 2)
    assert counts_of(tiny, result, classifying(settings), result.classifier) == outcome.counts.tolist()
    assert counts_of(tiny, result, classifying(settings), None) == baseline.counts.tolist()


@pytest.mark.parametrize("pool", ["tcs", "mean"])
def test_videos_with_too_few_frames_are_read_among_others(tiny: Engine, folder: Path, pool: str) -> None:
    for i, path in enumerate(sorted(folder.rglob("*.mp4"))):
        with_keyframes(path, film_of(path.parent.name, i), every=(1, 3, 50)[i % 3])
    sampling = SamplingConfig(frames=4, sampling="keyframe")
    settings = config(trials=1, sampling=sampling, spotting=SpottingConfig(pool=pool))  # type: ignore[arg-type]

    result = study(tiny, folder, settings)

    assert {decode(s.source, sampling).frames.shape[1] for s in result.report.samples} >= {1, 4}
    (outcome,) = result.report.of("probe", 2)
    assert result.classifier.method == "probe"
    assert counts_of(tiny, result, classifying(settings), result.classifier) == outcome.counts.tolist()


def test_padding_frames_have_no_weight(tiny: Engine, folder: Path, fits: list[Fit]) -> None:
    for i, path in enumerate(sorted(folder.rglob("*.mp4"))):
        with_keyframes(path, film_of(path.parent.name, i), every=(1, 50)[i % 2])
    sampling = SamplingConfig(frames=4, sampling="keyframe")

    report = study(tiny, folder, config(trials=1, shots="4", method="proto", sampling=sampling)).report

    shots = fits[-1].shots
    lengths = [
        decode(report.samples[place].source, sampling).frames.shape[1]
        for places in report.draws[0].shots
        for place in places
    ]
    assert len(set(lengths)) > 1
    assert (shots.weights != 0).sum(dim=2).tolist() == [[length] * 3 for length in lengths]
    assert shots.weights.sum(dim=2).numpy() == pytest.approx(1, abs=1e-5)


def test_other_test_videos_change_no_answer(tiny: Engine, folder: Path) -> None:
    """Padding weighs nothing: with frames that are there for others, a short video scores as alone."""
    head = study(tiny, folder, config(trials=1, method="tip")).classifier.head
    rng = torch.Generator().manual_seed(2)
    frames, weights = unit(torch.randn(2, 5, 96, generator=rng)), torch.rand(2, 3, 5, generator=rng)
    frames[0, 2:], weights[0, :, 2:] = 0, 0

    together = head.logits(Views(frames, weights))

    alone = head.logits(Views(frames[:1, :2], weights[:1, :, :2]))
    assert together[:1].numpy() == pytest.approx(alone.numpy(), rel=1e-5)


@pytest.mark.parametrize("asked", [AttributeConfig(attribute_weight=0.6), AttributeConfig()], ids=["asked", "trained"])
def test_attributes_that_count_are_fused_in_report_and_classifier_alike(
    tiny: Engine, folder: Path, asked: AttributeConfig
) -> None:
    torch.manual_seed(0)
    engine = tiny if asked.attribute_weight else replace(tiny, attribute_head=AttributeHead(96).eval())
    settings = config(trials=1, method="proto", attributes=asked)

    result, plain = (study(engine, folder, one) for one in (settings, config(trials=1, method="proto")))
    if not asked.attribute_weight:  # such a model fuses them unless attributes are off
        plain = study(engine, folder, replace(settings, attributes=AttributeConfig(attribute_weight=0.0)))

    assert result.classifier.attributes.attribute_weight == (asked.attribute_weight or 0.3)
    assert counted(engine, classifying(settings), result) == result.report.of("proto", 2)[0].counts.tolist()
    assert scores(engine, classifying(settings), result) != scores(engine, without(settings), plain)


def test_attributes_of_another_weight_than_the_classifiers_count_with_a_warning(
    tiny: Engine, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = config(trials=1, method="proto")
    learned = study(tiny, folder, settings)
    fused = replace(classifying(settings), attributes=AttributeConfig("auto", 0.5))
    own = scores(tiny, classifying(settings), learned)
    assert caplog.messages == []

    assert scores(tiny, fused, learned) != own
    assert caplog.messages == [
        "classifier: was trained with attribute_weight 0.0, but this run has attribute_weight 0.5; leave out "
        "--attribute-weight"
    ]


def without(settings: FewshotConfig) -> ClassifyConfig:
    return replace(classifying(settings), attributes=AttributeConfig(attribute_weight=0.0))


def answers_of(engine: Engine, settings: ClassifyConfig, result: Studied) -> list[Prediction]:
    """What the kept classifier says of each video of the first draw's test set."""
    paths = [str(result.report.samples[place].source.path) for place in result.report.draws[0].test]
    answers = bike.classify(engine, paths, result.classifier.labels, settings, saved=result.classifier)
    return [answer for answer in answers if isinstance(answer, Prediction)]


def counted(engine: Engine, settings: ClassifyConfig, result: Studied) -> list[list[int]]:
    """The confusion matrix of the kept classifier's answers."""
    counts = [[0] * len(CLASSES) for _ in CLASSES]
    for place, answer in zip(result.report.draws[0].test, answers_of(engine, settings, result), strict=True):
        counts[result.report.samples[place].label][result.classifier.labels.index(answer.best.label)] += 1
    return counts


def scores(engine: Engine, settings: ClassifyConfig, result: Studied) -> list[float]:
    return [answer.best.score for answer in answers_of(engine, settings, result)]


def classified(engine: Engine, folder: Path, settings: ClassifyConfig, classifier: SavedClassifier) -> list[object]:
    paths = [str(path) for path in sorted(folder.rglob("*.mp4"))]
    answers = bike.classify(engine, paths, classifier.labels, settings, saved=classifier)
    return [answer.ranked for answer in answers if isinstance(answer, Prediction)]


def test_templates_that_changed_since_are_refused(tiny: Engine, folder: Path, tmp_path: Path) -> None:
    templates = tmp_path / "templates.txt"
    templates.write_text("a film of {}\n")
    settings = config(trials=1, template=str(templates))
    classifier = study(tiny, folder, settings).classifier
    templates.write_text("{} beside a green cross\n")

    with pytest.raises(UsageError, match="template"):
        classified(tiny, folder, classifying(settings), classifier)


def test_the_copy_that_is_left_out_does_not_depend_on_the_draw(tiny: Engine, sides: Path) -> None:
    for name in ("0", "1", "2"):
        shutil.copy(sides / "train" / "red_square" / f"{name}.mp4", sides / "train" / "red_square" / f"copy {name}.mp4")

    one, many = (study(tiny, sides, config(shots="1", trials=trials, method="proto")).report for trials in (1, 6))

    assert one.draws[0] == many.draws[0]
    assert one.left_out == many.left_out
    assert len(one.left_out) == 3


# -- the store ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_filled_store_decodes_nothing_and_changes_nothing(tiny: Engine, folder: Path, tmp_path: Path) -> None:
    kept = config(store=StoreConfig(cache_dir=str(tmp_path / "store")))
    without = study(tiny, folder, config(store=FRESH))

    first, second = (study(tiny, folder, kept) for _ in range(2))
    more = study(tiny, folder, replace(kept, shots="3", method="proto", seed=5, spotting=SpottingConfig(pool="mean")))

    assert (first.decoded, second.decoded, more.decoded) == (3 * EACH, 0, 0)
    assert numbers(first.report) == numbers(second.report) == numbers(without.report)
    assert first.report.digests == second.report.digests == without.report.digests


@pytest.mark.slow
def test_the_store_of_classify_is_that_of_a_study(tiny: Engine, folder: Path, tmp_path: Path) -> None:
    kept = config(store=StoreConfig(cache_dir=str(tmp_path / "store")))
    result = study(tiny, folder, kept)
    spent = Timings()

    list(bike.classify(tiny, [s.source for s in result.report.samples], CLASSES, classifying(kept), spent=spent))

    assert spent.decoded == 0


# -- wrong use ----------------------------------------------------------------------------------------------------


def only_built(engine: Engine, folder: Path, settings: FewshotConfig) -> None:
    """Begin a study; nothing can be read, so what is refused is refused before that."""
    with DecodePool(settings.sampling, settings.decoding) as pool:
        Study(engine, read_labelled(folder), settings, pool)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shots": "6"}, r"class 'blue_circle': has 5 videos, but 6 shots need 6 .*; give --shots 4 or fewer, add"),
        ({"shots": "5"}, r"class 'blue_circle': has 5 videos, but 5 shots need 5 to learn from and 1 to test on; give"),
        ({"shots": "4", "test_fraction": 0.4}, r"class 'blue_circle': has 3 videos not held back, but 4 shots need 4"),
        ({"shots": "x"}, r"shots is 'x'; give whole numbers above 0"),
        ({"method": "knn"}, r"unknown method 'knn'; choose zeroshot"),
    ],
    ids=str,
)
def test_settings_that_do_not_suit_the_data_are_refused_before_reading(
    tiny: Engine, folder: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        only_built(tiny, folder, config(**changes))


def test_a_test_fraction_is_refused_with_a_test_side(tiny: Engine, sides: Path) -> None:
    with pytest.raises(
        UsageError, match=r"^--test-fraction: holds videos back .* the data have a test side; leave it out$"
    ):
        only_built(tiny, sides, config(test_fraction=0.3))


def test_results_before_the_videos_are_read_are_an_error(tiny: Engine, folder: Path) -> None:
    settings = config()
    with DecodePool(settings.sampling, settings.decoding) as pool:
        run = Study(tiny, read_labelled(folder), settings, pool)

        for results in (run.report, run.tables, run.classifier, run.model, lambda: run.look([0])):
            with pytest.raises(ValueError, match=r"the videos have not been read; iterate over read\(\) first"):
                results()
        with (
            pytest.warns(DeprecationWarning, match=r"renamed to Study\.classifier"),
            pytest.raises(ValueError, match="have not been read"),
        ):
            run.learnt()


def test_a_single_class_is_refused(tiny: Engine, folder: Path) -> None:
    for name in CLASSES[1:]:
        shutil.rmtree(folder / name)

    with pytest.raises(UsageError, match="contains one class, 'blue_circle'; give two or more"):
        study(tiny, folder)


def test_one_video_per_class_is_refused_if_none_is_left_to_test_on(tiny: Engine, folder: Path) -> None:
    for path in folder.rglob("[1-9].mp4"):
        path.unlink()

    with pytest.raises(UsageError, match="has 1 video, but 1 shot needs 1 to learn from and 1 to test on; add"):
        only_built(tiny, folder, config(shots="auto"))


def test_a_test_fraction_that_leaves_nothing_to_draw_is_named(tiny: Engine, folder: Path) -> None:
    with pytest.raises(UsageError, match=r"--test-fraction: holds back all 5"):
        only_built(tiny, folder, config(shots="auto", test_fraction=0.95))


def test_automatic_shots_end_at_the_smallest_class(tiny: Engine, folder: Path) -> None:
    (folder / "red_square" / "0.mp4").unlink()

    report = study(tiny, folder, config(shots="auto", method="proto", trials=1)).report

    assert report.shots == (1, 2)  # 4 of 4 would leave none to test on


@pytest.mark.parametrize("label", ["Red  square", "juggling, red square", "blue circle"])
def test_further_labels_are_others(tiny: Engine, folder: Path, label: str) -> None:
    settings = config()
    with DecodePool(settings.sampling, settings.decoding) as pool:
        run = Study(tiny, read_labelled(folder), settings, pool)

        with pytest.raises(UsageError, match="is already learned from videos; leave it out of --also"):
            run.check_also([part.strip() for part in label.split(",")])
        run.check_also(["juggling"])


# -- what is kept -------------------------------------------------------------------------------------------------


def test_the_saved_classifier_is_the_last_method_with_the_most_shots_of_the_first_draw(
    tiny: Engine, folder: Path, fits: list[Fit]
) -> None:
    result = study(tiny, folder, config(method="probe,tip"))

    (shown,) = [
        fit
        for fit, outcome in zip(fits, result.report.outcomes, strict=False)
        if (outcome.method, outcome.shots, outcome.trial) == ("tip", 2, 0)
    ]
    assert result.classifier.method == "tip"
    assert bits(result.classifier.head) == bits(shown.head)
    assert result.classifier.fingerprint == tiny.fingerprint


def test_the_classifier_lists_its_training_videos(tiny: Engine, folder: Path) -> None:
    result = study(tiny, folder)

    videos = result.classifier.manifest["videos"]
    assert isinstance(videos, list)
    expected = [result.report.samples[p].source.id for places in result.report.draws[0].shots for p in places]
    assert [video["path"] for video in videos] == expected
    assert result.classifier.manifest["seed"] == 0
