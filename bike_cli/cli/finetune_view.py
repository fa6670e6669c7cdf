"""The live table of a training run on stderr, and its results on stdout."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from bike_cli.cli.terminal.console import cautioned, duration, plain, print_table, rate, stdout
from bike_cli.tasks.evaluate.metrics import TOP
from bike_cli.wording import FEW_VIDEOS, METRIC_NAMES, caution, count

if TYPE_CHECKING:
    from bike_cli.tasks.finetune.events import TensorBoardLog
    from bike_cli.tasks.finetune.rehearsal import Rehearsal
    from bike_cli.tasks.finetune.validation import Validation
    from bike_cli.tasks.finetune.video_branch import Step

logger = logging.getLogger(__name__)

RECENT = 20  # steps that the speed is averaged over
LEAST_IMPORTANT = ("Memory", "Rate", "Waiting", "Failed", "Speed", "Left")  # hidden in this order on a narrow terminal
ROWS = 8  # validations that are shown


class View:
    """The progress of a training run.

    Args:
        events: folder for TensorBoard's event files; None: none are written.
        done: steps that were completed before, by a run that is resumed.
    """

    def __init__(self, console: Console, *, events: Path | None = None, done: int = 0) -> None:
        self._steps: deque[Step] = deque(maxlen=RECENT)
        self._validations: list[Validation] = []
        self._last: dict[str, Step] = {}
        self.failures = 0
        self.steps: tuple[int, int] | None = None  # done, and of the whole run
        self.is_stopping = False
        self._live = Live(console=console, refresh_per_second=4, transient=False, get_renderable=self._render)
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
        """Show a step or a validation."""
        from bike_cli.tasks.finetune.video_branch import Step

        if not isinstance(record, Step):
            self._validations.append(record)
            metrics = ", ".join(f"{METRIC_NAMES[name]} {value:.4f}" for name, value in record.metrics.items())
            videos = count(record.videos, "video")
            logger.info("epoch %d, %s: %s on %s", record.epoch, record.what, metrics, videos)
            for name, value in record.metrics.items():
                self._add_scalar(f"{record.what}/{name}", value, record.epoch)
            return
        self._steps.append(record)
        self._last[record.branch] = record
        self.failures += record.failures
        self.steps = record.step, record.steps
        self._add_scalar(f"{record.branch}/loss", record.loss, record.step)
        self._add_scalar(f"{record.branch}/rate", record.rate, record.step)

    def _add_scalar(self, tag: str, value: float, step: int) -> None:
        if self._events is not None:
            self._events.add_scalar(tag, value, step)

    def _render(self) -> Group:
        # Called by Live's own thread, at the same time as `add`.
        progress = [self._progress_table()] if self._last else []
        validations = [self._validation_table()] if self._validations else []
        note = plain("stopping after this step, with a checkpoint; a second signal stops at once")
        return Group(*progress, *validations, *([note] if self.is_stopping else []))

    def _progress_table(self) -> Table:
        console = self._live.console
        unlimited = console.options.update(max_width=10 * console.width)  # measures are cut to this width
        tables = (self._progress_columns(LEAST_IMPORTANT[:hidden]) for hidden in range(len(LEAST_IMPORTANT) + 1))
        for table in tables:
            if console.measure(table, options=unlimited).maximum <= console.width:
                break
        return table

    def _progress_columns(self, hidden: Sequence[str]) -> Table:
        table = Table(box=None, pad_edge=False)
        rows = [self._progress_row(branch, last) for branch, last in list(self._last.items())]
        shown = [column for column in rows[0] if column not in hidden]
        for column in shown:
            table.add_column(column, justify="left" if column == "Branch" else "right", no_wrap=True)
        for row in rows:
            table.add_row(*(row[column] for column in shown))
        return table

    def _progress_row(self, branch: str, last: Step) -> dict[str, str]:
        """Return the cells of a branch, by column."""
        recent = [step for step in list(self._steps) if step.branch == branch] or [last]
        seconds = sum(step.seconds for step in recent)
        speed = sum(step.videos for step in recent) / seconds if seconds else 0.0
        waiting = sum(step.waited_s for step in recent) / seconds if seconds else 0.0
        return {
            "Branch": branch,
            "Epoch": str(last.epoch),
            "Step": f"{last.step:,}/{last.steps:,}",
            "Loss": f"{last.loss:.4f}",
            "Rate": f"{last.rate:.2g}",
            "Speed": rate(speed) if speed else "",
            "Waiting": f"{100 * waiting:.0f} %" if speed else "",
            "Left": duration((last.steps - last.step) * seconds / len(recent)),
            "Memory": f"{last.memory_mib:,} MiB" if last.memory_mib else "",
            "Failed": f"{self.failures:,}" if self.failures else "",
        }

    def _validation_table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        names = list(self._validations[-1].metrics)
        for column in ("Validated", "Epoch", *(METRIC_NAMES[name] for name in names)):
            table.add_column(column, justify="left" if column == "Validated" else "right")
        for validation in self._validations[-ROWS:]:
            metrics = [f"{100 * validation.metrics[name]:.1f} %" for name in names]
            style = "bold" if validation.is_best else ""
            table.add_row(validation.what, str(validation.epoch), *metrics, style=style)
        return table


def print_rehearsal(rehearsal: Rehearsal) -> None:
    """Print the result of a dry run on stdout."""
    table = Table(box=None, pad_edge=False, show_header=False)
    limit = "decoding" if rehearsal.load_s > rehearsal.step_s else "the model"
    rows = {
        "Videos": f"{rehearsal.train:,} for training, {rehearsal.val:,} for validation",
        "Batch": count(rehearsal.batch_size, "video") + (f" in {rehearsal.parts} parts" if rehearsal.parts > 1 else ""),
        "Steps": f"{rehearsal.steps:,}",
        "Per step": f"{rehearsal.step_s:.2f} s, and {rehearsal.load_s:.2f} s to decode its videos",
        "Total": f"about {duration(3600 * rehearsal.hours)}, limited by {limit}; validation takes extra time",
        "Memory": f"{rehearsal.memory_mib:,} MiB on the device" if rehearsal.memory_mib else "unknown on this device",
        "Disk": f"{rehearsal.disk_mib:,} MiB",
    }
    if rehearsal.failures:
        rows["Failed"] = f"{rehearsal.failures:,} of the batch"
    for name, text in rows.items():
        table.add_row(name, plain(text))
    print_table(stdout(), table)


def print_results(folder: Path) -> None:
    """Print the results of a complete run on stdout."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    rows = {
        "before": report.get("start"),
        f"fine-tuned, epoch {report.get('epoch')}": report.get("metrics"),
        "wise-ft": report.get("wise_ft"),
        "attributes": report.get("attributes"),
        f"fused, {100 * report.get('attribute_weight', 0):.0f} % attributes": report.get("fused"),
    }
    rows = {row: metrics for row, metrics in rows.items() if metrics}
    table = Table(title=None, box=None, pad_edge=False)
    # A run that version 0.1 began has top-5 of few classes, which is always 100 %.
    names = [name for name in next(iter(rows.values()), {}) if all(name in metrics for metrics in rows.values())]
    names = [name for name in names if name != "top5" or report.get("classes", TOP) > TOP]
    videos = report["val"] - report.get("unread", 0)
    table.add_column(f"On {count(videos, 'video')}")
    for name in names:
        table.add_column(METRIC_NAMES[name], justify="right")
    for row, metrics in rows.items():
        table.add_row(row, *(f"{100 * metrics[name]:.1f} %" for name in names))
    little = caution(videos, "validation", f"validate on {FEW_VIDEOS} or more (--val, --val-fraction)")
    print_table(stdout(), table, *([] if little is None else [cautioned(little)]))
