"""A cluster on this machine, for the tests of a module."""

from collections.abc import Iterator

import pytest

from bike_cli.tasks.cluster.runtime import ClusterOptions, connected


@pytest.fixture(scope="module")
def local_cluster() -> Iterator[None]:
    pytest.importorskip("ray")
    with connected(ClusterOptions("local")):
        yield
