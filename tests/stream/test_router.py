"""Whatever OTLP tools write becomes records of one partition each, spans byte for byte."""

import gzip
import json
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from stream import router
from stream.router import decode_record, encoded_records, split_by_partition
from tests.tracecore.builders import order_spans, request, span
from tracecore.errors import MalformedPayload
from tracecore.otlp import decode_spans
from tracecore.partition import partition_of


def as_json(body: bytes) -> dict[str, object]:
    """A request as OTLP's JSON: protobuf's JSON with ids in hex."""
    document = MessageToDict(ExportTraceServiceRequest.FromString(body))
    for resource_spans in document["resourceSpans"]:
        for scope_spans in resource_spans["scopeSpans"]:
            for item in scope_spans["spans"]:
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in item:
                        import base64

                        item[name] = base64.b64decode(item[name]).hex()
    return document


@pytest.mark.parametrize("shape", ["protobuf", "json", "bare array", "line feed before", "gzip", "gzip of json"])
def test_every_shape_of_a_request_gives_the_same_spans(shape: str) -> None:
    body = request(*order_spans(1), *order_spans(2))
    document = as_json(body)
    value = {
        "protobuf": body,
        "json": json.dumps(document).encode(),
        "bare array": json.dumps(document["resourceSpans"]).encode(),
        "line feed before": b"\n" + json.dumps(document).encode(),
        "gzip": gzip.compress(body),
        "gzip of json": gzip.compress(json.dumps(document).encode()),
    }[shape]
    spans, rejected = decode_record(value)
    assert rejected == []
    assert sorted(spans) == sorted(decode_spans(body)[0])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\n\xff\xff", "not an ExportTraceServiceRequest"),
        (b"hello", "not an ExportTraceServiceRequest"),
        (b'{"hello": 1}', "no resourceSpans"),
        (b'{"resourceSpans": ', "not JSON"),
        (gzip.compress(b"x" * 100, mtime=0)[:-9], "gzip ends early"),
        (b"\x1f\x8b\x00\x00", "gzip does not unpack"),
    ],
)
def test_what_is_not_otlp_is_refused_with_the_reason(value: bytes, reason: str) -> None:
    with pytest.raises(MalformedPayload, match=reason):
        decode_record(value)


def test_a_small_record_that_unpacks_to_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router, "MAX_UNPACKED_BYTES", 1000)
    with pytest.raises(MalformedPayload, match="more than 1000 bytes"):
        decode_record(gzip.compress(b"\n" * 100_000))


def test_spans_are_split_by_the_partition_of_their_trace() -> None:
    spans = [one for trace in range(1, 40) for one in order_spans(trace)]
    split = split_by_partition(spans, 8)
    assert sorted(one for share in split.values() for one in share) == sorted(spans)
    assert all(partition_of(one.trace_id, 8) == partition for partition, share in split.items() for one in share)


def test_records_hold_the_bytes_of_spans_as_they_came_and_stay_below_kafkas_limit() -> None:
    spans = [span(attributes={"payload": "x" * 10_000}, service=f"s{i % 3}") for i in range(300)]
    records = list(encoded_records(spans))
    assert len(records) > 3
    assert max(map(len, records)) < 1_000_000
    assert sorted(one.raw for record in records for one in decode_spans(record)[0]) == sorted(one.raw for one in spans)


def test_files_of_the_file_exporter_are_read_a_request_a_line(tmp_path: Path) -> None:
    lines = [json.dumps(as_json(request(*order_spans(number)))) for number in (1, 2)]
    assert len(decode_record("\n".join(lines).encode())[0]) == 12
