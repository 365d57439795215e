import json
from pathlib import Path

import pytest

from tests.tracecore.builders import closed
from tracecore.closed_trace import ClosedTrace
from tracecore.errors import MalformedPayload
from tracecore.otlp import decode_spans, resource_attributes, span_detail
from tracecore.span import SpanKind, StatusCode
from tracecore.zipkin_json import otlp_of_zipkin_json

SPAN = {
    "traceId": "5af7183fb1d4cf5f",
    "id": "352bff9a74ca9ad2",
    "parentId": "6b221d5bc9e6496c",
    "name": "get /api",
    "kind": "SERVER",
    "timestamp": 1556604172355737,
    "duration": 1431,
    "localEndpoint": {"serviceName": "backend", "ipv4": "192.168.99.1", "port": 3306},
    "remoteEndpoint": {"serviceName": "frontend", "ipv4": "172.19.0.2", "port": 58648},
    "annotations": [{"timestamp": 1556604172355800, "value": "checked"}],
    "tags": {"http.method": "GET", "error": "no stock"},
    "debug": False,
    "shared": True,
}


def test_zipkins_span_is_read_as_otlp() -> None:
    spans, rejected = decode_spans(otlp_of_zipkin_json(json.dumps([SPAN]).encode()))
    assert not rejected
    span = spans[0]
    assert span.trace_id.hex() == "00000000000000005af7183fb1d4cf5f"
    assert (span.span_id.hex(), span.parent_span_id.hex()) == (SPAN["id"], SPAN["parentId"])
    assert (span.name, span.kind, span.status) == ("get /api", SpanKind.SERVER, StatusCode.ERROR)
    assert (span.start_ns, span.end_ns - span.start_ns) == (1556604172355737000, 1431000)
    assert resource_attributes(span.resource) == {"service.name": "backend", "host.name": "192.168.99.1"}
    detail = span_detail(span.raw)
    assert detail.attributes == {
        "peer.service": "frontend", "network.peer.address": "172.19.0.2", "network.peer.port": "58648",
        "http.method": "GET", "error": "no stock",
    }  # fmt: skip
    assert [(event.name, event.time_ns) for event in detail.events] == [("checked", 1556604172355800000)]
    assert detail.status_message == "no stock"


def test_spans_of_one_endpoint_share_a_resource() -> None:
    other = {**SPAN, "id": "1", "localEndpoint": {"serviceName": "db"}}
    spans, _ = decode_spans(otlp_of_zipkin_json(json.dumps([SPAN, other, SPAN]).encode()))
    assert [span.service for span in spans] == ["backend", "backend", "db"]
    assert spans[2].span_id == bytes(7) + b"\1"


def test_span_of_ids_alone_is_a_span() -> None:
    spans, rejected = decode_spans(otlp_of_zipkin_json(b'[{"traceId": "a", "id": "b"}]'))
    assert not rejected and spans[0].parent_span_id == b"" and spans[0].service == "unknown_service"


def test_of_an_id_that_is_too_long_the_right_end_counts() -> None:
    (span,), _ = decode_spans(otlp_of_zipkin_json(b'[{"traceId": "1", "id": "abd7a977555f977555f6b982"}]'))
    assert span.span_id.hex() == "555f977555f6b982"
    (odd,), _ = decode_spans(otlp_of_zipkin_json(b'[{"traceId": "1", "id": "bd7a977555f977555f6b982"}]'))
    assert odd.span_id.hex() == "555f977555f6b982"


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"{}", "array"),
        (b"[5]", r"\$\[0\]"),
        (b'[{"traceId": "xyz", "id": "1"}]', r"\$\[0\].traceId"),
        (b'[{"traceId": "1"}]', "id"),
        (b'[{"traceId": "1", "id": "1", "duration": -1}]', "duration"),
        (b'[{"traceId": "1", "id": "1", "tags": {"a": 1}}]', "tags"),
        (b"\xff", "Zipkin"),
    ],
)
def test_what_are_no_zipkin_spans_is_malformed_with_the_path(body: bytes, path: str) -> None:
    with pytest.raises(MalformedPayload, match=path):
        otlp_of_zipkin_json(body)


def zipkin_trace(folder: Path, name: str) -> ClosedTrace:
    spans, rejected = decode_spans(otlp_of_zipkin_json((folder / "fixtures" / "zipkin" / name).read_bytes()))
    assert not rejected
    return closed(spans)


@pytest.mark.parametrize(
    ("name", "span_count", "links"),
    [
        ("ascend.json", 8, {("mobile-gateway", "auth-service"): 1, ("mobile-gateway", "content-service"): 1}),
        ("messaging.json", 4, {("frontend", "rabbitmq"): 1, ("rabbitmq", "backend"): 1}),
        ("messaging-kafka.json", 28, {("kafka", "servicea"): 4, ("kafka", "serviceb"): 3, ("servicea", "kafka"): 9}),
        ("simple-db-p6.json", 5, {("bootifulmeters", "app_db"): 4}),
        ("envoy.json", 1, {}),
    ],
)
def test_trace_of_a_zipkin_site_is_understood(
    shared_data: Path, name: str, span_count: int, links: dict[tuple[str, str], int]
) -> None:
    trace = zipkin_trace(shared_data, name)
    assert trace.span_count == span_count and trace.is_complete
    assert {(link.caller, link.callee): link.calls for link in trace.links} == links


def test_zipkins_skewed_trace_is_put_right(shared_data: Path) -> None:
    client, server = zipkin_trace(shared_data, "skew.json").spans[1:3]
    assert server.start_ns < client.start_ns, "as sent, the server began before it was called"
    assert client.start_ns <= server.start_ns + server.skew_ns
    assert server.end_ns + server.skew_ns <= client.end_ns
