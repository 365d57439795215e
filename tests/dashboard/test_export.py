"""A stored trace as OTLP JSON and as Jaeger's JSON."""

import json
from typing import Any

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from dashboard.export import jaeger_json, otlp_json
from tracecore.errors import MalformedPayload


def row(span_id: int, parent: int | None = None, **changes: Any) -> dict[str, Any]:
    attributes = [KeyValue(key="http.route", value=AnyValue(string_value="/a"))]
    span = Span(
        trace_id=b"t" * 16,
        span_id=bytes([span_id]) * 8,
        parent_span_id=bytes([parent]) * 8 if parent else b"",
        name="op",
        kind=2,
        attributes=attributes,
        links=[Span.Link(trace_id=b"o" * 16, span_id=b"l" * 8)],
    )
    resource = Resource(attributes=[KeyValue(key="service.name", value=AnyValue(string_value="shop"))])
    return {
        "raw": span.SerializeToString(),
        "attributes": {"http.route": "/a", "retries": 2, "cached": True, "ratio": 0.5, "list": [1]},
        "events": [{"name": "exception", "time_ns": 3_000_000, "attributes": {"exception.type": "Boom"}}],
        "span_id": span.span_id,
        "parent_span_id": span.parent_span_id or None,
        "service": "shop",
        "operation": "op",
        "kind": 2,
        "status": 2,
        "status_message": "boom",
        "start_ns": 1_000_000,
        "duration_ns": 2_500_000,
        "warnings": ["odd"],
        "resource_raw": resource.SerializeToString(),
        "resource_schema": "",
        "resource": {"service.name": "shop", "host.name": "h1"},
        "resource_id": 1,
        "scope_raw": b"",
        "scope_schema": "",
        "scope_name": None,
        "scope_version": None,
    } | changes


def test_otlp_json_has_hex_ids_and_every_span_once() -> None:
    document = json.loads(otlp_json([row(1), row(2, parent=1)]))
    (group,) = document["resourceSpans"]
    spans = group["scopeSpans"][0]["spans"]
    assert [span["spanId"] for span in spans] == ["01" * 8, "02" * 8]
    assert spans[1]["parentSpanId"] == "01" * 8
    assert spans[0]["traceId"] == "74" * 16
    assert spans[0]["links"][0]["traceId"] == "6f" * 16
    assert group["resource"]["attributes"][0]["value"] == {"stringValue": "shop"}


def test_a_span_that_does_not_parse_is_told() -> None:
    with pytest.raises(MalformedPayload):
        otlp_json([row(1, raw=b"\xff\xff")])


def test_jaeger_json_has_typed_tags_references_and_processes() -> None:
    (trace,) = json.loads(jaeger_json("74" * 16, [row(1), row(2, parent=1)]))["data"]
    first, second = trace["spans"]
    tags = {tag["key"]: (tag["type"], tag["value"]) for tag in first["tags"]}
    assert tags["retries"] == ("int64", 2)
    assert tags["cached"] == ("bool", True)
    assert tags["ratio"] == ("float64", 0.5)
    assert tags["list"] == ("string", "[1]")
    assert tags["error"] == ("bool", True)
    assert tags["span.kind"] == ("string", "server")
    assert (first["startTime"], first["duration"]) == (1000, 2500)
    assert second["references"] == [{"refType": "CHILD_OF", "traceID": "74" * 16, "spanID": "01" * 8}]
    assert trace["processes"] == {
        "p1": {"serviceName": "shop", "tags": [{"key": "host.name", "type": "string", "value": "h1"}]}
    }
    assert first["logs"][0]["fields"][0]["value"] == "exception"
