"""`python -m bike_cli`, and the console script `bike`."""

from __future__ import annotations

import gc
import os
import signal
from types import FrameType

from bike_cli.video.workers.descriptors import reserve_standard_descriptors


def run() -> None:
    """Run the command line."""
    reserve_standard_descriptors()
    is_default = _take_interrupts()
    from bike_cli.cli.app import app

    if is_default:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        app(prog_name="bike")
    finally:
        # At exit, the interpreter traverses all objects several times, which takes seconds once torch is loaded.
        gc.freeze()


def _take_interrupts() -> bool:
    """Let Ctrl-C end the process with a line instead of a traceback while there is nothing to clean up yet.

    Returns whether Ctrl-C was not ignored; nohup and shells ask for that.
    """
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_default:
        signal.signal(signal.SIGINT, _end_by_interrupt)
    return is_default


def _end_by_interrupt(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)  # a shell sees that the signal ended the process, and ends its loop


if __name__ == "__main__":
    run()
