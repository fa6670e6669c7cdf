"""The checks of `bike doctor` for libraries, devices, files and the network.

Each check evaluates the facts of a probe. A `problem` prevents bike from working; a `warning` limits it. Both come with
a fix.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Literal

from rich.filesize import decimal

from bike_cli.config import ClassifyConfig
from bike_cli.settings import flatten
from bike_cli.tasks.doctor.probe_process import Facts
from bike_cli.tasks.doctor.probe_runner import Prober, ProbeResult, probing
from bike_cli.video.doctor_facts import decord_package
from bike_cli.wording import count, percent

State = Literal["ok", "warning", "problem"]

HUB_LIMIT_S = 3.0
START_S = 20.0  # time to start a process and import a small library on a busy machine
# Importing torch from a cold disk can take more than ten seconds.
LIMITS_S = {"torch": 60.0, "hub": START_S + HUB_LIMIT_S, "self_test": 120.0}
LITTLE_SPACE = 10**9  # bytes
# The configured settings that the self-test uses.
SELF_TEST_SETTINGS = ("device", "precision", "decoder", "workers", "decode_timeout", "decode_memory")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str  # key in the JSON report, which never changes
    state: State
    message: str  # the result in one line
    fix: str | None = None  # advice for a warning or a problem
    details: Facts = field(default_factory=dict)  # the underlying facts, for the JSON report


def diagnose(config: ClassifyConfig, *, why_offline: str | None) -> Iterator[Check]:
    """Yield the checks in order, each as soon as it is done; this process imports no library.

    Args:
        why_offline: why the model hub must not be contacted; None: it may.
    """
    with probing() as prober:
        results = _start_probes(prober, config, is_offline=why_offline is not None)
        torch = _result_of(results, "torch")
        yield check_torch(torch)
        yield check_av(_result_of(results, "av"))
        yield check_decord(_result_of(results, "decord") if "decord" in results else None)
        yield check_images(_result_of(results, "images"))
        yield check_device(torch)
        yield check_workers(_result_of(results, "workers"))
        yield check_cache(_result_of(results, "cache"))
        yield check_temporary_folder(_result_of(results, "temporary_folder"))
        yield check_hub(_result_of(results, "hub") if "hub" in results else None, why_offline)
        # Alone, so that its time is meaningful.
        settings = {name: value for name, value in flatten(config).items() if name in SELF_TEST_SETTINGS}
        results["self_test"] = prober.start("self_test", limit_s=LIMITS_S["self_test"], settings=settings)
        self_test = _result_of(results, "self_test")
        yield check_open_clip(self_test)
        yield check_models(self_test)
        yield check_self_test(self_test)


def _start_probes(prober: Prober, config: ClassifyConfig, *, is_offline: bool) -> dict[str, Future[ProbeResult]]:
    keywords: dict[str, Facts] = {
        **{"torch": {}, "av": {}, "images": {}, "workers": {"workers": config.decoding.workers}},
        **{"cache": {"folder": config.store.cache_dir}, "temporary_folder": {}},
    }
    if decord_package() is not None:
        keywords["decord"] = {}
    if not is_offline:
        keywords["hub"] = {"timeout_s": HUB_LIMIT_S}
    return {
        name: prober.start(name, limit_s=LIMITS_S.get(name, START_S), **values) for name, values in keywords.items()
    }


def _result_of(results: Mapping[str, Future[ProbeResult]], name: str) -> ProbeResult:
    result = results[name].result()
    logger.info("%s: checked in %.2f s", name, result.seconds)
    return result


# -- libraries ---------------------------------------------------------------------------------------------------------


def check_torch(result: ProbeResult) -> Check:
    """Check that torch can be imported."""
    facts = result.facts
    if "version" not in facts:
        return _broken("torch", "torch", result)
    build = facts["cuda_build"] or facts["hip_build"]
    kind = f"ROCm {build}" if facts["hip_build"] else f"CUDA {build}" if build else "no CUDA"
    message = f"{facts['version']} ({kind}), {count(facts['threads'], 'thread')}, CPU {facts['cpu_capability']}"
    details = {key: facts[key] for key in ("version", "cuda_build", "hip_build", "threads", "cpu_capability")}
    return Check("torch", "ok", message, details=details)


def check_open_clip(result: ProbeResult) -> Check:
    """Check that open_clip, torchvision and huggingface_hub can be imported."""
    if "version" not in result.facts:
        return _broken("open_clip", "open_clip_torch torchvision huggingface-hub", result)
    facts = result.facts
    message = f"{facts['version']}, huggingface_hub {facts['huggingface_hub']}"
    details = {"version": facts["version"], "huggingface_hub": facts["huggingface_hub"]}
    return Check("open_clip", "ok", message, details=details)


def check_av(result: ProbeResult) -> Check:
    """Check that PyAV can be imported, and decodes common codecs."""
    if result.error is not None:
        return _broken("av", "av", result)
    facts = result.facts
    ffmpeg = f"FFmpeg {facts['ffmpeg']}, " if facts["ffmpeg"] else ""
    message = f"PyAV {facts['version']}, {ffmpeg}libavcodec {facts['libraries'].get('libavcodec', 'unknown')}"
    if facts["missing_codecs"]:
        fix = "install PyAV from a wheel: python -m pip install --force-reinstall --only-binary :all: av"
        return Check("av", "warning", f"{message}; cannot decode {', '.join(facts['missing_codecs'])}", fix, facts)
    return Check("av", "ok", message, details=facts)


def check_decord(result: ProbeResult | None) -> Check:
    """Check that decord can be imported; None: it is not installed."""
    if result is None:
        return Check("decord", "ok", "not installed (optional)", details={"version": None})
    if result.error is not None:
        fix = "ignore it, because only --decoder decord needs it, or remove it: python -m pip uninstall decord"
        return replace(_broken("decord", "decord", result), state="warning", fix=fix)
    return Check("decord", "ok", str(result.facts["package"] or result.facts["version"]), details=result.facts)


def check_images(result: ProbeResult) -> Check:
    """Check that NumPy and Pillow can be imported."""
    if result.error is not None:
        return _broken("images", "numpy pillow", result)
    facts = result.facts
    return Check("images", "ok", f"NumPy {facts['numpy']}, Pillow {facts['pillow']}", details=facts)


def _broken(name: str, packages: str, result: ProbeResult) -> Check:
    error = first_line(result.error)
    if result.error_type is None:
        message = f"{error} during the import"
    else:
        message = f"cannot be imported ({result.error_type}: {error})"
    fix = f"reinstall it: python -m pip install --force-reinstall {packages}"
    if "cannot open shared object file" in error or "DLL load failed" in error:
        fix += "; if that does not help, install the system library named in the message"
    return Check(name, "problem", message, fix, {"error": result.error, "error_type": result.error_type})


# -- the machine -------------------------------------------------------------------------------------------------------


def check_device(result: ProbeResult) -> Check:
    """Check on which device models run with `--device auto`."""
    facts = result.facts
    if "version" not in facts:
        return Check("device", "warning", "unknown, because torch does not work", "see torch")
    if "device" not in facts:
        fix = "check the GPU driver (nvidia-smi); CUDA_VISIBLE_DEVICES=-1 makes torch ignore the GPU"
        return Check("device", "problem", f"torch cannot list its devices: {first_line(result.error)}", fix)
    details = {key: value for key, value in facts.items() if key in _DEVICE_KEYS}
    message = f"auto chooses {facts['device']} in {facts['precision']}"
    if facts["error"]:
        fix = "use --device cpu, or install a build of torch for this GPU: https://pytorch.org/get-started/locally"
        return Check("device", "problem", f"{message}, which fails: {facts['error']}", fix, details)
    if facts["gpus"]:
        return _check_gpus(facts["gpus"], message, details)
    message += f": {facts['reason']}" if facts["device"] == "cpu" else ""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if facts["device"] == "cpu" and hidden in ("", "-1"):
        return Check("device", "ok", f"{message} (CUDA_VISIBLE_DEVICES={hidden})", details=details)
    if facts["device"] == "cpu" and facts["has_nvidia_gpu"]:
        if hidden is not None:
            fix = "unset CUDA_VISIBLE_DEVICES, or set it to an existing GPU (nvidia-smi -L)"
            message = f"{message} (CUDA_VISIBLE_DEVICES={hidden})"
            return Check("device", "warning", message, fix, details)
        fix = "update the NVIDIA driver, or install a build of torch for it: https://pytorch.org/get-started/locally"
        return Check("device", "warning", f"{message}; this machine has an NVIDIA GPU", fix, details)
    return Check("device", "ok", message, details=details)


_DEVICE_KEYS = ("device", "precision", "reason", "cudnn", "mps", "gpus", "error", "has_nvidia_gpu")


def _check_gpus(gpus: list[Facts], message: str, details: Facts) -> Check:
    shown = [
        f"cuda:{i} {gpu['name']}, {size(gpu['free_bytes'])} of {size(gpu['memory_bytes'])} free, "
        f"compute capability {gpu['compute_capability']}"
        for i, gpu in enumerate(gpus)
    ]
    message = "; ".join([message, *shown])
    broken = [f"cuda:{i} fails: {gpu['error']}" for i, gpu in enumerate(gpus) if gpu["error"]]
    if broken:
        fix = "do not use these, or install a build of torch for them: https://pytorch.org/get-started/locally"
        return Check("device", "warning", "; ".join([message, *broken]), fix, details)
    return Check("device", "ok", message, details=details)


def check_workers(result: ProbeResult) -> Check:
    """Check the number of decode workers, cores and open files."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    limits = _open_file_limits()
    details: dict[str, object] = {"cores": os.cpu_count(), "usable_cores": affinity, "open_file_limits": limits}
    cores = count(os.cpu_count() or 1, "core") + (f", {affinity} usable" if affinity is not None else "")
    if result.error is not None:
        fix = "see the broken libraries above"
        return Check("workers", "warning", f"{cores}; workers unknown ({first_line(result.error)})", fix, details)
    workers, needed = result.facts["workers"], result.facts["open_files_needed"]
    details |= result.facts
    message = f"{count(workers, 'decode worker')}; {cores}"
    if limits is not None:
        message += f"; open files: {_limit(limits[0])}, at most {_limit(limits[1])}"
        if limits[1] is not None and limits[1] < needed:
            fix = f"raise the limit of open files (ulimit -n {needed}), or use fewer --workers"
            return Check("workers", "problem", f"{message}, but {needed} are needed", fix, details)
    return Check("workers", "ok", message, details=details)


def _open_file_limits() -> tuple[int | None, int | None] | None:
    """Return the soft and the hard limit of open files, None if unlimited; None: unknown."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    return (None if soft == unlimited else soft), (None if hard == unlimited else hard)


def _limit(limit: int | None) -> str:
    return "unlimited" if limit is None else f"{limit:,}"


# -- files -------------------------------------------------------------------------------------------------------------


def check_cache(result: ProbeResult) -> Check:
    """Check that the cache can be used."""
    if result.error is not None:
        error, _, fix = first_line(result.error).partition("; ")
        is_problem = result.error_type == "StoreError"
        fallback = "choose another folder with --cache-dir or BIKE_CACHE_DIR, or use --no-cache"
        message = error if result.error_type is not None else f"the file system of the cache folder {error}"
        return Check("cache", "problem" if is_problem else "warning", message, fix or fallback, {"error": result.error})
    facts = result.facts
    message = f"{facts['folder']}, {size(facts['bytes'])}, {count(facts['videos'], 'video')}"
    message += f", {size(facts['free_bytes'])} free"
    if facts["error"]:
        fix = "choose a writable folder with --cache-dir or BIKE_CACHE_DIR; until then nothing is cached"
        return Check("cache", "warning", f"{message}; cannot be written ({facts['error']})", fix, facts)
    if facts["is_network"]:
        fix = "choose a local folder with BIKE_CACHE_DIR; SQLite's locks are slow and unreliable over a network"
        return Check("cache", "warning", f"{message}; is on a network file system ({facts['file_system']})", fix, facts)
    return _with_space("cache", message, facts)


def check_temporary_folder(result: ProbeResult) -> Check:
    """Check that temporary files can be written."""
    fix = "free some space, or set TMPDIR to a writable folder"
    if result.error is not None or result.facts["error"]:
        reason = first_line(result.error or str(result.facts["error"]))
        folder = f"{result.facts['folder']}: " if "folder" in result.facts else ""
        return Check("temporary_folder", "problem", f"{folder}cannot be written ({reason})", fix, result.facts)
    facts = result.facts
    return _with_space("temporary_folder", f"{facts['folder']}, {size(facts['free_bytes'])} free", facts)


def _with_space(name: str, message: str, facts: Facts) -> Check:
    if facts["free_bytes"] < LITTLE_SPACE:
        return Check(name, "warning", f"{message}: the disk is almost full", "free some space", facts)
    return Check(name, "ok", message, details=facts)


def check_models(result: ProbeResult) -> Check:
    """Check which models are available without a download."""
    if "version" not in result.facts:
        return Check("models", "warning", "unknown, because open_clip does not work", "see open_clip")
    details = {key: result.facts[key] for key in ("bundled_model", "hub_cache", "on_disk")}
    if not result.facts["bundled_model"]:
        fix = "reinstall bike: its bundled model is missing"
        return Check("models", "problem", "the bundled model tiny is missing", fix, details)
    names = ", ".join(name for name in details["on_disk"] if "," not in name)
    return Check("models", "ok", f"available: {names}; downloads go to {details['hub_cache']}", details=details)


# -- the network -------------------------------------------------------------------------------------------------------


def check_hub(result: ProbeResult | None, why_offline: str | None) -> Check:
    """Check that models can be downloaded; None: the hub was not contacted."""
    if result is None:
        return Check("hub", "ok", f"not checked: {why_offline}", details={"reachable": None, "reason": why_offline})
    fix = "check the network, HTTPS_PROXY and HF_ENDPOINT; models on this disk work without it"
    if result.error is not None:
        message = f"cannot be reached ({first_line(result.error)})"
        return Check("hub", "warning", message, fix, {"reachable": False, "error": result.error})
    facts = result.facts
    status, endpoint = facts["status"], facts["endpoint"]
    is_reachable = status is not None and status < 500 and status not in (401, 403, 407)
    details = {"reachable": is_reachable, **facts}
    if status is None:
        return Check("hub", "warning", f"{endpoint}: no answer within {HUB_LIMIT_S:g} s", fix, details)
    if not is_reachable:
        return Check("hub", "warning", f"{endpoint}: answers with HTTP status {status}", fix, details)
    return Check("hub", "ok", f"{endpoint} answers in {facts['seconds']:.1f} s", details=details)


# -- self-test ---------------------------------------------------------------------------------------------------------


_SELF_TEST_KEYS = ("label", "score", "expected", "load_s", "classify_s", "error")


def check_self_test(result: ProbeResult) -> Check:
    """Check that the example clip is decoded and classified correctly."""
    facts = {key: value for key, value in result.facts.items() if key in _SELF_TEST_KEYS}
    fix = "fix the problems above; without any, report this as a bug"
    error = result.error or facts.get("error")
    if error is not None:
        kind = f"{result.error_type}: " if result.error_type is not None else ""
        details = {**facts, "error": error, "error_type": result.error_type}
        return Check("self_test", "problem", f"failed ({kind}{first_line(str(error))})", fix, details)
    seconds = f"{facts['load_s']:.1f} s to load, {facts['classify_s']:.1f} s to classify"
    if facts["label"] != facts["expected"]:
        message = (
            f"the example is a {facts['expected']}, but the answer is {facts['label']} ({percent(facts['score'])})"
        )
        return Check("self_test", "problem", message, fix, facts)
    return Check("self_test", "ok", f"{facts['label']} {percent(facts['score'])}; {seconds}", details=facts)


# -- formatting --------------------------------------------------------------------------------------------------------


def first_line(text: str | None) -> str:
    """Return the first non-empty line of a message."""
    return next((line.strip() for line in (text or "").splitlines() if line.strip()), "no reason given")


def size(number: int | None) -> str:
    """Return a number of bytes for people: `4.2 GB`; None: unknown."""
    return "unknown" if number is None else decimal(number)
