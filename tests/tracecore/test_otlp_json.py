import json
from base64 import b64encode
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.tracecore.builders import order_spans, request, span
from tracecore.errors import MalformedPayload
from tracecore.otlp import decode_spans, span_detail
from tracecore.otlp_json import otlp_of_json
from tracecore.span import Span

SPANS = order_spans(failed=True)


def written(spans: list[Span], snake: bool = False, hex_ids: bool = True) -> dict[str, Any]:
    """A request as OTLP's JSON writers write it."""
    message = ExportTraceServiceRequest.FromString(request(*spans))
    document = MessageToDict(message, preserving_proto_field_name=snake)
    names = ("trace_id", "span_id", "parent_span_id") if snake else ("traceId", "spanId", "parentSpanId")
    if hex_ids:
        for one, sent in zip(_spans_in(document), message_spans(message), strict=True):
            one.update(
                (name, value.hex())
                for name, value in zip(names, (sent.trace_id, sent.span_id, sent.parent_span_id), strict=True)
            )
    return document


def _spans_in(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        one
        for resource_spans in document.get("resourceSpans") or document["resource_spans"]
        for scope_spans in resource_spans.get("scopeSpans") or resource_spans["scope_spans"]
        for one in scope_spans["spans"]
    ]


def message_spans(message: ExportTraceServiceRequest) -> list[Any]:
    return [one for resource in message.resource_spans for scope in resource.scope_spans for one in scope.spans]


def read(document: Any) -> list[Span]:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    spans, rejected = decode_spans(otlp_of_json(body))
    assert not rejected
    return spans


@pytest.mark.parametrize("snake", [False, True])
@pytest.mark.parametrize("hex_ids", [False, True])
def test_json_holds_the_same_spans_as_protobuf(snake: bool, hex_ids: bool) -> None:
    assert read(written(SPANS, snake, hex_ids)) == SPANS


def test_documents_of_every_shape_are_read() -> None:
    document = written(SPANS)
    one, another = (json.dumps(written([span])).encode() for span in SPANS[:2])
    assert read(document["resourceSpans"]) == SPANS, "a bare list of ResourceSpans"
    assert read(document["resourceSpans"][0]) == SPANS[:2], "a bare ResourceSpans"
    assert read([document, document]) == SPANS * 2, "a list of requests"
    assert read(one + b"\n" + another + b"\r\n\n") == SPANS[:2], "a request a line"
    assert read(b"\xef\xbb\xbf " + one) == SPANS[:1], "a byte order mark"
    for empty in ({}, [], {"resourceSpans": None}, {"resourceSpans": []}, {"resourceSpans": [{"scopeSpans": None}]}):
        assert read(empty) == []


def test_numbers_are_strings_or_numbers_and_enums_names_or_numbers() -> None:
    document = written(SPANS[:1])
    one = _spans_in(document)[0]
    one |= {"startTimeUnixNano": SPANS[0].start_ns, "endTimeUnixNano": str(SPANS[0].end_ns), "flags": "257"}
    one |= {"kind": 2, "status": {"code": 2}, "attributes": [{"key": "n", "value": {"intValue": 42}}]}
    by_number = read(document)[0]
    one |= {"kind": "SPAN_KIND_SERVER", "status": {"code": "STATUS_CODE_ERROR"}}
    one |= {"attributes": [{"key": "n", "value": {"intValue": "42"}}]}
    assert read(document)[0] == by_number
    assert (by_number.start_ns, by_number.end_ns) == (SPANS[0].start_ns, SPANS[0].end_ns)
    assert by_number.is_error and span_detail(by_number.raw).attributes == {"n": 42}


def test_ids_are_hex_of_any_case_or_base64() -> None:
    document = written(SPANS[1:2])
    one = _spans_in(document)[0]
    one |= {"traceId": one["traceId"].upper(), "spanId": b64encode(SPANS[1].span_id).decode()}
    one["links"] = [{"traceId": one["traceId"], "spanId": one["spanId"]}]
    decoded = read(document)[0]
    assert decoded[:3] == SPANS[1][:3]
    link = span_detail(decoded.raw).links[0]
    assert (link.trace_id, link.span_id) == (SPANS[1].trace_id, SPANS[1].span_id)


@pytest.mark.parametrize("bad_id", ["xyz", "not hex", "5b8efff798038103", "zz" * 16, "z" * 16, "é" * 8, "?" * 15])
def test_span_with_an_id_that_is_none_is_rejected_alone(bad_id: str) -> None:
    document = written(SPANS[:2])
    _spans_in(document)[0]["traceId"] = bad_id
    spans, rejected = decode_spans(otlp_of_json(json.dumps(document).encode()))
    assert spans == SPANS[1:2]
    assert len(rejected) == 1


def test_names_from_before_otlp_0_16_lose_nothing() -> None:
    document = written(SPANS)
    for resource_spans in document["resourceSpans"]:
        resource_spans["instrumentationLibrarySpans"] = resource_spans.pop("scopeSpans")
        for scope_spans in resource_spans["instrumentationLibrarySpans"]:
            scope_spans["instrumentationLibrary"] = scope_spans.pop("scope")
    assert read(document) == SPANS
    assert read(document["resourceSpans"]) == SPANS


def test_unknown_fields_are_ignored() -> None:
    document = written(SPANS[:1]) | {"extra": 1}
    _spans_in(document)[0] |= {"newField": {"a": [1]}, "kind": "SPAN_KIND_SERVER"}
    assert read(document) == SPANS[:1]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"5", b"null", b'"text"', b"\xff\xfe", b"[5]", b"[[{}]]", b'{"spans": []}', b'{"resourceSpans": 5}',
        b'{"resourceSpans": [5]}', b'{"resourceSpans": [{"scopeSpans": [{"spans": [5]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": {}}]}]}', b"[" * 100_000, b"{}\n{",
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": "soon"}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": -1}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": 5}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": 5}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "\\ud800"}]}]}]}',
        b'{"resourceSpans": [{"\\ud800": null}]}',
        b'{"resourceSpans": [{"resource": {"attributes": [{"key": "k", "value": {"kvlistValue": '
        + b'{"values": [{"key": "k", "value": {"kvlistValue": ' * 200 + b"{}" + b"}}]}" * 200 + b"}}]}}]}",
    ],
)  # fmt: skip
def test_what_is_no_request_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedPayload):
        otlp_of_json(body)


def test_a_span_the_size_of_ids_in_text_is_legible_in_what_was_rejected() -> None:
    document = written([span()])
    _spans_in(document)[0]["spanId"] = "span-007"
    rejected = decode_spans(otlp_of_json(json.dumps(document).encode()))[1]
    assert b"span-007" in rejected[0].request
