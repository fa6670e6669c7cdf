"""What an actor does: load the model, prepare its work, and answer batches of videos."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from bike_cli.errors import BikeError, ModelError, UsageError
from bike_cli.media import is_store_uri
from bike_cli.records import Failure
from bike_cli.tasks.cluster.work import Answer, Config, Given, Prepared, Work
from bike_cli.versions import __version__

if TYPE_CHECKING:
    from bike_cli.engine.engine import Engine
    from bike_cli.tasks.cluster.sent_files import SentFiles


@dataclass(frozen=True, eq=False)
class ActorSetup(Generic[Config, Answer]):
    """What all actors of a run know.

    Args:
        work: what to do with videos.
        model: what records call the model.
        model_digest: of the driver's; see `Prepared.digest`.
        folder: working folder of the driver, which relative paths start from.
        files: of the driver, that settings name.
    """

    work: Work[Config, Answer]
    model: str
    model_digest: str
    folder: str
    files: tuple[SentFiles, ...] = ()


@dataclass(frozen=True)
class BatchAnswer(Generic[Answer]):
    """The answers for a batch, in order; where an error ended it, those before the error.

    Args:
        size_bytes: of the answers, where they have travelled.
    """

    answers: tuple[Answer | Failure, ...]
    error: BikeError | None = None
    size_bytes: int = 0

    def __reduce__(self) -> tuple[Callable[..., BatchAnswer[Answer]], tuple[bytes]]:
        # As bytes: Ray would leave arrays in its object store, which is gone before all of them are written.
        return _unpickled, (pickle.dumps((self.answers, self.error)),)


def _unpickled(content: bytes) -> BatchAnswer[Any]:
    answers, error = pickle.loads(content)
    return BatchAnswer(answers, error, len(content))


class ModelActor:
    """A model, prepared work and decode workers in a process of a cluster.

    Errors that a user can fix are returned, not raised: Ray would wrap them.
    """

    def __init__(self) -> None:
        self._prepared: Prepared[Any] | None = None
        self._base: Path | None = None  # of relative paths, if the driver's working folder does not exist here

    def start(self, version: str, setup: Sequence[object]) -> BikeError | str:
        """Load everything; return why that is impossible, or Ray's name of this machine.

        Args:
            version: of bike in the driver. It is compared before anything else of the driver is unpickled.
            setup: a reference to an `ActorSetup`, in a list, so that Ray does not replace it by its value.
        """
        if version != __version__:
            return UsageError(
                f"--ray: bike {version} runs here, but bike {__version__} on {_host()}; install the same version"
            )
        import ray

        try:
            self._prepare(ray.get(setup[0]))
        except BikeError as e:
            return e
        return str(ray.get_runtime_context().get_node_id())

    def answer(self, sources: Sequence[Given]) -> BatchAnswer[Any]:
        """Return the answers for a batch of sources. Batches that run at the same time share the decode workers."""
        assert self._prepared is not None
        answers: list[object] = []
        try:
            answers.extend(self._prepared.answer(list(map(self._located, sources))))
        except BikeError as e:
            return BatchAnswer(tuple(answers), e)
        return BatchAnswer(tuple(answers))

    def _prepare(self, setup: ActorSetup[Any, Any]) -> None:
        try:
            os.chdir(setup.folder)  # so that messages contain the same paths as in a run without Ray
        except OSError:
            self._base = Path(setup.folder)
        from bike_cli.video.workers.pool import DecodePool

        pool = DecodePool(setup.work.config.sampling, setup.work.config.decoding)
        pool.warm_up()  # the processes start while torch is imported
        from bike_cli.engine.engine import load_configured
        from bike_cli.tasks.cluster.sent_files import with_received_files

        config = with_received_files(setup.work.config, setup.files)
        engine: Engine = replace(load_configured(config.engine), name=setup.model)
        prepared = replace(setup.work, config=config).prepare(engine, pool)
        if prepared.digest != setup.model_digest:
            raise ModelError(
                f"model {setup.model}: has other weights or settings on {_host()} (its digest is {prepared.digest} "
                f"there, and {setup.model_digest} here); install the same ones"
            )
        prepared.check()  # so that what kills every actor does so before a video can be blamed
        self._prepared = prepared

    def _located(self, source: Given) -> Given:
        if self._base is None or isinstance(source, Failure):
            return source
        if source.remote is None:
            return replace(source, path=self._base / source.path)
        if is_store_uri(source.remote.place):
            return source
        return replace(source, remote=replace(source.remote, place=str(self._base / source.remote.place)))


def _host() -> str:
    import socket

    return socket.gethostname()
