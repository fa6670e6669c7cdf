"""How many actors there are, what each of them gets, and the device and precision of all."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bike_cli.config import EngineConfig
from bike_cli.errors import BikeError, UsageError, first_line
from bike_cli.tasks.cluster.runtime import LOCAL, ClusterOptions

CPUS_PER_ACTOR = 4  # at most, without GPUs
CORES_IN_USE = 0.75  # of the most that actors of another size would use
WAIT_S = 1.0
PATIENCE_S = 60.0  # before a warning that no GPU is free

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """The actors of a run: their number, and what each of them gets."""

    actors: int
    cpus: int
    gpus: int


def layout_of(
    options: ClusterOptions, device: str, nodes: Sequence[Mapping[str, float]], *, batches: int | None
) -> Layout:
    """Return the actors for a run on a cluster.

    Args:
        device: as in `EngineConfig`.
        nodes: the resources of each node that is alive; see `nodes_alive`.
        batches: their number, if known; further actors would have nothing to do.
    Raises:
        UsageError: no node has as many cores as an actor is to get, in a cluster that cannot grow; or GPUs are
            requested of a cluster that has none, and nothing says how many there will be.
    """
    found = [_Node(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in nodes]
    needs_gpus = device.startswith("cuda")
    with_gpus = [node for node in found if node.gpus] if needs_gpus or device == "auto" else []
    awaits_gpus = needs_gpus and not with_gpus and options.address != LOCAL
    if awaits_gpus:
        if options.actors is None:
            raise UsageError(
                f"device {device}: no machine of the cluster has a GPU; use auto or cpu, or, if the cluster starts "
                "machines with GPUs on demand, give the number of GPUs with --ray-actors",
                settings=("device",),
            )
        cpus, actors = options.cpus or CPUS_PER_ACTOR, options.actors
    elif with_gpus:
        choices = {max(1, node.cpus // node.gpus) for node in with_gpus}
        cpus, actors = _shares(choices, options.cpus, lambda cpus: sum(node.gpu_actors(cpus) for node in with_gpus))
    else:
        choices = set(range(1, CPUS_PER_ACTOR + 1))
        cpus, actors = _shares(choices, options.cpus, lambda cpus: sum(node.cpus // cpus for node in found))
    most = max((node.cpus for node in found), default=0)
    if options.address == LOCAL and cpus > most:
        raise UsageError(f"--ray-cpus {cpus}: this machine has {most}; give fewer")
    actors = options.actors or max(1, actors)
    actors = actors if batches is None else max(1, min(actors, batches))
    return Layout(actors, cpus, 1 if with_gpus or awaits_gpus else 0)


@dataclass(frozen=True)
class _Node:
    cpus: int
    gpus: int

    def gpu_actors(self, cpus: int) -> int:
        """Return how many actors with a GPU and so many cores it has room for."""
        return min(self.gpus, self.cpus // cpus)


def _shares(choices: Collection[int], given: int | None, actors: Callable[[int], int]) -> tuple[int, int]:
    """Return the number of cores of each actor, and how many such actors the cluster has room for.

    It is the largest choice that leaves few cores idle. So a small node, such as the head of a cluster, does not make
    the actors small on all others.

    Args:
        given: by the user; None: choose.
        actors: returns the number of actors for a number of cores.
    """
    used = {cpus: cpus * actors(cpus) for cpus in choices}
    enough = CORES_IN_USE * max(used.values())
    cpus = given or max(cpus for cpus, number in used.items() if number >= enough)
    return cpus, actors(cpus)


def nodes_alive() -> list[Mapping[str, float]]:
    """Return the resources of each node of the cluster that this process is connected to."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def place_of(options: ClusterOptions, config: EngineConfig, layout: Layout) -> tuple[str, str]:
    """Return the device and the precision that all actors use.

    They are decided once: with `auto`, different GPUs would choose different precisions, and give different scores.

    Raises:
        UsageError: the actors do not have this device, or it does not support the precision.
    """
    if options.address == LOCAL:
        return _placement(config.device, config.precision)
    if not layout.gpus:
        return _placement("cpu" if config.device == "auto" else config.device, config.precision)
    if "auto" not in (config.device, config.precision):
        return config.device, config.precision
    import ray

    probe = ray.remote(_placement_or_error).options(num_cpus=0, num_gpus=layout.gpus, max_retries=3)
    try:
        answer: tuple[str, str] | BikeError = _result(probe.remote(config.device, config.precision))
    except ray.exceptions.RayError as e:
        problem = f"the GPUs of the cluster cannot be asked for their precision ({first_line(e)})"
        way_out = "check that all machines have the same version of bike, or give --device cuda and --precision"
        raise UsageError(f"--ray: {problem}; {way_out}") from e
    if isinstance(answer, BikeError):
        raise answer
    return answer


def _result(probe: object) -> Any:  # noqa: ANN401 - what the probe returns
    """Wait for a free GPU as long as it takes, and return the result of a task on it; warn if that takes long.

    Raises:
        RayError: of the task.
    """
    import ray

    start_s, has_warned = time.monotonic(), False
    try:
        while not ray.wait([probe], num_returns=1, timeout=WAIT_S)[0]:
            waited_s = time.monotonic() - start_s
            if waited_s > PATIENCE_S and not has_warned:
                has_warned = True
                logger.warning(
                    "--ray: no GPU of the cluster has been free for %.0f s, and the first one decides the precision; "
                    "ray status shows what is free; --device cuda with --precision does not wait for it",
                    waited_s,
                )
        return ray.get(probe)
    except KeyboardInterrupt:
        ray.cancel(probe, force=True)
        raise


def _placement(device: str, precision: str) -> tuple[str, str]:
    from bike_cli.engine.towers.placement import place

    placement = place(device, precision)  # type: ignore[arg-type]
    return str(placement.device), placement.precision


def _placement_or_error(device: str, precision: str) -> tuple[str, str] | BikeError:
    try:
        return _placement(device, precision)
    except BikeError as e:
        return e
