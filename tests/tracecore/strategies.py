"""Hypothesis strategies: spans of one trace that may be wrong in every way that the wire allows."""

from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from tests.tracecore.builders import MS, T0_NS, order_spans, span_id, trace_id
from tracecore.span import Resource, Scope, Span

_HOSTS = [
    Resource(bytes([i]), "", service, host) for i, (service, host) in enumerate([("a", "1"), ("b", "2"), ("b", "3")])
]
_SCOPE = Scope(b"", "")
#: A span that names its peer.
_PEER = SpanMessage(attributes=[{"key": "peer.service", "value": {"string_value": "b"}}]).SerializeToString()


_Shape = tuple[int, int, int, int, int, int, Resource]


def spans_of_a_trace(max_size: int = 12) -> st.SearchStrategy[list[Span]]:
    """At least one span; ids collide, parents may be missing, own, circular; times may be zero or run backwards."""
    ids = st.integers(0, max_size)
    times = st.integers(-1, 60)
    shape = st.tuples(ids, ids, st.integers(0, 5), times, times, st.integers(0, 2), st.sampled_from(_HOSTS))
    return st.lists(shape, min_size=1, max_size=max_size).map(_spans)


def well_timed_trace(max_size: int = 12) -> st.SearchStrategy[list[Span]]:
    """A tree of spans on one host, each of unique id, whose children may overlap and outlive their parents."""
    shape = st.tuples(st.integers(0, max_size), st.integers(0, 100), st.integers(0, 100))
    return st.lists(shape, min_size=1, max_size=max_size).map(_tree)


def _spans(shapes: list[_Shape]) -> list[Span]:
    """Time -1 is none at all; id 0 is the last of all, and as a parent none."""
    return [
        Span(
            trace_id(1),
            span_id(id or 999),
            span_id(parent) if parent else b"",
            "work",
            kind,
            T0_NS + start if start >= 0 else 0,
            T0_NS + end if end >= 0 else 0,
            status,
            1000,
            resource,
            _SCOPE,
            b"%d" % number,
        )
        for number, (id, parent, kind, start, end, status, resource) in enumerate(shapes)
    ]


def _tree(shapes: list[tuple[int, int, int]]) -> list[Span]:
    return [
        Span(
            trace_id(1), span_id(number), span_id(parent % (number - 1) + 1) if number > 1 else b"", "work", 1,
            T0_NS + start, T0_NS + start + duration, 0, 1000, _HOSTS[0], _SCOPE, b"",
        )
        for number, (parent, start, duration) in enumerate(shapes, 1)
    ]  # fmt: skip


def tidy_trace(max_size: int = 12) -> st.SearchStrategy[list[Span]]:
    """A tree of spans of every kind on hosts whose clocks differ, in any order; nothing in it needs repair."""
    shape = st.tuples(
        st.integers(0, max_size), st.integers(0, 5), st.integers(0, 60), st.integers(0, 60), st.integers(0, 2),
        st.sampled_from(_HOSTS), st.sampled_from([b"", _PEER]),
    )  # fmt: skip
    return st.lists(shape, min_size=1, max_size=max_size).map(_tidy).flatmap(st.permutations)


def _tidy(shapes: list[tuple[int, int, int, int, int, Resource, bytes]]) -> list[Span]:
    return [
        Span(
            trace_id(1), span_id(number), span_id(parent % (number - 1) + 1) if number > 1 else b"", "work", kind,
            T0_NS + start, T0_NS + start + duration, status, 1000, resource, _SCOPE, raw,
        )
        for number, (parent, kind, start, duration, status, resource, raw) in enumerate(shapes, 1)
    ]  # fmt: skip


def requests_of_few_ids(max_size: int = 12) -> st.SearchStrategy[bytes]:
    """ExportTraceServiceRequests with spans of three traces whose ids collide, on either side of a call."""
    shape = st.tuples(
        st.integers(1, 3), st.integers(1, 6), st.integers(0, 6), st.integers(0, 5), st.integers(0, 2),
        st.integers(1, 3), st.booleans(),
    )  # fmt: skip
    return st.lists(shape, min_size=1, max_size=max_size).map(_request)


def _request(shapes: list[tuple[int, int, int, int, int, int, bool]]) -> bytes:
    groups = [
        ResourceSpans(
            resource={"attributes": [{"key": "service.name", "value": {"string_value": service}}]},
            scope_spans=[
                ScopeSpans(
                    spans=[
                        SpanMessage(
                            trace_id=trace_id(trace), span_id=span_id(id),
                            parent_span_id=span_id(parent) if parent else b"", name=f"work {id}",
                            kind=kind, status={"code": status},
                            start_time_unix_nano=T0_NS, end_time_unix_nano=T0_NS + duration,
                        )
                        for trace, id, parent, kind, status, duration, is_cart in shapes
                        if is_cart == (service == "cart")
                    ]
                )
            ],
        )
        for service in ("cart", "web")
    ]  # fmt: skip
    return ExportTraceServiceRequest(resource_spans=groups).SerializeToString()


def tidy_traces(max_traces: int = 8) -> st.SearchStrategy[list[list[Span]]]:
    """Tidy traces of few operations, each with an id of its own; some last for nanoseconds, some for half a minute."""
    shape = st.tuples(
        tidy_trace(), st.sampled_from([1, 10**6, 3 * 10**8]), st.sampled_from([1000, 1000, 4000]), st.booleans()
    )
    return st.lists(shape, min_size=1, max_size=max_traces).map(
        lambda traces: [
            [
                span._replace(
                    trace_id=trace_id((number * 7 + 3) % 100 << 60 | number + 1),
                    name=f"work {span.span_id[-1] % 3}" if is_varied else span.name,
                    start_ns=T0_NS + (span.start_ns - T0_NS) * scale,
                    end_ns=T0_NS + (span.end_ns - T0_NS) * scale,
                    count_milli=count_milli,
                )
                for span in spans
            ]
            for number, (spans, scale, count_milli, is_varied) in enumerate(traces)
        ]
    )


def shop_traces(max_traces: int = 12) -> st.SearchStrategy[list[list[Span]]]:
    """The shop's requests, half a minute of them: some fail, and the network between web and orders takes its time."""
    shape = st.tuples(st.integers(0, 30_000), st.booleans(), st.sampled_from([0, 1, 10, 39]))
    return st.lists(shape, min_size=1, max_size=max_traces).map(
        lambda shapes: [_shop_trace(number, *one) for number, one in enumerate(shapes, 1)]
    )


def _shop_trace(number: int, start_ms: int, failed: bool, network_ms: int) -> list[Span]:
    root, call, served, *rest = order_spans(number, start_ms=start_ms, failed=failed)
    served = served._replace(
        start_ns=call.start_ns + network_ms * MS, end_ns=call.end_ns - network_ms * MS, count_milli=1000 * number
    )
    return [root, call, served, *rest]
