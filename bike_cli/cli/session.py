"""What a command starts before it works: decode workers, models, and the processes of a launcher."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from bike_cli.cli.terminal.console import (
    can_animate,
    display,
    download_aliases,
    is_first_process,
    loading,
    notice,
    plain,
    stderr,
)
from bike_cli.cli.terminal.progress_lines import ProgressLines
from bike_cli.config import VideoConfig
from bike_cli.errors import concerning
from bike_cli.time_limits import call_interruptibly

if TYPE_CHECKING:
    from bike_cli.engine.engine import Engine
    from bike_cli.inference.processes import ProcessGroup
    from bike_cli.records import Failure
    from bike_cli.video.workers.pool import DecodePool

logger = logging.getLogger(__name__)


class Session:
    """The workers, models and processes of one run; see `session`.

    Args:
        quiet: show no progress; true for all processes but the first.
        decodes: whether this process needs the workers.
    """

    def __init__(
        self, config: VideoConfig, pool: DecodePool, stack: ExitStack, *, quiet: bool, decodes: bool = True
    ) -> None:
        self.pool, self.quiet, self._decodes = pool, quiet, decodes
        self._config, self._stack, self._has_started = config, stack, False

    def start(self, models: Sequence[str | None]) -> None:
        """Download models that are missing, start the workers, and import torch while they start."""
        if not self._has_started:
            # Without a network this fails at once, before torch is imported.
            with concerning("model", "attribute_model"):
                download_aliases(models, offline=self._config.engine.offline, quiet=self.quiet)
            if self._decodes:
                self.pool.warm_up()
            with loading(", ".join(name for name in models if name), quiet=self.quiet or not is_first_process()):
                _import_libraries()
            self._has_started = True

    def load(self) -> Engine:
        """Load the model of the configuration in this process alone."""
        self.start([self._config.engine.model, self._config.attributes.attribute_model])
        with loading(self._config.engine.model, quiet=self.quiet):
            from bike_cli.engine.engine import load_configured

            return load_configured(self._config.engine)

    def load_several(self, models: Sequence[str]) -> dict[str, Engine]:
        """Load models in this process alone; return them by name."""
        self.start(models)
        with loading(", ".join(models), quiet=self.quiet):
            from bike_cli.engine.engine import load_configured

            return {name: load_configured(replace(self._config.engine, model=name)) for name in models}

    def load_in_each_process(self, models: Sequence[str]) -> tuple[dict[str, Engine], ProcessGroup]:
        """Load models in every process that a launcher started, and connect the processes until the session ends."""
        self.start(models)
        from bike_cli.inference.processes import group_from_env, joined_process_group, load_on_own_device

        processes = group_from_env()
        self.quiet = self.quiet or not processes.is_first
        with loading(", ".join(models), quiet=self.quiet):
            engines = {name: load_on_own_device(replace(self._config.engine, model=name), processes) for name in models}
        device = engines[models[0]].encoder.placement.device
        self._stack.enter_context(joined_process_group(processes, device))
        return engines, processes


@contextmanager
def session(config: VideoConfig, *, videos: int | None, quiet: bool, decodes: bool = True) -> Iterator[Session]:
    """Run decode workers, and yield what loads the models.

    Args:
        videos: how many there are; more workers would have nothing to do. None: not known.
        decodes: whether this process needs the workers; False: they start when they get work.
    """
    from bike_cli.video.workers.pool import DecodePool

    with DecodePool(config.sampling, config.decoding, most=videos) as pool, ExitStack() as stack:
        yield Session(config, pool, stack, quiet=quiet, decodes=decodes)


def _import_libraries() -> None:
    """Import what computes, which takes seconds the first time, and log how long it took."""

    def load() -> None:
        import bike_cli.engine.engine  # noqa: F401

    start_s = time.perf_counter()
    call_interruptibly(load)
    logger.info("torch and open_clip: imported in %.2f s", time.perf_counter() - start_s)


def show_reading(
    reading: Iterator[tuple[int, int, Failure | None]], *, quiet: bool, prints_progress: bool = False
) -> int:
    """Read labelled videos with a status line on a terminal; report failures as they occur, return their number.

    Args:
        reading: yields the number of videos that were read, of all videos, and a failure, if any.
        quiet: show nothing.
        prints_progress: print lines of progress where stderr is no terminal.
    """
    console, failed = stderr(quiet=quiet or not can_animate()), 0
    lines = ProgressLines("video", wanted=prints_progress and not quiet)
    with display(console), console.status(plain("reading videos")) as status, lines:
        for done, total, failure in reading:
            status.update(plain(f"reading videos: {done:,}/{total:,}"))
            failed += failure is not None
            lines.update(done, total=total, failed=failed)
            if failure is not None and not quiet:
                notice(failure.message, level="warning")
    return failed
