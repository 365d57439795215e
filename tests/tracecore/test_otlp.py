import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from tests.tracecore.builders import T0_NS, order_spans, request, span, span_id, trace_id
from tracecore.errors import MalformedPayload
from tracecore.otlp import (
    UNKNOWN_SERVICE,
    Event,
    attribute_bytes,
    count_milli,
    decode_spans,
    encode_spans,
    resource_attributes,
    resource_of,
    span_detail,
)
from tracecore.span import MAX_COUNT_MILLI, Resource, Scope, Span, SpanKind

attribute_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from("abc"), st.sampled_from(["x", "y"])), max_size=12))
def test_decoding_after_encoding_is_identity(shapes: list[tuple[int, str, str]]) -> None:
    spans = [
        span(id=i, trace=trace, service=service, scope=scope) for i, (trace, service, scope) in enumerate(shapes, 1)
    ]
    decoded, rejected = decode_spans(encode_spans(spans))
    assert not rejected
    assert sorted(decoded) == sorted(spans)


@given(st.dictionaries(st.text(), attribute_values, max_size=4))
def test_attributes_of_every_type_come_back(attributes: dict[str, object]) -> None:
    one = span(attributes=attributes)  # type: ignore[arg-type]
    assert span_detail(one.raw).attributes == attributes
    assert [KeyValue.FromString(pair).key for pair in attribute_bytes(one.raw)] == list(attributes)


def test_fixed_fields_and_details_are_those_that_were_sent() -> None:
    root = span()
    one = span(
        "GET /", trace=5, id=7, parent=root, service="web", host="node-1", kind=SpanKind.SERVER, start_ms=1,
        duration_ms=2, error="no stock", events=[("exception", 2, {"exception.type": "KeyError"})], links=[root],
        trace_state="ot=th:8", scope="flask",
    )  # fmt: skip
    assert (one.trace_id, one.span_id, one.parent_span_id) == (trace_id(5), span_id(7), root.span_id)
    assert (one.name, one.kind, one.status, one.is_error) == ("GET /", SpanKind.SERVER, 2, True)
    assert (one.start_ns, one.end_ns) == (T0_NS + 1_000_000, T0_NS + 3_000_000)
    assert (one.service, one.resource.host, one.count_milli) == ("web", "node-1", 2000)
    assert resource_attributes(one.resource) == {"service.name": "web", "host.name": "node-1"}
    detail = span_detail(one.raw)
    assert detail.events == [Event("exception", T0_NS + 2_000_000, {"exception.type": "KeyError"})]
    assert [(link.trace_id, link.span_id) for link in detail.links] == [(root.trace_id, root.span_id)]
    assert (detail.status_message, detail.trace_state) == ("no stock", "ot=th:8")


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        ({"trace_id": b""}, "trace id missing"),
        ({"trace_id": bytes(16)}, "trace id 0000"),
        ({"trace_id": b"\1" * 8}, "no valid id"),
        ({"span_id": b""}, "span id missing"),
        ({"span_id": bytes(8)}, "span id 0000"),
        ({"span_id": b"\1" * 7}, "no valid id"),
    ],
)
def test_span_without_valid_ids_is_rejected_alone_and_whole(ids: dict[str, bytes], reason: str) -> None:
    message = ExportTraceServiceRequest.FromString(request(span("bad"), span("good")))
    for field, value in ids.items():
        setattr(message.resource_spans[0].scope_spans[0].spans[0], field, value)
    spans, rejected = decode_spans(message.SerializeToString())
    assert [one.name for one in spans] == ["good"]
    assert reason in rejected[0].reason
    lone = ExportTraceServiceRequest.FromString(rejected[0].request).resource_spans[0]
    assert lone.resource == message.resource_spans[0].resource
    assert list(lone.scope_spans[0].spans) == [message.resource_spans[0].scope_spans[0].spans[0]]


def test_span_that_does_not_parse_is_rejected_alone() -> None:
    good = span("good")
    broken = good._replace(raw=b"\x0a\xff")
    spans, rejected = decode_spans(encode_spans([broken, good]))
    assert spans == [good]
    assert "does not parse" in rejected[0].reason


@pytest.mark.parametrize("parent", [bytes(8), b"\1\2\3"])
def test_parent_id_that_cannot_be_one_is_no_parent(parent: bytes) -> None:
    message = ExportTraceServiceRequest.FromString(request(span()))
    message.resource_spans[0].scope_spans[0].spans[0].parent_span_id = parent
    assert decode_spans(message.SerializeToString())[0][0].parent_span_id == b""


def test_name_that_is_no_utf8_costs_no_span() -> None:
    good = span("name")
    spans, rejected = decode_spans(encode_spans([good._replace(raw=good.raw.replace(b"name", b"n\xffme"))]))
    assert not rejected and spans[0].name == "n\ufffdme"
    with pytest.raises(MalformedPayload):
        span_detail(spans[0].raw)


@pytest.mark.parametrize("payload", [b"\x0a\x05abc", b"not protobuf at all", b"\x0a\x02\x12\xff"])
def test_payload_that_is_no_request_is_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedPayload, match="ExportTraceServiceRequest"):
        decode_spans(payload)


def test_empty_request_has_no_spans() -> None:
    assert decode_spans(b"") == ([], [])
    assert encode_spans([]) == b""


def test_spans_of_one_resource_and_scope_travel_together_and_in_order() -> None:
    spans = order_spans()
    message = ExportTraceServiceRequest.FromString(encode_spans(spans))
    assert [len(one.scope_spans[0].spans) for one in message.resource_spans] == [2, 3, 1]


def test_schema_urls_are_kept() -> None:
    one = span()
    one = one._replace(
        resource=Resource(one.resource.raw, "https://schema/r", "shop", "shop"), scope=Scope(b"", "https://schema/s")
    )
    assert decode_spans(encode_spans([one]))[0] == [one]


def test_resource_tells_service_and_whose_clock_it_is() -> None:
    assert resource_of(b"").service == UNKNOWN_SERVICE
    assert resource_of(b"\xff").service == UNKNOWN_SERVICE, "unreadable, but its spans are spans"
    assert resource_attributes(resource_of(b"\xff")) == {}
    assert span(service="web").resource.host == "web"
    assert span(service="web", resource={"k8s.pod.name": "web-1", "host.id": "h"}).resource.host == "h"


@pytest.mark.parametrize(
    ("trace_state", "milli"),
    [
        ("", 1000), ("ot=th:0", 1000), ("ot=th:8", 2000), ("ot=rv:abc;th:c", 4000),
        ("x=1, ot=th:e6666666666666", 10000),
        ("ot=th:zz", 1000), ("ot=th:-f", 1000), ("ot=th:", 1000), ("ot=th:123456789abcdef", 1000), ("ot", 1000),
        ("th:8", 1000),
        ("ot=th:ffffffffffffff", MAX_COUNT_MILLI),
    ],
)  # fmt: skip
def test_weight_of_a_sampled_span(trace_state: str, milli: int) -> None:
    assert count_milli(trace_state) == milli


@given(st.binary(max_size=200))
def test_no_bytes_break_the_decoder(payload: bytes) -> None:
    try:
        spans, _ = decode_spans(payload)
    except MalformedPayload:
        return
    assert all(isinstance(one, Span) for one in spans)
