"""How many actors a cluster gets, and of what size."""

import pytest

from bike_cli.config import EngineConfig
from bike_cli.errors import UsageError
from bike_cli.tasks.cluster.layout import Layout, layout_of, place_of
from bike_cli.tasks.cluster.runtime import ClusterOptions


def layout(
    *nodes: tuple[float, float],
    device: str = "auto",
    address: str = "auto",
    actors: int | None = None,
    cpus: int | None = None,
    batches: int | None = None,
) -> Layout:
    """Return the layout on nodes with so many cores and GPUs."""
    resources = [
        {"memory": 1e9} | ({"CPU": cores} if cores else {}) | ({"GPU": gpus} if gpus else {}) for cores, gpus in nodes
    ]
    return layout_of(ClusterOptions(address, actors, cpus), device, resources, batches=batches)


@pytest.mark.parametrize(
    ("cores", "actors", "cpus"),
    [
        ((16,), 4, 4),
        ((0, 16, 16), 8, 4),  # the head has no core
        ((1, 16, 16), 8, 4),  # or a few
        ((2, 16, 16), 8, 4),
        ((2,), 1, 2),
        ((1, 1, 1), 3, 1),
        ((6,), 2, 3),
        ((8, *[2] * 10), 14, 2),
        ((0,), 1, 4),  # an autoscaler may bring more
        ((), 1, 4),
    ],
)
def test_without_gpus_actors_share_the_cores(cores: tuple[int, ...], actors: int, cpus: int) -> None:
    assert layout(*((number, 0) for number in cores)) == Layout(actors, cpus, 0)


@pytest.mark.parametrize(
    ("nodes", "actors", "cpus"),
    [
        (((2, 0), (64, 8), (64, 8)), 16, 8),
        (((16, 1), (16, 1), (4, 1)), 2, 16),  # not three with 4
        (((16, 1), (12, 1)), 2, 12),
        (((64, 8), (0, 1)), 8, 8),
        (((4, 8),), 4, 1),  # as many as have a core
    ],
)
def test_every_gpu_with_enough_cores_gets_an_actor(nodes: tuple[tuple[int, int], ...], actors: int, cpus: int) -> None:
    assert layout(*nodes) == Layout(actors, cpus, 1)


def test_cores_that_are_asked_for_decide_the_number_of_actors() -> None:
    assert layout((16, 0), (16, 0), cpus=8) == Layout(4, 8, 0)
    assert layout((16, 0), (16, 0), cpus=1) == Layout(32, 1, 0)
    assert layout((16, 4), cpus=8) == Layout(2, 8, 1)
    assert layout((16, 4), cpus=2) == Layout(4, 2, 1)


def test_a_number_of_actors_is_used_as_it_is_given() -> None:
    assert layout((16, 4), actors=7).actors == 7


def test_there_are_no_more_actors_than_batches() -> None:
    assert layout((16, 0), batches=3).actors == 3
    assert layout((16, 0), actors=8, batches=0).actors == 1


def test_gpus_are_not_used_by_runs_on_cpus() -> None:
    assert layout((16, 8), device="cpu") == Layout(4, 4, 0)


def test_gpus_that_are_still_to_come_need_a_number() -> None:
    with pytest.raises(UsageError, match=r"no machine of the cluster has a GPU.*--ray-actors"):
        layout((8, 0), device="cuda")

    assert layout((2, 0), device="cuda", actors=5) == Layout(5, 4, 1)
    assert layout((2, 0), device="cuda", actors=5, cpus=8) == Layout(5, 8, 1)


def test_more_cores_than_this_machine_has_are_refused() -> None:
    with pytest.raises(UsageError, match="--ray-cpus 9: this machine has 8"):
        layout((8, 0), address="local", cpus=9)


def test_this_machine_says_itself_that_it_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    options = ClusterOptions("local")

    with pytest.raises(UsageError, match="is not on this machine"):
        place_of(options, EngineConfig(model="tiny", device="cuda"), layout((8, 0), address="local", device="cuda"))
