"""The result of `bike eval` as one HTML page that loads nothing; `report.html.jinja` is its template."""

from __future__ import annotations

import base64
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jinja2 import Environment

from bike_cli.cli.eval import wording
from bike_cli.cli.pages.environment import digest_of, make_environment, page_style
from bike_cli.cli.terminal.output_file import open_output
from bike_cli.tasks.evaluate.metric_table import METRICS
from bike_cli.tasks.evaluate.mistakes import Mistake, Mistakes
from bike_cli.tasks.evaluate.report import ClassMetrics, EvaluationReport, SystemResult, Value
from bike_cli.video.thumbnails import as_jpeg

PACKAGE, TEMPLATE, STYLE = "bike_cli.cli.eval", "report.html.jinja", "report.css"
MATRIX_CLASSES = 60  # with more, a matrix is unreadable; then the page lists the most frequent confusions
CONFUSIONS_SHOWN = 30
CLASSES_SHOWN = 15  # the worst; of more, all are one click away
CLASSES_OPEN = 30
FAILURES_SHOWN = 200  # all are in the JSON
THUMBNAIL_PX = 224
SHADES = 5  # as many as report.css has
CLASS_METRICS = {"recall": "recall", "average_precision": "average precision", "precision": "precision", "f1": "F1"}


def write_html(report: EvaluationReport, mistakes: Mistakes, file: Path) -> None:
    """Write a report as one page that needs no network; the file appears when it is complete.

    Args:
        mistakes: shown in the order of their scores.
    Raises:
        UsageError: the file cannot be written.
        ValueError: a frame is not an image.
    """
    page = as_page(report, mistakes)
    with open_output(file) as stream:
        stream.write(page)


def as_page(report: EvaluationReport, mistakes: Mistakes) -> str:
    """Return the page; see `write_html`."""
    style = page_style(PACKAGE, STYLE)
    headings = {
        "metrics": "Metrics",
        "differences": "Differences" if report.comparisons else "",
        "splits": "Splits" if report.splits else "",
        "reliability": "Reliability" if any(system.reliability for system in report.systems) else "",
        "classes": "Classes, worst first" if any(system.per_class for system in report.systems) else "",
        "confusions": "Confusions" if any(system.confusion for system in report.systems) else "",
        "mistakes": "Most confident mistakes",
        "failures": "Not evaluated",
        "manifest": "Repeat this evaluation",
    }
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            report=report,
            title=f"bike eval: {report.protocol}",
            style=style,
            style_digest=digest_of(style),
            headings={name: heading for name, heading in headings.items() if heading},
            class_tables=[(system, _ClassTable.of(system)) for system in report.systems if system.per_class],
            reliabilities=[(system, system.reliability) for system in report.systems if system.reliability],
            confusions=[(system, _confusion(system)) for system in report.systems if system.confusion],
            mistakes=sorted(mistakes.videos, key=lambda mistake: -mistake.score),
            mistakes_of=mistakes.system,
            known=_known(report),
        )
    )


@cache
def _environment() -> Environment:
    environment = make_environment(PACKAGE)
    environment.filters |= {
        "adjusted_p": wording.adjusted_p,
        "class_metric": CLASS_METRICS.__getitem__,
        "metric_name": wording.metric_name,
        "official_name": lambda key: f"official {wording.metric_name(key)}",
        "percent": wording.percent,
        "value": _value,
        "verdict": wording.verdict,
    }
    environment.globals |= {
        "CLASSES_OPEN": CLASSES_OPEN,
        "CLASS_METRICS": CLASS_METRICS,
        "FAILURES_SHOWN": FAILURES_SHOWN,
        "METRICS": METRICS,
        "RELIABILITY": wording.RELIABILITY,
        "SHADES": SHADES,
        "asdict": asdict,
        "cautions": wording.cautions,
        "compared_on": wording.compared_on,
        "shown_comparisons": wording.shown_comparisons,
        "decided_by": wording.decided_by,
        "frames_of": _frames,
        "is_in_nats": wording.is_in_nats,
        "shown_metric": wording.shown_metric,
        "signed": lambda row, value: wording.signed_metric(row.metric, value).replace("-", "−"),
        "keys_of": wording.keys_of,
        "untested": wording.untested,
        "without": wording.without,
        "is_of_draws": wording.is_of_draws,
        "winner": wording.winner,
    }
    return environment


def _value(value: Value) -> str:
    if value is None:
        return "not set"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True)
class _ClassTable:
    """The classes of one system, worst first.

    Args:
        measure: the field of `ClassMetrics` that ranks them.
        others: further fields to show.
    """

    measure: str
    others: tuple[str, ...]
    ranked: tuple[ClassMetrics, ...]
    summary: str

    @classmethod
    def of(cls, system: SystemResult) -> _ClassTable:
        shown = [key for key in CLASS_METRICS if any(getattr(one, key) is not None for one in system.per_class)]
        # With several labels per video, the best answer is not a whole answer, and there is no recall.
        measure = "average_precision" if "average_precision" in shown and "recall" not in shown else "recall"
        shares = {one: getattr(one, measure) for one in system.per_class}
        ranked = sorted(system.per_class, key=lambda one: (shares[one] is None, shares[one] or 0.0))
        known = [share for share in shares.values() if share is not None]
        return cls(measure, tuple(key for key in shown if key != measure), tuple(ranked), _summary(known))

    @property
    def worst(self) -> tuple[ClassMetrics, ...]:
        """The worst classes, if there are too many to show all."""
        return self.ranked[:CLASSES_SHOWN] if len(self.ranked) > CLASSES_OPEN else ()


def _summary(shares: Sequence[float]) -> str:
    if not shares:
        return "No class has videos."
    low = sum(share < 0.5 for share in shares)
    median = wording.percent(statistics.median(shares))
    return f"The median class reaches {median} %; {low} of {len(shares)} classes are below 50 %."


@dataclass(frozen=True)
class _Confusion:
    """The confusion matrix of one system, or its most frequent confusions.

    Args:
        labels: of the rows and columns.
        rows: of each class, counts with their shades; empty if there are too many classes.
        pairs: class, class it was classified as, number of videos and share of the class's videos.
    """

    labels: tuple[str, ...]
    rows: tuple[tuple[tuple[int, str], ...], ...] = ()
    pairs: tuple[tuple[str, str, int, float], ...] = ()


def _confusion(system: SystemResult) -> _Confusion:
    labels = tuple(of_class.label for of_class in system.per_class)
    assert system.confusion is not None
    if len(labels) <= MATRIX_CLASSES:
        counts = system.confusion.matrix(len(labels))
        totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
        shades = np.ceil(SHADES * counts / totals).astype(int).tolist()
        kinds = [["correct" if i == j else "wrong" for j in range(len(labels))] for i in range(len(labels))]
        rows = (zip(*row, strict=True) for row in zip(counts.tolist(), kinds, shades, strict=True))
        return _Confusion(labels, tuple(tuple((n, f"{kind}{shade}") for n, kind, shade in row) for row in rows))
    found = system.confusion
    wrong = [pair for pair in zip(found.truth, found.guess, found.videos, strict=True) if pair[0] != pair[1]]
    most = sorted(wrong, key=lambda pair: (-pair[2], *pair))[:CONFUSIONS_SHOWN]
    of_class = np.bincount(found.truth, weights=found.videos).tolist()
    return _Confusion(labels, pairs=tuple((labels[i], labels[j], n, n / of_class[i]) for i, j, n in most))


@dataclass(frozen=True)
class _Frame:
    source: str
    when: str
    weight: float  # share of the weight of all frames


def _frames(mistake: Mistake) -> list[_Frame]:
    shown = []
    rows = zip(mistake.frames, mistake.times_s, mistake.weights, strict=True)
    for number, (frame, time_s, weight) in enumerate(rows, start=1):
        when = f"{time_s:.2f} s" if math.isfinite(time_s) else f"frame {number}"
        jpeg = base64.b64encode(as_jpeg(frame, side_px=THUMBNAIL_PX)).decode()
        shown.append(_Frame(f"data:image/jpeg;base64,{jpeg}", when, weight))
    return shown


def _known(report: EvaluationReport) -> Mapping[str, str]:
    manifest, data = report.manifest, report.data
    made_of = report.systems[0].provenance if report.systems else None
    source = None if made_of is None else made_of.source
    known = {
        "model": manifest.model,
        "fingerprint": manifest.fingerprint,
        "weights": source and f"{source.repository}@{source.commit}",
        "sha256 of weights": source and source.sha256,
        "sha256 of names and labels": data.sha256,
        "sha256 of contents": data.contents,
        "seed": str(manifest.seed),
    }
    return {term: value for term, value in known.items() if value}
