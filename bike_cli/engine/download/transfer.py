"""Transfer a file from the hub: resumable and verified.

The hub's own client starts over after an interruption since version 1.0, and it does not compare checksums.

    HF_HUB_DOWNLOAD_TIMEOUT    seconds without data after which a download is considered stuck
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]

from bike_cli.engine.download.checksums import is_sha256, sha1s_of, sha256_of
from bike_cli.engine.download.partial_file import Partial, check_space
from bike_cli.engine.download.progress import Transfer, current_reporter
from bike_cli.engine.download.remote_file import (
    NETWORK_ERRORS,
    RemoteFile,
    UnavailableError,
    answer_timeout_s,
    explain,
    explain_interruption,
    file_url,
    host,
)

logger = logging.getLogger(__name__)

ATTEMPTS = 3  # consecutive attempts without data before a download is given up


def fetch(remote: RemoteFile, transfer: Transfer, target: Path, *, partial: Path) -> None:
    """Download a file, or the rest of it, and rename it to `target` once it is verified.

    Args:
        partial: where the incomplete file is.
    Raises:
        UnavailableError: the hub stopped sending, or sent the wrong content.
        ModelError: the disk is full or cannot be written.
    """
    reporter, is_complete = current_reporter(), False
    with Partial(partial) as part:
        if remote.size is not None and part.size > remote.size:
            part.restart()
        if remote.size is not None:
            check_space(partial.parent, remote.size - part.size, subject=f"model {transfer.model!r}")
        reporter.started(transfer, part.size)
        try:
            _fill_and_verify(part, remote)
            part.rename(target)
            is_complete = True
        finally:
            reporter.stopped(transfer, part.size, is_complete=is_complete)


def _fill_and_verify(part: Partial, remote: RemoteFile) -> None:
    resumed_at = part.size
    _fill(part, remote)
    if resumed_at and not remote.matches(part.path):
        logger.warning("%s: the part from an earlier download was damaged; downloading it again", remote.name)
        part.restart()
        _fill(part, remote)
    if remote.matches(part.path):
        return
    if remote.size not in (None, part.size):
        difference = f"{part.size:,} bytes instead of {remote.size:,}"
    else:
        checksum = str(remote.checksum)
        found = sha256_of(part.path) if is_sha256(checksum) else sha1s_of(part.path)[0]
        kind = "SHA-256" if is_sha256(checksum) else "checksum"
        difference = f"the {kind} {found[:12]}… instead of {checksum[:12]}…"
    part.discard()
    raise UnavailableError(f"{remote.name} from {host()} has {difference}: a proxy or mirror changes it")


def _fill(part: Partial, remote: RemoteFile) -> None:
    """Append what is missing. After an interruption, continue for as long as the server sends data."""
    failures, size_before = 0, part.size
    while remote.size is None or part.size < remote.size:
        start = part.size
        try:
            with closing(_chunks(remote, start)) as chunks:
                for offset, chunk in chunks:
                    if offset != part.size:
                        part.restart()  # the server cannot resume, and sends the file from the beginning
                    part.append(chunk)
                    current_reporter().progressed(part.size)
                    if remote.size is not None and part.size > remote.size:
                        return
            if remote.size is None or part.size == remote.size:
                return
            error = explain_interruption()
        except UnavailableError as e:
            error = e
        failures = 0 if part.size > start else failures + 1
        logger.info("%s: stopped at %s bytes (%s)", remote.name, f"{part.size:,}", error)
        if not error.is_transient or part.size == size_before or failures == ATTEMPTS:
            raise _with_progress(error, part, remote)
        time.sleep(max(0.2, failures))


def _with_progress(error: UnavailableError, part: Partial, remote: RemoteFile) -> UnavailableError:
    if not part.size or remote.size is None:
        return error
    progress = f"{readable_size(part.size)} of {readable_size(remote.size)} are downloaded; the next attempt continues"
    return UnavailableError(f"{error}; {progress}", advice=error.advice)


def _chunks(remote: RemoteFile, start: int) -> Generator[tuple[int, bytes], None, None]:
    """Yield (offset, bytes) of a file from `start` on, or from 0 if the server cannot resume."""
    url = file_url(remote.repository, remote.commit, remote.name)
    headers = {**build_hf_headers(library_name="bike"), "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    session: Any = get_session()
    connect_s, read_s = answer_timeout_s(), constants.HF_HUB_DOWNLOAD_TIMEOUT
    timeouts = (connect_s, read_s, read_s, read_s)
    is_connected = False
    try:
        with session.stream("GET", url, headers=headers, timeout=timeouts, follow_redirects=True) as response:
            if response.status_code == 416 and start:  # the file became shorter: nothing is left to send
                yield from _chunks(remote, 0)
                return
            hf_raise_for_status(response)
            is_connected = True
            content_range = str(response.headers.get("Content-Range", ""))
            is_resumed = response.status_code == 206 and content_range.startswith(f"bytes {start}-")
            offset = start if is_resumed else 0
            for chunk in response.iter_bytes():
                yield offset, chunk
                offset += len(chunk)
    except NETWORK_ERRORS as e:
        raise (explain_interruption(e) if is_connected else explain(e, remote.repository)) from e


def readable_size(size: int) -> str:
    """Return a number of bytes for people: 599 MB, 1.71 GB."""
    if size < 10**6:
        return f"{size / 1e3:.3g} kB"
    return f"{size / 1e6:.0f} MB" if size < 10**9 else f"{size / 1e9:.2f} GB"
