"""Errors travel between processes."""

import copy
import pickle
from pathlib import Path

import pytest

from bike_cli import errors
from bike_cli.engine.store.file import OutOfReachError
from bike_cli.errors import BikeError
from bike_cli.settings import UnknownKeyError

EXAMPLES = (
    errors.BikeError("a: b; c", settings=("model",)),
    errors.UsageError("a: b; c", settings=("device", "precision")),
    errors.InputError("a.mp4: no such file", kind="missing"),
    errors.ConfigError("a: b; c", settings=("labels",)),
    errors.StoreError("a: b; c"),
    errors.WorkerError("a: b; c"),
    errors.ModelError("a: b; c", details=("d", "e"), settings=("model",)),
    errors.VideoError("a.mp4: b; c", kind="damaged"),
    OutOfReachError("a: the disk is full"),
    UnknownKeyError(Path("bike.yaml"), "modle", "did you mean model?"),
)


def test_there_is_an_example_of_every_error() -> None:
    public = {
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.BikeError)
    }

    assert public <= set(map(type, EXAMPLES))


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickle(error: BikeError, protocol: int) -> None:
    error.add_note("where it came from")

    received = pickle.loads(pickle.dumps(error, protocol))

    assert type(received) is type(error)
    assert (str(received), received.args) == (str(error), error.args)
    assert vars(received) == vars(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_a_copy_of_an_error_is_the_same(error: BikeError) -> None:
    received = copy.copy(error)

    assert (type(received), str(received), vars(received)) == (type(error), str(error), vars(error))
