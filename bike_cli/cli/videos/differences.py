"""Which labels and settings of two runs differ, for the message of a run that cannot add to the records of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bike_cli.errors import shorten
from bike_cli.json_text import JsonObject
from bike_cli.settings import SettingValue, flag_name
from bike_cli.wording import count

SHOWN = 3  # differences
SHOWN_LABELS = 3
LONGEST = 40  # characters of a value
NOT_FLAGS = {"labels": "labels", "classifier": "the classifier", "descriptions": "the descriptions of labels"}
DIGESTS = ("classifier", "calibration", "descriptions")  # of which nobody knows the values


@dataclass(frozen=True)
class Given:
    """The labels and settings of a run that all of its records depend on.

    Args:
        options: by the names of settings, and of what else counts.
    """

    labels: Sequence[str] = ()
    options: Mapping[str, SettingValue] = field(default_factory=dict)

    @classmethod
    def of(cls, labels: Sequence[str], settings: Mapping[str, SettingValue], classifier: str) -> Given:
        """Return the labels and settings of a run.

        Args:
            classifier: the digest of a saved classifier; may be empty.
        """
        return cls(sorted(labels), {**settings, **({"classifier": classifier} if classifier else {})})

    def facts(self) -> JsonObject:
        """Return the labels and settings as JSON."""
        return {"labels": list(self.labels), "options": dict(self.options)}

    def differences(self, facts: JsonObject) -> tuple[str, tuple[str, ...]]:
        """Return how the facts of another run differ, for a message, and the names of the settings that do.

        Empty if that run did not note them, or nothing differs.
        """
        labels, options = facts.get("labels"), facts.get("options")
        if not isinstance(labels, list) or not isinstance(options, dict):
            return "", ()
        found = _of_labels([str(label) for label in labels], self.labels)
        names = [name for name in {**options, **self.options} if options.get(name) != self.options.get(name)]
        found += [_of_option(name, options.get(name), self.options.get(name)) for name in names]
        more = [f"{len(found) - SHOWN} more"] if len(found) > SHOWN else []
        return ", ".join([*found[:SHOWN], *more]), tuple(name for name in names if name in options)


def _of_labels(has: Sequence[str], wants: Sequence[str]) -> list[str]:
    given, known = set(wants), set(has)
    missing = [label for label in has if label not in given]
    new = [label for label in wants if label not in known]
    return [
        f"{count(len(labels), 'label')} {'is' if len(labels) == 1 else 'are'} {what} ({_shown(labels)})"
        for labels, what in ((missing, "missing"), (new, "new"))
        if labels
    ]


def _of_option(name: str, has: object, wants: object) -> str:
    subject = NOT_FLAGS.get(name) or flag_name(name)
    if name in DIGESTS:
        return f"{subject} {'are' if subject.endswith('labels') else 'is'} different"
    return f"{subject} was {_value(has)} and is {_value(wants)}"


def _shown(labels: Sequence[str]) -> str:
    names = [repr(shorten(label, LONGEST)) for label in labels[:SHOWN_LABELS]]
    return ", ".join([*names, *(["…"] if len(labels) > SHOWN_LABELS else [])])


def _value(value: object) -> str:
    if value is None or value == "":
        return "not given"
    if isinstance(value, bool):
        return "on" if value else "off"
    return shorten(", ".join(str(value).split("\n")), LONGEST)
