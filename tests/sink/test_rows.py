"""Rows of traces; what PostgreSQL says of them is in test_store."""

from dataclasses import replace

import pytest

from sink.detail import UNKNOWN_ERROR, error_type
from sink.rows import DAY_NS, LONGEST_INDEXED, RowEncoder, credible_start_ns
from tests.sink.builders import NOON_NS, SECOND_NS, SpanSpec, checkout_trace, spans_of, trace_of
from tracecore.otlp import Event, SpanDetail

TRACE_ID = bytes(range(16))


def test_every_span_is_a_row_or_poison() -> None:
    trace = trace_of(checkout_trace(1))
    rows = RowEncoder().rows_of(trace, b"digest")
    assert [span.span_id for span in rows.spans] == [span.span_id for span in trace.spans]
    assert not rows.poison
    assert rows.days == {NOON_NS // DAY_NS}


@pytest.mark.parametrize(
    ("start_ns", "reason"),
    [(0, "not credible"), (NOON_NS + 5 * DAY_NS, "not credible"), (2**64 - 1, "not credible")],
)
def test_a_span_with_an_absurd_time_is_poison_and_the_rest_is_not(start_ns: int, reason: str) -> None:
    trace = trace_of(spans_of(TRACE_ID, [SpanSpec(1), SpanSpec(2, 1)]))
    spans = (trace.spans[0], trace.spans[1]._replace(start_ns=start_ns, end_ns=start_ns))
    rows = RowEncoder().rows_of(replace(trace, spans=spans), b"")
    assert len(rows.span_rows) == 1
    assert reason in rows.poison[0].reason


@pytest.mark.parametrize(
    ("field", "value"),
    [("kind", 70_000), ("depth", 2**31), ("self_time_ns", 2**63), ("skew_ns", -(2**63) - 1), ("gap_ns", 2**63)],
)
def test_a_number_out_of_range_is_poison(field: str, value: int) -> None:
    trace = trace_of(spans_of(TRACE_ID, [SpanSpec(1), SpanSpec(2, 1)]))
    rows = RowEncoder().rows_of(replace(trace, spans=(trace.spans[0], trace.spans[1]._replace(**{field: value}))), b"")
    assert len(rows.span_rows) == 1
    assert "out of range" in rows.poison[0].reason


@pytest.mark.parametrize(("field", "value"), [("service", "a\0"), ("name", "a\0"), ("service", "s" * 601)])
def test_a_name_that_cannot_be_stored_is_poison(field: str, value: str) -> None:
    trace = trace_of(spans_of(TRACE_ID, [SpanSpec(1), SpanSpec(2, 1)]))
    rows = RowEncoder().rows_of(replace(trace, spans=(trace.spans[0], trace.spans[1]._replace(**{field: value}))), b"")
    assert (len(rows.span_rows), len(rows.poison)) == (1, 1)


def test_a_span_id_that_a_trace_has_twice_is_stored_once() -> None:
    trace = trace_of(spans_of(TRACE_ID, [SpanSpec(1), SpanSpec(2, 1)]))
    rows = RowEncoder().rows_of(replace(trace, spans=(*trace.spans, trace.spans[1])), b"")
    assert (len(rows.span_rows), len(rows.poison)) == (2, 1)


def test_a_trace_of_poison_alone_has_no_row() -> None:
    trace = trace_of(spans_of(TRACE_ID, [SpanSpec(1, service="s" * (LONGEST_INDEXED + 1))]))
    rows = RowEncoder().rows_of(trace, b"")
    assert not rows.trace_row and not rows.span_rows and len(rows.poison) == 1


def test_a_trace_whose_start_is_not_credible_counts_at_its_arrival() -> None:
    trace = trace_of(spans_of(TRACE_ID, [SpanSpec(1)]))
    assert credible_start_ns(trace) == NOON_NS
    assert credible_start_ns(replace(trace, start_ns=5)) == trace.first_arrival_ns


def test_a_trace_over_midnight_needs_both_days() -> None:
    midnight = NOON_NS + DAY_NS // 2
    trace = trace_of(spans_of(TRACE_ID, [SpanSpec(1), SpanSpec(2, 1, start_ms=5)], midnight - SECOND_NS // 1000))
    assert RowEncoder().rows_of(trace, b"").days == {midnight // DAY_NS - 1, midnight // DAY_NS}


@pytest.mark.parametrize(
    ("attributes", "event", "expected"),
    [
        ({"error.type": "Timeout"}, {"exception.type": "ValueError"}, "Timeout"),
        ({}, {"exception.type": "ValueError"}, "ValueError"),
        ({"http.response.status_code": 503}, {}, "503"),
        ({}, {}, UNKNOWN_ERROR),
        ({"error.type": "a\0b"}, {}, "a\ufffdb"),
    ],
)
def test_error_type_is_the_most_telling_name(attributes: dict[str, str], event: dict[str, str], expected: str) -> None:
    detail = SpanDetail({**attributes}, [Event("exception", 1, {**event})], [], "", "")
    assert error_type(detail) == expected
