"""Videos and labels in, timelines out: when each label is seen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import cast

from bike_cli.config import Descriptions, SpotConfig, VideoConfig
from bike_cli.config.spot import FPS, FPS_WITH_HEAD
from bike_cli.data.lexicons import read_lexicon
from bike_cli.data.lines import key
from bike_cli.data.remote.uris import source_named
from bike_cli.engine.attributes import encode_lexicon
from bike_cli.engine.engine import Engine
from bike_cli.engine.heads.saved_classifier import SavedClassifier
from bike_cli.engine.localisation.decoding import RunRule
from bike_cli.engine.localisation.log_odds import EXCLUSIVE_LEAD, RIVAL_LEAD
from bike_cli.errors import UsageError, concerning
from bike_cli.inference.frame_streams import FrameStreams, open_chunks
from bike_cli.inference.localiser import Localiser
from bike_cli.inference.prepare import default_labels, prepare
from bike_cli.inference.rejection import check_phrases
from bike_cli.records import Failure, Source, Timeline, Timings
from bike_cli.settings import build
from bike_cli.time_limits import call_on_path
from bike_cli.video.streams.values import StreamRequest
from bike_cli.video.workers.pool import DecodePool

THRESHOLD, THRESHOLD_WITHOUT_NONE = 0.5, 0.9
NONE = "none"  # the class of a saved classifier that stands for everything else


def spot(
    engine: Engine,
    sources: Iterable[str | Path | Source | Failure],
    labels: Sequence[str] | None = None,
    config: SpotConfig | None = None,
    *,
    none: Sequence[str] = (),
    descriptions: Descriptions | None = None,
    pool: DecodePool | None = None,
    spent: Timings | None = None,
    saved: SavedClassifier | None = None,
    videos: int | None = None,
    keeps_scores: bool = False,
    report: Callable[[Source, float], None] | None = None,
) -> Iterator[Timeline | Failure]:
    """Yield the timeline of each video, or why it cannot be read, in order.

    Args:
        sources: paths of videos or frame folders, or sources. A failure is yielded as it is, in its place.
        labels: at least one, each once. None: those that the classifier or the model was trained with.
        config: None: the defaults. Of its `engine` section, only precision and offline count.
        none: texts of what else can be seen instead of a label; they are rivals of the labels, and not reported.
        descriptions: for some labels or texts of `none`, texts that say what can be seen; see `read_label_set`.
        pool: running workers, started with the decoding of the config; they are left running. None: this call starts
            its own.
        spent: updated with the time that each stage takes.
        saved: a classifier that `load_classifier` returns. It judges windows of as many frames as it was trained with.
            If one of its classes is `none`, that stands for everything else, and is not reported.
        videos: number of sources; with fewer videos than workers, several read parts of one video. None: that of
            `sources` if it has a length.
        keeps_scores: whether timelines contain the probability of each label in each bin.
        report: called with a source and the seconds of it that were read so far.
    Raises:
        TypeError: `sources` or `labels` is a single path or text.
        UsageError: no label, a repeated label, an unknown template or lexicon, a model whose frames depend on one
            another, a store that cannot be used, a classifier of another model. Raised at once.
    """
    if isinstance(sources, (str, Path)) or isinstance(labels, str) or isinstance(none, str):
        raise TypeError("sources, labels and none must be lists; put a single one in brackets")
    config = config or default_spot_config(saved)
    labels = default_labels(engine, saved) if labels is None else labels
    localiser = prepare_localiser(engine, labels, config, none=none, descriptions=descriptions, saved=saved)
    if videos is None and isinstance(sources, Sized):
        videos = len(sources)
    return spot_with(
        *(localiser, sources, config),
        pool=pool,
        spent=spent,
        videos=videos,
        keeps_scores=keeps_scores,
        report=report,
    )


def spot_with(
    localiser: Localiser,
    sources: Iterable[str | Path | Source | Failure],
    config: SpotConfig,
    *,
    pool: DecodePool | None = None,
    spent: Timings | None = None,
    videos: int | None = None,
    keeps_scores: bool = False,
    report: Callable[[Source, float], None] | None = None,
) -> Iterator[Timeline | Failure]:
    """Yield the timeline of each video, or why it cannot be read, in order.

    Args:
        localiser: what `prepare_localiser` returns for the config. Several threads may use it at the same time.
        sources, pool, spent, videos, keeps_scores, report: as in `spot`.
    Raises:
        UsageError: a store that cannot be used. Raised at once.
    """
    timelines = _timelines(
        localiser,
        replace(config, fps=localiser.rule.fps),
        _readable(sources, has_fps=config.fps is not None),
        pool,
        spent or Timings(),
        videos=videos,
        keeps_scores=keeps_scores or config.timeline,
        report=report,
    )
    next(timelines)
    return cast("Iterator[Timeline | Failure]", timelines)


def default_spot_config(saved: SavedClassifier | None = None) -> SpotConfig:
    """Return the configuration of a run without one: with the settings of the classifier, if there is one."""
    return SpotConfig() if saved is None else build(SpotConfig, spot_defaults(saved))


def spot_defaults(saved: SavedClassifier) -> dict[str, object]:
    """Return the settings of a classifier that are defaults here; it does not use the lexicon of `SpotConfig`."""
    return {name: value for name, value in saved.settings.items() if name != "attributes"}


def prepare_localiser(
    engine: Engine,
    labels: Sequence[str],
    config: SpotConfig,
    *,
    none: Sequence[str] = (),
    descriptions: Descriptions | None = None,
    saved: SavedClassifier | None = None,
) -> Localiser:
    """Return what finds these labels in the features of a video; encodes their texts.

    Raises:
        UsageError: see `spot`.
    """
    _check(engine, labels, config, none)
    # A float, as in a command line: the store tells 4 from 4.0.
    fps = float(config.fps or (FPS if engine.temporal_head is None else FPS_WITH_HEAD))
    if config.min_duration < 1 / fps:
        raise UsageError(
            f"min_duration is {config.min_duration:g} s, shorter than a frame at {fps:g} per second; give a longer "
            "one, or more --fps",
            settings=("min_duration",),
        )
    given, video_config = [*labels, *none], _video_config(engine, config, saved)
    classifier = prepare(engine, given, video_config, saved, descriptions=descriptions, shows_attributes=False)
    places = tuple(i for i, label in enumerate(labels) if saved is None or key(label) != NONE)
    if not places:
        raise UsageError("labels: none is the only one, and stands for everything else; add others with --also")
    threshold = config.threshold
    if threshold is None:
        threshold = THRESHOLD if saved is None or len(places) < len(labels) else THRESHOLD_WITHOUT_NONE
    phrases = None
    if saved is None:
        lead = EXCLUSIVE_LEAD if config.exclusive else RIVAL_LEAD
        if math.log(threshold / (1 - threshold)) >= lead:
            highest = math.floor(100 / (1 + math.exp(-lead))) / 100
            raise UsageError(
                f"threshold is {threshold:g}, which no probability exceeds; give at most {highest:g}",
                settings=("threshold",),
            )
        name = engine.recipe.lexicon if config.attributes == "auto" else config.attributes
        with concerning("attributes"):
            phrases = encode_lexicon(engine.encoder, read_lexicon(name)).features
    return Localiser(
        classifier,
        tuple(labels[i] for i in places),
        places,
        phrases,
        RunRule(fps, config.min_duration, threshold),
        exclusive=config.exclusive,
        window=classifier.config.sampling.frames,
    )


def _check(engine: Engine, labels: Sequence[str], config: SpotConfig, none: Sequence[str]) -> None:
    if engine.encoder.reads_clips:
        raise UsageError(
            f"{engine.name}: the feature of a frame depends on its neighbours, so bike spot cannot read frame by frame "
            "with it; choose another model",
            settings=("model",),
        )
    check_phrases(labels, none)


def _video_config(engine: Engine, config: SpotConfig, saved: SavedClassifier | None) -> VideoConfig:
    """Return the configuration under which the labels are read: that of the training, with the settings of `config`."""
    given = config.video_config()
    if saved is not None:
        trained = build(VideoConfig, saved.settings)
        if trained.attributes.attribute_model is not None:
            raise UsageError("classifier: uses a second model for attributes, which bike spot does not; train it again")
        spotting = replace(given.spotting, pool=trained.spotting.pool)
        return replace(given, sampling=trained.sampling, spotting=spotting, attributes=trained.attributes)
    if engine.training is None:
        return given
    sampling = replace(engine.training.sampling, draft=config.draft)
    return replace(given, sampling=sampling, spotting=replace(given.spotting, pool=engine.training.pool))


def _timelines(
    localiser: Localiser,
    config: SpotConfig,
    sources: Iterator[Source | Failure],
    pool: DecodePool | None,
    spent: Timings,
    *,
    videos: int | None,
    keeps_scores: bool,
    report: Callable[[Source, float], None] | None,
) -> Iterator[Timeline | Failure | None]:
    """Open the store and yield None, then yield the timelines. Closing the iterator closes the store."""
    with ExitStack() as stack:
        shelf = stack.enter_context(open_chunks(localiser.engine, config))
        yield None
        if pool is None:
            pool = stack.enter_context(DecodePool(config.sampling, config.decoding))
        assert config.fps is not None
        engine = localiser.engine
        recipe = engine.encoder.recipe
        short_side = (recipe.resize_side or recipe.side) if config.draft else None
        request = StreamRequest(config.fps, config.draft, short_side)
        streams = FrameStreams(
            sources,
            engine,
            request,
            pool=pool,
            decoding=config.decoding,
            videos=videos,
            shelf=shelf,
            spent=spent,
            report=report,
        )
        for video in streams:
            if isinstance(video, Failure):
                yield video
                continue
            start_s = time.perf_counter()
            timeline = localiser.timeline(video, keep_scores=keeps_scores)
            spent.encode_s += time.perf_counter() - start_s
            yield timeline


def _readable(sources: Iterable[str | Path | Source | Failure], *, has_fps: bool) -> Iterator[Source | Failure]:
    """Yield the sources; folders of frames, which have no clock, become failures where no rate is given."""
    for given in sources:
        source = source_named(given) if isinstance(given, (str, Path)) else given
        if isinstance(source, Source) and not has_fps and _is_folder(source):
            problem = f"{source.id}: is a folder of frames, which has no clock; give its frames per second with --fps"
            yield Failure(source, "unreadable", problem)
        else:
            yield source


def _is_folder(source: Source) -> bool:
    return source.remote is None and call_on_path(source.path, source.path.is_dir, default=False)
