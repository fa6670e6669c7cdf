"""`bike embed --ray`: the embeddings of a run without it."""

import random
from pathlib import Path

import numpy as np
import pytest
from invoke import bike
from ray_runs import odd_clips, ray_run, varied_clips
from small_models import tiny_checkpoint

from bike_cli.engine.models.folder import save_folder

HOSTILE = Path(__file__).parents[2] / "hostile"
HOSTILE_ACTORS = Path(__file__).parents[2] / "hostile_actors"
CLIPS = 40


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-L", "red,blue", "--ray", "local"), "--ray: labels are embedded in this process; leave it out"),
        (("clip.mp4", "--ray-cpus", "2"), "--ray-cpus: only counts with --ray; add it"),
    ],
)
def test_flags_that_do_not_fit_are_refused(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    pytest.importorskip("ray")
    ran = bike("embed", *arguments, "-m", "tiny", "-o", f"{tmp_path}/out/")

    assert ran.exit_code == 2
    assert message in ran.stderr


def test_the_cache_is_off_unless_it_is_asked_for() -> None:
    pytest.importorskip("ray")

    def cache(*arguments: str) -> str:
        lines = bike("embed", "--dump-config", "--ray", "local", *arguments).stdout.splitlines()
        return next(line for line in lines if line.startswith("cache:"))

    assert cache() == "cache: false"
    assert cache("--cache") == "cache: true"


@pytest.mark.slow
def test_the_embeddings_of_an_odd_folder_are_those_of_a_run_without_ray(clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    folder = odd_clips(clips, tmp_path / "odd")
    command = ("embed", folder.name, "-m", "tiny", "--decode-timeout", "8", "--decode-memory", "1200")
    limits = {"cwd": tmp_path, "path": (HOSTILE,)}
    with ray_run(*command, "--no-cache", "-o", "expected/", **limits) as run:  # type: ignore[arg-type]
        code, _, _ = run.end()
    with ray_run(*command, "--ray", "local", "-o", "found/", **limits) as run:  # type: ignore[arg-type]
        code_of_ray, _, _ = run.end()
        left = run.left(within_s=10)

    expected = files_of(tmp_path / "expected")
    assert code_of_ray == code == 3
    assert any(name.endswith(".parquet") for name in expected)
    assert files_of(tmp_path / "found") == expected
    assert left == {}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_temporal_head_gives_the_same_bits(clips: Path, tmp_path: Path, precision: str) -> None:
    pytest.importorskip("ray")
    parquet = pytest.importorskip("pyarrow.parquet")
    save_folder(tmp_path / "headed", tiny_checkpoint())
    varied_clips(clips, tmp_path / "clips", CLIPS)
    command = ("embed", "clips", "-m", "headed", "--precision", precision, "--clips", "2")
    for target, how in (("expected/", "--no-cache"), ("found/", "--ray=local")):
        with ray_run(*command, "-o", target, how, cwd=tmp_path) as run:
            code, _, stderr = run.end()
            assert (code, stderr.count("\n")) == (0, 1)

    (part,) = (tmp_path / "found").glob("part-*")
    rows = parquet.read_table(part).to_pylist()
    assert len(rows) == CLIPS
    assert all(len(row["informed"]) == len(row["frames"]) == 2 * 8 for row in rows)
    assert files_of(tmp_path / "found") == files_of(tmp_path / "expected")


@pytest.mark.slow
def test_a_video_that_ends_its_actor_fails_alone(clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    videos, deaths = varied_clips(clips, tmp_path / "clips", CLIPS), tmp_path / "deaths"
    deaths.mkdir()
    with ray_run("embed", "clips", "-m", "tiny", "--no-cache", "-o", "expected.npz", cwd=tmp_path) as run:
        assert run.end()[0] == 0
    place = random.randrange(CLIPS)
    video = sorted(videos.iterdir())[place]
    video.rename(video.with_name(f"{video.stem} kills_actor.mp4"))
    hostile = {"environment": {"ACTORS": str(deaths)}, "path": (HOSTILE_ACTORS,), "cwd": tmp_path}
    command = ("embed", "clips", "-m", "tiny", "--ray", "local", "-o", "found.npz")
    with ray_run(*command, **hostile) as run:  # type: ignore[arg-type]
        code, _, _ = run.end()

    assert code == 3
    assert len(list(deaths.iterdir())) == 4
    with np.load(tmp_path / "expected.npz") as expected, np.load(tmp_path / "found.npz") as found:
        assert found["failed"].tolist() == [f"clips/{video.stem} kills_actor.mp4"]
        for name in ("paths", "embeddings", "frames", "times_s"):
            np.testing.assert_array_equal(found[name], np.delete(expected[name], place, axis=0))


@pytest.mark.slow
def test_shards_add_to_a_folder(clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    varied_clips(clips, tmp_path / "clips", CLIPS)
    for shard in ("1/2", "2/2"):
        for target, how in (("expected/", "--no-cache"), ("found/", "--ray=local")):
            with ray_run("embed", "clips", "-m", "tiny", "--shard", shard, "-o", target, how, cwd=tmp_path) as run:
                assert run.end()[0] == 0

    assert files_of(tmp_path / "found") == files_of(tmp_path / "expected")
