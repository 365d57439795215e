"""What must hold for any bytes that reach a decoder: it answers, or refuses with the one error that it promises.

Each law takes bytes, fed by Hypothesis in the suite and by a coverage-guided fuzzer for hours (``make fuzz``). Anything
that it raises is a fault of ours: an exception of another kind, or two readers that disagree on the same bytes.
"""

import json
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final

from opentelemetry.context import Context

from sink.detail import DetailReader
from sink.errors import PoisonRow
from stream.alerting.rules_file import BadRules, read_rules
from tracecore import batch_decoding
from tracecore.analysis import closed_trace
from tracecore.errors import MalformedPayload
from tracecore.jaeger_json import otlp_of_jaeger_json
from tracecore.otlp import (
    attribute_bytes,
    count_milli,
    decode_spans,
    encode_spans,
    resource_attributes,
    span_detail,
)
from tracecore.otlp_json import otlp_of_json
from tracecore.span import ONE_SPAN_MILLI, Span
from tracecore.wire import decode_trace, encode_trace, joined
from tracecore.zipkin_json import otlp_of_zipkin_json
from tracewatch import headers
from tracewatch.gateway.body import read_body
from tracewatch.gateway.errors import RefusedRequest, UnreadableBody
from tracewatch.gateway.otlp import Received, decode_json, decode_protobuf
from tracewatch.gateway.zipkin import decode_zipkin
from tracewatch.propagation import extracted
from tracewatch.records import records
from tracewatch.settings import MAX_RECORD_BYTES

Law = Callable[[bytes], None]

MAX_BODY_BYTES: Final = 100_000
HEADERS: Final = (
    "traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "x-b3-flags", "x-trace-id",
    "x-span-id", "baggage",
)  # fmt: skip


def otlp(data: bytes) -> None:
    """OTLP in protobuf: decoded spans keep their bytes, rejected ones are rejected again; the rest can be asked for."""
    _gateway_agrees(decode_protobuf, data)
    (compiled,) = batch_decoding.plain_spans([data])
    try:
        spans, rejected = decode_spans(data)
    except MalformedPayload:
        assert compiled is None
        return
    assert compiled is None or (compiled.made(), []) == (spans, rejected)
    again, none = decode_spans(encode_spans(spans))
    assert not none
    assert sorted(map(_bytes_of, again)) == sorted(map(_bytes_of, spans))
    for span in rejected:
        taken, refused = decode_spans(span.request)
        assert not taken
        assert [one.reason for one in refused] == [span.reason]
    _usable(spans)


def otlp_json(data: bytes) -> None:
    """OTLP in JSON, as the stream and as the gateway read it."""
    _gateway_agrees(decode_json, data)
    _becomes_otlp(otlp_of_json, data)


def zipkin(data: bytes) -> None:
    """Zipkin's JSON, as replays and as the gateway read it."""
    _gateway_agrees(decode_zipkin, data)
    _becomes_otlp(otlp_of_zipkin_json, data)


def jaeger(data: bytes) -> None:
    """Jaeger's JSON."""
    _becomes_otlp(otlp_of_jaeger_json, data)


def header_values(data: bytes) -> None:
    """Headers, a value a line: whatever they hold, a service's request goes on, and ids that are taken are ids."""
    lines = data.decode("latin-1").split("\n")
    values = dict(zip(HEADERS, ([line] for line in lines), strict=False))
    extracted(lambda name: values.get(name, ()), Context())
    for line in lines:
        for parse in (headers.parse_traceparent, headers.parse_b3_single, lambda text: headers.parse_x_ids(text, None)):
            parent = parse(line)
            if parent is not None:
                assert 0 < parent.trace_id < 1 << 128
                assert 0 <= parent.span_id < 1 << 64
                assert 0 <= parent.flags < 1 << 8
                if parent.span_id:
                    assert headers.parse_traceparent(headers.traceparent(*parent)) == parent
        state = headers.parse_tracestate([line])
        if state is not None:
            assert headers.parse_tracestate([state.to_header()]) == state
        assert count_milli(line) >= ONE_SPAN_MILLI
    headers.parse_tracestate(lines)
    if len(lines) > 3:
        headers.parse_b3_multiple(lines[0], lines[1], lines[2], lines[3])


def rules(data: bytes) -> None:
    """A rules file: read, or refused with the place and the reason."""
    _RULES.write_bytes(data)
    try:
        read_rules(_RULES)
    except BadRules as error:
        assert error.line >= 0
        assert error.reason


def body(data: bytes) -> None:
    """A request's body, compressed or not: never longer than it may be."""
    encoding = ("gzip", "deflate", "")[len(data) % 3]

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 7):
            yield data[at : at + 7]

    # Without an event loop: nothing in it waits.
    reading = read_body(chunks(), encoding, MAX_BODY_BYTES)
    try:
        reading.send(None)
    except StopIteration as done:
        assert len(done.value) <= MAX_BODY_BYTES
    except RefusedRequest:
        pass


def trace_records(data: bytes) -> None:
    """A record of ``tracewatch.traces``: refused, or a trace that can be written again."""
    try:
        trace = decode_trace(data)
    except MalformedPayload:
        return
    assert joined([decode_trace(record) for record in encode_trace(trace)]) is not None


LAWS: Final[dict[str, Law]] = {
    "otlp": otlp,
    "otlp_json": otlp_json,
    "zipkin": zipkin,
    "jaeger": jaeger,
    "headers": header_values,
    "rules": rules,
    "body": body,
    "trace_records": trace_records,
}

_RULES = Path(tempfile.mkdtemp(prefix="tracewatch-fuzz-"), "rules.yaml")
_details = DetailReader()


def _gateway_agrees(decode: Callable[[bytes], Received], data: bytes) -> None:
    """The gateway refuses a body, or what it publishes is taken by the stream, every span of it."""
    try:
        received = decode(data)
    except UnreadableBody as error:
        assert str(error)
        return
    assert received.rejected_spans >= 0
    published = 0
    for record in records(received.spans, 8, MAX_RECORD_BYTES):
        spans, rejected = decode_spans(record.value)
        assert not rejected, rejected[0].reason
        published += len(spans)
    assert published == len(received.spans)


def _becomes_otlp(convert: Callable[[bytes], bytes], data: bytes) -> None:
    try:
        request = convert(data)
    except MalformedPayload as error:
        assert str(error)
        return
    _usable(decode_spans(request)[0])


def _usable(spans: Sequence[Span]) -> None:
    """Everything that is done with a span later: details, rows of the history, the algebra of its trace."""
    for span in spans:
        resource_attributes(span.resource)
        attribute_bytes(span.raw)
        assert span.count_milli >= ONE_SPAN_MILLI
        try:
            span_detail(span.raw)
        except MalformedPayload:
            continue
        try:
            plain = _details.plain(span.raw, span.end_ns) if span.status == 0 else None
            full = _details.full(span.raw, span.status)
        except PoisonRow as error:
            assert str(error)
            continue
        if plain is not None and not full.events and not full.links:
            assert _document(plain) == _document(full.attributes)
    for trace_id in {span.trace_id for span in spans}:
        of_trace = [span for span in spans if span.trace_id == trace_id]
        closed = closed_trace(trace_id, of_trace, revision=0, reason="complete", first_arrival_ns=0, last_arrival_ns=1)
        assert decode_trace(encode_trace(closed, 1 << 30)[0]) == closed


def _bytes_of(span: Span) -> tuple[object, ...]:
    """All of a span that comes from the wire, in a form that has an order."""
    resource, scope = span.resource, span.scope
    return (*span[:9], span.raw, resource.raw, resource.schema_url, scope.raw, scope.schema_url)


def _document(text: bytes) -> object:
    return json.loads(text)
