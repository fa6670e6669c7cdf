"""Imported by the fork server, once for all workers that it forks. Not imported anywhere else."""

from __future__ import annotations

import atexit
import os
import sys
from multiprocessing import forkserver
from pathlib import Path
from types import TracebackType

import pebble.pool.process  # noqa: F401 - runs in each worker

from bike_cli import scratch
from bike_cli.video.workers import processes, stream_worker, worker  # noqa: F401 - likewise


def _remove_folder(server: int) -> None:
    """Remove the folder of the socket if the program that created it was killed."""
    address = forkserver._forkserver._forkserver_address  # type: ignore[attr-defined]
    folder = Path(address or "").parent
    if os.getpid() == server and folder.name.startswith(scratch.PREFIX):
        scratch.remove_if_abandoned(folder, timeout_s=1)


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error, unless the main program was killed while it started a worker."""
    if not issubclass(kind, (EOFError, BrokenPipeError, ConnectionError)):
        sys.__excepthook__(kind, error, trace)


atexit.register(_remove_folder, os.getpid())
sys.excepthook = _report
