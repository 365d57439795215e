"""Sorting without memory of its own sorts as Python does."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tracecore import forest


@given(st.lists(st.integers(0, 9) | st.integers(-(2**63), 2**63 - 1), max_size=70), st.integers(0, 3), st.booleans())
def test_places_are_sorted_by_their_keys_and_equal_ones_stay_in_order(
    keys: list[int], base: int, descending: bool
) -> None:
    places, spare = np.arange(len(keys)), np.zeros(len(keys), np.int64)
    forest._sort_stably(places, len(keys), np.array([0] * base + keys, np.int64), base, descending, spare)
    assert places.tolist() == sorted(range(len(keys)), key=keys.__getitem__, reverse=descending)
