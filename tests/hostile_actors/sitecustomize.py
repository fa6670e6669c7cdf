"""Actors that do what the names of videos say: a video that `kills_actor`, or one that is `a_bug_in_actor`.

Python imports this module at its start where this folder is on PYTHONPATH; only processes of Ray are changed. A file
`starts_die` in the folder that ACTORS names lets actors end before they are ready. Each death is noted there.
"""

import os
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if any("default_worker.py" in argument for argument in sys.orig_argv):
    from bike_cli.errors import BikeError
    from bike_cli.records import Failure, Source
    from bike_cli.tasks.cluster.actor import BatchAnswer, ModelActor

    start, answer = ModelActor.start, ModelActor.answer
    folder = Path(os.environ["ACTORS"])

    def die() -> None:
        (folder / f"death-{uuid.uuid4()}").touch()
        os.kill(os.getpid(), 9)

    def hostile_start(self: ModelActor, version: str, setup: Sequence[object]) -> BikeError | str:
        if (folder / "starts_die").exists():
            die()
        return start(self, version, setup)

    def hostile_answer(self: ModelActor, sources: Sequence[Source | Failure]) -> BatchAnswer[Any]:
        names = [source.path.name for source in sources if isinstance(source, Source)]
        if any("kills_actor" in name for name in names):
            die()
        if any("a_bug_in_actor" in name for name in names):
            raise KeyError("an error that nobody foresaw")
        return answer(self, sources)

    ModelActor.start, ModelActor.answer = hostile_start, hostile_answer
