"""Machines of a cluster that are lost in the middle of a run."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray_runs import ray_run, varied_clips

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
CLIPS = 60


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # a token would be that of another test in this process
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    yield cluster
    cluster.shutdown()


@pytest.mark.parametrize("is_replaced", [True, False])
def test_a_lost_machine_costs_no_answer(cluster: Any, clips: Path, tmp_path: Path, is_replaced: bool) -> None:  # noqa: ANN401
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    videos = varied_clips(clips, tmp_path / "clips", CLIPS)
    command = ("classify", videos, "-m", "tiny", "-L", "red square,blue circle", "-o")
    expected, output = tmp_path / "expected.jsonl", tmp_path / "answers.jsonl"
    with ray_run(*command, expected, "--no-cache") as run:
        assert run.end()[0] == 0

    with ray_run(*command, output, "--ray", cluster.address) as run:
        run.await_records(output, random.randrange(CLIPS - 10))
        cluster.remove_node(random.choice(nodes), allow_graceful=False)
        if is_replaced:
            cluster.add_node(num_cpus=1)
        code, _, stderr = run.end()

    assert code == 0, stderr
    assert output.read_bytes() == expected.read_bytes()
    assert stderr.startswith(f"{CLIPS} videos: {CLIPS} ok")
