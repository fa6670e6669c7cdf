"""Run bike with a small model of our own where every connection and every look-up of a host ends the process."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
from small_models import register

from bike_cli.__main__ import run


def forbid(event: str, arguments: tuple[object, ...]) -> None:
    # Workers are reached through sockets in the file system, whose addresses are paths.
    if event == "socket.getaddrinfo" or (event == "socket.connect" and isinstance(arguments[1], tuple)):
        os.write(2, f"NETWORK {event} {arguments[1:]}\n".encode())
        os._exit(99)


if __name__ == "__main__":
    register(pytest.MonkeyPatch())
    sys.addaudithook(forbid)
    run()
