"""A few-shot study: reading, drawing, fitting and reporting, each phase in its own module.

Every video is read once, in the same way as by `classify`. Everything after that works on frozen features.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence

from bike_cli.config import DrawConfig
from bike_cli.data.labelled.train_sets import TrainSet
from bike_cli.data.lines import key
from bike_cli.engine.engine import Engine
from bike_cli.engine.heads.saved_classifier import SavedClassifier
from bike_cli.engine.models.parts import Checkpoint
from bike_cli.engine.towers.neighbours import check_trainable
from bike_cli.errors import UsageError
from bike_cli.inference.contents import digest_of_all
from bike_cli.inference.label_texts import check_no_descriptions
from bike_cli.inference.prepare import prepare
from bike_cli.inference.processes import ProcessGroup
from bike_cli.records import Clip, Failure, Prediction, Sample, Timings
from bike_cli.tasks.evaluate.evaluation import provenance
from bike_cli.tasks.evaluate.report import Provenance
from bike_cli.tasks.evaluate.score_table import ScoreTable
from bike_cli.tasks.fewshot.drawing import Drawing
from bike_cli.tasks.fewshot.fitting import Fitting
from bike_cli.tasks.fewshot.methods import TRAINED, parse_methods
from bike_cli.tasks.fewshot.report import Report
from bike_cli.tasks.fewshot.videos import Reading
from bike_cli.video.workers.pool import DecodePool


class Study:
    """A few-shot study. Iterate over `read` first; then call `report`, and `classifier` for the classifier to save.

    Methods that need the videos raise ValueError before they are read.

    Args:
        labelled: the videos to draw from, and a test side if there is one.
        pool: decode workers that are already running.
        processes: the processes that share the videos and the fits of `tables`; each ends up with all videos.
        spent: the times of decoding and encoding are added to it.
    Raises:
        UsageError: shots, methods, trials or a test fraction that are invalid or do not suit the data.
    """

    def __init__(
        self,
        engine: Engine,
        labelled: TrainSet,
        config: DrawConfig,
        pool: DecodePool,
        processes: ProcessGroup | None = None,
        spent: Timings | None = None,
    ) -> None:
        self._started_s = time.monotonic()
        self.engine, self.labelled, self.config = engine, labelled, config
        self.methods = parse_methods(config.method)
        if TRAINED in self.methods:
            check_trainable(engine.encoder.model.visual, engine.name)
        self.spent = spent or Timings()
        self._pool, self._processes = pool, processes or ProcessGroup()
        self._drawing = Drawing(labelled, config)
        labels = labelled.labels
        described = labelled.descriptions
        if TRAINED in self.methods:
            check_no_descriptions(described, config.descriptions, f"the method {TRAINED} trains with templates alone")
        self._classifier = prepare(
            engine, labels, config, descriptions=described, from_videos=len(labels), shows_attributes=False
        )
        self._drawing.draws()  # report what cannot work before anything is read
        self._reading = Reading(labelled, self._drawing, self._classifier, pool, self._processes, self.spent)
        self._fitting: Fitting | None = None

    # -- what it is about --------------------------------------------------------------------------------------------

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The training samples, then the test samples; places refer to this order."""
        return self._drawing.samples

    @property
    def trains_model(self) -> bool:
        """Whether the method to save trains a model, instead of a classifier on frozen features."""
        return self.methods[-1] == TRAINED

    @property
    def failures(self) -> Mapping[int, Failure]:
        """The videos that could not be read, by place."""
        return self._reading.videos.failures

    @property
    def used(self) -> int:
        """The number of videos that were read and are not copies."""
        return len(self._reading.videos.views)

    @property
    def provenance(self) -> Provenance:
        """What the answers depend on, apart from the method."""
        return provenance(self._classifier)

    @property
    def contents(self) -> str:
        """The hash of the contents of all videos and their labels."""
        digests = [self._reading.videos.digests.get(place) for place in range(len(self.samples))]
        return digest_of_all(digests, [sample.label for sample in self.samples])

    def check_also(self, also: Sequence[str]) -> None:
        """Raise UsageError if one of the labels without videos is also a label with videos."""
        learned = {key(label) for label in self.labelled.labels}
        repeated = next((label for label in also if key(label) in learned), None)
        if repeated is not None:
            raise UsageError(f"label {repeated!r}: is already learned from videos; leave it out of --also")

    # -- the phases --------------------------------------------------------------------------------------------------

    def read(self) -> Iterator[tuple[int, int, Failure | None]]:
        """Read every video that is drawn or tested on.

        Yields:
            the number of videos done, their total, and the failure of the last one if it could not be read. Each of
            several processes yields its own share.

        Raises:
            UsageError: too few videos of a class can be read; copies of one video with different labels.
        """
        yield from self._reading
        videos = self._reading.videos
        draws, shared = self._drawing.draws(videos.unusable), (self._pool, self._processes, self.spent)
        self._fitting = Fitting(self._classifier, self.config, self.methods, videos, draws, *shared)

    def report(self) -> Report:
        """Fit every method to every draw, and test it."""
        fitting, videos = self._fitted, self._reading.videos
        return Report(
            labels=self.labelled.labels,
            names=self.labelled.names,
            outcomes=fitting.outcomes(),
            draws=fitting.draws.trials,
            samples=videos.samples,
            digests=videos.digests,
            failures=videos.failures,
            left_out=videos.left_out,
            engine=self.engine,
            config=self.config,
            spent=self.spent,
            seconds=time.monotonic() - self._started_s,
        )

    def tables(self) -> Mapping[tuple[str, int], list[ScoreTable]]:
        """Return the scores of each method and number of shots on the test videos: one table per trial.

        The baseline learns from no video, so it has one entry, with the most shots.
        """
        return self._fitted.tables()

    def look(self, rows: Sequence[int]) -> list[tuple[Clip, Prediction]]:
        """Return frames and explained answers for some test videos of the first draw.

        The answers are those of the last method with the most shots. Videos that can no longer be read are left out.

        Args:
            rows: rows of the first draw's tables.
        Raises:
            ValueError: the last method is `bike`, and no model was trained yet.
        """
        return self._fitted.explain(rows)

    def classifier(self, *, also: Sequence[str] = ()) -> SavedClassifier:
        """Return the classifier to save: that of the last method, with the most shots, on the first draw.

        Args:
            also: further labels, without videos; their text decides.
        Raises:
            ValueError: the last method is `bike`, which trains a `model`.
        """
        return self._fitted.saved_classifier(also=also)

    def learnt(self, *, also: Sequence[str] = ()) -> SavedClassifier:
        """Return `classifier(also=also)`, under its deprecated name."""
        warnings.warn("Study.learnt was renamed to Study.classifier", DeprecationWarning, stacklevel=2)
        return self.classifier(also=also)

    def model(self, *, also: Sequence[str] = ()) -> Checkpoint:
        """Return the model that `bike` trained with the most shots on the first draw; it records its labels.

        Args:
            also: further labels, without videos; their text decides.
        Raises:
            ValueError: no model was trained; `report` trains one if the last method is `bike`.
        """
        return self._fitted.model(also=also)

    def learned(self, *, also: Sequence[str] = ()) -> SavedClassifier | Checkpoint:
        """Return `model` if the last method trains one, otherwise `classifier`."""
        return self.model(also=also) if self.trains_model else self.classifier(also=also)

    @property
    def _fitted(self) -> Fitting:
        if self._fitting is None:
            raise ValueError("the videos have not been read; iterate over read() first")
        return self._fitting
