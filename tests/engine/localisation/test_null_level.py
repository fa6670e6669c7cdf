"""The median is numpy's, however its numbers are divided."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensor_watch import LargestTensor

from bike_cli.engine.localisation.null_level import HALF, exact_median

numbers = st.one_of(
    st.floats(-1, 1, width=32), st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from([0.5, -0.5])
)


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(st.lists(numbers, max_size=12), min_size=1, max_size=4))
def test_the_median_is_that_of_numpy(parts: list[list[float]]) -> None:
    tensors = [torch.tensor(part, dtype=torch.float32) for part in parts]
    whole = torch.cat(tensors).double().numpy()

    ours = exact_median(lambda: tensors)

    if len(whole):
        assert ours == np.median(whole)
    else:
        assert math.isnan(ours)


@pytest.mark.parametrize("count", [999, 1000])
def test_many_similar_numbers_are_told_apart(count: int) -> None:
    cosines = 0.2 + 1e-4 * torch.randn(count, generator=torch.Generator().manual_seed(0))

    assert exact_median(lambda: torch.split(cosines, 100)) == np.median(cosines.double().numpy())


def test_numbers_are_never_all_in_memory() -> None:
    with LargestTensor() as largest:
        exact_median(lambda: (torch.full((1000,), float(i)) for i in range(200)))

    assert largest.numbers <= HALF
