"""Dead letters of the sink: what could not be stored, byte for byte, with where it stood and why."""

from typing import NamedTuple

from sink.batches import Record
from tracecore.closed_trace import ClosedTrace, TracedSpan
from tracecore.dead_letter import dead_letter_headers
from tracecore.errors import UndecodableRecord
from tracecore.otlp import encode_spans
from tracecore.span import Span

#: Which room gave up: header of every letter that the sink writes.
ROOM_HEADER = "tracewatch-room"
#: Where a re-drive sends the letter, if not to where it came from.
REDRIVE_HEADER = "tracewatch-redrive-topic"
ROOM = b"sink"


class Letter(NamedTuple):
    """A record for the dead-letter topic."""

    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def record_letter(record: Record, reason: str) -> Letter:
    """A whole record that cannot be read or stored; its own headers follow ours."""
    return Letter(record.key, record.value, (*_headers(record, reason), *record.headers))


def span_letter(trace: ClosedTrace, span: TracedSpan, record: Record, reason: str, redrive_topic: str) -> Letter:
    """One span of a trace that was stored without it: an OTLP request with just this span."""
    resource, scope = trace.resources[span.resource], trace.scopes[span.scope]
    request = encode_spans([Span(trace.trace_id, b"", b"", "", 0, 0, 0, 0, 0, resource, scope, span.raw)])
    reason = f"span {span.span_id.hex()} of trace {trace.trace_id.hex()}: {reason}"
    return Letter(record.key, request, (*_headers(record, reason), (REDRIVE_HEADER, redrive_topic.encode())))


def _headers(record: Record, reason: str) -> tuple[tuple[str, bytes], ...]:
    error = UndecodableRecord(record.topic, record.partition, record.offset, reason)
    return (*dead_letter_headers(error), (ROOM_HEADER, ROOM))
