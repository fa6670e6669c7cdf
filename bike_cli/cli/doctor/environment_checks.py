"""The checks of `bike doctor` that only look at this process: Python, packages, memory, variables, streams."""

from __future__ import annotations

import locale
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

import bike_cli
from bike_cli.cli.terminal.console import stderr
from bike_cli.cli.terminal.secrets import is_token, mask_address
from bike_cli.config import ClassifyConfig
from bike_cli.settings import unknown_variables
from bike_cli.tasks.doctor.checks import Check, size
from bike_cli.wording import count

DISTRIBUTION = "bike-cli"
PACKAGES = ("torchvision", "safetensors", "tokenizers", "pebble", "pyyaml", "typer", "rich")
OPTIONAL = ("decord",)  # bike works without it, and another check reports whether it is installed
LITTLE_MEMORY = 2 * 10**9  # bytes: torch and two decode workers take about half of it

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
NETWORK = (
    *OFFLINE,
    *("HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_DISABLE_XET", "HF_TOKEN"),
    *("HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"),
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *PROXIES,
)
ADDRESSES = ("HF_ENDPOINT", *PROXIES)
TRUE = {"1", "ON", "YES", "TRUE"}  # as huggingface_hub reads its variables


def why_offline(config: ClassifyConfig, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return why the model hub must not be contacted; None if it may."""
    name = next((name for name in OFFLINE if environment.get(name, "").upper() in TRUE), None)
    if name is not None:
        return f"{name} is set"
    if config.engine.offline:
        return "BIKE_OFFLINE is set" if environment.get("BIKE_OFFLINE") else "--offline was given"
    return None


def check_bike() -> Check:
    """Report the version of bike and where it is installed."""
    folder = str(Path(bike_cli.__file__).parent)
    details = {"version": bike_cli.__version__, "folder": folder}
    return Check("bike", "ok", f"{bike_cli.__version__} in {folder}", details=details)


def check_python() -> Check:
    """Report the version of Python and the system."""
    details: dict[str, object] = {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "machine": platform.machine(),
    }
    message = f"{details['implementation']} {details['version']}, {details['platform']}"
    if sys.maxsize < 2**32:
        return Check("python", "problem", f"{message}, 32 bits", "install a 64-bit Python, which torch needs", details)
    return Check("python", "ok", message, details=details)


def check_packages() -> Check:
    """Check that the installed packages meet the requirements of bike."""
    versions = {name: _version(name) for name in PACKAGES}
    shown = ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items())
    wrong = list(_unmet_requirements())
    if wrong:
        fix = "install what bike needs: python -m pip install --upgrade bike-cli"
        return Check("packages", "warning", "; ".join([shown, *wrong]), fix, {**versions, "unmet": wrong})
    return Check("packages", "ok", shown, details={**versions, "unmet": []})


def _unmet_requirements() -> Iterator[str]:
    try:
        from packaging.requirements import Requirement
    except ImportError:  # a dependency of huggingface_hub, which may be broken
        return
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:  # run from a checkout
        return
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _version(requirement.name)
        if version is None and requirement.name not in OPTIONAL:
            yield f"{requirement.name} is not installed"
        elif version is not None and not requirement.specifier.contains(version, prereleases=True):
            yield f"{requirement.name} {version} is installed, bike needs {requirement.specifier}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_memory() -> Check:
    """Check how much memory is available."""
    total, available = _memory()
    limit = _memory_limit()
    details = {"total_bytes": total, "available_bytes": available, "limit_bytes": limit}
    message = f"{size(available)} of {size(total)} available"
    if limit is not None and (total is None or limit < total):
        message += f", limited to {size(limit)} (cgroup)"
    least = min((bytes_ for bytes_ in (available, limit) if bytes_ is not None), default=None)
    if least is not None and least < LITTLE_MEMORY:
        fix = "close other programs, or give --workers 1 and a small model"
        return Check("memory", "warning", message, fix, details)
    return Check("memory", "ok", message, details=details)


def _memory(meminfo: Path = Path("/proc/meminfo")) -> tuple[int | None, int | None]:
    """Return the total and the available memory in bytes; None if unknown."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        return tuple(int(lines[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))  # type: ignore[return-value]
    except (OSError, KeyError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), None
    except (AttributeError, ValueError, OSError):  # Windows
        return None, None


def _memory_limit() -> int | None:
    """Return the memory limit of the container in bytes; None without a limit."""
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = int(Path(file).read_text())
        except (OSError, ValueError):  # "max"
            continue
        return limit if limit < 2**60 else None  # version 1 writes a huge number for no limit
    return None


def check_network_variables(environment: Mapping[str, str] = os.environ) -> Check:
    """Report the variables that affect downloads, without secret values."""
    given = {name: value for name, value in environment.items() if name.upper() in NETWORK and value}
    shown = {name: _shown(name, value) for name, value in sorted(given.items())}
    message = ", ".join(f"{name}={value}" for name, value in shown.items()) or "none set"
    return Check("network_variables", "ok", message, details=shown)


def _shown(name: str, value: str) -> str:
    if is_token(name):
        return "(set, not shown)"
    return mask_address(value) if name.upper() in ADDRESSES else value


def check_settings(error: str | None, environment: Mapping[str, str] = os.environ) -> Check:
    """Check the BIKE_* variables.

    Args:
        error: why the current settings are invalid; None if they are valid.
    """
    given = {name: value for name, value in sorted(environment.items()) if name.startswith("BIKE_")}
    shown = {name: "(set, not shown)" if is_token(name) else value for name, value in given.items()}
    message = ", ".join(f"{name}={value}" for name, value in shown.items()) or "no BIKE_* variable is set"
    if error is not None:
        return Check("settings", "problem", f"{message}: {error}", "change or unset the variable", shown)
    unknown = unknown_variables(environment)
    if unknown:
        advice = ", ".join(f"{name} (nearest: {other})" for name, other in unknown.items())
        fix = f"bike ignores {advice}; correct or unset it"
        return Check("settings", "warning", message, fix, {**shown})
    return Check("settings", "ok", message, details=shown)


def check_encoding() -> Check:
    """Check that all file names and labels can be read and printed."""
    # While progress is shown, rich replaces stdout by a proxy that does not know the encoding.
    stream = getattr(sys.stdout, "rich_proxied_file", sys.stdout)
    stdout = None if stream is None else stream.encoding
    names = sys.getfilesystemencoding()
    language = os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG")
    details = {"stdout": stdout, "file_names": names, "locale": language, "preferred": locale.getpreferredencoding()}
    message = f"stdout {stdout}, file names {names}, locale {language or 'not set'}"
    if names.lower().replace("-", "") != "utf8":
        fix = "set PYTHONUTF8=1 or a UTF-8 locale, such as LANG=C.UTF-8"
        return Check("encoding", "warning", f"{message}: names with other characters may fail", fix, details)
    return Check("encoding", "ok", message, details=details)


def check_terminal() -> Check:
    """Report what stdin, stdout and stderr are, and the width and colours of the terminal."""
    streams = {"stdin": sys.stdin, "stdout": sys.stdout, "stderr": sys.stderr}
    kinds = {
        name: "closed" if stream is None else "terminal" if _is_terminal(stream) else "file or pipe"
        for name, stream in streams.items()
    }
    console = stderr()
    variables = {
        name: os.environ[name] for name in ("TERM", "COLUMNS", "NO_COLOR", "FORCE_COLOR") if name in os.environ
    }
    details = {**kinds, "columns": console.width, "colors": console.color_system, "variables": variables}
    parts = [f"{name} {kind}" for name, kind in kinds.items()]
    parts += [count(console.width, "column"), *(f"{name}={value}" for name, value in variables.items())]
    return Check("terminal", "ok", ", ".join(parts), details=details)


def _is_terminal(stream: object) -> bool:
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except ValueError:  # closed
        return False
