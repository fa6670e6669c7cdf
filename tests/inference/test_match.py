"""A model with a bias judges each label alone; what compares labels does not know the bias."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from biased_models import BIAS, SCALE, biased_engine
from films import drawn

import bike_cli as bike
from bike_cli.config import AttributeConfig, SamplingConfig, ScoreKind, SpottingConfig
from bike_cli.engine.engine import Engine
from bike_cli.engine.heads.few_shot import Head
from bike_cli.engine.heads.saved_classifier import SavedClassifier
from bike_cli.errors import UsageError
from bike_cli.inference.prepare import prepare
from bike_cli.records import Clip, FrameTimes, Prediction, Source

LABELS = ("red square", "blue circle", "green cross", "a small white ring")


@pytest.fixture(scope="module")
def biased() -> Engine:
    return biased_engine()


def config(scores: ScoreKind = "softmax", *, template: str = "class", **changes: object) -> bike.ClassifyConfig:
    attributes = AttributeConfig(attributes="off")
    made = bike.ClassifyConfig(
        sampling=SamplingConfig(frames=4), attributes=attributes, template=template, scores=scores
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def ask(engine: Engine, settings: bike.ClassifyConfig, saved: SavedClassifier | None = None) -> Prediction:
    (answer,) = bike.classify(engine, [two_clips()], LABELS, settings, saved=saved)
    assert isinstance(answer, Prediction)
    return answer


def two_clips() -> Clip:
    film = np.concatenate([drawn("red square", frames=4), drawn("blue circle", frames=4)])
    times_s = np.array([[0.0, 2.0, 4.0, 6.0], [1.0, 3.0, 5.0, 7.0]])
    return Clip(Source.at("two"), film.reshape(2, 4, *film.shape[1:]), FrameTimes(times_s, duration_s=8.0))


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def by_label(answer: Prediction, name: str) -> dict[str, float]:
    return {ranked.label: getattr(ranked, name) for ranked in answer.ranked}


def test_the_bias_comes_with_the_model(biased: Engine, tiny: Engine) -> None:
    assert (biased.logit_bias, tiny.logit_bias) == (BIAS, None)
    assert biased.logit_scale == pytest.approx(SCALE)


@pytest.mark.parametrize("pool", ["mean", "tcs"])
def test_softmax_scores_and_ranking_do_not_know_the_bias(biased: Engine, pool: str) -> None:
    settings = config(spotting=SpottingConfig(pool), explain=True)  # type: ignore[arg-type]

    answer, other = ask(biased, settings), ask(biased_engine(None), settings)

    assert [(r.label, r.score, r.cosine) for r in answer.ranked] == [(r.label, r.score, r.cosine) for r in other.ranked]
    assert {r.match for r in other.ranked} == {None}
    assert sum(r.score for r in answer.ranked) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("pool", ["mean", "tcs"])
def test_a_match_is_the_sigmoid_of_the_scaled_cosine_plus_the_bias(biased: Engine, pool: str) -> None:
    answer = ask(biased, config(spotting=SpottingConfig(pool)))  # type: ignore[arg-type]

    for ranked in answer.ranked:
        assert ranked.match == pytest.approx(logistic(biased.logit_scale * ranked.cosine + BIAS), abs=1e-12)


def unit(x: Sequence[float]) -> np.ndarray:
    vector = np.asarray(x, dtype=np.float64)
    return vector / np.linalg.norm(vector)


def test_the_cosines_of_views_are_averaged_before_the_sigmoid(biased: Engine) -> None:
    clip = two_clips()
    clip.frames[0] //= 8  # so that the model sees a difference
    clip.frames[1, 2:] = 255 - clip.frames[1, 2:]

    (answer,) = bike.classify(biased, [clip], LABELS, config(spotting=SpottingConfig("mean")))

    views = [np.mean(biased.encode_frames(view).tolist(), axis=0) for view in clip.frames]
    texts = biased.encode_texts(LABELS).classes.tolist()
    logits = SCALE * np.array([[unit(view) @ unit(text) for view in views] for text in texts]) + BIAS
    expected = [logistic(x) for x in logits.mean(axis=1)]
    of_each = [float(np.mean([logistic(x) for x in row])) for row in logits]
    assert [by_label(answer, "match")[label] for label in LABELS] == pytest.approx(expected, rel=1e-4)
    assert of_each != pytest.approx(expected, rel=0.01)


def test_a_match_does_not_depend_on_the_other_labels(biased: Engine) -> None:
    (alone,) = bike.classify(biased, [two_clips()], LABELS[:2], config())

    together = by_label(ask(biased, config()), "match")
    assert by_label(alone, "match") == pytest.approx({label: together[label] for label in LABELS[:2]}, rel=1e-5)


def test_sigmoid_scores_are_the_matches_in_the_same_order(biased: Engine) -> None:
    compared, judged = (ask(biased, config(kind, explain=True)) for kind in ("softmax", "sigmoid"))  # type: ignore[arg-type]

    assert (compared.scores, judged.scores) == ("softmax", "sigmoid")
    expected = [(r.label, r.match, r.cosine, r.match) for r in compared.ranked]
    assert [(r.label, r.score, r.cosine, r.match) for r in judged.ranked] == expected
    assert sorted(by_label(judged, "score").values(), reverse=True) == [r.score for r in judged.ranked]
    assert judged.saliency is not None
    assert np.array_equal(judged.saliency, compared.saliency)  # type: ignore[arg-type]


def test_one_label_may_be_judged_without_a_warning(biased: Engine, caplog: pytest.LogCaptureFixture) -> None:
    (answer,) = bike.classify(biased, [two_clips()], LABELS[:1], config("sigmoid"))

    assert caplog.messages == []
    assert isinstance(answer, Prediction)
    among_others = by_label(ask(biased, config()), "match")[LABELS[0]]
    # Logits are float32, whose rounding depends on how many labels are multiplied at once.
    assert answer.best.score == answer.best.match == pytest.approx(among_others, rel=1e-5)


def test_a_model_without_a_bias_is_refused_before_a_video_is_read(tiny: Engine) -> None:
    message = "^--scores sigmoid: tiny was trained to compare labels, not to judge one; use softmax$"
    with pytest.raises(UsageError, match=message):
        bike.classify(tiny, ["no.mp4"], LABELS, config("sigmoid"))
    with pytest.raises(UsageError, match=message):
        prepare(tiny, LABELS, config()).answer(two_clips(), top=1, explain=False, scores="sigmoid")


def test_attributes_that_count_have_no_sigmoid_scores(biased: Engine) -> None:
    counting = AttributeConfig(attributes="shapes", attribute_weight=0.3)
    shown = replace(counting, attribute_weight=0.0)

    with pytest.raises(UsageError, match=r"^--scores sigmoid: attributes count .* or --attribute-weight 0$"):
        ask(biased, config("sigmoid", attributes=counting))

    answer = ask(biased, config("sigmoid", attributes=shown))
    assert len(answer.attributes) == shown.attribute_count
    alone, fused = ask(biased, config()), ask(biased, config(attributes=counting))
    assert by_label(fused, "match") == by_label(alone, "match")  # of the label's text and the video alone
    assert by_label(fused, "score") != by_label(alone, "score")


def classifier_of(engine: Engine) -> SavedClassifier:
    weight = torch.randn(len(LABELS), engine.encoder.dim, generator=torch.Generator().manual_seed(0))
    head = Head(weight, torch.zeros(len(LABELS)), weight[:0], torch.zeros(0, dtype=torch.int64))
    return SavedClassifier(
        labels=LABELS,
        also=(),
        method="probe",
        model=engine.name,
        fingerprint=engine.fingerprint,
        sampling=SamplingConfig(frames=4),
        pool="tcs",
        spot=engine.recipe.spot,
        temperature=engine.recipe.temperature,
        template="class",
        templates=("{}",),
        attributes=AttributeConfig(attributes="off"),
        head=head,
        manifest={},
    )


def test_a_saved_classifier_has_matches_of_the_texts_but_no_sigmoid_scores(biased: Engine) -> None:
    saved = classifier_of(biased)

    answer, plain = ask(biased, config(), saved), ask(biased, config())

    assert by_label(answer, "match") == by_label(plain, "match")
    assert by_label(answer, "score") != by_label(plain, "score")
    with pytest.raises(
        UsageError, match=r"^--scores sigmoid: the classifier was trained to compare labels.*; use softmax"
    ):
        ask(biased, config("sigmoid"), saved)
