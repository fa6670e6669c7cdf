"""`bike embed`: compute the embeddings of videos, or of labels, and write them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

import numpy as np

from bike_cli.cli.embed.formats import (
    NumpyEmbeddings,
    PartEmbeddings,
    embedding_format,
    is_numpy,
    sampling_settings,
    write_arrays,
)
from bike_cli.cli.flags import Flags, command, trained_defaults
from bike_cli.cli.session import Session, session
from bike_cli.cli.terminal.console import can_animate, loading, notice, plain, stderr
from bike_cli.cli.terminal.output_file import open_output
from bike_cli.cli.videos.cluster import ClusterRequest, adapt_to_cluster, session_of
from bike_cli.cli.videos.existing import ExistingRecords
from bike_cli.cli.videos.parts import PartOutput
from bike_cli.cli.videos.run import Progress, finish, naming_resume, opened_output, report_end, total_of, write_records
from bike_cli.cli.videos.sources import check_output, list_sources, name_of
from bike_cli.config import EmbedConfig, Precision, flag
from bike_cli.config.fields import OUTPUT
from bike_cli.data.parts.folder import part_folder
from bike_cli.data.parts.tables import as_parquet
from bike_cli.errors import ExitCode, UsageError
from bike_cli.records import Failure, Source, VideoFeatures
from bike_cli.settings import resolve
from bike_cli.wording import count

if TYPE_CHECKING:
    from bike_cli.engine.engine import Engine

logger = logging.getLogger(__name__)

LABELS_FILE = "labels.parquet"  # in the folder of embeddings of labels


@dataclass(frozen=True, kw_only=True)
class EmbedRequest(ClusterRequest):
    """What to embed, and where the embeddings go."""

    labels: Path | None = flag(
        "-l", "--labels", default=None, help="Embed the labels of this file instead of videos, in their templates."
    )
    label_list: tuple[str, ...] = flag(
        "-L", default=(), metavar="A,B,…", help="Embed these labels, separated by commas; repeat to add more."
    )
    format: Literal["parquet", "npz"] | None = flag(
        "-f",
        "--format",
        default=None,
        panel=OUTPUT,
        default_text="npz if the name of -o ends in .npz, otherwise parquet",
        help="Output format: parquet writes a folder of Parquet files, npz a file of NumPy arrays.",
    )
    target: str | None = flag(
        "-o",
        "--output",
        default=None,
        panel=OUTPUT,
        metavar="PATH",
        help="Write to this folder, which further runs and shards add to; or to a file, if the name ends in .npz.",
    )
    resume: bool = flag(
        "--resume", default=False, panel=OUTPUT, help="Continue a folder, which every run does; a .npz file cannot be."
    )

    @property
    def has_labels(self) -> bool:
        """Whether labels are embedded, not videos."""
        return self.labels is not None or bool(self.label_list)

    @property
    def writes_parts(self) -> bool:
        """Whether the output is a folder of Parquet files."""
        return self.format == "parquet" or (self.format is None and not is_numpy(Path(self.target or "")))

    def check(self) -> None:
        """Raise UsageError for flags that do not fit each other, or an output that cannot be written."""
        self.check_processes()
        if self.target is None:
            raise UsageError("-o: missing; name a folder for Parquet files, such as -o embeddings/, or a file .npz")
        if self.resume and not self.writes_parts:
            raise UsageError("--resume: continues a folder, not a .npz file; name one, such as -o embeddings/")
        self.check_target("parquet" if self.writes_parts else "npz", example="embeddings.npz")
        if self.output is not None and not is_numpy(self.output):
            raise UsageError(f"-o {self.target}: is not named like a NumPy file; end the name in .npz")
        check_output(self.output, read=(self.labels, self.files_from))
        if self.has_labels and (self.videos or self.files_from is not None or self.shard is not None):
            raise UsageError("labels: videos were given, too; embed labels in a run of their own")
        if self.has_labels and self.ray is not None:
            raise UsageError("--ray: labels are embedded in this process; leave it out")


def embed(config: EmbedConfig, request: EmbedRequest) -> ExitCode:
    """Compute embeddings of videos, for search and to classify them with other labels later.

    bike embed clips/ -o embeddings/

    bike classify --from-embeddings embeddings/ -l labels.txt

    bike embed -l labels.txt -o texts/
    """
    from bike_cli.data.shards import parse_shard

    request.check()
    if request.has_labels:
        return _embed_labels(config, request)
    shard = None if request.shard is None else parse_shard(request.shard)
    done = Progress()
    with (
        closing(list_sources(request.inputs)) as sources,
        naming_resume(request, is_resumable=request.writes_parts),
        session_of(config, request, videos=len(sources.first) if sources.are_known else None) as running,
        opened_output(*(request, None, embedding_format(config)), command="embed", as_object=None, shard=shard) as (
            stream,
            existing,
        ),
    ):
        left = sources.chosen(shard=shard, is_done=existing.take, output=request.output)
        known = list(left) if sources.are_known else None
        names = None if known is None else [name_of(source) for source in known]
        first = list(islice(left, 0 if sources.arrive else 1)) if known is None else known
        if first or sources.arrive or stream is not None:  # else no model is loaded
            engine = running.load()
            writer = _writer(stream, existing)
            begin = partial(_begin, engine, config, existing, writer)
            n_videos = None if known is None else len(known)
            shows_bar = not request.quiet and can_animate() and (n_videos is None or n_videos > 1)
            write_records(
                _features(
                    engine, chain(first, left), config, request, running, existing.check_precision, begin, n_videos
                ),
                writer,
                done,
                request,
                console=stderr() if shows_bar else None,
                total=partial(total_of, names, sources, shard, existing),
                is_seen=False,
                before=existing,
            )
    report_end(request, done, existing)
    if sources.arrive and not sources.seen:
        notice("stdin: contains no path; pipe some in, one per line", level="error")
    return finish(done, existing, is_empty_shard=shard is not None and sources.seen > 0)


def _configure(flags: Flags, request: EmbedRequest) -> tuple[EmbedConfig, EmbedRequest]:
    config = resolve(EmbedConfig, flags=flags, file=request.config, defaults=trained_defaults(EmbedConfig))
    return adapt_to_cluster(config, flags, request), request


embed_command = command(embed, configure=_configure)


def _writer(stream: TextIO | None, existing: ExistingRecords) -> PartEmbeddings | NumpyEmbeddings:
    if stream is not None:
        return NumpyEmbeddings(stream.buffer)
    assert isinstance(existing, PartOutput)
    return PartEmbeddings(existing)


def _begin(
    engine: Engine,
    config: EmbedConfig,
    existing: ExistingRecords,
    writer: PartEmbeddings | NumpyEmbeddings,
    *,
    precision: Precision,
) -> None:
    """Begin to write, once it is known that model and precision are those of the embeddings that exist."""
    from bike_cli.tasks.embed import table_of

    table = table_of(engine, config.dtype, precision)
    if isinstance(existing, PartOutput):
        existing.facts = {
            "model_as_given": config.engine.model,
            "dim": table.dim,
            "dtype": table.dtype,
            "sampling": sampling_settings(config),
        }
        existing.as_table = table.of_videos
    existing.begin(engine.name, engine.short_digest, precision=precision)
    writer.begin(engine.name, table.dtype)


def _features(
    engine: Engine,
    sources: Iterable[Source | Failure],
    config: EmbedConfig,
    request: EmbedRequest,
    running: Session,
    check: Callable[[str], None],
    begin: Callable[..., None],
    n_videos: int | None,
) -> Iterator[VideoFeatures | Failure]:
    from bike_cli.tasks.embed import embed as run

    cluster = request.cluster
    if cluster is None:
        begin(precision=engine.encoder.placement.precision)
        return run(engine, sources, config, pool=running.pool)
    engine.check_frames(config.sampling.frames)
    from bike_cli.tasks.cluster.run import run_on_cluster
    from bike_cli.tasks.cluster.work import EmbedWork

    return run_on_cluster(
        *(cluster, sources, EmbedWork(config)),
        model=engine.name,
        model_digest=engine.short_digest,
        videos=n_videos,
        check=check,
        begin=begin,
    )


def _embed_labels(config: EmbedConfig, request: EmbedRequest) -> ExitCode:
    """Write the embeddings of labels."""
    from bike_cli.data.labels import LabelSet, parse_labels, read_label_set

    if request.labels is not None and request.label_list:
        raise UsageError("labels: both -l and -L were given; choose one")
    given = LabelSet(parse_labels(request.label_list)) if request.labels is None else read_label_set(request.labels)
    with session(config.video_config(), videos=0, quiet=request.quiet) as running:
        engine = running.load()
        from bike_cli.tasks.embed import embed_labels, table_of

        with loading("labels", quiet=request.quiet):
            vectors = embed_labels(engine, given.labels, config, descriptions=given.descriptions)
    table = table_of(engine, config.dtype)
    if request.output is not None:
        with open_output(request.output) as stream:
            write_arrays(
                stream.buffer,
                labels=np.array(given.labels, dtype=np.str_),
                embeddings=vectors.astype(table.dtype),
                model=np.array(engine.name),
            )
    else:
        folder = part_folder(request.target or "")
        folder.create(expects=LABELS_FILE)
        if LABELS_FILE in folder.names():
            logger.warning("%s: exists and is replaced", folder.file(LABELS_FILE))
        facts = {"model": engine.name, "model_digest": engine.short_digest}
        folder.write(LABELS_FILE, as_parquet(table.of_labels(given.labels, vectors, facts)))
    if not request.quiet:
        stderr().print(plain(f"{count(len(given.labels), 'label')}; written to {request.target}", "dim"))
    return ExitCode.DONE
