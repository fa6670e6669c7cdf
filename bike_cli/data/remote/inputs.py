"""Find the videos that the user names, wherever they are: paths, URIs of object stores, tar files."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator

from bike_cli.data.inputs import find_sources
from bike_cli.data.path_lists import existing_path
from bike_cli.data.remote.listing import find_objects
from bike_cli.data.remote.tars import expand_braces, is_tar_name, videos_in_tar
from bike_cli.data.remote.uris import parse_uri
from bike_cli.data.search import Omissions, is_folder
from bike_cli.errors import InputError
from bike_cli.media import is_store_uri
from bike_cli.records import Failure, Source
from bike_cli.time_limits import call_on_path


def find_videos(given: str, omissions: Omissions) -> Iterator[Source | Failure]:
    """Yield the videos that an input names, in order, as they are found.

    An input is the first of these that fits:
        a tar file, or several whose names have `{000..999}` in them: see `videos_in_tar`;
        a URI of an object store: see `find_objects`;
        anything else: see `find_sources`.

    Args:
        omissions: collects what searches leave out.
    Raises:
        UsageError: the input names no video. Of several tar files, each that cannot be read is a failure instead.
    """
    is_stored = is_store_uri(given) and not _exists(given)
    if is_tar_name(given) and "{" in given and (is_stored or not _exists(given)):
        for name in expand_braces(given):
            yield from _each(name, omissions)
    elif is_stored:
        yield from _in_store(given, omissions)
    elif is_tar_name(given) and glob.has_magic(given) and not _exists(given):
        for source in find_sources([given], omissions):
            yield from _each(source.id, omissions)
    elif is_tar_name(given) and _exists(place := existing_path(given)) and not is_folder(place):
        yield from videos_in_tar(given, place, omissions)
    else:
        yield from find_sources([given], omissions)


def reads_many_headers(given: str) -> bool:
    """Return whether finding the videos of an input takes a request of a store for each of them."""
    return is_store_uri(given) and is_tar_name(given)


def _in_store(given: str, omissions: Omissions) -> Iterator[Source | Failure]:
    if is_tar_name(given) and not {"*", "?"} & set(parse_uri(given).key):
        try:
            yield from videos_in_tar(given, given, omissions)
        except InputError as e:
            if e.kind != "missing":
                raise
            yield Failure(Source.at(given), e.kind, str(e))  # like a local file that is missing
        return
    for found in find_objects(given, omissions):
        if isinstance(found, Source) and is_tar_name(found.id):
            yield from _each(found.id, omissions)
        else:
            yield found


def _each(name: str, omissions: Omissions) -> Iterator[Source | Failure]:
    """Yield the videos in one of several tar files; one that cannot be read becomes a failure."""
    try:
        if is_store_uri(name) and not _exists(name):
            yield from videos_in_tar(name, name, omissions)
        elif is_folder(place := existing_path(name)):
            yield from find_sources([place], omissions)
        else:
            yield from videos_in_tar(name, place, omissions)
    except InputError as e:
        yield Failure(Source.at(name), e.kind, str(e))


def _exists(path: str) -> bool:
    return call_on_path(path, lambda: os.path.lexists(path), default=False)
