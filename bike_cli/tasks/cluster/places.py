"""Places for actors, and what their actors were asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic

from bike_cli.tasks.cluster.batches import Batch
from bike_cli.tasks.cluster.work import Answer, Given

Reference = Any  # of Ray, to a result that does not exist yet


@dataclass(frozen=True)
class StartedActor:
    """An actor that was just created, and the reference to the result of its `start`."""

    handle: Any
    start: Reference


@dataclass(eq=False)
class Place(Generic[Answer]):
    """A place for an actor: when one dies, another one takes it.

    Args:
        machine: where it runs.
        failed_starts: how many in succession died before they were ready.
        is_given_up: whether no further one is started.
    """

    handle: Any
    is_ready: bool = False
    machine: object = None
    failed_starts: int = 0
    is_given_up: bool = False
    batches: list[Batch[Answer]] = field(default_factory=list)

    @property
    def names(self) -> tuple[object, object]:
        """What stands for the place, and for the machine."""
        return self, self.machine

    @property
    def has_suspect(self) -> bool:
        """Whether it works on what killed an actor before."""
        return any(batch.deaths for batch in self.batches)


@dataclass(frozen=True)
class Call(Generic[Answer]):
    """What an actor was asked to do.

    Args:
        handle: of the actor that took the place then.
        names: of that actor; see `Place.names`.
        batch: None: to start.
    """

    place: Place[Answer]
    handle: Any
    names: tuple[object, object] = (None, None)
    batch: Batch[Answer] | None = None
    sources: tuple[Given, ...] = ()
