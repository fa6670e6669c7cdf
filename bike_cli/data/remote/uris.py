"""URIs of objects in stores, such as `s3://bucket/clips/a.mp4`.

Keys are written as they are, as `aws s3` and `gcloud storage` write them: `s3://bucket/50 %.mp4`. The parameters of a
store may follow: `?region=eu-west-1`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from bike_cli.media import RemoteFile, is_store_uri
from bike_cli.records import Source

# fmt: off
PARAMETERS = frozenset({  # those of pyarrow; a question mark before anything else belongs to the key
    "region", "scheme", "endpoint_override", "anonymous", "force_virtual_addressing", "tls_ca_file_path",
    "project_id", "retry_limit_seconds",
    "user", "replication", "kerb_ticket", "buffer_size", "default_block_size",
    "blob_storage_authority", "dfs_storage_authority", "enable_tls", "credential_kind", "tenant_id", "client_id",
})
# fmt: on
_URI = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+)://(?P<store>[^/]*)/?(?P<key>.*)", re.IGNORECASE | re.DOTALL)
_COLLAPSED = re.compile(r"([a-z][a-z0-9+.-]+):[/\\](?![/\\])", re.IGNORECASE)


@dataclass(frozen=True)
class StoreUri:
    """The parts of a URI.

    Args:
        scheme: in lower case.
        store: bucket, container or host.
        key: of the object, without a slash at the start; ends in a slash if it names a folder.
        parameters: such as `region=eu-west-1&anonymous=true`; may be empty.
    """

    scheme: str
    store: str
    key: str
    parameters: str = ""

    def __str__(self) -> str:
        return self._without_parameters + (f"?{self.parameters}" if self.parameters else "")

    @property
    def name(self) -> Path:
        """The URI as a path, for names of files that are written for a video."""
        return Path(self._without_parameters)

    @property
    def root(self) -> StoreUri:
        """The store itself."""
        return self.at("")

    @property
    def is_folder(self) -> bool:
        """Whether the URI can only name a folder."""
        return not self.key or self.key.endswith("/")

    def at(self, key: str) -> StoreUri:
        """Return the URI of another object in the same store."""
        return replace(self, key=key)

    @property
    def _without_parameters(self) -> str:
        return f"{self.scheme}://{self.store}/{self.key}"


def parse_uri(name: str) -> StoreUri:
    """Return the parts of a URI for which `is_store_uri` is true."""
    rest, mark, query = name.rpartition("?")
    has_parameters = mark and all(part.partition("=")[0] in PARAMETERS for part in query.split("&"))
    match = _URI.fullmatch(rest if has_parameters else name)
    assert match is not None
    scheme = match["scheme"].lower()
    # Spark and Hadoop call S3 by these names.
    return StoreUri(
        "s3" if scheme in ("s3a", "s3n") else scheme, match["store"], match["key"], query if has_parameters else ""
    )


def source_named(name: str | Path) -> Source:
    """Return the source of a name: a URI of an object in a store, or else a path."""
    text = str(name)
    if not is_store_uri(text) or os.path.lexists(text):
        return Source.at(name)
    return Source(parse_uri(text).name, text, RemoteFile(text))


def uri_of_path(path: Path) -> str | None:
    """Return the URI that a `Path` was made of, which has lost one of its slashes; None if it was a path."""
    text = str(path)
    if path.exists() or _COLLAPSED.match(text) is None:
        return None
    uri = _COLLAPSED.sub(r"\1://", text, count=1).replace(os.sep, "/")
    return uri if is_store_uri(uri) else None


def below_uri(table: str, name: str) -> str:
    """Return what a table at a URI names: a URI or an absolute path as it is, anything else in the table's folder."""
    if is_store_uri(name) or os.path.isabs(name):  # noqa: PTH117
        return name
    uri = parse_uri(table)
    return str(uri.at(f"{uri.key.rpartition('/')[0]}/{name}".removeprefix("/")))
