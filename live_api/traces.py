"""A closed trace in a line: what the live tail shows of it."""

from dataclasses import dataclass

import msgspec

from tracecore.closed_trace import CloseReason
from tracecore.errors import MalformedPayload


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """One revision of a trace, without its spans. ``trace_id`` in hex; Unix nanoseconds on the root's clock."""

    trace_id: str
    revision: int
    reason: CloseReason
    root_service: str
    root_name: str
    start_ns: int
    duration_ns: int
    span_count: int
    error_count: int
    services: tuple[str, ...]
    is_complete: bool
    warnings: tuple[str, ...]
    sampled_by: str
    replay_id: str


class _Head(msgspec.Struct, frozen=True):
    """``ClosedTrace`` without its spans, links and critical path: they are skipped unread, five times as fast."""

    trace_id: bytes
    revision: int
    reason: CloseReason
    root_service: str
    root_name: str
    start_ns: int
    end_ns: int
    span_count: int
    error_count: int
    missing_root: bool
    missing_parents: int
    services: tuple[str, ...]
    warnings: tuple[str, ...]
    sampled_by: str = ""
    replay_id: str = ""
    part: int = 0


_decoder = msgspec.msgpack.Decoder(_Head)


def decode_summary(record: bytes) -> TraceSummary | None:
    """The summary of a value of ``tracewatch.traces``; None for a later part. Raises ``MalformedPayload``."""
    try:
        head = _decoder.decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedPayload(str(error)) from None
    if head.part:
        return None
    return TraceSummary(
        trace_id=head.trace_id.hex(),
        revision=head.revision,
        reason=head.reason,
        root_service=head.root_service,
        root_name=head.root_name,
        start_ns=head.start_ns,
        duration_ns=head.end_ns - head.start_ns,
        span_count=head.span_count,
        error_count=head.error_count,
        services=head.services,
        is_complete=not head.missing_root and not head.missing_parents,
        warnings=head.warnings,
        sampled_by=head.sampled_by,
        replay_id=head.replay_id,
    )
