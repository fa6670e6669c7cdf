"""Videos and labels in, embeddings out: for search, and to classify with other labels later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bike_cli.config import Descriptions, EmbedConfig, Precision
from bike_cli.data.parts.embeddings import DataType, EmbeddingTable, VideoEmbedding
from bike_cli.data.parts.embeddings import read_embeddings as read_part
from bike_cli.data.parts.folder import RUN_FILE, PartFolder, part_folder
from bike_cli.engine.engine import Engine
from bike_cli.engine.scoring import unit
from bike_cli.errors import ModelError, UsageError
from bike_cli.inference.features import Features, Input
from bike_cli.inference.label_texts import encode_labels
from bike_cli.inference.prepare import open_shelf
from bike_cli.records import Failure, Source, VideoFeatures
from bike_cli.video.workers.pool import DecodePool

COMMAND = "embed"  # of the folders that hold embeddings


def embed(
    engine: Engine,
    sources: Iterable[Input],
    config: EmbedConfig | None = None,
    *,
    pool: DecodePool | None = None,
) -> Iterator[VideoFeatures | Failure]:
    """Yield the features of each source, or a failure, in order, as soon as they are known.

    Args:
        sources: as in `classify`.
        config: its sampling, decoding and store count. None: the defaults.
        pool: running workers, started with the sampling and decoding of the config; they are left running. None: this
            call starts its own.
    Raises:
        TypeError: `sources` is a single path.
        UsageError: more frames than the model has positions for, or a store that cannot be used.
    """
    if isinstance(sources, (str, Path)):
        raise TypeError("sources must be a list; put a single one in brackets")
    config = config or EmbedConfig()
    engine.check_frames(config.sampling.frames)
    return _features(engine, sources, config, pool)


def _features(
    engine: Engine, sources: Iterable[Input], config: EmbedConfig, pool: DecodePool | None
) -> Iterator[VideoFeatures | Failure]:
    with ExitStack() as stack:
        shelf = stack.enter_context(open_shelf((engine,), config.video_config()))
        if pool is None:
            most = len(sources) if isinstance(sources, Sized) else None
            pool = stack.enter_context(DecodePool(config.sampling, config.decoding, most=most))
        for batch in Features(sources, (engine,), config.sampling, pool=pool, shelf=shelf):
            for video in batch:
                yield video if isinstance(video, Failure) else video[0]


@torch.no_grad()
def embed_labels(
    engine: Engine,
    labels: Sequence[str],
    config: EmbedConfig | None = None,
    *,
    descriptions: Descriptions | None = None,
) -> NDArray[np.float32]:
    """Return the embeddings of labels in their templates: float32 [C, D], of length 1.

    Args:
        labels: C labels.
        config: its template and its use of descriptions count. None: the defaults.
        descriptions: for some labels, texts that say what can be seen in a video of them.
    Raises:
        UsageError: an unknown template.
    """
    config = config or EmbedConfig()
    texts = encode_labels(
        *(engine, labels),
        template=config.template,
        spot="eot",
        descriptions=descriptions,
        use=config.descriptions,
        store=config.store,
    )
    vectors: NDArray[np.float32] = unit(texts.classes).float().cpu().numpy()
    return vectors


def table_of(engine: Engine, dtype: str, precision: Precision | None = None) -> EmbeddingTable:
    """Return the columns of a folder of embeddings from a model.

    Args:
        dtype: that of the configuration.
        precision: in which the embeddings are computed. None: that of the engine.
    """
    precision = precision or engine.encoder.placement.precision
    return EmbeddingTable(engine.encoder.dim, stored_type(dtype, precision), engine.temporal_head is not None)


def stored_type(dtype: str, precision: Precision) -> DataType:
    """Return the type of the numbers in a folder; `auto` holds all that a precision computes."""
    if dtype == "auto":
        return "float16" if precision == "fp16" else "float32"
    return "float16" if dtype == "float16" else "float32"


@torch.no_grad()
def embedding_of(features: VideoFeatures, dtype: DataType) -> VideoEmbedding:
    """Return the features of a video as its embedding.

    Raises:
        ModelError: numbers that are too large for `dtype`, or not finite.
    """
    mean = unit(unit(features.scored_frames.float().mean(dim=1)).mean(dim=0))  # as --pool mean, averaged over views
    informed = None if features.informed is None else features.informed.float().cpu().numpy()
    frames = features.frames.float().cpu().numpy()
    largest = np.finfo(dtype).max
    for numbers in (frames, informed):
        if numbers is not None and not (np.abs(numbers) <= largest).all():
            problem = f"its embedding has numbers that {dtype} cannot hold"
            raise ModelError(f"{features.source.id}: {problem}; use --dtype float32 and --precision fp32")
    return VideoEmbedding(features.source.id, mean.cpu().numpy(), frames, informed, features.timeline)


def read_embeddings(folder: str | PartFolder) -> Iterator[VideoFeatures | Failure]:
    """Yield the features in a folder that `bike embed -o` wrote, and the failures; `classify` takes them as sources.

    Raises:
        UsageError: the folder cannot be read, or has no embeddings.
    """
    folder = part_folder(folder) if isinstance(folder, str) else folder
    facts = folder.read_json(RUN_FILE)
    if facts is None or facts.get("command") != COMMAND:
        raise UsageError(f"{folder.name}: contains no embeddings; give a folder that bike embed -o wrote")
    for part in folder.parts():
        for record in read_part(folder, part):
            if isinstance(record, Failure):
                yield record
                continue
            informed = None if record.informed is None else torch.from_numpy(record.informed)
            source = Source.at(record.path)
            yield VideoFeatures(source, torch.from_numpy(record.frames), record.timeline, informed)
