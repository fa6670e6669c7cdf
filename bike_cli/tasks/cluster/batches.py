"""Batches of videos, what is known about them, and which of their videos end actors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic

from bike_cli.errors import BikeError
from bike_cli.records import Failure, Source
from bike_cli.tasks.cluster.actor import BatchAnswer
from bike_cli.tasks.cluster.work import Answer, Given

DEATHS_TOGETHER = 2  # of actors on a batch, before its videos are done one at a time
DEATHS_ALONE = 2  # of actors on a single video, before it is blamed


@dataclass(eq=False)
class Batch(Generic[Answer]):
    """Sources that an actor gets together, and their answers so far."""

    sources: list[Given]
    answers: list[Answer | Failure] = field(default_factory=list)
    deaths: int = 0
    deaths_alone: int = 0  # on the first video without an answer
    error: BikeError | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.error is not None or len(self.answers) == len(self.sources)

    def next_sources(self) -> list[Given]:
        """Return what an actor gets next."""
        left = self.sources[len(self.answers) :]
        return left[:1] if self.is_suspect_alone else left

    @property
    def is_suspect_alone(self) -> bool:
        """Whether its videos are done one at a time."""
        return self.deaths >= DEATHS_TOGETHER

    def note_death(self, blame: Callable[[Source], Failure]) -> None:
        """Count the death of an actor; the video it died of, if that is certain, gets a failure for its answer."""
        self.deaths_alone += self.is_suspect_alone
        self.deaths += 1
        if self.deaths_alone == DEATHS_ALONE:
            (given,) = self.next_sources()
            self.answers.append(blame(given.source if isinstance(given, Failure) else given))
            self.deaths_alone = 0

    def add(self, answered: BatchAnswer[Answer]) -> None:
        """Take the answers of an actor."""
        self.answers += answered.answers
        self.error = answered.error
        self.deaths_alone = 0
