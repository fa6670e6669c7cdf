"""The wait for the first free GPU."""

import logging
import os
import signal
import threading
import time

import pytest

from bike_cli.tasks.cluster import layout

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_cluster")]


def slow(duration_s: float) -> str:
    time.sleep(duration_s)
    return "done"


def test_a_long_wait_is_reported_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    import ray

    monkeypatch.setattr(layout, "PATIENCE_S", 0.5)
    monkeypatch.setattr(layout, "WAIT_S", 0.1)

    with caplog.at_level(logging.WARNING):
        assert layout._result(ray.remote(slow).options(num_cpus=0).remote(2.0)) == "done"

    assert [record.message.startswith("--ray: no GPU of the cluster has been free") for record in caplog.records] == [
        True
    ]


def test_a_wait_without_end_can_be_interrupted() -> None:
    import ray

    probe = ray.remote(slow).options(num_cpus=0, resources={"nowhere": 1}).remote(0.0)
    interrupt = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    start_s = time.monotonic()

    with pytest.raises(KeyboardInterrupt):
        layout._result(probe)

    assert time.monotonic() - start_s < 4
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(probe, timeout=10)
