"""`-o DIR/` on network disks that have neither locks nor hard links, as some NFS, SMB and FUSE mounts."""

import errno
import json
import os
from pathlib import Path

import filelock
import pytest
from invoke import bike

pq = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.usefixtures("one_store_for_all")


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output folder on such a disk."""

    def no_lock(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    def no_link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(filelock.FileLock, "acquire", no_lock)
    monkeypatch.setattr("bike_cli.data.parts.folder.os.link", no_link)
    return tmp_path / "out"


def test_shards_write_all_records_and_a_second_run_none(shared: Path, clips: Path) -> None:
    command = ("classify", clips, "-m", "tiny", "-L", "red square,blue circle,green cross", "--no-cache")
    for i in (1, 2, 3):
        assert bike(*command, "-o", f"{shared}/", "--shard", f"{i}/3").exit_code == 0

    again = bike(*command, "-o", f"{shared}/")

    assert "nothing left to do, 3 records exist" in again.stderr
    records = [json.loads(row["record"]) for row in pq.read_table(shared).to_pylist()]
    assert {Path(r["path"]).stem.replace("_", " "): r["label"] for r in records} == {
        label: label for label in ("red square", "blue circle", "green cross")
    }
    assert {file.name[:5] for file in shared.iterdir()} == {"_run.", "_done", "part-"}
