"""Compiled code decodes what the plain decoder decodes, and leaves it the rest."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from tests.tracecore.builders import order_spans
from tests.tracecore.recordings import records
from tracecore import batch_decoding, otlp
from tracecore.batch_decoding import plain_spans
from tracecore.errors import MalformedPayload
from tracecore.otlp import RejectedSpan, encode_spans
from tracecore.span import Span

TRACE_ID, SPAN_ID = bytes(range(16)), bytes(range(8))


@pytest.fixture(autouse=True)
def compiled() -> None:
    batch_decoding.warm_up()


Decoded = tuple[list[Span], list[RejectedSpan]]


def outcome(decode: Callable[[bytes], Decoded], request: bytes) -> Decoded | str:
    """What comes of a request, or why nothing does."""
    try:
        return decode(request)
    except MalformedPayload as error:
        return str(error)


def holds(request: bytes) -> bool:
    return outcome(batch_decoding.decode_spans, request) == outcome(otlp.decode_spans, request)


def ids(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size) | st.sampled_from([b"", bytes(size), bytes(size + 1), b"\1" * size])


kinds = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 127, 128, 2**31 - 1, -1])
times = st.sampled_from([0, 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)
statuses = st.sampled_from([
    {}, {"code": 0}, {"code": 1}, {"code": 2}, {"code": 3}, {"code": 200}, {"code": -1}, {"message": "gone"},
    {"code": 2, "message": "gone"},
])  # fmt: skip
spans = st.fixed_dictionaries(
    {"trace_id": ids(16), "span_id": ids(8)},
    optional={
        "trace_state": st.sampled_from(["", "a=b", "ot=th:8", "ot=th:c;rv:1,x=y", "ü=ö"]),
        "parent_span_id": ids(8),
        "name": st.text(max_size=5) | st.sampled_from(["GET /", "GET /orders"]),
        "kind": kinds,
        "start_time_unix_nano": times,
        "end_time_unix_nano": times,
        "attributes": st.just([{"key": "k", "value": {"string_value": "v" * 200}}]),
        "dropped_attributes_count": st.sampled_from([0, 1, 2**32 - 1]),
        "events": st.just([{"name": "event", "time_unix_nano": 3}, {"name": "another"}]),
        "links": st.just([{"trace_id": TRACE_ID, "span_id": SPAN_ID}]),
        "status": statuses,
        "flags": st.sampled_from([0, 1, 2**32 - 1]),
    },
)
scope_spans = st.fixed_dictionaries(
    {"spans": st.lists(spans, max_size=4)},
    optional={"scope": st.sampled_from([{}, {"name": "library"}]), "schema_url": st.sampled_from(["", "url", "ü"])},
)
service = {"attributes": [{"key": "service.name", "value": {"string_value": "cart"}}]}
resource_spans = st.fixed_dictionaries(
    {"scope_spans": st.lists(scope_spans, max_size=3)},
    optional={"resource": st.sampled_from([{}, service]), "schema_url": st.sampled_from(["", "url", "ü"])},
)
requests = st.lists(resource_spans, max_size=3).map(
    lambda groups: ExportTraceServiceRequest(resource_spans=groups).SerializeToString()
)


@given(requests)
def test_every_request_gives_the_spans_that_the_plain_decoder_gives(request: bytes) -> None:
    assert holds(request)


@given(requests | st.just(encode_spans(order_spans())), st.data())
def test_so_does_every_request_with_bytes_cut_out_replaced_or_repeated(request: bytes, data: st.DataObject) -> None:
    spoilt = bytearray(request)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(spoilt)))
        until = data.draw(st.integers(at, min(len(spoilt), at + 9)))
        spoilt[at:until] = data.draw(st.binary(max_size=9) | st.just(bytes(spoilt[at:until]) * 2))
    assert holds(bytes(spoilt))


@given(st.binary(max_size=200))
def test_so_do_any_bytes(request: bytes) -> None:
    assert holds(request)


def test_every_byte_may_be_any_other_and_every_end_may_be_missing() -> None:
    message = SpanMessage(
        trace_id=TRACE_ID, span_id=SPAN_ID, parent_span_id=SPAN_ID, trace_state="ot=th:8", name="GET", kind=2,
        start_time_unix_nano=2**40, end_time_unix_nano=2**41, flags=1, status={"code": 2, "message": "m"},
        attributes=[{"key": "k", "value": {"bool_value": True}}], dropped_links_count=3,
    )  # fmt: skip
    group = {"resource": service, "scope_spans": [ScopeSpans(spans=[message, message], schema_url="url")]}
    request = ExportTraceServiceRequest(resource_spans=[group]).SerializeToString()
    for at in range(len(request)):
        assert holds(request[:at])
        for byte in (0, 1, 2, 7, 8, 16, 127, 128, 200, 255, request[at] ^ 1, request[at] ^ 8):
            assert holds(request[:at] + bytes((byte,)) + request[at + 1 :])


@given(st.lists(requests | st.binary(max_size=20), max_size=5))
def test_requests_decoded_together_are_as_decoded_alone(together: list[bytes]) -> None:
    for request, spans in zip(together, plain_spans(together), strict=True):
        (alone,) = plain_spans([request])
        assert (spans is None) == (alone is None)
        if spans is not None:
            assert (spans.made(), []) == otlp.decode_spans(request)
            assert spans.failed() == [span for span in spans if span.is_error]
            assert spans.has_failed == any(span.is_error for span in spans)


def test_what_exporters_write_is_not_left_to_the_plain_decoder() -> None:
    assert plain_spans([encode_spans(order_spans(failed=True))])[0]


@pytest.mark.parametrize("name", ["ob22", "tt29"])
def test_the_recorded_systems_are_decoded_by_compiled_code(shared_data: Path, name: str) -> None:
    for request in islice(records(shared_data, name), 300):
        (found,) = plain_spans([request])
        assert found is not None
        assert found.made() == otlp.decode_spans(request)[0]
