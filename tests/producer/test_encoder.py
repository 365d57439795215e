"""Our encoder writes what the stock encoder writes, and what it cannot write."""

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from tracewatch.encoder import SpanEncoder
from tracewatch.ended_spans import ended
from tracewatch.gateway.otlp import _ids_to_base64
from tracewatch.headers import HeaderTraceState
from tracewatch.records import records
from tracewatch.redaction import Redaction

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "spans.json").read_text())["spans"]


def encoded(*spans: ReadableSpan, encoder: SpanEncoder | None = None) -> ExportTraceServiceRequest:
    encoder = encoder or SpanEncoder()
    (record,) = records([encoder.encoded(ended(span)) for span in spans], 1, 1_000_000)
    return ExportTraceServiceRequest.FromString(record.value)


def recorded(**attributes: Any) -> ReadableSpan:
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "s"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    provider.get_tracer("t").start_span("name", attributes=attributes).end()
    return memory.get_finished_spans()[0]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["span"])
def test_every_vector_holds(vector: dict[str, Any]) -> None:
    document = json.loads(json.dumps(vector["request"]))
    _ids_to_base64(document)
    expected = json_format.ParseDict(document, ExportTraceServiceRequest())
    written = encoded(span_of(vector["request"]))
    # NaN differs from itself; protobuf's deterministic bytes do not.
    assert written.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


def test_the_stock_encoder_writes_the_same() -> None:
    for span in (span_of(vector["request"]) for vector in VECTORS):
        ours, stock = _span(encoded(span)), _span(encode_spans([span]))
        # The stock encoder leaves out the W3C flags, an empty status, and a link's tracestate and remoteness.
        assert ours.flags & 0x300 == stock.flags
        for each in (ours, stock):
            each.flags = 0
            for link in each.links:
                link.flags = 0
                link.ClearField("trace_state")
            if not each.status.ByteSize():
                each.ClearField("status")
        assert ours.SerializeToString() == stock.SerializeToString(), span.name


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(st.text("abcdé", min_size=1, max_size=3), values, max_size=6), min_size=1, max_size=3))
def test_any_attributes_are_written_as_the_stock_encoder_writes_them(attribute_sets: list[dict[str, Any]]) -> None:
    # Any number may be a payment card's: tests/producer/test_redaction.py is about those.
    encoder = SpanEncoder(Redaction(defaults=False))
    for attributes in attribute_sets * 2:  # the second time from the cache
        span = recorded(**attributes)
        ours = encoded(span, encoder=encoder).resource_spans[0].scope_spans[0].spans[0].attributes
        stock = encode_spans([span]).resource_spans[0].scope_spans[0].spans[0].attributes
        assert list(ours) == list(stock)


def test_equal_keys_of_different_types_stay_apart() -> None:
    encoder = SpanEncoder()
    for value, field in ((1, "int_value"), (True, "bool_value"), (1.0, "double_value"), ("1", "string_value")):
        for _ in range(2):
            written = encoded(recorded(k=value), encoder=encoder).resource_spans[0].scope_spans[0].spans[0]
            assert written.attributes[0].value.WhichOneof("value") == field


def test_what_has_no_utf8_and_no_int64_is_written_as_text() -> None:
    span = recorded(name="\ud800 lone", number=2**63, huge=-(10**2000), **{"k\udfff": 1})
    attributes = {a.key: a.value.string_value for a in _span(encoded(span)).attributes}
    assert attributes["name"] == "\\ud800 lone"
    assert attributes["number"] == "9223372036854775808"
    assert attributes["huge"].startswith("-0x")
    assert "k\\udfff" in attributes


def test_texts_are_cut_where_the_caller_says() -> None:
    span = recorded(long="x" * 1000, list=["y" * 1000] * 1000, map={"k" * 50: "v" * 50}, data=b"z" * 100)
    body = SpanEncoder().span(ended(span), max_text_length=16)
    assert len(body) < 1000


def test_caches_stay_bounded() -> None:
    encoder = SpanEncoder()
    # Spans of one provider share its resource; to find one out for each span would take most of the test's time.
    context, resource = SpanContext(1, 2, False), Resource.get_empty()
    for number in range(40_000):
        attributes = {f"key{number % 100}": f"v{number}", f"n{number % 100}": number, f"k{number}": "v"}
        encoder.span(ended(ReadableSpan(f"name {number}", context, resource=resource, attributes=attributes)))
    fragments = encoder._of_spans
    assert len(fragments) < 17_000
    assert len(fragments._keys) <= 1100
    assert sum(len(of_key.heads) for of_key in fragments._keys.values()) < 3_000
    assert len(encoder._names) <= 1024


def _span(message: ExportTraceServiceRequest) -> Any:
    return message.resource_spans[0].scope_spans[0].spans[0]


def span_of(document: dict[str, Any]) -> ReadableSpan:
    """The ended SDK span that a vector describes."""
    resource_spans = document["resourceSpans"][0]
    scope_spans = resource_spans["scopeSpans"][0]
    fields = scope_spans["spans"][0]
    scope = scope_spans["scope"]
    parent_id = fields.get("parentSpanId")
    flags = TraceFlags(fields["flags"] & 0xFF)
    state = state_of(fields.get("traceState"))
    trace_id = int(fields["traceId"], 16)
    status = fields.get("status", {})
    span = ReadableSpan(
        name=fields["name"],
        context=SpanContext(trace_id, int(fields["spanId"], 16), False, flags, state),
        parent=SpanContext(trace_id, int(parent_id, 16), bool(fields["flags"] & 0x200)) if parent_id else None,
        resource=Resource(attributes_of(resource_spans["resource"])),
        attributes=attributes_of(fields),
        events=bounded(
            [Event(e["name"], attributes_of(e), int(e["timeUnixNano"])) for e in fields.get("events", ())],
            fields.get("droppedEventsCount", 0),
        ),
        links=bounded([link_of(link) for link in fields.get("links", ())], fields.get("droppedLinksCount", 0)),
        kind=SpanKind(fields["kind"] - 1),
        status=Status(StatusCode(status.get("code", 0)), status.get("message")),
        start_time=int(fields["startTimeUnixNano"]),
        end_time=int(fields["endTimeUnixNano"]),
        instrumentation_scope=InstrumentationScope(scope["name"], scope.get("version"), None, attributes_of(scope)),
    )
    if dropped := fields.get("droppedAttributesCount"):
        from opentelemetry.attributes import BoundedAttributes

        span._attributes = BoundedAttributes(None, span._attributes)
        span._attributes.dropped = dropped
    return span


def link_of(link: dict[str, Any]) -> Link:
    context = SpanContext(
        int(link["traceId"], 16),
        int(link["spanId"], 16),
        bool(link["flags"] & 0x200),
        TraceFlags(link["flags"] & 0xFF),
        state_of(link.get("traceState")),
    )
    return Link(context, attributes_of(link))


def state_of(text: str | None) -> HeaderTraceState | None:
    return HeaderTraceState.of(dict(member.split("=") for member in text.split(","))) if text else None


def bounded(items: list[Any], dropped: int) -> BoundedList:
    bounded_items = BoundedList(None)
    bounded_items.extend(items)
    bounded_items.dropped = dropped
    return bounded_items


def attributes_of(holder: dict[str, Any]) -> dict[str, Any]:
    return {pair["key"]: value_of(pair["value"]) for pair in holder.get("attributes", ())}


def value_of(value: dict[str, Any]) -> Any:
    import base64

    ((kind, content),) = value.items()
    match kind:
        case "intValue":
            return int(content)
        case "doubleValue":
            return float(content)
        case "bytesValue":
            return base64.b64decode(content)
        case "arrayValue":
            return [value_of(item) for item in content["values"]]
        case "kvlistValue":
            return {pair["key"]: value_of(pair["value"]) for pair in content["values"]}
    return content
