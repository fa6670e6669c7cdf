"""What names say about files: the extensions of videos and images, and names that are URLs, not paths."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# What a folder is searched for; a file that the user names is read whatever its extension.
# fmt: off
VIDEO_EXTENSIONS = frozenset({
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".mts", ".m2ts", ".wmv", ".asf",
    ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".vob", ".mxf", ".y4m", ".gif",
    ".divx", ".rm", ".rmvb", ".qt", ".ogm", ".mpe", ".m1v", ".m2t", ".mk3d", ".wtv", ".dv", ".ivf", ".h264", ".264",
    ".h265", ".265", ".hevc", ".mjpeg", ".mjpg",
})
# fmt: on

# The images of frame folders, by the name that Pillow has for the format. Every supported version of Pillow reads them.
IMAGE_FORMATS: Mapping[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TGA": (".tga",),
    "JPEG2000": (".jp2", ".j2k"),
}
IMAGE_EXTENSIONS = frozenset(extension for extensions in IMAGE_FORMATS.values() for extension in extensions)


def is_frame_name(name: str) -> bool:
    """Return whether a file of this name in a folder of frames is a frame; others are not read."""
    return os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS and not name.startswith(".")  # noqa: PTH122


def is_media_name(name: str | Path) -> bool:
    """Return whether a file of this name would be a video or an image."""
    return os.path.splitext(name)[1].lower() in VIDEO_EXTENSIONS | IMAGE_EXTENSIONS  # noqa: PTH122


# One letter and a colon is a drive of Windows.
_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_VIDEO_SITE = re.compile(
    r"(https?://)?((www|m|music)\.)?(youtube\.com|youtu\.be|vimeo\.com|twitch\.tv|bilibili\.com)/", re.IGNORECASE
)
_BARE_SITE = re.compile(r"www\.[a-z0-9-]+\.[a-z]{2,}(/|$)", re.IGNORECASE)
_DOWNLOADS = {  # how to fetch what a scheme names
    **dict.fromkeys(("http", "https", "ftp", "ftps"), "curl -O URL"),
    "sftp": "sftp URL",
    "s3": "aws s3 cp URL .",
    "gs": "gcloud storage cp URL .",
    "hf": "hf download",
    "az": "azcopy copy URL .",
}
_STREAMS = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "udp", "tcp", "mms", "mmsh", "mmst", "rist"})
_NOT_STORES = frozenset({"file", "http", "https", "ftp", "ftps", "sftp"}) | _STREAMS


@dataclass(frozen=True)
class RemoteFile:
    """A video that must be fetched before it can be read: an object in a store, or a member of a tar file.

    Args:
        place: URI of the object, or the URI or local path of the tar file.
        offset, size: the member's bytes in the tar file; None for a whole object.
    """

    place: str
    offset: int | None = None
    size: int | None = None


def is_store_uri(name: str) -> bool:
    """Return whether a name is the URI of an object in a store, such as `s3://bucket/clip.mp4`.

    Web pages, streams and `file://` URLs are not.
    """
    match = _URL.match(name)
    return match is not None and match["scheme"].lower() not in _NOT_STORES


def url_problem(name: str) -> str | None:
    """Return what is wrong with a name that is a URL, and what to do; None if the name may be a path."""
    if _VIDEO_SITE.match(name):
        return f"bike does not read URLs; download it first, e.g. yt-dlp -f mp4 '{name}'"
    match = _URL.match(name)
    scheme = match["scheme"].lower() if match is not None else ""
    if scheme in _STREAMS:
        return f"bike does not read streams; record a part first, e.g. ffmpeg -i '{name}' -t 10 -c copy clip.mp4"
    if scheme == "file":
        return "no such file is on this machine; check the path"
    if is_store_uri(name):
        command = _DOWNLOADS.get(scheme)
        example = f", e.g. {command.replace('URL', repr(name))}" if command is not None else ""
        return f"only bike classify, bike embed and bike spot read object stores; download it first{example}"
    if match is not None or _BARE_SITE.match(name):
        command = _DOWNLOADS[scheme or "https"]
        return f"bike does not read URLs; download it first, e.g. {command.replace('URL', repr(name))}"
    return None


def missing_message(name: str) -> str:
    """Return the error message for a path that does not exist: `subject: what is wrong; what to do`."""
    if not name.strip():
        return f"{name!r}: is an empty name; give the path of a video"
    problem = url_problem(name)
    if problem is None and "\\" in name and os.sep != "\\":
        problem = "no such file; its backslashes separate folders on Windows only, write / between folders"
    return f"{name}: {problem or 'no such file; check the path'}"
