"""Videos and labels in, answers out."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import cast

from bike_cli.config import ClassifyConfig, Descriptions
from bike_cli.engine.calibration.calibration import Calibration
from bike_cli.engine.engine import Engine
from bike_cli.engine.heads.saved_classifier import SavedClassifier
from bike_cli.inference.classifier import Classifier
from bike_cli.inference.features import Features, Input
from bike_cli.inference.prepare import counts_attributes, default_config, default_labels, open_shelf, prepare
from bike_cli.inference.rejection import check_phrases, make_rejector
from bike_cli.records import Failure, Prediction, Timings
from bike_cli.video.workers.pool import DecodePool

LARGE_TEXT_TOWER = 100_000_000  # parameters that are worth freeing: 400 MB

logger = logging.getLogger(__name__)


def classify(
    engine: Engine,
    sources: Iterable[Input],
    labels: Sequence[str] | None = None,
    config: ClassifyConfig | None = None,
    *,
    descriptions: Descriptions | None = None,
    pool: DecodePool | None = None,
    spent: Timings | None = None,
    saved: SavedClassifier | None = None,
    learnt: SavedClassifier | None = None,
    none: Sequence[str] = (),
    calibration: Calibration | None = None,
    releases_text: bool = False,
) -> Iterator[Prediction | Failure]:
    """Yield one answer or failure for each source, in order, as soon as it is known.

    Args:
        sources: paths of videos or frame folders, sources, clips, or arrays uint8 [T, H, W, 3] that hold every frame
            of a video. A failure is yielded as it is, in its place. A thread takes them ahead of the answers.
        labels: at least one, each once. None: those that the classifier or the model was trained with.
        config: None: the defaults, with the settings that the classifier or the model was trained with. Of its `engine`
            section, only precision and offline count, for an `attribute_model`.
        descriptions: for some labels, texts that say what can be seen in a video of them; see `read_label_set`.
        pool: running workers, started with the sampling and decoding of the config; they are left running. None: this
            call starts its own.
        spent: updated with the time that each stage takes.
        saved: a classifier that `load_classifier` returns; `labels` must begin with its own, in its order, and further
            labels are scored by their text alone.
        learnt: deprecated name of `saved`.
        none: phrases for what fits none of the labels. They compete with the labels; a video that one of them fits best
            is rejected.
        calibration: what `read_calibration` returns. Scores become probabilities, and answers say how well the video
            fits. With `config.reject` auto it also decides which videos are rejected. None: `config.reject` auto
            uses the calibration in the classifier.
        releases_text: free the memory of text towers that are not needed once the labels are encoded; `engine` can then
            encode no other texts.
    Raises:
        TypeError: `sources` or `labels` is a single path or text.
        UsageError: no label, a repeated label, an unknown template or lexicon, more frames than the model has positions
            for, a store that cannot be used, a classifier of another model or with other settings, sigmoid scores of
            what compares labels, a calibration that is missing or of another model or other settings. Raised at once,
            before the first source is read.
    """
    if isinstance(sources, (str, Path)) or isinstance(labels, str) or isinstance(none, str):
        raise TypeError("sources, labels and none must be lists; put a single one in brackets")
    if learnt is not None:
        warnings.warn("classify(learnt=) was renamed to classify(saved=)", DeprecationWarning, stacklevel=2)
        saved = learnt
    classifier = prepare_classifier(
        *(engine, labels, config),
        descriptions=descriptions,
        saved=saved,
        none=none,
        calibration=calibration,
        releases_text=releases_text,
    )
    return classify_with(classifier, sources, pool=pool, spent=spent)


def prepare_classifier(
    engine: Engine,
    labels: Sequence[str] | None = None,
    config: ClassifyConfig | None = None,
    *,
    descriptions: Descriptions | None = None,
    saved: SavedClassifier | None = None,
    none: Sequence[str] = (),
    calibration: Calibration | None = None,
    releases_text: bool = False,
) -> Classifier:
    """Return what `classify_with` classifies videos with: the model and its encoded labels.

    A program that classifies videos again and again encodes its labels only once this way. `classify` is
    `prepare_classifier` followed by `classify_with`, and has the same arguments.

    Raises:
        TypeError: `labels` or `none` is a single text.
        UsageError: as in `classify`, except for the store.
    """
    if isinstance(labels, str) or isinstance(none, str):
        raise TypeError("labels and none must be lists; put a single one in brackets")
    config = config or default_config(engine, saved)
    labels = default_labels(engine, saved) if labels is None else labels
    check_phrases(labels, none)
    classifier = prepare(engine, [*labels, *none], config, saved, descriptions=descriptions)
    classifier.check_scores(config.scores)
    rejector = make_rejector(
        *(engine, config, labels, none, calibration),
        descriptions=classifier.descriptions,
        has_attributes=counts_attributes(classifier),
        saved=saved,
    )
    if not none:
        _warn_of_a_single_label(labels, config)
    classifier = replace(classifier, rejector=rejector)
    _ = classifier.model_digest  # reads the weights, before they may be freed
    if releases_text and (classifier.branch is None or classifier.branch.weight == 0):  # else it reads sentences
        for used in classifier.engines:
            used.encoder.text_tower.release()
    return classifier


def classify_with(
    classifier: Classifier,
    sources: Iterable[Input],
    *,
    pool: DecodePool | None = None,
    spent: Timings | None = None,
) -> Iterator[Prediction | Failure]:
    """Yield one answer or failure for each source, in order, as soon as it is known.

    Args:
        classifier: what `prepare_classifier` returns. Several threads may use it at the same time.
        sources: as in `classify`.
        pool: running workers, as in `classify`; calls may share them. None: this call starts its own.
        spent: updated with the time that each stage takes.
    Raises:
        TypeError: `sources` is a single path, or the classifier was made for another task.
        UsageError: a store that cannot be used. Raised at once.
    """
    if isinstance(sources, (str, Path)):
        raise TypeError("sources must be a list; put a single one in brackets")
    if not isinstance(classifier.config, ClassifyConfig):
        raise TypeError("classifier was made for another task; call prepare_classifier")
    answers = _answers(classifier, classifier.config, sources, pool, spent or Timings())
    next(answers)
    return cast("Iterator[Prediction | Failure]", answers)


def is_worth_releasing(engine: Engine) -> bool:
    """Return whether a model's text tower takes much memory, once its labels are encoded."""
    return engine.encoder.text_tower.parameters > LARGE_TEXT_TOWER


def _warn_of_a_single_label(labels: Sequence[str], config: ClassifyConfig) -> None:
    if len(labels) == 1 and config.scores == "softmax":
        problem = "is the only label, so its score is 1.0 whatever a video shows"
        logger.warning("label %r: %s; add labels of what else videos may show", labels[0], problem)


def _answers(
    classifier: Classifier, config: ClassifyConfig, sources: Iterable[Input], pool: DecodePool | None, spent: Timings
) -> Iterator[Prediction | Failure | None]:
    """Open the store and yield None, then yield the answers. Closing the iterator closes the store."""
    engines = classifier.engines
    with ExitStack() as stack:
        shelf = stack.enter_context(open_shelf(engines, config))
        yield None
        if pool is None:
            most = len(sources) if isinstance(sources, Sized) else None
            pool = stack.enter_context(DecodePool(config.sampling, config.decoding, most=most))
        for batch in Features(sources, engines, config.sampling, pool=pool, shelf=shelf, spent=spent):
            start_s = time.perf_counter()
            videos = [video for video in batch if not isinstance(video, Failure)]
            answers = iter(classifier.answers(videos, top=config.top, explain=config.explain, scores=config.scores))
            spent.encode_s += time.perf_counter() - start_s
            yield from (video if isinstance(video, Failure) else next(answers) for video in batch)
