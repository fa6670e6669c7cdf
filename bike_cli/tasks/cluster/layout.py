"""How many actors there are, what each of them gets, and the device and precision of all."""

from __future__ import annotations

from dataclasses import dataclass

from bike_cli.config import EngineConfig
from bike_cli.errors import BikeError, UsageError, first_line
from bike_cli.tasks.cluster.runtime import LOCAL, ClusterOptions

CPUS_PER_ACTOR = 4  # without GPUs


@dataclass(frozen=True)
class Layout:
    """The actors of a run: their number, and what each of them gets."""

    actors: int
    cpus: int
    gpus: int


def layout_of(options: ClusterOptions, device: str, *, batches: int | None) -> Layout:
    """Return the actors for a run on the cluster that this process is connected to.

    Args:
        device: as in `EngineConfig`.
        batches: their number, if known; further actors would have nothing to do.
    Raises:
        UsageError: no node has as many cores as an actor is to get, in a cluster that cannot grow.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    may_use_gpus = device == "auto" or device.startswith("cuda")
    with_gpus = [node for node in nodes if node.get("GPU", 0) >= 1] if may_use_gpus else []
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    if with_gpus:
        actors = sum(int(node["GPU"]) for node in with_gpus)
        own = min(int(node.get("CPU", 0) // node["GPU"]) for node in with_gpus)
    else:
        own = min([CPUS_PER_ACTOR, *(number for number in cpus if number)])
        actors = sum(number // own for number in cpus)
    own = options.cpus or max(1, own)
    if options.address == LOCAL and own > max(cpus, default=0):
        raise UsageError(f"--ray-cpus {own}: this machine has {max(cpus, default=0)}; give fewer")
    actors = options.actors or max(1, actors)
    actors = actors if batches is None else max(1, min(actors, batches))
    return Layout(actors, own, 1 if with_gpus else 0)


def place_of(options: ClusterOptions, config: EngineConfig, layout: Layout) -> tuple[str, str]:
    """Return the device and the precision that all actors use.

    They are decided once: with `auto`, different GPUs would choose different precisions, and give different scores.

    Raises:
        UsageError: the actors do not have this device, or it does not support the precision.
    """
    if options.address == LOCAL:
        return _placement(config.device, config.precision)
    if not layout.gpus and config.device.startswith("cuda"):
        raise UsageError(f"device {config.device}: the cluster has no GPUs; use auto or cpu", settings=("device",))
    if not layout.gpus:
        return _placement("cpu" if config.device == "auto" else config.device, config.precision)
    if "auto" not in (config.device, config.precision):
        return config.device, config.precision
    import ray

    probe = ray.remote(_placement_or_error).options(num_cpus=1, num_gpus=layout.gpus, max_retries=3)
    try:
        answer: tuple[str, str] | BikeError = ray.get(probe.remote(config.device, config.precision))
    except ray.exceptions.RayError as e:
        problem = f"the GPUs of the cluster cannot be asked for their precision ({first_line(e)})"
        way_out = "check that all machines have the same version of bike, or give --device cuda and --precision"
        raise UsageError(f"--ray: {problem}; {way_out}") from e
    if isinstance(answer, BikeError):
        raise answer
    return answer


def _placement(device: str, precision: str) -> tuple[str, str]:
    from bike_cli.engine.towers.placement import place

    placement = place(device, precision)  # type: ignore[arg-type]
    return str(placement.device), placement.precision


def _placement_or_error(device: str, precision: str) -> tuple[str, str] | BikeError:
    try:
        return _placement(device, precision)
    except BikeError as e:
        return e
