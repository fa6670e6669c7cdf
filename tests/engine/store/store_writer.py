"""A process that writes to a store: `python store_writer.py FOLDER FIRST [COUNT]`; without COUNT until it is killed.

Video i has features that follow from i, so that whoever reads them knows them by another road. It does without torch,
whose import takes longer than all the writing.
"""

import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from bike_cli.engine.store.store import Store
from bike_cli.records import FrameTimes, Source, VideoFeatures

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = Source.at("a")
RECIPE = hashlib.sha256(b"recipe").digest()
STAMP = b"stamp"


class Frames:
    """The part of a tensor that the store uses."""

    def __init__(self, array: NDArray[np.float32]) -> None:
        self.array, self.shape = array, array.shape

    def detach(self) -> "Frames":
        return self

    cpu = detach

    def numpy(self) -> NDArray[np.float32]:
        return self.array


def content(i: int) -> bytes:
    return hashlib.sha256(str(i).encode()).digest()


def frames(i: int) -> NDArray[np.float32]:
    return np.random.default_rng(i).standard_normal((1, 4, 64), dtype=np.float32)


def main(folder: Path, first: int, count: int) -> None:
    if "BIKE_TEST_NOBODY" in os.environ and os.geteuid() == 0:
        # The user `nobody` may be unable to read the modules.
        frames(0)
        folder.as_uri()
        os.setuid(65534)  # root may write anywhere
    found = 0
    with Store.open(folder) as store:
        os.write(1, b"ready\n")
        for i in range(first, first + count):
            found += store.lookup(f"/videos/{i}.mp4", STAMP, RECIPE).features is not None
            store.remember(f"/videos/{i}.mp4", STAMP, content(i))
            store.keep(
                content(i),
                RECIPE,
                VideoFeatures(SOURCE, cast("Tensor", Frames(frames(i))), FrameTimes(np.zeros((1, 4)))),
            )
    os.write(1, b"%d found\n" % found)


if __name__ == "__main__":
    folder_, first_, *count_ = sys.argv[1:]
    main(Path(folder_), int(first_), int(count_[0]) if count_ else 10**9)
