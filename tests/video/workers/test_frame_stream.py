"""Streams from workers have the frames of streams in this process; what a video cannot do, and what is left behind."""

import contextlib
import gc
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path

import av
import numpy as np
import pytest
from barcode_films import numbers_of, write_barcodes
from bin_oracle import streamed
from numpy.typing import NDArray
from scene_films import FILMS
from speed import slow_but

from bike_cli import scratch
from bike_cli.config import DecodingConfig
from bike_cli.errors import WorkerError
from bike_cli.records import Failure, Source
from bike_cli.video.streams.values import FrameBatch, StreamEnd, StreamRequest
from bike_cli.video.workers import shared_memory
from bike_cli.video.workers.frame_stream import Event, FrameStream, split
from bike_cli.video.workers.stream_worker import BATCH_BYTES

DECODING = DecodingConfig()
N = 150  # frames, at 25 per second
EACH = StreamRequest(25)
HOSTILE = Path(__file__).parents[2] / "hostile"
needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux shows processes as files")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Source:
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    return Source.at(write_barcodes(path, "libx264", n_frames=N, gop=30, b_frames=2))


def bins_of(events: Sequence[Event]) -> dict[int, int]:
    """Return the number of the frame in each bin."""
    found: dict[int, int] = {}
    for event in events:
        if isinstance(event, FrameBatch):
            for number, (first, end) in zip(numbers_of(event.frames).tolist(), event.bins.tolist(), strict=True):
                assert not found.keys() & set(range(first, end))
                found |= dict.fromkeys(range(first, end), number)
    return found


ALL = {i: i for i in range(N)}


# -- what comes out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["h264.mp4", "hevc.mkv", "vp9.webm"])
@pytest.mark.parametrize("draft", [False, True])
def test_a_worker_streams_what_this_process_streams(tmp_path: Path, name: str, draft: bool) -> None:
    path = FILMS[name](tmp_path / name)
    here = streamed(path, 7.3, draft=draft)

    with FrameStream(Source.at(path), StreamRequest(7.3, draft), DECODING) as stream:
        *batches, end = stream

    frames = np.concatenate([batch.frames for batch in batches if isinstance(batch, FrameBatch)])
    bins = np.concatenate([batch.bins for batch in batches if isinstance(batch, FrameBatch)])
    assert np.array_equal(frames, np.stack([row.pixels for row in here.rows]))
    assert bins.tolist() == [[row.first_bin, row.end_bin] for row in here.rows]
    assert isinstance(end, StreamEnd)
    assert (end.n_bins, end.end_s, end.duration_s) == (here.end.n_bins, here.end.end_s, here.end.duration_s)
    assert (end.missing.tolist(), end.warning, end.details) == ([], here.end.warning, here.end.details)
    assert end.decode_s > 0


def test_a_batch_has_at_most_64_frames(film: Source) -> None:
    with FrameStream(film, EACH, DECODING) as stream:
        *batches, end = stream

    assert [len(batch.frames) for batch in batches if isinstance(batch, FrameBatch)] == [64, 64, 22]
    assert bins_of(batches) == ALL
    assert isinstance(end, StreamEnd)


def test_a_batch_has_at_most_64_mib(tmp_path: Path) -> None:
    path = write_large(tmp_path / "film.mp4", n_frames=5)

    with FrameStream(Source.at(path), EACH, DECODING) as stream:
        *batches, _ = stream

    sizes = [batch.frames.nbytes for batch in batches if isinstance(batch, FrameBatch)]
    assert [size // (3840 * 2160 * 3) for size in sizes] == [2, 2, 1]
    assert max(sizes) <= BATCH_BYTES == 64 * 2**20


def write_large(path: Path, *, n_frames: int, width: int = 3840, height: int = 2160) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), format="rgb24")
        for i in range(n_frames):
            picture.pts = i
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def test_a_worker_waits_with_two_batches_until_the_first_is_used(film: Source) -> None:
    with FrameStream(film, EACH, DECODING) as stream:
        first = next(stream)
        time.sleep(1)  # more than the whole film takes

        waiting = []
        while stream._worker.link.poll(0.2):
            waiting.append(stream._take_event())
        rest = list(stream)

    assert [type(event) for event in waiting] == [FrameBatch]
    assert bins_of([first, *waiting, *rest]) == ALL


@pytest.mark.slow  # over a second of a core
def test_batches_stay_valid_after_the_stream(film: Source) -> None:
    with FrameStream(film, EACH, DECODING) as stream:
        batches = list(stream)
    del stream
    gc.collect()

    assert bins_of(batches) == ALL


@needs_proc
def test_memory_is_used_again_once_nothing_refers_to_its_frames(film: Source) -> None:
    with FrameStream(film, EACH, DECODING) as stream:
        batch = next(stream)
        assert isinstance(batch, FrameBatch)
        kept = batch.frames[3:5, ::2]  # a view
        expected = kept.copy()
        del batch
        after_first = open_files()
        rest = bins_of([event for event in stream if isinstance(event, FrameBatch)])

        assert np.array_equal(kept, expected)
        assert open_files() <= after_first + 1  # in place of the one that is kept
    assert rest == {i: i for i in range(64, N)}


def test_a_stream_begins_and_ends_where_it_is_told(film: Source) -> None:
    with FrameStream(film, StreamRequest(25, first_bin=40, end_bin=90), DECODING) as stream:
        *batches, end = stream

    assert bins_of(batches) == {i: i for i in range(40, 90)}
    assert isinstance(end, StreamEnd)
    assert (end.n_bins, end.end_s, end.missing.tolist()) == (90, 90 / 25, [])


def test_failures_are_those_of_the_decoder(tmp_path: Path) -> None:
    gone = Source.at(tmp_path / "gone.mp4")

    with FrameStream(gone, EACH, DECODING) as stream:
        assert list(stream) == [Failure(gone, "missing", f"{gone.id}: no such file; check the path")]


@pytest.mark.parametrize("name", ["a b.mp4", "line\nend.mp4", "\udcff.mp4", "-x.mp4", "ü'\".mp4"])
def test_any_name_reaches_the_worker(film: Source, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.symlink_to(film.path)

    with FrameStream(Source.at(path), StreamRequest(1), DECODING) as stream:
        assert isinstance(next(stream), FrameBatch)


# -- memory ----------------------------------------------------------------------------------------------------------


def repeated(film: Path, to: Path, *, times: int) -> Path:
    """Repeat the packets of a film of N frames."""
    with av.open(str(film)) as source, av.open(str(to), "w") as target:
        given = source.streams.video[0]
        stream = target.add_stream_from_template(given)
        packets = [(p, p.pts, p.dts) for p in source.demux(given) if p.size]
        length = round(Fraction(N, 25) / given.time_base)
        for i in range(times):
            for packet, pts, dts in packets:
                packet.pts, packet.dts = pts + i * length, dts + i * length
                packet.stream, packet.time_base = stream, given.time_base
                target.mux(packet)
    return to


def peak_of_worker(film: Path) -> int:
    """Return the peak resident memory of a worker that streams a film, in bytes, at the last batch before its end."""
    peak = 0
    with FrameStream(Source.at(film), StreamRequest(2), DECODING) as stream:
        for event in stream:
            for worker in living_workers() if isinstance(event, FrameBatch) else ():
                with contextlib.suppress(OSError):  # it may have ended since
                    status = Path(f"/proc/{worker.pid}/status").read_text()
                    peaks = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")]
                    peak = max([peak, *peaks])  # a process that has just ended has none
    assert peak
    return peak * 1024


@pytest.mark.slow  # over a second of a core
@needs_proc
@pytest.mark.parametrize("name", ["film.mp4", "film.ts"])
def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path: Path, name: str) -> None:
    film = write_large(tmp_path / "film.mp4", n_frames=N, width=320, height=240)
    short = peak_of_worker(
        repeated(film, tmp_path / f"short {name}", times=30)
    )  # 3 min: more batches than a worker may have filled when it ends

    long = peak_of_worker(repeated(film, tmp_path / f"long {name}", times=100))  # 10 min

    # Numbers about 15,000 packets take 3 MB; 1,200 pictures would take 132 MB.
    assert long - short < 8 * 2**20


# -- several at once -------------------------------------------------------------------------------------------------


def test_several_streams_in_turns_do_not_disturb_one_another(film: Source, tmp_path: Path) -> None:
    sources = [film, Source.at(tmp_path / "gone.mp4"), film, film]
    streams = [FrameStream(source, EACH, DECODING) for source in sources]

    events = list(zip_longest(*streams))

    taken = [[event for event in column if event is not None] for column in zip(*events, strict=True)]
    assert [bins_of(taken[i]) for i in (0, 2, 3)] == [ALL] * 3
    assert [type(column[-1]) for column in taken] == [StreamEnd, Failure, StreamEnd, StreamEnd]


def test_several_streams_in_threads_do_not_disturb_one_another(film: Source) -> None:
    def stream(number: int) -> dict[int, int]:
        with FrameStream(film, StreamRequest(25, first_bin=number), DECODING) as frames:
            return bins_of(list(frames))

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(stream, range(4)))

    assert found == [{i: i for i in range(number, N)} for number in range(4)]


def test_parts_together_are_the_whole(film: Source) -> None:
    parts = split(film, EACH, 3, DECODING)

    events = [event for part in parts for event in FrameStream(film, part, DECODING)]

    assert len(parts) == 3
    assert (parts[0].first_bin, parts[-1].end_bin) == (0, None)
    assert bins_of(events) == ALL


@pytest.mark.slow  # over a second of a core
@pytest.mark.parametrize("name", ["hangs.mp4", "segfaults.mp4", "is_a_bug.mp4", "fine.mp4"])
def test_a_file_that_cannot_be_listed_is_not_split(film: Source, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.symlink_to(film.path)
    program = "print(len(split(Source.at(sys.argv[1]), StreamRequest(25), 3, DECODING)), flush=True)"

    done = run_hostile(program, path)

    assert done == ["3" if name == "fine.mp4" else "1"]


# -- crashes and hangs -----------------------------------------------------------------------------------------------


def living_workers() -> list[multiprocessing.Process]:
    """Return the workers of streams; pools of other tests may live in the same process."""
    children = [child for child in multiprocessing.active_children() if child.is_alive()]
    return [child for child in children if child.name != "pebble_pool_worker"]  # type: ignore[misc]


def killed(stream: FrameStream, *, times: int) -> list[Event]:
    """Read a stream to its end; kill its worker after the first batch of each worker, at most so often."""
    events: list[Event] = []
    for event in stream:
        events.append(event)
        for worker in living_workers() if times else ():
            worker.kill()
            worker.join()
            times -= 1
    assert not times
    return events


@pytest.fixture(scope="module")
def long_film(film: Source, tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A film of ten times the same frames."""
    return Source.at(repeated(film.path, tmp_path_factory.mktemp("films") / "long.mp4", times=10))


def test_a_worker_that_is_killed_is_replaced_by_one_that_continues(long_film: Source) -> None:
    with FrameStream(long_film, EACH, DECODING) as stream:
        events = killed(stream, times=1)

    assert bins_of(events) == {i: i % N for i in range(10 * N)}
    end = events[-1]
    assert isinstance(end, StreamEnd)
    assert (end.n_bins, end.missing.tolist()) == (10 * N, [])


def test_a_second_crash_is_a_failure_after_the_frames_so_far(long_film: Source) -> None:
    with FrameStream(long_film, EACH, DECODING) as stream:
        events = killed(stream, times=2)

    found = bins_of(events)
    assert found == {i: i % N for i in range(len(found))}
    assert 128 <= len(found) <= 256  # each worker sent one batch or two
    message = f"{long_film.id}: crashes the decoder (signal SIGKILL); repair or convert the file"
    assert events[-1] == Failure(long_film, "crashed", message)


RUN = """
import sys, time
from bike_cli.config import DecodingConfig
from bike_cli.records import Failure, Source
from bike_cli.video.streams.values import FrameBatch, StreamEnd, StreamRequest
from bike_cli.video.workers.frame_stream import FrameStream, split

DECODING = DecodingConfig(decode_timeout=2, decode_memory=700)
"""
EACH_FILE = """
for path in sys.argv[1:]:
    n_bins = 0
    with FrameStream(Source.at(path), StreamRequest(25), DECODING) as stream:
        for event in stream:
            if isinstance(event, FrameBatch):
                n_bins += int((event.bins[:, 1] - event.bins[:, 0]).sum())
    print(f"{getattr(event, 'kind', 'ok')}:{n_bins}:{getattr(event, 'message', '')}", flush=True)
"""


def hostile_environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(HOSTILE), *sys.path]), **variables}


def run_hostile(program: str, *paths: Path, **variables: str) -> list[str]:
    """Return the lines that a program prints whose workers do what the names of files say."""
    done = subprocess.run(
        [sys.executable, "-c", RUN + program, *map(str, paths)],
        env=hostile_environment(**variables),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.slow  # over a second of a core
def test_a_failing_video_affects_no_other(film: Source, tmp_path: Path) -> None:
    names = ["fine", "hangs", "segfaults", "is_killed", "eats", "leaves", "floods", "is_a_bug", "spins"]
    names += ["hangs later", "segfaults later", "eats later", "is_a_bug later", "segfaults once", "leaves later once"]
    names += ["dawdles", "fine"]
    paths = [tmp_path / f"{i} {name}.mp4" for i, name in enumerate(names)]
    for path in paths:
        path.symlink_to(film.path)
        path.with_name(f"{path.name}.once").touch()

    lines = [line.split(":", 2) for line in run_hostile(EACH_FILE, *paths)]

    kinds = {"hangs": "timeout", "spins": "timeout", "eats": "out_of_memory", "is_a_bug": "internal"}
    kinds |= dict.fromkeys(["segfaults", "is_killed", "leaves"], "crashed")
    for name, (kind, n_bins, message) in zip(names, lines, strict=True):
        expected = "ok" if "once" in name else kinds.get(name.split()[0], "ok")
        # A crash is tried again from where it was, and crashes after another batch.
        sent = {"ok": N, "crashed": 128}.get(expected, 64) if "later" in name or expected == "ok" else 0
        assert (kind, int(n_bins)) == (expected, sent), (name, message)
    messages = {name: message for name, (_, _, message) in zip(names, lines, strict=True)}
    assert "takes longer than 2 s to decode the next frames; raise --decode-timeout" in messages["hangs"]
    assert "needs more than 700 MiB to decode; raise --decode-memory" in messages["eats"]
    assert "crashes the decoder (signal SIGSEGV); repair or convert the file" in messages["segfaults"]
    assert "crashes the decoder (exit code 7)" in messages["leaves"]
    assert "because of a bug in bike (KeyError: 'an error that nobody foresaw'); please report" in messages["is_a_bug"]


@pytest.mark.slow  # over a second of a core
@pytest.mark.parametrize(
    ("fault", "reason"), [("start", "exit code 3"), ("bug", "KeyError: 'an error that nobody foresaw'")]
)
def test_workers_that_cannot_decode_anything_stop_the_run(film: Source, fault: str, reason: str) -> None:
    program = f"try:\n    exec({EACH_FILE!r})\nexcept Exception as e:\n    print(type(e).__name__, e)"

    assert run_hostile(program, film.path, HOSTILE=fault) == [
        f"WorkerError decode workers: cannot decode any video ({reason}); run `bike doctor`, or reinstall bike"
    ]


@pytest.mark.slow  # over a second of a core
def test_a_slow_caller_is_not_a_timeout(film: Source) -> None:
    with FrameStream(film, EACH, DecodingConfig(decode_timeout=1)) as stream:
        events = []
        for event in stream:
            events.append(event)
            time.sleep(1.2)

    assert bins_of(events) == ALL


def test_frames_that_cannot_be_received_are_a_failure(film: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> NDArray[np.uint8]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(shared_memory.Handover, "pixels", fail)
    with FrameStream(film, EACH, DECODING) as stream:
        (failure,) = stream

    assert isinstance(failure, Failure)
    assert failure.kind == "out_of_memory"
    assert "its frames cannot be received from the worker" in failure.message


def test_a_full_temporary_folder_is_not_the_fault_of_a_video(film: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bike_cli.video.workers.shared_memory.Handover", lambda: Full())

    with pytest.raises(WorkerError, match="temporary folder: has no room for video frames"):
        list(FrameStream(film, EACH, DECODING))


class Full:
    """Shared memory on a file system without room."""

    path = "/dev/full" if Path("/dev/full").exists() else os.devnull + "/missing"

    def close(self) -> None:
        pass


# -- what is left behind ---------------------------------------------------------------------------------------------


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.slow  # over a second of a core
@needs_proc
@pytest.mark.parametrize("ending", slow_but(["close"], ["close", "with", "forget", "complete"]))
def test_an_abandoned_stream_leaves_no_process_and_no_open_file(film: Source, ending: str) -> None:
    list(FrameStream(film, EACH, DECODING))  # starts the fork server
    gc.collect()
    before = open_files()

    stream = FrameStream(film, EACH, DECODING)
    assert living_workers()
    next(stream)
    if ending == "with":
        with stream:
            pass
    elif ending == "complete":
        assert len(list(stream)) == 3
    elif ending == "close":
        stream.close()
        assert list(stream) == []
    del stream
    gc.collect()

    assert living_workers() == []
    assert open_files() <= before


def test_no_temporary_file_is_left_where_memory_has_no_name(film: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "shares_memory", lambda: False)
    folder = scratch.scratch_folder()

    with FrameStream(film, EACH, DECODING) as stream:
        first = next(stream)
        assert list(folder.glob("clip-*"))
    with FrameStream(film, EACH, DECODING) as stream:
        events = list(stream)

    assert bins_of([first]) == {i: i for i in range(64)}
    assert bins_of(events) == ALL
    assert list(folder.glob("clip-*")) == []


@needs_proc
@pytest.mark.parametrize("end", ["running.kill()", "pass"])
def test_workers_die_with_their_program(film: Source, tmp_path: Path, end: str) -> None:
    hanging = tmp_path / "hangs later.mp4"
    hanging.symlink_to(film.path)
    program = RUN.replace("decode_timeout=2", "decode_timeout=60") + (
        "stream = FrameStream(Source.at(sys.argv[1]), StreamRequest(25), DECODING)\n"
        "next(stream)\nprint('streams', flush=True)\n" + ("time.sleep(60)" if end != "pass" else "")
    )
    command = [sys.executable, "-c", program, str(hanging)]

    with subprocess.Popen(
        command, env=hostile_environment(), start_new_session=True, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "streams\n"
        if end != "pass":
            assert len(members(running.pid)) > 1
            running.kill()
        running.wait(timeout=30)

        assert gone(group=running.pid, within_s=5)


def test_a_program_needs_no_guard_around_its_main_part(film: Source, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("print('once')\n" + RUN + EACH_FILE)

    done = subprocess.run([sys.executable, program, film.path], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout == f"once\nok:{N}:\n"


INTERRUPTED = """
import os, signal
signal.signal(signal.SIGINT, lambda *_: None)
stream = FrameStream(Source.at(sys.argv[1]), StreamRequest(25), DECODING)
for _ in range(40):
    os.killpg(0, signal.SIGINT)
    time.sleep(0.02)
print(type(list(stream)[-1]).__name__)
"""


@needs_proc
def test_workers_do_not_receive_ctrl_c(film: Source) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN + INTERRUPTED, str(film.path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        start_new_session=True,
    )

    assert (done.stdout, done.stderr, done.returncode) == ("StreamEnd\n", "", 0)


def members(group: int) -> list[int]:
    """Return the living processes of a group, named by the program that started it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, _, its_group = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:3]
            except OSError:
                continue
            if int(its_group) == group and state != "Z":
                found.append(int(entry.name))
    return found


def gone(*, group: int, within_s: float) -> bool:
    end_s = time.monotonic() + within_s
    while members(group) and time.monotonic() < end_s:
        time.sleep(0.05)
    return not members(group)
