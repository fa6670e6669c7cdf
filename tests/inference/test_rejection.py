"""Which videos fit none of the labels: by cosine, by phrases, and by a calibration."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from biased_models import biased_engine
from films import drawn

import bike_cli as bike
from bike_cli.config import AttributeConfig, ClassifyConfig, SamplingConfig, SpottingConfig
from bike_cli.engine.calibration.calibration import Calibration, Curve
from bike_cli.engine.engine import Engine
from bike_cli.errors import ConfigError, UsageError
from bike_cli.inference.conditions import conditions_of
from bike_cli.records import Prediction

LABELS = ("red square", "blue circle", "green cross")
SHOWN = ("red square", "blue circle", "red circle", "green square")


def config(**changes: object) -> ClassifyConfig:
    base = ClassifyConfig(sampling=SamplingConfig(frames=4), attributes=AttributeConfig(attributes="off"))
    return replace(base, **changes)  # type: ignore[arg-type]


def ask(engine: Engine, settings: ClassifyConfig | None = None, **more: object) -> list[Prediction]:
    films = [drawn(name, frames=4) for name in SHOWN]
    answers = list(bike.classify(engine, films, LABELS, settings or config(), **more))  # type: ignore[arg-type]
    assert all(isinstance(answer, Prediction) for answer in answers)
    return answers  # type: ignore[return-value]


def calibration(engine: Engine, settings: ClassifyConfig, values: Sequence[float], **changes: object) -> Calibration:
    made = {"labels": LABELS, "scale": 1.0, "curve": None, "promise": 0.05, "contents": frozenset[str]()} | changes
    return Calibration(conditions=conditions_of(engine, settings), values=np.array(sorted(values)), **made)  # type: ignore[arg-type]


def cosines(answers: Sequence[Prediction]) -> list[float]:
    return [answer.best.cosine for answer in answers]


def test_nothing_is_rejected_unless_it_is_asked_for(tiny: Engine) -> None:
    assert [(answer.rejection, answer.is_rejected) for answer in ask(tiny)] == [(None, False)] * 4


def test_a_cosine_rejects_those_below_it_and_changes_nothing_else(tiny: Engine) -> None:
    plain = ask(tiny)
    middle = sorted(cosines(plain))[2]  # that of the second best: equal cosines are accepted

    answers = ask(tiny, config(reject=repr(middle)))

    assert [answer.is_rejected for answer in answers] == [cosine < middle for cosine in cosines(plain)]
    assert sum(answer.is_rejected for answer in answers) == 2
    assert [answer.ranked for answer in answers] == [answer.ranked for answer in plain]
    assert {(a.rejection.fit, a.rejection.right, a.rejection.none) for a in answers if a.rejection} == {(None,) * 3}


def test_phrases_compete_with_the_labels_and_are_never_answers(tiny: Engine) -> None:
    phrases = ("red circle", "green square")
    together = list(bike.classify(tiny, [drawn(n, frames=4) for n in SHOWN], [*LABELS, *phrases], config()))

    answers = ask(tiny, none=phrases)

    assert [answer.rejection.none for answer in answers if answer.rejection] == [None, None, *phrases]
    assert [answer.is_rejected for answer in answers] == [False, False, True, True]
    for answer, full in zip(answers, together, strict=True):
        assert isinstance(full, Prediction)
        of_labels = [ranked for ranked in full.ranked if ranked.label in LABELS]
        assert list(answer.ranked) == of_labels  # the scores of one softmax over labels and phrases
        assert {ranked.label for ranked in answer.ranked} == set(LABELS)


def test_a_calibration_alone_says_how_well_a_video_fits(tiny: Engine) -> None:
    settings, values = config(), np.linspace(-0.2, 0.4, 37).tolist()
    known = calibration(tiny, settings, values, curve=Curve(40.0, -8.0))

    answers = ask(tiny, settings, calibration=known)

    for answer, cosine in zip(answers, cosines(ask(tiny)), strict=True):
        assert answer.rejection is not None
        assert answer.rejection.fit == pytest.approx((1 + sum(v <= cosine for v in values)) / 38)
        assert answer.rejection.right == pytest.approx(1 / (1 + math.exp(-(40 * cosine - 8))))
        assert not answer.is_rejected


def test_auto_rejects_as_many_known_clips_as_are_promised(tiny: Engine) -> None:
    shown = cosines(ask(tiny))
    settings = config(reject="auto")
    # 19 clips: at 5 % a video is rejected if it fits worse than all of them.
    known = calibration(tiny, settings, np.linspace(min(shown) + 1e-4, 0.9, 19).tolist())

    assert [answer.is_rejected for answer in ask(tiny, settings, calibration=known)] == [c == min(shown) for c in shown]
    looser = config(reject="auto", promise=0.4)
    rejected = [answer.is_rejected for answer in ask(tiny, looser, calibration=known)]
    fits = [(1 + sum(v <= cosine for v in known.values)) / 20 for cosine in shown]
    assert rejected == [fit <= 0.4 for fit in fits]


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_the_scale_changes_scores_but_neither_order_nor_cosines(tiny: Engine, scale: float) -> None:
    settings, plain = config(), ask(tiny)

    answers = ask(tiny, settings, calibration=calibration(tiny, settings, [0.1] * 19, scale=scale))

    for answer, before in zip(answers, plain, strict=True):
        assert [(r.label, r.cosine) for r in answer.ranked] == [(r.label, r.cosine) for r in before.ranked]
        logits = [tiny.logit_scale * ranked.cosine * scale for ranked in before.ranked]
        total = sum(math.exp(logit - max(logits)) for logit in logits)
        expected = [math.exp(logit - max(logits)) / total for logit in logits]
        assert [ranked.score for ranked in answer.ranked] == pytest.approx(expected, rel=1e-3)


def test_answers_do_not_depend_on_the_other_videos(tiny: Engine) -> None:
    settings = config(reject="0.2")
    together = ask(tiny, settings, none=("red circle",))

    alone = [
        answer
        for name in SHOWN
        for answer in bike.classify(tiny, [drawn(name, frames=4)], LABELS, settings, none=("red circle",))
    ]

    def outcome(answer: object) -> tuple[object, object]:
        assert isinstance(answer, Prediction)
        return answer.ranked, answer.rejection

    assert list(map(outcome, together)) == list(map(outcome, alone))


@pytest.mark.parametrize("reject", ["2", "-1.5", "nan", "inf", "always", ""])
def test_what_is_no_cosine_is_refused(reject: str) -> None:
    with pytest.raises(ConfigError, match="give off, auto, or a cosine between -1 and 1"):
        config(reject=reject)


@pytest.mark.parametrize("promise", [0.0, 0.5, math.nan, -0.1])
def test_a_promise_that_cannot_be_kept_is_refused(promise: float) -> None:
    with pytest.raises(ConfigError, match="promise is"):
        config(reject="auto", promise=promise)


@pytest.mark.parametrize(
    ("settings", "more", "message"),
    [
        (config(reject="auto"), {}, "has nothing to go by"),
        (config(reject="0.2", promise=0.05), {}, "--promise 0.05: only counts with --reject auto"),
        (config(), {"none": ["Red  Square"]}, "--none Red  Square: is a label, too"),
        (
            config(reject="0.2", attributes=AttributeConfig(attribute_weight=0.3)),
            {},
            "--reject: does not count attributes, which decide here",
        ),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    tiny: Engine, settings: ClassifyConfig, more: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        bike.classify(tiny, [], LABELS, settings, **more)  # type: ignore[arg-type]


def test_a_calibration_of_another_model_or_other_settings_is_refused(tiny: Engine) -> None:
    settings = config()
    known = calibration(tiny, settings, [0.1] * 19)

    with pytest.raises(UsageError, match="this run has frames 8"):
        bike.classify(tiny, [], LABELS, config(sampling=SamplingConfig(frames=8)), calibration=known)
    with pytest.raises(UsageError, match="calibration: is of the model tiny"):
        bike.classify(biased_engine(), [], LABELS, settings, calibration=known)


def test_too_few_clips_for_a_promise_are_refused(tiny: Engine) -> None:
    settings = config(reject="auto", promise=0.05)

    with pytest.raises(UsageError, match="needs at least 19 known clips"):
        bike.classify(tiny, [], LABELS, settings, calibration=calibration(tiny, settings, [0.1] * 18, promise=0.1))


def test_other_labels_and_phrases_like_labels_are_warned_about(tiny: Engine, caplog: pytest.LogCaptureFixture) -> None:
    settings = config()
    known = calibration(tiny, settings, [0.1] * 19, labels=("red square", "blue circle", "white ring"))

    with caplog.at_level(logging.WARNING):
        ask(tiny, settings, calibration=known, none=("yellow square",))
        ask(tiny, config(reject="0.1", spotting=SpottingConfig(pool="mean")))

    said = "\n".join(caplog.messages)
    assert "was made with other labels (they differ in green cross and white ring)" in said
    assert "--none yellow square: shares the word 'square' with the label 'red square'" in said
    assert "mean pooling of frames misses labels" in said


def test_matches_stay_those_of_the_model(tiny: Engine) -> None:
    """A scale belongs to scores that compare labels, not to what a model says of each alone."""
    engine, settings = biased_engine(), config(scores="sigmoid")
    known = calibration(engine, settings, [0.0] * 19, scale=0.5)

    answers = ask(engine, settings, calibration=known)

    assert [answer.ranked for answer in answers] == [answer.ranked for answer in ask(engine, settings)]
    assert tiny.logit_bias is None
