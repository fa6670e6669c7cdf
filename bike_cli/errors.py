"""Every error of bike, with its exit code.

Messages have the form `subject: what is wrong; what to do`. Bugs are not BikeErrors: they keep their traceback and
exit with 1.
"""

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import ClassVar, Literal

FailureKind = Literal[
    "missing",
    "not_video",
    "no_picture",
    "unreadable",
    "damaged",
    "timeout",
    "crashed",
    "internal",
    "out_of_memory",
    "unwritable",
]

NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class ExitCode(IntEnum):
    """What a shell sees when bike ends."""

    DONE = 0
    BUG = 1
    USAGE = 2
    SOME_FAILED = 3  # the other inputs have their records
    ALL_FAILED = 4  # or there were no inputs
    NO_MODEL = 5
    PIPE_CLOSED = 141  # the reader of stdout went away (128 + SIGPIPE), as `bike … | head` does
    INTERRUPTED = 130  # 128 + SIGINT, as shells report it; what was written is valid


class BikeError(Exception):
    """Something a user can fix; the message says how.

    Args:
        settings: the names of the settings whose values it refuses. A command then says where they come from, if that
            is not the command line; see `settings.naming_origins`.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.BUG

    def __init__(self, message: str = "", *, settings: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.settings = tuple(settings)

    def __reduce__(self) -> tuple[Callable[..., "BikeError"], tuple[object, ...]]:
        # Exceptions are otherwise rebuilt by `__init__` with the message alone, which fails if it takes more.
        return _rebuilt, (type(self), self.args, dict(self.__dict__))


def _rebuilt(kind: type[BikeError], args: tuple[object, ...], attributes: Mapping[str, object]) -> BikeError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class UsageError(BikeError):
    """A flag, label list, lexicon or template is wrong."""

    exit_code = ExitCode.USAGE


class InputError(UsageError):
    """An input yields no video. As an argument it is a usage error; in a list, only this entry fails.

    Args:
        kind: of the failure in a list; see `VideoError`.
    """

    def __init__(self, message: str, *, kind: FailureKind) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind


class ConfigError(UsageError):
    """A config file, a BIKE_* variable or a value in one is wrong."""


class StoreError(UsageError):
    """The store of features cannot be used: damaged, of another format, not a store of bike, or out of reach."""


class WorkerError(BikeError):
    """Decoding fails for a reason that is not in any video: workers cannot start, or have no room for their clips."""

    exit_code = ExitCode.USAGE


class ModelError(BikeError):
    """A model or its weights are missing, damaged or not supported.

    Args:
        details: further lines, shown below the message.
    """

    exit_code = ExitCode.NO_MODEL

    def __init__(self, message: str, *, details: Sequence[str] = (), settings: Sequence[str] = ()) -> None:
        super().__init__(message, settings=settings)
        self.details = tuple(details)

    def __str__(self) -> str:
        return "\n  ".join((str(self.args[0]), *self.details))


class VideoError(BikeError):
    """One input cannot be turned into frames; it becomes a `Failure`, and the run continues.

    Args:
        kind: `missing` no such file · `not_video` no decoder knows it · `no_picture` no video stream or no frame ·
            `unreadable` the system refuses it · `damaged` decoding stops inside · `timeout` decoding took too long ·
            `crashed` the decoder's process died · `internal` bike itself failed, by a bug ·
            `out_of_memory` decoding took too much memory · `unwritable` what was made of it cannot be written.
    """

    exit_code = ExitCode.SOME_FAILED

    def __init__(self, message: str, *, kind: FailureKind) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind


@contextmanager
def concerning(*settings: str) -> Iterator[None]:
    """Mark errors as refusing the values of these settings, unless they name settings themselves.

    It is a context, and a decorator of functions that take the value of a setting.
    """
    try:
        yield
    except BikeError as e:
        e.settings = e.settings or settings
        raise


def shorten(text: object, length: int = 200) -> str:
    """Return a text for a message, cut to a length; `…` stands for the rest."""
    full = str(text)
    return full if len(full) <= length else f"{full[: length - 1]}…"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return (str(error) or type(error).__name__).strip().split("\n")[0][:200].rstrip(".")


def fix_of_write(error: BaseException) -> str:
    """Return what to do if a file or folder cannot be written."""
    number = error.errno if isinstance(error, OSError) else None
    if number in NO_ROOM:
        return "free some space, or choose a folder on another disk"
    if number in (errno.ENOTDIR, errno.EEXIST):
        return "a part of its path is a file, so choose another name"
    return "choose a shorter name" if number == errno.ENAMETOOLONG else "choose a folder that you may write to"
