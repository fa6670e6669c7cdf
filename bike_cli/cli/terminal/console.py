"""What a person or a pipe sees: the two streams, safe text, errors and exit codes."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

import typer
from rich.console import Console
from rich.text import Text

from bike_cli.cli.terminal.logs import logs_on_stderr
from bike_cli.engine.download.progress import reporting_to
from bike_cli.errors import BikeError, ExitCode, ModelError, UsageError

_Action = Callable[[int, FrameType | None], object] | int | signal.Handlers | None

NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)

_displays: list[Console] = []  # those that show something live, the innermost last

_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def safe(text: str) -> str:
    """Return `text` with everything that could steer a terminal written out: `\\x1b`, `\\u202e`."""
    return "".join(_written_out(c) if _steers(c) else c for c in text)


def plain(text: str, style: str = "") -> Text:
    """Return text from outside as Rich text: never markup, never an escape code."""
    return Text(safe(text), style=style)


def stderr(*, quiet: bool = False) -> Console:
    """Return the console for people, on stderr."""
    return Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)


def stderr_is_tty() -> bool:
    """Return whether stderr is a terminal, on which progress is for people and in nobody's way."""
    return sys.stderr is not None and sys.stderr.isatty()


def check_stdout(what: str, *, way_out: str) -> None:
    """Raise UsageError where stdout is closed, and `what` would be printed to nobody."""
    if sys.stdout is None:
        raise UsageError(f"stdout: is closed, so the {what} has nowhere to go; {way_out}")


def print_config(text: str) -> None:
    """Print a configuration as it goes into a file."""
    check_stdout("configuration", way_out="redirect it to a file")
    typer.echo(text, nl=False)


def notice(message: str, *, level: str) -> None:
    """Write `level: message` on stderr, as one line; above the progress, where some is displayed."""
    colour = {"error": "bold red", "warning": "yellow"}.get(level, "dim")
    console = _displays[-1] if _displays else stderr()
    console.print(Text.assemble((f"{level}: ", colour), plain(message)), soft_wrap=True, highlight=False)


def notice_error(error: BikeError) -> None:
    """Write an error on stderr: one line, and an indented one for each of its details."""
    if not isinstance(error, ModelError):
        notice(str(error), level="error")
        return
    notice(str(error.args[0]), level="error")
    for detail in error.details:
        stderr().print(plain(f"  {detail}"))


@contextmanager
def display(console: Console) -> Iterator[Console]:
    """Print messages through `console` as long as it shows something live: any other console would print into it."""
    if console.quiet or not console.is_terminal:
        yield console
        return
    _displays.append(console)
    try:
        yield console
    finally:
        _displays.remove(console)


@contextmanager
def handle_errors(*, quiet: bool = False, verbose: int = 0) -> Iterator[None]:
    """Turn what goes wrong inside into one line on stderr and an exit code; a bug keeps its traceback.

    Warnings that are logged inside become lines on stderr, too.

    Args:
        quiet: no warnings.
        verbose: 1 adds log records of level INFO, 2 those of level DEBUG.
    """
    if quiet and verbose:
        notice("--quiet: cannot be combined with --verbose; give one of them", level="error")
        raise typer.Exit(ExitCode.USAGE)
    with logs_on_stderr(notice, quiet=quiet, verbose=verbose), _errors_as_exit_codes():
        yield


@contextmanager
def _errors_as_exit_codes() -> Iterator[None]:
    before = _interrupt_when_told_to_end()
    try:
        yield
    except BikeError as e:
        notice_error(e)
        raise typer.Exit(e.exit_code) from e
    except KeyboardInterrupt as e:
        raise typer.Exit(ExitCode.INTERRUPTED) from e
    except BrokenPipeError as e:
        # The reader has seen enough. Python would complain once more when it closes stdout.
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitCode.PIPE_CLOSED) from e
    except OSError as e:
        if e.errno == errno.ENAMETOOLONG:  # of whatever was looked for as a file
            notice(
                f"{str(e.filename)[:60]}…: is too long for the name of a file; name one that is there", level="error"
            )
            raise typer.Exit(ExitCode.USAGE) from e
        if e.errno not in NO_ROOM:
            raise
        notice(
            f"the answers cannot be written ({e.strerror}); make room, and go on with -o and --resume", level="error"
        )
        raise typer.Exit(ExitCode.USAGE) from e
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def stop_signals() -> list[signal.Signals]:
    """Return the signals by which a terminal, a system or a job scheduler asks a run to end."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU", "SIGUSR1", "SIGUSR2")  # Windows has the first two
    return [signal.Signals[name] for name in names if hasattr(signal, name)]


def _interrupt_when_told_to_end() -> dict[signal.Signals, _Action]:
    """Make SIGTERM and its like end a run as Ctrl-C does, nothing left behind; return what they did before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    # Ignored ones stay so: nohup asks for that.
    heard = [number for number in stop_signals() if signal.getsignal(number) is signal.SIG_DFL]
    return {number: signal.signal(number, signal.default_int_handler) for number in heard}


def _steers(character: str) -> bool:
    # Joiners stay: emoji and several scripts are written with them.
    return character in _DIRECTION or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}


def _written_out(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def download_aliases(models: Iterable[str | None], *, offline: bool, quiet: bool) -> None:
    """Download the weights of short names that are not on this disk, and show the progress; see `download_missing`."""
    from bike_cli.cli.terminal.downloads import Downloads
    from bike_cli.engine.models.aliases import download_missing

    is_first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts
    with reporting_to(Downloads(quiet=quiet or not is_first)):
        download_missing(models, offline=offline)


@contextmanager
def loading(model: str, *, quiet: bool) -> Iterator[None]:
    """Show a spinner on a terminal while a model is loaded, and the progress of its download."""
    from bike_cli.cli.terminal.downloads import Downloads

    console = stderr(quiet=quiet or not stderr_is_tty())
    with (
        display(console),
        console.status(plain(f"loading {model}")) as status,
        reporting_to(Downloads(quiet=quiet, status=None if console.quiet else status)),
    ):
        yield
