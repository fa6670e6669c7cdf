"""Facts about the decoders for `bike doctor`."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video", "mjpeg", "prores")  # of common files
DECORD_PACKAGES = ("decord", "decord2", "eva-decord")


def describe_av() -> dict[str, object]:
    """Return the versions of PyAV and its FFmpeg libraries, and the common codecs that it cannot decode.

    Raises:
        ImportError: PyAV, or a library that it needs, is missing or broken.
    """
    import av

    libraries = {name: ".".join(map(str, numbers)) for name, numbers in av.library_versions.items()}
    missing = [codec for codec in CODECS if not _decodes(codec)]
    ffmpeg = getattr(av, "ffmpeg_version_info", None)
    return {"version": av.__version__, "ffmpeg": ffmpeg, "libraries": libraries, "missing_codecs": missing}


def _decodes(codec: str) -> bool:
    import av

    try:
        av.Codec(codec, "r")
    except (ValueError, av.error.FFmpegError):
        return False
    return True


def describe_decord() -> dict[str, object]:
    """Return the version of decord.

    Raises:
        ImportError, OSError: it is broken. A library for another processor may crash this process.
    """
    import decord

    return {"version": getattr(decord, "__version__", None), "package": decord_package()}


def decord_package() -> str | None:
    """Return the installed package that provides decord, and its version; None if decord is not installed."""
    for name in DECORD_PACKAGES:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return None


def describe_images() -> dict[str, object]:
    """Return the versions of NumPy and Pillow.

    Raises:
        ImportError: one of them is missing or broken.
    """
    import numpy
    import PIL
    import PIL.Image

    return {"numpy": numpy.__version__, "pillow": PIL.__version__}


def describe_workers(workers: int | None) -> dict[str, object]:
    """Return the number of worker processes, and of open files that they need.

    Args:
        workers: as configured; None: one per core.
    Raises:
        ImportError: a decoder is broken.
    """
    from bike_cli.video.workers.machine import FILES_PER_WORKER, OTHER_FILES, cores

    workers = workers or cores()
    return {"workers": workers, "open_files_needed": OTHER_FILES + FILES_PER_WORKER * workers}
