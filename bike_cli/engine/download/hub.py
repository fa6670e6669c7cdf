"""Download weights from a model hub: an answer within seconds, resumable, verified.

The hub's own client finds files, mirrors, proxies and tokens, and its cache is used. Its download is not: since version
1.x it starts over after an interruption, and it does not compare checksums.

    HF_ENDPOINT                             another hub, such as a mirror
    HF_HOME, HF_HUB_CACHE                   where the cache is
    HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE    no network, as --offline
    HF_TOKEN                                for repositories that need a login
    HF_HUB_ETAG_TIMEOUT                     seconds to wait for the hub's answer
    HF_HUB_DOWNLOAD_TIMEOUT                 seconds without any data after which a download is stuck
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
import urllib.parse
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]
from pebble import concurrent

from bike_cli.engine.download.partial_file import Partial, check_space, report_write_errors, sha256_of
from bike_cli.engine.download.progress import Transfer, current_reporter
from bike_cli.errors import ModelError
from bike_cli.locks import acquire_lock

logger = logging.getLogger(__name__)

WEIGHTS_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # as open_clip prefers them
ANSWER_S = 3  # seconds to wait for the hub's answer
ATTEMPTS = 3  # in a row that bring no data before a download is given up

# The client's HTTP library is httpx or httpx2; HfHubHTTPError derives from its base class. ValueError and ImportError:
# proxies of an unknown scheme, or of one that needs a package.
_HTTP_ERROR: type[Exception] = HfHubHTTPError.__mro__[1]
_INVALID_URL: type[Exception] = getattr(sys.modules[_HTTP_ERROR.__module__.partition(".")[0]], "InvalidURL", ValueError)
_NETWORK_ERRORS = (OSError, ValueError, ImportError, _HTTP_ERROR, _INVALID_URL)


@dataclass(frozen=True)
class Weights:
    """The weights of an open_clip model on the hub.

    Args:
        model: the name that the user gave.
        names: of the files, the preferred one first; one of them is enough.
        size: of the first file, in bytes; None where it is not known.
        is_exact: whether `size` is, or was estimated from the number of parameters.
    """

    model: str
    arch: str
    repository: str
    names: tuple[str, ...] = WEIGHTS_FILES
    size: int | None = None
    is_exact: bool = True


@dataclass(frozen=True)
class _Remote:
    """What the hub says about a file."""

    weights: Weights
    name: str
    commit: str
    etag: str
    size: int | None

    @property
    def sha256(self) -> str | None:
        # The hub's etag of a large file is its digest; that of a file in git, or a mirror's own, is something else.
        return self.etag if re.fullmatch(r"[0-9a-f]{64}", self.etag) else None

    @property
    def transfer(self) -> Transfer:
        url = _shown(f"{endpoint()}/{self.weights.repository}")
        return Transfer(self.weights.model, self.name, url, self.size)

    def matches(self, size: int, sha256: str) -> bool:
        return (self.size is None or size == self.size) and (self.sha256 is None or sha256 == self.sha256)


class _UnavailableError(Exception):
    """The hub cannot be reached or does not give the file; the text says why."""

    def __init__(self, reason: str, *, is_transient: bool = False, way_out: str = "") -> None:
        super().__init__(reason)
        self.is_transient = is_transient
        self.way_out = way_out


def download(weights: Weights, *, offline: bool, folder: Path | None = None) -> Path:
    """Return the weights on this disk, downloaded to the hub's cache or to a folder, and verified.

    An interrupted download continues where it stopped. The current reporter receives the progress.

    Raises:
        ModelError: no network, no such file, a wrong checksum, no room; it says how to get the weights.
    """
    if (ban := offline_reason(offline=offline)) is not None:
        raise _missing(weights, f"are not on this disk, and {ban} forbids downloading them")
    try:
        with _without_telemetry():
            remote = _look_up(weights)
            return _to_cache(remote) if folder is None else _to_folder(remote, folder)
    except _UnavailableError as e:
        raise _missing(weights, f"are not on this disk and cannot be downloaded ({e})", e.way_out) from e


def cached_file(weights: Weights) -> Path | None:
    """Return the downloaded weights, or None; the network is not used."""
    for name in weights.names:
        found = huggingface_hub.try_to_load_from_cache(weights.repository, name)
        if isinstance(found, str) and Path(found).is_file():
            return Path(found)
    return None


def is_intact(cached: Path, weights: Weights, *, offline: bool) -> bool | None:
    """Return whether a cached file has the right content; None where only the hub knows and cannot be asked."""
    blob = cached.resolve().name  # the cache names a large file by its digest, and a link leads to it
    if not re.fullmatch(r"[0-9a-f]{64}", blob):
        if offline_reason(offline=offline) is not None:
            return None
        try:
            with _without_telemetry():
                remote = _look_up(weights)
        except _UnavailableError:
            return None
        if remote.name != cached.name or remote.sha256 is None:
            return None
        blob = remote.sha256
    return sha256_of(cached) == blob


def endpoint() -> str:
    """Return the URL of the hub, without a slash at the end.

    Raises:
        ModelError: HF_ENDPOINT is not a URL.
    """
    url = constants.ENDPOINT.rstrip("/")
    with suppress(ValueError):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return url
    raise ModelError(f"HF_ENDPOINT: {url!r} is not a URL; use one such as https://huggingface.co, or unset it")


def offline_reason(*, offline: bool) -> str | None:
    """Return what forbids the network: a flag or an environment variable; None where nothing does."""
    if offline:
        return "--offline"
    if not constants.HF_HUB_OFFLINE:
        return None
    return "HF_HUB_OFFLINE" if os.environ.get("HF_HUB_OFFLINE") else "TRANSFORMERS_OFFLINE"


def readable_size(size: int) -> str:
    """Return a file's size for people: 599 MB, 1.71 GB."""
    if size < 10**6:
        return f"{size / 1e3:.3g} kB"
    return f"{size / 1e6:.0f} MB" if size < 10**9 else f"{size / 1e9:.2f} GB"


# -- what the hub says -------------------------------------------------------------------------------------------


def _look_up(weights: Weights) -> _Remote:
    """Ask the hub for the first of the files that it has, for a few seconds in all."""
    seconds = _answer_s()
    deadline = time.monotonic() + seconds
    for name in weights.names:
        url = _url(weights.repository, constants.DEFAULT_REVISION, name)
        # In a thread of its own: looking up a host's name knows no time limit.
        asked = concurrent.thread(daemon=True)(huggingface_hub.get_hf_file_metadata)(url, timeout=seconds)
        try:
            found = asked.result(timeout=max(0.0, deadline - time.monotonic()))
        except EntryNotFoundError:
            continue
        except _NETWORK_ERRORS as e:
            if _status(e) == 404 and not isinstance(e, RepositoryNotFoundError):
                continue  # a mirror that does not say what is missing
            raise _unavailable(e, weights) from e
        commit, etag = found.commit_hash or "", found.etag or ""
        if not re.fullmatch(r"\w[\w.-]*", commit) or not re.fullmatch(r"[\w.:+-]+", etag):
            reason = f"{_host()} does not answer as a model hub: a login page of the network, a proxy or HF_ENDPOINT?"
            raise _UnavailableError(reason)
        return _Remote(weights, name, commit, etag, found.size)
    raise _UnavailableError(f"{_host()} has no {' or '.join(weights.names)} in {weights.repository}, HTTP 404")


def _url(repository: str, revision: str, name: str) -> str:
    return f"{endpoint()}/{repository}/resolve/{revision}/{name}"


def _answer_s() -> float:
    return constants.HF_HUB_ETAG_TIMEOUT if os.environ.get("HF_HUB_ETAG_TIMEOUT") else ANSWER_S


def _unavailable(error: BaseException, weights: Weights) -> _UnavailableError:
    """Return the error in a user's words."""
    status, host = _status(error), _host()
    page = _shown(f"{endpoint()}/{weights.repository}")
    if isinstance(error, GatedRepoError):
        way_out = f"access: accept the terms at {page}, and set HF_TOKEN"
        return _UnavailableError(f"{weights.repository} is gated, HTTP {status}", way_out=way_out)
    if isinstance(error, RepositoryNotFoundError) or status == 401:
        way_out = "access: check HF_ENDPOINT, or HF_TOKEN where the repository needs a login"
        return _UnavailableError(
            f"{host} has no public repository {weights.repository}, HTTP {status}", way_out=way_out
        )
    if status is not None:
        return _UnavailableError(f"{host} answers HTTP {status}", is_transient=status >= 500 or status in (408, 429))
    chain = list(_chain(error))
    if _is_timeout(error):
        reason = f"{host} does not answer within {_answer_s():g} s; HF_HUB_ETAG_TIMEOUT=30 waits longer"
        return _UnavailableError(reason, is_transient=True)
    system = [e for e in chain if isinstance(e, OSError) and e.strerror]
    detail = system[-1].strerror if system else (str(error).strip().splitlines() or [type(error).__name__])[0]
    proxy = "the proxy for " if any("Proxy" in type(e).__name__ for e in chain) else ""
    return _UnavailableError(f"{proxy}{host} cannot be reached: {str(detail)[:200]}", is_transient=True)


def _is_timeout(error: BaseException) -> bool:
    return any(isinstance(e, TimeoutError) or "Timeout" in type(e).__name__ for e in _chain(error))


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _host() -> str:
    return urllib.parse.urlsplit(endpoint()).netloc.rpartition("@")[2]


def _shown(url: str) -> str:
    """Return a URL without a password."""
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _missing(weights: Weights, fact: str, way_out: str = "") -> ModelError:
    name = weights.names[0]
    size = "" if weights.size is None else f" ({'' if weights.is_exact else 'about '}{readable_size(weights.size)})"
    return ModelError(
        f"model {weights.model!r}: its weights {fact}",
        details=[
            *([way_out] if way_out else []),
            f"needed: {name}{size} of {weights.repository}, from {_shown(endpoint())} (HF_ENDPOINT: a mirror)",
            f"with a network: bike models pull {weights.model} (to {constants.HF_HUB_CACHE}; HF_HOME moves it)",
            f"without one: bike models pull {weights.model} --to DIR on another machine; copy DIR here and use -m DIR",
            f"a file of your own: -m {weights.arch},FOLDER/{name}",
        ],
    )


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Let the client ask for nothing but the files.

    Its telemetry asks the hub a question of its own first, which takes three seconds where nobody answers.
    """
    before, constants.HF_HUB_DISABLE_TELEMETRY = constants.HF_HUB_DISABLE_TELEMETRY, True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = before


# -- the transfer ------------------------------------------------------------------------------------------------


def _to_cache(remote: _Remote) -> Path:
    """Download to where the hub's client would; see "Understand caching" in its documentation."""
    cache = Path(constants.HF_HUB_CACHE)
    repository = f"models--{remote.weights.repository.replace('/', '--')}"
    blob = cache / repository / "blobs" / remote.etag.replace(":", "_")
    lock = cache / ".locks" / repository / f"{remote.etag.replace(':', '_')}.lock"
    with locked(lock, remote.transfer) as is_locked:
        if not blob.is_file() or not remote.matches(blob.stat().st_size, sha256_of(blob)):
            partial = blob.with_name(f"{blob.name}.bike.incomplete")
            _fetch(remote, blob, partial=partial, is_locked=is_locked)
        pointer = cache / repository / "snapshots" / remote.commit / remote.name
        with report_write_errors(cache):
            _link(pointer, blob)
            ref = cache / repository / "refs" / constants.DEFAULT_REVISION
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(remote.commit, encoding="utf-8")
    return pointer


def _to_folder(remote: _Remote, folder: Path) -> Path:
    target = folder / remote.name
    with locked(folder / f".{remote.name}.lock", remote.transfer, is_kept=False) as is_locked:
        if not target.is_file() or not remote.matches(target.stat().st_size, sha256_of(target)):
            _fetch(remote, target, partial=folder / f"{remote.name}.incomplete", is_locked=is_locked)
    return target


def _link(pointer: Path, blob: Path) -> None:
    """Make `pointer` lead to `blob`; where there are no symbolic links, as often on Windows, move it there."""
    pointer.parent.mkdir(parents=True, exist_ok=True)
    new = pointer.with_name(f"{pointer.name}.{os.getpid()}.new")
    try:
        new.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:
        blob.replace(pointer)
    else:
        new.replace(pointer)


@contextmanager
def locked(file: Path, transfer: Transfer, *, is_kept: bool = True) -> Iterator[bool]:
    """Let one process at a time write a file; yield whether the file system can ensure that.

    Args:
        file: the lock file.
        is_kept: leave the lock file there.

    Raises:
        ModelError: the lock file cannot be created.
    """
    with report_write_errors(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = acquire_lock(file, timeout_s=0)
        except filelock.Timeout:
            current_reporter().waiting(transfer)
            lock = acquire_lock(file)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            lock.release()
        if not is_kept:
            with suppress(OSError):  # Windows: another process has opened it
                file.unlink()


def _fetch(remote: _Remote, target: Path, *, partial: Path, is_locked: bool) -> None:
    """Download a file, or the rest of it, and give it its name once it is verified."""
    if not is_locked:  # another process may download the same file
        partial = partial.with_name(f"{partial.name}.{os.getpid()}")
    reporter, is_complete = current_reporter(), False
    with Partial(partial) as part:
        if remote.size is not None and part.size > remote.size:
            part.restart()
        if remote.size is not None:
            check_space(partial.parent, remote.size - part.size, subject=f"model {remote.weights.model!r}")
        reporter.started(remote.transfer, part.size)
        try:
            _fill_and_verify(part, remote)
            part.rename(target)
            is_complete = True
        finally:
            reporter.stopped(remote.transfer, part.size, is_complete=is_complete)
            if not is_locked and not is_complete:
                part.discard()


def _fill_and_verify(part: Partial, remote: _Remote) -> None:
    resumed_at = part.size
    _fill(part, remote)
    if resumed_at and not remote.matches(part.size, part.sha256):
        logger.warning("%s: the earlier part was damaged; downloading it again", remote.name)
        part.restart()
        _fill(part, remote)
    if not remote.matches(part.size, part.sha256):
        part.discard()
        raise _UnavailableError(_mismatch(remote, part))


def _mismatch(remote: _Remote, part: Partial) -> str:
    if remote.size is not None and part.size != remote.size:
        difference = f"{part.size:,} bytes instead of {remote.size:,}"
    else:
        difference = f"the SHA-256 {part.sha256[:12]}… instead of {str(remote.sha256)[:12]}…"
    return f"{remote.name} from {_host()} has {difference}: a proxy or mirror changes it"


def _fill(part: Partial, remote: _Remote) -> None:
    """Append what is missing; try again, from where it stopped, as long as data arrives."""
    barren, before = 0, part.size
    while remote.size is None or part.size < remote.size:
        start = part.size
        try:
            with closing(_chunks(remote, start)) as chunks:
                for offset, chunk in chunks:
                    if offset != part.size:
                        part.restart()  # the server cannot continue, and starts again from the beginning
                    part.append(chunk)
                    current_reporter().progressed(part.size)
                    if remote.size is not None and part.size > remote.size:
                        return
            if remote.size is None or part.size == remote.size:
                return
            stop = _UnavailableError(f"the connection to {_host()} was lost", is_transient=True)
        except _UnavailableError as e:
            stop = e
        barren = 0 if part.size > start else barren + 1
        logger.info("%s: stopped at %s bytes (%s)", remote.name, f"{part.size:,}", stop)
        if not stop.is_transient or part.size == before or barren == ATTEMPTS:
            raise _stopped(stop, part, remote)
        time.sleep(max(0.2, barren))


def _stopped(stop: _UnavailableError, part: Partial, remote: _Remote) -> _UnavailableError:
    if not part.size or remote.size is None:
        return stop
    progress = f"{readable_size(part.size)} of {readable_size(remote.size)} are there; the next attempt continues"
    return _UnavailableError(f"{stop}; {progress}", way_out=stop.way_out)


def _chunks(remote: _Remote, start: int) -> Generator[tuple[int, bytes], None, None]:
    """Yield (offset, bytes) of a file from `start` on, or from 0 where the server does not continue."""
    url = _url(remote.weights.repository, remote.commit, remote.name)
    headers = {**build_hf_headers(library_name="bike"), "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    is_connected = False
    try:
        with _response(url, headers) as (response, chunks):
            if response.status_code == 416 and start:  # nothing is left of a file that became shorter
                yield from _chunks(remote, 0)
                return
            hf_raise_for_status(response)
            is_connected = True
            content_range = str(response.headers.get("Content-Range", ""))
            continues = response.status_code == 206 and content_range.startswith(f"bytes {start}-")
            offset = start if continues else 0
            for chunk in chunks:
                yield offset, chunk
                offset += len(chunk)
    except _NETWORK_ERRORS as e:
        raise (_lost(e) if is_connected else _unavailable(e, remote.weights)) from e


def _lost(error: BaseException) -> _UnavailableError:
    if _is_timeout(error):
        return _UnavailableError(f"{_host()} sent nothing for {constants.HF_HUB_DOWNLOAD_TIMEOUT} s", is_transient=True)
    return _UnavailableError(f"the connection to {_host()} was lost", is_transient=True)


@contextmanager
def _response(url: str, headers: dict[str, str]) -> Iterator[tuple[Any, Iterator[bytes]]]:
    session: Any = get_session()
    connect_s, read_s = _answer_s(), constants.HF_HUB_DOWNLOAD_TIMEOUT
    timeouts = (connect_s, read_s, read_s, read_s)
    with session.stream("GET", url, headers=headers, timeout=timeouts, follow_redirects=True) as response:
        yield response, response.iter_bytes()
