"""Programs on two processes, as a launcher starts them."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def on_two(program: str, *arguments: object) -> str:
    """Run a program in this folder on two processes; return their stderr."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    path = os.pathsep.join([str(HERE), str(HERE.parents[1] / "support"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*launcher, str(HERE / program), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr
