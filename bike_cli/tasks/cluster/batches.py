"""Batches of videos, what is known about them, and which of their videos end actors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

from bike_cli.errors import BikeError
from bike_cli.records import Failure, Source
from bike_cli.tasks.cluster.actor import BatchAnswer
from bike_cli.tasks.cluster.blame import internal_failure
from bike_cli.tasks.cluster.work import Answer, Given
from bike_cli.wording import count

DEATHS_TOGETHER = 2  # of actors on a batch, before its videos are done one at a time
DEATHS_ALONE = 2  # of actors on a single video, before it is blamed


@dataclass(eq=False)
class Batch(Generic[Answer]):
    """Sources that an actor gets together, and their answers so far.

    Args:
        number: its place in the order of all batches.
        died_at: places of actors that died of it, and their machines.
        size_bytes: of the answers, as they travelled.
        is_blamed: whether an answer is a failure only because actors died.
    """

    sources: list[Given]
    number: int
    answers: list[Answer | Failure] = field(default_factory=list)
    deaths: int = 0
    deaths_alone: int = 0  # on the first video without an answer
    died_at: set[object] = field(default_factory=set)
    size_bytes: int = 0
    is_blamed: bool = False
    error: BikeError | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self.error is not None or len(self.answers) == len(self.sources)

    def next_sources(self) -> list[Given]:
        """Return what an actor gets next."""
        left = self.sources[len(self.answers) :]
        return left[:1] if self.deaths >= DEATHS_TOGETHER else left

    def note_death(self, places: Sequence[object], blame: Callable[[Source], Failure]) -> Source | None:
        """Count the death of an actor; the video it died of, if that is certain, gets a failure for its answer.

        Args:
            places: the actor's place, and its machine.
            blame: returns the failure.
        Returns:
            the blamed video.
        """
        self.died_at.update(places)
        self.deaths_alone += self.deaths >= DEATHS_TOGETHER
        self.deaths += 1
        if self.deaths_alone < DEATHS_ALONE:
            return None
        source = _source(self.next_sources()[0])
        self.answers.append(blame(source))
        self.deaths_alone, self.is_blamed = 0, True
        return source

    def add(self, sent: Sequence[Given], answered: BatchAnswer[Answer]) -> None:
        """Take the answers for the sources that were sent to an actor."""
        self.answers += _matched(sent, answered.answers) if answered.error is None else answered.answers[: len(sent)]
        self.size_bytes += answered.size_bytes
        self.error = answered.error
        self.deaths_alone = 0


def _source(given: Given) -> Source:
    return given.source if isinstance(given, Failure) else given


def _matched(sent: Sequence[Given], answers: Sequence[Answer | Failure]) -> Sequence[Answer | Failure]:
    """Return one answer for each source: an internal failure for one without, and none twice."""
    wanted, found = [_source(given).id for given in sent], list(map(_id, answers))
    if found == wanted:
        return answers
    reason = f"an actor returned {count(len(answers), 'answer')} for {count(len(sent), 'video')}, or for other ones"
    left, matched = dict(zip(reversed(found), reversed(answers), strict=True)), list[Answer | Failure]()
    for given in sent:
        answer = left.pop(_source(given).id, None)
        matched.append(internal_failure(_source(given), reason) if answer is None else answer)
    return matched


def _id(answer: Any) -> str:  # noqa: ANN401 - whatever a command answers
    return str(answer.source.id)
