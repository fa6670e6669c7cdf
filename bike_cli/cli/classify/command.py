"""`bike classify`: label videos, and write a record for each as soon as it is known."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from bike_cli.cli.classify.resume import ExistingRecords, RecordFormat, read_existing, record_format
from bike_cli.cli.classify.writers import Format, check_format_of_name, format_of, make_writer
from bike_cli.cli.flags import Flags, Request, command, trained_defaults
from bike_cli.cli.session import Session, session
from bike_cli.cli.terminal.console import can_animate, loading, notice, plain, stderr, stderr_is_tty
from bike_cli.cli.terminal.stdout import is_pipe, reserve_stdout
from bike_cli.cli.videos.labels import check_quotes, labels_of
from bike_cli.cli.videos.sources import Inputs, Sources, check_output, list_sources, name_of
from bike_cli.cli.videos.summary import Tally, summary, timings
from bike_cli.config import ClassifyConfig, TrainingRecord, flag
from bike_cli.config.fields import DATA, OUTPUT, TEXTS
from bike_cli.errors import ExitCode, UsageError
from bike_cli.records import Failure, Prediction, Source, Timings
from bike_cli.settings import resolve
from bike_cli.wording import count

if TYPE_CHECKING:
    from rich.console import Console

    from bike_cli.cli.classify.writers import Writer
    from bike_cli.cli.videos.progress import Total
    from bike_cli.data.shards import Shard
    from bike_cli.engine.heads.saved_classifier import SavedClassifier

LARGE_TEXT_TOWER = 100_000_000  # parameters that are worth freeing: 400 MB
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ClassifyRequest(Request):
    """What to classify, and where the answers go."""

    videos: tuple[str, ...] = flag(
        default=(), help="Videos, folders (searched recursively), globs, frame folders; - reads paths from stdin."
    )
    labels: Path | None = flag(
        "-l",
        "--labels",
        default=None,
        default_text="the labels that the model was trained with",
        help="File of labels: one per line, # starts a comment; or CSV id,name.",
    )
    label_list: tuple[str, ...] = flag(
        "-L", default=(), metavar="A,B,…", help="Labels, separated by commas; repeat to add more."
    )
    classifier: Path | None = flag(
        "--classifier",
        default=None,
        help="Classifier saved by bike fewshot --save, including its labels, model and settings.",
    )
    also: tuple[str, ...] = flag(
        "--also",
        default=(),
        panel=TEXTS,
        metavar="A,B,…",
        help="Labels in addition to those of the classifier or model, recognised by their text; repeat to add more.",
    )
    nul: bool = flag(
        "-0",
        default=False,
        panel=DATA,
        help="Paths from stdin or --files-from end with NUL, as find -print0 writes them.",
    )
    files_from: Path | None = flag(
        "--files-from", default=None, panel=DATA, help="Read paths from this file, one per line; - is stdin."
    )
    shard: str | None = flag(
        "--shard",
        default=None,
        panel=DATA,
        metavar="I/N",
        help="Process one of N parts of the videos, from 1/N to N/N; give each part its own -o.",
    )
    format: Format | None = flag(
        "-f",
        "--format",
        default=None,
        panel=OUTPUT,
        default_text="by the name of the -o file; else a table on a terminal, jsonl elsewhere",
        help="Output format.",
    )
    output: Path | None = flag(
        "-o", "--output", default=None, panel=OUTPUT, help="Write to this file, which appears when it is complete."
    )
    resume: bool = flag(
        "--resume",
        default=False,
        panel=OUTPUT,
        help="Continue an -o file of JSON lines: classify only the videos that it does not contain yet.",
    )
    strict: bool = flag("--strict", default=False, panel=OUTPUT, help="Stop at the first failure, with exit code 3.")
    saved: SavedClassifier | None = None  # what `classifier` contains
    training: TrainingRecord | None = None  # that of the model

    @property
    def inputs(self) -> Inputs:
        """Where the paths of videos come from."""
        return Inputs(self.videos, self.files_from, self.nul)


@dataclass
class Done:
    """The result of this run so far."""

    tally: Tally = field(default_factory=Tally)
    spent: Timings = field(default_factory=Timings)
    seconds: float = 0.0
    stopped_by: Failure | None = None
    unseen: Failure | None = None  # the last failure, if no terminal shows the records


def configure(flags: Flags, request: ClassifyRequest) -> tuple[ClassifyConfig, ClassifyRequest]:
    """Return the configuration, whose defaults are those of a classifier or trained model, and the request with it."""
    if request.classifier is None:
        from bike_cli.engine.models.training_records import training_of

        defaults = trained_defaults(ClassifyConfig)
        config = resolve(ClassifyConfig, flags=flags, file=request.config, defaults=defaults)
        return config, replace(request, training=training_of(config.engine.model))
    from bike_cli.engine.heads.saved_classifier import load_classifier

    saved = load_classifier(request.classifier)
    config = resolve(ClassifyConfig, flags=flags, file=request.config, defaults=saved.settings)
    return config, replace(request, saved=saved)


def classify(config: ClassifyConfig, request: ClassifyRequest) -> ExitCode:
    """Label each video with the best of your labels.

    bike classify clip.mp4 -L "running, jumping"

    find clips -name '*.mp4' -print0 | bike classify -0 - -l labels.txt > answers.jsonl
    """
    from bike_cli.data.shards import parse_shard

    _check_model(config, request)
    labels = labels_of(config, request)
    check_quotes(request)
    shard = None if request.shard is None else parse_shard(request.shard)
    format_ = format_of(request.format, request.output)
    read = (request.labels, request.classifier, request.files_from)
    check_output(request.output, read=read)
    _check_format(request, format_)
    wanted, done = record_format(labels, config, request.saved), Done()
    with (
        closing(list_sources(request.inputs)) as sources,
        reserve_stdout() as stdout,
        _naming_resume(is_resumable=request.output is not None and format_ == "jsonl"),
        _opened(request, stdout, wanted) as (stream, existing),
        session(config, videos=len(sources.first) if sources.are_known else None, quiet=request.quiet) as running,
    ):
        left = sources.chosen(shard=shard, is_done=existing.take, output=request.output)
        known = list(left) if sources.are_known else None
        names = None if known is None else [name_of(source) for source in known]
        # Do not wait for paths on stdin.
        first = list(islice(left, 0 if sources.arrive else 1)) if known is None else known
        answers: Iterator[Prediction | Failure] = iter(())
        if first or sources.arrive:  # else no model is loaded
            answers = _answers(chain(first, left), labels, config, request, running, existing, done.spent)
        writer = make_writer(
            stream,
            format_,
            top=wanted.top,
            names=names,
            labels=labels,
            settings=wanted.settings,
            explains=config.explain,
        )
        console = _console_of_bar(stream, writer, quiet=request.quiet or (names is not None and len(names) == 1))
        prints_lines = request.progress and not request.quiet
        total = partial(_total, names, sources, shard, existing)
        with closing(_with_progress(answers, console, total, prints_lines=prints_lines)) as records:
            try:
                _write(records, writer, done, strict=request.strict, is_seen=stream.isatty())
            except KeyboardInterrupt as e:
                if done.tally.total:
                    e.args = (summary(done.tally, seconds=done.seconds, before=existing.tally.total),)
                raise
            finally:
                if done.spent != Timings():
                    logger.info("%s", timings(done.tally, done.spent, workers=running.pool.workers))
    _report_end(request, done, existing)
    if sources.arrive and not sources.seen:
        notice("stdin: contains no path; pipe some in, one per line", level="error")
    return _exit_code(done, existing, is_empty_shard=shard is not None and sources.seen > 0)


classify_command = command(classify, configure=configure)


@contextmanager
def _naming_resume(*, is_resumable: bool) -> Iterator[None]:
    """Name --resume in the message of Ctrl-C, if there are answers and the message does not name it."""
    try:
        yield
    except KeyboardInterrupt as e:
        if is_resumable and e.args and "--resume" not in str(e.args):
            e.args = (*e.args, "continue with --resume")
        raise


def _check_format(request: ClassifyRequest, format_: Format) -> None:
    """Raise UsageError if the format cannot be resumed, or if the name of the file promises another format."""
    if request.resume and request.output is None:
        raise UsageError("--resume: needs the file of the earlier run; add -o answers.jsonl")
    if request.resume and format_ != "jsonl":
        raise UsageError(f"--resume: needs JSON lines, not {format_}; name a file such as -o answers.jsonl")
    if request.output is not None:
        check_format_of_name(request.format, request.output)


@contextmanager
def _opened(
    request: ClassifyRequest, stdout: TextIO | None, wanted: RecordFormat
) -> Iterator[tuple[TextIO, ExistingRecords]]:
    from bike_cli.cli.terminal.output_file import open_output, open_resumed

    if request.output is None:
        if stdout is None:
            raise UsageError("stdout: is closed, so the answers have nowhere to go; name a file with -o")
        yield stdout, ExistingRecords()
    elif not request.resume:
        with open_output(request.output) as stream:
            yield stream, ExistingRecords()
    else:
        with open_resumed(request.output) as resumed:
            existing = read_existing(resumed.path, wanted, named=request.output)
            if existing.n_retried:
                retried = count(existing.n_retried, "internal failure is", "internal failures are")
                logger.info("%s: %s tried again", request.output, retried)
            resumed.keep(existing.ranges)
            yield resumed.stream, existing


def _answers(
    sources: Iterable[Source | Failure],
    labels: tuple[str, ...],
    config: ClassifyConfig,
    request: ClassifyRequest,
    running: Session,
    existing: ExistingRecords,
    spent: Timings,
) -> Iterator[Prediction | Failure]:
    engine = running.load()
    existing.check_model(engine.name)
    from bike_cli.tasks.classify import classify as run

    with loading("labels", quiet=request.quiet):
        return run(
            engine,
            sources,
            labels,
            config,
            pool=running.pool,
            spent=spent,
            saved=request.saved,
            releases_text=engine.encoder.text_tower.parameters > LARGE_TEXT_TOWER,
        )


def _total(names: list[str] | None, sources: Sources, shard: Shard | None, existing: ExistingRecords) -> Total:
    """Return the number of videos to do, or an iterator that finds them once more; None where neither is possible."""
    if names is not None or sources.again is None:
        return None if names is None else len(names)
    again = (source for source in sources.again() if shard is None or shard.holds(name_of(source)))
    return islice(again, existing.tally.total, None)


def _console_of_bar(stream: TextIO, writer: Writer, *, quiet: bool) -> Console | None:
    from bike_cli.cli.classify.table import TableWriter

    if quiet or not can_animate() or is_pipe(stream):  # the reader of a pipe may print on the same terminal
        return None
    if not stream.isatty():
        return stderr()
    # Only the console that prints rows on this terminal can keep a bar below them.
    return writer.screen if isinstance(writer, TableWriter) else None


def _with_progress(
    answers: Iterable[Prediction | Failure], console: Console | None, total: Callable[[], Total], *, prints_lines: bool
) -> Generator[Prediction | Failure, None, None]:
    if console is None and (not prints_lines or stderr_is_tty()):
        yield from answers
        return
    from bike_cli.cli.videos.progress import print_progress, show_progress

    if console is None:
        yield from print_progress(answers, total=total())
    else:
        yield from show_progress(answers, console=console, total=total())


def _write(records: Iterable[Prediction | Failure], writer: Writer, done: Done, *, strict: bool, is_seen: bool) -> None:
    start_s = time.monotonic()
    try:
        for record in records:
            writer.write(record)
            done.tally.add(record)
            if isinstance(record, Failure) and not is_seen:
                done.unseen = record
            if strict and isinstance(record, Failure):
                done.stopped_by = record
                break
    finally:
        done.seconds = time.monotonic() - start_s
        writer.close()


def _report_end(request: ClassifyRequest, done: Done, existing: ExistingRecords) -> None:
    if done.stopped_by is not None:
        failed = f"{done.stopped_by.source.id}: failed ({done.stopped_by.kind})"
        notice(f"{failed}; --strict stopped here, {count(done.tally.total, 'video')} done", level="error")
    if request.quiet:
        return
    before = existing.tally.total
    if before and not done.tally.total:
        stderr().print(
            plain(f"{request.output}: nothing left to do, {count(before, 'record exists', 'records exist')}")
        )
    elif request.output is not None or (stderr_is_tty() and done.tally.total > 1):
        width = stderr().width if stderr_is_tty() else 0
        line = summary(done.tally, seconds=done.seconds, before=before, output=request.output, width=width)
        stderr().print(plain(line, "dim"))
    elif done.unseen is not None and done.stopped_by is None and stderr_is_tty():  # the only video
        notice(done.unseen.message, level="error")


def _exit_code(done: Done, existing: ExistingRecords, *, is_empty_shard: bool) -> ExitCode:
    if done.stopped_by is not None:
        return ExitCode.SOME_FAILED
    tally = existing.tally + done.tally
    return ExitCode.DONE if is_empty_shard and not tally.total else tally.exit_code()


def _check_model(config: ClassifyConfig, request: ClassifyRequest) -> None:
    """Raise UsageError, before weights are downloaded or read, if a classifier was trained with another model.

    If the names do not tell, `prepare` compares the weights.
    """
    if request.saved is None:
        if config.engine.model.endswith(".bike") and Path(config.engine.model).is_file():
            raise UsageError(f"{config.engine.model}: is a classifier, not a model; give it with --classifier")
        return
    from bike_cli.engine.models.aliases import weights_named

    trained, wanted = request.saved.model, config.engine.model
    names = weights_named(trained), weights_named(wanted)
    if None not in names and names[0] != names[1]:
        raise UsageError(
            f"{request.classifier}: was trained with the model {trained}, but this run uses {wanted}; give --model "
            f"{trained}, or train it again with --model {wanted}",
            settings=("model",),
        )
