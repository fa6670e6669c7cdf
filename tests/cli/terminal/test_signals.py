"""Ctrl-C and imports: bike_cli.cli.terminal.signals."""

from __future__ import annotations

import importlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bike_cli.cli.terminal.signals import handling, interrupt_after_imports

INTERRUPTED = """
import signal
signal.raise_signal(signal.SIGINT)
try:
    import bike_test_inner
except BaseException as e:
    raise ImportError("as NumPy's extension modules do") from e
is_done = True
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder on the path of imports; its modules are forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("bike_test_")]:
        del sys.modules[name]


def test_an_interrupt_waits_for_the_outermost_import(modules: Path) -> None:
    (modules / "bike_test_inner.py").write_text(
        "import signal, time\nsignal.raise_signal(signal.SIGINT)\ntime.sleep(0.1)\n"
    )
    (modules / "bike_test_outer.py").write_text(INTERRUPTED)

    def import_and_wait() -> None:
        importlib.import_module("bike_test_outer")
        time.sleep(10)

    with handling([signal.SIGINT], interrupt_after_imports()), pytest.raises(KeyboardInterrupt):
        import_and_wait()

    assert sys.modules["bike_test_outer"].is_done


def test_an_interrupt_outside_of_imports_is_raised_at_once() -> None:
    with handling([signal.SIGINT], interrupt_after_imports()), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_program_that_an_import_runs_can_be_interrupted(modules: Path) -> None:
    (modules / "bike_test_program.py").write_text(
        "import signal\n"
        "from bike_cli.cli.terminal.signals import handling, interrupt_after_imports\n"
        "with handling([signal.SIGINT], interrupt_after_imports()):\n"
        "    signal.raise_signal(signal.SIGINT)\n"
    )

    with pytest.raises(KeyboardInterrupt):
        importlib.import_module("bike_test_program")
