"""Connect to Ray, quietly, and disconnect from it."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from bike_cli.errors import UsageError, first_line
from bike_cli.time_limits import call_interruptibly

LOCAL, AUTO = "local", "auto"
REACH_S = 10.0  # to connect to an address
ANSWER_S = 30.0  # for an idle actor to say that it runs
STDERR = 2
# RFC 9113: a client sends this preface and its settings, here none; a server answers with a frame of its settings.
HTTP2_START = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
FRAME_HEADER_BYTES, SETTINGS_FRAME = 9, 4
STORE_BYTES = 2**28  # of the object store on this machine; it holds names, records, and what actors are started with

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClusterOptions:
    """Which cluster to use, and how much of it.

    Args:
        address: `local` starts Ray here, `auto` is the cluster that this machine belongs to; or HOST:PORT.
        actors: number of actors; None: as many as the machines have room for.
        cpus: cores of each actor; None: see `layout.layout_of`.
    """

    address: str
    actors: int | None = None
    cpus: int | None = None

    def check(self) -> None:
        """Raise UsageError if Ray is not installed, or is to be used in a way that bike does not support."""
        if self.address.startswith("ray://"):
            raise UsageError(
                f"--ray {self.address}: is an address of Ray Client, and the run would end with the connection; run "
                "bike in the cluster: ray job submit -- bike … --ray auto"
            )
        if self.address not in (LOCAL, AUTO) and re.fullmatch(r"[^/\s]+:\d{1,5}", self.address) is None:
            raise UsageError(f"--ray {self.address}: is not an address; give HOST:PORT, such as 10.0.0.1:6379, or auto")
        for name, value in (("--ray-actors", self.actors), ("--ray-cpus", self.cpus)):
            if value is not None and value < 1:
                raise UsageError(f"{name} {value}: must be at least 1; give auto or a whole number")
        spec = importlib.util.find_spec("ray")
        # A folder named `ray` in the working folder, such as Ray's own /tmp/ray, can be imported, but has no file.
        if spec is None or spec.origin is None:
            raise UsageError("--ray: needs Ray, which is not installed; pip install 'bike-cli[ray]'")


@contextmanager
def connected(options: ClusterOptions) -> Iterator[None]:
    """Connect to Ray, or start it, and disconnect at the end. Ray prints nothing unless bike logs details.

    Raises:
        UsageError: there is no cluster at the address, or it refuses the connection.
    """
    is_local, is_verbose = options.address == LOCAL, logger.isEnabledFor(logging.INFO)
    # Errors of the cluster are printed even without `log_to_driver`. Ray reads this when it is imported.
    variables = {} if is_verbose else {"RAY_DEDUP_LOGS_SKIP_REGEX": ".*"}
    with (
        _environment(variables | (_variables_of_local_cluster() if is_local else {})),
        _session_folder_removed(is_wanted=is_local and not is_verbose),  # else its logs may be of interest
    ):
        call_interruptibly(_import_ray)
        import ray

        logging.getLogger("ray").setLevel(logging.INFO if is_verbose else logging.ERROR)
        try:
            with _stderr_closed_to_libraries(is_wanted=not is_verbose), _signal_handlers_kept():
                _check_reachable(options.address)
                ray.init(
                    address=options.address,
                    include_dashboard=False if is_local else None,
                    object_store_memory=STORE_BYTES if is_local else None,
                    log_to_driver=is_verbose,
                    logging_level=logging.INFO if is_verbose else logging.ERROR,
                )
        except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as e:
            _disconnect()
            raise UsageError(_no_connection(options.address, e)) from e
        except (KeyboardInterrupt, SystemExit) as e:  # while Ray starts, it exits by itself after SIGTERM
            _disconnect()
            raise KeyboardInterrupt from e
        try:
            yield
        finally:
            _disconnect()


@contextmanager
def _stderr_closed_to_libraries(*, is_wanted: bool) -> Iterator[None]:
    """Discard what is written to descriptor 2: while Ray connects, its C++ code logs there at any log level."""
    try:
        saved = os.dup(STDERR) if is_wanted else None
    except OSError:  # it is closed
        saved = None
    if saved is None:
        yield
        return
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, STDERR)
        os.close(null)
        yield
    finally:
        os.dup2(saved, STDERR)
        os.close(saved)


@contextmanager
def _session_folder_removed(*, is_wanted: bool) -> Iterator[None]:
    """Remove the folder of the cluster that this process starts, at the end, also if the start was interrupted."""
    before = _session_folders() if is_wanted else set()
    try:
        yield
    finally:
        if is_wanted:
            for folder in _session_folders() - before:
                shutil.rmtree(folder, ignore_errors=True)


def _session_folders() -> set[Path]:
    """Return the folders of the clusters that this process has started; Ray names them after it."""
    tops = {os.environ.get("RAY_TMPDIR"), os.environ.get("TMPDIR"), "/tmp", tempfile.gettempdir()}
    return {folder for top in tops if top for folder in Path(top, "ray").glob(f"session_*_{os.getpid()}")}


def _import_ray() -> None:
    import ray  # noqa: F401


def _check_reachable(address: str) -> None:
    """Raise OSError if nothing answers at an address: Ray would try for many minutes."""
    import ray

    if address == LOCAL:
        return
    if address == AUTO:
        # It raises ConnectionError if this machine belongs to no cluster. A cluster that is gone may still be noted.
        find = getattr(ray._private.services, "canonicalize_bootstrap_address", None)
        address = "" if find is None else find(AUTO) or ""
    host, _, port = address.rpartition(":")
    if port.isdecimal():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "0":
                _check_grpc(connection)


def _check_grpc(connection: socket.socket) -> None:
    """Raise OSError unless a gRPC server answers, as Ray's does: Ray waits for anything else without end."""
    connection.sendall(HTTP2_START)
    header = b""
    while len(header) < FRAME_HEADER_BYTES:
        received = connection.recv(FRAME_HEADER_BYTES - len(header))
        if not received:
            raise ConnectionError("what answers there is not Ray")
        header += received
    if header[3] != SETTINGS_FRAME:
        raise ConnectionError("what answers there is not Ray")


def _disconnect() -> None:
    """Disconnect from the cluster, and end it if this process started it."""
    import ray

    started = _processes_of_ray()
    # Ray waits a second for its autoscaler, which ignores the request to end.
    node = getattr(ray._private.worker, "_global_node", None)
    kill_monitor = getattr(node, "kill_monitor", None)
    if kill_monitor is not None and getattr(node, "ray_init_cluster", False):
        kill_monitor(check_alive=False)
    ray.shutdown()
    # While Ray starts, its agents do not notice that they are no longer needed.
    for pid in _processes_of_ray(started):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _processes_of_ray(among: Collection[int] | None = None) -> set[int]:
    """Return the processes of Ray that this process started, and those that they started; none where /proc is missing.

    Args:
        among: processes that may have lost their parents; None: look for all.
    """
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            command = (entry / "cmdline").read_bytes()
            # Workers of bike have the word in their command, too, if it is part of the path of Python.
            if b"ray" in command and b"multiprocessing" not in command:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
    if among is not None:
        return parents.keys() & among
    found, latest = set[int](), {os.getpid()}
    while latest:
        latest = {pid for pid, parent in parents.items() if parent in latest}
        found |= latest
    return found


def _no_connection(address: str, error: BaseException) -> str:
    if address == LOCAL:
        return f"--ray local: Ray cannot be started ({first_line(error)}); check it with ray start --head"
    named = os.environ.get("RAY_ADDRESS", "")
    if address == AUTO and named:
        problem = f"the cluster at {named}, which RAY_ADDRESS names, cannot be connected to ({first_line(error)})"
        return f"--ray auto: {problem}; check the variable, or unset it to find the cluster of this machine"
    if address == AUTO and isinstance(error, ConnectionError):
        return (
            "--ray auto: this machine belongs to no running cluster; run bike on a node of one, give the address of "
            "one, or start Ray for this run with --ray local"
        )
    return (
        f"--ray {address}: cannot be connected to ({first_line(error)}); check the address, that Ray and Python have "
        "the same versions as in the cluster, and, if the cluster asks for a token, that RAY_AUTH_MODE=token is set"
    )


def _variables_of_local_cluster() -> dict[str, str]:
    """Return what the processes of a cluster on this machine need to know."""
    variables = {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),  # so that actors import the same bike
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the future behaviour, which Ray otherwise announces in a warning
    }
    if os.environ.get("RAY_AUTH_MODE", "token") == "token" and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        # Ray protects the cluster with a token, and would write one to the home folder.
        variables["RAY_AUTH_TOKEN"] = os.environ.get("RAY_AUTH_TOKEN") or _token()
    return variables


@functools.cache  # Ray reads it once
def _token() -> str:
    return secrets.token_hex(32)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Restore the signal handlers that `ray.init` replaces.

    Raises:
        KeyboardInterrupt: at the end, if one was lost meanwhile: Python ignores what callbacks of a fork raise.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interrupt, was_interrupted = before[signal.SIGINT], False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal was_interrupted
        was_interrupted = True
        assert callable(interrupt)
        interrupt(number, frame)

    if callable(interrupt):
        signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if was_interrupted:
        raise KeyboardInterrupt


def kill(actor: object) -> None:
    """End an actor at once, whatever it does."""
    import ray

    with suppress(ray.exceptions.RayError, ValueError):  # it is gone, or so is the cluster
        ray.kill(actor)


def is_alive(actor: Any) -> bool:  # noqa: ANN401 - a handle of Ray
    """Return whether an idle actor still runs."""
    import ray

    try:
        ray.get(actor.__ray_ready__.remote(), timeout=ANSWER_S)
    except ray.exceptions.RayError as e:
        logger.info("an idle actor ended: %s", e)
        return False
    return True
