"""`bike classify`: label videos, and write a record for each as soon as it is known."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from bike_cli.cli.classify.resume import RecordFormat, record_format
from bike_cli.cli.classify.writers import Format, check_format_of_name, format_of, make_writer
from bike_cli.cli.flags import Flags, command
from bike_cli.cli.session import Session
from bike_cli.cli.terminal.console import can_animate, loading, notice, stderr
from bike_cli.cli.terminal.stdout import is_pipe, reserve_stdout
from bike_cli.cli.videos.cluster import ClusterVideosRequest, adapt_to_cluster, check_config, session_of
from bike_cli.cli.videos.embeddings import Embedded, embedded_in, list_embeddings
from bike_cli.cli.videos.existing import ExistingRecords
from bike_cli.cli.videos.labels import check_quotes, labels_of
from bike_cli.cli.videos.parts import PartOutput
from bike_cli.cli.videos.rejection import RejectionRule, rule_of
from bike_cli.cli.videos.request import RESUMED, check_model, configure
from bike_cli.cli.videos.run import (
    Progress,
    finish,
    naming_resume,
    opened_output,
    report_end,
    total_of,
    write_records,
)
from bike_cli.cli.videos.sources import Found, Sources, check_output, list_sources, name_of
from bike_cli.config import ClassifyConfig, flag
from bike_cli.config.fields import DATA, OUTPUT, TEXTS
from bike_cli.data.predictions.objects import as_object
from bike_cli.errors import ExitCode, UsageError
from bike_cli.iterators import closed_at_end
from bike_cli.records import Failure, Prediction, Source, VideoFeatures

if TYPE_CHECKING:
    from rich.console import Console

    from bike_cli.cli.classify.writers import Writer
    from bike_cli.data.labels import LabelSet

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ClassifyRequest(ClusterVideosRequest):
    """What to classify, and where the answers go."""

    from_embeddings: str | None = flag(
        "--from-embeddings",
        default=None,
        panel=DATA,
        metavar="FOLDER",
        help="Classify the videos whose embeddings bike embed wrote to this folder, without reading the videos.",
    )
    calibration: Path | None = flag(
        "--calibration",
        default=None,
        panel=TEXTS,
        help="File that bike calibrate wrote: scores become probabilities, and records say how well a video fits.",
    )
    format: Format | None = flag(
        "-f",
        "--format",
        default=None,
        panel=OUTPUT,
        default_text="by the name of -o; else a table on a terminal, jsonl elsewhere",
        help="Output format; parquet writes a folder.",
    )
    embedded: Embedded | None = None  # what `from_embeddings` contains

    @property
    def output_format(self) -> Format:
        """The format of the output."""
        return "parquet" if self.writes_parts else format_of(self.format, self.output)

    def sources(self) -> Sources[Source | Failure] | Sources[VideoFeatures | Failure]:
        """Return the videos to classify."""
        if self.from_embeddings is None:
            return list_sources(self.inputs)
        if self.videos or self.files_from is not None:
            raise UsageError("--from-embeddings: videos were given, too; leave one of them out")
        if self.ray is not None:
            raise UsageError("--ray: embeddings are classified in this process; leave it out")
        return list_embeddings(self.from_embeddings)

    def check_output(self) -> None:
        """Raise UsageError if the output cannot be written, or is read."""
        read = (self.labels, self.classifier, self.files_from, self.calibration, self.none_from)
        check_output(self.output, read=read)
        self.check_target(self.output_format, example="answers.jsonl")
        if self.output is not None:
            check_format_of_name(self.format, self.output)


def classify(config: ClassifyConfig, request: ClassifyRequest) -> ExitCode:
    """Label each video with the best of your labels.

    bike classify clip.mp4 -L "running, jumping"

    find clips -name '*.mp4' -print0 | bike classify -0 - -l labels.txt > answers.jsonl
    """
    from bike_cli.data.shards import parse_shard

    request.check_processes()
    check_model(config.engine.model, request)
    given = labels_of(config.engine.model, request)
    labels = given.labels
    rule = rule_of(config, request.calibration, request.none, request.none_from, request.saved)
    check_quotes(request)
    shard = None if request.shard is None else parse_shard(request.shard)
    request.check_output()
    format_ = request.output_format
    descriptions = {**given.descriptions, **rule.descriptions}
    wanted, done = record_format(labels, config, request.saved, descriptions, rule), Progress()
    with (
        closing(request.sources()) as sources,
        reserve_stdout() as stdout,
        naming_resume(request, is_resumable=request.target is not None and format_ in RESUMED),
        opened_output(
            *(request, stdout, wanted),
            command="classify",
            as_object=partial(as_object, settings=wanted.settings),
            shard=shard,
        ) as (stream, existing),
        session_of(config, request, videos=len(sources.first) if sources.are_known else None) as running,
    ):
        left = sources.chosen(shard=shard, is_done=existing.take, output=request.output)
        known = list(left) if sources.are_known else None
        names = None if known is None else [name_of(source) for source in known]
        # Do not wait for paths on stdin.
        first = list(islice(left, 0 if sources.arrive else 1)) if known is None else known
        answers: Iterator[Prediction | Failure] = iter(())
        if first or sources.arrive:  # else no model is loaded
            answers = _answers(chain(first, left), given, config, request, rule, running, existing, known)
        writer = _writer(stream, existing, format_, wanted, names, labels)
        write_records(
            answers,
            writer,
            done,
            request,
            console=_console_of_bar(stream, writer, quiet=request.quiet or (names is not None and len(names) <= 1)),
            total=partial(total_of, names, sources, shard, existing),
            is_seen=stream is not None and stream.isatty(),
            before=existing,
        )
    report_end(request, done, existing)
    if sources.arrive and not sources.seen:
        notice("stdin: contains no path; pipe some in, one per line", level="error")
    return finish(done, existing, is_empty_shard=shard is not None and sources.seen > 0)


def _configure(flags: Flags, request: ClassifyRequest) -> tuple[ClassifyConfig, ClassifyRequest]:
    """Return the configuration, whose defaults may be those of embeddings, and the request with the classifier."""
    if request.from_embeddings is None:
        config, request = configure(ClassifyConfig, flags, request)
        return adapt_to_cluster(config, flags, request), request
    embedded = embedded_in(request.from_embeddings)
    config, request = configure(ClassifyConfig, flags, request, defaults=embedded.defaults(flags))
    embedded.check(config, request.classifier)
    return config, replace(request, embedded=embedded)


classify_command = command(classify, configure=_configure)


def _writer(
    stream: TextIO | None,
    existing: ExistingRecords,
    format_: Format,
    wanted: RecordFormat,
    names: Sequence[str] | None,
    labels: Sequence[str],
) -> Writer:
    if stream is None:
        assert isinstance(existing, PartOutput)
        return existing
    return make_writer(
        stream,
        format_,
        top=wanted.top,
        names=names,
        labels=labels,
        settings=wanted.settings,
        explains=wanted.explain,
        rejects=wanted.rejects,
    )


def _answers(
    sources: Iterable[Found],
    labels: LabelSet,
    config: ClassifyConfig,
    request: ClassifyRequest,
    rule: RejectionRule,
    running: Session,
    existing: ExistingRecords,
    known: Sized | None,
) -> Iterator[Prediction | Failure]:
    engine = running.load()
    if request.embedded is not None:
        request.embedded.check_model(engine.name, engine.short_digest)
    existing.check_model(engine.name)  # before labels are encoded, which may take long
    existing.check_digest(engine.name, engine.short_digest)
    from bike_cli.tasks.classify import classify_with, is_worth_releasing, prepare_classifier

    cluster = request.cluster
    with loading("labels", quiet=request.quiet):
        classifier = prepare_classifier(
            *(engine, labels.labels, config if cluster is None else check_config(config)),
            descriptions={**labels.descriptions, **rule.descriptions},
            saved=request.saved,
            none=rule.phrases,
            calibration=rule.calibration,
            releases_text=is_worth_releasing(engine),
        )
    begin = partial(existing.begin, engine.name, engine.short_digest)
    if cluster is None:
        begin(precision=engine.encoder.placement.precision)
        return _checked(classify_with(classifier, sources, pool=running.pool), existing)
    from bike_cli.tasks.cluster.run import run_on_cluster
    from bike_cli.tasks.cluster.work import ClassifyWork

    found = run_on_cluster(
        cluster,
        cast("Iterable[Source | Failure]", sources),  # `ClassifyRequest.sources` refuses embeddings
        ClassifyWork(
            *(config, labels.labels, {**labels.descriptions, **rule.descriptions}),
            saved=request.saved,
            none=rule.phrases,
            calibration=rule.calibration,
        ),
        model=engine.name,
        model_digest=classifier.model_digest,
        videos=None if known is None else len(known),
        check=existing.check_precision,
        begin=begin,
    )
    return _checked(found, existing)


def _checked(answers: Iterable[Prediction | Failure], existing: ExistingRecords) -> Iterator[Prediction | Failure]:
    """Yield the answers; raise UsageError before one that another version of the attribute model gives."""
    with closed_at_end(answers):
        for answer in answers:
            if isinstance(answer, Prediction) and answer.model_digest is not None:
                existing.check_digest(answer.model, answer.model_digest)
            yield answer


def _console_of_bar(stream: TextIO | None, writer: Writer, *, quiet: bool) -> Console | None:
    from bike_cli.cli.classify.table import TableWriter

    # The reader of a pipe may print on the same terminal.
    if quiet or not can_animate() or (stream is not None and is_pipe(stream)):
        return None
    if stream is None or not stream.isatty():
        return stderr()
    # Only the console that prints rows on this terminal can keep a bar below them.
    return writer.screen if isinstance(writer, TableWriter) else None
