"""`bike.classify`: order, laziness, failures in place, and scores equal to those of slow arithmetic."""

import logging
import math
import statistics
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pytest
from films import drawn
from numpy.typing import NDArray

import bike_cli as bike
from bike_cli.config import PROMPT, AttributeConfig, Pool, SamplingConfig, Spot, SpottingConfig, StoreConfig
from bike_cli.engine.engine import Engine, load
from bike_cli.engine.models.checkpoints import open_checkpoint
from bike_cli.engine.models.folder import save_folder
from bike_cli.engine.store.file import store_file
from bike_cli.engine.store.store import Store
from bike_cli.errors import ModelError, UsageError
from bike_cli.records import Clip, Failure, FrameTimes, Prediction, Prompt, Source

LABELS = ("red square", "blue circle", "green cross", "a small white ring")
OFF = AttributeConfig(attributes="off")
SOFT = 0.1  # a temperature at which every frame has a say
Film = NDArray[np.uint8]
Vector = list[float]


def config(
    *,
    pool: Pool = "tcs",
    spot: Spot = "words",
    sampling: SamplingConfig | None = None,
    attributes: AttributeConfig = OFF,
    template: str | None = None,
) -> bike.ClassifyConfig:
    return bike.ClassifyConfig(
        sampling=sampling or SamplingConfig(frames=4),
        spotting=SpottingConfig(pool, spot, SOFT),
        attributes=attributes,
        template=template,
        explain=True,
    )


def ask(engine: Engine, given: object, settings: bike.ClassifyConfig, labels: Sequence[str] = LABELS) -> Prediction:
    (answer,) = bike.classify(engine, [given], labels, settings)  # type: ignore[list-item]
    assert isinstance(answer, Prediction)
    return answer


def cosines_of(answer: Prediction) -> Vector:
    by_label = {ranked.label: ranked.cosine for ranked in answer.ranked}
    return [by_label[label] for label in LABELS]


def scores_of(answer: Prediction) -> Vector:
    by_label = {ranked.label: ranked.score for ranked in answer.ranked}
    return [by_label[label] for label in LABELS]


@pytest.fixture(scope="session")
def mixed() -> Clip:
    """Two clips of four frames, wider than high: a red square, then a blue circle."""
    film = np.concatenate([drawn("red square", frames=4), drawn("blue circle", frames=4)])
    wide = np.pad(film, ((0, 0), (0, 0), (20, 60), (0, 0)))
    noise = np.random.default_rng(0).integers(0, 60, wide.shape, dtype=np.uint8)  # so that no two crops are alike
    frames = np.maximum(wide, noise).reshape(2, 4, 64, 144, 3)
    return Clip(
        Source.at("mixed"), frames, FrameTimes(np.array([[0.0, 2.0, 4.0, 6.0], [1.0, 3.0, 5.0, 7.0]]), duration_s=8.0)
    )


# -- another road: BIKE's definitions in plain Python, one vector at a time ---------------------------------------


def dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def scaled(a: Vector) -> Vector:
    return [x / math.sqrt(dot(a, a)) for x in a]


def mean_of(vectors: Sequence[Vector]) -> Vector:
    return [statistics.fmean(column) for column in zip(*vectors, strict=True)]


def softmax(logits: Vector) -> Vector:
    powers = [math.exp(x - max(logits)) for x in logits]
    return [p / sum(powers) for p in powers]


def slow_views(engine: Engine, clip: Clip, crops: int = 1) -> list[list[Vector]]:
    """Each view's frames as the temporal head sees them."""
    features = [engine.encode_frames(frames, crops=crops).chunk(crops) for frames in clip.frames]
    return [engine.temporal(view[None])[0].tolist() for of_clip in features for view in of_clip]


def slow_text(engine: Engine, label: str, spot: Spot, template: str) -> tuple[Vector, list[Vector]]:
    """A label's class vector and the unit vectors that vote for it."""
    before = template.index("{}")
    prompt = Prompt(template.replace("{}", label), before, before + len(label))
    text = engine.encode_texts([prompt], positions="all")
    words = text.tokens[0][text.token_mask[0]] if spot == "words" else text.tokens[0]
    voting = text.classes if spot == "eot" else words
    return scaled(text.classes[0].tolist()), [scaled(voter) for voter in voting.tolist()]


def slow_weights(frames: list[Vector], voters: list[Vector]) -> Vector:
    return mean_of([softmax([dot(voter, scaled(frame)) / SOFT for frame in frames]) for voter in voters])


def slow_cosine(frames: list[Vector], concept: Vector, voters: list[Vector]) -> float:
    weights = slow_weights(frames, voters)
    return sum(w * dot(scaled(frame), concept) for w, frame in zip(weights, frames, strict=True))


# -- order and laziness -------------------------------------------------------------------------------------------


def test_nothing_is_read_before_an_answer_is_asked_for(tiny: Engine) -> None:
    read = []

    def arriving() -> Iterator[Film]:
        read.append("something")
        yield drawn(LABELS[0])

    answers = bike.classify(tiny, arriving(), LABELS, config())

    assert read == []
    next(answers)
    assert read == ["something"]


def test_an_answer_does_not_wait_for_the_next_source(tiny: Engine) -> None:
    asked_for = threading.Event()

    def arriving() -> Iterator[Film]:
        for label in LABELS[:3]:
            yield drawn(label)
            assert asked_for.wait(timeout=30)
            asked_for.clear()

    answered = []
    for answer in bike.classify(tiny, arriving(), LABELS, config()):
        answered.append(answer)
        asked_for.set()

    assert [answer.best.label for answer in answered] == list(LABELS[:3])


def test_paths_sources_clips_and_arrays_are_answered_in_their_order(tiny: Engine, clips: Path, mixed: Clip) -> None:
    path = clips / "red_square.mp4"

    answers = list(bike.classify(tiny, [str(path), path, Source(path, "mine"), mixed, drawn("green cross")], LABELS))

    assert [a.source.id for a in answers] == [str(path), str(path), "mine", "mixed", "array 5"]


def test_a_video_and_its_decoded_frames_get_one_answer(tiny: Engine, clips: Path) -> None:
    from bike_cli.video.decoding import decode

    source = Source.at(clips / "red_square.mp4")
    clip = decode(source, SamplingConfig(frames=4))

    assert ask(tiny, source, config()).ranked == ask(tiny, clip, config()).ranked


@pytest.mark.parametrize("label", LABELS[:3])
def test_the_bundled_model_knows_what_is_drawn(tiny: Engine, label: str) -> None:
    (answer,) = bike.classify(tiny, [drawn(label)], LABELS)

    assert isinstance(answer, Prediction)
    assert answer.best.label == label


def test_a_failure_keeps_its_place_and_the_run_continues(tiny: Engine, clips: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    given = [clips / "red_square.mp4", tmp_path / "none.mp4", tmp_path / "empty.mp4", clips / "blue_circle.mp4"]

    answers = list(bike.classify(tiny, given, LABELS, config()))

    assert [a.kind if isinstance(a, Failure) else a.best.label for a in answers] == [
        "red square",
        "missing",
        "not_video",
        "blue circle",
    ]


def test_a_failure_passes_through(tiny: Engine) -> None:
    failure = Failure(Source.at("a"), "missing", "a: no such file")

    assert list(bike.classify(tiny, [failure], LABELS, config())) == [failure]


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (4, 8, 8), (4, 8, 8, 4)])
def test_an_array_with_a_wrong_shape_is_an_error(tiny: Engine, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="array 1"):
        list(bike.classify(tiny, [np.zeros(shape, np.uint8)], LABELS, config()))


# -- what is refused at once: nothing is iterated here ------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        ((), config(), "labels: none given"),
        (("a", "b", "a"), config(), "label 'a': is given twice"),
        (("a", ""), config(), "labels: one is empty; remove it"),
        ((" \t", "a"), config(), "labels: one is empty; remove it"),
        (LABELS, config(template="bikes"), "nearest is 'bike'"),
        (LABELS, config(attributes=AttributeConfig("kinetics40")), "nearest is 'kinetics400'"),
        (LABELS, config(sampling=SamplingConfig(frames=78)), "frames is 78, but the temporal head of tiny .* 77"),
        (LABELS, config(attributes=AttributeConfig("off", attribute_weight=0.3)), "attributes are off"),
        (LABELS, config(attributes=AttributeConfig("off", attribute_model="tiny")), "attributes are off"),
    ],
)
def test_usage_errors_are_raised_before_the_first_source_is_read(
    tiny: Engine, labels: tuple[str, ...], settings: bike.ClassifyConfig, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        bike.classify(tiny, iter(()), labels, settings)


def test_as_many_frames_as_the_head_has_positions_are_fine(tiny: Engine) -> None:
    answer = ask(tiny, drawn("red square", frames=77), config(sampling=SamplingConfig(frames=77)))

    assert answer.frames == 77


def test_a_model_without_a_head_sees_any_number_of_frames(tiny: Engine) -> None:
    headless = replace(tiny, temporal_head=None)

    assert ask(headless, drawn("red square"), config(sampling=SamplingConfig(frames=78))).frames == 78


# -- what is said -------------------------------------------------------------------------------------------------


def test_a_video_with_too_few_frames_has_a_warning(tiny: Engine) -> None:
    short, enough = drawn("red square", frames=3), drawn("red square", frames=4)

    assert "the video has 3 frames, 4 are requested" in (ask(tiny, short, config()).warning or "")
    assert ask(tiny, enough, config()).warning is None


def test_a_label_that_is_too_long_is_cut_and_the_log_says_where(tiny: Engine, caplog: pytest.LogCaptureFixture) -> None:
    fits = 77 - 2 - 5 - 2  # positions without start and end, the prompt, and the label's head; one token a word
    label = "red square" + " very" * fits + " zebra" * 30

    with caplog.at_level(logging.WARNING, logger="bike_cli"):
        bike.classify(tiny, [], ["blue circle", label], config())

    (record,) = caplog.records
    assert record.getMessage().startswith("label 'red square very very")
    assert "; 'zebra zebra" in record.getMessage()


@pytest.mark.parametrize(
    ("labels", "unknown"), [(["doing yoga", "red circle"], ["doing yoga"]), (["red yoga", "red circle"], [])]
)
def test_a_label_without_a_known_word_is_reported(
    tiny: Engine, caplog: pytest.LogCaptureFixture, labels: list[str], unknown: list[str]
) -> None:
    with caplog.at_level(logging.WARNING, logger="bike_cli"):
        bike.classify(tiny, [], labels, config())

    heads = [record.getMessage().split(":")[0] for record in caplog.records]
    assert heads == [f"label '{label}'" for label in unknown]


def test_closing_the_answers_early_closes_the_store(
    tiny: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Path] = []
    close = Store.close
    monkeypatch.setattr(Store, "close", lambda store: (closed.append(store.file), close(store)))

    settings = replace(config(), store=StoreConfig(cache_dir=str(tmp_path)))
    answers = bike.classify(tiny, [drawn("red square")], LABELS, settings)
    cast("Generator[object]", answers).close()

    assert closed == [store_file(tmp_path)]


# -- ranking ------------------------------------------------------------------------------------------------------


def test_a_single_label_is_certain(tiny: Engine) -> None:
    answer = ask(tiny, drawn("red square"), config(), ["anything"])

    assert [(r.label, r.score) for r in answer.ranked] == [("anything", 1.0)]


def test_labels_are_ranked_best_first_and_no_more_than_asked_for(tiny: Engine, mixed: Clip) -> None:
    every, two = (ask(tiny, mixed, replace(config(), top=top)).ranked for top in (99, 2))

    assert sorted(r.label for r in every) == sorted(LABELS)
    assert [r.score for r in every] == sorted((r.score for r in every), reverse=True)
    assert two == every[:2]


# -- scores, by another road --------------------------------------------------------------------------------------


@pytest.mark.parametrize("spot", ["words", "eot", "all"])
def test_spotting_is_bikes_definition_for_every_frame_word_and_label(tiny: Engine, mixed: Clip, spot: Spot) -> None:
    texts = [slow_text(tiny, label, spot, PROMPT) for label in LABELS]
    views = slow_views(tiny, mixed)

    answer = ask(tiny, mixed, config(spot=spot))

    expected = [statistics.fmean(slow_cosine(view, *text) for view in views) for text in texts]
    assert cosines_of(answer) == pytest.approx(expected, abs=1e-5)
    assert scores_of(answer) == pytest.approx(softmax([tiny.logit_scale * x for x in expected]), abs=1e-4)


def test_mean_pooling_is_the_cosine_of_the_mean_frame(tiny: Engine, mixed: Clip) -> None:
    texts = [slow_text(tiny, label, "eot", PROMPT) for label in LABELS]
    means = [scaled(mean_of(view)) for view in slow_views(tiny, mixed)]

    answer = ask(tiny, mixed, config(pool="mean"))

    expected = [statistics.fmean(dot(mean, concept) for mean in means) for concept, _ in texts]
    assert cosines_of(answer) == pytest.approx(expected, abs=1e-5)


def test_clips_and_crops_are_averaged_alike(tiny: Engine, mixed: Clip) -> None:
    texts = [slow_text(tiny, label, "words", PROMPT) for label in LABELS]
    views = slow_views(tiny, mixed, crops=3)

    answer = ask(tiny, mixed, config(sampling=SamplingConfig(frames=4, clips=2, crops=3)))

    assert len(views) == 6
    expected = [statistics.fmean(slow_cosine(view, *text) for view in views) for text in texts]
    assert cosines_of(answer) == pytest.approx(expected, abs=1e-5)


def test_templates_are_averaged_as_unit_vectors(tiny: Engine, mixed: Clip, tmp_path: Path) -> None:
    templates = ("{}", "a video of a {}, moving")
    (tmp_path / "two.txt").write_text("\n".join(templates))
    texts = [[slow_text(tiny, label, "eot", t)[0] for t in templates] for label in LABELS]
    means = [scaled(mean_of(view)) for view in slow_views(tiny, mixed)]

    answer = ask(tiny, mixed, config(pool="mean", template=str(tmp_path / "two.txt")))

    expected = [statistics.fmean(dot(m, scaled(mean_of(text))) for m in means) for text in texts]
    assert cosines_of(answer) == pytest.approx(expected, abs=1e-5)


def test_the_words_of_every_template_vote(tiny: Engine, mixed: Clip, tmp_path: Path) -> None:
    templates = ("{}", "a video of a {}, moving")
    (tmp_path / "two.txt").write_text("\n".join(templates))
    texts = [[slow_text(tiny, label, "words", t) for t in templates] for label in LABELS]
    views = slow_views(tiny, mixed)

    answer = ask(tiny, mixed, config(template=str(tmp_path / "two.txt")))

    concepts = [(scaled(mean_of([c for c, _ in text])), [v for _, voters in text for v in voters]) for text in texts]
    expected = [statistics.fmean(slow_cosine(view, *concept) for view in views) for concept in concepts]
    assert cosines_of(answer) == pytest.approx(expected, abs=1e-5)


# -- the frames that decided --------------------------------------------------------------------------------------


def test_padding_may_vote_but_is_not_shown(tiny: Engine, mixed: Clip) -> None:
    by_all, by_words = ask(tiny, mixed, config(spot="all")), ask(tiny, mixed, config(spot="words"))

    assert by_all.best.label == by_words.best.label
    assert by_all.best.cosine != pytest.approx(by_words.best.cosine, abs=1e-3)
    assert by_all.saliency == pytest.approx(by_words.saliency, abs=1e-5)


@pytest.mark.parametrize("crops", [1, 3])
def test_saliency_is_the_winners_by_time_and_shared_by_the_views(
    tiny: Engine, mixed: Clip, crops: Literal[1, 3]
) -> None:
    sampling, longest_first = SamplingConfig(frames=4, clips=2, crops=crops), LABELS[::-1]

    answer = ask(tiny, mixed, config(sampling=sampling), longest_first)

    _, voters = slow_text(tiny, answer.best.label, "words", PROMPT)
    weights = [slow_weights(view, voters) for view in slow_views(tiny, mixed, crops)]  # a clip's crops side by side
    first, second = (mean_of(of_clip) for of_clip in (weights[:crops], weights[crops:]))
    interleaved = [w / 2 for pair in zip(first, second, strict=True) for w in pair]  # as the clips' times are
    assert answer.times_s.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert answer.saliency == pytest.approx(interleaved, abs=1e-5)
    assert sum(interleaved) == pytest.approx(1)


def test_mean_pooling_weights_all_frames_equally(tiny: Engine, mixed: Clip) -> None:
    assert ask(tiny, mixed, config(pool="mean")).saliency == pytest.approx([1 / 8] * 8)


def test_spotting_finds_the_frames_that_show_the_label(tiny: Engine) -> None:
    film = drawn("red square", frames=8)
    film[:5] = 0
    headless = replace(tiny, temporal_head=None)  # a head tells every frame of its neighbours
    settings = replace(config(), spotting=SpottingConfig(spot="eot", temperature=0.01))

    weights = ask(headless, film, replace(settings, sampling=SamplingConfig(frames=8))).saliency

    assert weights is not None
    assert weights[5:].sum() > 0.9


def test_saliency_is_missing_without_explain(tiny: Engine, mixed: Clip) -> None:
    assert ask(tiny, mixed, replace(config(), explain=False)).saliency is None


# -- attributes ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def contrary(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model folder: `tiny`, with the image projection negated."""
    checkpoint = open_checkpoint("tiny")
    checkpoint.clip.visual.proj.data.neg_()
    folder = tmp_path_factory.mktemp("contrary")
    save_folder(folder, checkpoint)
    return str(folder)


@pytest.fixture
def lexicon(tmp_path: Path) -> str:
    file = tmp_path / "words.txt"
    file.write_text("circle\nred\nsquare\n")
    return str(file)


def test_attributes_off_are_none(tiny: Engine, mixed: Clip) -> None:
    assert ask(tiny, mixed, config(attributes=OFF)).attributes == ()


def test_attributes_are_the_phrases_nearest_to_the_raw_frames(tiny: Engine, mixed: Clip, lexicon: str) -> None:
    frames = [scaled(f) for clip in mixed.frames for f in tiny.encode_frames(clip).tolist()]
    phrases = {
        p: scaled(tiny.encode_texts([PROMPT.format(p)]).classes[0].tolist()) for p in ("circle", "red", "square")
    }
    expected = {p: statistics.fmean(dot(frame, vector) for frame in frames) for p, vector in phrases.items()}

    found = ask(tiny, mixed, config(attributes=AttributeConfig(lexicon, attribute_count=2))).attributes

    assert [a.phrase for a in found] == sorted(expected, key=lambda p: -expected[p])[:2]
    assert [a.cosine for a in found] == pytest.approx(sorted(expected.values(), reverse=True)[:2], abs=1e-5)


def test_auto_is_the_models_own_lexicon(tiny: Engine, mixed: Clip) -> None:
    auto, named = (
        ask(tiny, mixed, config(attributes=AttributeConfig(name))).attributes for name in ("auto", tiny.recipe.lexicon)
    )

    assert len(auto) == 5
    assert auto == named


@pytest.mark.parametrize("weight", [None, 0.0])
def test_attributes_of_the_same_model_are_shown_and_do_not_count(
    tiny: Engine, mixed: Clip, weight: float | None
) -> None:
    plain = ask(tiny, mixed, config())

    answer = ask(tiny, mixed, config(attributes=AttributeConfig(attribute_weight=weight)))

    assert answer.attributes
    assert answer.ranked == plain.ranked


def test_attributes_are_fused_with_the_spread_of_the_videos_own_logits(tiny: Engine, mixed: Clip, lexicon: str) -> None:
    video = [tiny.logit_scale * x for x in cosines_of(ask(tiny, mixed, config()))]
    settings = config(attributes=AttributeConfig(lexicon, attribute_weight=0.25))

    answer = ask(tiny, mixed, settings)

    sentence = "This is a video about " + ",".join(a.phrase for a in answer.attributes)
    sentence_feature = scaled(tiny.encode_texts([sentence]).classes[0].tolist())
    texts = [dot(sentence_feature, slow_text(tiny, label, "eot", PROMPT)[0]) for label in LABELS]
    centre, spread = statistics.fmean(texts), statistics.stdev(texts)
    matched = [statistics.fmean(video) + (x - centre) / spread * statistics.stdev(video) for x in texts]
    fused = [0.75 * v + 0.25 * a for v, a in zip(video, matched, strict=True)]
    assert scores_of(answer) == pytest.approx(softmax(fused), abs=1e-4)


def test_a_second_model_sees_the_attributes(tiny: Engine, mixed: Clip, lexicon: str, contrary: str) -> None:
    own = ask(tiny, mixed, config(attributes=AttributeConfig(lexicon))).attributes

    other = ask(tiny, mixed, config(attributes=AttributeConfig(lexicon, attribute_model=contrary))).attributes

    assert [a.phrase for a in other] == [a.phrase for a in reversed(own)]
    assert [a.cosine for a in other] == pytest.approx([-a.cosine for a in reversed(own)], abs=1e-5)


def test_a_second_model_counts_three_tenths(tiny: Engine, mixed: Clip, lexicon: str, contrary: str) -> None:
    default, stated, ignored = (
        scores_of(ask(tiny, mixed, config(attributes=AttributeConfig(lexicon, weight, contrary))))
        for weight in (None, 0.3, 0.0)
    )

    assert default == stated
    assert default != pytest.approx(ignored, abs=1e-3)


@pytest.mark.parametrize("scale", [float("inf"), float("nan")])
def test_nan_scores_are_an_error(tiny: Engine, mixed: Clip, scale: float) -> None:
    with pytest.raises(ModelError, match=r"^tiny: its scores for .* are NaN or infinite; use --precision fp32"):
        ask(replace(tiny, logit_scale=scale), mixed, config())


def test_a_single_label_logs_a_warning(tiny: Engine, caplog: pytest.LogCaptureFixture) -> None:
    list(bike.classify(tiny, [drawn("red square")], ["red square"], config()))

    assert "label 'red square': is the only label, so its score is 1.0 whatever a video shows" in caplog.text


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_a_failure_and_never_the_current_folder(tiny: Engine, name: str) -> None:
    (failure,) = bike.classify(tiny, [name], LABELS, config())

    assert isinstance(failure, Failure)
    assert (failure.kind, failure.message) == ("missing", f"{name!r}: is an empty name; give the path of a video")


# -- memory of text towers


def test_a_released_text_tower_changes_no_answer_and_takes_no_memory() -> None:
    engine, film = load("tiny", device="cpu"), drawn("red square")
    expected = ask(engine, film, config())

    (answer,) = bike.classify(engine, [film], LABELS, config(), releases_text=True)

    assert isinstance(answer, Prediction)
    assert answer.ranked == expected.ranked
    text = engine.encoder.text_tower
    on_disk = [p.numel() for p in text.modules.parameters() if not p.is_meta]
    assert sum(on_disk) < 0.7 * sum(p.numel() for p in text.modules.parameters())  # the image tower is left
    with pytest.raises(ValueError, match="the text tower was released"):
        engine.encode_texts(["a"])
    with pytest.raises(ValueError, match="the text tower was released"):
        _ = replace(engine).fingerprint
    with pytest.raises(ValueError, match="the text tower was released"):
        engine.as_checkpoint()


def test_a_text_tower_that_reads_attributes_is_kept() -> None:
    engine = load("tiny", device="cpu")
    weighted = config(attributes=AttributeConfig("shapes", attribute_weight=0.2))

    (answer,) = bike.classify(engine, [drawn("red square")], LABELS, weighted, releases_text=True)

    assert isinstance(answer, Prediction)
    engine.encoder.text_tower.check_present()


def test_a_prepared_classifier_answers_as_classify_does_in_any_number_of_calls(clips: Path, tiny: Engine) -> None:
    settings, videos = config(), sorted(clips.iterdir())
    classifier = bike.prepare_classifier(tiny, LABELS, settings)

    with bike.DecodePool(settings.sampling, settings.decoding) as pool:
        answers = [answer for video in videos for answer in bike.classify_with(classifier, [video], pool=pool)]

    assert list(map(facts_of, answers)) == list(map(facts_of, bike.classify(tiny, videos, LABELS, settings)))


def facts_of(answer: Prediction | Failure) -> tuple[object, ...]:
    assert isinstance(answer, Prediction)
    assert answer.saliency is not None
    return answer.source, answer.ranked, answer.saliency.tolist(), answer.model_digest


def test_a_classifier_of_another_task_is_refused(tiny: Engine) -> None:
    classifier = replace(bike.prepare_classifier(tiny, LABELS, config()), config=bike.SpotConfig())

    with pytest.raises(TypeError, match="call prepare_classifier"):
        bike.classify_with(classifier, [])


def test_a_single_path_is_no_list_of_sources(tiny: Engine) -> None:
    with pytest.raises(TypeError, match="put a single one in brackets"):
        bike.classify_with(bike.prepare_classifier(tiny, LABELS, config()), "clip.mp4")
