"""The work of a command on a Ray cluster, from the connection to the last answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from bike_cli.records import Failure
from bike_cli.settings import changed
from bike_cli.tasks.cluster.actor import ActorSetup, ModelActor
from bike_cli.tasks.cluster.dispatch import AT_ONCE, Dispatcher
from bike_cli.tasks.cluster.layout import layout_of, nodes_alive, place_of
from bike_cli.tasks.cluster.places import StartedActor
from bike_cli.tasks.cluster.runtime import LOCAL, ClusterOptions, connected
from bike_cli.tasks.cluster.sent_files import send_files
from bike_cli.tasks.cluster.work import Answer, Config, Given, Work
from bike_cli.versions import __version__


def run_on_cluster(
    options: ClusterOptions,
    sources: Iterable[Given],
    work: Work[Config, Answer],
    *,
    model: str,
    model_digest: str,
    videos: int | None = None,
    check: Callable[[str], None] = lambda precision: None,
    begin: Callable[..., None] = lambda *, precision: None,
) -> Iterator[Answer | Failure]:
    """Yield one answer or failure for each source, in order, from actors on a Ray cluster.

    The answers are those of the command with the same device, precision and libraries.

    Args:
        work: what the driver has checked; its device, precision and number of workers may be `auto` or None.
        model: what records call the model.
        model_digest: see `Prepared.digest`.
        videos: number of sources, if known: no more actors are started than they need.
        check: called before the first actor is created, with the precision in which actors compute.
        begin: called when the first actor is ready, with the `precision`; or at the end, if there is nothing to do.
    Raises:
        UsageError: no cluster at the address, or an actor that cannot work with the configuration.
        ModelError: a model that is missing or different on another machine.
        WorkerError: actors end before they are ready, or cannot decode anything.
    """
    with connected(options):
        import ray  # after the settings that it reads when it is imported

        batches = None if videos is None else math.ceil(videos / work.least_batch)
        layout = layout_of(options, work.config.engine.device, nodes_alive(), batches=batches)
        device, precision = place_of(options, work.config.engine, layout)
        check(precision)
        workers = work.config.decoding.workers or layout.cpus
        config = changed(work.config, {"device": device, "precision": precision, "workers": workers})
        files = () if options.address == LOCAL else send_files(config)
        setup = ActorSetup(replace(work, config=config), model, model_digest, str(Path.cwd()), files)
        sent = ray.put(setup)  # this reference keeps it for actors started later
        actor = ray.remote(ModelActor).options(
            num_cpus=layout.cpus,
            num_gpus=layout.gpus,
            max_concurrency=AT_ONCE,
            max_restarts=0,  # the dispatcher replaces actors, and knows what they worked on
            max_task_retries=0,
        )

        def create() -> StartedActor:
            handle = actor.remote()
            return StartedActor(handle, handle.start.remote(__version__, [sent]))

        size = max(work.least_batch, int(work.batch_per_worker * workers))
        if videos is not None:  # else the first actors that are ready would take all
            size = max(work.least_batch, min(size, math.ceil(videos / (layout.actors * AT_ONCE))))
        dispatcher: Dispatcher[Answer] = Dispatcher(
            *(create, sources), actors=layout.actors, batch=size, begin=partial(begin, precision=precision)
        )
        with closing(iter(dispatcher)) as answers:
            yield from answers
