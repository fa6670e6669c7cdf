"""Signals that stop a run, and imports that Ctrl-C cannot leave half done."""

from __future__ import annotations

import _thread
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from bike_cli.time_limits import call_interruptibly

_IMPORTING = "<frozen importlib._bootstrap>"
_RETRY_S = 0.02


def stop_signals() -> list[signal.Signals]:
    """Return the signals with which a terminal, a system or a job scheduler stops a run."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU", "SIGUSR1", "SIGUSR2")  # Windows has the first two
    return [signal.Signals[name] for name in names if hasattr(signal, name)]


@contextmanager
def handling(
    signals: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], object] | signal.Handlers
) -> Iterator[None]:
    """Handle signals, and restore their previous handlers at the end."""
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def unhandled_signals() -> list[signal.Signals]:
    """Return the signals that stop a run and would end the process at once; ignored ones, as with nohup, are not."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [number for number in stop_signals() if signal.getsignal(number) in {signal.SIG_DFL, end_by_interrupt}]


def end_by_interrupt(number: int, frame: FrameType | None) -> None:
    """End the process with a line instead of a traceback; a handler for the time in which there is nothing to keep."""
    os.write(2, b"interrupted\n")
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)  # a shell sees that the signal ended the process, and ends its loop


def interrupt_after_imports(before: Callable[[], object] = lambda: None) -> Callable[[int, FrameType | None], None]:
    """Return a handler that calls `before` and raises KeyboardInterrupt, in the middle of an import once that is done.

    In the middle of an import, the exception can be printed and lost, or come out as an ImportError: extension modules
    such as NumPy's turn any exception into one.
    """
    around = _imports(inspect.currentframe())
    waiting: list[int] = []  # signals that are sent again; impatient people press Ctrl-C several times

    def interrupt(number: int, frame: FrameType | None) -> None:
        if _imports(frame) <= around:
            before()
            raise KeyboardInterrupt
        if not waiting:
            waiting.append(number)
            again = threading.Timer(_RETRY_S, send_again)
            again.daemon = True
            again.start()

    def send_again() -> None:
        _send_to_main_thread(waiting.pop())

    return interrupt


def import_torch() -> None:
    """Import torch, which takes seconds, so that Ctrl-C ends the run at once."""

    def load() -> None:
        import bike_cli.inference.processes  # noqa: F401 - a small module that imports it

    call_interruptibly(load)


def _send_to_main_thread(number: int) -> None:
    if sys.platform == "win32":
        _thread.interrupt_main(number)
    else:  # this also wakes a thread that waits
        signal.pthread_kill(threading.main_thread().ident or 0, number)


def _imports(frame: FrameType | None) -> int:
    """Return how many imports a stack of calls is in."""
    frames = 0
    while frame is not None:
        frames += frame.f_code.co_filename == _IMPORTING
        frame = frame.f_back
    return frames
