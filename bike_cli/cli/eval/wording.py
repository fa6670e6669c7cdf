"""How reports are worded, in tables and on the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath

from bike_cli.tasks.detection.metrics import DETECTION_METRICS, detection_metric_name
from bike_cli.tasks.evaluate.json_values import Estimate
from bike_cli.tasks.evaluate.metric_table import METRICS
from bike_cli.tasks.evaluate.official import OFFICIAL_NAMES
from bike_cli.tasks.evaluate.report import Comparison, EvaluationReport, Metric
from bike_cli.tasks.evaluate.reproduction import AnyReport
from bike_cli.wording import FEW_VIDEOS, all_of, caution, count, points

# With fewer videos of a class, or more classes, the intervals of these metrics are too narrow.
FEW, MANY = 10, 20
NARROW = ("macro_f1", "map")
RELIABILITY = {  # diagrams, by key
    "scores": "scores",
    "before": "scores without the calibration",
    "right": "right, for known and unknown videos",
}
LABELS_SHOWN = 3
FIRST_DRAW = "for the first draw"
SCOPES = {  # of comparisons, where they are not of the protocol's own metrics
    "zeroshot-half": "over all classes, not halves",
    "k600": "over the classes of all splits together",
}


def metric_name(key: str) -> str:
    """Return the name of a metric for people."""
    if key in METRICS:
        return f"{METRICS[key].name} (nats)" if is_in_nats(key) else METRICS[key].name
    return OFFICIAL_NAMES.get(key) or detection_metric_name(key) or key.replace("_", " ")


def is_of_draws(report: AnyReport) -> bool:
    """Return whether a report is on random draws, so that its metrics are those of the first one."""
    return report.protocol == "fewshot" or bool(unseen_labels(report))


def unseen_labels(report: AnyReport) -> tuple[str, ...]:
    """Return the labels that the first draw left out; empty without `--unseen-split`."""
    return report.splits[0].unseen if isinstance(report, EvaluationReport) and report.splits else ()


def without(labels: Sequence[str]) -> str:
    """Return that labels are left out: "without square", "without square, star and 3 more"; empty if none is."""
    if not labels:
        return ""
    more = len(labels) - LABELS_SHOWN
    return f"without {all_of([*labels[:LABELS_SHOWN], *([f'{more:,} more'] if more > 0 else [])])}"


def keys_of(metrics: Iterable[Mapping[str, Metric] | Mapping[str, Estimate] | None]) -> list[str]:
    """Return the keys that any of several mappings has, in order."""
    return list(dict.fromkeys(key for some in metrics for key in some or ()))


def winner(comparison: Comparison) -> str | None:
    """Return the system that is better, if the difference is significant."""
    if not comparison.significant:
        return None
    metric = METRICS.get(comparison.metric)
    smaller_is_better = metric is not None and metric.smaller_is_better
    return comparison.system if (comparison.difference > 0) != smaller_is_better else comparison.baseline


def shown_comparisons(report: AnyReport) -> list[Comparison]:
    """Return the comparisons to show: of a system that equals the first in everything, only the first metric's."""
    different = {row.system for row in report.comparisons if row.difference or row.differing != 0}
    first = report.comparisons[0].metric if report.comparisons else None
    return [row for row in report.comparisons if row.system in different or row.metric == first]


def verdict(comparison: Comparison) -> str:
    """Return what a difference means for the second system; empty for a metric that does not decide."""
    if comparison.differing == 0 and not comparison.difference:
        return "same answers"
    if comparison.significant is None:
        return ""
    if not comparison.significant:
        return "not significant"
    return "significantly better" if winner(comparison) == comparison.system else "significantly worse"


def decided_by(report: AnyReport) -> str:
    """Return which metric decides, and how its p-values are adjusted."""
    deciding = [row for row in report.comparisons if row.significant is not None]
    if not deciding:
        return "not tested, because a system lacks the metric that decides"
    adjusted = f", p adjusted for {len(deciding)} comparisons (Holm)" if len(deciding) > 1 else ""
    return f"{metric_name(deciding[0].metric)} decides{adjusted}"


def untested(report: AnyReport) -> str:
    """Return what a dash in the column of p-values means; empty if the column has no dash, or no p-value."""
    rows = shown_comparisons(report)
    deciding = next((row for row in rows if row.significant is not None), None)
    if deciding is None or all(row.p_adjusted is not None for row in rows):
        return ""
    return f"– not tested: only {metric_name(deciding.metric)} decides"


def short_names(report: AnyReport) -> dict[str, str]:
    """Return the name of each system for tables: without the folders of model paths, if the names stay different."""
    names = [system.name for system in report.systems]
    short = [", ".join(map(_without_folders, name.split(", "))) for name in names]
    return dict(zip(names, short if len(set(short)) == len(set(names)) else names, strict=True))


def _without_folders(part: str) -> str:
    is_path = part.startswith(("/", "./", "../", "~/")) and "," not in part  # else it may be ARCH,TAG
    return PurePath(part).name or part if is_path else part


def cautions(report: EvaluationReport) -> list[str]:
    """Return what limits the metrics: few videos, and intervals that may be too narrow."""
    few = caution(report.data.videos, "", f"evaluate {FEW_VIDEOS} or more")
    return list(filter(None, [few, _narrow_intervals(report)]))


def _narrow_intervals(report: EvaluationReport) -> str:
    classes = [one for system in report.systems[:1] for one in system.per_class if one.videos > 0]
    few = [one for one in classes if one.videos < FEW]
    narrow = [metric_name(key) for key in NARROW if any(key in system.metrics for system in report.systems)]
    if not narrow or (not few and len(classes) <= MANY):
        return ""
    reason = f"{count(len(few), 'class has', 'classes have')} fewer than {FEW} videos"
    if not few:
        reason = f"there are more than {MANY} classes"
    return f"{reason}, so intervals of {all_of(narrow)} may be too narrow"


def adjusted_p(comparison: Comparison) -> str:
    """Return the p-value of a metric that decides; a dash for others, see `untested`."""
    if comparison.p_adjusted is None:
        return "–"
    return "< 0.001" if comparison.p_adjusted < 0.001 else f"{comparison.p_adjusted:.3f}"


def compared_on(report: AnyReport) -> str:
    """Return on which videos systems are compared."""
    scope = FIRST_DRAW if is_of_draws(report) else SCOPES.get(report.protocol)
    is_partial = any(comparison.left_out for comparison in report.comparisons)
    videos = {comparison.videos for comparison in report.comparisons} if is_partial else set()
    shared = f"on the {min(videos):,} videos that both have" if len(videos) == 1 else "on the same videos"
    if len(videos) > 1:
        shared = f"on the videos that both have ({min(videos):,} to {max(videos):,})"
    return shared if scope is None else f"{shared}, {scope}"


def percent(share: float | None) -> str:
    """Return a share in per cent."""
    return "–" if share is None else f"{points(share):.1f}"


def signed(share: float) -> str:
    """Return a difference of shares in points."""
    return f"{points(share):+.1f}"


def signed_metric(key: str, value: float) -> str:
    """Return a difference of a metric: of shares in points, of times in seconds, of log loss in nats."""
    if is_in_nats(key):
        return f"{round(value, 4) + 0.0:+.4f}"
    return f"{round(value, 2) + 0.0:+.2f} s" if is_in_seconds(key) else signed(value)


def shown_metric(key: str, value: float) -> str:
    """Return the value of a metric: of shares in per cent, of times in seconds, of log loss in nats."""
    if is_in_nats(key):
        return f"{value:.4f}"
    return f"{value:.2f} s" if is_in_seconds(key) else percent(value)


def is_in_nats(key: str) -> bool:
    """Return whether a metric is a log loss, not a share."""
    return key in METRICS and METRICS[key].unit == "nats"


def is_in_seconds(key: str) -> bool:
    """Return whether a metric is a time, not a share."""
    return key in DETECTION_METRICS and DETECTION_METRICS[key].unit == "s"
