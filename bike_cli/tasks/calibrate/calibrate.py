"""Calibrate a model with labelled clips."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bike_cli.config import CalibrateConfig
from bike_cli.data.labelled.eval_sets import NONE, EvalSet
from bike_cli.engine.calibration.calibration import Calibration, check_promise
from bike_cli.engine.calibration.fitting import fit_curve, fit_scale
from bike_cli.engine.engine import Engine
from bike_cli.engine.heads.saved_classifier import SavedClassifier
from bike_cli.inference.conditions import conditions_of
from bike_cli.records import Failure, Timings
from bike_cli.settings import build
from bike_cli.tasks.calibrate.clips import CalibrationClips, name_some
from bike_cli.tasks.calibrate.reading import read_calibration_set
from bike_cli.tasks.calibrate.report import CalibrationReport, few_clips, promises_of, qualities_of, separation_of
from bike_cli.tasks.evaluate.metrics import share_of
from bike_cli.video.workers.pool import DecodePool
from bike_cli.wording import count

logger = logging.getLogger(__name__)

FEW_CLIPS = 3  # of a class; with fewer, the threshold says nothing about it
FEW_UNKNOWN = 10  # clips, from which on the curve was measured to hold


def calibrate(
    engine: Engine,
    data: EvalSet | str | Path | Sequence[str | Path],
    config: CalibrateConfig | None = None,
    *,
    none_label: str | None = None,
    saved: SavedClassifier | None = None,
    pool: DecodePool | None = None,
) -> CalibrationReport:
    """Find out from labelled clips what the scores of a model mean: a threshold, a scale and a curve.

        engine = bike.load("tiny")
        report = bike.calibrate(engine, "examples/by_shape.csv", bike.CalibrateConfig(promise=0.2))
        print(report.calibration.threshold())
        report.save("cal.json")

    What is promised is how many clips of the labels are rejected at most, on average, if they are like those of the
    calibration. Nothing is promised about clips that show something else.

    Args:
        data: class folders, CSV files (`path,label`) or list files, or the set that `read_eval_set` returns.
        config: None: the defaults, which are the settings of the classifier's or the model's training. Its `engine`
            section does not count.
        none_label: the class of clips that show none of the labels; None: `none`, if there is such a class.
        saved: a classifier that `load_classifier` returns, to calibrate instead of the labels of the clips. Clips that
            it was trained on are left out.
        pool: workers that are running already, made with the sampling and decoding of the config; they keep running.
            None: the call starts workers and stops them.
    Raises:
        UsageError: malformed data, several labels per video, attributes that count, or fewer known clips than the
            promise needs. A clip that cannot be read is in `report.failed` instead.
    """
    if config is None:
        trained = saved or engine.training
        config = CalibrateConfig() if trained is None else build(CalibrateConfig, trained.settings)
    labels = () if saved is None else saved.labels
    eval_set = data if isinstance(data, EvalSet) else read_calibration_set(data, none_label=none_label, learned=labels)
    with ExitStack() as stack:
        if pool is None:
            pool = stack.enter_context(DecodePool(config.sampling, config.decoding, most=len(eval_set.samples)))
        run = CalibrationRun(engine, eval_set, config, pool, saved=saved)
        for _ in run.read():
            pass
        return run.report()


@dataclass(eq=False)
class CalibrationRun:
    """A calibration in steps: exhaust `read`, then ask for the `report`.

    Raises:
        UsageError: see `calibrate`.
    """

    engine: Engine
    eval_set: EvalSet
    config: CalibrateConfig
    pool: DecodePool  # running workers, made with the sampling and decoding of the config
    spent: Timings = field(default_factory=Timings)
    saved: SavedClassifier | None = None  # None: cosines with the labels are calibrated

    def __post_init__(self) -> None:
        self._clips = CalibrationClips(self.engine, self.eval_set, self.config, self.pool, self.spent, self.saved)
        self._conditions = conditions_of(self.engine, self.config, self._clips.classifier.descriptions, self.saved)

    def read(self) -> Iterator[tuple[int, int, Failure | None]]:
        """Score the clips; yield how many are done, how many there are, and the failure if there is one."""
        yield from self._clips.read()

    def report(self) -> CalibrationReport:
        """Return the calibration with what is known about it.

        Raises:
            UsageError: fewer known clips than the promise needs could be read.
        """
        clips, scored = self._clips, self._clips.scored
        is_known = scored.truth != NONE
        known, unknown = scored.at(is_known), scored.at(~is_known)
        check_promise(self.config.promise, len(known.truth))
        values = np.sort(known.values)
        calibration = Calibration(
            labels=clips.labels,
            conditions=self._conditions,
            values=values,
            scale=fit_scale(known.logits, known.truth),
            curve=None if is_known.all() else fit_curve(scored.values, scored.correct, is_known),
            promise=self.config.promise,
            contents=clips.contents,
            measure=clips.classifier.measure,
        )
        before, after = qualities_of(known)
        names = [sample.source.id for sample in clips.samples]
        report = CalibrationReport(
            calibration,
            known=len(known.truth),
            available=clips.available,
            unknown=len(unknown.truth),
            per_class=tuple(np.bincount(known.truth, minlength=len(clips.labels)).tolist()),
            accuracy=share_of(known.correct),
            promises=promises_of(values, unknown.values, self.config.promise),
            before=before,
            after=after,
            separation=separation_of(scored, is_known),
            failed=tuple(clips.failures[place] for place in sorted(clips.failures)),
            learned=tuple(names[place] for place in clips.learned),
            copies=tuple((names[copy], names[original]) for copy, original in sorted(clips.copies.items())),
        )
        _warn(report)
        return report


def _warn(report: CalibrationReport) -> None:
    few = few_clips(report, FEW_CLIPS)
    if few:
        named = name_some(few, "class", "classes")
        verb = "has" if len(few) == 1 else "have"
        logger.warning(
            "%s: %s fewer than %d clips, so the threshold says little about them; add some", named, verb, FEW_CLIPS
        )
    if 0 < report.unknown < FEW_UNKNOWN:
        clips = count(report.unknown, "clip")
        logger.warning(
            "%s: of none of the labels, and the probability of a correct answer needs about %d; add some",
            *(clips, FEW_UNKNOWN),
        )
