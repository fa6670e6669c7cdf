"""Log records as single lines on stderr: warnings always, more with `-v` and `-vv`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

from bike_cli.cli.terminal.secrets import mask

LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)  # for no -v, -v and -vv
OURS, HUB = "bike_cli", "huggingface_hub"
PYTHON_WARNINGS = "py.warnings"
# They log every chunk of a PNG file and every font at DEBUG.
VERBOSE_LIBRARIES = ("PIL", "matplotlib")
# Warns that it builds a cache, which takes seconds on the first run; nothing is wrong.
FONTS = "matplotlib.font_manager"


class Write(Protocol):
    """Prints a message as one line."""

    def __call__(self, message: str, *, level: str) -> None:
        """Print `level: message`."""


@contextmanager
def logs_on_stderr(write: Write, *, quiet: bool, verbose: int) -> Iterator[None]:
    """Print log records of bike and of libraries as lines, from the level that the flags ask for.

    Levels and handlers are restored afterwards.

    Args:
        quiet: print critical records only.
        verbose: 1 prints INFO, 2 and more DEBUG; Python warnings then become lines, too.
    """
    level = logging.CRITICAL if quiet else LEVELS[min(verbose, len(LEVELS) - 1)]
    root, ours = logging.getLogger(), logging.getLogger(OURS)
    # Libraries log through the root logger. While it has a handler, `logging.info()` does not install Python's default
    # handler there, which would print the records of bike a second time.
    handlers = {ours: _Lines(write, level), root: _OtherLines(write, level)}
    for logger, handler in handlers.items():
        logger.addHandler(handler)
    try:
        with _without_handlers(logging.getLogger(HUB)), _lowered(level) if verbose and not quiet else nullcontext():
            yield
    finally:
        for logger, handler in handlers.items():
            logger.removeHandler(handler)


@contextmanager
def _lowered(level: int) -> Iterator[None]:
    """Let loggers pass records from this level on, and route Python warnings through logging."""
    levels = dict.fromkeys(("", OURS, HUB), level)
    levels |= {name: max(level, logging.INFO) for name in VERBOSE_LIBRARIES}
    before = {name: logging.getLogger(name).level for name in levels}
    for name, lowered in levels.items():
        logging.getLogger(name).setLevel(lowered)
    # huggingface_hub sets its level again when it is imported.
    given = os.environ.get("HF_HUB_VERBOSITY")
    os.environ["HF_HUB_VERBOSITY"] = given or logging.getLevelName(level).lower()
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        if given is None:
            os.environ.pop("HF_HUB_VERBOSITY", None)
        for name, original in before.items():
            logging.getLogger(name).setLevel(original)


class _Lines(logging.Handler):
    def __init__(self, write: Write, level: int) -> None:
        super().__init__(level)
        self._write = write
        self._is_detailed = level <= logging.DEBUG
        self._warnings: set[str] = set()  # each is shown once

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if record.levelno == logging.WARNING:
                text = _text(record)
                if text in self._warnings:
                    return
                self._warnings.add(text)
            self._write(self._line(record), level=_level_name(record.levelno))
        except (ValueError, TypeError, OSError):  # arguments that do not fit the message, a closed stderr
            self.handleError(record)

    def _line(self, record: logging.LogRecord) -> str:
        text = mask(_text(record))
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            text = f"{text} ({type(error).__name__}: {error})"
        if not self._is_detailed:
            return f"{self._origin(record)}{text}"
        return f"[{record.relativeCreated / 1000:.2f} s, {record.name}] {text}"

    def _origin(self, record: logging.LogRecord) -> str:
        rank = os.environ.get("RANK")  # set by torchrun
        return "" if rank is None else f"process {rank}: "


class _OtherLines(_Lines):
    def emit(self, record: logging.LogRecord) -> None:
        is_progress = record.name == FONTS and record.levelno <= logging.WARNING and not self._is_detailed
        if record.name.split(".")[0] != OURS and not is_progress and not _is_shown_elsewhere(record.name):
            super().emit(record)

    def _origin(self, record: logging.LogRecord) -> str:
        if record.name == PYTHON_WARNINGS:
            return super()._origin(record)
        # open_clip logs through the root logger.
        name = Path(record.pathname).parent.name if record.name == "root" else record.name.split(".")[0]
        return f"{super()._origin(record)}{name}: "


def _is_shown_elsewhere(name: str) -> bool:
    """Return whether a library prints its records itself."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None and logger.parent is not None:
        if any(type(handler) is logging.StreamHandler for handler in logger.handlers):  # not one that writes to a file
            return True
        logger = logger.parent
    return False


@contextmanager
def _without_handlers(logger: logging.Logger) -> Iterator[None]:
    """Keep a library from printing its records itself, which would break progress bars and show passwords in URLs.

    huggingface_hub adds its handler when it is imported, which may be before or after this.
    """
    before = list(logger.handlers)
    logger.handlers.clear()
    logger.addHandler = before.append  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del logger.addHandler
        logger.handlers.extend(before)


def _text(record: logging.LogRecord) -> str:
    message = record.getMessage()
    if record.name == PYTHON_WARNINGS:  # "file:line: category: text", and the line of source below
        return message.strip().split("\n")[0]
    return message


def _level_name(level: int) -> str:
    if level >= logging.ERROR:
        return "error"
    return "warning" if level >= logging.WARNING else "info" if level >= logging.INFO else "debug"
