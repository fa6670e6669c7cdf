"""`bike fewshot`: labelled folders become a report on paper and a classifier to keep."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bike_cli.cli import options as o
from bike_cli.cli.export import check_out, write_folder
from bike_cli.cli.session import watched
from bike_cli.cli.terminal.console import (
    check_stdout,
    download_aliases,
    error_room,
    loading,
    plain,
    print_config,
    stderr,
)
from bike_cli.cli.terminal.targets import check_apart, check_target, check_videos
from bike_cli.config import FewshotConfig
from bike_cli.errors import ExitCode, UsageError
from bike_cli.settings import dump, resolve

if TYPE_CHECKING:
    from bike_cli.data.labelled.train_sets import LabelledSet
    from bike_cli.tasks.fewshot.report import Report
    from bike_cli.tasks.fewshot.study import Study

LABELS_FILE = "labels.txt"  # beside a model that is kept

Data = Annotated[
    Path, typer.Argument(help="Folder of class folders, with train/ and test/ or without; CSV path,label; list file.")
]
Test = Annotated[
    Path | None,
    typer.Option("--test", help="Test on these, in the same form.", show_default=False, rich_help_panel=o.DATA),
]
TestFraction = Annotated[
    float | None,
    typer.Option(
        "--test-frac",
        help="Hold this share of each class back for testing.",
        show_default="what is not drawn is tested on",
        rich_help_panel=o.DATA,
    ),
]
Save = Annotated[
    Path | None,
    typer.Option(
        "--save",
        help="Keep the first draw's classifier, for bike classify --classifier; of bike, a folder for --model.",
        show_default=False,
        rich_help_panel=o.OUTPUT,
    ),
]
Also = Annotated[
    str | None,
    typer.Option(
        "--also",
        metavar="A,B,…",
        help="Labels for the kept classifier that have no videos; the text alone tells them.",
        show_default=False,
        rich_help_panel=o.LEARNING,
    ),
]
ReportFile = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Write the report as JSON.", show_default=False, rich_help_panel=o.OUTPUT),
]
Plots = Annotated[
    Path | None,
    typer.Option(
        "--plots",
        help="Write learning curve and confusion matrix as PNG into this folder.",
        show_default=False,
        rich_help_panel=o.OUTPUT,
    ),
]


def fewshot_command(  # the signature is the manual
    data: Data,
    shots: o.Shots = None,
    labels: o.NamesFile = None,
    test: Test = None,
    test_fraction: TestFraction = None,
    root: o.Root = None,
    method: o.MethodOption = None,
    trials: o.Trials = None,
    seed: o.Seed = None,
    also: Also = None,
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
    output: ReportFile = None,
    save: Save = None,
    plots: Plots = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = 0,
    config: o.ConfigFile = None,
    dump_config: o.DumpConfig = False,
) -> None:
    """Learn your classes from a few videos each, and tell how good that is.

    bike fewshot data/ --shots 2

    bike fewshot data/ --shots 4 --save actions.bike && bike classify --classifier actions.bike clips/
    """
    given = locals()
    with error_room(quiet=quiet, verbose=verbose):
        flags = {name: given[name] for name in o.fields_of(FewshotConfig)}
        settings = resolve(FewshotConfig, flags=flags, file=config)
        if dump_config:
            print_config(dump(settings))
            return
        raise typer.Exit(run(given, settings, quiet=quiet))


def run(given: dict[str, object], config: FewshotConfig, *, quiet: bool) -> ExitCode:
    """Learn and report what is asked for; return what the shell is told."""
    from bike_cli.cli.fewshot_tables import print_report, write_report
    from bike_cli.video.workers.pool import DecodePool

    output, save, plots, also = _targets(given)
    labelled = _labelled(given)
    samples = [*labelled.train, *(labelled.test or ())]
    check_videos(output, save, samples=samples)
    if output is None:
        check_stdout("report", way_out="name a file with -o")
    with DecodePool(config.sampling, config.decoding, most=len(samples)) as pool:
        download_aliases([config.engine.model], offline=config.engine.offline, quiet=quiet)
        pool.warm_up()  # while torch and the model are loaded
        with loading(config.engine.model, quiet=quiet):
            study = _study(labelled, config, pool)
            study.check_also(also)
        failed = sum(failure is not None for _, _, failure in watched(study, quiet=quiet))
        report = study.report()
        if save is not None:
            _keep(study, save, also)
    if output is not None:
        data = {name: given[name] for name in ("data", "test", "labels", "root")}
        write_report(report, output, data={k: None if v is None else str(v) for k, v in data.items()})
    if sys.stdout is not None:
        print_report(report)
    _say_saved(report, save, quiet=quiet)
    if plots is not None:
        from bike_cli.cli.plots import write_plots

        write_plots(report, plots)
    return ExitCode.SOME_FAILED if failed else ExitCode.DONE


def _targets(given: dict[str, object]) -> tuple[Path | None, Path | None, Path | None, tuple[str, ...]]:
    """Return where report, classifier and plots go, and the further labels, checked before anything is read."""
    from bike_cli.data.labels import parse_labels

    files = [given[name] for name in ("output", "save", "plots")]
    output, save, plots = (file if isinstance(file, Path) else None for file in files)
    read = [Path(str(given[name])) for name in ("data", "test", "labels", "config") if given[name] is not None]
    trains_model = str(given["method"] or "").split(",")[-1].strip() == "bike"
    if save is not None and trains_model:
        check_out(save, official=False)
    for file in (output, None if trains_model else save):
        if file is not None:
            check_target(file, read)
    check_apart({"-o": output, "--save": save})
    if plots is not None:
        from bike_cli.cli.plots import check_plots

        check_plots(plots)
    also = given["also"]
    if also is not None and save is None:
        raise UsageError("--also: adds labels to the classifier to keep, and none is kept; add --save actions.bike")
    return output, save, plots, parse_labels(str(also), named="--also") if also is not None else ()


def _labelled(given: dict[str, object]) -> LabelledSet:
    from bike_cli.data.labelled.train_sets import read_labelled

    paths = {name: given[name] for name in ("labels", "test", "root")}
    names_file, test, root = (path if isinstance(path, Path) else None for path in paths.values())
    return read_labelled(str(given["data"]), names_file=names_file, test=test, root=root)


def _study(labelled: LabelledSet, config: FewshotConfig, pool: object) -> Study:
    from bike_cli.engine.engine import load_configured
    from bike_cli.tasks.fewshot.study import Study

    return Study(load_configured(config.engine), labelled, config, pool)  # type: ignore[arg-type]


def _keep(study: Study, save: Path, also: Sequence[str]) -> None:
    from bike_cli.engine.heads.saved_classifier import save_learnt

    try:
        if study.trains_model:
            write_folder(study.model(), save)
            labels = "\n".join([*study.labelled.labels, *also])
            (save / LABELS_FILE).write_text(labels + "\n", encoding="utf-8")
        else:
            save_learnt(study.learnt(also=also), save)
    except OSError as e:
        raise UsageError(f"{save}: cannot be written ({e.strerror}); choose a folder that is yours") from e


def _say_saved(report: Report, save: Path | None, *, quiet: bool) -> None:
    if save is None or quiet:
        return
    method, shots = report.methods[-1], max(report.shots)
    use = f"-m {save} -l {save / LABELS_FILE}" if save.is_dir() else f"--classifier {save}"
    stderr().print(plain(f"{save}: {method}, {shots} shots, first draw; use it with bike classify {use}", "dim"))
