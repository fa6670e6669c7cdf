"""The labels of a run: from flags, a classifier or a model that remembers them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from bike_cli.errors import UsageError

if TYPE_CHECKING:
    from bike_cli.cli.videos.request import VideosRequest
    from bike_cli.data.labels import LabelSet


def check_quotes(request: VideosRequest) -> None:
    """Raise UsageError for `-L running, jumping clip.mp4`: the shell has split the labels."""
    missing = [video for video in request.videos if not os.path.lexists(video)]
    split = next((text for text in (*request.label_list, *missing) if text.endswith(",")), None)
    if request.label_list and missing and split is not None:
        raise UsageError(
            f"-L: {missing[0]!r} is not a file, and {split!r} ends with a comma; quote the labels, such as "
            "-L 'running, jumping'"
        )


def labels_of(model: str, request: VideosRequest) -> LabelSet:
    """Return the labels of a run: given ones, with their descriptions, or those of the classifier or the model.

    Raises:
        UsageError: no labels, or labels given in two ways.
    """
    from bike_cli.data.labels import LabelSet, parse_labels, read_label_set

    known = request.saved or request.training
    known = known if known is not None and known.labels else None
    is_given = request.labels is not None or bool(request.label_list)
    if request.saved is not None and is_given:
        raise UsageError(
            f"labels: {request.classifier} has labels already; leave -l and -L out, or add labels with --also"
        )
    if known is not None and not is_given:
        also = parse_labels(request.also, "--also") if request.also else ()
        return LabelSet((*known.labels, *known.also, *also))
    if request.also:
        raise UsageError(
            "--also: adds labels to those of a classifier or a trained model; leave it out, and give all labels with -L"
        )
    if request.labels is not None and request.label_list:
        raise UsageError("labels: both -l and -L were given; choose one")
    if request.labels is not None:
        return read_label_set(request.labels)
    if request.label_list:
        return LabelSet(parse_labels(request.label_list))
    raise UsageError(f"labels: missing; add -l {_labels_file(model)}, or -L 'running, jumping', or a --classifier")


def phrases_of(none: tuple[str, ...], none_from: Path | None) -> LabelSet:
    """Return the phrases of `--none` and `--none-from`, each once, with the descriptions of the file.

    Raises:
        UsageError: a file that is not a list of phrases, or a list with an empty one.
    """
    from bike_cli.data.labels import LabelSet, parse_labels, read_label_set

    given = parse_labels(none, "--none") if none else ()
    read = LabelSet(()) if none_from is None else read_label_set(none_from)
    return LabelSet(tuple(dict.fromkeys((*given, *read.labels))), read.descriptions)


def _labels_file(model: str) -> str:
    """Return the labels of a model that version 0.1 fine-tuned, which does not name them itself; else an example."""
    file = Path(model, "labels.txt")
    return str(file) if file.is_file() else "labels.txt"
