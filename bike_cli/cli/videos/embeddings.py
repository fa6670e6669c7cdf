"""Videos that a run takes from a folder of embeddings instead of reading them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bike_cli.cli.flags import Flags, trained_defaults
from bike_cli.cli.videos.part_locks import is_complete
from bike_cli.cli.videos.request import Defaults
from bike_cli.cli.videos.sources import Sources
from bike_cli.config import ClassifyConfig
from bike_cli.data.parts.folder import RUN_FILE, part_folder
from bike_cli.data.parts.tables import read_found
from bike_cli.errors import UsageError
from bike_cli.records import Failure, Source, VideoFeatures
from bike_cli.settings import SettingValue, fields_and_values, flag_name, leaves

logger = logging.getLogger(__name__)
Values = Mapping[str, SettingValue]


@dataclass(frozen=True)
class Embedded:
    """What the embeddings of a folder have in common.

    Args:
        folder: its name.
        model: the name of the model that computed them, in records.
        digest: of the model.
        given: the name of the model on the command line.
        sampling: the settings that frames and features depend on.
    """

    folder: str
    model: str
    digest: str
    given: str
    sampling: Values

    def defaults(self, flags: Flags) -> Defaults:
        """Return the defaults of a run: the model and sampling of the embeddings, and the model's own."""
        trained = trained_defaults(ClassifyConfig, models=[str(flags.get("model") or self.given)])
        return lambda values: {**trained(values), "model": self.given, **self.sampling}

    def check(self, config: ClassifyConfig, classifier: Path | None) -> None:
        """Raise UsageError if a run would read videos in another way than they were read for their embeddings.

        Args:
            classifier: the file whose settings are the defaults of the run.
        """
        values = {f.name: value for f, value in fields_and_values(config)}
        # In another precision, texts are encoded in that; the frames stay as they are.
        compared = {name: value for name, value in self.sampling.items() if name != "precision"}
        different = next((name for name, value in compared.items() if values[name] != value), None)
        if different is not None:
            flag, has, given = flag_name(different), self.sampling[different], values[different]
            problem = f"{flag} is {given}, and the embeddings in {self.folder} were computed with {has}"
            if classifier is not None:
                way_out = f"give {flag} {has}, or embed the videos again with {given}"
                raise UsageError(f"{classifier}: its {problem}; {way_out}", settings=(different,))
            raise UsageError(f"{problem}; leave {flag} out, or embed the videos again", settings=(different,))
        if config.attributes.attribute_model is not None:
            problem = f"{self.folder} contains the embeddings of one model"
            raise UsageError(f"--attribute-model: {problem}; leave it out", settings=("attribute_model",))

    def check_model(self, model: str, digest: str) -> None:
        """Raise UsageError if a run uses another model, or another version of it."""
        if self.digest != digest:
            problem = f"contains embeddings of the model {self.model} (digest {self.digest})"
            raise UsageError(
                f"{self.folder}: {problem}, and this run uses {model} ({digest}); give the model that computed them",
                settings=("model",),
            )


def embedded_in(name: str) -> Embedded:
    """Return what the embeddings of a folder have in common.

    Raises:
        UsageError: the folder contains no embeddings.
    """
    if Path(name).is_file():
        raise UsageError(f"{name}: is a file; give a folder that bike embed -o wrote")
    folder = part_folder(name)
    facts = folder.read_json(RUN_FILE) or {}
    model, digest, given = (facts.get(key) for key in ("model", "model_digest", "model_as_given"))
    sampling = facts.get("sampling")
    is_valid = isinstance(sampling, dict) and sampling.keys() <= leaves(ClassifyConfig).keys()
    if facts.get("command") != "embed" or not is_valid or not all(isinstance(t, str) for t in (model, digest, given)):
        raise UsageError(f"{name}: contains no embeddings; give a folder that bike embed -o wrote")
    if not is_complete(folder):
        logger.warning(
            "%s: the run that embeds its videos has not ended, so only the videos that are there are classified; run "
            "the same bike embed again to complete it",
            name,
        )
    return Embedded(name, str(model), str(digest), str(given), sampling or {})


def list_embeddings(name: str) -> Sources[VideoFeatures | Failure]:
    """Return the embeddings in a folder as sources."""
    from bike_cli.tasks.embed import read_embeddings

    return Sources([], read_embeddings(name), are_known=False, are_listed=True, again=partial(_names, name))


def _names(name: str) -> Iterator[Source]:
    folder = part_folder(name)
    for part in folder.parts():
        for found in read_found(folder, part):
            yield Source.at(found.path)
