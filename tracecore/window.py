"""What one partition saw of an operation, or of a hop between services, in ten seconds of event time.

Partial: windows of the same key and time from other partitions add up to the whole (``merged_operation``).
Counts are in thousandths of a span (``span.ONE_SPAN_MILLI``), weighted by head sampling.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tracecore.buckets import Buckets, merged

WINDOW_NS = 10 * 1_000_000_000
#: More partitions than a topic of ours may have: what lies between the parts that one partition makes of a window.
PARTS_APART = 1024


def window_start(time_ns: int) -> int:
    """Start of the window that holds ``time_ns``."""
    return time_ns - time_ns % WINDOW_NS


@dataclass(frozen=True, slots=True)
class OperationWindow:
    """Spans of one operation of one service that ended in one window.

    ``partition`` is the source partition: with key and window it makes the record idempotent. Spans that come late
    are parts of their own, with ``PARTS_APART`` more for every ten seconds. ``duration`` and
    ``self_time`` hold nanoseconds. ``slowest`` and ``failed`` are sample trace ids (hex, may be empty).
    """

    start_ns: int
    service: str
    operation: str
    kind: int
    partition: int
    spans: int
    count_milli: int
    error_milli: int
    duration: Buckets
    self_time: Buckets
    slowest: str = ""
    failed: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        """What windows of one series share."""
        return self.service, self.operation, self.kind


@dataclass(frozen=True, slots=True)
class HopWindow:
    """Calls from one service to an operation of another that ended in one window.

    ``gap`` holds nanoseconds of the client's span that the server's span does not cover: the network and queues.
    ``duration`` is the client's. A callee that sends no spans itself has an empty ``gap``.
    """

    start_ns: int
    caller: str
    callee: str
    operation: str
    partition: int
    spans: int
    count_milli: int
    error_milli: int
    duration: Buckets
    gap: Buckets
    slowest: str = ""
    failed: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What windows of one series share."""
        return self.caller, self.callee, self.operation


Window = OperationWindow | HopWindow


def merged_operation(parts: Sequence[OperationWindow]) -> OperationWindow:
    """Sum of one operation's partial windows of one time; ``parts`` not empty."""
    return replace(
        parts[0],
        partition=-1,
        spans=sum(part.spans for part in parts),
        count_milli=sum(part.count_milli for part in parts),
        error_milli=sum(part.error_milli for part in parts),
        duration=merged(part.duration for part in parts),
        self_time=merged(part.self_time for part in parts),
        slowest=max(part.slowest for part in parts),
        failed=max(part.failed for part in parts),
    )


def merged_hop(parts: Sequence[HopWindow]) -> HopWindow:
    """Sum of one hop's partial windows of one time; ``parts`` not empty."""
    return replace(
        parts[0],
        partition=-1,
        spans=sum(part.spans for part in parts),
        count_milli=sum(part.count_milli for part in parts),
        error_milli=sum(part.error_milli for part in parts),
        duration=merged(part.duration for part in parts),
        gap=merged(part.gap for part in parts),
        slowest=max(part.slowest for part in parts),
        failed=max(part.failed for part in parts),
    )
