"""Headers are read as their specifications say: vectors that every language asserts."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace

from tracewatch import headers
from tracewatch.headers import HeaderTraceState, Parent
from tracewatch.propagation import TracewatchPropagator, extracted, named_trace

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "headers.json").read_text())


def expected(parent: dict[str, Any] | None) -> Parent | None:
    return parent and Parent(int(parent["trace_id"], 16), int(parent["span_id"], 16), parent["flags"])


@pytest.mark.parametrize("vector", VECTORS["traceparent"], ids=lambda vector: vector["header"][:60])
def test_traceparent(vector: dict[str, Any]) -> None:
    assert headers.parse_traceparent(vector["header"]) == expected(vector["parent"])


@pytest.mark.parametrize("vector", VECTORS["tracestate"], ids=lambda vector: ";".join(vector["headers"])[:60])
def test_tracestate(vector: dict[str, Any]) -> None:
    state = headers.parse_tracestate(vector["headers"])
    assert (state and [list(member) for member in state.items()]) == vector["members"]


@pytest.mark.parametrize("vector", VECTORS["b3"], ids=lambda vector: vector["header"])
def test_b3_in_one_header(vector: dict[str, Any]) -> None:
    assert headers.parse_b3_single(vector["header"]) == expected(vector["parent"])


@pytest.mark.parametrize("vector", VECTORS["b3_multiple"], ids=str)
def test_b3_in_several_headers(vector: dict[str, Any]) -> None:
    given = (vector["trace_id"], vector["span_id"], vector["sampled"], vector["flags"])
    assert headers.parse_b3_multiple(*given) == expected(vector["parent"])


@pytest.mark.parametrize("vector", VECTORS["x_ids"], ids=str)
def test_ids_of_the_users_guide(vector: dict[str, Any]) -> None:
    assert headers.parse_x_ids(vector["trace_id"], vector["span_id"]) == expected(vector["parent"])


@pytest.mark.parametrize("vector", VECTORS["request"], ids=str)
def test_which_header_wins(vector: dict[str, Any]) -> None:
    carrier: dict[str, list[str]] = {}
    for name, value in vector["headers"]:
        carrier.setdefault(name.lower(), []).append(value)
    span = trace.get_current_span(extracted(lambda name: carrier.get(name, ()), trace.set_span_in_context(_NO_SPAN)))
    context = span.get_span_context()
    found = Parent(context.trace_id, context.span_id, context.trace_flags) if context.is_valid else None
    assert found == expected(vector["parent"])


_NO_SPAN = trace.INVALID_SPAN


@given(st.text())
def test_no_text_breaks_a_parser(text: str) -> None:
    headers.parse_traceparent(text)
    headers.parse_tracestate([text, text])
    headers.parse_b3_single(text)
    headers.parse_b3_multiple(text, text, text, text)
    headers.parse_x_ids(text, text)


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
def test_what_is_written_is_read(trace_id: int, span_id: int, flags: int) -> None:
    assert headers.parse_traceparent(headers.traceparent(trace_id, span_id, flags)) == Parent(trace_id, span_id, flags)


def test_a_full_tracestate_takes_no_new_member_but_a_new_value() -> None:
    state = HeaderTraceState.of({f"k{number}": "1" for number in range(32)})
    assert state.update("new", "1") is state
    assert next(iter(state.update("k31", "2").items())) == ("k31", "2")
    assert state.add("k0", "2") is state
    assert len(state.delete("k0").add("new", "1")) == 32
    assert state.update("k0", "a,b") is state


def test_the_propagator_reads_what_it_wrote_through_a_plain_dictionary() -> None:
    span = trace.SpanContext(0xA1, 0xB2, False, trace.TraceFlags(1), HeaderTraceState.of({"0vendor": "1"}))
    written: dict[str, str] = {}
    propagator = TracewatchPropagator()
    propagator.inject(written, trace.set_span_in_context(trace.NonRecordingSpan(span)))
    assert written == {
        "traceparent": f"00-{0xA1:032x}-{0xB2:016x}-01",
        "tracestate": "0vendor=1",
        "X-Trace-ID": f"{0xA1:032x}",
        "X-Span-ID": f"{0xB2:016x}",
    }
    read = trace.get_current_span(propagator.extract(written)).get_span_context()
    assert (read.trace_id, read.span_id, read.is_remote) == (0xA1, 0xB2, True)
    del written["traceparent"], written["X-Span-ID"]
    assert named_trace(propagator.extract(written)) == 0xA1


def test_baggage_is_read_from_several_headers() -> None:
    from opentelemetry import baggage

    carrier = {"baggage": ["user=a%20b", "tier = gold"]}
    assert baggage.get_all(TracewatchPropagator().extract(carrier)) == {"user": "a b", "tier": "gold"}
