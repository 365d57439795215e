"""Compiled code says of every trace what the plain modules say."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracecore.builders import order_spans
from tests.tracecore.gathered import gathered
from tests.tracecore.strategies import spans_of_a_trace, tidy_trace, well_timed_trace
from tracecore import batch_analysis, forest
from tracecore.analysis import closed_trace
from tracecore.batch_analysis import ClosedTraces
from tracecore.closed_trace import ClosedTrace
from tracecore.span import Span
from tracecore.wire import encode_trace


@pytest.fixture(autouse=True)
def compiled() -> None:
    batch_analysis.warm_up()


def _together(*traces: Sequence[Span]) -> ClosedTraces:
    return ClosedTraces(gathered(traces, 2, "complete", 3, 4, duplicate_count=5), "r")


def _alone(spans: Sequence[Span]) -> ClosedTrace:
    return closed_trace(
        spans[0].trace_id, spans, revision=2, reason="complete", first_arrival_ns=3, last_arrival_ns=4,
        duplicate_count=5, replay_id="r",
    )  # fmt: skip


@given(st.lists(spans_of_a_trace() | well_timed_trace() | tidy_trace(), min_size=1, max_size=6))
def test_traces_analysed_together_are_as_analysed_alone(traces: list[list[Span]]) -> None:
    together, alone = _together(*traces), [_alone(spans) for spans in traces]
    # What is written is not made, and what is made not written.
    assert [encode_trace(trace) for trace in together] == [encode_trace(trace) for trace in alone]
    assert [encode_trace(trace, 500) for trace in together] == [encode_trace(trace, 500) for trace in alone]
    assert list(together) == alone


@given(tidy_trace())
def test_a_changed_copy_is_encoded_as_it_was_changed(spans: list[Span]) -> None:
    (trace,), expected = _together(spans), _alone(spans)
    trace.sampled_by = expected.sampled_by = "slow"
    assert encode_trace(trace) == encode_trace(expected)
    change: dict[str, Any] = {"warnings": ("odd",), "revision": 7}
    assert encode_trace(replace(trace, **change)) == encode_trace(replace(expected, **change))


@given(tidy_trace(max_size=60))
def test_a_trace_without_faults_needs_no_repair(spans: list[Span]) -> None:
    given = batch_analysis._given(gathered([spans]))
    assert not forest.forest_of(given.columns, 10**18).needs_repair.any()


@given(st.permutations(order_spans(failed=True)))
def test_the_order_of_arrival_does_not_matter(spans: list[Span]) -> None:
    assert list(_together(spans)) == [_alone(order_spans(failed=True))]


@pytest.mark.parametrize("start_ns", [2**62 - 1, 2**62, 2**63, 2**64 - 1])
def test_times_at_the_edge_of_what_can_be_computed(start_ns: int) -> None:
    spans = [span._replace(start_ns=start_ns, end_ns=start_ns) for span in order_spans()]
    assert list(_together(spans)) == [_alone(spans)]


def test_large_traces_are_sorted_another_way() -> None:
    spans = [span for number in range(300) for span in _renumbered(number)]
    together, alone = _together(spans), [_alone(spans)]
    assert [encode_trace(trace) for trace in together] == [encode_trace(trace) for trace in alone]
    assert list(together) == alone


def _renumbered(number: int) -> list[Span]:
    """The shop's request again, below the one before."""
    base = number * 100
    return [
        span._replace(
            span_id=(int.from_bytes(span.span_id) + base).to_bytes(8),
            parent_span_id=(int.from_bytes(span.parent_span_id) + base).to_bytes(8)
            if span.parent_span_id
            else (1 + base - 100).to_bytes(8)
            if number
            else b"",
            start_ns=span.start_ns + number % 7,
        )
        for span in order_spans()
    ]
