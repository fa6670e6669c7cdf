"""Run one probe of `bike doctor` in a separate process, because it may raise, crash or hang.

`main` runs the probe named by its arguments. It prints each set of facts as one line of JSON as soon as it is known, so
that facts survive a later hang or crash. Only the probes that need a library import it; its output goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bike_cli.engine import doctor_facts as engine_facts
from bike_cli.video import doctor_facts as video_facts

Facts = Mapping[str, Any]  # JSON values

ERROR, COMPLETE = "exception", "complete"  # keys of the last line: why the probe failed, or that it is complete
SELF_TEST_CLIP = "clips/red_circle_moving_left.mp4"
SELF_TEST_LABELS = ("red circle", "blue star", "green square", "yellow triangle")
SELF_TEST_ANSWER = "red circle"
PROBES: Mapping[str, Sequence[Callable[..., Facts]]] = {  # `self_test` is below
    "torch": (engine_facts.describe_torch, engine_facts.describe_devices),
    "hub": (engine_facts.describe_hub,),
    "cache": (engine_facts.describe_cache,),
    "temporary_folder": (engine_facts.describe_temporary_folder,),
    "av": (video_facts.describe_av,),
    "decord": (video_facts.describe_decord,),
    "images": (video_facts.describe_images,),
    "workers": (video_facts.describe_workers,),
}


def main(arguments: list[str]) -> None:
    """Run the probe named by the first argument; the second contains its keyword arguments as JSON."""
    name, keywords = arguments[0], json.loads(arguments[1])
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(facts: Facts) -> None:
        out.write(json.dumps(facts) + "\n")
        out.flush()

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        send({ERROR: {"type": kind.__name__, "message": str(error)}})

    sys.excepthook = report
    if name == "self_test":
        for facts in _self_test(**keywords):
            send(facts)
    else:
        for describe in PROBES[name]:
            send(describe(**keywords))
    send({COMPLETE: True})  # a library may still crash when the process ends


def self_test_clip() -> Path | None:
    """Return the path of the example clip in the installed package or in the checkout; None if it is missing."""
    package = Path(__file__).parents[2]
    paths = (package / "examples" / SELF_TEST_CLIP, package.parent / "examples" / SELF_TEST_CLIP)
    return next((path for path in paths if path.is_file()), None)


def _self_test(settings: dict[str, object]) -> Iterator[Facts]:
    """Describe the models, and classify the example clip with the bundled one through worker processes.

    One probe does both, because importing open_clip takes seconds. The settings are configured ones, by field name.
    """
    start_s = time.perf_counter()
    yield engine_facts.describe_models()
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
