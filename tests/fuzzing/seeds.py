"""Valid inputs of every decoder, from which a fuzzer departs: nobody guesses a protobuf from nothing."""

import gzip
import json
import zlib

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.fuzzing.laws import HEADERS
from tests.services import ROOT
from tests.tracecore.builders import closed, span
from tracecore.otlp import encode_spans
from tracecore.span import SpanKind
from tracecore.wire import encode_trace

_RULES = """\
rules:
  - name: CheckoutErrors
    kinds: [error]
    severity: critical
    match: {service: checkout}
    min_count: 3
    within: 1m
    for: 0s
    resolve_after: 2m
    repeat_interval: 4h
    learns: true
defaults: true
thresholds: [{name: Slow, service: web, metric: p95, above: 800ms, over: 5m}]
objectives: [{name: Available, service: web, target: 99.9}]
"""


def seeds() -> dict[str, list[bytes]]:
    """By the names of ``laws.LAWS``; at least one each."""
    otlp = [encode_spans([root]), encode_spans([root, call, odd]), encode_spans([odd])]
    return {
        "otlp": otlp,
        "otlp_json": [_otlp_json(request) for request in otlp],
        "zipkin": [json.dumps(_ZIPKIN).encode(), json.dumps(_ZIPKIN[:1]).encode()],
        "jaeger": [json.dumps(_JAEGER).encode()],
        "headers": _headers(),
        "rules": [_RULES.encode(), b"defaults: false\n"],
        "body": [gzip.compress(otlp[1], mtime=0), zlib.compress(otlp[1]), gzip.compress(b"", mtime=0) * 2],
        "trace_records": [record for spans in ([root], [root, call, odd]) for record in encode_trace(closed(spans))],
    }


root = span("GET /cart", id=1, service="web", kind=SpanKind.SERVER, duration_ms=90, trace_state="ot=th:c,x=1")
call = span(
    "GET /stock",
    id=2,
    parent=root,
    service="web",
    kind=SpanKind.CLIENT,
    duration_ms=60,
    attributes={"http.request.method": "GET", "n": -7, "share": 0.25, "ok": True, "raw": b"\0\xff", "many": [1, "a"]},
)
odd = span(
    "GET /stock",
    id=3,
    parent=call,
    service="stock",
    host="stock-1",
    kind=SpanKind.SERVER,
    error="out of stock",
    attributes={"map": {"a": [None, {"b": 1}]}, "text": "line\nline", "empty": ""},
    events=[("exception", 3, {"exception.type": "LookupError", "exception.message": "no"})],
    links=[root],
)

_ENDPOINT = {"serviceName": "web", "ipv4": "10.0.0.1", "port": 80}
_ZIPKIN = [
    {
        "traceId": "5982fe77008310cc80f1da5e10147517", "id": "bd7a977555f6b982", "name": "get /", "kind": "SERVER",
        "timestamp": 1_700_000_000_000_000, "duration": 1500, "localEndpoint": _ENDPOINT, "shared": True,
        "tags": {"error": "true", "http.path": "/"},
        "annotations": [{"timestamp": 1_700_000_000_000_001, "value": "x"}],
    },
    {
        "traceId": "80f1da5e10147517", "id": "1", "parentId": "bd7a977555f6b982", "remoteEndpoint": _ENDPOINT,
        "tags": {"otel.status_code": "OK", "otel.scope.name": "lib"},
    },
]  # fmt: skip
_TAGS = [
    {"key": "span.kind", "type": "string", "value": "server"}, {"key": "error", "type": "bool", "value": True},
    {"key": "n", "type": "int64", "value": 3}, {"key": "f", "type": "float64", "value": 0.5},
]  # fmt: skip
_JAEGER = {
    "data": [
        {
            "traceID": "ab",
            "spans": [
                {
                    "traceID": "ab", "spanID": "1", "operationName": "GET /", "startTime": 1_700_000_000_000_000,
                    "duration": 1500, "processID": "p1", "tags": _TAGS,
                    "references": [{"refType": "CHILD_OF", "traceID": "ab", "spanID": "2"}],
                    "logs": [{"timestamp": 1, "fields": [{"key": "event", "value": "exception"}]}],
                }
            ],
            "processes": {"p1": {"serviceName": "shop", "tags": _TAGS[:1]}},
        }
    ]
}  # fmt: skip


def _otlp_json(request: bytes) -> bytes:
    """As OTLP has it: ids in hex, other bytes in base64."""
    document = json_format.MessageToDict(ExportTraceServiceRequest.FromString(request))
    for resource_spans in document["resourceSpans"]:
        for scope_spans in resource_spans["scopeSpans"]:
            for one in scope_spans["spans"]:
                for holder in (one, *one.get("links", ())):
                    holder |= {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174"}
    return json.dumps(document).encode()


def _headers() -> list[bytes]:
    """Those of the vectors that every language's parser is held to, a value a line, in the order of the law."""
    vectors = json.loads((ROOT / "tests/vectors/headers.json").read_text())
    texts = {text for group in vectors.values() if isinstance(group, list) for text in _strings(group)}
    lines = [text.encode("latin-1", "replace") for text in sorted(texts) if "\n" not in text]
    whole = dict.fromkeys(HEADERS, b"") | {
        "traceparent": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": b"ot=th:c;rv:1,vendor=x",
        "b3": b"80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90",
        "x-b3-traceid": b"463ac35c9f6413ad48485a3953bb6124",
        "x-b3-spanid": b"a2fb4a1d1a96d312",
        "x-trace-id": b"463ac35c-9f64-13ad-4848-5a3953bb6124",
        "baggage": b"user=1;p=2,k=%20v",
    }
    return [b"\n".join(whole.values()), *(b"\n".join(lines[at : at + 6]) for at in range(0, len(lines), 6))]


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    return [text for item in value for text in _strings(item)] if isinstance(value, list) else []
