"""Find the videos that the user names, wherever they are: paths, URIs of object stores, tar files."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from bike_cli.data.inputs import find_sources
from bike_cli.data.path_lists import existing_path
from bike_cli.data.remote.ahead import search_ahead
from bike_cli.data.remote.listing import find_objects
from bike_cli.data.remote.tars import expand_braces, is_tar_name, videos_in_tar
from bike_cli.data.remote.uris import parse_uri
from bike_cli.data.search import Omissions, is_folder
from bike_cli.errors import InputError
from bike_cli.media import is_store_uri
from bike_cli.records import Failure, Source
from bike_cli.time_limits import call_on_path

AT_ONCE = 8  # tar files in a store that are searched: each header takes a request


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
        names = expand_braces(given)
        yield from _several(names, omissions) if is_stored else (f for name in names for f in _each(name, omissions))
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
    found = find_objects(given, omissions)
    if is_tar_name(given):  # so are all matches
        yield from _several((one.id if isinstance(one, Source) else one for one in found), omissions)
        return
    for one in found:
        if isinstance(one, Source) and is_tar_name(one.id):
            yield from _each(one.id, omissions)
        else:
            yield one


def _several(names: Iterable[str | Failure], omissions: Omissions) -> Iterator[Source | Failure]:
    """Yield the videos in tar files of a store, in order; several are searched at a time."""
    left_out: list[Omissions] = []

    def search(name: str | Failure, left_out: Omissions) -> Iterator[Source | Failure]:
        return iter([name]) if isinstance(name, Failure) else _each(name, left_out)

    def searches() -> Iterator[Callable[[], Iterator[Source | Failure]]]:
        for name in names:
            left_out.append(Omissions())
            yield partial(search, name, left_out[-1])

    try:
        yield from search_ahead(searches(), at_once=AT_ONCE)
    finally:
        for one in left_out:
            omissions.update(one)


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
