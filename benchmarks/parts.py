"""Check that folders of Parquet files hold a million records: `python -m benchmarks.parts`.

A list names videos that do not exist and one that does, so what is measured is the run itself. The first run is
interrupted after a minute. Then the missing records are written directly, and a second run finds that nothing is left
to do. Each run is a separate process; the kernel reports its resident memory.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bike_cli.data.parts.folder import part_folder
from bike_cli.data.parts.tables import read_found
from bike_cli.data.parts.writer import PartWriter

CLIP = Path(__file__).parents[1] / "examples" / "clips" / "blue_star_spinning.mp4"
MIB = 2**20


class Measured(NamedTuple):
    """A run: its seconds to the first part and to the end, and its resident memory, in bytes, at these times."""

    first_s: float
    total_s: float
    first_bytes: int
    peak_bytes: int


def main() -> None:
    """Print the seconds and the memory of a first and of a second run, for each number of videos."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--counts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="videos in the list"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the first run (default: %(default)s)")
    options = parser.parse_args()
    print("videos     first part  MiB then  peak MiB  second run  µs a video  peak MiB")
    for count in options.counts:
        with tempfile.TemporaryDirectory() as name:
            listed, out = Path(name) / "names.txt", Path(name) / "out"
            with listed.open("w") as file:
                file.writelines(f"{name}\n" for name in names(count))
            first = measure(listed, out, limit_s=options.seconds)
            complete(out, count)
            second = measure(listed, out)
            cells = [f"{first.first_s:8.1f} s", f"{first.first_bytes / MIB:8.0f}", f"{first.peak_bytes / MIB:8.0f}"]
            cells += [f"{second.total_s:8.1f} s", f"{second.total_s / count * 1e6:10.0f}"]
            print(f"{count:<9,}", *cells, f"{second.peak_bytes / MIB:8.0f}", sep="  ")


def names(count: int) -> Iterator[str]:
    """Yield the names of one video that exists, and of others that do not."""
    yield str(CLIP)
    for i in range(count - 1):
        yield f"/videos/{i // 1000:04}/clip_{i:07}.mp4"


def complete(out: Path, count: int) -> None:
    """Write the records that a folder lacks."""
    folder = part_folder(str(out))
    known = {found.path for part in folder.parts() for found in read_found(folder, part)}
    writer = PartWriter(folder, "completed", {}, existing=folder.parts())
    for name in names(count):
        if name not in known:
            error = {"type": "missing", "message": f"{name}: no such file; check the path"}
            writer.write({"path": name, "status": "error", "error": error})
    writer.flush()


def measure(listed: Path, out: Path, *, limit_s: float | None = None) -> Measured:
    """Run bike on a list of names.

    Args:
        limit_s: when it is interrupted; None: never.
    """
    command = [sys.executable, "-m", "bike_cli", "classify", "--files-from", str(listed), "-m", "tiny"]
    start_s, first_s, first_bytes, peak_bytes = time.monotonic(), 0.0, 0, 0
    with subprocess.Popen([*command, "-L", "a blue star,b", "-o", f"{out}/", "-q"]) as process:
        while process.poll() is None:
            resident = resident_bytes(process.pid)
            peak_bytes = max(peak_bytes, resident)
            if not first_s and out.is_dir() and any(out.glob("part-*")):
                first_s, first_bytes = time.monotonic() - start_s, resident
            if limit_s is not None and time.monotonic() - start_s > limit_s:
                process.send_signal(signal.SIGINT)
                process.wait()
            time.sleep(0.05)
    if process.returncode not in (0, 3, 130):
        raise SystemExit(f"bike: ended with exit code {process.returncode}")
    return Measured(first_s, time.monotonic() - start_s, first_bytes, peak_bytes)


def resident_bytes(process: int) -> int:
    """Return the resident memory of a process, without shared memory."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return int(lines.get("RssAnon", "0 kB").split()[0]) * 1024


if __name__ == "__main__":
    main()
