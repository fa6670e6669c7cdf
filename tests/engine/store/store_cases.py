"""Features to store, a filled store, and access to the file as other programs have it."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from bike_cli.engine.store import file as store_file
from bike_cli.engine.store.store import Store
from bike_cli.records import FrameTimes, Source, VideoFeatures

SOURCE = Source.at("clip.mp4")
CONTENT, RECIPE, OTHER = b"c" * 32, b"r" * 32, b"o" * 32


def features(seed: int = 0, *, views: int = 1, frames: int = 8, dim: int = 16, clips: int = 1) -> VideoFeatures:
    rng = np.random.default_rng(seed)
    times_s = rng.random((clips, frames))
    values = torch.from_numpy(rng.standard_normal((views, frames, dim), dtype=np.float32))
    return VideoFeatures(SOURCE, values, FrameTimes(times_s, rng.integers(0, 99, (clips, frames)), 2.5))


def same_bits(a: VideoFeatures, b: VideoFeatures) -> bool:
    arrays = [(a.frames.numpy(), b.frames.numpy()), (a.times_s, b.times_s)]
    if a.positions is not None and b.positions is not None:
        arrays.append((a.positions, b.positions))
    same = all(x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in arrays)
    rest = [(f.warning, repr(f.duration_s), f.positions is None) for f in (a, b)]
    return same and rest[0] == rest[1]


def kept(store: Store, content: bytes, recipe: bytes = RECIPE) -> VideoFeatures:
    found = store.features(content, recipe)
    assert found is not None
    return found.of(SOURCE)


@contextmanager
def raw(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open the file as any other program would."""
    connection = sqlite3.connect(folder / store_file.FILE, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def sql(folder: Path, statement: str, *parameters: object) -> list[tuple[object, ...]]:
    """Return the result of a statement in another program."""
    with raw(folder) as connection:
        return connection.execute(statement, parameters).fetchall()


def filled(folder: Path, videos: int = 30) -> bytes:
    """Fill a store with videos of 1 to 3 views; return its file."""
    with Store.open(folder) as store:
        for i in range(videos):
            store.remember(f"/{i}.mp4", b"1", i.to_bytes(32, "big"))
            store.keep(i.to_bytes(32, "big"), RECIPE, features(i, views=1 + i % 3, dim=40))
    return (folder / store_file.FILE).read_bytes()
