"""Few-shot learning in one call, and saving what was learned."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bike_cli.config import FewshotConfig
from bike_cli.data.labelled.train_sets import TrainSet, read_labelled
from bike_cli.engine.engine import Engine
from bike_cli.engine.heads.saved_classifier import SavedClassifier, save_classifier
from bike_cli.engine.models.folder import save_folder
from bike_cli.engine.models.parts import Checkpoint
from bike_cli.settings import build
from bike_cli.tasks.fewshot.report import Report
from bike_cli.tasks.fewshot.study import Study
from bike_cli.video.workers.pool import DecodePool

LABELS_FILE = "labels.txt"  # in the folder of a saved model


@dataclass(frozen=True, eq=False)
class FewshotResult:
    """The result of few-shot learning.

    Args:
        report: accuracies on the test videos, and the videos that could not be read.
        learned: what the last method learned from the first draw with the most shots: a classifier, or, with the
            method `bike`, a model.
    """

    report: Report
    learned: SavedClassifier | Checkpoint

    @property
    def classifier(self) -> SavedClassifier:
        """The classifier, for `classify(..., saved=classifier)`.

        Raises:
            ValueError: the last method is `bike`, which trains a model.
        """
        if not isinstance(self.learned, SavedClassifier):
            raise ValueError("the method bike trains a model, not a classifier; save it, and load the folder")
        return self.learned

    def save(self, path: str | Path) -> None:
        """Write what was learned, as `--save` does: a classifier file, or, with the method `bike`, a model folder.

        Raises:
            OSError: a path that cannot be written.
        """
        save_learned(self.learned, Path(path))


def fewshot(
    engine: Engine,
    data: TrainSet | str | Path,
    config: FewshotConfig | None = None,
    *,
    test: str | Path | None = None,
    also: Sequence[str] = (),
    pool: DecodePool | None = None,
) -> FewshotResult:
    """Learn classes from a few labelled videos each, and measure the accuracy on the test videos.

        result = bike.fewshot(bike.load("tiny"), "examples/motions", bike.FewshotConfig(shots="8"))
        print(result.report.summary("probe", 8).top1.value)
        result.save("motions.bike")

    Args:
        data: class folders, a CSV file (`path,label`) or annotations; or the set that `read_labelled` returns.
        config: None: the defaults, with the settings that the model was trained with. Its `engine` section is
            ignored.
        test: videos to test on, in the same form as `data`.
        also: labels without videos to add to what is learned; they are recognised by their text.
        pool: a running pool that was made with the sampling and decoding of the config; it keeps running. None: the
            call starts a pool and stops it.
    Raises:
        UsageError: malformed data, settings that do not suit them, or too few videos of a class that can be read. A
            video that cannot be read is in `report.failures` instead.
    """
    if config is None:
        config = FewshotConfig() if engine.training is None else build(FewshotConfig, engine.training.settings)
    labelled = data
    if not isinstance(labelled, TrainSet):
        labelled = read_labelled(str(labelled), test=None if test is None else Path(test))
    elif test is not None:
        raise TypeError("test needs data to be a path; a TrainSet has its own test side")
    with ExitStack() as stack:
        if pool is None:
            most = len(labelled.train) + len(labelled.test or ())
            pool = stack.enter_context(DecodePool(config.sampling, config.decoding, most=most))
        study = Study(engine, labelled, config, pool)
        study.check_also(also)
        for _ in study.read():
            pass
        report = study.report()
        return FewshotResult(report, study.learned(also=also))


def save_learned(learned: SavedClassifier | Checkpoint, path: Path) -> None:
    """Write a classifier as a file, or a model as a folder with its labels in `labels.txt`."""
    if isinstance(learned, SavedClassifier):
        save_classifier(learned, path)
        return
    save_folder(path, learned)
    if learned.training is not None:
        labels = "\n".join([*learned.training.labels, *learned.training.also])
        (path / LABELS_FILE).write_text(labels + "\n", encoding="utf-8")
