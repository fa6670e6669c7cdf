"""The folder of -o: records in Parquet files, to which any number of runs and shards add."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from bike_cli.cli.videos.differences import Given
from bike_cli.cli.videos.existing import ExistingRecords, RecordCheck
from bike_cli.cli.videos.part_locks import done_file, lock_retries, lock_shard, remove_done_files
from bike_cli.cli.videos.retries import RETRIED
from bike_cli.cli.videos.summary import Tally
from bike_cli.data.parts.folder import FORMAT, RUN_FILE, PartFolder, is_retry_part
from bike_cli.data.parts.names import digest_of_path
from bike_cli.data.parts.tables import Found, as_parquet, as_table, read_found, read_records, read_table
from bike_cli.data.parts.writer import PartWriter, TableMaker
from bike_cli.data.shards import Shard
from bike_cli.errors import ExitCode, UsageError
from bike_cli.json_text import JsonObject
from bike_cli.versions import __version__

SHARED = ("format", "command", "settings", "model", "model_digest", "precision")  # keys that runs must share

logger = logging.getLogger(__name__)


class FolderFormat(RecordCheck, Protocol):
    """Knows what the records of a folder have in common."""

    @property
    def settings(self) -> str:
        """Stands for the labels and all settings that scores depend on."""

    @property
    def given(self) -> Given:
        """The labels and settings themselves."""


@dataclass
class PartOutput(ExistingRecords):
    """The records of a folder, and what this run adds to them.

    Args:
        folder: where they are.
        wanted: what this run writes.
        command: the command that writes.
        as_object: turns a record into JSON; None: `as_table` takes records as they are.
        shard: the part of the videos that this run processes.
        facts: more that all records have in common.
        as_table: returns a table of records and facts.
    """

    folder: PartFolder = field(kw_only=True)
    wanted: FolderFormat = field(kw_only=True)
    command: str = field(kw_only=True)
    as_object: Callable[[Any], JsonObject] | None = field(kw_only=True)
    shard: Shard | None = field(kw_only=True)
    facts: JsonObject = field(default_factory=dict, kw_only=True)
    as_table: TableMaker = field(default=as_table, kw_only=True)
    _parts: Sequence[str] = ()
    _writer: PartWriter | None = None
    _written: Tally = field(default_factory=Tally)

    def begin(self, model: str, digest: str, *, precision: str) -> None:
        """Write what all records have in common, or raise UsageError if it differs from that of the existing ones."""
        super().begin(model, digest, precision=precision)
        facts = {"format": FORMAT, "command": self.command, "settings": self.wanted.settings, "model": model}
        facts |= {"model_digest": digest, "precision": precision, **self.facts, "bike": __version__}
        while (existing := self.folder.read_json(RUN_FILE)) is None:
            if self.folder.create_json(RUN_FILE, {**facts, **self.wanted.given.facts()}):
                existing = facts
                break
        self._check(existing, facts)
        remove_done_files(self.folder, self.shard)
        settings = f"{self.wanted.settings} {digest}"
        self._writer = PartWriter(
            *(self.folder, settings, facts),
            existing=self._parts,
            retried=RETRIED,
            as_table=self.as_table,
            before=self._drop_retried,
        )

    def check_precision(self, precision: str) -> None:
        """Raise UsageError if the records of the folder were computed in another precision."""
        facts = self.folder.read_json(RUN_FILE)
        if facts is not None:
            self._check(facts, {**dict.fromkeys(SHARED), **facts, "precision": precision})

    def write(self, record: Any) -> None:  # noqa: ANN401 - what `as_object` or `as_table` takes
        """Add a record."""
        assert self._writer is not None  # `begin` comes first
        self._writer.write(record if self.as_object is None else self.as_object(record))
        self._written.add(record)

    def note(self, record: object) -> None:
        """Do nothing: failures are replaced when the part with the new record is written."""

    def close(self) -> None:
        """Write the last part."""
        if self._writer is not None:
            self._writer.flush()

    def finish(self, code: ExitCode) -> None:
        """Write a file that says that all videos have a record, how many have an answer, and the exit code.

        A folder without any record gets none, except from a shard: others may have the records.
        """
        tally = self.kept + self._written
        if not tally.total and self.shard is None:
            return
        found = {"videos": tally.total, "ok": tally.ok, "failed": dict(sorted(tally.failed.items()))}
        self.folder.write_json(done_file(self.shard), {**found, "exit_code": int(code), "bike": __version__})

    def read(self) -> None:
        """Read which records exist.

        Raises:
            UsageError: they were made with other labels or settings, or cannot be read.
        """
        facts = self.folder.read_json(RUN_FILE)
        if facts is None:
            return
        self._check(facts, {**facts, "format": FORMAT, "command": self.command, "settings": self.wanted.settings})
        is_checked = False
        self._parts = self.folder.parts()
        for part in self._parts:
            for found in self._found(part):
                if found.error is None and not is_checked:
                    self._check_record(part)  # says what differs
                    is_checked = True
                if not self._is_ours(found.path):
                    continue
                if found.error in RETRIED and is_retry_part(part):
                    self.retried.add(found.path, found.error)
                    continue
                self._left.add(found.path)
                if found.error is None:
                    self.tally.ok += 1
                else:
                    self.tally.failed[found.error] += 1
        self.model, self.digest = facts.get("model") or None, facts.get("model_digest") or None

    @property
    def has_written(self) -> bool:
        """Whether this run has records."""
        return self._written.total > 0

    def _check(self, existing: JsonObject, facts: JsonObject) -> None:
        """Raise UsageError if the facts of the folder are not those of this run."""
        name = next((name for name in SHARED if existing.get(name) != facts[name]), None)
        if name is None:
            return
        has, wants = existing.get(name), facts[name]
        if name == "precision":
            problem = f"its answers were computed in {has}, and this run would compute in {wants}"
            raise UsageError(f"{self.name}: {problem}; give --precision {has}, or another -o", settings=("precision",))
        if name == "command":
            raise UsageError(f"{self.name}: contains the output of bike {has}; choose another -o")
        if name == "format":
            raise UsageError(
                f"{self.name}: was written by another version of bike ({existing.get('bike')}); choose another -o"
            )
        if name == "settings":
            problem = "was made with other labels or settings, which change scores"
            problem = "was made with other settings, which change embeddings" if self.command == "embed" else problem
            different, settings = self.wanted.given.differences(existing)
            problem += f": {different}" if different else ""
            raise UsageError(
                f"{self.name}: {problem}; use those of the earlier run, or choose another -o", settings=settings
            )
        raise UsageError(
            f"{self.name}: contains answers of the model {has}, and this run uses {wants}; choose another -o"
        )

    def _check_record(self, part: str) -> None:
        answer = next(record for record in read_records(self.folder, part) if record.get("status") == "ok")
        self.wanted.check(answer, where=self.folder.file(part))

    def _found(self, part: str) -> list[Found]:
        """Return what the records of a part are about; nothing if a run of another shard removed it meanwhile."""
        try:
            return read_found(self.folder, part)
        except UsageError:
            if part in self.folder.names():
                raise
            return []

    def _is_ours(self, path: str) -> bool:
        return self.shard is None or self.shard.holds(path)

    def _drop_retried(self, names: Sequence[str]) -> None:
        """Remove failures whose videos have new records, just before these are written.

        The failures of videos that this run does not name stay. Other shards may change the same parts.
        """
        replaced = self.retried.among(names)
        if not replaced:
            return
        with lock_retries(self.folder):
            for part in filter(is_retry_part, self._parts):
                records = self._found(part)
                kept = [found.error not in RETRIED or digest_of_path(found.path) not in replaced for found in records]
                if all(kept):
                    continue
                if any(kept):
                    self.folder.write(part, as_parquet(read_table(self.folder, part).filter(kept)))
                else:
                    self.folder.remove(part)
        self.retried.replace_all(replaced)


@contextmanager
def open_parts(output: PartOutput) -> Iterator[PartOutput]:
    """Create the folder, read its records, and yield the output; another run of the same videos is kept out.

    Raises:
        UsageError: the folder cannot be used, a run of the same videos writes it, or its records differ from those of
            this run.
    """
    folder = output.folder
    folder.create()
    with lock_shard(folder, output.shard):
        folder.remove_unfinished()
        output.read()
        output.log_retries()
        try:
            yield output
        except KeyboardInterrupt as e:
            if output.has_written:
                e.args = (*e.args, f"written to {folder.name}")
            raise
