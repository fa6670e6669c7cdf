"""Checks that need no model: how labels are written, and how they fit each other."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from bike_cli.data.label_checks.findings import CheckedLabels, Finding
from bike_cli.data.labelled.train_sets import label_of
from bike_cli.data.lines import Line, key, nfc, tidy
from bike_cli.wording import all_of, count

MANY = 1000  # labels, of which few lists of actions have more: Kinetics-700 has 700
LONG_LABEL, LONGER_THAN_OTHERS = 6, 3  # words of a sentence among names, and how many times those of the others
_SIGNS = re.compile(r"[\s.,;:!?\u2026'\"`\u2018\u2019\u201c\u201d()\[\]/_-]+")
_TRAILING = re.compile(r"[\s.,;:!?\u2026]+$")
_QUOTES = "\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb"
_HUMPS = re.compile(r"[A-Za-z][a-z]+(?:[A-Z][a-z]*)+|[A-Z]+[a-z]+(?:[A-Z][a-z]*)+")
_NUMBER_FIRST = re.compile(r"[(\[#]?(?P<id>\d{1,18})[.):\]]*[\s_:-]+(?P<rest>[^\W\d_].*)")
_NONE = frozenset({
    *("none", "other", "others", "background", "unknown", "nothing", "negative", "misc", "miscellaneous", "n a", "na"),
    *("none of these", "none of the above", "something else", "anything else", "everything else", "other action"),
    *("other actions", "no action", "no activity", "no label", "no class", "unlabelled", "unlabeled", "null", "rest"),
})  # fmt: skip


def check_spelling(labels: CheckedLabels) -> list[Finding]:
    """Return what can be found without a model, in the order of the labels; findings about the whole list come last."""
    found = list(labels.findings)
    left_out = {finding.where for finding in found if finding.corrected == ""}
    lines = [line for line in labels.lines if line.where not in left_out]
    numbered = _numbers_that_are_ids(lines)
    perhaps = {} if numbered else _number_at_its_place(lines)
    for line in lines:
        found += [finding for check in _CHECKS for finding in check(line)]
        found += _of_number(line, numbered)
        found += perhaps.get(line.where, ())
    found += [*_duplicates(lines), *_of_list(lines)]
    place = {line.where: i for i, line in enumerate(labels.lines)}
    return sorted(found, key=lambda finding: place.get(finding.where, -1 if finding.label else len(place)))


def corrected(label: str, *, is_numbered: bool = False) -> str:
    """Return a label as it should be written: no quotes, trailing punctuation, underscores or CamelCase."""
    text = tidy(label)
    if is_numbered and (match := _NUMBER_FIRST.fullmatch(text)) is not None:
        text = match["rest"]
    text = _without_signs(text)
    return label_of(text) if "_" in text or _has_humps(text) else text


def same_spelling(label: str) -> str:
    """Return a key that is equal for labels that differ in case, blanks, underscores, CamelCase or punctuation."""
    text = corrected(label)
    return tidy(_SIGNS.sub(" ", key(text).replace("'", "").replace("\u2019", ""))) or key(text)


def same_number(label: str) -> str:
    """Return a key that is equal for labels with the same spelling, in the singular or the plural."""
    words = same_spelling(label).split()
    return " ".join(
        re.sub(r"(?<=[^su'])s$", "", word) if len(word) > 2 and not word.endswith("is") else word for word in words
    )


def _without_signs(text: str) -> str:
    """Return the text without quotes around it and punctuation at its end."""
    while True:
        bare = _TRAILING.sub("", text)
        is_open = bare.count('"') % 2 == 1
        if len(bare) > 1 and bare[0] in _QUOTES and (bare[-1] in _QUOTES or is_open):
            bare = bare[1:-1] if bare[-1] in _QUOTES else bare[1:]
        elif is_open and bare.endswith('"'):
            bare = bare[:-1]
        bare = bare.strip()
        if bare in ("", text):
            return text
        text = bare


def _has_humps(text: str) -> bool:
    return any(_HUMPS.fullmatch(word) for word in re.split(r"[\s_-]+", text))


# -- one label --------------------------------------------------------------------------------------------------------


def _of_signs(line: Line) -> Iterator[Finding]:
    bare = _without_signs(line.text)
    if bare != line.text:
        is_quoted = line.text[0] in _QUOTES or line.text[-1] in _QUOTES
        kind, problem = ("quotes", "has quotes") if is_quoted else ("punctuation", "ends with punctuation")
        fix = f"write {bare} without quotes" if is_quoted else f"write {bare!r}"
        yield Finding(line.where, line.text, kind, problem, fix, bare)  # type: ignore[arg-type]


def _of_words(line: Line) -> Iterator[Finding]:
    bare = _without_signs(line.text)
    what = [name for name, is_there in (("underscores", "_" in bare), ("CamelCase", _has_humps(bare))) if is_there]
    spaced = corrected(line.text)
    if what and spaced != bare:
        problem = f"is written with {all_of(what)}, which models rarely read as words"
        yield Finding(line.where, line.text, "spelling", problem, f"write {spaced!r}", spaced)


def _of_none(line: Line) -> Iterator[Finding]:
    if same_spelling(line.text) in _NONE:
        problem = "is not something that can be seen, so no video is like it"
        fix = "leave it out; name what else videos show with --none, or refuse doubtful answers with --reject"
        yield Finding(line.where, line.text, "none", problem, fix)


_CHECKS: tuple[Callable[[Line], Iterator[Finding]], ...] = (_of_signs, _of_words, _of_none)


# -- ids --------------------------------------------------------------------------------------------------


def _numbers_that_are_ids(lines: Sequence[Line]) -> set[str]:
    """Return the places of labels whose leading number is an id: their position, or most labels begin with one."""
    matches = {line.where: (i, match) for i, line in enumerate(lines) if (match := _NUMBER_FIRST.fullmatch(line.text))}
    if len(matches) > len(lines) / 2:
        return set(matches)
    at_place = {where for where, (i, match) in matches.items() if int(match["id"]) in (i, i + 1)}
    return at_place if len(at_place) > 1 else set()


def _number_at_its_place(lines: Sequence[Line]) -> dict[str, tuple[Finding]]:
    """Return a finding for the only label that begins with its place in the list, counted from 1, by its place.

    It may be an id, or a part of the name, as in "3 point shot": only the author knows.
    """
    found = {}
    for i, line in enumerate(lines, start=1):
        match = _NUMBER_FIRST.fullmatch(line.text)
        if match is not None and int(match["id"]) == i and len(lines) > 1:
            problem = f"begins with {i}, its place in the list, which may be an id"
            fix = f"write {match['rest']!r}, unless the number is a part of the name"
            found[line.where] = (Finding(line.where, line.text, "id", problem, fix),)
    return found


def _of_number(line: Line, ids: set[str]) -> Iterator[Finding]:
    if line.text.isdecimal():
        fix = "write what the number stands for, or give a file with id,name"
        yield Finding(line.where, line.text, "number", "is a number, which says nothing to a model", fix)
    elif line.where in ids and (match := _NUMBER_FIRST.fullmatch(line.text)):
        rest = match["rest"]
        yield Finding(line.where, line.text, "id", f"begins with the id {match['id']}", f"write {rest!r}", rest)


# -- labels that do not fit each other --------------------------------------------------------------------------------


def _duplicates(lines: Sequence[Line]) -> Iterator[Finding]:
    seen: dict[str, Line] = {}
    singular: dict[str, Line] = {}
    for line in lines:
        first = seen.setdefault(same_spelling(line.text), line)
        if first is not line:
            problem = f"is the same as {first.text!r} ({first.where})"
            yield Finding(line.where, line.text, "duplicate", problem, "remove one", "")
            continue
        other = singular.setdefault(same_number(line.text), line)
        if other is not line:
            problem = f"differs from {other.text!r} ({other.where}) only in number"
            yield Finding(line.where, line.text, "plural", problem, "remove one, unless both are meant")


def _of_list(lines: Sequence[Line]) -> Iterator[Finding]:
    where = lines[0].where.rpartition(":")[0] or "-L" if lines else ""
    where = "-L" if lines and lines[0].where.startswith("-L") else where
    if len(lines) == 1:
        fix = "add labels of what else videos may show"
        yield Finding(where, "", "few", "has a single label, which fits every video best", fix)
    if len(lines) > MANY:
        problem = f"has {count(len(lines), 'label')}, among which scores are low and similar labels compete"
        yield Finding(where, "", "many", problem, "keep those that your videos can show")
    sizes = [len(nfc(corrected(line.text)).split()) for line in lines]
    limit = max(LONG_LABEL, LONGER_THAN_OTHERS * statistics.median(sizes)) if sizes else 0
    long = [i for i, size in enumerate(sizes) if size >= limit]
    if long and 2 * len(long) <= len(lines):
        usual = Counter(size for size in sizes if size < limit).most_common(1)[0][0]
        problem = (
            f"has {count(sizes[long[0]], 'word')}, where most labels have {usual}: names and sentences are not alike"
        )
        problem += f" (and {len(long) - 1} more)" if len(long) > 1 else ""
        fix = "shorten it to a name, and move the rest to its description"
        yield Finding(lines[long[0]].where, lines[long[0]].text, "mixture", problem, fix)
