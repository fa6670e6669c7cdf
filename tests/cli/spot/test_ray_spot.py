"""`bike spot --ray`: the records of a run without it."""

import json
import random
from pathlib import Path

import pytest
from invoke import bike
from ray_runs import check_one_by_one, kill, odd_clips, ray_run, varied_clips

HOSTILE = Path(__file__).parents[2] / "hostile"
LABELS = ("-m", "tiny", "-L", "red square,blue circle", "--none", "green cross")
CLIPS = 30


def test_mistakes_are_reported_before_ray_starts(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was started"))

    ran = bike("spot", clips, *LABELS, "--threshold", "0.9999", "--ray", "local")

    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "error: threshold is 0.9999" in ran.stderr


def test_flags_that_do_not_fit_are_refused(clips: Path) -> None:
    ran = bike("spot", clips, *LABELS, "--ray-actors", "2")

    assert ran.exit_code == 2
    assert "--ray-actors: only counts with --ray; add it" in ran.stderr


@pytest.mark.slow
def test_the_records_of_an_odd_folder_are_those_of_a_run_without_ray(clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    folder = odd_clips(clips, tmp_path / "odd")
    command = ("spot", folder.name, *LABELS, "--decode-timeout", "8", "--decode-memory", "1200", "--timeline")
    limits = {"cwd": tmp_path, "path": (HOSTILE,)}
    with ray_run(*command, "--no-cache", **limits) as run:  # type: ignore[arg-type]
        code, expected, _ = run.end()
    with ray_run(*command, "--ray", "local", **limits) as run:  # type: ignore[arg-type]
        code_of_ray, stdout, stderr = run.end()
        left = run.left(within_s=10)

    records = list(map(json.loads, expected.splitlines()))
    kinds = {record["error"]["type"] for record in records if "error" in record}
    assert kinds >= {"timeout", "crashed", "internal", "out_of_memory", "missing", "not_video"}
    assert {segment["label"] for record in records for segment in record.get("segments", ())} == {
        "red square",
        "blue circle",
    }
    assert (code_of_ray, stdout) == (code, expected)
    assert stderr == ""
    assert left == {}


@pytest.mark.slow
def test_a_killed_actor_costs_no_record_and_shards_resume(clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    videos = varied_clips(clips, tmp_path / "clips", CLIPS)
    expected, output = tmp_path / "expected.jsonl", tmp_path / "found.jsonl"
    with ray_run("spot", videos, *LABELS, "--no-cache", "-o", expected) as run:
        assert run.end()[0] == 0

    with ray_run("spot", videos, *LABELS, "--ray", "local", "--shard", "2/2", "-o", output) as run:
        run.await_records(output, random.randrange(1, 4))
        actors = run.actors()
        for pid in actors:
            kill(pid)
        code, _, stderr = run.end()
        left = run.left(within_s=10)

    of_shard = output.read_text().splitlines(keepends=True)
    assert actors
    assert code == 0
    assert stderr.startswith(f"{len(of_shard)} videos: {len(of_shard)} ok")
    assert stderr.count("\n") == 1  # nothing of Ray
    assert left == {}
    wanted = expected.read_text().splitlines(keepends=True)
    assert 0 < len(of_shard) < CLIPS
    assert of_shard == [line for line in wanted if line in of_shard]

    with ray_run("spot", videos, *LABELS, "--ray", "local", "-o", output, "--resume") as run:
        assert run.end()[0] == 0
    assert output.read_text().splitlines(keepends=True) == of_shard + [line for line in wanted if line not in of_shard]


@pytest.mark.slow
def test_a_folder_has_the_records_of_a_run_without_ray(clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    parquet = pytest.importorskip("pyarrow.parquet")
    varied_clips(clips, tmp_path / "clips", CLIPS)
    (tmp_path / "clips" / "text.mp4").write_text("no video")
    command = ("spot", "clips", "clips/missing.mp4", *LABELS, "--timeline")
    with ray_run(*command, "--no-cache", "-o", "expected.jsonl", cwd=tmp_path) as run:
        code = run.end()[0]
    for i in (1, 2):
        with ray_run(*command, "--ray", "local", "--shard", f"{i}/2", "-o", "found/", cwd=tmp_path) as run:
            assert run.end()[0] == code == 3
            assert run.left(within_s=10) == {}

    records = [row["record"] for row in parquet.read_table(tmp_path / "found").to_pylist()]
    assert len(records) == CLIPS + 2
    assert sorted(records) == sorted((tmp_path / "expected.jsonl").read_text().splitlines())
    with ray_run(*command, "--ray", "local", "-o", "found/", cwd=tmp_path) as run:
        code_again, _, stderr = run.end()
    assert code_again == 3
    assert f"found/: nothing left to do, {CLIPS + 2} records exist" in stderr


@pytest.mark.slow
def test_tables_pages_and_clips_are_those_of_a_run_without_ray(clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    (tmp_path / "clips").symlink_to(clips)
    command = ("spot", "clips", *LABELS, "-f", "table", "--report", "page.html", "--cut", "cut", "--force")

    def written() -> dict[str, bytes]:
        files = (tmp_path / "page.html", *sorted((tmp_path / "cut").rglob("*")))
        return {str(file): file.read_bytes() for file in files if file.is_file()}

    with ray_run(*command, "--no-cache", cwd=tmp_path) as run:
        expected, expected_files = run.end(), written()
    (tmp_path / "page.html").unlink()
    with ray_run(*command, "--ray", "local", cwd=tmp_path) as run:
        assert run.end() == expected

    assert expected[0] == 0
    assert len(expected_files) > 2
    assert written() == expected_files


@pytest.mark.slow
def test_paths_on_stdin_are_answered_one_by_one(clips: Path) -> None:
    pytest.importorskip("ray")
    check_one_by_one(sorted(clips.iterdir()), "spot", "-", *LABELS, "--ray", "local")
