"""`bike classify`: label videos, and write a record for each as soon as it is known."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from bike_cli.cli.classify.resume import record_format
from bike_cli.cli.classify.writers import Format, check_format_of_name, format_of, make_writer
from bike_cli.cli.flags import command
from bike_cli.cli.session import Session, session
from bike_cli.cli.terminal.console import can_animate, loading, notice, stderr
from bike_cli.cli.terminal.stdout import is_pipe, reserve_stdout
from bike_cli.cli.videos.existing import ExistingRecords
from bike_cli.cli.videos.labels import check_quotes, labels_of
from bike_cli.cli.videos.rejection import RejectionRule, rule_of
from bike_cli.cli.videos.request import VideosRequest, check_model, configure
from bike_cli.cli.videos.run import (
    Progress,
    exit_code,
    naming_resume,
    opened_output,
    report_end,
    total_of,
    write_records,
)
from bike_cli.cli.videos.sources import check_output, list_sources, name_of
from bike_cli.config import ClassifyConfig, flag
from bike_cli.config.fields import OUTPUT, TEXTS
from bike_cli.errors import ExitCode, UsageError
from bike_cli.records import Failure, Prediction, Source

if TYPE_CHECKING:
    from rich.console import Console

    from bike_cli.cli.classify.writers import Writer
    from bike_cli.data.labels import LabelSet

LARGE_TEXT_TOWER = 100_000_000  # parameters that are worth freeing: 400 MB
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ClassifyRequest(VideosRequest):
    """What to classify, and where the answers go."""

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
        default_text="by the name of the -o file; else a table on a terminal, jsonl elsewhere",
        help="Output format.",
    )


def classify(config: ClassifyConfig, request: ClassifyRequest) -> ExitCode:
    """Label each video with the best of your labels.

    bike classify clip.mp4 -L "running, jumping"

    find clips -name '*.mp4' -print0 | bike classify -0 - -l labels.txt > answers.jsonl
    """
    from bike_cli.data.shards import parse_shard

    check_model(config.engine.model, request)
    given = labels_of(config.engine.model, request)
    labels = given.labels
    rule = rule_of(config, request.calibration, request.none, request.none_from, request.saved)
    check_quotes(request)
    shard = None if request.shard is None else parse_shard(request.shard)
    format_ = format_of(request.format, request.output)
    read = (request.labels, request.classifier, request.files_from, request.calibration, request.none_from)
    check_output(request.output, read=read)
    _check_format(request, format_)
    descriptions = {**given.descriptions, **rule.descriptions}
    wanted, done = record_format(labels, config, request.saved, descriptions, rule), Progress()
    with (
        closing(list_sources(request.inputs)) as sources,
        reserve_stdout() as stdout,
        naming_resume(is_resumable=request.output is not None and format_ == "jsonl"),
        opened_output(request, stdout, wanted) as (stream, existing),
        session(config, videos=len(sources.first) if sources.are_known else None, quiet=request.quiet) as running,
    ):
        left = sources.chosen(shard=shard, is_done=existing.take, output=request.output)
        known = list(left) if sources.are_known else None
        names = None if known is None else [name_of(source) for source in known]
        # Do not wait for paths on stdin.
        first = list(islice(left, 0 if sources.arrive else 1)) if known is None else known
        answers: Iterator[Prediction | Failure] = iter(())
        if first or sources.arrive:  # else no model is loaded
            answers = _answers(chain(first, left), given, config, request, rule, running, existing)
        writer = make_writer(
            stream,
            format_,
            top=wanted.top,
            names=names,
            labels=labels,
            settings=wanted.settings,
            explains=config.explain,
            rejects=rule.is_used,
        )
        write_records(
            answers,
            writer,
            done,
            request,
            console=_console_of_bar(stream, writer, quiet=request.quiet or (names is not None and len(names) == 1)),
            total=partial(total_of, names, sources, shard, existing),
            is_seen=stream.isatty(),
            before=existing,
        )
    report_end(request, done, existing)
    if sources.arrive and not sources.seen:
        notice("stdin: contains no path; pipe some in, one per line", level="error")
    return exit_code(done, existing, is_empty_shard=shard is not None and sources.seen > 0)


classify_command = command(classify, configure=partial(configure, ClassifyConfig))


def _check_format(request: ClassifyRequest, format_: Format) -> None:
    """Raise UsageError if the format cannot be resumed, or if the name of the file promises another format."""
    if request.resume and request.output is None:
        raise UsageError("--resume: needs the file of the earlier run; add -o answers.jsonl")
    if request.resume and format_ != "jsonl":
        raise UsageError(f"--resume: needs JSON lines, not {format_}; name a file such as -o answers.jsonl")
    if request.output is not None:
        check_format_of_name(request.format, request.output)


def _answers(
    sources: Iterable[Source | Failure],
    labels: LabelSet,
    config: ClassifyConfig,
    request: ClassifyRequest,
    rule: RejectionRule,
    running: Session,
    existing: ExistingRecords,
) -> Iterator[Prediction | Failure]:
    engine = running.load()
    existing.check_model(engine.name)
    existing.check_digest(engine.name, engine.short_digest)
    from bike_cli.tasks.classify import classify as run

    with loading("labels", quiet=request.quiet):
        answers = run(
            engine,
            sources,
            labels.labels,
            config,
            descriptions={**labels.descriptions, **rule.descriptions},
            pool=running.pool,
            saved=request.saved,
            none=rule.phrases,
            calibration=rule.calibration,
            releases_text=engine.encoder.text_tower.parameters > LARGE_TEXT_TOWER,
        )
    return _checked(answers, existing)


def _checked(answers: Iterable[Prediction | Failure], existing: ExistingRecords) -> Iterator[Prediction | Failure]:
    """Yield the answers; raise UsageError before one that another version of the attribute model gives."""
    for answer in answers:
        if isinstance(answer, Prediction) and answer.model_digest is not None:
            existing.check_digest(answer.model, answer.model_digest)
        yield answer


def _console_of_bar(stream: TextIO, writer: Writer, *, quiet: bool) -> Console | None:
    from bike_cli.cli.classify.table import TableWriter

    if quiet or not can_animate() or is_pipe(stream):  # the reader of a pipe may print on the same terminal
        return None
    if not stream.isatty():
        return stderr()
    # Only the console that prints rows on this terminal can keep a bar below them.
    return writer.screen if isinstance(writer, TableWriter) else None
