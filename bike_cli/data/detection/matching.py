"""Which annotated video is meant by the path of a detected one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import TypeVar

from bike_cli.data.detection.detection_sets import DetectionSet
from bike_cli.errors import UsageError
from bike_cli.media import VIDEO_EXTENSIONS
from bike_cli.wording import count

logger = logging.getLogger(__name__)

Form = Callable[[str], str]
T = TypeVar("T")


def match_videos(paths: Sequence[str], truth: DetectionSet, *, origin: str) -> dict[str, int]:
    """Return the place in `truth.videos` of each path that means one of them.

    A path means a video in the first of these ways that fits:
        it is the path of the video, below the folder of the videos;
        it is the name of the video, as annotated;
        the names of the files are equal;
        they are equal without the extension of a video;
        they are equal without that and without `v_`, which begins the files of ActivityNet, in either of them.

    Args:
        paths: different paths.
        origin: where they are from, for messages.
    Raises:
        UsageError: two paths mean the same video, or one means two; no path means any.
    """
    names = [video.name for video in truth.videos]
    ways: tuple[tuple[Sequence[str], Form, Form], ...] = (
        ([video.path for video in truth.videos], _from_here, _from_here),
        (names, str, str),
        (names, _file_name, _file_name),
        (names, _stem, _stem),
        (names, _stem, video_id),
        (names, video_id, _stem),
    )
    matched: dict[str, int] = {}
    by_name: list[tuple[str, str]] = []
    for step, (written, form, path_form) in enumerate(ways):
        for path, i in _new_matches(paths, matched, written, form, path_form, origin):
            matched[path] = i
            by_name += [(path, names[i])] if step > 1 else []
    if not matched:
        raise _nothing_in_common(paths, truth, origin)
    if by_name and not truth.by_id:
        text = "%s: %s matched with annotations by file name alone, first %s with %s"
        logger.warning(text, origin, count(len(by_name), "video"), *by_name[0])
    return matched


def video_id(path: str) -> str:
    """Return the id of a video for ActivityNet: the name of its file, without `v_` and the extension of a video."""
    return _stem(path).removeprefix("v_")


def _new_matches(
    paths: Iterable[str], matched: dict[str, int], written: Sequence[str], form: Form, path_form: Form, origin: str
) -> list[tuple[str, int]]:
    """Return the matches of paths and videos that are not matched yet, by one way to write them."""
    taken = set(matched.values())
    places = _grouped((form(name), i) for i, name in enumerate(written) if i not in taken)
    found = _grouped((path_form(path), path) for path in paths if path not in matched)
    new = []
    for text, some in found.items():
        videos = places.get(text, [])
        if len(some) > 1 and videos:
            meant = f"both mean the video {written[videos[0]]}"
            raise UsageError(f"{origin}: {some[0]} and {some[1]} {meant}; remove one, or use the paths of the truth")
        if len(videos) > 1:
            problem = f"means both {written[videos[0]]} and {written[videos[1]]}"
            raise UsageError(f"{origin}: {some[0]} {problem}; use the paths of the truth, or check --root")
        new += [(some[0], videos[0])] if videos else []
    return new


def _grouped(pairs: Iterable[tuple[str, T]]) -> dict[str, list[T]]:
    groups: dict[str, list[T]] = {}
    for text, item in pairs:
        groups.setdefault(text, []).append(item)
    return groups


def _from_here(path: str) -> str:
    """Return the absolute path without `./` and `a/../`; links are not resolved."""
    return os.path.abspath(path)  # noqa: PTH100 - Path.absolute keeps a/../


def _file_name(path: str) -> str:
    return PurePosixPath(path).name


def _stem(path: str) -> str:
    name = PurePosixPath(path)
    return name.stem if name.suffix.lower() in VIDEO_EXTENSIONS else name.name


def _nothing_in_common(paths: Sequence[str], truth: DetectionSet, origin: str) -> UsageError:
    subset = "" if truth.subset is None else f" of the subset {truth.subset!r}"
    example = f"{paths[0]} is detected, {truth.videos[0].name} is annotated"
    fix = "use the same names, or check --root" + (" and --subset" if subset else "")
    return UsageError(f"{origin}: has no video in common with {truth.origin}{subset}: {example}; {fix}")
