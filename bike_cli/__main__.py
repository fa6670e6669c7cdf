"""`python -m bike_cli`, and the console script `bike`."""

from __future__ import annotations

import atexit
import os
import signal
import sys

from bike_cli.cli.terminal.signals import end_by_interrupt
from bike_cli.video.workers.descriptors import reserve_standard_descriptors


def run() -> None:
    """Run the command line."""
    reserve_standard_descriptors()
    ending = _QuickEnd()
    atexit.register(ending.end)  # the first to be registered is the last to run
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # nohup and shells may ask to ignore it
        signal.signal(signal.SIGINT, end_by_interrupt)
    from bike_cli.cli.app import app

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


if __name__ == "__main__":
    run()
