"""What a command does while it works: videos are read under a bar on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bike_cli.cli.terminal.console import display, plain, say, someone_watches, stderr

if TYPE_CHECKING:
    from bike_cli.tasks.fewshot.study import Study


def watched(study: Study, *, quiet: bool) -> Iterator[tuple[int, int, object]]:
    """Read the videos with a progress bar on a terminal; report failures as they occur."""
    console = stderr(quiet=quiet or not someone_watches())
    with display(console), console.status(plain("reading videos")) as status:
        for done, total, failure in study.read():
            status.update(plain(f"reading videos: {done:,}/{total:,}"))
            if failure is not None and not quiet:
                say(failure.message, level="warning")
            yield done, total, failure
