"""What `bike eval` found out, as one page to look at: nothing of it is loaded from anywhere."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from bike_cli.cli.eval import html_parts as h
from bike_cli.cli.eval.html_parts import Column, Html, element, name, text
from bike_cli.cli.terminal.output_file import open_output
from bike_cli.tasks.evaluate.mistakes import Mistake, Mistakes
from bike_cli.video.thumbnails import as_jpeg

if TYPE_CHECKING:
    from numpy.typing import NDArray

MATRIX_CLASSES = 60  # more are no picture; then the most frequent confusions are told
CONFUSIONS_SHOWN = 30
CLASSES_SHOWN = 15  # the worst; of more, all are one click away
CLASSES_OPEN = 30
FAILURES_SHOWN = 200  # all are in the JSON
THUMBNAIL_PX = 224
SHADES = 5  # as many as report.css knows
UNKNOWN = text("–")

METRICS = {  # key -> how it is called, what it is
    "map": ("mAP", "mean over classes of the average precision"),
    "top1": ("top-1", "share of the videos whose best answer is right"),
    "top5": ("top-5", "share of the videos whose class is among the five best answers"),
    "mean_class": ("mean class", "mean of the classes' own shares right; each class counts the same"),
    "macro_f1": ("macro F1", "mean over classes of the harmonic mean of precision and recall"),
    "ece": ("calibration error", "mean distance between the score and the share that is right; smaller is better"),
    "auroc_none": ("AUROC, none of these", "how well scores tell known classes from unknown ones; 50 is chance"),
}
OFFICIAL = {  # what only the official code counts: how it is called
    "running_map": "running mAP",
    "half_top1": "top-1 on halves",
    "half_top5": "top-5 on halves",
    "splits_top1": "top-1 on splits",
    "splits_top5": "top-5 on splits",
    "attributes_top1": "top-1 of attributes",
    "attributes_top5": "top-5 of attributes",
    "fused_top1": "top-1 with attributes",
}
SETTLED = 0.05  # below this p
COMPARED_ON = {  # what differences are of, where it is not the protocol's own figure
    "fewshot": "of the first draw",
    "zeroshot-half": "of all classes, not of halves",
    "k600": "of all splits' classes together",
}
SMALLER_IS_BETTER = frozenset({"ece"})
PER_CLASS = {"recall": "recall", "ap": "average precision", "precision": "precision", "f1": "F1"}

Object = Mapping[str, object]


def write_html(report: Mapping[str, object], mistakes: Mistakes, file: Path) -> None:
    """Write a report as one page that needs no network; an older one is only replaced by a whole one.

    Args:
        report: the JSON object that `bike eval -o` writes. A difference is what `b` gains over `a`; rows and columns
            of a confusion matrix are in the order of the system's `per_class`.
        mistakes: the most confident come first on the page, in whatever order they are given.
    Raises:
        UsageError: a file that cannot be written.
        ValueError: a confusion matrix of another size than its classes, a frame that is none.
    """
    page = as_page(report, mistakes)
    with open_output(file) as stream:
        stream.write(page)


def as_page(report: Mapping[str, object], mistakes: Mistakes) -> str:
    """Return the page; see `write_html`."""
    made = (
        _headline(report),
        _differences(report),
        _splits(report),
        _classes(report),
        _confusions(report),
        _mistakes(mistakes),
        _failures(report),
        _manifest(report),
    )
    sections = [section for section in made if section is not None]
    css = resources.files("bike_cli.cli.eval").joinpath("report.css").read_text(encoding="utf-8")
    body = (_header(report), _contents(sections), element("main", *map(_as_html, sections)))
    return h.page(title=f"{_title(report)}, {_word(report, 'model')}", css=css, body=h.joined(body))


# -- what a report says -------------------------------------------------------------------------------------------


class _Figure(NamedTuple):
    """A figure of 1, with its 95 % interval or its standard deviation where it has one."""

    value: float
    interval: tuple[float, float] | None = None
    deviation: float | None = None


def _many(holder: Object, key: str) -> Sequence[Object]:
    return cast("Sequence[Object]", holder.get(key) or ())


def _one(holder: Object, key: str) -> Object:
    return cast("Object", holder.get(key) or {})


def _words(holder: Object, key: str) -> Sequence[str]:
    return cast("Sequence[str]", holder.get(key) or ())


def _word(holder: Object, key: str) -> str:
    found = holder.get(key)
    return "" if found is None else str(found)


def _count(holder: Object, key: str) -> int:
    return cast("int", holder.get(key) or 0)


def _number(holder: Object, key: str) -> float | None:
    found = holder.get(key)
    return float(found) if isinstance(found, (int, float)) and math.isfinite(found) else None


def _figure(holder: Object, key: str) -> _Figure | None:
    """Return a figure, be it a bare number, one with its interval, or one with its deviation at `KEY_std`."""
    found = holder.get(key)
    parts = cast("Object", found) if isinstance(found, Mapping) else {"value": found}
    value, low, high = (_number(parts, part) for part in ("value", "low", "high"))
    if value is None:
        return None
    return _Figure(value, None if low is None or high is None else (low, high), _number(holder, f"{key}_std"))


def _measured(holders: Sequence[Object]) -> list[str]:
    """Return the metrics that any of several has, in the order of the report: what counts most is first there."""
    return list(dict.fromkeys(key for holder in holders for key in holder if not key.endswith("_std")))


# -- figures in words ---------------------------------------------------------------------------------------------


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{_points(share):.1f}"


def _signed(share: float | None) -> str:
    return "–" if share is None else f"{_points(share):+.1f}".replace("-", "−")


def _points(share: float) -> float:
    return round(100 * share, 1) + 0.0  # never -0.0


def _counted(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _called(metric: str) -> str:
    return METRICS[metric][0] if metric in METRICS else OFFICIAL.get(metric, metric.replace("_", " "))


def _probability(p: float | None) -> str:
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _measure(figure: _Figure | None) -> Html:
    """Return a figure with what surrounds it, for a cell."""
    if figure is None:
        return UNKNOWN
    beside = ""
    if figure.interval is not None:
        beside = " – ".join(map(_percent, figure.interval))
    elif figure.deviation is not None:
        beside = f"± {_percent(figure.deviation)}"
    around = element("span", text(beside), class_="range") if beside else h.NOTHING
    value = element("b", text(_percent(figure.value)))
    return h.joined((value, text(" "), around, h.bar(figure.value, figure.interval)))


# -- the frame of the page ----------------------------------------------------------------------------------------


class _Section(NamedTuple):
    id: str
    heading: str
    content: Html


def _as_html(section: _Section) -> Html:
    heading = element("h2", text(section.heading), id=f"{section.id}-heading")
    return element("section", heading, section.content, id=section.id, aria_labelledby=f"{section.id}-heading")


def _contents(sections: Sequence[_Section]) -> Html:
    links = (element("li", element("a", text(s.heading), href=f"#{s.id}")) for s in sections)
    return element("nav", element("ul", *links), aria_label="contents")


def _title(report: Object) -> str:
    return f"bike {_word(report, 'command')}: {_word(report, 'protocol')}"


def _header(report: Object) -> Html:
    data = _one(report, "data")
    failed, empty = len(_many(data, "failed")), len(_words(data, "classes_without_videos"))
    pairs = [
        ("model", name(_word(report, "model"))),
        ("videos", text(f"{_count(data, 'videos'):,}")),
        ("classes", text(f"{_count(data, 'classes'):,}")),
    ]
    if report.get("device") is not None:
        pairs.append(("computed on", text(f"{_word(report, 'device')}, {_word(report, 'dtype')}")))
    notes = []
    if failed:
        notes.append(f"{_counted(failed, 'video')} could not be read.")
    if empty:
        notes.append(f"{_counted(empty, 'class has', 'classes have')} no video.")
    said = element("p", text(" ".join(notes)), Html(" "), element("a", text("Which?"), href="#failures"), class_="note")
    return element("header", element("h1", text(_title(report))), h.facts(pairs), said if notes else h.NOTHING)


# -- figures ------------------------------------------------------------------------------------------------------


def _headline(report: Object) -> _Section:
    systems = _many(report, "systems")
    if not systems:
        return _Section("figures", "Figures", element("p", text("No system was measured.")))
    metrics = _measured([_one(s, "metrics") for s in systems])
    officials = _measured([_one(s, "official") for s in systems])
    columns = [Column(text("system"), is_figures=False), *(Column(text(_called(m))) for m in metrics)]
    columns += [Column(text(f"official {_called(m)}")) for m in officials]
    rows = [
        [
            name(_word(system, "name")),
            *(_measure(_figure(_one(system, "metrics"), m)) for m in metrics),
            *(element("i", _bare(_figure(_one(system, "official"), m))) for m in officials),
        ]
        for system in systems
    ]
    groups = [("", 1), ("as bike defines them", len(metrics)), ("as BIKE's official code counts", len(officials))]
    caption = text("Per cent, each with its 95 % interval where there is one.")
    table = h.table("headline", caption, columns, rows, groups=groups if officials else ())
    return _Section("figures", "Figures", h.joined((table, _meanings(metrics, officials=bool(officials)))))


def _bare(figure: _Figure | None) -> Html:
    if figure is None or figure.deviation is None:
        return text(_percent(None if figure is None else figure.value))
    return text(f"{_percent(figure.value)} ± {_percent(figure.deviation)}")


def _meanings(metrics: Sequence[str], *, officials: bool) -> Html:
    pairs = [METRICS[m] for m in metrics if m in METRICS]
    if officials:
        said = "what BIKE's own scripts print for the same answers; not to be compared with the figures beside them"
        pairs.append(("official", said))
    terms = (element("div", element("dt", text(called)), element("dd", text(said))) for called, said in pairs)
    return h.details(text("What the figures mean"), element("dl", *terms, class_="meanings"))


def _differences(report: Object) -> _Section | None:
    comparisons = _many(report, "comparisons")
    if not comparisons:
        return None
    heads = ("difference", "95 % interval", "p")
    columns = [Column(text("compared"), is_figures=False), Column(text("figure"), is_figures=False)]
    columns += [Column(text(head)) for head in heads] + [Column(text("verdict"), is_figures=False)]
    rows = [_difference(comparison) for comparison in comparisons]
    said = (
        f"First less second, in points, {compared_on(report)}; real where the interval leaves out zero and p is below"
    )
    caption = text(f"{said} {SETTLED}.")
    return _Section("differences", "Differences", h.table("comparisons", caption, columns, rows))


def compared_on(report: Object) -> str:
    """Return on what systems are compared."""
    scope = COMPARED_ON.get(_word(report, "protocol"))
    comparisons = _many(report, "comparisons")
    videos = (
        {_count(one, "videos") for one in comparisons} if any(one.get("left_out") for one in comparisons) else set()
    )
    shared = f"on the {min(videos):,} videos that both have" if len(videos) == 1 else "on the same videos"
    if len(videos) > 1:
        fewest, most = min(videos), max(videos)
        shared = f"on the videos that both have, {fewest:,} to {most:,}"
    return shared if scope is None else f"{shared}, {scope}"


def _difference(comparison: Object) -> list[Html]:
    low, high = _number(comparison, "low"), _number(comparison, "high")
    between = h.joined((name(_word(comparison, "b")), text(" against "), name(_word(comparison, "a"))))
    return [
        between,
        text(_called(_word(comparison, "metric"))),
        element("b", text(_signed(_number(comparison, "difference")))),
        UNKNOWN if low is None or high is None else text(f"{_signed(low)} to {_signed(high)}"),
        text(_probability(_number(comparison, "p"))),
        _verdict(comparison, low, high),
    ]


def _verdict(comparison: Object, low: float | None, high: float | None) -> Html:
    p = _number(comparison, "p")
    if low is None or high is None or low <= 0 <= high or (p is not None and p >= SETTLED):
        return element("span", text("not settled"), class_="unsettled")
    is_gain = (low > 0) != (_word(comparison, "metric") in SMALLER_IS_BETTER)
    better = name(_word(comparison, "b" if is_gain else "a"))
    return element("strong", text("real: "), better, text(" is better"), class_="real")


def _splits(report: Object) -> _Section | None:
    splits = _many(report, "splits")
    if not splits:
        return None
    metrics = _measured([_one(split, "metrics") for split in splits])
    officials = _measured([_one(split, "official") for split in splits])
    columns = [Column(text("split"), is_figures=False), Column(text("system"), is_figures=False)]
    columns += [Column(text(head)) for head in ("classes", "videos", *map(_called, metrics))]
    columns += [Column(text(f"official {_called(m)}")) for m in officials]
    rows = [
        [
            name(_word(split, "name")),
            name(_word(split, "system")),
            text(_grouped(split.get("classes"))),
            text(_grouped(split.get("videos"))),
            *(_measure(_figure(_one(split, "metrics"), m)) for m in metrics),
            *(element("i", _bare(_figure(_one(split, "official"), m))) for m in officials),
        ]
        for split in splits
    ]
    caption = text("Per cent, of each split by itself.")
    return _Section("splits", "Splits", h.table("split-figures", caption, columns, rows))


def _grouped(count: object) -> str:
    return f"{count:,}" if isinstance(count, int) else "–"


# -- classes ------------------------------------------------------------------------------------------------------


def _classes(report: Object) -> _Section | None:
    systems = [system for system in _many(report, "systems") if _many(system, "per_class")]
    if not systems:
        return None
    parts = [_of_system(system, _bars(system, place)) for place, system in enumerate(systems)]
    return _Section("classes", "Classes, worst first", _unfolding(systems, parts))


def _of_system(system: Object, content: Html) -> tuple[Html, Html]:
    return element("h3", name(_word(system, "name"))), content


def _unfolding(systems: Sequence[Object], parts: Sequence[tuple[Html, Html]]) -> Html:
    """Return what is told of each system; of several, the first is open."""
    if len(systems) == 1:
        return parts[0][1]
    return h.joined(h.details(heading, content, is_open=i == 0) for i, (heading, content) in enumerate(parts))


def _bars(system: Object, place: int) -> Html:
    classes = _many(system, "per_class")
    shown = [key for key in PER_CLASS if any(_number(one, key) is not None for one in classes)]
    # With several labels a video, the best one is no whole answer, and there is no recall.
    measure = "ap" if "ap" in shown and "recall" not in shown else "recall"
    ranked = sorted(classes, key=lambda one: (_number(one, measure) is None, _number(one, measure) or 0.0))
    rest = [key for key in shown if key != measure]
    called = PER_CLASS[measure]
    summary = element("p", text(_spread(ranked, measure)))
    if len(ranked) <= CLASSES_OPEN:
        whole = _class_table(f"classes-{place}", f"{called}, in per cent", ranked, [measure, *rest])
        return h.joined((summary, whole))
    worst = f"the {CLASSES_SHOWN} worst of {len(ranked)}: {called}, in per cent"
    everything = f"all {len(ranked)}: {called}, in per cent"
    first = _class_table(f"worst-{place}", worst, ranked[:CLASSES_SHOWN], [measure, *rest])
    whole = _class_table(f"classes-{place}", everything, ranked, [measure, *rest])
    return h.joined((summary, first, h.details(text(f"All {len(ranked)} classes"), whole)))


def _spread(classes: Sequence[Object], measure: str) -> str:
    shares = [share for one in classes if (share := _number(one, measure)) is not None]
    if not shares:
        return "No class has a figure."
    low = sum(share < 0.5 for share in shares)
    median = f"Half of the classes have {_percent(statistics.median(shares))} % or more"
    return f"{median}; {low} of {len(shares)} have less than 50 %."


def _class_table(id_: str, caption: str, classes: Sequence[Object], measures: Sequence[str]) -> Html:
    columns = [Column(text("class"), is_figures=False), *(Column(text(PER_CLASS[m])) for m in measures)]
    columns.append(Column(text("videos")))
    rows = (
        [
            name(_word(one, "label")),
            _with_bar(_number(one, measures[0])),
            *(text(_percent(_number(one, m))) for m in measures[1:]),
            text(_grouped(one.get("videos"))),
        ]
        for one in classes
    )
    return h.table(id_, text(caption), columns, rows)


def _with_bar(share: float | None) -> Html:
    return UNKNOWN if share is None else h.joined((text(_percent(share)), h.bar(share)))


# -- confusions ---------------------------------------------------------------------------------------------------


def _confusions(report: Object) -> _Section | None:
    systems = [system for system in _many(report, "systems") if system.get("confusion")]
    if not systems:
        return None
    parts = [_of_system(system, _confusion(system, place)) for place, system in enumerate(systems)]
    return _Section("confusions", "Confusions", _unfolding(systems, parts))


def _confusion(system: Object, place: int) -> Html:
    labels = [_word(one, "label") for one in _many(system, "per_class")]
    counts = np.asarray(system["confusion"])
    if counts.shape != (len(labels), len(labels)):
        named = f"{_word(system, 'name')}: confusion has shape {list(counts.shape)}"
        raise ValueError(f"{named}; expected a row and a column for each of its {len(labels)} classes")
    if len(labels) <= MATRIX_CLASSES:
        return h.joined((_matrix(f"matrix-{place}", labels, counts), _legend()))
    return _most_frequent(f"matrix-{place}", labels, counts)


def _matrix(id_: str, labels: Sequence[str], counts: NDArray[np.int64]) -> Html:
    said = "Rows: what it is. Columns: what it was taken for. In videos."
    caption = element("caption", element("span", text(said)), id=f"{id_}-caption")
    corner = element("td")
    heads = (element("th", element("span", name(label)), scope="col") for label in labels)
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shades = np.ceil(SHADES * counts / totals).astype(int)
    lines = (
        element("tr", element("th", name(label), scope="row"), *_shaded(counts[i].tolist(), shades[i].tolist(), i))
        for i, label in enumerate(labels)
    )
    head, body = element("thead", element("tr", corner, *heads)), element("tbody", *lines)
    return h.scroller(element("table", caption, head, body, class_="matrix"), labelled_by=f"{id_}-caption", id_=id_)


def _shaded(counts: Sequence[int], shades: Sequence[int], own: int) -> list[Html]:
    cells = []
    for place, (count, shade) in enumerate(zip(counts, shades, strict=True)):
        kind = "right" if place == own else "wrong"
        cells.append(element("td", text(str(count)), class_=f"{kind}{shade}") if count else element("td"))
    return cells


def _legend() -> Html:
    def swatches(kind: str) -> Html:
        boxes = (element("span", class_=f"key {kind}{shade}") for shade in range(1, SHADES + 1))
        return element("span", *boxes, aria_hidden="true")

    said = "The stronger the shade, the larger the share of the class's videos, in steps of a fifth."
    pairs = ((swatches("right"), "right"), (swatches("wrong"), "taken for another"))
    keys = (element("span", swatch, text(f" {word} ")) for swatch, word in pairs)
    return element("p", text(said + " "), *keys, class_="legend")


def _most_frequent(id_: str, labels: Sequence[str], counts: NDArray[np.int64]) -> Html:
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS_SHOWN].tolist()
    pairs = [divmod(place, len(labels)) for place in order]
    totals = counts.sum(axis=1)
    columns = [Column(text("is"), is_figures=False), Column(text("taken for"), is_figures=False)]
    columns += [Column(text("videos")), Column(text("% of its class"))]
    rows = [
        [name(labels[i]), name(labels[j]), text(f"{wrong[i, j]:,}"), _with_bar(float(wrong[i, j] / totals[i]))]
        for i, j in pairs
        if wrong[i, j]
    ]
    if not rows:
        return element("p", text("No video was taken for another class."))
    caption = text(f"The {_counted(len(rows), 'most frequent confusion')} of {len(labels)} classes.")
    return h.table(id_, caption, columns, rows)


# -- mistakes -----------------------------------------------------------------------------------------------------


def _mistakes(mistakes: Mistakes) -> _Section:
    ranked = sorted(mistakes.found, key=lambda mistake: -mistake.score)
    heading = "The most confident mistakes"
    whose = element("p", text("Of "), name(mistakes.system), text(".")) if mistakes.system else h.NOTHING
    if not ranked:
        return _Section("mistakes", heading, h.joined((whose, element("p", text("None to show.")))))
    said = "Surest first, each with the frames that told most for the answer, and how much of the decision they bore."
    cards = element("ol", *(element("li", _card(mistake)) for mistake in ranked), class_="mistakes")
    return _Section("mistakes", heading, h.joined((whose, element("p", text(said)), cards)))


def _card(mistake: Mistake) -> Html:
    heading = element("h3", name(mistake.label), text(" taken for "), name(mistake.guess))
    score = element("p", element("b", text(f"{_percent(mistake.score)} %")), text(" sure"), h.bar(mistake.score))
    path = element("p", element("code", name(mistake.path)), class_="path")
    frames = element("ul", *_frames(mistake), class_="frames") if len(mistake.frames) else h.NOTHING
    words = (element("li", name(attribute)) for attribute in mistake.attributes)
    attributes = element("ul", *words, class_="attributes", aria_label="attributes")
    return element("article", heading, score, path, frames, attributes if len(mistake.attributes) else h.NOTHING)


def _frames(mistake: Mistake) -> list[Html]:
    between = f"{h.shortened(mistake.label)}, taken for {h.shortened(mistake.guess)}"
    heaviest = max(mistake.weights) or 1.0
    found = []
    for place, (frame, time_s, weight) in enumerate(
        zip(mistake.frames, mistake.times_s, mistake.weights, strict=True), start=1
    ):
        when = f"{time_s:.2f} s" if math.isfinite(time_s) else f"frame {place}"
        image = h.picture(as_jpeg(frame, side_px=THUMBNAIL_PX), says=f"{between}: {when}, weight {weight:.0%}")
        told = element("figcaption", text(f"{when} · {100 * weight:.0f} %"), h.bar(weight / heaviest))
        found.append(element("li", element("figure", image, told)))
    return found


# -- what is not among the figures, and how to repeat them --------------------------------------------------------


def _failures(report: Object) -> _Section:
    data = _one(report, "data")
    parts = [_failed(_many(data, "failed")), _empty(_words(data, "classes_without_videos"))]
    return _Section("failures", "Not among the figures", h.joined(parts))


def _failed(failures: Sequence[Object]) -> Html:
    heading = element("h3", text("Videos that could not be read"))
    if not failures:
        return h.joined((heading, element("p", text("None: every video could be read."))))
    columns = [Column(text(head), is_figures=False) for head in ("video", "kind", "why")]
    shown = failures[:FAILURES_SHOWN]
    rows = ([name(_word(f, "path")), text(_word(f, "type")), name(_word(f, "message"))] for f in shown)
    more = "" if len(shown) == len(failures) else f"; the first {len(shown)}, the JSON has all"
    return h.joined((heading, h.table("failed", text(_counted(len(failures), "video") + more), columns, rows)))


def _empty(classes: Sequence[str]) -> Html:
    heading = element("h3", text("Classes without videos"))
    if not classes:
        return h.joined((heading, element("p", text("None: every class has a video."))))
    names = element("ul", *(element("li", name(label)) for label in classes), class_="names")
    summary = text(_counted(len(classes), "class", "classes"))
    return h.joined((heading, h.details(summary, names, is_open=len(classes) <= CLASSES_OPEN)))


def _manifest(report: Object) -> _Section:
    data = _one(report, "data")
    command = f"bike {_word(report, 'command')} --from manifest.json"
    took = _number(report, "seconds")
    known = [
        ("model", _word(report, "model")),
        ("fingerprint", _word(report, "fingerprint")),
        ("sha256 of names and labels", _word(data, "sha256")),
        *([("sha256 of contents", _word(data, "contents"))] if data.get("contents") else []),
        ("seed", _word(report, "seed")),
        ("took", "" if took is None else f"{took:,.1f} s"),
    ]
    parts = (
        element("p", text("With the JSON that -o writes of this run, here called manifest.json:")),
        element("pre", element("code", text(command)), tabindex="0"),
        h.facts((called, element("code", name(said))) for called, said in known if said),
        _files(_words(data, "files")),
        *(_made_of(system, place) for place, system in enumerate(_many(report, "systems"))),
        _pairs("arguments", "Arguments", _one(report, "arguments")),
        _pairs("settings", "Settings", _one(report, "settings")),
        _pairs("versions", "Versions", _one(report, "versions")),
    )
    return _Section("manifest", "To repeat it", h.joined(parts))


def _files(files: Sequence[str]) -> Html:
    names = element("ul", *(element("li", element("code", name(file))) for file in files))
    return h.details(text(f"Data: {_counted(len(files), 'file')}"), names) if files else h.NOTHING


def _pairs(id_: str, heading: str, pairs: Object) -> Html:
    if not pairs:
        return h.NOTHING
    columns = [Column(text("name"), is_figures=False), Column(text("value"), is_figures=False)]
    rows = ([name(key), element("code", name(_value(value)))] for key, value in pairs.items())
    caption = text(_counted(len(pairs), heading.lower().removesuffix("s")))
    return h.details(text(heading), h.table(id_, caption, columns, rows))


def _made_of(system: Object, place: int) -> Html:
    return _pairs(f"made-of-{place}", f"Made of: {_word(system, 'name')}", _one(system, "made_of"))


def _value(value: object) -> str:
    if value is None:
        return "not set"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
