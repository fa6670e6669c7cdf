"""`python -m bike_cli`, and the console script `bike`."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from types import FrameType

from bike_cli.video.workers.descriptors import reserve_standard_descriptors


def run() -> None:
    """Run the command line."""
    reserve_standard_descriptors()
    ending = _QuickEnd()
    atexit.register(ending.end)  # the first to be registered is the last to run
    is_default = _take_interrupts()
    from bike_cli.cli.app import app

    if is_default:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        app(prog_name="bike")
    except SystemExit as exit_request:
        ending.code = exit_request.code
        raise


class _QuickEnd:
    """Ends the process once all exit handlers have run, without freeing each object.

    The interpreter traverses all objects several times, which takes a second once torch is loaded, and some libraries
    print what they have leaked.

    Attributes:
        code: what the process exits with; None, or not a number, if the interpreter is to end the process as it would.
    """

    def __init__(self) -> None:
        self.code: object = None

    def end(self) -> None:
        """Write what is buffered, and end."""
        if not isinstance(self.code, int):
            return
        try:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        except (OSError, ValueError):  # full, or closed: the interpreter reports it
            return
        os._exit(self.code)


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
