"""Probes end within their time limit, and report the facts that they sent before a hang or crash."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bike_cli.tasks.doctor.checks import check_av, check_decord, check_device, check_torch
from bike_cli.tasks.doctor.probe_runner import ProbeResult, probing

LIMIT_S = 60.0  # on a busy machine
Fake = Callable[[str, str], Path]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a module of this name and source before the real one."""

    def put(name: str, source: str) -> Path:
        (tmp_path / "modules" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "modules" / name / "__init__.py").write_text(source)
        return tmp_path / "modules"

    monkeypatch.syspath_prepend(tmp_path / "modules")
    return put


def probed(name: str, *, limit_s: float = LIMIT_S, **keywords: object) -> ProbeResult:
    with probing() as prober:
        return prober.start(name, limit_s=limit_s, **keywords).result(timeout=LIMIT_S + 10)


def test_facts_of_a_sound_library_are_reported() -> None:
    import av

    result = probed("av")

    assert (result.error, result.facts["version"]) == (None, av.__version__)
    check = check_av(result)
    assert check.state == "ok"
    assert f"PyAV {av.__version__}" in check.message


@pytest.mark.parametrize(
    ("source", "error_type", "message"),
    [
        ("raise ImportError('boom')", "ImportError", "boom"),
        ("raise OSError('libav.so.1: cannot open shared object file')", "OSError", "libav.so.1"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError", "two"),
        ("raise AttributeError", "AttributeError", "AttributeError"),
        ("import not_a_module", "ModuleNotFoundError", "not_a_module"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", None, "crashed (SIGSEGV)"),
        ("import os; os._exit(3)", None, "ended with exit code 3"),
        ("raise SystemExit(3)", None, "ended with exit code 3"),
    ],
)
def test_a_broken_library_is_a_problem_with_a_fix(
    fake: Fake, source: str, error_type: str | None, message: str
) -> None:
    fake("av", source)

    result = probed("av")

    assert result.error_type == error_type
    assert message in (result.error or "")
    check = check_av(result)
    assert check.state == "problem"
    assert message in check.message
    assert "pip install" in (check.fix or "")


def test_what_a_library_prints_is_not_taken_for_facts(fake: Fake) -> None:
    fake("PIL", "import os; print('{\"pillow\": \"printed\"}', flush=True); raise ImportError('no picture')")

    result = probed("images")

    assert (result.facts, result.error) == ({}, "no picture")


def test_a_crash_after_the_last_fact_changes_nothing(fake: Fake) -> None:
    fake("numpy", "import atexit, os; atexit.register(os.kill, os.getpid(), 11); __version__ = '1'")
    fake("PIL", "from PIL import Image; __version__ = '2'")
    (Path(sys.path[0]) / "PIL" / "Image.py").touch()

    result = probed("images")

    assert (result.facts, result.error) == ({"numpy": "1", "pillow": "2"}, None)


def test_a_crash_of_decord_is_a_warning(fake: Fake) -> None:
    fake("decord", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")

    check = check_decord(probed("decord"))

    assert (check.state, "SIGSEGV" in check.message) == ("warning", True)
    assert check.fix is not None


def test_a_library_that_hangs_is_cut_off(fake: Fake) -> None:
    fake("av", "import time; time.sleep(1000)")
    start_s = time.monotonic()

    result = probed("av", limit_s=2)

    assert time.monotonic() - start_s < 20
    assert result.error == "did not answer within 2 s"


@pytest.mark.slow
def test_a_hang_takes_its_child_processes_along(fake: Fake, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    source = f"""
import pathlib, subprocess, time
child = subprocess.Popen(["sleep", "1000"])
pathlib.Path({str(pid_file)!r}).write_text(str(child.pid))
time.sleep(1000)
"""
    fake("av", source)

    assert probed("av", limit_s=10).error == "did not answer within 10 s"
    assert not _is_running(int(pid_file.read_text()))


def test_probes_are_killed_at_the_end(fake: Fake, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    write = f"pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()))"
    fake("av", f"import os, pathlib, time; {write}; time.sleep(1000)")
    with probing() as prober:
        prober.start("av", limit_s=LIMIT_S)
        while not pid_file.exists() or not pid_file.read_text():
            time.sleep(0.05)

    assert not _is_running(int(pid_file.read_text()))


def _is_running(pid: int) -> bool:
    end_s = time.monotonic() + 10
    while time.monotonic() < end_s:
        try:
            if Path(f"/proc/{pid}/stat").read_text().split(") ")[1].startswith("Z"):
                return False
            os.kill(pid, 0)
        except OSError:
            return False
        time.sleep(0.05)
    return True


# -- a GPU driver that hangs ------------------------------------------------------------------------------------------

FAKE_TORCH = """
import time
from types import SimpleNamespace
__version__ = "9.9"
version = SimpleNamespace(cuda="13.0", hip=None)
backends = SimpleNamespace(cpu=SimpleNamespace(get_cpu_capability=lambda: "AVX2"))
def get_num_threads(): return 4
def __getattr__(name):
    {ending}
"""


@pytest.mark.parametrize(
    "ending", [pytest.param("time.sleep(1000)", marks=pytest.mark.slow), "import os; os.kill(os.getpid(), 11)"]
)
def test_a_driver_that_hangs_or_crashes_does_not_hide_torch(fake: Fake, ending: str) -> None:
    fake("torch", FAKE_TORCH.format(ending=ending))

    result = probed("torch", limit_s=10)

    torch, device = check_torch(result), check_device(result)
    assert (torch.state, torch.message) == ("ok", "9.9 (CUDA 13.0), 4 threads, CPU AVX2")
    assert device.state == "problem"
    assert "did not answer within 10 s" in device.message or "crashed (SIGSEGV)" in device.message
    assert "CUDA_VISIBLE_DEVICES=-1" in (device.fix or "")
