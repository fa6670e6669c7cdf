"""The drawing phase: which videos each trial learns from and which it tests on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import chain

from bike_cli.config import DrawConfig, FewshotConfig
from bike_cli.data.labelled.draws import Draw, deal, draw
from bike_cli.data.labelled.train_sets import TrainSet
from bike_cli.errors import UsageError
from bike_cli.tasks.fewshot.methods import parse_shots

DEFAULT_SHOTS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Draws:
    """The draws of all trials."""

    # The numbers of shots, ascending; each trial draws the largest number, and fewer shots are the first ones.
    shots: tuple[int, ...]
    trials: tuple[Draw, ...]  # one draw per trial; its places are those of `Drawing.samples`

    @property
    def places(self) -> list[int]:
        """The places of all videos that some trial learns from or tests on, ascending."""
        return sorted({place for drawn in self.trials for place in chain(*drawn.shots, drawn.test)})


class Drawing:
    """The order in which each trial draws. It is fixed before any video is read.

    Args:
        labelled: the samples are those of `train`, then those of `test`.
    Raises:
        UsageError: shots or a test fraction that do not suit the data.
    """

    def __init__(self, labelled: TrainSet, config: DrawConfig) -> None:
        self._names = labelled.names
        self.samples = (*labelled.train, *(labelled.test or ()))
        test_fraction = config.test_fraction if isinstance(config, FewshotConfig) else None
        self._test = None if labelled.test is None else tuple(range(len(labelled.train), len(self.samples)))
        if self._test is not None and test_fraction is not None:
            raise UsageError(
                "--test-fraction: holds videos back for testing, but the data have a test side; leave it out",
                settings=("test_fraction",),
            )
        self._shots = None if config.shots == "auto" else parse_shots(config.shots)
        self._deals = tuple(
            deal(labelled.train, self._names, seed=config.seed, trial=trial, test_fraction=test_fraction)
            for trial in range(config.trials)
        )
        if self._shots is None and test_fraction is not None and self._room(()) < 1:
            smallest = min(sum(sample.label == i for sample in labelled.train) for i in range(len(self._names)))
            problem = f"holds back all {smallest} videos of the smallest class, so none is left to draw"
            raise UsageError(f"--test-fraction: {problem}; give a smaller fraction", settings=("test_fraction",))

    def draws(self, unusable: Collection[int] = (), reasons: Mapping[int, str] | None = None) -> Draws:
        """Return the draws without the videos that cannot be used.

        With `shots` `auto`, the numbers of shots are those of `DEFAULT_SHOTS` for which every class has videos.

        Args:
            unusable: places of samples that cannot be read, or are copies.
            reasons: why places are unusable, for the error.
        Raises:
            UsageError: too few videos of a class, or none to test on.
        """
        shots = self._shots
        if shots is None:
            room = self._room(unusable)
            shots = tuple(number for number in DEFAULT_SHOTS if number <= room) or DEFAULT_SHOTS[:1]
        trials = tuple(
            draw(dealt, self._names, most=max(shots), unusable=unusable, test=self._test, reasons=reasons)
            for dealt in self._deals
        )
        if any(not drawn.test for drawn in trials):
            raise UsageError("test: no test video can be used; add more")
        return Draws(shots, trials)

    def _room(self, unusable: Collection[int]) -> int:
        """Return the largest number of shots for which every class has videos, and one to test on."""
        orders = [order for dealt in self._deals for order in dealt.order]
        usable = min(sum(place not in unusable for place in order) for order in orders)
        tests_on_the_rest = self._test is None and self._deals[0].held is None
        return usable - 1 if tests_on_the_rest else usable
