"""The console: safe text, messages and progress on stderr, errors and exit codes."""

from __future__ import annotations

import errno
import os
import sys
import threading
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TextIO

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from bike_cli.cli.terminal.logs import logs_on_stderr
from bike_cli.cli.terminal.signals import handling, interrupt_after_imports, unhandled_signals
from bike_cli.engine.download.progress import reporting_to
from bike_cli.errors import NO_ROOM, BikeError, ExitCode, ModelError, UsageError

NARROWEST_TABLE = 72  # columns; narrower tables would cut digits off
DUMB = ("dumb", "unknown")  # names of terminals that know no escape codes

_displays: list[Console] = []  # consoles with a live display, the innermost last

_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def safe(text: str) -> str:
    """Return `text` with all control characters escaped, such as `\\x1b` and `\\u202e`."""
    return "".join(_escaped(c) if _is_control(c) else c for c in text)


def plain(text: str, style: str = "") -> Text:
    """Return untrusted text as Rich text, without markup or escape codes."""
    return Text(safe(text), style=style)


def cautioned(text: str) -> Text:
    """Return a caution; only its first word is coloured, since yellow is hard to read on a light background."""
    return Text.assemble(("caution: ", "yellow"), plain(text))


def can_style() -> bool:
    """Return whether text may have escape codes of colour, bold and the like.

    https://no-color.org speaks of colour alone, but users set NO_COLOR to get text that they can paste and search.
    """
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "").lower() not in DUMB


def colours() -> Literal["auto"] | None:
    """Return the colours of a console, as Rich names them; None leaves out all escape codes of text."""
    return "auto" if can_style() else None


def stdout(file: TextIO | None = None) -> Console:
    """Return a console on stdout, or on another file."""
    return Console(file=file, highlight=False, color_system=colours())


def stderr(*, quiet: bool = False) -> Console:
    """Return a console on stderr; a terminal gets lines that break at spaces, anything else gets whole lines."""
    is_file = not stderr_is_tty()
    return Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=is_file, color_system=colours())


def print_usage(message: str, *, quiet: bool = False) -> None:
    """Print a message with a command to copy on stderr, as one line; a terminal that wraps it copies it as one."""
    stderr(quiet=quiet).print(plain(message, "dim"), soft_wrap=True)


def stderr_is_tty() -> bool:
    """Return whether stderr is a terminal, which can show progress."""
    return sys.stderr is not None and sys.stderr.isatty()


def can_animate() -> bool:
    """Return whether stderr is a terminal that can erase what it shows."""
    return stderr_is_tty() and not stderr().is_dumb_terminal


def check_stdout(what: str, *, way_out: str) -> None:
    """Raise UsageError if stdout is closed, so that `what` cannot be printed."""
    if sys.stdout is None:
        raise UsageError(f"stdout: is closed, so the {what} has nowhere to go; {way_out}")


def print_config(text: str) -> None:
    """Print a configuration in the form that `--config` reads."""
    check_stdout("configuration", way_out="redirect it to a file")
    typer.echo(text, nl=False)


def notice(message: str, *, level: str) -> None:
    """Print `level: message` on stderr, above any live display; as one line unless a terminal is too narrow."""
    colour = {"error": "bold red", "warning": "yellow"}.get(level, "dim")
    console = _displays[-1] if _displays else stderr()
    line = Text.assemble((f"{level}: ", colour), plain(message))
    console.print(line, soft_wrap=not stderr_is_tty(), highlight=False)  # FORCE_COLOR makes no terminal


def notice_error(error: BikeError) -> None:
    """Print an error on stderr: one line, and an indented line for each detail."""
    if not isinstance(error, ModelError):
        notice(str(error), level="error")
        return
    notice(str(error.args[0]), level="error")
    for detail in error.details:
        stderr().print(plain(f"  {detail}"))


def print_table(console: Console, *parts: RenderableType) -> None:
    """Print on a console; only a terminal gets the padding at the ends of lines."""
    if console.file.isatty():  # FORCE_COLOR makes no terminal
        console.print(*parts)
        return
    with console.capture() as captured:
        console.print(*parts)
    console.file.write("\n".join(line.rstrip(" ") for line in captured.get().split("\n")))


def rate(per_s: float) -> str:
    """Return videos per second, with two or three significant digits."""
    return f"{per_s:,.0f}/s" if per_s >= 100 else f"{per_s:.1f}/s" if per_s >= 1 else f"{per_s:.2f}/s"


def duration(seconds: float) -> str:
    """Return a duration for people, such as "68 s", "12 min" or "2 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


@contextmanager
def display(console: Console) -> Iterator[Console]:
    """Print messages through `console` while it has a live display, which other consoles would garble."""
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
    """Turn errors into one line on stderr and an exit code, and log records into lines; bugs keep their traceback.

    Ctrl-C prints "interrupted", followed by the arguments of the KeyboardInterrupt, which say what was kept.

    Args:
        quiet: hide warnings, and the line of Ctrl-C.
        verbose: 1 shows log records of level INFO, 2 also those of level DEBUG.
    """
    if quiet and verbose:
        notice("--quiet: cannot be combined with --verbose; give one of them", level="error")
        raise typer.Exit(ExitCode.USAGE)
    with logs_on_stderr(notice, quiet=quiet, verbose=verbose), _errors_as_exit_codes(quiet=quiet):
        yield


@contextmanager
def _errors_as_exit_codes(*, quiet: bool) -> Iterator[None]:
    # SIGTERM and the like end a run as Ctrl-C does, with all clean-up.
    interrupted = threading.Event()
    try:
        with handling(unhandled_signals(), interrupt_after_imports(interrupted.set)), _Unmasking(interrupted):
            yield
    except BikeError as e:
        notice_error(e)
        raise typer.Exit(e.exit_code) from e
    except KeyboardInterrupt as e:
        if not quiet and is_first_process():
            stderr().print(plain("; ".join(["interrupted", *map(str, e.args)])))
        raise typer.Exit(ExitCode.INTERRUPTED) from e
    except BrokenPipeError as e:
        # The reader has closed the pipe. Without this, Python would report it again when it closes stdout.
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitCode.PIPE_CLOSED) from e
    except OSError as e:
        if e.errno == errno.ENAMETOOLONG:  # any argument that was tried as a file name
            notice(f"{str(e.filename)[:60]}…: is too long for a file name; give an existing file", level="error")
            raise typer.Exit(ExitCode.USAGE) from e
        if e.errno not in NO_ROOM:
            raise
        notice(
            f"cannot write the output ({e.strerror}); free some space, and run it again, or continue with --resume",
            level="error",
        )
        raise typer.Exit(ExitCode.USAGE) from e


class _Unmasking:
    """Raises KeyboardInterrupt in place of an error that extension modules, such as torch, turned it into."""

    def __init__(self, interrupted: threading.Event) -> None:
        self._interrupted = interrupted

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not self._interrupted.is_set() or not isinstance(error, Exception) or isinstance(error, typer.Exit):
            return
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, KeyboardInterrupt):
                return  # an error while the interrupt was handled
            cause = cause.__context__
        raise KeyboardInterrupt from error


def is_first_process() -> bool:
    """Return whether this is the first, or the only one, of the processes that torchrun starts."""
    return os.environ.get("RANK", "0") == "0"


def _is_control(character: str) -> bool:
    # Joiners are kept: emoji and several scripts need them.
    return character in _DIRECTION or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def download_aliases(models: Iterable[str | None], *, offline: bool, quiet: bool) -> None:
    """Download missing weights of short model names, with progress; see `download_missing`."""
    from bike_cli.cli.terminal.downloads import Downloads
    from bike_cli.engine.models.aliases import download_missing

    with reporting_to(Downloads(quiet=quiet or not is_first_process())):
        download_missing(models, offline=offline)


@contextmanager
def loading(what: str, *, quiet: bool) -> Iterator[None]:
    """Show a spinner on a terminal while something is loaded, and the progress of its download."""
    from bike_cli.cli.terminal.downloads import Downloads

    console = stderr(quiet=quiet or not can_animate())
    with (
        display(console),
        console.status(plain(f"loading {what}")) as status,
        reporting_to(Downloads(quiet=quiet, status=None if console.quiet else status)),
    ):
        yield
