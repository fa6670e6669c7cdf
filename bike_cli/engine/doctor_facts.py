"""What `bike doctor` reports about torch, its devices, models, the model hub and the cache.

Each function imports the library it describes, so that one broken library does not hide the others.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from pathlib import Path

from bike_cli.time_limits import call_with_timeout

NETWORK_FILE_SYSTEMS = frozenset(
    (
        *("nfs", "nfs3", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "afs", "ncpfs", "davfs", "webdav"),
        *("ceph", "lustre", "gpfs", "beegfs", "glusterfs", "orangefs", "pvfs2", "panfs"),
        *("9p", "virtiofs", "vboxsf", "drvfs", "prl_fs"),  # a folder of the host, in a virtual machine
    )
)
NETWORK_FUSE = ("fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.juicefs", "fuse.ceph")
MOUNTS = Path("/proc/self/mountinfo")


# -- torch and devices -------------------------------------------------------------------------------------------------


def describe_torch() -> dict[str, object]:
    """Return the version and build of torch, and the processor features that it uses; no device is touched.

    Raises:
        ImportError, OSError: torch, or a library that it needs, is missing or broken.
    """
    import torch

    return {
        "version": torch.__version__,
        "cuda_build": torch.version.cuda,
        "hip_build": getattr(torch.version, "hip", None),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def describe_devices() -> dict[str, object]:
    """Return the device and precision that `auto` chooses and why, and every GPU; each is tried with a small product.

    If a driver hangs, so does this.

    Raises:
        ImportError: torch is broken.
    """
    import torch

    from bike_cli.engine.towers.placement import place, why_no_gpu

    placement = place("auto", "auto")
    device = placement.device.type
    has_cuda = torch.cuda.is_available()
    return {
        "device": str(placement.device),
        "precision": str(placement.dtype).removeprefix("torch."),
        "reason": why_no_gpu() if device == "cpu" else "the first GPU that torch can use",
        "cudnn": torch.backends.cudnn.version() if has_cuda else None,  # type: ignore[no-untyped-call]
        "mps": torch.backends.mps.is_available(),
        "gpus": [_describe_gpu(i) for i in range(torch.cuda.device_count())] if has_cuda else [],
        "error": None if device == "cpu" else _try_device(str(placement.device)),
        "has_nvidia_gpu": any(Path(path).exists() for path in ("/dev/nvidia0", "/proc/driver/nvidia/version")),
    }


def _describe_gpu(index: int) -> dict[str, object]:
    import torch

    properties = torch.cuda.get_device_properties(index)
    error = _try_device(f"cuda:{index}")
    free = None if error else torch.cuda.mem_get_info(index)[0]
    return {
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "free_bytes": free,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "error": error,
    }


def _try_device(device: str) -> str | None:
    """Return why a device cannot compute; None: it can."""
    import torch

    from bike_cli.engine.towers.placement import first_sentence

    try:
        ones = torch.ones(8, 8, device=device)
        return None if float((ones @ ones).sum()) == 512 else "gives wrong results"
    except RuntimeError as e:  # no kernel for this GPU, out of memory, a device that fell off the bus
        return first_sentence(str(e))


# -- models and the hub ------------------------------------------------------------------------------------------------


def describe_models() -> dict[str, object]:
    """Return the version of open_clip, the folder of downloaded models, and which models are on this disk.

    Raises:
        ImportError, OSError, RuntimeError: open_clip or one of its libraries is missing or broken.
    """
    import huggingface_hub
    import open_clip

    from bike_cli.engine.models.catalogue import bundled_folder
    from bike_cli.engine.models.listing import known_models

    on_disk = {model.name: model.bytes_on_disk for model in known_models() if model.bytes_on_disk is not None}
    return {
        "version": open_clip.__version__,
        "huggingface_hub": huggingface_hub.__version__,
        "hub_cache": huggingface_hub.constants.HF_HUB_CACHE,
        "bundled_model": bundled_folder() is not None,
        "on_disk": on_disk,
    }


def describe_hub(timeout_s: float) -> dict[str, object]:
    """Return whether the model hub answers within `timeout_s` seconds, even if name resolution, proxy or server hang.

    Raises:
        ImportError: huggingface_hub is broken. Whatever its HTTP client raises where the hub cannot be reached.
    """
    import huggingface_hub
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    endpoint = huggingface_hub.constants.ENDPOINT

    def ask() -> int | None:
        return int(get_session().head(endpoint, timeout=timeout_s).status_code)

    start_s = time.perf_counter()
    status = call_with_timeout(timeout_s, ask, default=None)  # the resolver of the system has no time limit of its own
    seconds = timeout_s if status is None else round(time.perf_counter() - start_s, 3)
    return {"endpoint": endpoint, "status": status, "seconds": seconds}


# -- the cache ---------------------------------------------------------------------------------------------------------


def describe_cache(folder: str | None) -> dict[str, object]:
    """Return where the cache is, what it holds, and whether it can be written; nothing is created.

    Args:
        folder: from the configuration; None: the default folder.
    Raises:
        StoreError: it is damaged or not a store of bike, or the user has no home folder.
    """
    from bike_cli.engine.store.file import bytes_on_disk, origin, store_file
    from bike_cli.engine.store.store import Store

    file = store_file(Path(folder) if folder else None)
    videos = 0
    if origin(file) != "none":
        with Store.open(file.parent) as store:
            videos = store.info().videos
    existing = next(path for path in (file.parent, *file.parent.absolute().parents) if path.exists())
    return {
        "folder": str(file.parent),
        "bytes": bytes_on_disk(file),
        "videos": videos,
        "error": _why_not_writable(existing, may_create=existing == file.parent),
        "free_bytes": shutil.disk_usage(existing).free,
        "file_system": file_system_of(existing),
        "is_network": is_network(file_system_of(existing)),
    }


def describe_temporary_folder() -> dict[str, object]:
    """Return the folder for temporary files.

    Raises:
        FileNotFoundError: no folder can be written.
    """
    folder = tempfile.gettempdir()
    error = _why_not_writable(Path(folder), may_create=True)
    return {"folder": folder, "free_bytes": shutil.disk_usage(folder).free, "error": error}


def _why_not_writable(folder: Path, *, may_create: bool) -> str | None:
    """Return why nothing can be written in a folder; None: something can.

    Args:
        may_create: try it with a temporary file; otherwise only permissions are read.
    """
    if not folder.is_dir():
        return f"{folder} is not a folder"
    if not may_create:
        return None if os.access(folder, os.W_OK) else "permission denied"
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"bike")
    except OSError as e:
        return e.strerror or str(e)
    return None


def file_system_of(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """Return the type of the file system that a folder is on, such as `ext4`; None where the system does not say."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    path, found, longest = folder.resolve(), None, -1
    for line in lines:
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:
            continue
        # A space in a path is written as \040.
        mount_point = Path(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), fields[4]))
        # Of several mounts on one folder the last one is visible.
        if (path == mount_point or mount_point in path.parents) and len(mount_point.parts) >= longest:
            found, longest = after.split(" ")[0], len(mount_point.parts)
    return found


def is_network(file_system: str | None) -> bool:
    """Return whether a file system is on another machine, where SQLite's locks are unreliable."""
    return file_system is not None and (file_system in NETWORK_FILE_SYSTEMS or file_system.startswith(NETWORK_FUSE))
