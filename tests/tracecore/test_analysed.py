"""Numbers of distinct values, whether they are looked up or sorted."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tracecore.analysed import _distinct

small, any_number = st.integers(0, 40), st.integers(-(2**63), 2**63 - 1)


@given(st.lists(small, max_size=60) | st.lists(any_number, max_size=20))
def test_distinct_values_are_numbered_as_numpy_numbers_them(values: list[int]) -> None:
    column = np.array(values, np.int64)
    distinct, of = _distinct(column)
    expected, expected_of = np.unique(column, return_inverse=True)
    assert distinct.tolist() == expected.tolist()
    assert of.tolist() == expected_of.tolist()
