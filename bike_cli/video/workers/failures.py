"""How the end of a worker, or a limit that it exceeded, is reported."""

from __future__ import annotations

import signal

from bike_cli.errors import WorkerError
from bike_cli.records import Failure, Source


def timed_out(source: Source, limit_s: float, *, work: str, remedy: str) -> Failure:
    """Return the failure of a source that took longer than the time limit.

    Args:
        work: what took longer: "to decode".
        remedy: what to do, in addition to raising the limit.
    """
    problem = f"takes longer than {limit_s:g} s {work}; raise --decode-timeout, or {remedy}"
    return Failure(source, "timeout", f"{source.id}: {problem}", limit_s)


def out_of_memory(source: Source, limit_mib: int, *, remedy: str) -> Failure:
    """Return the failure of a source that needed more than the limit of memory.

    Args:
        remedy: what to do, in addition to raising the limit.
    """
    problem = f"needs more than {limit_mib} MiB to decode; raise --decode-memory, or {remedy}"
    return Failure(source, "out_of_memory", f"{source.id}: {problem}")


def crashed(source: Source, end: str) -> Failure:
    """Return the failure of a source whose worker died.

    Args:
        end: how the worker ended.
    """
    return Failure(source, "crashed", f"{source.id}: crashes the decoder ({end}); repair or convert the file")


def failed_internally(source: Source, error: str) -> Failure:
    """Return the failure of a source for which a worker raised an error that it should not raise."""
    problem = f"cannot be read because of a bug in bike ({error}); please report it"
    return Failure(source, "internal", f"{source.id}: {problem}")


def describe_error(error: BaseException) -> str:
    """Return an error with its type: `KeyError: 'width'`."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def describe_exit(code: int | None) -> str:
    """Return how a process ended: `signal SIGSEGV`, `exit code 3`."""
    try:
        return f"signal {signal.Signals(-(code or 0)).name}"
    except ValueError:
        return f"exit code {code}"


def no_workers(reason: str) -> WorkerError:
    """Return the error if no worker can decode anything."""
    return WorkerError(f"decode workers: cannot decode any video ({reason}); run `bike doctor`, or reinstall bike")


def no_room(reason: str) -> WorkerError:
    """Return the error if frames cannot be passed from a worker to this process."""
    return WorkerError(f"temporary folder: has no room for video frames ({reason}); free some space, or set TMPDIR")
