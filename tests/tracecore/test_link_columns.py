"""Compiled code finds the links that ``dependency_links`` finds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from tests.tracecore.builders import T0_NS, order_spans, span_id, trace_id
from tests.tracecore.gathered import analysed
from tests.tracecore.strategies import tidy_trace
from tracecore import batch_analysis
from tracecore.analysis import Gathered
from tracecore.batch_analysis import analysed_alone
from tracecore.closed_trace import ClosedTrace
from tracecore.dependency_links import merged_links
from tracecore.otlp import UNKNOWN_SERVICE
from tracecore.packed import Packed
from tracecore.span import Resource, Scope, Span
from tracecore.wire import encode_trace

#: What spans say of their peers: ü is a service that is traced, too.
PEERS = [
    {}, {}, {"peer.service": "ü"}, {"service.peer.name": "bank"}, {"db.system": "redis", "db.namespace": "0"},
    {"messaging.system": "kafka", "messaging.destination": "orders"}, {"server.address": "ü"},
    {"messaging.system": "kafka", "messaging.operation": "receive"}, {"server.address": "rates.example"},
    {"http.route": "/peer"},
]  # fmt: skip
SERVICES = ["ü", "web", "orders", UNKNOWN_SERVICE, ""]
RESOURCES = [Resource(bytes([number % 6]), "", SERVICES[number % 5], "one") for number in range(8)]

shapes = st.tuples(
    st.integers(0, 12), st.integers(0, 6), st.sampled_from([0, 1, 20, 2**61]), st.integers(0, 2),
    st.sampled_from(RESOURCES), st.sampled_from(PEERS), st.integers(0, 12),
)  # fmt: skip
Shape = tuple[int, int, int, int, Resource, dict[str, str], int]


@pytest.fixture(autouse=True)
def compiled() -> None:
    batch_analysis.warm_up()


def calling_trace(number: int, shapes: list[Shape]) -> list[Span]:
    """A tree of spans of every kind, that name their peers and link to others."""
    return [
        Span(
            trace_id(number), span_id(place), span_id(above % (place - 1) + 1) if place > 1 else b"", "call", kind,
            T0_NS, T0_NS + duration, status, 1000, resource, Scope(b"", ""), raw(number, peer, link),
        )
        for place, (above, kind, duration, status, resource, peer, link) in enumerate(shapes, 1)
    ]  # fmt: skip


def raw(number: int, peer: dict[str, str], link: int) -> bytes:
    return SpanMessage(
        attributes=[{"key": key, "value": {"string_value": value}} for key, value in peer.items()],
        links=[{"trace_id": trace_id(number), "span_id": span_id(link)}] if link else [],
    ).SerializeToString()


def plain(traces: list[list[Span]]) -> list[ClosedTrace]:
    return [analysed_alone(Gathered(spans[0].trace_id, spans, 1, "complete", 0, 0)) for spans in traces]


@given(st.lists(st.lists(shapes, min_size=1, max_size=16), min_size=1, max_size=5))
def test_links_of_many_traces_are_those_of_each(all_shapes: list[list[Shape]]) -> None:
    traces = [calling_trace(number, shapes) for number, shapes in enumerate(all_shapes, 1)]
    together, alone = analysed(traces), plain(traces)
    assert [encode_trace(trace) for trace in together] == [encode_trace(trace) for trace in alone]
    assert [trace.links for trace in together] == [trace.links for trace in alone]
    assert merged_links(trace.links for trace in together) == merged_links(trace.links for trace in alone)


@given(st.lists(tidy_trace(max_size=40), min_size=1, max_size=3))
def test_links_of_tidy_traces(traces: list[list[Span]]) -> None:
    assert [trace.links for trace in analysed(traces)] == [trace.links for trace in plain(traces)]


def test_calls_that_last_too_long_to_be_added_up_are_added_up_by_python() -> None:
    root = order_spans()[0]
    calls = [
        root._replace(
            span_id=span_id(number), parent_span_id=root.span_id, kind=3, start_ns=1, end_ns=2**62 - 1,
            raw=raw(1, {"peer.service": "bank"}, 0),
        )
        for number in range(100, 103)
    ]  # fmt: skip
    traces = [order_spans(1), [root._replace(start_ns=1), *calls], order_spans(3)]
    together = analysed(traces)
    assert [isinstance(trace.spans, Packed) for trace in together] == [True, False, True]
    assert list(together) == plain(traces)
    assert sum(link.duration_ns for link in together[1].links) == 3 * (2**62 - 2)
