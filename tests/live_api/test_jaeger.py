"""Jaeger's clients against the history: what their code reads is there, and what they ask for is found."""

import json
from typing import Any

import httpx
import pytest

from tests.live_api.history import MS, NOON_NS, Made, made_trace, store
from tracecore.span import SpanKind

NOON_US = NOON_NS // 1000
RANGE = {"start": NOON_US - 60_000_000, "end": NOON_US + 60_000_000}
RANGE_V3 = {"query.startTimeMin": "2026-11-22T11:59:00Z", "query.startTimeMax": "2026-11-22T12:01:00Z"}

SHOP = made_trace(
    0xA1,
    Made(1, service="front", name="GET /cart", duration_ms=50, attributes={"http.status_code": 200, "big": 2**60}),
    Made(2, 1, service="front", name="get", kind=SpanKind.CLIENT, start_ms=5, duration_ms=30),
    Made(
        3, 2, service="cart", name="GET /", start_ms=10, duration_ms=20, error=True,
        events=({"exception.type": "Oops"},), link={"why": "retry"}, resource={"host.name": "h1"},
    ),
)  # fmt: skip


TAGS: dict[str, Any] = {"a": "text", "b": 123, "c": 72.5, "d": True}
HALF, OTHER_HALF = {"a": "text", "b": 123}, {"c": 72.5, "d": True}
TAGGED = [
    made_trace(1, Made(1, service="tagged", attributes=TAGS)),
    made_trace(2, Made(1, service="tagged", resource=TAGS)),
    made_trace(3, Made(1, service="tagged", scope=TAGS)),
    made_trace(4, Made(1, service="tagged", events=(TAGS,))),
    made_trace(5, Made(1, service="tagged", link=TAGS)),
    made_trace(6, Made(1, service="tagged", attributes=HALF, events=({"c": 72.5},), resource={"d": True})),
    made_trace(7, Made(1, service="tagged", attributes=HALF), Made(2, 1, service="tagged", attributes=OTHER_HALF)),
    made_trace(8, Made(1, service="tagged", attributes={**TAGS, "b": "123"})),
    made_trace(9, Made(1, service="tagged", attributes={**TAGS, "a": "other"})),
]
LONG = made_trace(0xB2, Made(1, name="GET /cart", start_ms=100, duration_ms=1000))


@pytest.fixture(scope="module", autouse=True)
def stored(history: str) -> None:
    """What every test here asks for."""
    store(history, [SHOP, LONG, *TAGGED])


def ids(answer: httpx.Response) -> set[str]:
    """Trace ids of a v1 search, as numbers in hex."""
    assert answer.status_code == 200, answer.text
    return {trace["traceID"].lstrip("0") for trace in answer.json()["data"]}


async def test_trace_has_what_jaeger_ui_reads(queries: httpx.AsyncClient) -> None:
    answer = (await queries.get("/api/traces/a1")).json()
    assert answer["errors"] is None
    trace = answer["data"][0]
    assert trace["traceID"] == f"{0xA1:032x}"
    root, client, server = trace["spans"]
    assert root["operationName"] == "GET /cart" and root["references"] == []
    assert (root["startTime"], root["duration"]) == (NOON_US, 50_000)
    assert {"key": "http.status_code", "type": "int64", "value": 200} in root["tags"]
    assert {"key": "big", "type": "int64", "value": str(2**60)} in root["tags"]  # JavaScript would round it
    assert {"key": "span.kind", "type": "string", "value": "client"} in client["tags"]
    assert server["references"] == [
        {"refType": "CHILD_OF", "traceID": trace["traceID"], "spanID": f"{2:016x}"},
        {"refType": "FOLLOWS_FROM", "traceID": "01" * 16, "spanID": "02" * 8},
    ]
    assert {"key": "error", "type": "bool", "value": True} in server["tags"]
    assert server["logs"] == [
        {
            "timestamp": NOON_US + 10_000,
            "fields": [
                {"key": "event", "type": "string", "value": "happened"},
                {"key": "exception.type", "type": "string", "value": "Oops"},
            ],
        }
    ]
    process = trace["processes"][server["processID"]]
    assert process == {
        "serviceName": "cart",
        "tags": [{"key": "host.name", "type": "string", "value": "h1"}],
    }


async def test_absent_trace_is_404_and_bad_id_400_as_jaeger_ui_shows_them(queries: httpx.AsyncClient) -> None:
    for path, status in (("/api/traces/abc", 404), ("/api/traces/xyz", 400), ("/api/traces/0", 400)):
        answer = await queries.get(path)
        assert answer.status_code == status
        error = answer.json()["errors"][0]
        assert error["code"] == status and error["msg"]
    answer = await queries.get("/api/v3/traces/abc")
    assert (answer.status_code, answer.json()["error"]["httpCode"]) == (404, 404)


async def test_tag_is_found_wherever_it_stands_and_all_must_hold_for_one_span(queries: httpx.AsyncClient) -> None:
    wanted = {"a": "text", "b": "123", "c": "72.5", "d": "true"}
    found = await queries.get("/api/traces", params={"service": "tagged", "tags": json.dumps(wanted), **RANGE})
    assert ids(found) == {"1", "2", "3", "4", "5", "6", "8"}
    by_pairs = [("tag", f"{key}:{value}") for key, value in wanted.items()]
    found = await queries.get("/api/traces", params=[("service", "tagged"), *RANGE.items(), *by_pairs])
    assert ids(found) == {"1", "2", "3", "4", "5", "6", "8"}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"service": "cart"}, {"a1"}),
        ({"service": "front", "operation": "get"}, {"a1"}),
        ({"service": "front", "minDuration": "40ms"}, {"a1", "b2"}),
        ({"service": "front", "minDuration": "51ms", "maxDuration": "1.5s"}, {"b2"}),
        ({"service": "front", "tags": '{"error":"true"}'}, set()),
        ({"service": "cart", "tags": '{"error":"true"}'}, {"a1"}),
        ({"service": "cart", "tags": '{"span.kind":"server"}'}, {"a1"}),
        ({"service": "front", "limit": "1"}, {"b2"}),
        ({"service": "it's; DROP TABLE traces --"}, set()),
        ({"service": "front", "tags": '{"%s":"\'\\\\"}'}, set()),
        ({"service": "front", "end": str(NOON_US - 1)}, set()),
    ],
)
async def test_search_finds_spans_of_the_service(
    queries: httpx.AsyncClient, asked: dict[str, str], found: set[str]
) -> None:
    assert ids(await queries.get("/api/traces", params={**RANGE, **asked})) == found


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({}, "service"),
        ({"service": "a", "limit": "0"}, "limit"),
        ({"service": "a", "minDuration": "soon"}, "minDuration"),
        ({"service": "a", "minDuration": "2s", "maxDuration": "1s"}, "minDuration"),
        ({"service": "a", "tags": "[]"}, "tags"),
        ({"service": "a", "tag": "x"}, "tag"),
        ({"service": "a", "start": "yesterday"}, "start"),
        ({"service": "a", "start": "2", "end": "1"}, "start"),
        ({"service": "a\0"}, "service"),
    ],
)
async def test_bad_parameter_is_400_and_named(queries: httpx.AsyncClient, asked: dict[str, str], named: str) -> None:
    answer = await queries.get("/api/traces", params=asked)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["msg"].startswith(f"{named}: ")


async def test_services_operations_and_dependencies(queries: httpx.AsyncClient) -> None:
    assert (await queries.get("/api/services")).json()["data"] == ["cart", "front", "tagged"]
    assert (await queries.get("/api/services/front/operations")).json()["data"] == ["GET /cart", "get"]
    answer = await queries.get("/api/operations", params={"service": "front", "spanKind": "client"})
    assert answer.json()["data"] == [{"name": "get", "spanKind": "client"}]
    at_ms = NOON_NS // MS + 60_000
    answer = await queries.get("/api/dependencies", params={"endTs": at_ms, "lookback": 120_000})
    assert answer.json()["data"] == [{"parent": "front", "child": "cart", "callCount": 1}]
    answer = await queries.get("/api/v3/operations", params={"service": "front", "spanKind": "server"})
    assert answer.json() == {"operations": [{"name": "GET /cart", "spanKind": "server"}]}
    times = {"startTime": "2026-11-22T11:00:00Z", "endTime": "2026-11-22T13:00:00Z"}
    answer = await queries.get("/api/v3/dependencies", params=times)
    assert answer.json() == {"dependencies": [{"parent": "front", "child": "cart", "callCount": 1}]}


async def test_v3_gives_otlp_with_ids_in_hex_and_numbers_for_enums(queries: httpx.AsyncClient) -> None:
    answer = await queries.get("/api/v3/traces", params={"query.serviceName": "cart", **RANGE_V3})
    by_service = {
        each["resource"]["attributes"][0]["value"]["stringValue"]: each
        for each in answer.json()["result"]["resourceSpans"]
    }
    span = by_service["cart"]["scopeSpans"][0]["spans"][0]
    assert (span["traceId"], span["spanId"], span["parentSpanId"]) == (f"{0xA1:032x}", f"{3:016x}", f"{2:016x}")
    assert (span["kind"], span["status"]["code"]) == (2, 2)
    assert span["startTimeUnixNano"] == str(NOON_NS + 10 * MS)
    assert span["links"][0]["traceId"] == "01" * 16
    assert by_service["cart"]["scopeSpans"][0]["scope"] == {"name": "made", "version": "1.2"}


async def test_v3_summaries_have_what_jaeger_ui_lists(queries: httpx.AsyncClient) -> None:
    assert len((await queries.get("/api/v3/trace-summaries", params=RANGE_V3)).json()["summaries"]) == 11  # any service
    answer = await queries.get("/api/v3/trace-summaries", params={"query.serviceName": "cart", **RANGE_V3})
    assert answer.json() == {
        "summaries": [
            {
                "traceId": f"{0xA1:032x}",
                "rootServiceName": "front",
                "rootOperationName": "GET /cart",
                "minStartTimeUnixNano": str(NOON_NS),
                "maxEndTimeUnixNano": str(NOON_NS + 50 * MS),
                "spanCount": 3,
                "errorSpanCount": 1,
                "orphanSpanCount": 0,
                "services": [
                    {"name": "cart", "spanCount": 1, "errorSpanCount": 1},
                    {"name": "front", "spanCount": 2, "errorSpanCount": 0},
                ],
            }
        ]
    }


async def test_v3_search_is_404_when_nothing_matches_and_400_without_a_range(queries: httpx.AsyncClient) -> None:
    assert (await queries.get("/api/v3/traces", params={"query.serviceName": "none", **RANGE_V3})).status_code == 404
    answer = await queries.get("/api/v3/traces", params={"query.service_name": "none"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("query.startTimeMin: ")
    refused = await queries.get("/api/v3/trace-summaries", params={"query.filter": "{}", **RANGE_V3})
    assert refused.status_code == 400
