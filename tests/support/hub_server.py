"""A local model hub that answers as the real one does, and can simulate the failures of a network."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BLOCK = 16_384


@dataclass
class Hub:
    """The files of the server, the requests it received, and how it misbehaves.

    Args:
        files: content by `owner/repository/file`.
        prefix: a path in front of all others, as some mirrors have.
        has_cdn: redirect downloads to another host.
        status, error_code: HTTP status of all requests, and the hub's name for it.
        download_status: HTTP status of GET requests.
        content: bytes that GET sends instead of the correct ones.
        ignores_range: send the whole file if a part is requested.
        drops: number of bytes after which each of the next downloads breaks off.
        stalls_after: number of bytes after which downloads stall.
        hangs: never answer.
        pause_s: pause between blocks.
        is_page: answer with a web page, like the login page of a hotel.
        etag: instead of the SHA-256 of the content.
        git_files: names of files that have git's checksum instead, as small files on the hub do.
        requests: received so far, such as `GET open_clip_model.safetensors bytes=100-`.
        released: set to end all pauses.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    prefix: str = ""
    has_cdn: bool = False
    status: int | None = None
    error_code: str = ""
    download_status: int | None = None
    content: bytes | None = None
    ignores_range: bool = False
    drops: list[int] = field(default_factory=list)
    stalls_after: int | None = None
    hangs: bool = False
    pause_s: float = 0.0
    is_page: bool = False
    etag: str | None = None
    git_files: frozenset[str] = frozenset()
    requests: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def downloads(self) -> list[str]:
        """Return the requests for content."""
        return [line for line in self.requests if line.startswith("GET")]


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """Serve the hub; yield its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}{hub.prefix}"
    try:
        yield hub.url
    finally:
        hub.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _checksum(content: bytes, *, is_in_git: bool) -> str:
    if is_in_git:  # as `git hash-object` prints it
        return hashlib.sha1(b"blob " + str(len(content)).encode() + b"\0" + content).hexdigest()
    return hashlib.sha256(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def _answer(self, *, has_body: bool) -> None:
        hub = self.hub
        match = re.fullmatch(rf"{hub.prefix}/(?:cdn/)?((?:[^/]+/)?[^/]+)/resolve/[^/]+/([^/?]+)", self.path)
        name = f"{match[1]}/{match[2]}" if match else ""
        hub.requests.append(" ".join(filter(None, (self.command, name.rpartition("/")[2], self.headers.get("Range")))))
        if hub.hangs:
            hub.released.wait(60)
            self.close_connection = True
            return
        if hub.is_page:
            self._send(200, {"Content-Type": "text/html"}, b"<html>Please log in</html>", has_body=has_body)
            return
        status = hub.status or (hub.download_status if has_body else None)
        if status is not None:
            self._send(status, {"X-Error-Code": hub.error_code} if hub.error_code else {}, b"no", has_body=has_body)
        elif name not in hub.files:
            known = any(file.startswith(f"{match[1]}/") for file in hub.files) if match else False
            code = {"X-Error-Code": "EntryNotFound" if known else "RepoNotFound"}
            self._send(404 if known else 401, {**code, "X-Repo-Commit": COMMIT}, b"", has_body=has_body)
        else:
            self._file(name, has_body=has_body)

    def _file(self, name: str, *, has_body: bool) -> None:
        hub = self.hub
        content = hub.files[name]
        etag = hub.etag or _checksum(content, is_in_git=name.rpartition("/")[2] in hub.git_files)
        headers = {"X-Repo-Commit": COMMIT, "X-Linked-ETag": f'"{etag}"', "X-Linked-Size": str(len(content))}
        if hub.has_cdn and "/cdn/" not in self.path:
            # "localhost" and 127.0.0.1 are different hosts: clients must not send their token to this one.
            target = f"http://localhost:{self.server.server_address[1]}{hub.prefix}/cdn{self.path[len(hub.prefix) :]}"
            self._send(302, {**headers, "ETag": '"of the redirect"', "Location": target}, b"", has_body=has_body)
            return
        if hub.has_cdn and self.headers.get("Authorization"):
            self._send(400, {}, b"a token", has_body=has_body)
            return
        content = content if hub.content is None else hub.content
        requested = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(requested[1]) if requested and not hub.ignores_range else 0
        headers["ETag"] = f'"{etag}"'
        if requested and not hub.ignores_range and start >= len(content):
            self._send(416, {"Content-Range": f"bytes */{len(content)}"}, b"", has_body=has_body)
            return
        if requested and not hub.ignores_range:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206 if "Content-Range" in headers else 200, headers, content[start:], has_body=has_body)

    def _send(self, status: int, headers: dict[str, str], content: bytes, *, has_body: bool) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if has_body:
            self._body(content, is_file=status in (200, 206))

    def _body(self, content: bytes, *, is_file: bool) -> None:
        hub, sent = self.hub, 0
        drop = hub.drops.pop(0) if is_file and hub.drops else None
        stop = drop if drop is not None else (hub.stalls_after if is_file else None)
        end = len(content) if stop is None else min(stop, len(content))
        try:
            while sent < end:
                self.wfile.write(content[sent : min(sent + BLOCK, end)])
                sent = min(sent + BLOCK, end)
                if hub.pause_s:
                    hub.released.wait(hub.pause_s)
            if drop is None and end < len(content):
                hub.released.wait(60)
        except OSError:
            pass  # the client went away
        if end < len(content):
            self.close_connection = True
