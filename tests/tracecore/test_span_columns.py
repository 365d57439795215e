"""Columns of spans are the spans that they were made of."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracecore.builders import order_spans, span
from tests.tracecore.strategies import spans_of_a_trace, tidy_traces
from tracecore.span import Span
from tracecore.span_columns import SpanColumns, columns_of, renumbered


def columns(spans: Sequence[Span]) -> SpanColumns:
    made = columns_of(spans)
    assert made is not None
    return made


records = st.lists(
    spans_of_a_trace() | tidy_traces().map(lambda traces: [one for t in traces for one in t]), max_size=4
)


@given(records)
def test_what_is_made_of_columns_is_what_they_were_made_of(records: list[list[Span]]) -> None:
    for spans in records:
        assert list(columns(spans)) == spans
        assert [columns(spans)[i] for i in range(-len(spans), len(spans))] == spans * 2
        backwards = np.arange(len(spans))[::-1]
        assert list(columns(spans).taken(backwards)) == spans[::-1]


@given(st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=6), min_size=1, max_size=4), st.data())
def test_numbers_of_several_sources_become_numbers_of_what_is_used(
    sources: list[list[str]], data: st.DataObject
) -> None:
    pairs = [(source, number) for source, values in enumerate(sources) for number in range(len(values))]
    chosen = data.draw(st.lists(st.sampled_from(pairs), max_size=12))
    of, numbers = (np.array([pair[part] for pair in chosen], np.int64) for part in range(2))
    again, values = renumbered(numbers, of, sources)
    assert [values[number] for number in again] == [sources[source][number] for source, number in chosen]
    assert len(set(values)) == len(values) == len(set(again.tolist()))


@pytest.mark.parametrize(
    "change", [{"span_id": b"short"}, {"trace_id": b""}, {"start_ns": -1}, {"end_ns": 1 << 64}, {"count_milli": -1}]
)
def test_spans_that_no_decoder_makes_are_no_columns(change: dict[str, int]) -> None:
    assert columns_of([*order_spans(), span()._replace(**change)]) is None
