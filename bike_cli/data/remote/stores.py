"""Open the file systems of object stores, and ask them with a time limit.

pyarrow reads S3, Google Cloud Storage, Azure and HDFS itself, and anything else through fsspec.
"""

from __future__ import annotations

import atexit
import os
import re
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from functools import cache, partial
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from bike_cli.data.remote.uris import StoreUri
from bike_cli.errors import InputError, first_line, shorten

Result = TypeVar("Result")

ASK_S = 60.0  # that a store may take to answer a question about names; it tries several times within that
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
# fmt: off
_DENIED = (  # parts of messages
    "ACCESS_DENIED", "INVALID_ACCESS_KEY", "SIGNATURE_DOES_NOT_MATCH", "Forbidden", "HTTP status 403",
    "HTTP status 401", "permission", "PERMISSION_DENIED", "UNAUTHENTICATED", "credentials",
)
# fmt: on
_REFUSED = ("HTTP status 301", "PermanentRedirect", "AUTHORIZATION_HEADER_MALFORMED", "HTTP status 400")
_MISSING = ("NO_SUCH_BUCKET", "NO_SUCH_KEY", "NOT_FOUND", "RESOURCE_NOT_FOUND", "No such file or directory")
_AROUND = re.compile(r"^When .*?(?=AWS Error)|,? *\(Request ID.*", re.DOTALL)  # repeats the name
_LOGINS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; a public bucket needs ?anonymous=true",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS; a public bucket needs ?anonymous=true",
}

# File systems that are open, each with the path of its store; by URI of the store, and the variables that matter.
_open: dict[tuple[StoreUri, str | None, str | None], tuple[Any, str]] = {}
_unanswered: set[Future[Any]] = set()  # questions


def check_pyarrow(name: str) -> None:
    """Raise InputError, about what `name` names, if pyarrow is not installed."""
    try:
        import pyarrow.fs  # noqa: F401
    except ImportError as e:
        problem = "needs pyarrow, which is not installed; pip install 'bike-cli[parquet]'"
        raise InputError(f"{name}: {problem}", kind="unreadable") from e
    _end_without_answers()


def file_system_of(uri: StoreUri) -> tuple[Any, str]:
    """Return the pyarrow file system that an object is in, and its path there.

    Raises:
        InputError: pyarrow, or what the scheme needs, is not installed; or the store cannot be reached.
    """
    check_pyarrow(str(uri))
    key = uri.root, _from_environment(_ENDPOINTS), _from_environment(_REGIONS)
    if key not in _open:
        _open[key] = ask(uri, partial(_opened, uri))
    file_system, base = _open[key]
    return file_system, f"{base.rstrip('/')}/{uri.key}"


def ask(uri: StoreUri, question: Callable[[], Result], *, limit_s: float | None = None, done: str = "read") -> Result:
    """Return what a question to a store returns. One that takes longer continues in a daemon thread.

    Args:
        limit_s: how long it may take; None: `ASK_S`.
        done: what cannot be done if the store refuses, for the message.
    Raises:
        InputError: kind `missing`, `unreadable` or `timeout`; the message names the URI.
    """
    from pebble import concurrent  # here, because it imports asyncio, which no help text needs

    answer = concurrent.thread(question)()
    _unanswered.add(answer)
    answer.add_done_callback(_unanswered.discard)
    try:
        error = answer.exception(limit_s or ASK_S)
    except FutureTimeout as e:
        way_out = "check the network" + (", or raise --decode-timeout" if limit_s is not None else "")
        problem = f"the store does not answer within {limit_s or ASK_S:g} s; {way_out}"
        raise InputError(f"{uri}: {problem}", kind="timeout") from e
    if isinstance(error, InputError):
        raise error
    if error is not None:
        raise _explained(uri, error, done) from error
    result: Result = answer.result()
    return result


@cache
def _end_without_answers() -> None:
    """Keep pyarrow from waiting, when the program ends, for a store that does not answer."""
    from pyarrow import fs

    wait = getattr(fs, "ensure_s3_finalized", None)  # registered before, so it would run after this
    atexit.register(lambda: atexit.unregister(wait) if _unanswered and wait is not None else None)


def _explained(uri: StoreUri, error: BaseException, done: str) -> InputError:
    text = shorten(_AROUND.sub("", str(error).strip().split("\n")[0] or type(error).__name__))
    is_missing = isinstance(error, FileNotFoundError) or any(mark in text for mark in _MISSING)
    if is_missing or (uri.scheme == "s3" and "not found" in text):
        is_bucket = "NO_SUCH_BUCKET" in text or text.startswith("Bucket ")
        problem = "no such bucket" if is_bucket else "no such object or folder"
        return InputError(f"{uri}: {problem}; check the name", kind="missing")
    if isinstance(error, PermissionError) or any(mark in text for mark in _DENIED):
        login = _LOGINS.get(uri.scheme, "the credentials of the store")
        return InputError(f"{uri}: access is denied ({text}); check {login}", kind="unreadable")
    if uri.scheme == "s3" and any(mark in text for mark in _REFUSED):
        way = "check the region, as in ?region=eu-west-1, the endpoint and the credentials"
        return InputError(f"{uri}: the store refuses the request ({text}); {way}", kind="unreadable")
    way = "check the network, the endpoint and the credentials"
    return InputError(f"{uri}: cannot be {done} ({text}); {way}", kind="unreadable")


def _opened(uri: StoreUri) -> tuple[Any, str]:
    """Return the file system of a store, and the path of the store in it."""
    import pyarrow as pa
    from pyarrow import fs

    root = uri.root
    if not root.store and root.scheme in ("s3", "gs", "gcs"):
        raise InputError(f"{uri}: names no bucket; write {root.scheme}://BUCKET/{uri.key}", kind="missing")
    if root.scheme == "s3":
        return _s3(root), root.store
    if root.scheme in ("gs", "gcs"):
        return _google(root), root.store.removeprefix("anonymous@")
    try:
        opened: tuple[Any, str] = fs.FileSystem.from_uri(str(root))
    except pa.ArrowInvalid:
        opened = _with_fsspec(uri)
    return opened


def _s3(root: StoreUri) -> Any:  # noqa: ANN401
    from pyarrow import fs

    if "@" in root.store:
        problem = "has a password in it, which would be written to records; give it in AWS_SECRET_ACCESS_KEY"
        raise InputError(f"{root.scheme}://…@{root.store.rpartition('@')[2]}: {problem}", kind="unreadable")
    given = dict(parse_qsl(root.parameters))
    endpoint = given.pop("endpoint_override", None) or _from_environment(_ENDPOINTS)
    region = given.pop("region", None) or (_from_environment(_REGIONS) if endpoint else None)
    if endpoint and "://" in endpoint:
        given["scheme"], _, endpoint = endpoint.partition("://")
    if endpoint:
        region = region or "us-east-1"  # to look for another one would take seconds
        given["endpoint_override"] = endpoint.rstrip("/")
    is_anonymous = given.pop("anonymous", "").lower() in ("1", "true", "yes")
    virtual = given.pop("force_virtual_addressing", "").lower() in ("1", "true", "yes")
    region = region or fs.resolve_s3_region(root.store)
    return fs.S3FileSystem(region=region, anonymous=is_anonymous, force_virtual_addressing=virtual, **given)


def _google(root: StoreUri) -> Any:  # noqa: ANN401
    from datetime import timedelta

    from pyarrow import fs

    given = dict(parse_qsl(root.parameters))
    is_anonymous = given.pop("anonymous", "").lower() in ("1", "true", "yes") or root.store.startswith("anonymous@")
    # Its default is to try again for a quarter of an hour.
    patience = timedelta(seconds=float(given.pop("retry_limit_seconds", ASK_S / 2)))
    return fs.GcsFileSystem(anonymous=is_anonymous, retry_time_limit=patience, **given)


def _with_fsspec(uri: StoreUri) -> tuple[Any, str]:
    from pyarrow import fs

    unknown = f"{uri}: bike cannot read {uri.scheme}:// URIs; download the videos first"
    try:
        from fsspec.core import url_to_fs
    except ImportError as e:
        raise InputError(unknown, kind="unreadable") from e
    try:
        file_system, base = url_to_fs(str(uri.root))
    except ImportError as e:
        problem = f"needs a package that is not installed ({first_line(e)}); install it"
        raise InputError(f"{uri}: {problem}", kind="unreadable") from e
    except ValueError as e:
        raise InputError(unknown, kind="unreadable") from e
    return fs.PyFileSystem(fs.FSSpecHandler(file_system)), base


def _from_environment(names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := os.environ.get(name))), None)
