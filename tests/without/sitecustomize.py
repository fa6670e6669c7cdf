"""Take away what other platforms lack, by name in WITHOUT, from this process and from all of its workers.

Python imports this module at its start where this folder is on PYTHONPATH.
"""

import builtins
import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping


def _hide(module: str) -> None:
    """Let imports of a module fail in bike; libraries have other ways of their own on each platform."""
    find = builtins.__import__

    def hidden(name: str, globals: Mapping[str, object] | None = None, *rest: object, **named: object) -> object:  # noqa: A002
        if name.partition(".")[0] == module and str((globals or {}).get("__name__")).startswith("bike_cli"):
            raise ImportError(f"{module} is switched off")
        return find(name, globals, *rest, **named)  # type: ignore[arg-type]

    builtins.__import__ = hidden  # type: ignore[assignment]


def _signals() -> None:
    for name in ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGALRM"):
        delattr(signal, name)


SWITCHES: dict[str, Callable[[], None]] = {
    "forkserver": lambda: setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"]),
    "memfd": lambda: delattr(os, "memfd_create"),
    "fcntl": lambda: _hide("fcntl"),
    "pyarrow": lambda: _hide("pyarrow"),
    "resource": lambda: _hide("resource"),
    "sigmask": lambda: delattr(signal, "pthread_sigmask"),
    "affinity": lambda: delattr(os, "sched_getaffinity"),
    "signals": _signals,
}

for name in filter(None, os.environ.get("WITHOUT", "").split(",")):
    SWITCHES[name]()
