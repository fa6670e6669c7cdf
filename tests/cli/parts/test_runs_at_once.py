"""Several runs that write to one folder: which are kept apart, and what they leave to each other."""

import json
from pathlib import Path

import pytest
from filelock import FileLock
from part_runs import classify, lines, records

from bike_cli.data.parts.folder import PartFolder
from bike_cli.data.shards import Shard
from bike_cli.errors import ExitCode

pq = pytest.importorskip("pyarrow.parquet")

pytestmark = pytest.mark.usefixtures("one_store_for_all")


def test_a_second_run_at_the_same_time_is_refused(videos: Path, folder: Path) -> None:
    folder.mkdir()
    with FileLock(folder / ".all.lock"):
        ran = classify(videos)

    assert ran.exit_code == ExitCode.USAGE
    assert ran.stderr == (
        "error: out/: another run is writing it; wait for that, give each run its own --shard, or choose another -o\n"
    )


@pytest.mark.parametrize(
    ("other", "own", "which"),
    [("all", ["--shard", "1/2"], "all videos"), ("3-of-4", [], "--shard 3/4"), ("3-of-4", ["--shard", "1/2"], "3/4")],
)
def test_a_run_of_other_shards_with_the_same_videos_is_refused(
    videos: Path, folder: Path, other: str, own: list[str], which: str
) -> None:
    folder.mkdir()
    with FileLock(folder / f".{other}.lock"):
        ran = classify(videos, *own)

    assert ran.exit_code == ExitCode.USAGE
    assert f"{which} is writing it, which may be the same videos; wait for that" in ran.stderr
    assert not records(folder)


def test_shards_of_other_videos_run_at_the_same_time(videos: Path, folder: Path) -> None:
    folder.mkdir()
    (folder / ".all.lock").touch()  # left by a run that was killed
    with FileLock(folder / ".1-of-4.lock"), FileLock(folder / ".1-of-2.lock"):
        ran = classify(videos, "--shard", "2/2")

    assert ran.exit_code in (ExitCode.DONE, ExitCode.SOME_FAILED)
    assert len(records(folder)) > 0


@pytest.mark.parametrize("flags", [["--top", "1"], ["--explain"]])
def test_other_settings_are_refused_if_other_shards_have_all_answers(
    videos: Path, folder: Path, flags: list[str]
) -> None:
    names = [f"clips/{name}.mp4" for name in ("red_square", "blue_circle", "green_cross")]
    shards = {Shard(i, 16): [name for name in names if Shard(i, 16).holds(name)] for i in range(1, 17)}
    first = next(shard for shard, held in shards.items() if held)
    empty = next(shard for shard, held in shards.items() if not held)
    classify(videos, "--shard", f"{first.index}/16")
    assert len(records(folder)) > 0

    ran = classify(videos, *flags, "--shard", f"{empty.index}/16")

    assert ran.exit_code == ExitCode.USAGE


def fail_internally(folder: Path) -> list[str]:
    """Turn all answers in a folder into failures that are tried again; return the records."""
    (part,) = folder.glob("part-*")
    table = pq.read_table(part)
    rows = table.to_pylist()
    for row in rows:
        error = {"type": "internal", "message": "a bug"}
        record = json.dumps({"path": row["path"], "status": "error", "error": error})
        row |= {"status": "error", "error": "internal", "record": record}
    import pyarrow as pa

    part.unlink()
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), folder / part.name.replace(".", "-retry."))
    return records(folder)


def test_a_refused_run_keeps_failures_that_are_tried_again(videos: Path, folder: Path) -> None:
    classify(videos / "red_square.mp4")
    before = fail_internally(folder)

    ran = classify(videos, "--frames", "4")

    assert ran.exit_code == ExitCode.USAGE
    assert records(folder) == before


def test_a_part_that_another_shard_removes_meanwhile_is_ignored(
    videos: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classify(videos / "red_square.mp4")
    fail_internally(folder)
    listed = PartFolder.parts

    def parts(self: PartFolder) -> list[str]:
        found = listed(self)
        for file in folder.glob("*-retry.parquet"):
            file.unlink()
        return found

    monkeypatch.setattr(PartFolder, "parts", parts)

    ran = classify(videos)

    assert ran.exit_code == ExitCode.SOME_FAILED
    assert records(folder) == lines(videos)
