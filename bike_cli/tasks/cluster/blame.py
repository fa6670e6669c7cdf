"""What is said about videos and machines when actors end."""

from __future__ import annotations

from bike_cli.errors import WorkerError, first_line
from bike_cli.records import Failure, Source

BLAMED_IN_A_ROW = 5  # videos, before the machines are blamed


def internal_failure(source: Source, reason: str) -> Failure:
    """Return the failure of a video that bike cannot process."""
    problem = f"cannot be processed because of a bug in bike ({reason})"
    return Failure(source, "internal", f"{source.id}: {problem}; please report it")


def crash_failure(source: Source) -> Failure:
    """Return the failure of a video that ends its actors."""
    problem = "kills the process of the model each time"
    return Failure(source, "crashed", f"{source.id}: {problem}; repair or convert the file, or leave it out")


def error_for_all(last: Source, reason: str, *, is_bug: bool) -> WorkerError:
    """Return the error for actors that die of every video."""
    videos = f"{BLAMED_IN_A_ROW} videos in a row, the last of them {last.id}"
    if is_bug:
        return WorkerError(f"--ray: bike fails by a bug on {videos} ({reason}); please report it")
    return WorkerError(
        f"--ray: actors ended with {videos}, and answered none in between ({reason}); their machines probably lack "
        "memory for the work: use a smaller model, fewer --workers, or more --ray-cpus, so that fewer actors share a "
        "machine; if these videos are the cause, leave them out"
    )


def reason_of(error: BaseException) -> str:
    """Return why an actor ended, in a few words; the last line of a traceback that Ray passes on."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return f"{type(cause).__name__}: {first_line(cause)}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200].rstrip(".")
