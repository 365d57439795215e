"""What the code of Jaeger's clients asks for and reads, as strict types: Jaeger UI, and Grafana's Jaeger data source.

Sources: jaegertracing/jaeger-ui, ``api/jaeger.ts``, ``api/v3``, ``types/trace.ts``, ``types/metrics.ts``;
grafana/grafana, ``pkg/tsdb/jaeger`` (Go decodes into types: a number where it has a string fails).
"""

import base64
import json
from typing import Any, Literal
from urllib.parse import quote

import httpx
import msgspec
import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from tests.live_api.history import MS, NOON_MS, NOON_NS, Made, made_trace, request_of, store, trace_of
from tracecore.buckets import bucket_of
from tracecore.span import SpanKind
from tracecore.window import OperationWindow

NOON_US = NOON_NS // 1000
#: Names as people give them; clients escape them, or, as Grafana in a path, do not.
SERVICE = "team a/checkout&pay?"
OPERATION = "GET /cart/{id}?x=1#y"


class KeyValue(msgspec.Struct, forbid_unknown_fields=True):
    key: str
    type: Literal["string", "bool", "int64", "float64", "binary"]
    value: Any


class Log(msgspec.Struct, forbid_unknown_fields=True):
    timestamp: int
    fields: list[KeyValue]


class Reference(msgspec.Struct, forbid_unknown_fields=True, rename={"trace_id": "traceID", "span_id": "spanID"}):
    refType: Literal["CHILD_OF", "FOLLOWS_FROM"]
    trace_id: str
    span_id: str


class Span(msgspec.Struct, forbid_unknown_fields=True):
    traceID: str
    spanID: str
    processID: str
    operationName: str
    startTime: int
    duration: int
    logs: list[Log]
    references: list[Reference]
    tags: list[KeyValue]
    warnings: list[str] | None
    flags: int


class Process(msgspec.Struct, forbid_unknown_fields=True):
    serviceName: str
    tags: list[KeyValue]


class Trace(msgspec.Struct, forbid_unknown_fields=True):
    traceID: str
    spans: list[Span]
    processes: dict[str, Process]
    warnings: list[str] | None


class Link(msgspec.Struct, forbid_unknown_fields=True):
    parent: str
    child: str
    callCount: int


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    data: Any
    total: int
    limit: int
    offset: int
    errors: list[dict[str, Any]] | None


class Label(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    value: str


class Gauge(msgspec.Struct, forbid_unknown_fields=True):
    doubleValue: float


class Point(msgspec.Struct, forbid_unknown_fields=True):
    gaugeValue: Gauge
    timestamp: str


class Metric(msgspec.Struct, forbid_unknown_fields=True):
    labels: list[Label]
    metricPoints: list[Point]


class Family(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    type: Literal["GAUGE"]
    help: str
    metrics: list[Metric]


class Operation(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    spanKind: str


class ServiceSummary(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    spanCount: int
    errorSpanCount: int


class Summary(msgspec.Struct, forbid_unknown_fields=True):
    traceId: str
    rootServiceName: str
    rootOperationName: str
    minStartTimeUnixNano: str
    maxEndTimeUnixNano: str
    spanCount: int
    errorSpanCount: int
    orphanSpanCount: int
    services: list[ServiceSummary]


REQUEST = request_of(
    0xC1,
    [
        Made(
            1,
            service=SERVICE,
            name=OPERATION,
            attributes={"text": "ä", "n": 7, "big": -(2**60), "x": 0.5, "yes": True, "raw": b"\0\xff"},
            events=({"exception.type": "Oops"}, {}),
            link={"why": "retry"},
            scope={"lib": "made"},
            resource={"host.name": "h1"},
            error=True,
        ),
        Made(2, 1, service=SERVICE, name="call", kind=SpanKind.CLIENT, start_ms=1, duration_ms=5),
        Made(3, 2, service="stock", name="find", start_ms=2, duration_ms=3),
    ],
)
#: As real SDKs send it and our builder does not: nested values, counts of what was dropped, tracestate, flags.
ODD = ExportTraceServiceRequest.FromString(request_of(0xC2, [Made(1, service="odd")]))
_span = ODD.resource_spans[0].scope_spans[0].spans[0]
_span.trace_state, _span.flags, _span.dropped_attributes_count, _span.dropped_events_count = "a=b", 0x101, 2, 3
_span.attributes.add(key="list").value.array_value.values.add().string_value = "one"
_span.attributes.add(key="map").value.kvlist_value.values.add(key="k").value.int_value = 2**60
_span.attributes.add(key="nothing")
_span.links.add(trace_id=b"\3" * 16, span_id=b"\4" * 8, trace_state="c=d", flags=1, dropped_attributes_count=1)
_span.status.code = 1
ODD.resource_spans[0].schema_url = "https://opentelemetry.io/schemas/1.26.0"
ODD.resource_spans[0].resource.dropped_attributes_count = 4


@pytest.fixture(scope="module", autouse=True)
def stored(history: str) -> None:
    """What every test here asks for."""
    window = OperationWindow(
        start_ns=NOON_NS,
        service=SERVICE,
        operation=OPERATION,
        kind=2,
        partition=0,
        spans=10,
        count_milli=10_000,
        error_milli=5_000,
        duration={bucket_of(20 * MS): 10_000},
        self_time={},
    )
    store(
        history,
        [trace_of(REQUEST), trace_of(ODD.SerializeToString()), made_trace(0xC3, Made(1, service="idle"))],
        [window],
    )


async def data_of(queries: httpx.AsyncClient, path: str, **parameters: Any) -> Any:
    """``data`` of a v1 answer."""
    answer = await queries.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    envelope = msgspec.json.decode(answer.content, type=Envelope)
    assert envelope.errors is None
    return envelope.data


@pytest.mark.parametrize("escaped", [quote(SERVICE, safe=""), quote(SERVICE, safe="/")], ids=["ui", "grafana"])
async def test_operations_of_a_service_whatever_its_name(queries: httpx.AsyncClient, escaped: str) -> None:
    assert SERVICE in await data_of(queries, "/api/services")
    assert await data_of(queries, f"/api/services/{escaped}/operations") == [OPERATION, "call"]
    ours = (await queries.get(f"/api/v1/services/{escaped}/operations")).json()["operations"]
    assert [each["operation"] for each in ours] == [OPERATION, "call"]
    assert (await queries.get(f"/api/v1/services/{escaped}/statistics")).json()["service"] == SERVICE


async def test_grafanas_search_and_trace(queries: httpx.AsyncClient) -> None:
    asked = {"service": SERVICE, "operation": OPERATION, "tags": '{"n":"7","error":"true"}', "minDuration": "1ms"}
    around = {"start": NOON_US - 10**6, "end": NOON_US + 10**6, "limit": 20, "lookback": "1h"}
    (found,) = msgspec.convert(await data_of(queries, "/api/traces", **asked, **around), list[Trace])
    # As its data source asks where "time range" is on: microseconds.
    start_and_end = {"start": NOON_US - 10**6, "end": NOON_US + 10**6}
    (trace,) = msgspec.convert(await data_of(queries, f"/api/traces/{found.traceID}", **start_and_end), list[Trace])
    assert trace == found
    assert len({span.spanID for span in trace.spans}) == 3
    assert {span.processID for span in trace.spans} == trace.processes.keys()
    root = trace.spans[0]
    values = {tag.key: (tag.type, tag.value) for tag in root.tags}
    assert values["n"] == ("int64", 7)
    assert values["big"] == ("int64", str(-(2**60)))
    assert values["x"] == ("float64", 0.5)
    assert values["yes"] == ("bool", True)
    assert values["raw"] == ("binary", base64.b64encode(b"\0\xff").decode())
    (odd,) = msgspec.convert(await data_of(queries, f"/api/traces/{0xC2:x}"), list[Trace])
    assert {tag.key: tag.value for tag in odd.spans[0].tags}["list"] == '["one"]'


async def test_what_is_not_there_is_an_error_that_clients_show(queries: httpx.AsyncClient) -> None:
    answer = await queries.get(f"/api/traces/{0xDEAD:x}")
    envelope = msgspec.json.decode(answer.content, type=Envelope)
    assert answer.status_code == 404 and envelope.data is None
    assert envelope.errors is not None and envelope.errors[0].keys() == {"code", "msg"}
    assert await data_of(queries, "/api/traces", service="nobody") == []
    assert await data_of(queries, "/api/services/nobody/operations") == []
    assert (await queries.get("/api/nothing")).status_code == 404


async def test_dependencies_in_milliseconds(queries: httpx.AsyncClient) -> None:
    links = await data_of(queries, "/api/dependencies", endTs=NOON_MS + 60_000, lookback=7 * 86_400_000)
    assert msgspec.convert(links, list[Link]) == [Link(SERVICE, "stock", 1)]
    assert await data_of(queries, "/api/dependencies", endTs=NOON_MS - 600_000, lookback=1000) == []


@pytest.mark.parametrize(("kind", "value"), [("latencies", 20.0), ("calls", 10 / 600), ("errors", 0.5)])
@pytest.mark.parametrize("by_operation", ["true", "false"])
async def test_monitor_page(queries: httpx.AsyncClient, kind: str, value: float, by_operation: str) -> None:
    window = {"endTs": NOON_MS + 60_000, "lookback": 3_600_000, "step": 60_000, "ratePer": 600_000}
    asked = {"service": SERVICE, "groupByOperation": by_operation, "quantile": "0.95", "spanKind": "server", **window}
    answer = await queries.get(f"/api/metrics/{kind}", params=asked)
    (metric,) = msgspec.json.decode(answer.content, type=Family).metrics
    names = {label.name: label.value for label in metric.labels}
    assert names == {"service_name": SERVICE, **({"operation": OPERATION} if by_operation == "true" else {})}
    assert metric.metricPoints[-1].gaugeValue.doubleValue == pytest.approx(value, rel=0.01)
    assert metric.metricPoints[-1].timestamp == "2026-11-22T12:01:00Z"


async def test_metrics_of_nobody_are_empty_and_of_no_name_are_not_found(queries: httpx.AsyncClient) -> None:
    answer = await queries.get("/api/metrics/calls", params={"service": "nobody"})
    assert msgspec.json.decode(answer.content, type=Family).metrics == []
    assert (await queries.get("/api/metrics/sums", params={"service": "nobody"})).status_code == 404
    assert await data_of(queries, "/api/metrics/minstep") == 60_000


async def test_jaeger_uis_v3_calls(queries: httpx.AsyncClient) -> None:
    assert SERVICE in (await queries.get("/api/v3/services")).json()["services"]
    answer = (await queries.get(f"/api/v3/operations?service={quote(SERVICE, safe='')}")).json()
    assert msgspec.convert(answer["operations"], list[Operation]) == [
        Operation(OPERATION, "server"),
        Operation("call", "client"),
    ]
    asked = {
        "query.serviceName": SERVICE,
        "query.operationName": OPERATION,
        "query.startTimeMin": "2026-11-22T11:59:00.000Z",
        "query.startTimeMax": "2026-11-22T12:01:00.000Z",
        "query.searchDepth": "20",
        "query.durationMin": "1ms",
        "query.attributes": json.dumps({"n": "7"}),
    }
    answer = (await queries.get("/api/v3/trace-summaries", params=asked)).json()
    (line,) = msgspec.convert(answer["summaries"], list[Summary])
    assert (len(line.traceId), line.spanCount, line.errorSpanCount) == (32, 3, 1)
    assert (await queries.get("/api/v3/trace-summaries", params={**asked, "query.serviceName": "x"})).json() == {
        "summaries": []
    }


@pytest.mark.parametrize(("trace_id", "sent"), [(0xC1, ExportTraceServiceRequest.FromString(REQUEST)), (0xC2, ODD)])
async def test_v3_gives_back_what_was_sent(
    queries: httpx.AsyncClient, trace_id: int, sent: ExportTraceServiceRequest
) -> None:
    """OTLP/JSON, read as OTLP/JSON is: every span, resource and scope is the one that came in."""
    answer = await queries.get(f"/api/v3/traces/{trace_id:032x}", params={"rawTraces": "true"})
    got = ParseDict(_ids_in_base64(answer.json()["result"]), TracesData())
    assert _parts(got) == _parts(sent)


def _ids_in_base64(value: Any) -> Any:
    """OTLP/JSON has ids in hex, protobuf's JSON has bytes in base64."""
    if isinstance(value, list):
        return [_ids_in_base64(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64encode(bytes.fromhex(each)).decode()
        if key in ("traceId", "spanId", "parentSpanId")
        else _ids_in_base64(each)
        for key, each in value.items()
    }


def _parts(data: TracesData | ExportTraceServiceRequest) -> list[tuple[bytes, ...]]:
    return sorted(
        (
            span.SerializeToString(deterministic=True),
            resource.resource.SerializeToString(deterministic=True),
            resource.schema_url.encode(),
            scope.scope.SerializeToString(deterministic=True),
            scope.schema_url.encode(),
        )
        for resource in data.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    )
