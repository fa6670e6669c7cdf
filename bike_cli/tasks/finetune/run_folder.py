"""The folder of a fine-tuning run. One run at a time writes it, and a run that was killed can be resumed."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from filelock import FileLock, Timeout

from bike_cli.config import FinetuneConfig
from bike_cli.config.finetune import RUN_CONFIG
from bike_cli.engine.download.hub import HubSource
from bike_cli.engine.models.folder import CONFIG_FILE, WEIGHTS_FILE
from bike_cli.engine.models.json_files import read_json
from bike_cli.errors import ModelError, UsageError, shorten
from bike_cli.inference.processes import ProcessGroup
from bike_cli.locks import acquire_lock
from bike_cli.settings import dump
from bike_cli.tasks.finetune.snapshots import (
    UNFINISHED,
    JsonValue,
    RunResults,
    RunSettings,
    Snapshot,
    last_snapshot,
    snapshots_in,
    write_snapshot,
)

if TYPE_CHECKING:
    from bike_cli.tasks.finetune.validation import Validation
    from bike_cli.tasks.finetune.video_branch import Step

METRICS, REPORT, CHECKPOINTS, LOCK = "metrics.jsonl", "report.json", "checkpoints", ".lock"
FINE_TUNED, LABELS = "fine_tuned", "labels.txt"
OURS = {
    *(METRICS, REPORT, RUN_CONFIG, CHECKPOINTS, LOCK, FINE_TUNED, LABELS, CONFIG_FILE, WEIGHTS_FILE),
    *("training.png", "tensorboard"),
}
MIB = 2**20


@dataclass(frozen=True)
class RunReport:
    """What `report.json` says about a complete run."""

    metric: str  # the metric that decides which model is the best
    results: RunResults
    train: int  # training videos
    val: int  # validation videos
    unread: int  # validation videos that cannot be read
    failures: int  # how many times a video could not be read
    classes: int
    settings: RunSettings
    versions: Mapping[str, str | None]  # of bike and the packages that it uses; None: not installed
    seconds: float  # that the run took
    source: HubSource | None = None  # where the weights that training started from were downloaded; None: not recorded

    def to_json(self) -> dict[str, JsonValue]:
        """Return the values by name; those of the results are at the top level, too."""
        values = vars(self).copy()
        del values["results"]
        values["source"] = None if self.source is None else asdict(self.source)
        return {"metric": values.pop("metric"), **self.results.to_json(), **values}

    @classmethod
    def read(cls, folder: Path) -> RunReport:
        """Return the report of a complete run; raise ModelError if it cannot be read."""
        values = read_json(folder / REPORT)
        of_report, of_results = ({f.name for f in fields(kind)} & values.keys() for kind in (cls, RunResults))
        results = RunResults(**{name: values[name] for name in of_results})  # type: ignore[arg-type]
        report = {name: values[name] for name in of_report}
        try:
            if report.get("source") is not None:
                report["source"] = HubSource(**report["source"])  # type: ignore[arg-type]
            return cls(results=results, **report)  # type: ignore[arg-type]
        except TypeError as e:
            raise ModelError(f"{folder / REPORT}: is not complete ({e}); start over in another folder") from e
        except ValueError as e:
            raise ModelError(f"{folder / REPORT}: source.{e}; start over in another folder") from e


class RunFolder:
    """The files of a run; only the first of several processes writes them. The folder is locked until `close`.

    Args:
        resume: continue the run in the folder, if there is one; otherwise the folder must not contain a run.
        dry_run: check everything, but create and change nothing.
    Raises:
        UsageError: the path is a file, or a folder with other content, with a run that is not to be resumed, or with
            a run that is under way.
    """

    def __init__(self, path: Path, group: ProcessGroup, *, resume: bool, dry_run: bool = False) -> None:
        self.path, self._group, self._resume, self._dry_run = path, group, resume, dry_run
        self._log: IO[str] | None = None
        self._logged = 0
        self._lock: FileLock | None = None
        if group.is_first:
            self._check_content()
            if not dry_run or (path / LOCK).exists():  # a run that is under way has a lock file
                self._acquire_lock()
        self.is_complete = group.broadcast(resume and (path / REPORT).is_file())

    def check_disk_space(self, needed: int) -> None:
        """Raise UsageError if the disk has fewer free bytes than are needed."""
        free = shutil.disk_usage(_nearest_existing(self.path)).free
        if free < needed:
            raise UsageError(
                f"{self.path}: the disk has {free // MIB:,} MiB free, but the run needs {needed // MIB:,}; "
                "free some space, or choose another folder"
            )

    def begin(self, config: FinetuneConfig, labels: Sequence[str], settings: RunSettings) -> Snapshot | None:
        """Return the checkpoint to continue from, None at the start of a run, and write the configuration.

        Every process must call this at the same time. A complete run is left as it is, and so is any in a dry run.

        Args:
            settings: what must be the same as when the run was started.
        Raises:
            UsageError: settings, data or weights differ.
            ModelError: all checkpoints are damaged, or the report of a complete run is.
        """
        snapshot = None
        if self._group.is_first:
            snapshot = self._last_snapshot(settings)
            if not self.is_complete and not self._dry_run:
                self._write_start(config, labels)
        return self._group.broadcast(snapshot)

    def _last_snapshot(self, settings: RunSettings) -> Snapshot | None:
        if self.is_complete:
            self._check_same(read_json(self.path / REPORT).get("settings"), settings)
            return None
        snapshot = last_snapshot(self.path / CHECKPOINTS) if self._resume else None
        if snapshot is not None:
            self._check_same(snapshot.state.settings, settings)
            self._logged = snapshot.state.logged
        return snapshot

    def _check_same(self, before: object, settings: RunSettings) -> None:
        now = json.loads(json.dumps(settings))
        if not isinstance(before, dict):
            raise ModelError(f"{self.path / REPORT}: lacks the settings of the run; start over in another folder")
        for name in now:
            if before.get(name) != now[name]:
                old, new = (shorten(json.dumps(each.get(name), ensure_ascii=False), 60) for each in (before, now))
                raise UsageError(
                    f"{self.path}: the run was started with {name} {old}, and {name} is now {new}; use the same, or "
                    "start over in another folder",
                    settings=(name,),
                )

    def _write_start(self, config: FinetuneConfig, labels: Sequence[str]) -> None:
        with self._errors_named():
            for left in [*self.path.glob(f"{UNFINISHED}*"), *(self.path / CHECKPOINTS).glob(f"{UNFINISHED}*")]:
                shutil.rmtree(left)  # of a run that was killed while writing
            (self.path / RUN_CONFIG).write_text(dump(config), encoding="utf-8")
            (self.path / LABELS).write_text("\n".join(labels) + "\n", encoding="utf-8")
            # Lines of steps after the checkpoint are dropped: these steps are done again.
            file = self.path / METRICS
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
            file.write_text("".join(lines[: self._logged]), encoding="utf-8")
            self._logged = min(self._logged, len(lines))

    def save(self, step: int, snapshot: Snapshot) -> None:
        """Write a checkpoint."""
        if self._group.is_first:
            state = replace(snapshot.state, logged=self._logged)
            write_snapshot(self.path / CHECKPOINTS, step, replace(snapshot, state=state))

    def log(self, record: Step | Validation) -> None:
        """Append a record to the log."""
        if not self._group.is_first:
            return
        values = asdict(record)
        values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        with self._errors_named():
            if self._log is None:
                self._log = (self.path / METRICS).open("a", encoding="utf-8")
            self._log.write(json.dumps({"kind": record.kind, **values}) + "\n")
            self._log.flush()
        self._logged += 1

    def finish(self, report: RunReport) -> None:
        """Write the report, remove the checkpoints, and close the folder."""
        if not self._group.is_first:
            return
        with self._errors_named(), tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=self.path) as unfinished:
            written = Path(unfinished, REPORT)
            written.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
            written.replace(self.path / REPORT)
        shutil.rmtree(self.path / CHECKPOINTS, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Release the lock."""
        if self._log is not None:
            self._log.close()
        if self._lock is not None:
            self._lock.release()
        self._log = self._lock = None

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            file = e.filename or self.path
            raise UsageError(f"{file}: cannot be written ({e.strerror}); fix that, and continue with --resume") from e

    def _check_content(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path}: is a file, but a run needs a folder; choose another name")
        try:
            if self._dry_run:
                _check_writable(_nearest_existing(self.path))
            else:
                self.path.mkdir(parents=True, exist_ok=True)
            entries = self.path.iterdir() if self.path.exists() else ()
            names = {entry.name for entry in entries if not entry.name.startswith(UNFINISHED)}
        except OSError as e:
            raise UsageError(f"{self.path}: cannot be created ({e.strerror}); choose another name") from e
        unknown = sorted(names - OURS)
        if unknown:
            raise UsageError(f"{self.path}: contains {unknown[0]!r}, which is not part of a run; choose a new folder")
        if self._resume:
            return
        if REPORT in names:
            raise UsageError(f"{self.path}: contains a complete run; choose a new folder, or remove it")
        if snapshots_in(self.path / CHECKPOINTS):
            raise UsageError(
                f"{self.path}: contains an unfinished run; continue it with --resume, or choose a new folder"
            )
        if WEIGHTS_FILE in names:
            raise UsageError(f"{self.path}: contains a model; choose a new folder")

    def _acquire_lock(self) -> None:
        try:
            self._lock = acquire_lock(self.path / LOCK, timeout_s=0)
        except Timeout as e:
            raise UsageError(f"{self.path}: another run is using it; wait until it ends, or choose a new folder") from e
        except OSError as e:
            raise UsageError(
                f"{self.path}: cannot be written ({e.strerror}); choose a folder that you can write to"
            ) from e


def _nearest_existing(path: Path) -> Path:
    """Return the path, or the nearest of its parents that exists."""
    return next(each for each in (path, *path.parents) if each.exists())


def _check_writable(folder: Path) -> None:
    """Raise the OSError that creating a file in the folder would raise, as far as its permissions tell."""
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
