"""The calibration of a saved classifier, by the test videos, from which it did not learn."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bike_cli.engine.calibration.calibration import MOST_VALUES, Calibration, fewest_clips
from bike_cli.engine.calibration.fitting import fit_scale
from bike_cli.engine.heads.few_shot import Views
from bike_cli.engine.heads.saved_classifier import SavedClassifier
from bike_cli.engine.heads.shot_distances import fits_of
from bike_cli.inference.classifier import Classifier
from bike_cli.inference.conditions import conditions_of
from bike_cli.wording import count

logger = logging.getLogger(__name__)

PROMISE = 0.05  # as of `bike calibrate`
SEED = 0  # of the draw among more videos than a calibration keeps


def why_not_calibrated(classifier: SavedClassifier, held_out: int) -> str | None:
    """Return why a classifier cannot bring a calibration, and what to do; None if it can.

    Args:
        held_out: number of videos of its classes that it was neither fitted to nor chosen by.
    """
    if classifier.attributes.attribute_weight:
        return "attributes count, and a calibration is of the video alone; leave out --attribute-weight"
    if classifier.also:
        return "labels without videos have none to calibrate with; leave out --also"
    fewest = fewest_clips(PROMISE)
    if held_out < fewest:
        return (
            f"{count(held_out, 'test video')}, and a calibration needs {fewest}; add {fewest - held_out}, or run bike "
            "calibrate --classifier with others"
        )
    return None


def with_calibration(
    saved: SavedClassifier, classifier: Classifier, held_out: Views, truth: Sequence[int], contents: Sequence[str]
) -> SavedClassifier:
    """Return a saved classifier with a calibration by held-out videos; as it is, if they cannot give one.

    Args:
        classifier: of the texts of its classes, with the model and the settings of its training.
        held_out: n videos.
        truth: index of the class of each.
        contents: SHA-256 of each, in hex.
    """
    if why_not_calibrated(saved, len(truth)) is not None:
        return saved
    places = np.arange(len(truth))
    if len(places) > MOST_VALUES:
        logger.warning(
            "%s of %s test videos: are drawn with seed 0 to calibrate", f"{MOST_VALUES:,}", f"{len(truth):,}"
        )
        places = np.sort(np.random.default_rng(SEED).choice(places, MOST_VALUES, replace=False))
    logits, cosines = saved.head.logits(held_out), held_out.scores(classifier.texts.classes)
    fits = fits_of(saved.measure, held_out, logits, cosines, saved.distances)
    calibration = Calibration(
        labels=saved.labels,
        conditions=conditions_of(classifier.engine, classifier.config, classifier.descriptions, saved),
        values=np.sort(fits.double().cpu().numpy()[places]),
        scale=fit_scale(logits.double().cpu().numpy()[places], np.array(truth)[places]),
        curve=None,
        promise=PROMISE,
        contents=frozenset(contents[place] for place in places.tolist()),
        measure=saved.measure,
    )
    return replace(saved, calibration=calibration)
