"""`bike eval --protocol fewshot`: the figures of classes that were learned from K videos each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bike_cli.cli.eval.arguments import OUTPUTS, labels_of, one_of, targets_of
from bike_cli.cli.eval.repeat import arguments_of
from bike_cli.cli.eval.systems import systems_of
from bike_cli.cli.session import watched
from bike_cli.cli.terminal.console import download_aliases, loading
from bike_cli.cli.terminal.targets import check_videos
from bike_cli.config import EvalConfig, FewshotConfig
from bike_cli.errors import UsageError
from bike_cli.settings import flatten, resolve

if TYPE_CHECKING:
    from bike_cli.data.labelled.train_sets import LabelledSet
    from bike_cli.inference.processes import Processes
    from bike_cli.tasks.evaluate.evaluation import System
    from bike_cli.tasks.evaluate.mistakes import Mistakes
    from bike_cli.tasks.evaluate.report import EvaluationReport
    from bike_cli.tasks.evaluate.summary import SystemScores
    from bike_cli.tasks.fewshot.study import Study
    from bike_cli.video.workers.pool import DecodePool

OWN = ("shots", "method", "trials")  # flags of this protocol alone


def check_shots(given: Mapping[str, object], config: EvalConfig, *, is_predicted: bool) -> None:
    """Raise UsageError where flags and data are not those of the protocol."""
    if config.protocol != "fewshot":
        asked = next((name for name in OWN if given[name] is not None), None)
        if asked is not None:
            raise UsageError(
                f"--{asked}: is of --protocol fewshot, not of {config.protocol}; give that, or leave it out"
            )
        return
    if is_predicted:
        raise UsageError("protocol fewshot: learns from videos, and these are predictions; name labelled videos")
    one_of(labels_of(given), "the protocol fewshot has one data set")
    files = given["data"]
    if isinstance(files, list) and len(files) > 1:
        raise UsageError(f"protocol fewshot: draws from one data set, and {len(files)} were named; name one")
    other = {"--official": config.official, "--unknown": given["unknown"], "--multi-label": given["multi_label"]}
    for flag, asked_for in other.items():
        if asked_for:
            raise UsageError(f"{flag}: the protocol fewshot has no such figure; leave it out")


def of_shots(
    given: dict[str, object], config: EvalConfig, many: Mapping[str, list[str]], files: Sequence[str]
) -> tuple[EvaluationReport, Mistakes] | None:
    """Return the report on every method with every number of shots; its tables are of the first draw.

    The mistakes are the first system's, of its last method with the most shots. None: another process tells.
    """
    from bike_cli.data.labelled.train_sets import read_labelled
    from bike_cli.tasks.evaluate.mistakes import Mistakes, mistakes_of
    from bike_cli.video.workers.pool import DecodePool

    root = given["root"] if isinstance(given["root"], Path) else None
    names = one_of(labels_of(given), "the protocol fewshot has one data set")
    labelled = read_labelled(files[0], names_file=names, root=root)
    samples = [*labelled.train, *(labelled.test or ())]
    check_videos(*targets_of(given, OUTPUTS).values(), samples=samples)
    with DecodePool(config.sampling, config.decoding, most=len(samples)) as pool:
        models = many.get("model", [config.engine.model])
        download_aliases(models, offline=config.engine.offline, quiet=bool(given["quiet"]))
        pool.warm_up()  # while torch and the models are loaded
        from bike_cli.inference.processes import found, together

        by = found()
        quiet = bool(given["quiet"]) or not by.is_first
        with loading(", ".join(models), quiet=quiet):
            systems = systems_of(config, many, by)
        with together(by, systems[0].engine.encoder.placement.device):
            with loading("labels", quiet=quiet):
                studies = [_study(one, labelled, config, pool, by) for one in systems]
            scores: list[list[SystemScores]] = []
            for system, study in zip(systems, studies, strict=True):
                for _ in watched(study, quiet=quiet):
                    pass
                scores.append(_scores(study, system.name if len(systems) > 1 else ""))
        if not by.is_first:
            return None
        report = _report(given, config, files, studies, [one for of_study in scores for one in of_study])
        last = scores[0][-1]
        mistakes = mistakes_of(last.table, studies[0].look) if given["report"] is not None else []
    return report, Mistakes(mistakes, last.name)


def _study(system: System, labelled: LabelledSet, config: EvalConfig, pool: DecodePool, by: Processes) -> Study:
    from bike_cli.tasks.fewshot.study import Study

    told = {**flatten(config), **flatten(system.config)}
    flags = {k: told[k] for k in flatten(FewshotConfig()) if k in told}
    wanted = resolve(FewshotConfig, flags=flags, environment={})  # which the config has seen
    return Study(system.engine, labelled, wanted, pool, by)


def _scores(study: Study, system: str) -> list[SystemScores]:
    from bike_cli.tasks.evaluate.summary import SystemScores
    from bike_cli.tasks.fewshot.methods import BASELINE

    found = []
    for (method, shots), draws in study.tables().items():
        described = method if method == BASELINE else f"{method}, {shots} shot{'s' * (shots > 1)}"
        name = f"{system}, {described}" if system else described
        found.append(SystemScores(name, draws[0], draws=tuple(draws), provenance=study.provenance))
    return found


def _report(
    given: dict[str, object],
    config: EvalConfig,
    files: Sequence[str],
    studies: Sequence[Study],
    scores: Sequence[SystemScores],
) -> EvaluationReport:
    from bike_cli.data.labelled.eval_sets import Tested
    from bike_cli.tasks.evaluate.report import FailedVideo
    from bike_cli.tasks.evaluate.summary import describe_data, manifest_of, summarize

    study, labelled = studies[0], studies[0].labelled
    tested = Tested(labelled.labels, labelled.names, tuple(study.samples))
    failed = [FailedVideo(f.source.id, f.kind, f.message) for f in study.failures.values()]
    data = describe_data(tested, files, failed, study.used, study.contents)
    engine = study.engine
    manifest = manifest_of(config, engine=engine, model=engine.name, arguments=arguments_of(given))
    return summarize(scores, tested, range(len(scores[0].table.videos)), config, data=data, manifest=manifest)
