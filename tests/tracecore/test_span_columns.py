"""Columns of spans, taken apart and joined, are the spans that they were made of."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracecore.builders import order_spans, span
from tests.tracecore.strategies import spans_of_a_trace, tidy_traces
from tracecore import span_columns
from tracecore.span import Span
from tracecore.span_columns import SpanColumns, SpansInParts, columns_of, joined


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


@pytest.mark.parametrize("little", [0, 1 << 20])
@given(records, st.data())
def test_joined_parts_are_their_spans_one_after_the_other(
    little: int, records: list[list[Span]], data: st.DataObject
) -> None:
    sources = [columns(spans) for spans in records]
    parts: list[Any] = []
    expected: list[Span] = []
    for number in data.draw(st.lists(st.integers(0, len(records) - 1), min_size=1)) if records else ():
        low = data.draw(st.integers(0, len(records[number])))
        high = data.draw(st.integers(low, len(records[number])))
        parts += (sources[number], low, high)
        expected += records[number][low:high]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(span_columns, "_LITTLE", little)
        patch.setattr(span_columns, "_WASTE", 1)
        assert list(SpansInParts(parts, len(expected))) == expected
        if parts:
            together = joined(parts)
            assert list(together) == expected
            assert set(together.names) == {span.name for span in expected}
            assert {origin.resource for origin in together.origins} == {span.resource for span in expected}


@pytest.mark.parametrize(
    "change", [{"span_id": b"short"}, {"trace_id": b""}, {"start_ns": -1}, {"end_ns": 1 << 64}, {"count_milli": -1}]
)
def test_spans_that_no_decoder_makes_are_no_columns(change: dict[str, int]) -> None:
    assert columns_of([*order_spans(), span()._replace(**change)]) is None
