"""FFmpeg formats that bike opens: only those that cannot make FFmpeg read other files."""

from __future__ import annotations

import io
import os
from pathlib import Path

import av

# fmt: off
_REFER_TO_OTHERS = frozenset({  # these play other files, or streams from the network
    "applehttp", "avisynth", "concat", "dash", "dvdvideo", "hls", "imf", "lavfi", "libcdio", "mlv", "rtp", "rtsp",
    "sap", "sdp", "vapoursynth", "vobsub", "webm_dash_manifest",
    "image2",  # a name with % or * stands for many files; `foo.Y` brings `foo.U` and `foo.V`
    "svg_pipe",  # an SVG may refer to files
})
_RENDER_TEXT = frozenset({"adf", "bin", "idf", "lrc", "sbg", "tty", "xbin"})  # as pictures or sound
_DEVICES = frozenset({
    "alsa", "android_camera", "avfoundation", "bktr", "decklink", "dshow", "fbdev", "gdigrab", "iec61883", "jack",
    "kmsgrab", "libdc1394", "openal", "oss", "pulse", "sndio", "v4l2", "vfwcap", "video4linux2", "video4linux2,v4l2",
    "x11grab", "xcbgrab",
})
# fmt: on

FORMATS = frozenset(av.formats_available) - _REFER_TO_OTHERS - _RENDER_TEXT - _DEVICES

_MAGIC_LANTERN = b"MLVI"  # such a video may continue in other files, which FFmpeg cannot find without the name
_JPEG = b"\xff\xd8\xff"
_JPEG_SUFFIXES = frozenset({".jpg", ".jpeg"})
PATTERN_CHARACTERS = frozenset("%*?{")  # FFmpeg's reader of image sequences interprets these in names


def must_hide_name(path: Path, first_bytes: bytes) -> bool:
    """Return whether FFmpeg would look for other files if it knew the name of this file."""
    names_others = bool(PATTERN_CHARACTERS & set(os.fspath(path.absolute()))) or first_bytes.startswith(_MAGIC_LANTERN)
    # By the name alone, FFmpeg takes some JPEG files for a sequence of images, which is never opened.
    return names_others or (first_bytes.startswith(_JPEG) and path.suffix.lower() in _JPEG_SUFFIXES)


class NamelessFile(io.FileIO):
    """A file object for PyAV that hides the name from FFmpeg, except for the extension that some formats need."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        suffix = "" if path.suffix.lower() in _JPEG_SUFFIXES else path.suffix
        self.name = f"video{suffix}" if suffix.isascii() and suffix[1:].isalnum() else "video"
