"""One check of `bike doctor`, run in a process of its own: what it touches may raise, crash or hang.

Nothing is imported before it is asked for. `main` runs the probe that its arguments name, and prints each set of facts
as one line of JSON as soon as it is known: what was printed before a hang or a crash counts. Whatever a library prints
goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

Facts = Mapping[str, object]

ERROR, COMPLETE = "exception", "complete"  # keys of what a probe prints last: why it ended, or that nothing is missing
SELF_TEST_CLIP = "clips/red_circle_moving_left.mp4"
SELF_TEST_LABELS = ("red circle", "blue star", "green square", "yellow triangle")
SELF_TEST_ANSWER = "red circle"


def main(arguments: list[str]) -> None:
    """Run the probe that the first argument names, with the second as its keyword arguments in JSON."""
    name, keywords = arguments
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(facts: Facts) -> None:
        out.write(json.dumps(facts) + "\n")
        out.flush()

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        send({ERROR: {"type": kind.__name__, "message": str(error)}})

    sys.excepthook = report
    for facts in PROBES[name](**json.loads(keywords)):
        send(facts)
    send({COMPLETE: True})  # a library that crashes as the process ends takes nothing away from its facts


def self_test_clip() -> Path | None:
    """Return the example clip that comes with bike: in the installed package, or in the checkout around it."""
    package = Path(__file__).parents[2]
    places = (package / "examples" / SELF_TEST_CLIP, package.parent / "examples" / SELF_TEST_CLIP)
    return next((place for place in places if place.is_file()), None)


def _torch() -> Iterator[Facts]:
    from bike_cli.engine.doctor_facts import describe_devices, describe_torch

    yield describe_torch()
    yield describe_devices()


def _hub(patience_s: float) -> Iterator[Facts]:
    from bike_cli.engine.doctor_facts import describe_hub

    yield describe_hub(patience_s)


def _cache(folder: str | None) -> Iterator[Facts]:
    from bike_cli.engine.doctor_facts import describe_cache

    yield describe_cache(folder)


def _temporary_folder() -> Iterator[Facts]:
    from bike_cli.engine.doctor_facts import describe_temporary_folder

    yield describe_temporary_folder()


def _av() -> Iterator[Facts]:
    from bike_cli.video.doctor_facts import describe_av

    yield describe_av()


def _decord() -> Iterator[Facts]:
    from bike_cli.video.doctor_facts import describe_decord

    yield describe_decord()


def _images() -> Iterator[Facts]:
    from bike_cli.video.doctor_facts import describe_images

    yield describe_images()


def _workers(workers: int | None) -> Iterator[Facts]:
    from bike_cli.video.doctor_facts import describe_workers

    yield describe_workers(workers)


def _self_test(settings: dict[str, object]) -> Iterator[Facts]:
    """Describe the models, and classify the example clip with the bundled one, through worker processes.

    Both import open_clip, which takes seconds.

    Args:
        settings: device, precision, decoder, workers and limits that are in force, by field name.
    """
    start_s = time.perf_counter()
    from bike_cli.engine.doctor_facts import describe_models

    yield describe_models()
    clip = self_test_clip()
    if clip is None:
        yield {"error": f"examples/{SELF_TEST_CLIP}: is missing from this installation"}
        return
    from bike_cli.config import ClassifyConfig
    from bike_cli.engine.engine import load_configured
    from bike_cli.records import Failure
    from bike_cli.settings import build
    from bike_cli.tasks.classify import classify
    from bike_cli.video.workers.pool import DecodePool

    config = build(ClassifyConfig, {**settings, "model": "tiny", "offline": True, "cache": False})
    with DecodePool(config.sampling, config.decoding, most=1) as pool:
        engine = load_configured(config.engine)
        loaded_s = time.perf_counter()
        answer = next(classify(engine, [clip], SELF_TEST_LABELS, config, pool=pool))
    seconds = {"load_s": loaded_s - start_s, "classify_s": time.perf_counter() - loaded_s}
    if isinstance(answer, Failure):
        yield {"error": answer.message, **seconds}
    else:
        yield {"label": answer.best.label, "score": answer.best.score, "expected": SELF_TEST_ANSWER, **seconds}


PROBES: Mapping[str, Callable[..., Iterator[Facts]]] = {
    "torch": _torch,
    "hub": _hub,
    "cache": _cache,
    "temporary_folder": _temporary_folder,
    "av": _av,
    "decord": _decord,
    "images": _images,
    "workers": _workers,
    "self_test": _self_test,
}
