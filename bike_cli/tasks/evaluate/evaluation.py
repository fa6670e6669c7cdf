"""How right models are on videos whose labels are known: every way to classify looks at the same decoded clips."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from bike_cli.config import ClassifyConfig, StoreConfig
from bike_cli.data.labelled.entries import LeftOut
from bike_cli.data.labelled.eval_sets import NONE, Tested
from bike_cli.engine.engine import Engine
from bike_cli.engine.store.store import open_store
from bike_cli.errors import UsageError
from bike_cli.inference.classifier import Classifier, Told
from bike_cli.inference.contents import digest_of_all, digests_of
from bike_cli.inference.features import Features, Seen
from bike_cli.inference.prepare import prepare, shelf_of
from bike_cli.inference.processes import Processes
from bike_cli.records import Clip, Failure, Prediction, Spent
from bike_cli.tasks.evaluate.official import Official
from bike_cli.tasks.evaluate.score_table import ScoreTable
from bike_cli.video.workers.pool import DecodePool

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class System:
    """One way to classify.

    Args:
        name: what reports call it.
        config: of its sampling, decoding and store, those of the first of all systems count.
    """

    name: str
    engine: Engine
    config: ClassifyConfig


@dataclass(frozen=True, eq=False)
class _Row:
    logits: NDArray[np.float64]
    views: NDArray[np.float32] | None
    frames: NDArray[np.float64] | None
    attributes: NDArray[np.float64] | None


@dataclass(eq=False)
class Evaluation:
    """A look at labelled videos through several systems: `read` first, then `tables`.

    Args:
        pool: workers that run already, made with the sampling of the systems.
        official: keep what the official figures are made of, too.
        by: the processes that share the videos; each ends with all figures.
    """

    systems: Sequence[System]
    tested: Tested
    pool: DecodePool
    store: StoreConfig
    official: bool = False
    by: Processes = field(default_factory=Processes)
    spent: Spent = field(default_factory=Spent)

    def __post_init__(self) -> None:
        if not self.systems:
            raise ValueError("systems is empty; give one way to classify or more")
        labels = self.tested.labels
        self._classifiers = [prepare(one.engine, labels, one.config) for one in self.systems]
        self._engines = list(dict.fromkeys(engine for c in self._classifiers for engine in c.engines))
        self._rows: list[tuple[_Row, ...] | LeftOut] = []
        self._sound = list(range(len(self.systems)))  # those that give numbers
        self._digests: list[bytes | None] = []

    def read(self) -> Iterator[tuple[int, int, Failure | None]]:
        """Look at this process's videos; yield how many are done, of how many, and what failed."""
        own = self.by.share(list(self.tested.samples))
        config = self.systems[0].config
        found: list[tuple[_Row, ...] | Failure] = []
        with ExitStack() as stack:
            store = open_store(self.store)
            shelf = None if store is None else shelf_of(stack.enter_context(store), self._engines, config)
            sources = [sample.source for sample in own]
            for batch in Features(
                sources, self._engines, config.sampling, pool=self.pool, shelf=shelf, spent=self.spent
            ):
                rows = iter(self._scored([one for one in batch if isinstance(one, Seen)]))
                for one in batch:
                    found.append(one if isinstance(one, Failure) else next(rows))
                    yield len(found), len(own), one if isinstance(one, Failure) else None
            digests = [d if isinstance(d, bytes) else None for d in digests_of(sources, self.pool, store)]
        told = [LeftOut(one.source.id, one.kind, one.message) if isinstance(one, Failure) else one for one in found]
        self._rows, self._digests = self.by.unshare(told), self.by.unshare(digests)
        self._leave_out_what_is_no_number()

    def _leave_out_what_is_no_number(self) -> None:
        """Leave out systems whose scores never are numbers, and videos of which another's are none."""
        rows = [row for row in self._rows if not isinstance(row, LeftOut)]
        finite = np.array([[np.isfinite(one.logits).all() for one in row] for row in rows], dtype=np.bool_)
        if not rows:
            return
        if not finite.any():  # of which each video tells
            finite[:] = True
        for i in np.flatnonzero(~finite.any(axis=0)):
            if self.by.is_first:
                name = self.systems[int(i)].name
                logger.warning("%s: its scores are no numbers, and it is left out; look at its weights", name)
        self._sound = [int(i) for i in np.flatnonzero(finite.any(axis=0))]
        for place, row in enumerate(self._rows):
            bad = () if isinstance(row, LeftOut) else [i for i in self._sound if not np.isfinite(row[i].logits).all()]
            if bad:
                video, name = self.tested.samples[place].source.id, self.systems[bad[0]].name
                message = f"{video}: the scores of {name} are no numbers; try --precision fp32"
                self._rows[place] = LeftOut(video, "no_number", message)

    @property
    def attribute_weight(self) -> float:
        """How much attributes count, in the system where they count most."""
        return max(0.0 if one.branch is None else one.branch.weight for one in self._classifiers)

    @property
    def contents(self) -> str:
        """The hash of what all videos hold, and of their labels."""
        return digest_of_all(self._digests, [sample.labels for sample in self.tested.samples])

    @property
    def failures(self) -> tuple[LeftOut, ...]:
        """What could not be read or scored, of all processes."""
        return tuple(one for one in self._rows if isinstance(one, LeftOut))

    @property
    def sound(self) -> list[System]:
        """The systems that give numbers, of which `tables` has one each."""
        return [self.systems[i] for i in self._sound]

    @property
    def kept(self) -> tuple[int, ...]:
        """Places among the samples of the videos that could be read and scored."""
        return tuple(i for i, one in enumerate(self._rows) if not isinstance(one, LeftOut))

    def tables(self) -> list[tuple[ScoreTable, Official | None]]:
        """Return what each sound system says of the videos that are kept.

        Raises:
            UsageError: there is no such video.
        """
        rows = [one for one in self._rows if not isinstance(one, LeftOut)]
        if not rows:
            why = self.failures[0].message if self.failures else "there is none"
            raise UsageError(f"videos: none of {len(self._rows)} can be evaluated ({why}); fix them")
        names, truth = names_of(self.tested, self.kept), truth_of(self.tested, self.kept)
        found = []
        for i in self._sound:
            table = ScoreTable(self.tested.labels, names, np.stack([row[i].logits for row in rows]), truth)
            found.append((table, self._official([row[i] for row in rows], i) if self.official else None))
        return found

    def _official(self, rows: Sequence[_Row], i: int) -> Official:
        views, frames, attributes = (
            [found for row in rows if (found := getattr(row, name)) is not None]
            for name in ("views", "frames", "attributes")
        )
        classes = self._classifiers[i].texts.classes.double().cpu().numpy()
        told = np.stack(attributes) if attributes else None
        return Official(np.stack(views), _filled_up(frames), classes, told)

    def made_of(self) -> list[dict[str, object]]:
        """Return what the answers of each sound system depend on."""
        return [made_of(self._classifiers[i]) for i in self._sound]

    def look(self, rows: Sequence[int]) -> list[tuple[Clip, Prediction]]:
        """Return some videos' frames and the first system's answers with what decided; without those not read now.

        Args:
            rows: of the tables.
        """
        kept = self.kept
        first = self._classifiers[self._sound[0]]
        config = first.config
        classifier = replace(first, config=replace(config, explain=True, top=1))
        coming = [self.pool.decode(self.tested.samples[kept[row]].source) for row in rows]
        clips = [one.result().outcome for one in coming]
        return [(clip, classifier.answer(clip)) for clip in clips if isinstance(clip, Clip)]

    def _scored(self, seen: Sequence[Seen]) -> list[tuple[_Row, ...]]:
        by_system = [self._by_one(classifier, seen) for classifier in self._classifiers]
        return list(zip(*by_system, strict=True))

    def _by_one(self, classifier: Classifier, seen: Sequence[Seen]) -> list[_Row]:
        places = [self._engines.index(engine) for engine in classifier.engines]
        own = [Seen(tuple(one.features[place] for place in places)) for one in seen]
        rows = []
        for one, told in zip(own, classifier.tell(own), strict=True):
            logits = told.logits[0].double().numpy()
            if not self.official:
                rows.append(_Row(logits, None, None, None))
                continue
            frames = one.features[0].frames.flatten(0, 1).double().cpu().numpy()
            views = told.view_cosines[0].float().numpy()
            rows.append(_Row(logits, views, frames, _attribute_cosines(classifier, told)))
        return rows


def _filled_up(frames: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the frames of all videos, each [T of the video, D], with NaN behind the last: [V, T, D]."""
    filled = np.full((len(frames), max(map(len, frames)), frames[0].shape[1]), np.nan)
    for row, own in zip(filled, frames, strict=True):
        row[: len(own)] = own
    return filled


@torch.no_grad()
def _attribute_cosines(classifier: Classifier, told: Told) -> NDArray[np.float64] | None:
    """Return the cosine of a video's attribute sentence with each class, [C]; None where attributes do not count."""
    if classifier.branch is None or classifier.branch.weight == 0:
        return None
    return np.asarray(classifier.branch.scores(told.attributes[0])[0].double().cpu())


def made_of(classifier: Classifier) -> dict[str, object]:
    """Return what a classifier's answers depend on, as it is: what the model's recipe chose, too."""
    engine, config, branch = classifier.engine, classifier.config, classifier.branch
    recipe, asked = engine.recipe, config.attributes.attributes
    return {
        "model": engine.name,
        "fingerprint": engine.fingerprint,
        "template": config.template or recipe.template,
        "pool": config.spotting.pool,
        "spot": config.spotting.spot or recipe.spot,
        "temperature": classifier.texts.temperature,
        "attributes": None if branch is None else recipe.lexicon if asked == "auto" else asked,
        "attribute_weight": 0.0 if branch is None else branch.weight,
        "attribute_model": None if branch is None or branch.engine is engine else branch.engine.name,
    }


def names_of(tested: Tested, places: Sequence[int]) -> tuple[str, ...]:
    """Return the names of the videos at some places of the samples."""
    return tuple(tested.samples[place].source.id for place in places)


def truth_of(tested: Tested, places: Sequence[int]) -> NDArray[np.int64] | NDArray[np.bool_]:
    """Return what is true of the videos at some places of the samples, as a `ScoreTable` has it."""
    if not tested.multi_label:
        return np.array([tested.samples[place].label for place in places], dtype=np.int64)
    present = np.zeros((len(places), len(tested.labels)), dtype=np.bool_)
    for row, place in zip(present, places, strict=True):
        row[[label for label in tested.samples[place].labels if label != NONE]] = True
    return present
