"""Tables that traces share have one number, and what they hold is in the order of its appearance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracecore import shared_tables


@pytest.fixture(autouse=True)
def compiled() -> None:
    shared_tables.warm_up()


@given(st.lists(st.lists(st.integers(0, 5), max_size=8), max_size=30))
def test_each_trace_has_the_table_of_what_its_spans_have(traces: list[list[int]]) -> None:
    values = [f"value {number}" for number in range(6)]
    expected = [tuple(values[number] for number in dict.fromkeys(numbers)) for numbers in traces]
    local = [list(dict.fromkeys(numbers)).index(number) for numbers in traces for number in numbers]
    table_of, tables = shared_tables.shared_tables(
        np.cumsum([0, *map(len, traces)]),
        np.array([number for numbers in traces for number in numbers], np.int64),
        np.array(local, np.int64),
        values,
    )
    assert [tables[table] for table in table_of.tolist()] == expected
    assert tables == list(dict.fromkeys(expected))
