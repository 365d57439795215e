"""Jaeger's JSON, read as OTLP."""

import json

import pytest

from tracecore.errors import MalformedPayload
from tracecore.jaeger_json import otlp_of_jaeger_json
from tracecore.otlp import decode_spans, span_detail
from tracecore.span import Span, SpanKind, StatusCode

T0_US = 1_700_000_000_000_000


def jaeger(*spans: dict[str, object], processes: dict[str, object] | None = None) -> bytes:
    shop = {"p1": {"serviceName": "shop", "tags": [{"key": "host.name", "type": "string", "value": "a"}]}}
    return json.dumps({"data": [{"traceID": "1", "spans": spans, "processes": processes or shop}]}).encode()


def one(**fields: object) -> dict[str, object]:
    return {
        "traceID": "ab", "spanID": "1", "operationName": "GET /", "startTime": T0_US, "duration": 1500,
        "processID": "p1", **fields,
    }  # fmt: skip


def tag(key: str, value: object, kind: str = "string") -> dict[str, object]:
    return {"key": key, "type": kind, "value": value}


def read(*spans: dict[str, object]) -> list[Span]:
    found, rejected = decode_spans(otlp_of_jaeger_json(jaeger(*spans)))
    assert not rejected
    return found


def test_ids_without_their_leading_zeros_and_times_in_microseconds_are_read() -> None:
    (span,) = read(one())
    assert span.trace_id == bytes(15) + b"\xab"
    assert span.span_id == bytes(7) + b"\x01"
    assert (span.start_ns, span.end_ns) == (T0_US * 1000, (T0_US + 1500) * 1000)
    assert (span.service, span.name) == ("shop", "GET /")


def test_tags_that_otlp_has_fields_for_become_those_fields() -> None:
    (span,) = read(
        one(tags=[tag("span.kind", "server"), tag("error", True, "bool"), tag("http.status_code", 500, "int64")])
    )
    assert span.kind == SpanKind.SERVER
    assert span.status == StatusCode.ERROR
    assert span_detail(span.raw).attributes == {"http.status_code": 500}


@pytest.mark.parametrize(
    ("tags", "status"),
    [
        ([], StatusCode.UNSET),
        ([tag("error", False, "bool")], StatusCode.UNSET),
        ([tag("error", "false")], StatusCode.UNSET),
        ([tag("error", "true")], StatusCode.ERROR),
        ([tag("otel.status_code", "OK")], StatusCode.OK),
        ([tag("otel.status_code", "ERROR"), tag("otel.status_description", "gone")], StatusCode.ERROR),
    ],
)
def test_the_status_is_the_error_tag_or_what_opentelemetry_left(tags: list[object], status: StatusCode) -> None:
    (span,) = read(one(tags=tags))
    assert span.status == status


def test_the_parent_is_the_child_of_reference_within_the_trace_and_others_are_links() -> None:
    child = one(
        spanID="2",
        references=[
            {"refType": "FOLLOWS_FROM", "traceID": "cd", "spanID": "9"},
            {"refType": "CHILD_OF", "traceID": "ab", "spanID": "1"},
        ],
    )
    _, span = read(one(), child)
    assert span.parent_span_id == bytes(7) + b"\x01"
    (link,) = span_detail(span.raw).links
    assert link.trace_id == bytes(15) + b"\xcd"


def test_logs_become_events() -> None:
    (span,) = read(one(logs=[{"timestamp": T0_US + 5, "fields": [tag("event", "retry"), tag("n", 2, "int64")]}]))
    (event,) = span_detail(span.raw).events
    assert (event.name, event.time_ns, event.attributes) == ("retry", (T0_US + 5) * 1000, {"n": 2})


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "not Jaeger's JSON"),
        (b"[]", "not Jaeger's JSON"),
        (b'{"data": [{"spans": [{}]}]}', "traceID"),
        (jaeger(one(spanID="xyz")), "Jaeger trace 0, span 'xyz'"),
        (jaeger(one(startTime=-5)), "Jaeger trace 0, span '1'"),
        (jaeger(one(tags=[tag("n", "many", "int64")])), "Jaeger trace 0, span '1'"),
        (jaeger(one(spanID="1" * 40)), "Jaeger trace 0, span"),
    ],
)
def test_what_is_no_jaeger_json_is_told_with_its_place(body: bytes, told: str) -> None:
    with pytest.raises(MalformedPayload, match=told):
        otlp_of_jaeger_json(body)


def test_a_tag_of_a_process_that_is_not_of_its_type_is_malformed() -> None:
    shop = {"p1": {"serviceName": "shop", "tags": [tag("weight", None, "float64")]}}
    with pytest.raises(MalformedPayload, match="Jaeger trace 0, span '1'"):
        otlp_of_jaeger_json(jaeger(one(), processes=shop))
