"""The flags of commands that can run on a Ray cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from bike_cli.cli.flags import Flags
from bike_cli.cli.session import Session, session
from bike_cli.cli.videos.request import InputRequest, VideosRequest
from bike_cli.config import ClassifyConfig, EmbedConfig, SpotConfig, VideoConfig, flag
from bike_cli.config.fields import CLUSTER
from bike_cli.errors import UsageError
from bike_cli.settings import changed, is_given

if TYPE_CHECKING:
    from bike_cli.tasks.cluster.runtime import ClusterOptions

AUTO = "auto"
Config = TypeVar("Config", ClassifyConfig, SpotConfig)
AnyConfig = TypeVar("AnyConfig", ClassifyConfig, SpotConfig, EmbedConfig)
Asked = TypeVar("Asked", bound="ClusterVideosRequest")


@dataclass(frozen=True, kw_only=True)
class ClusterRequest(InputRequest):
    """Which cluster to use, and how much of it."""

    ray: str | None = flag(
        "--ray",
        default=None,
        panel=CLUSTER,
        metavar="auto|local|ADDRESS",
        help="Work on a Ray cluster: auto is the one that this machine belongs to, local starts Ray here, or give "
        "HOST:PORT.",
    )
    ray_actors: str = flag(
        "--ray-actors",
        default=AUTO,
        panel=CLUSTER,
        metavar="auto|N",
        help="Processes with a model; auto is one per GPU, or without GPUs one per 4 cores or fewer.",
    )
    ray_cpus: str = flag(
        "--ray-cpus",
        default=AUTO,
        panel=CLUSTER,
        metavar="auto|N",
        help="Cores for each of these processes, which decode videos; auto is the cores per GPU, or up to 4.",
    )

    @property
    def cluster(self) -> ClusterOptions | None:
        """The cluster to use; None: this process does the work.

        Raises:
            UsageError: Ray is not installed, or flags that do not fit.
        """
        numbers = {"--ray-actors": self.ray_actors, "--ray-cpus": self.ray_cpus}
        if self.ray is None:
            unused = next((name for name, value in numbers.items() if value != AUTO), None)
            if unused is not None:
                raise UsageError(f"{unused}: only counts with --ray; add it")
            return None
        from bike_cli.tasks.cluster.runtime import ClusterOptions

        actors, cpus = (_number(name, value) for name, value in numbers.items())
        options = ClusterOptions(self.ray, actors, cpus)
        options.check()
        return options


@dataclass(frozen=True, kw_only=True)
class ClusterVideosRequest(ClusterRequest, VideosRequest):
    """Which videos and labels, and which cluster."""


def adapt_to_cluster(config: AnyConfig, flags: Flags, request: ClusterRequest) -> AnyConfig:
    """Return the configuration with the cache off for a cluster, unless it is asked for.

    The machines of a cluster share no cache: SQLite does not work on network file systems.

    Raises:
        UsageError: Ray is not installed, flags that do not fit, or the number of a GPU.
    """
    if request.cluster is None:
        return config
    device = config.engine.device
    if device.startswith("cuda:"):
        problem = "each process of --ray has a GPU of its own, which Ray chooses"
        raise UsageError(f"device {device}: {problem}; use cuda", settings=("device",))
    if is_given(type(config), "cache", flags=flags, file=request.config):
        return config
    return replace(config, store=replace(config.store, cache=False))


def session_of(config: AnyConfig, request: ClusterRequest, *, videos: int | None) -> AbstractContextManager[Session]:
    """Return the session of a run; with a cluster, it only loads the model that is checked.

    Args:
        videos: how many there are; None: not known.
    """
    is_here = request.cluster is None
    given = config if is_here else check_config(config)
    read = given if isinstance(given, VideoConfig) else given.video_config()
    return session(read, videos=videos, quiet=request.quiet, decodes=is_here)


def check_config(config: AnyConfig) -> AnyConfig:
    """Return the configuration with which this process checks the model and the labels, before actors load them."""
    return changed(config, {"device": "cpu", "precision": "auto", "compile": False})


def _number(name: str, value: str) -> int | None:
    if value == AUTO:
        return None
    if not value.isdecimal():
        raise UsageError(f"{name} {value}: is not a number; give auto or a whole number")
    return int(value)
