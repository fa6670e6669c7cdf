"""`python -m bike_cli`, and the console script `bike`."""

from __future__ import annotations

import gc
import signal

from bike_cli.video.workers.descriptors import reserve_standard_descriptors


def run() -> None:
    """Run the command line."""
    reserve_standard_descriptors()
    _end_silently_when_interrupted()
    from bike_cli.cli.app import app

    try:
        app(prog_name="bike")
    finally:
        # At exit, the interpreter traverses all objects several times, which takes seconds once torch is loaded.
        gc.freeze()


def _end_silently_when_interrupted() -> None:
    """Let Ctrl-C end the process without a traceback while there is nothing to clean up yet."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    run()
