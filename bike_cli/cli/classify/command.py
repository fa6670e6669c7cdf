"""`bike classify`: flags become a configuration and sources, answers become rows."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import typer

from bike_cli.cli import options as o
from bike_cli.cli.classify.resume import Held, Shape, read_held, settings_of
from bike_cli.cli.classify.sources import Inputs, Sources, check_output, list_sources, name_of
from bike_cli.cli.classify.summary import Tally, summary
from bike_cli.cli.terminal.console import error_room, loading, plain, print_config, say, someone_watches, stderr
from bike_cli.config import ClassifyConfig
from bike_cli.errors import ExitCode, UsageError
from bike_cli.records import Failure, Prediction, Source, Spent
from bike_cli.settings import dump, resolve

if TYPE_CHECKING:
    from rich.console import Console

    from bike_cli.cli.classify.progress import Total
    from bike_cli.cli.classify.writers import Writer
    from bike_cli.data.shards import Shard
    from bike_cli.engine.heads.saved_classifier import Learnt
    from bike_cli.video.workers.pool import DecodePool

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What to classify and where the answers go; how is in `ClassifyConfig`."""

    inputs: Inputs
    label_file: Path | None
    label_list: str | None
    output: Path | None
    format_: o.Format | None
    quiet: bool
    classifier: Path | None = None
    also: str | None = None
    resume: bool = False
    shard: str | None = None
    strict: bool = False


def classify_command(  # the signature is the manual
    videos: o.Videos = None,
    labels: o.LabelFile = None,
    label_list: o.LabelList = None,
    classifier: o.ClassifierFile = None,
    also: o.Also = None,
    nul: o.Nul = False,
    files_from: o.FilesFrom = None,
    shard: o.Shard = None,
    model: o.Model = None,
    device: o.Device = None,
    precision: o.PrecisionOption = None,
    offline: o.Offline = None,
    compile: o.Compile = None,  # noqa: A002 - the field's own name
    frames: o.Frames = None,
    clips: o.Clips = None,
    crops: o.Crops = None,
    sampling: o.SamplingOption = None,
    draft: o.Draft = None,
    pool: o.PoolOption = None,
    spot: o.SpotOption = None,
    temperature: o.Temperature = None,
    decoder: o.DecoderOption = None,
    workers: o.Workers = None,
    decode_timeout: o.DecodeTimeout = None,
    decode_memory: o.DecodeMemory = None,
    cache: o.Cache = None,
    cache_dir: o.CacheDir = None,
    template: o.Template = None,
    attributes: o.Attributes = None,
    attribute_weight: o.AttributeWeight = None,
    attribute_model: o.AttributeModel = None,
    attribute_count: o.AttributeCount = None,
    top: o.Top = None,
    explain: o.Explain = None,
    format_: o.FormatOption = None,
    output: o.OutputFile = None,
    resume: o.Resume = False,
    strict: o.Strict = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
    config: o.ConfigFile = None,
    dump_config: o.DumpConfig = False,
) -> None:
    """Tell which of your labels each video shows.

    bike classify clip.mp4 -L "running, jumping"

    find clips -name '*.mp4' -print0 | bike classify -0 - -l labels.txt > answers.jsonl
    """
    given = locals()
    with error_room(quiet=quiet, verbose=verbose):
        learnt, own = _learnt(classifier)
        settings = resolve(ClassifyConfig, flags={name: given[name] for name in o.DEFAULTS}, file=config, defaults=own)
        if dump_config:
            print_config(dump(settings))
            return
        inputs = Inputs(tuple(videos or ()), files_from, nul)
        request = Request(inputs, labels, label_list, output, format_, quiet, classifier, also, resume, shard, strict)
        raise typer.Exit(run(request, settings, learnt))


@dataclass
class Done:
    """What this run did."""

    tally: Tally = field(default_factory=Tally)
    spent: Spent = field(default_factory=Spent)
    seconds: float = 0.0
    stopped_by: Failure | None = None


def run(request: Request, config: ClassifyConfig, learnt: Learnt | None = None) -> ExitCode:
    """Classify what is asked for; return what the shell is told."""
    from bike_cli.cli.classify.writers import format_of, make_writer
    from bike_cli.cli.terminal.stdout import records_alone
    from bike_cli.data.shards import parse_shard
    from bike_cli.video.workers.pool import DecodePool

    labels = _labels(request, learnt)
    shard = None if request.shard is None else parse_shard(request.shard)
    format_ = format_of(request.format_, request.output)
    _check_resume(request, format_)
    read = (request.label_file, request.classifier, request.inputs.files_from)
    check_output(request.output, read=read, inputs=request.inputs)
    top, done = min(config.top, len(labels)), Done()
    settings = settings_of(labels, config, learnt_by="" if learnt is None else learnt.digest)
    shape = Shape(frozenset(labels), top, config.explain, settings)
    with (
        closing(list_sources(request.inputs)) as sources,
        records_alone() as stdout,
        _opened(request, stdout, shape) as (stream, held),
        DecodePool(config.sampling, config.decoding, most=len(sources.first) if sources.are_known else None) as pool,
    ):
        left = sources.chosen(shard=shard, is_done=held.take, output=request.output)
        begin = partial(_answers, labels=labels, config=config, held=held, pool=pool, spent=done.spent, learnt=learnt)
        with loading(config.engine.model, quiet=request.quiet):
            answers, names = _begun(left, sources, begin)
        writer = make_writer(stream, format_, top=top, names=names, settings=settings)
        console = _console_of_bar(stream, writer, quiet=request.quiet or (names is not None and len(names) == 1))
        with closing(_seen(answers, console, lambda: _total(names, sources, shard, held))) as records:
            try:
                _write(records, writer, done, strict=request.strict)
            except KeyboardInterrupt:
                _tell(request, done, held, workers=pool.workers)
                raise
    _tell(request, done, held, workers=pool.workers)
    if sources.arrive and not sources.seen:
        say("stdin: holds no path; pipe some in, one per line", level="error")
    return _exit_code(done, held, is_empty_shard=shard is not None and sources.seen > 0)


def _check_resume(request: Request, format_: o.Format) -> None:
    if not request.resume:
        return
    if request.output is None:
        raise UsageError("--resume: goes on with a file, and none is named; add -o answers.jsonl")
    if format_ != "jsonl":
        raise UsageError(f"--resume: goes on with JSON lines, not with {format_}; name a file such as -o answers.jsonl")


@contextmanager
def _opened(request: Request, stdout: TextIO | None, shape: Shape) -> Iterator[tuple[TextIO, Held]]:
    """Yield the stream that takes the records, and what is in it already."""
    from bike_cli.cli.terminal.output_file import open_output, open_resumed

    if request.output is None:
        if stdout is None:
            raise UsageError("stdout: is closed, so the answers have nowhere to go; name a file with -o")
        yield stdout, Held()
    elif not request.resume:
        with open_output(request.output) as stream:
            yield stream, Held()
    else:
        with open_resumed(request.output) as resumed:
            held = read_held(resumed.path, shape, named=request.output)
            if held.n_tried_again:
                logger.info("%s: %d internal failures are tried again", request.output, held.n_tried_again)
            resumed.keep(held.ranges)
            yield resumed.stream, held


def _begun(
    left: Iterator[Source | Failure],
    sources: Sources,
    begin: Callable[[Iterable[Source | Failure]], Iterator[Prediction | Failure]],
) -> tuple[Iterator[Prediction | Failure], list[str] | None]:
    """Return the answers, and the names of all videos where they are known; no model is loaded for none."""
    known = list(left) if sources.are_known else None
    # What arrives on stdin is not waited for.
    first = list(islice(left, 0 if sources.arrive else 1)) if known is None else known
    names = None if known is None else [name_of(source) for source in known]
    if not first and not sources.arrive:
        return iter(()), names
    return begin(chain(first, left)), names


def _answers(
    sources: Iterable[Source | Failure],
    *,
    labels: tuple[str, ...],
    config: ClassifyConfig,
    held: Held,
    pool: DecodePool,
    spent: Spent,
    learnt: Learnt | None,
) -> Iterator[Prediction | Failure]:
    from bike_cli.engine.models.aliases import download_missing

    download_missing([config.engine.model, config.attributes.attribute_model], offline=config.engine.offline)
    pool.warm_up()  # while torch and the model are loaded
    from bike_cli.engine.engine import load_configured
    from bike_cli.tasks.classify import classify

    engine = load_configured(config.engine)
    held.check_model(engine.name)
    return classify(engine, sources, labels, config, pool=pool, spent=spent, learnt=learnt)


def _total(names: list[str] | None, sources: Sources, shard: Shard | None, held: Held) -> Total:
    """Return how many videos there are to do, or as many things, found anew; None where that cannot be known."""
    if names is not None or sources.again is None:
        return None if names is None else len(names)
    again = (source for source in sources.again() if shard is None or shard.holds(name_of(source)))
    return islice(again, held.tally.total, None)


def _console_of_bar(stream: TextIO, writer: Writer, *, quiet: bool) -> Console | None:
    from bike_cli.cli.classify.table import TableWriter

    if quiet or not someone_watches():
        return None
    if not stream.isatty():
        return stderr()
    # On the screen that rows are printed on, only what prints them can keep a bar below them.
    return writer.screen if isinstance(writer, TableWriter) else None


def _seen(
    answers: Iterable[Prediction | Failure], console: Console | None, total: Callable[[], Total]
) -> Generator[Prediction | Failure, None, None]:
    if console is None:
        yield from answers
        return
    from bike_cli.cli.classify.progress import watched

    yield from watched(answers, console=console, total=total())


def _write(records: Iterable[Prediction | Failure], writer: Writer, done: Done, *, strict: bool) -> None:
    begun = time.monotonic()
    try:
        for record in records:
            writer.write(record)
            done.tally.add(record)
            if strict and isinstance(record, Failure):
                done.stopped_by = record
                break
    finally:
        done.seconds = time.monotonic() - begun
        writer.close()


def _tell(request: Request, done: Done, held: Held, *, workers: int) -> None:
    """Say on stderr how the run ended."""
    if done.stopped_by is not None:
        videos = "1 video" if done.tally.total == 1 else f"{done.tally.total:,} videos"
        failed = f"{done.stopped_by.source.id}: failed ({done.stopped_by.kind})"
        say(f"{failed}; --strict stopped here, {videos} done", level="error")
    if request.quiet:
        return
    before = held.tally.total
    if before and not done.tally.total:
        stderr().print(plain(f"{request.output}: nothing is left to do, all {before:,} records are there"))
    elif someone_watches() and done.tally.total > 1:
        line = summary(done.tally, seconds=done.seconds, spent=done.spent, workers=workers, before=before)
        stderr().print(plain(line, "dim"))


def _exit_code(done: Done, held: Held, *, is_empty_shard: bool) -> ExitCode:
    if done.stopped_by is not None:
        return ExitCode.SOME_FAILED
    tally = held.tally + done.tally
    return ExitCode.DONE if is_empty_shard and not tally.total else tally.exit_code()


def _learnt(file: Path | None) -> tuple[Learnt | None, dict[str, object]]:
    """Return a classifier, and the settings that it brings along."""
    if file is None:
        return None, {}
    from bike_cli.engine.heads.saved_classifier import load_learnt

    learnt = load_learnt(file)
    return learnt, learnt.settings


def _labels(request: Request, learnt: Learnt | None) -> tuple[str, ...]:
    from bike_cli.data.labels import parse_labels, read_labels

    if learnt is not None:
        if request.label_file is not None or request.label_list is not None:
            raise UsageError(
                f"labels: {request.classifier} has its own; leave -l and -L out, or add labels with --also"
            )
        return (*learnt.labels, *learnt.also, *(parse_labels(request.also, "--also") if request.also else ()))
    if request.also is not None:
        raise UsageError("--also: adds labels to a classifier, and none is given; add --classifier, or use -L")
    if request.label_file is not None and request.label_list is not None:
        raise UsageError("labels: given by both -l and -L; choose one")
    if request.label_file is not None:
        return read_labels(request.label_file)
    if request.label_list is not None:
        return parse_labels(request.label_list)
    raise UsageError("labels: none given; add -l labels.txt, or -L 'running, jumping', or a --classifier")
