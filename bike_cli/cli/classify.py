"""`bike classify`: flags become a configuration and sources, answers become rows."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import typer

from bike_cli.cli import options as o
from bike_cli.cli.console import error_room, loading, watched
from bike_cli.config import ClassifyConfig, dump, resolve
from bike_cli.errors import ExitCode, UsageError
from bike_cli.records import Failure, Prediction, Source


@dataclass(frozen=True)
class Request:
    """What to classify and where the answers go; how is in `ClassifyConfig`."""

    videos: tuple[str, ...]
    label_file: Path | None
    label_list: str | None
    ends_with_nul: bool
    files_from: Path | None
    output: Path | None
    format_: o.Format | None
    quiet: bool
    resume: bool = False
    shard: str | None = None
    strict: bool = False


def classify_command(  # the signature is the manual
    videos: o.Videos = None,
    labels: o.LabelFile = None,
    label_list: o.LabelList = None,
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
    config: o.ConfigFile = None,
    dump_config: o.DumpConfig = False,
) -> None:
    """Tell which of your labels each video shows.

    bike classify clip.mp4 -L "running, jumping"

    find clips -name '*.mp4' -print0 | bike classify -0 - -l labels.txt > answers.jsonl
    """
    given = locals()
    with error_room(quiet=quiet):
        flags = {name: given[name] for name in o.DEFAULTS}
        settings = resolve(ClassifyConfig, flags=flags, file=config)
        if dump_config:
            typer.echo(dump(settings), nl=False)
            return
        paths = tuple(videos or ())
        request = Request(paths, labels, label_list, nul, files_from, output, format_, quiet, resume, shard, strict)
        raise typer.Exit(run(request, settings))


def run(request: Request, config: ClassifyConfig) -> ExitCode:
    """Classify what is asked for; return what the shell is told."""
    from bike_cli.cli.writers import format_of, make_writer, open_stream

    labels = _labels(request)
    sources = _sources(request)
    _check_output(request, sources if isinstance(sources, list) else [])
    format_ = format_of(request.format_, request.output)
    names = [source.id for source in sources] if isinstance(sources, list) else None
    done = failed = 0
    with open_stream(request.output) as stream:
        with loading(config.engine.model, quiet=request.quiet):
            answers = _answers(sources, labels, config)
        writer = make_writer(stream, format_, top=min(config.top, len(labels)), names=names)
        try:
            for record in watched(
                answers, None if names is None else len(names), quiet=request.quiet or stream.isatty()
            ):
                writer.write(record)
                done += 1
                failed += isinstance(record, Failure)
        finally:
            writer.close()
    if failed == done:
        return ExitCode.ALL_FAILED
    return ExitCode.SOME_FAILED if failed else ExitCode.DONE


def _answers(
    sources: Iterable[Source | Failure], labels: tuple[str, ...], config: ClassifyConfig
) -> Iterator[Prediction | Failure]:
    from bike_cli.engine.engine import load
    from bike_cli.engine.placement import spare_threads
    from bike_cli.tasks.classify import classify

    settings = config.engine
    engine = load(settings.model, device=settings.device, precision=settings.precision, offline=settings.offline)
    spare_threads(engine.encoder.model)
    return classify(engine, sources, labels, config)


def _labels(request: Request) -> tuple[str, ...]:
    from bike_cli.data.labels import parse_labels, read_labels

    if request.label_file is not None and request.label_list is not None:
        raise UsageError("labels: given by both -l and -L; choose one")
    if request.label_file is not None:
        return read_labels(request.label_file)
    if request.label_list is not None:
        return parse_labels(request.label_list)
    raise UsageError("labels: none given; add -l labels.txt, or -L 'running, jumping'")


def _sources(request: Request) -> list[Source] | Iterator[Source | Failure]:
    """Return the sources: a list where all are known now, so that a mistake shows before the model is loaded."""
    from bike_cli.data.inputs import find_sources, looks_like_text, read_paths

    if not request.videos and request.files_from is None:
        raise UsageError("videos: none given; name files or folders, or - to read paths from stdin")
    named = list(request.videos)
    if request.files_from is not None:
        try:
            with request.files_from.open("rb") as file:
                named += read_paths(file, nul=request.ends_with_nul)
        except OSError as e:
            raise UsageError(f"{request.files_from}: cannot be read ({e.strerror}); give a file of paths") from e
    if "-" in request.videos:
        return _arriving(named, ends_with_nul=request.ends_with_nul)
    sources = list(find_sources(named))
    if sources and all(looks_like_text(source.path) for source in sources):
        raise UsageError(f"{sources[0].id}: is a text file, not a video; a file of labels goes after -l")
    return sources


def _arriving(named: Iterable[str], *, ends_with_nul: bool) -> Iterator[Source | Failure]:
    """Yield sources as their paths arrive on stdin, in the place of `-`; a wrong one fails alone."""
    from bike_cli.data.inputs import find_sources, read_paths

    for given in named:
        for path in read_paths(sys.stdin.buffer, nul=ends_with_nul) if given == "-" else [given]:
            try:
                yield from find_sources([path])
            except UsageError as e:
                yield Failure(Source.at(path), "not_video", str(e))


def _check_output(request: Request, sources: Iterable[Source]) -> None:
    output = request.output
    if output is None:
        return
    if output.is_dir():
        raise UsageError(f"{output}: is a folder; name a file, such as {output / 'answers.jsonl'}")
    if not output.exists():
        return
    read = [request.label_file, request.files_from, *(source.path for source in sources)]
    if any(path is not None and path.exists() and path.samefile(output) for path in read):
        raise UsageError(f"{output}: is read by this command and would be overwritten; choose another name for -o")
