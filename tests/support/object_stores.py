"""Object stores that run on this machine: a real one, and servers that only fail."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from fsspec import register_implementation
from fsspec.implementations.memory import MemoryFileSystem

BUCKET = "films"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "someone",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_EC2_METADATA_DISABLED": "true",  # nobody answers there
    "AWS_REGION": "us-east-1",
}


@dataclass(frozen=True)
class ObjectStore:
    """An S3 server with one bucket."""

    endpoint: str
    client: Any

    @property
    def environment(self) -> dict[str, str]:
        return {**CREDENTIALS, "AWS_ENDPOINT_URL": self.endpoint}

    def put(self, key: str, content: bytes) -> str:
        """Store an object; return its URI."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content)
        return f"s3://{BUCKET}/{key}"


@contextmanager
def running_store() -> Iterator[ObjectStore]:
    """Run moto's S3 server on a free port; skip the test if moto is not installed."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    boto3 = pytest.importorskip("boto3")
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        login = {"aws_access_key_id": "someone", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=endpoint, **login)
        client.create_bucket(Bucket=BUCKET)
        yield ObjectStore(endpoint, client)
    finally:
        server.stop()


@contextmanager
def refusing_store(status: int) -> Iterator[str]:
    """Run a server that answers everything with a status and no body; yield its endpoint."""

    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def silent_store() -> Iterator[str]:
    """Run a server that accepts connections and never answers; yield its endpoint."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


class CountedFiles(MemoryFileSystem):  # type: ignore[misc]
    """Files in memory, as `counted://store/key`, that note each folder that is listed and each file that is opened."""

    protocol = "counted"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    listed: ClassVar[list[str]] = []
    opened: ClassVar[list[str]] = []

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(MemoryFileSystem._strip_protocol(str(path).removeprefix("counted://")))

    def find(self, path: str, **kwargs: object) -> Any:  # noqa: ANN401
        self.listed.append(self._strip_protocol(path))
        return super().find(path, **kwargs)

    def _open(self, path: str, mode: str = "rb", **kwargs: object) -> Any:  # noqa: ANN401
        self.opened.append(path)
        return super()._open(path, mode, **kwargs)

    @classmethod
    def clear(cls) -> None:
        cls.store.clear()
        cls.pseudo_dirs[:] = [""]
        cls.listed.clear()
        cls.opened.clear()


register_implementation("counted", CountedFiles, clobber=True)


def put_in_memory(files: dict[str, bytes], *, store: str = "store") -> None:
    """Replace all files in memory."""
    CountedFiles.clear()
    files_in_memory = CountedFiles(skip_instance_cache=True)
    for key, content in files.items():
        files_in_memory.pipe_file(f"/{store}/{key}", content)
    CountedFiles.listed.clear()


def environment_of(endpoint: str) -> dict[str, str]:
    """Return the environment of a program that uses a store."""
    return {**os.environ, **CREDENTIALS, "AWS_ENDPOINT_URL": endpoint}
