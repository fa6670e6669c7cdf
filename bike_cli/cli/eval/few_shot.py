"""`bike eval --protocol fewshot`: the metrics of classes learned from K videos each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bike_cli.cli.eval.request import EvalRequest, single_file
from bike_cli.cli.session import session, show_reading
from bike_cli.cli.terminal.console import loading
from bike_cli.cli.terminal.targets import check_videos
from bike_cli.config import EvalConfig
from bike_cli.errors import UsageError
from bike_cli.wording import count

if TYPE_CHECKING:
    from bike_cli.tasks.evaluate.mistakes import Mistakes
    from bike_cli.tasks.evaluate.report import EvaluationReport
    from bike_cli.tasks.evaluate.summary import SystemScores
    from bike_cli.tasks.fewshot.study import Study


def evaluate_few_shot(
    config: EvalConfig, request: EvalRequest, files: Sequence[str]
) -> tuple[EvaluationReport, Mistakes] | None:
    """Return the report on every method with every number of shots; its tables are of the first draw.

    The mistakes are the first system's, of its last method with the most shots. None: another process reports.

    Raises:
        UsageError: flags or data that do not fit the protocol.
    """
    from bike_cli.data.labelled.train_sets import read_labelled

    names_file = single_file(request.labels, "the protocol fewshot has one data set")
    if len(request.data) > 1:
        problem = f"protocol fewshot: draws from one data set, and {len(request.data)} were named"
        raise UsageError(f"{problem}; name one", settings=("protocol",))
    unsupported = {"--official": config.official, "--unknown": request.unknown, "--multi-label": request.multi_label}
    for flag, is_given in unsupported.items():
        if is_given:
            problem = f"{flag}: is not supported by the protocol fewshot"
            raise UsageError(f"{problem}; leave it out", settings=("official", "protocol"))
    labelled = read_labelled(files[0], names_file=names_file, root=request.root)
    samples = [*labelled.train, *(labelled.test or ())]
    check_videos(*request.targets.values(), samples=samples)
    with session(config, videos=len(samples), quiet=request.quiet) as running:
        engines, processes = running.load_in_each_process(request.compared.get("model", [config.engine.model]))
        from bike_cli.tasks.fewshot.study import Study

        with loading("labels", quiet=running.quiet):
            studies = {
                name: Study(engines[system.engine.model], labelled, system, running.pool, processes)
                for name, system in request.systems.items()
            }
        scores: list[list[SystemScores]] = []
        for name, study in studies.items():
            show_reading(study.read(), quiet=running.quiet, prints_progress=request.progress)
            scores.append(_scores(study, name))
        if not processes.is_first:
            return None
        return _report(config, request, files, next(iter(studies.values())), scores)


def _scores(study: Study, system: str) -> list[SystemScores]:
    from bike_cli.tasks.evaluate.summary import SystemScores
    from bike_cli.tasks.fewshot.methods import BASELINE

    scores = []
    for (method, shots), draws in study.tables().items():
        described = method if method == BASELINE else f"{method}, {count(shots, 'shot')}"
        name = f"{system}, {described}" if system else described
        scores.append(SystemScores(name, draws[0], draws=tuple(draws), provenance=study.provenance))
    return scores


def _report(
    config: EvalConfig,
    request: EvalRequest,
    files: Sequence[str],
    study: Study,
    scores: Sequence[Sequence[SystemScores]],
) -> tuple[EvaluationReport, Mistakes]:
    from bike_cli.data.labelled.eval_sets import EvalSet
    from bike_cli.tasks.evaluate.mistakes import Mistakes, find_mistakes
    from bike_cli.tasks.evaluate.summary import describe_data, manifest_of, summarise

    labelled, engine, last = study.labelled, study.engine, scores[0][-1]
    tested = EvalSet(labelled.labels, labelled.names, tuple(study.samples))
    data = describe_data(tested, files, list(study.failures.values()), study.used, study.contents)
    manifest = manifest_of(config, engine=engine, model=engine.name, arguments=request.arguments)
    systems = [system for of_study in scores for system in of_study]
    report = summarise(systems, tested, range(len(last.table.videos)), config, data=data, manifest=manifest)
    return report, Mistakes(find_mistakes(last.table, study.look) if request.report is not None else [], last.name)
