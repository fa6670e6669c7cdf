"""Ask a model hub for a file, and explain in a user's words why it does not answer.

HF_ENDPOINT                             another hub, such as a mirror
HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE    no network, like --offline
HF_TOKEN                                for repositories that require a login
HF_HUB_ETAG_TIMEOUT                     seconds to wait for the hub's answer
"""

from __future__ import annotations

import os
import re
import sys
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from pebble import concurrent

from bike_cli.engine.download.checksums import is_checksum, matches_checksum
from bike_cli.errors import ModelError
from bike_cli.wording import either

OFFLINE_FLAG = "--offline"
ANSWER_S = 3  # default number of seconds to wait for the hub's answer

# The client's HTTP library is httpx or httpx2; HfHubHTTPError derives from its base class. ValueError and ImportError:
# proxies with an unknown scheme, or with one that needs another package.
_HTTP_ERROR: type[Exception] = HfHubHTTPError.__mro__[1]
_INVALID_URL: type[Exception] = getattr(sys.modules[_HTTP_ERROR.__module__.partition(".")[0]], "InvalidURL", ValueError)
NETWORK_ERRORS = (OSError, ValueError, ImportError, _HTTP_ERROR, _INVALID_URL)


@dataclass(frozen=True)
class RemoteFile:
    """A file on the hub; `size` is in bytes, None if unknown."""

    repository: str
    name: str
    commit: str
    etag: str
    size: int | None

    @property
    def checksum(self) -> str | None:
        """The checksum; None if the hub does not report it."""
        # The etag of a file is its checksum, except on some mirrors.
        return self.etag if is_checksum(self.etag) else None

    def matches(self, file: Path) -> bool:
        """Return whether a file on this disk has the size and the checksum, as far as the hub reports them."""
        has_size = self.size is None or file.stat().st_size == self.size
        return has_size and (self.checksum is None or matches_checksum(file, self.checksum))


class UnavailableError(Exception):
    """The hub cannot be reached or does not serve the file; the message says why.

    Args:
        is_transient: whether another attempt may succeed.
        advice: what the user can do about it; may be empty.
    """

    def __init__(self, reason: str, *, is_transient: bool = False, advice: str = "") -> None:
        super().__init__(reason)
        self.is_transient = is_transient
        self.advice = advice


def endpoint() -> str:
    """Return the URL of the hub, without a trailing slash.

    Raises:
        ModelError: HF_ENDPOINT is not a URL.
    """
    url = constants.ENDPOINT.rstrip("/")
    with suppress(ValueError):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return url
    raise ModelError(f"HF_ENDPOINT: {url!r} is not a URL; use one such as https://huggingface.co, or unset it")


def host() -> str:
    """Return the host name of the hub, for messages."""
    return urllib.parse.urlsplit(endpoint()).netloc.rpartition("@")[2]


def file_url(repository: str, revision: str, name: str) -> str:
    """Return the URL of a file on the hub."""
    return f"{endpoint()}/{repository}/resolve/{revision}/{name}"


def page_url(repository: str = "") -> str:
    """Return the URL of a repository or of the hub, for messages: a password in HF_ENDPOINT is left out."""
    parts = urllib.parse.urlsplit(f"{endpoint()}/{repository}".rstrip("/"))
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def answer_timeout_s() -> float:
    """Return how many seconds the hub has to answer."""
    return constants.HF_HUB_ETAG_TIMEOUT if os.environ.get("HF_HUB_ETAG_TIMEOUT") else ANSWER_S


def offline_reason(*, offline: bool) -> str | None:
    """Return the flag or environment variable that forbids using the network; None if the network may be used."""
    if offline:
        return OFFLINE_FLAG
    if not constants.HF_HUB_OFFLINE:
        return None
    return "HF_HUB_OFFLINE" if os.environ.get("HF_HUB_OFFLINE") else "TRANSFORMERS_OFFLINE"


def look_up(repository: str, names: Sequence[str], revision: str = constants.DEFAULT_REVISION) -> RemoteFile:
    """Return the first of these files that the hub has.

    Args:
        revision: a branch, a tag or a commit.

    Raises:
        UnavailableError: the hub does not answer within a few seconds, or has none of the files.
    """
    timeout_s = answer_timeout_s()
    deadline_s = time.monotonic() + timeout_s
    for name in names:
        url = file_url(repository, urllib.parse.quote(revision, safe=""), name)
        # In a separate thread: resolving a host name has no time limit.
        request = concurrent.thread(daemon=True)(huggingface_hub.get_hf_file_metadata)(url, timeout=timeout_s)
        try:
            metadata = request.result(timeout=max(0.0, deadline_s - time.monotonic()))
        except EntryNotFoundError:
            continue
        except NETWORK_ERRORS as e:
            if _http_status(e) == 404 and not isinstance(e, RepositoryNotFoundError):
                continue  # a mirror that does not report what is missing
            raise explain(e, repository) from e
        commit, etag = metadata.commit_hash or "", metadata.etag or ""
        if not re.fullmatch(r"\w[\w.-]*", commit) or not re.fullmatch(r"[\w.:+-]+", etag):
            advice = "check HF_ENDPOINT, and whether the network has a proxy or a login page"
            raise UnavailableError(f"{host()} does not answer as a model hub; {advice}")
        return RemoteFile(repository, name, commit, etag, metadata.size)
    raise NoSuchFileError(f"{host()} has no {either(names)} in {repository}, HTTP 404")


class NoSuchFileError(UnavailableError):
    """The hub answers, and has no such file."""


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Keep the hub's client from sending telemetry, which takes three seconds if the hub does not answer."""
    before, constants.HF_HUB_DISABLE_TELEMETRY = constants.HF_HUB_DISABLE_TELEMETRY, True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = before


# -- errors in a user's words --------------------------------------------------------------------------------------


def explain(error: BaseException, repository: str) -> UnavailableError:
    """Return why a request failed before the hub sent any data."""
    status = _http_status(error)
    if isinstance(error, GatedRepoError):
        advice = f"access: accept the terms at {page_url(repository)}, and set HF_TOKEN"
        return UnavailableError(f"{repository} is gated, HTTP {status}", advice=advice)
    if isinstance(error, RepositoryNotFoundError) or status == 401:
        advice = "access: check HF_ENDPOINT, or HF_TOKEN if the repository requires a login"
        return UnavailableError(f"{host()} has no public repository {repository}, HTTP {status}", advice=advice)
    if status is not None:
        return UnavailableError(f"{host()} answers HTTP {status}", is_transient=status >= 500 or status in (408, 429))
    if _is_timeout(error):
        reason = f"{host()} does not answer within {answer_timeout_s():g} s; HF_HUB_ETAG_TIMEOUT=30 waits longer"
        return UnavailableError(reason, is_transient=True)
    chain = list(_causes(error))
    system_errors = [e for e in chain if isinstance(e, OSError) and e.strerror]
    if system_errors:
        detail = str(system_errors[-1].strerror)
    else:
        detail = (str(error).strip().splitlines() or [type(error).__name__])[0]
    proxy = "the proxy for " if any("Proxy" in type(e).__name__ for e in chain) else ""
    return UnavailableError(f"{proxy}{host()} cannot be reached: {detail[:200]}", is_transient=True)


def explain_interruption(error: BaseException | None = None) -> UnavailableError:
    """Return why a transfer stopped in the middle; None: the hub closed the connection."""
    if error is not None and _is_timeout(error):
        reason = f"{host()} sent nothing for {constants.HF_HUB_DOWNLOAD_TIMEOUT} s"
    else:
        reason = f"the connection to {host()} was lost"
    return UnavailableError(reason, is_transient=True)


def _is_timeout(error: BaseException) -> bool:
    return any(isinstance(e, TimeoutError) or "Timeout" in type(e).__name__ for e in _causes(error))


def _http_status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
