"""`--ray -o DIR/`: what a folder gets before, and only after, actors are ready."""

import json
from pathlib import Path

import pytest
from ray_runs import ray_run

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
HOSTILE_ACTORS = Path(__file__).parents[2] / "hostile_actors"
COMMAND = ("-m", "tiny", "-L", "red square,blue circle", "-o", "out/")


def test_a_run_without_actors_leaves_no_settings_behind(videos: Path, folder: Path) -> None:
    deaths = folder.parent / "deaths"
    deaths.mkdir()
    (deaths / "starts_die").touch()
    hostile = {"environment": {"ACTORS": str(deaths)}, "path": (HOSTILE_ACTORS,)}
    with ray_run("classify", videos, *COMMAND, "--ray", "local", **hostile) as run:  # type: ignore[arg-type]
        assert run.end()[0] == 2
    assert not (folder / "_run.json").exists()

    with ray_run("classify", videos, *COMMAND, "--ray", "local") as run:
        assert run.end()[0] == 3
    assert json.loads((folder / "_run.json").read_text())["precision"] == "fp32"
    assert json.loads((folder / "_done.json").read_text())["videos"] == 4


def test_another_precision_is_refused_before_an_actor_starts(videos: Path, folder: Path) -> None:
    with ray_run("classify", videos, *COMMAND) as run:
        assert run.end()[0] == 3
    facts = json.loads((folder / "_run.json").read_text())
    (folder / "_run.json").write_text(json.dumps({**facts, "precision": "bf16"}))
    (videos / "new.mp4").write_bytes((videos / "red_square.mp4").read_bytes())
    deaths = folder.parent / "deaths"
    deaths.mkdir()
    (deaths / "starts_die").touch()
    hostile = {"environment": {"ACTORS": str(deaths)}, "path": (HOSTILE_ACTORS,)}

    with ray_run("classify", videos, *COMMAND, "--ray", "local", **hostile) as run:  # type: ignore[arg-type]
        code, _, stderr = run.end()

    assert code == 2
    assert "its answers were computed in bf16, and this run would compute in fp32" in stderr
    assert list(deaths.glob("death-*")) == []
    assert (folder / "_done.json").exists()
