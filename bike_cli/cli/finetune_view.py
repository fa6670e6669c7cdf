"""What one sees of a training: a live table on stderr, results on stdout."""

from __future__ import annotations

import json
import logging
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from bike_cli.cli.classify.summary import rate
from bike_cli.cli.terminal.console import plain

if TYPE_CHECKING:
    from bike_cli.tasks.finetune.events import TensorBoardLog
    from bike_cli.tasks.finetune.rehearsal import Rehearsal
    from bike_cli.tasks.finetune.validation import Validation
    from bike_cli.tasks.finetune.video_branch import Step

logger = logging.getLogger(__name__)

SEEN = 20  # steps that a rate is the mean of
ROWS = 8  # validations that are shown
NAMES = {"top1": "top-1", "top5": "top-5", "macro": "macro", "map": "mAP"}


class View:
    """A training as it goes.

    Args:
        events: where TensorBoard's events go; None: nowhere.
        done: steps that were done before.
    """

    def __init__(self, console: Console, *, events: Path | None = None, done: int = 0) -> None:
        self._steps: deque[Step] = deque(maxlen=SEEN)
        self._validations: list[Validation] = []
        self._last: dict[str, Step] = {}
        self._failures = 0
        self.is_stopping = False
        self._live = Live(console=console, refresh_per_second=4, transient=False, get_renderable=self._shown)
        self._events: TensorBoardLog | None = None
        if events is not None:
            from bike_cli.tasks.finetune.events import TensorBoardLog

            self._events = TensorBoardLog(events, done=done)

    def __enter__(self) -> View:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)
        if self._events is not None:
            self._events.close()

    def add(self, record: Step | Validation) -> None:
        """Show a record."""
        from bike_cli.tasks.finetune.video_branch import Step

        if not isinstance(record, Step):
            self._validations.append(record)
            metrics = ", ".join(f"{NAMES.get(name, name)} {value:.4f}" for name, value in record.metrics.items())
            logger.info("epoch %d, %s: %s on %d videos", record.epoch, record.what, metrics, record.videos)
            for name, value in record.metrics.items():
                self._tell(f"{record.what}/{name}", value, record.epoch)
            return
        self._steps.append(record)
        self._last[record.branch] = record
        self._failures += record.failures
        self._tell(f"{record.branch}/loss", record.loss, record.step)
        self._tell(f"{record.branch}/rate", record.rate, record.step)

    def _tell(self, tag: str, value: float, step: int) -> None:
        if self._events is not None:
            self._events.add_scalar(tag, value, step)

    def _shown(self) -> Group:
        # In a thread of its own, beside `add`.
        tables = [*([self._now()] if self._last else []), *([self._before()] if self._validations else [])]
        note = plain("stopping after this step, with a checkpoint; a second time stops at once", "yellow")
        return Group(*tables, *([note] if self.is_stopping else []))

    def _now(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for column in ("Branch", "Epoch", "Step", "Loss", "Rate", "Videos", "Waiting", "Left", "Memory", "Failed"):
            table.add_column(column, justify="left" if column == "Branch" else "right", no_wrap=True)
        for branch, step in list(self._last.items()):
            recent = [one for one in list(self._steps) if one.branch == branch] or [step]
            seconds = sum(one.seconds for one in recent)
            speed = sum(one.videos for one in recent) / seconds if seconds else 0.0
            waiting = sum(one.waited_s for one in recent) / seconds if seconds else 0.0
            table.add_row(
                branch,
                str(step.epoch),
                f"{step.step:,}/{step.steps:,}",
                f"{step.loss:.4f}",
                f"{step.rate:.2g}",
                rate(speed) if speed else "",
                f"{waiting:.0%}" if speed else "",
                _duration((step.steps - step.step) * seconds / len(recent)),
                f"{step.memory_mib:,} MiB" if step.memory_mib else "",
                f"{self._failures:,}" if self._failures else "",
            )
        return table

    def _before(self) -> Table:
        table = Table(box=None, pad_edge=False)
        names = list(self._validations[-1].metrics)
        for column in ("Validated", "Epoch", *(NAMES[name] for name in names)):
            table.add_column(column, justify="left" if column == "Validated" else "right")
        for one in self._validations[-ROWS:]:
            shown = [f"{100 * one.metrics[name]:.1f} %" for name in names]
            table.add_row(one.what, str(one.epoch), *shown, style="bold" if one.is_best else "")
        return table


def print_rehearsal(rehearsal: Rehearsal) -> None:
    """Print what a dry run found, on stdout."""
    table = Table(box=None, pad_edge=False, show_header=False)
    waits = "decoding" if rehearsal.load_s > rehearsal.step_s else "the model"
    rows = {
        "Videos": f"{rehearsal.train:,} to learn from, {rehearsal.val:,} to validate on",
        "Batch": f"{rehearsal.batch_size:,} videos" + (f" in {rehearsal.parts} parts" if rehearsal.parts > 1 else ""),
        "Steps": f"{rehearsal.steps:,}",
        "A step": f"{rehearsal.step_s:.2f} s; its videos take {rehearsal.load_s:.2f} s to decode",
        "In all": f"about {_duration(3600 * rehearsal.hours)}, bound by {waits}; validation comes on top",
        "Memory": f"{rehearsal.memory_mib:,} MiB of the device" if rehearsal.memory_mib else "the device does not tell",
        "Disk": f"{rehearsal.disk_mib:,} MiB",
    }
    if rehearsal.failures:
        rows["Failed"] = f"{rehearsal.failures:,} of the batch"
    for name, text in rows.items():
        table.add_row(name, plain(text))
    Console(highlight=False).print(table)


def print_results(folder: Path) -> None:
    """Print what a complete run came to, on stdout."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    rows = {"before": report.get("start"), "fine-tuned": report.get("metrics"), "wise-ft": report.get("wise_ft")}
    rows |= {"attributes": report.get("attributes"), "fused": report.get("fused")}
    found = {name: metrics for name, metrics in rows.items() if metrics}
    table = Table(title=None, box=None, pad_edge=False)
    names = list(next(iter(found.values()), {}))
    for column in (f"On {report['val'] - report.get('unread', 0):,} videos", *(NAMES[name] for name in names)):
        table.add_column(column, justify="left" if column.startswith("On ") else "right")
    for row, metrics in found.items():
        label = f"{row}, epoch {report['epoch']}" if row == "fine-tuned" else row
        label = f"fused, {100 * report['attribute_weight']:.0f} % attributes" if row == "fused" else label
        table.add_row(label, *(f"{100 * metrics[name]:.1f} %" for name in names))
    Console(highlight=False).print(table)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
