"""A trace that was assembled: its spans, with what the algebra found, as ``tracewatch.traces`` carries it."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from tracecore.span import Resource, Scope

#: Why a revision was made. Of the same trace, the revision with the most spans is the truth.
CloseReason = Literal["complete", "idle", "max_age", "max_spans", "late"]
#: All of them: columns have a reason's place here as its number.
CLOSE_REASONS: tuple[CloseReason, ...] = get_args(CloseReason)

NO_GAP = -1

#: The last fields of a closed trace: what is known only once it was sampled and, maybe, taken apart.
TAIL_FIELDS = ("sampled_by", "replay_id", "part", "parts")


class TracedSpan(NamedTuple):
    """A span in its trace. A tuple: on the wire an array, and cheap to make.

    ``parent_span_id`` is as sent; ``tree_parent_id`` is where the span hangs in the tree (an orphan hangs under the
    root); both empty for a root. ``start_ns`` and ``end_ns`` are as sent, ``skew_ns`` is what to add to both to
    see them on the root's clock. ``self_time_ns`` is covered by no child, ``critical_path_ns`` is the span's own
    part of the critical path. ``gap_ns`` is, on a server's span, what its client's span lasted longer: the
    network; or ``NO_GAP``. ``resource`` and ``scope`` index the trace's tables. ``raw`` is OTLP's Span message.
    """

    span_id: bytes
    parent_span_id: bytes
    tree_parent_id: bytes
    depth: int
    service: str
    name: str
    kind: int
    status: int
    start_ns: int
    end_ns: int
    skew_ns: int
    self_time_ns: int
    critical_path_ns: int
    gap_ns: int
    warnings: tuple[str, ...]
    resource: int
    scope: int
    raw: bytes


class ServiceLink(NamedTuple):
    """Calls of one service to another in a trace. ``duration_ns`` is the caller's span, summed over calls."""

    caller: str
    callee: str
    #: "service", "database", "messaging" or "external": what the callee is.
    callee_type: str
    calls: int
    errors: int
    duration_ns: int
    #: Summed over ``gap_calls``, the calls whose both sides sent a span.
    gap_ns: int
    gap_calls: int


class PathSegment(NamedTuple):
    """A stretch of the critical path, on the root's clock; segments touch and sum to the root's duration."""

    span_id: bytes
    start_ns: int
    end_ns: int


class _Written:
    """What was written already of a trace, beside its fields: a changed copy has none."""

    __slots__ = ("head",)

    #: All fields but ``TAIL_FIELDS`` as MessagePack, where compiled code analysed the trace; else not set.
    head: memoryview


@dataclass(slots=True)
class ClosedTrace(_Written):
    """One revision of a trace. A value, though not frozen: making one would take 27 us then, ten times as long.

    So nothing but ``TAIL_FIELDS`` may be set in place.

    ``spans`` stand in the tree's order: a parent before its children, siblings by start. A large trace travels in
    ``parts`` records that differ only in ``part``, ``spans`` and their ``resources`` and ``scopes``; part 0 alone
    carries the critical path. Arrival
    times are the broker's clock, ``start_ns`` and ``end_ns`` the root's. ``error_origin`` is the span that failed
    first and deepest, or empty.
    """

    trace_id: bytes
    revision: int
    reason: CloseReason
    root_span_id: bytes
    root_service: str
    root_name: str
    start_ns: int
    end_ns: int
    first_arrival_ns: int
    last_arrival_ns: int
    span_count: int
    error_count: int
    duplicate_count: int
    missing_root: bool
    missing_parents: int
    error_origin: bytes
    count_milli: int
    services: tuple[str, ...]
    critical_path: tuple[PathSegment, ...]
    links: tuple[ServiceLink, ...]
    warnings: tuple[str, ...]
    resources: tuple[Resource, ...]
    scopes: tuple[Scope, ...]
    spans: tuple[TracedSpan, ...]
    sampled_by: str = ""
    replay_id: str = ""
    part: int = 0
    parts: int = 1

    @property
    def duration_ns(self) -> int:
        """From the first start to the last end, on the root's clock."""
        return self.end_ns - self.start_ns

    @property
    def is_complete(self) -> bool:
        """True if the root and every named parent arrived."""
        return not self.missing_root and not self.missing_parents
