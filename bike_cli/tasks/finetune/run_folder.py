"""The folder of a fine-tuning run: one run at a time writes it, and a run that ended anywhere can go on."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from bike_cli.engine.models.folder import CONFIG_FILE, WEIGHTS_FILE
from bike_cli.engine.models.weights import read_json
from bike_cli.errors import ModelError, UsageError, shorten
from bike_cli.inference.processes import Processes
from bike_cli.locks import acquire_lock
from bike_cli.settings import dump
from bike_cli.tasks.finetune.snapshots import Snapshot, last_snapshot, snapshots_in, write_snapshot

METRICS, REPORT, CONFIG, CHECKPOINTS, LOCK = "metrics.jsonl", "report.json", "config.yaml", "checkpoints", ".lock"
FINE_TUNED, LABELS = "fine_tuned", "labels.txt"
UNFINISHED = ".unfinished-"  # what is being written, and becomes visible when it is whole
OURS = {
    METRICS,
    REPORT,
    CONFIG,
    CHECKPOINTS,
    LOCK,
    FINE_TUNED,
    LABELS,
    CONFIG_FILE,
    WEIGHTS_FILE,
    "training.png",
    "tensorboard",
}
MIB = 2**20


ANEW = "begin in another folder"


class RunFolder:
    """What lies on disk of a run; only the first of several processes writes.

    Args:
        resume: go on with what is there; otherwise the folder must hold no run.
    Raises:
        UsageError: a file, a folder of something else, of a run that is not to be resumed, or of one under way.
    """

    def __init__(self, path: Path, by: Processes, *, resume: bool) -> None:
        self.path, self._by, self._resume = path, by, resume
        self._log: IO[str] | None = None
        self._logged = 0
        self._lock: FileLock | None = None
        if by.is_first:
            self._check()
            self._take()
        self.is_complete = by.from_first(resume and (path / REPORT).is_file())

    def check_room(self, needed: int) -> None:
        """Raise UsageError where the disk has fewer bytes free than are going to be written."""
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise UsageError(
                f"{self.path}: its disk has {free // MIB:,} MiB free, and a run needs {needed // MIB:,}; "
                "make room, or choose another folder"
            )

    def snapshot(self, settings: Mapping[str, object]) -> Snapshot | None:
        """Return where the run stands; None where it begins.

        Raises:
            UsageError: it was begun with other settings, data or weights.
            ModelError: none of its checkpoints is whole, or the report of a complete run.
        """
        if self.is_complete:
            self._check_same(read_json(self.path / REPORT).get("settings"), settings)
            return None
        found = last_snapshot(self.path / CHECKPOINTS) if self._resume else None
        if found is None:
            return None
        self._check_same(found.state.get("settings"), settings)
        self._logged = _check_state(found.state, self.path / CHECKPOINTS)
        return found

    def _check_same(self, before: object, settings: Mapping[str, object]) -> None:
        now = json.loads(json.dumps(settings))
        if not isinstance(before, dict):
            raise ModelError(f"{self.path}: its run does not say with what settings it was begun; {ANEW}")
        for name in now:
            if before.get(name) != now[name]:
                was, is_now = _short(before.get(name)), _short(now[name])
                raise UsageError(
                    f"{self.path}: its run was begun with {name} {was}, and this one's is {is_now}; go on with the "
                    "same, or begin in another folder"
                )

    def begin(self, config: object, labels: Sequence[str]) -> None:
        """Write what is asked for, and let the log end where the run stands; a complete run stays as it is."""
        if self.is_complete:
            return
        with self._writing():
            for left in [*self.path.glob(f"{UNFINISHED}*"), *(self.path / CHECKPOINTS).glob(f"{UNFINISHED}*")]:
                shutil.rmtree(left)  # of a run that was killed while it wrote
            (self.path / CONFIG).write_text(dump(config), encoding="utf-8")
            (self.path / LABELS).write_text("\n".join(labels) + "\n", encoding="utf-8")
            file = self.path / METRICS
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
            file.write_text("".join(lines[: self._logged]), encoding="utf-8")
            self._logged = min(self._logged, len(lines))

    def save(self, step: int, snapshot: Snapshot) -> None:
        """Write where the run stands."""
        state = {**snapshot.state, "logged": self._logged}
        write_snapshot(self.path / CHECKPOINTS, step, Snapshot(state, snapshot.tensors))

    def log(self, record: object) -> None:
        """Add a record to the log."""
        if not self._by.is_first or not is_dataclass(record) or isinstance(record, type):
            return
        values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(record).items()}
        with self._writing():
            if self._log is None:
                self._log = (self.path / METRICS).open("a", encoding="utf-8")
            self._log.write(json.dumps({"kind": type(record).__name__.lower(), **values}) + "\n")
            self._log.flush()
        self._logged += 1

    def finish(self, report: Mapping[str, object]) -> None:
        """Write what it came to; where it stood is of no use any more."""
        if not self._by.is_first:
            return
        with self._writing(), tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=self.path) as unfinished:
            whole = Path(unfinished, REPORT)
            whole.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            whole.replace(self.path / REPORT)
        shutil.rmtree(self.path / CHECKPOINTS, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let others write the folder."""
        if self._log is not None:
            self._log.close()
        if self._lock is not None:
            self._lock.release()
        self._log = self._lock = None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            fact = f"{e.filename or self.path}: cannot be written ({e.strerror})"
            raise UsageError(f"{fact}; fix that, and go on with --resume auto") from e

    def _check(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path}: is a file, and a run is a folder; choose another name")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            there = {entry.name for entry in self.path.iterdir() if not entry.name.startswith(UNFINISHED)}
        except OSError as e:
            raise UsageError(f"{self.path}: cannot be made a folder ({e.strerror}); choose another name") from e
        strange = sorted(there - OURS)
        if strange:
            raise UsageError(f"{self.path}: holds {strange[0]!r}, which is no run's; choose a new folder")
        if (self.path / REPORT).exists() and not self._resume:
            raise UsageError(f"{self.path}: holds a complete run; choose a new folder, or remove it")
        if snapshots_in(self.path / CHECKPOINTS) and not self._resume:
            raise UsageError(f"{self.path}: holds an unfinished run; go on with --resume auto, or choose a new folder")
        if not self._resume and (self.path / WEIGHTS_FILE).exists():
            raise UsageError(f"{self.path}: holds a model; choose a new folder")

    def _take(self) -> None:
        try:
            self._lock = acquire_lock(self.path / LOCK, timeout_s=0)
        except Timeout as e:
            raise UsageError(f"{self.path}: another run is writing it; wait for that, or choose a new folder") from e
        except OSError as e:
            raise UsageError(f"{self.path}: cannot be written ({e.strerror}); choose a folder that is yours") from e


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _check_state(state: Mapping[str, object], where: Path) -> int:
    """Check the counts of a checkpoint, which a damaged file may lack; return the lines that its log has.

    Raises:
        ModelError: it names what is missing or of another type.
    """
    for name in ("epoch", "batch", "failures", "logged", "since_best"):
        value = state.get(name)
        if type(value) is not int or value < 0:
            shown = shorten(repr(value), 60)
            raise ModelError(f"{where}: {name} of its last checkpoint is {shown}, not a whole number; {ANEW}")
    for name in ("best", "scaler"):
        if not isinstance(state.get(name), dict):
            raise ModelError(f"{where}: {name} of its last checkpoint is not an object; {ANEW}")
    logged = state["logged"]
    assert isinstance(logged, int)
    return logged
