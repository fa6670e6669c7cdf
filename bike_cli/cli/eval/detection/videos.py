"""`bike eval --protocol detection` of videos: find segments as `bike spot` does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bike_cli.cli.eval.request import EvalRequest
from bike_cli.cli.session import session, show_reading
from bike_cli.cli.terminal.console import loading
from bike_cli.cli.videos.labels import phrases_of
from bike_cli.config import EvalConfig
from bike_cli.records import Failure, Source, Timeline

if TYPE_CHECKING:
    from bike_cli.data.detection.detection_sets import DetectionSet
    from bike_cli.data.detection.detections import Detections
    from bike_cli.engine.engine import Engine


def find_segments(
    config: EvalConfig, request: EvalRequest, truth: DetectionSet, sources: Sequence[Source]
) -> tuple[list[Detections], Engine]:
    """Return what each system finds in the videos, and the engine of the first one.

    Args:
        sources: the files of the annotated videos, in their order.
    Raises:
        UsageError: labels or settings that `bike spot` refuses.
    """
    models = request.compared.get("model", [config.engine.model])
    none = phrases_of(request.none, request.none_from)
    with session(config, videos=None, quiet=request.quiet) as running:
        engines = running.load_several(models)
        from bike_cli.data.detection.detections import Detections
        from bike_cli.data.labelled.train_sets import label_of
        from bike_cli.tasks.spot import spot

        labels = [label_of(label) for label in truth.labels]  # THUMOS14 writes HighJump
        found: list[Detections] = []
        for name, system in request.systems.items():
            engine = engines[system.engine.model]
            answers: list[Timeline | Failure] = []
            with loading("labels", quiet=request.quiet):
                run = spot(
                    engine,
                    sources,
                    labels,
                    system.spot_config(),
                    none=none.labels,
                    descriptions=none.descriptions,
                    pool=running.pool,
                )
            # Only the first system warns of videos that cannot be read; the others fail on the same.
            reading = _collect(run, answers, total=len(sources))
            show_reading(reading, quiet=request.quiet or bool(found), prints_progress=request.progress)
            found.append(Detections.of_answers(name or engine.name, answers))
        return found, engines[models[0]]


def _collect(
    run: Iterator[Timeline | Failure], answers: list[Timeline | Failure], *, total: int
) -> Iterator[tuple[int, int, Failure | None]]:
    """Add the answers of a run to a list, and yield how many there are, of how many, and the failures."""
    for answer in run:
        answers.append(answer)
        yield len(answers), total, answer if isinstance(answer, Failure) else None
