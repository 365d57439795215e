"""Values on our own topics: MessagePack of the core's types; JSON for alerts and findings, which people read.

Decoding checks types: what does not fit is ``MalformedPayload``, with the path to the field.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

import msgspec

from tracecore.alert import Alert
from tracecore.closed_trace import ClosedTrace, TracedSpan
from tracecore.errors import MalformedPayload
from tracecore.finding import Finding
from tracecore.topics import MAX_RECORD_BYTES
from tracecore.window import HopWindow, OperationWindow, Window

_msgpack = msgspec.msgpack.Encoder()
_json = msgspec.json.Encoder()
_trace_decoder = msgspec.msgpack.Decoder(ClosedTrace)
_operation_decoder = msgspec.msgpack.Decoder(OperationWindow)
_hop_decoder = msgspec.msgpack.Decoder(HopWindow)
_finding_decoder = msgspec.json.Decoder(Finding)
_alert_decoder = msgspec.json.Decoder(Alert)

#: First byte of a window record: which of the two shapes follows.
_OPERATION, _HOP = b"o", b"h"

#: MessagePack's cost of a traced span beyond its raw bytes and strings, at most.
_SPAN_OVERHEAD_BYTES = 160

T = TypeVar("T")


def encode_trace(trace: ClosedTrace, max_record_bytes: int = MAX_RECORD_BYTES) -> list[bytes]:
    """The records of one revision: one, or parts of it that each stay under ``max_record_bytes`` where spans allow.

    Every part carries the summary and its own slice of the spans, so each can be stored as it comes; part 0 alone
    carries the critical path, which in a large trace is large.
    """
    record = _msgpack.encode(trace)
    if len(record) <= max_record_bytes:
        return [record]
    summary_bytes = len(_msgpack.encode(replace(trace, spans=())))
    slices = list(_slices(trace.spans, max(max_record_bytes - summary_bytes, max_record_bytes // 10)))
    rest = replace(trace, critical_path=())
    return [
        _msgpack.encode(replace(rest if part else trace, spans=tuple(spans), part=part, parts=len(slices)))
        for part, spans in enumerate(slices)
    ]


def decode_trace(record: bytes) -> ClosedTrace:
    """A part of a revision, or the whole of it. Raises ``MalformedPayload``."""
    return _decoded(_trace_decoder, record)


def encode_window(window: Window) -> bytes:
    """A partial window as a record."""
    return (_OPERATION if isinstance(window, OperationWindow) else _HOP) + _msgpack.encode(window)


def decode_window(record: bytes) -> Window:
    """Raises ``MalformedPayload``."""
    shape, body = record[:1], record[1:]
    if shape == _OPERATION:
        return _decoded(_operation_decoder, body)
    if shape == _HOP:
        return _decoded(_hop_decoder, body)
    raise MalformedPayload(f"not a window: first byte {shape!r}")


def encode_finding(finding: Finding) -> bytes:
    """A finding as JSON."""
    return _json.encode(finding)


def decode_finding(record: bytes) -> Finding:
    """Raises ``MalformedPayload``."""
    return _decoded(_finding_decoder, record)


def encode_alert(alert: Alert) -> bytes:
    """An alert as JSON."""
    return _json.encode(alert)


def decode_alert(record: bytes) -> Alert:
    """Raises ``MalformedPayload``."""
    return _decoded(_alert_decoder, record)


def _decoded(decoder: msgspec.msgpack.Decoder[T] | msgspec.json.Decoder[T], record: bytes) -> T:
    try:
        return decoder.decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedPayload(str(error)) from None


def _slices(spans: tuple[TracedSpan, ...], max_bytes: int) -> Iterator[list[TracedSpan]]:
    chosen: list[TracedSpan] = []
    size = 0
    for span in spans:
        cost = len(span.raw) + len(span.name) * 4 + len(span.service) * 4 + _SPAN_OVERHEAD_BYTES
        cost += sum(len(warning) * 4 for warning in span.warnings)
        if chosen and size + cost > max_bytes:
            yield chosen
            chosen, size = [], 0
        chosen.append(span)
        size += cost
    yield chosen
