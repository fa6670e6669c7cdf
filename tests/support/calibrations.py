"""A calibration to change in one place, for tests."""

from collections.abc import Mapping

import numpy as np

from bike_cli.engine.calibration.calibration import Calibration, Curve

CONDITIONS: Mapping[str, object] = {
    "model": "tiny",
    "fingerprint": "a",
    "precision": "float32",
    "frames": 8,
    "draft": False,
    "pool": "tcs",
    "spot": "eot",
    "temperature": 0.01,
    "template": ("This is {}",),
}


def a_calibration(**changed: object) -> Calibration:
    """Return a calibration of 25 clips, with some fields changed."""
    fields = {
        "labels": ("red square", "blue circle"),
        "conditions": CONDITIONS,
        "values": np.linspace(0.1, 0.4, 25),
        "scale": 1.1,
        "curve": Curve(20.0, -4.0),
        "promise": 0.05,
        "contents": frozenset({"0" * 64, "f" * 64}),
        **changed,
    }
    return Calibration(**fields)  # type: ignore[arg-type]
