"""`bike spot`: find when labels are seen in videos, and write the segments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, TextIO

from bike_cli.cli.flags import command
from bike_cli.cli.session import Session
from bike_cli.cli.spot.clock import clock
from bike_cli.cli.spot.names import VideoNames, check_clip_folder
from bike_cli.cli.spot.request import SpotRequest, configure_spot
from bike_cli.cli.spot.resume import SpotFormat, spot_format
from bike_cli.cli.spot.rows import Record, as_object, keep_best
from bike_cli.cli.spot.table import TableWriter
from bike_cli.cli.spot.writers import (
    Format,
    Writer,
    make_folder_writer,
    make_writer,
    names_of_files,
    writes_folder,
)
from bike_cli.cli.terminal.console import can_animate, loading, notice, stderr
from bike_cli.cli.terminal.stdout import is_pipe, reserve_stdout
from bike_cli.cli.videos.cluster import check_config, session_of
from bike_cli.cli.videos.existing import ExistingRecords
from bike_cli.cli.videos.labels import check_quotes, labels_of, phrases_of
from bike_cli.cli.videos.parts import PartOutput
from bike_cli.cli.videos.request import RESUMED, check_model
from bike_cli.cli.videos.run import (
    Progress,
    finish,
    naming_resume,
    opened_output,
    report_end,
    total_of,
    write_records,
)
from bike_cli.cli.videos.sources import Sources, check_output, list_sources, name_of
from bike_cli.config import SpotConfig
from bike_cli.data.remote.fetching import fetched
from bike_cli.errors import ExitCode
from bike_cli.iterators import closed_at_end
from bike_cli.records import Failure, Source, Timeline

if TYPE_CHECKING:
    from rich.console import Console

    from bike_cli.data.labels import LabelSet
    from bike_cli.data.shards import Shard
    from bike_cli.video.workers.media_worker import MediaWorker


def spot(config: SpotConfig, request: SpotRequest) -> ExitCode:
    """Find when your labels are seen in long videos.

    bike spot match.mp4 -L "corner kick, goal"

    bike spot videos/ -l labels.txt -o found.jsonl --resume

    bike spot match.mp4 -l labels.txt -f srt > match.srt
    """
    from bike_cli.data.shards import parse_shard

    request.check_processes()
    check_model(config.engine.model, request)
    labels, none = labels_of(config.engine.model, request), phrases_of(request.none, request.none_from)
    check_quotes(request)
    shard = None if request.shard is None else parse_shard(request.shard)
    format_ = request.output_format
    request.check(format_)
    descriptions = {**none.descriptions, **labels.descriptions}
    wanted, done = spot_format(labels.labels, none.labels, config, request.saved, descriptions), Progress()
    with (
        closing(list_sources(request.inputs)) as sources,
        reserve_stdout() as stdout,
        naming_resume(request, is_resumable=request.target is not None and format_ in RESUMED),
        ExitStack() as stack,
    ):
        writer, stream, existing = _opened_writer(request, format_, sources, stdout, wanted, stack, shard)
        left = sources.chosen(shard=shard, is_done=existing.take, output=request.output)
        known = list(left) if sources.are_known else None
        running = stack.enter_context(session_of(config, request, videos=None))
        names = None if known is None else [name_of(source) for source in known]
        # Do not wait for paths on stdin.
        first = list(islice(left, 0 if sources.arrive else 1)) if known is None else known
        position = _Position()
        records: Iterator[Record] = iter(())
        if first or sources.arrive:  # else no model is loaded
            n_videos = None if known is None else len(known)
            given = chain(first, left)
            found = _timelines(given, labels, none, config, request, running, existing, position, n_videos, format_)
            records = _with_outputs(found, config, request, stack)
        write_records(
            records,
            writer,
            done,
            request,
            console=_console_of_bar(stream, writer, quiet=request.quiet),
            total=partial(total_of, names, sources, shard, existing),
            is_seen=stream is not None and stream.isatty(),
            before=existing,
            note=position.text,
        )
    report_end(request, done, existing)
    if sources.arrive and not sources.seen:
        notice("stdin: contains no path; pipe some in, one per line", level="error")
    return finish(done, existing, is_empty_shard=shard is not None and sources.seen > 0)


spot_command = command(spot, configure=configure_spot)


class _Position:
    """How far the video that is being read has been read, for the progress display."""

    def __init__(self) -> None:
        self._source: Source | None = None
        self._seconds = 0.0

    def update(self, source: Source, seconds: float) -> None:
        """Set the video, and the seconds of it that were read."""
        self._source, self._seconds = source, seconds

    def text(self) -> str:
        """Return the video and the time in it: "match.mp4 00:12:03"; empty before the first frame."""
        return "" if self._source is None else f"{self._source.path.name} {clock(self._seconds, digits=0)}"


def _opened_writer(
    request: SpotRequest,
    format_: Format,
    sources: Sources[Source | Failure],
    stdout: TextIO | None,
    wanted: SpotFormat,
    stack: ExitStack,
    shard: Shard | None,
) -> tuple[Writer, TextIO | None, ExistingRecords]:
    """Return the writer, its stream unless it writes a folder, and the records that the output contains already."""
    n_videos = len(sources.first) if sources.are_known else None
    arguments = request.videos
    if request.cut is not None:
        check_clip_folder(request.cut, arguments)
        VideoNames(request.cut, arguments=arguments).check(sources.first)
    if writes_folder(format_, request.output, videos=n_videos):
        assert request.output is not None
        if format_ != "fiftyone":
            names_of_files(request.output, format_, arguments=arguments).check(sources.first)
        return make_folder_writer(request.output, format_, arguments=arguments), None, ExistingRecords()
    check_output(request.output, read=(request.labels, request.classifier, request.files_from))
    objects = partial(as_object, settings=wanted.settings, timeline=wanted.timeline)
    opened = opened_output(request, stdout, wanted, command="spot", as_object=objects, shard=shard)
    stream, existing = stack.enter_context(opened)
    if stream is None:
        assert isinstance(existing, PartOutput)
        request.check_report(existing)
        return existing, None, existing
    cuts = request.cut is not None
    writer = make_writer(stream, format_, settings=wanted.settings, timeline=wanted.timeline, cuts=cuts)
    return writer, stream, existing


def _timelines(
    sources: Iterable[Source | Failure],
    labels: LabelSet,
    none: LabelSet,
    config: SpotConfig,
    request: SpotRequest,
    running: Session,
    existing: ExistingRecords,
    position: _Position,
    n_videos: int | None,
    format_: Format,
) -> Iterator[Timeline | Failure]:
    engine = running.load()
    existing.check_model(engine.name)  # before labels are encoded, which may take long
    existing.check_digest(engine.name, engine.short_digest)
    from bike_cli.tasks.cluster.work import SpotWork
    from bike_cli.tasks.spot import spot_with

    cluster = request.cluster
    work = SpotWork(
        config if cluster is None else check_config(config),
        labels.labels,
        none=none.labels,
        descriptions={**none.descriptions, **labels.descriptions},
        saved=request.saved,
        videos=n_videos,
        keeps_scores=format_ == "table" or request.report is not None,
    )
    with loading("labels", quiet=request.quiet):
        localiser = work.localiser(engine)
    begin = partial(existing.begin, engine.name, engine.short_digest)
    if cluster is None:
        begin(precision=engine.encoder.placement.precision)
        return spot_with(
            *(localiser, sources, config),
            pool=running.pool,
            videos=n_videos,
            keeps_scores=work.keeps_scores,
            report=position.update,
        )
    from bike_cli.tasks.cluster.run import run_on_cluster

    return run_on_cluster(
        *(cluster, sources, replace(work, config=config)),
        model=engine.name,
        model_digest=engine.short_digest,
        videos=n_videos,
        check=existing.check_precision,
        begin=begin,
    )


def _with_outputs(
    found: Iterator[Timeline | Failure], config: SpotConfig, request: SpotRequest, stack: ExitStack
) -> Iterator[Record]:
    """Yield the records, with the best segments and the clips that are requested; write the page at the end."""
    with closed_at_end(found):
        if request.cut is None and request.report is None:
            for record in found:
                yield _best(record, config)
        else:
            yield from _with_files(found, config, request, stack)


def _with_files(
    found: Iterator[Timeline | Failure], config: SpotConfig, request: SpotRequest, stack: ExitStack
) -> Iterator[Record]:
    """Yield the records, and write clips and the page."""
    from bike_cli.cli.spot.clips import Cutter
    from bike_cli.cli.spot.page import PICTURE_PX, PageBuilder
    from bike_cli.video.workers.media_worker import MediaWorker

    worker, limit_s = stack.enter_context(MediaWorker(config.decoding)), config.decoding.decode_timeout
    cutter = None if request.cut is None else Cutter(request.cut, request, worker, limit_s=limit_s)
    page = None if request.report is None else PageBuilder(request.report)
    try:
        for timeline in found:
            best = _best(timeline, config)
            record = best if cutter is None or isinstance(best, Failure) else cutter.cut(best)
            if page is not None:
                page.add(record)
            yield record
    finally:
        if cutter is not None:
            cutter.warn()
        if page is not None:
            with loading("pictures for the page", quiet=request.quiet):
                page.write(partial(_read_pictures, worker, PICTURE_PX, limit_s))


def _best(record: Timeline | Failure, config: SpotConfig) -> Timeline | Failure:
    return record if config.top is None or isinstance(record, Failure) else keep_best(record, config.top)


def _read_pictures(
    worker: MediaWorker, side_px: int, limit_s: float, source: Source, times_s: Sequence[float]
) -> Sequence[bytes | None]:
    """Return the pictures of a video at some times; none if they cannot be read."""
    with fetched(source, limit_s) as local:
        stills = local if isinstance(local, Failure) else worker.stills(local, times_s, side_px=side_px)
    return [None] * len(times_s) if isinstance(stills, Failure) else stills


def _console_of_bar(stream: TextIO | None, writer: Writer, *, quiet: bool) -> Console | None:
    if quiet or not can_animate() or (stream is not None and is_pipe(stream)):  # its reader may print on the terminal
        return None
    if stream is None or not stream.isatty():
        return stderr()
    # Only the console that prints blocks on this terminal can keep a bar below them.
    return writer.screen if isinstance(writer, TableWriter) else None
