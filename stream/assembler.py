"""Spans of one partition to revisions of traces: what is open, when it closes, and what amends it.

A trace closes when its root has arrived and nothing more came for ``settle``, or nothing came for ``idle``, or it is
``max_age`` old or ``max_spans`` large. It is remembered for a while, so that spans which come later amend it with a
further, complete revision. ``now`` is arrival: the broker's clock, as records carry it. This module reads no clock.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple, Protocol
from weakref import ref

from tracecore.analysis import Gathered
from tracecore.closed_trace import CloseReason
from tracecore.record_spans import RecordSpans
from tracecore.span import Span, identity, truer

_SECOND_NS = 1_000_000_000
_END_OF_TIME_NS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """When traces close; nanoseconds of arrival, and spans."""

    settle_ns: int
    idle_ns: int
    max_age_ns: int
    max_spans: int
    #: How long a closed trace is remembered, so that late spans amend it.
    amend_ns: int


class Revision(NamedTuple):
    """A trace that closes: all its spans, in the order of their arrival.

    The first ``counted`` of ``spans`` stood in earlier revisions already. ``shed``: closed early, for want of memory.
    ``first_offset`` is the offset of the earliest record that this revision rests on.
    """

    trace_id: bytes
    spans: Sequence[Span]
    counted: int
    revision: int
    reason: CloseReason
    shed: bool
    first_offset: int
    first_arrival_ns: int
    last_arrival_ns: int
    duplicate_count: int
    interesting: bool
    kept_by: str

    def gathered(self) -> Gathered:
        """What there is to analyse."""
        return Gathered(
            self.trace_id,
            self.spans,
            self.revision,
            self.reason,
            self.first_arrival_ns,
            self.last_arrival_ns,
            self.duplicate_count,
        )


class Arrived(NamedTuple):
    """The spans of one record, and when it came (Unix ns); of which traces a detector names spans in it: they are
    ``interesting``.
    """

    spans: RecordSpans | Sequence[Span]
    offset: int
    arrival_ns: int
    interesting: Sequence[bytes] = ()


class SpanHolder(Protocol):
    """What holds spans of a ``SpanBudget``: an assembler."""

    @property
    def oldest_closed_ns(self) -> int | None:
        """When the trace closed that is remembered for the longest time (arrival); None if none is."""

    def forget(self, spans: int, until_ns: int) -> None:
        """Let traces that closed until then go, oldest first, until so many spans have gone; one at least."""


@dataclass(slots=True)
class SpanBudget:
    """How many spans a worker holds in memory, over all its partitions, and how many it may."""

    limit: int
    held: int = 0
    # In the order in which they came. Weak: some are given up without a word, and hold nothing.
    _holders: list[ref[SpanHolder]] = field(default_factory=list)

    def join(self, holder: SpanHolder) -> None:
        """Count on what it remembers, as long as it lives."""
        self._holders = [one for one in self._holders if one() is not None]
        self._holders.append(ref(holder))

    def make_room(self, spans: int) -> bool:
        """Have closed traces forgotten, of all partitions the oldest first; True if so many more may be held then.

        Oldest to the second. A partition that is new to a worker must not pay for what its others remember.
        """
        while (excess := self.held + spans - self.limit) > 0:
            living = [holder for one in self._holders if (holder := one()) is not None]
            remembering = sorted(
                (closed_ns, place)
                for place, holder in enumerate(living)
                if (closed_ns := holder.oldest_closed_ns) is not None
            )
            if not remembering:
                return False
            (_, first), *others = remembering
            living[first].forget(excess, others[0][0] + _SECOND_NS if others else _END_OF_TIME_NS)
        return True


@dataclass(slots=True)
class Counts:
    """What an assembler did since it began; every drop is in here."""

    spans: int = 0
    duplicates: int = 0
    late_spans: int = 0
    shed_traces: int = 0
    #: Traces that were forgotten before their time, for want of memory: late spans cannot amend them any more.
    forgotten_early: int = 0
    closed: dict[str, int] = field(default_factory=dict)

    def add(self, other: "Counts") -> None:
        """Sum up, in place."""
        self.spans += other.spans
        self.duplicates += other.duplicates
        self.late_spans += other.late_spans
        self.shed_traces += other.shed_traces
        self.forgotten_early += other.forgotten_early
        for reason, count in other.closed.items():
            self.closed[reason] = self.closed.get(reason, 0) + count


class _Trace:
    """A trace in memory, open or remembered; ``spans`` by identity, in the order of their arrival."""

    __slots__ = (
        "counted",
        "due_ns",
        "duplicates",
        "first_arrival_ns",
        "first_offset",
        "has_root",
        "interesting",
        "kept_by",
        "last_arrival_ns",
        "opened_ns",
        "order",
        "revision",
        "spans",
        "trace_id",
    )

    def __init__(self, trace_id: bytes, arrival_ns: int) -> None:
        self.trace_id = trace_id
        self.spans: dict[bytes, Span] = {}
        self.counted = 0
        self.revision = 0
        self.has_root = False
        self.duplicates = 0
        self.first_arrival_ns = arrival_ns
        self.interesting = False
        self.kept_by = ""
        # Set as it is opened; ``order`` counts openings, and settles which of two closes first.
        self.first_offset = self.last_arrival_ns = self.opened_ns = self.order = 0
        # Of the one timer that counts; others are left behind and skipped. -1: it is not open.
        self.due_ns = -1


class Assembler:
    """The traces of one partition. Every method that may close traces returns their revisions, in order.

    ``OpenTraces`` does the same in compiled code.
    """

    def __init__(self, limits: Limits, budget: SpanBudget) -> None:
        self._limits = limits
        self._budget = budget
        # Both are emptied from the front, where a plain dict has to step over all that was deleted before.
        # In the order of their first offset: the first is what the partition's watermark rests on.
        self._open: OrderedDict[bytes, _Trace] = OrderedDict()
        # Closed, in the order of closing, with the time of it.
        self._recent: OrderedDict[bytes, tuple[int, _Trace]] = OrderedDict()
        # A trace may be due later than its timer says, never earlier.
        self._timers: list[tuple[int, int, _Trace]] = []
        self._opened = 0
        self._now_ns = 0
        self.counts = Counts()
        budget.join(self)

    @property
    def open_traces(self) -> int:
        """Traces that have not closed, or are being amended."""
        return len(self._open)

    @property
    def now_ns(self) -> int:
        """The arrival watermark: the latest time that was told."""
        return self._now_ns

    @property
    def first_offset(self) -> int | None:
        """The lowest offset that an open trace rests on; None if none is open."""
        for trace in self._open.values():
            return trace.first_offset
        return None

    def add(self, records: Sequence[Arrived]) -> list[Revision]:
        """Take the spans of each; first closes what was due as it came.

        Of spans with one identity the truer is kept (``span.identity``, ``span.truer``). O(1) a span.
        """
        closed: list[Revision] = []
        # Room for all of them, if there is so much; else for one record after another.
        self._budget.make_room(sum(len(one.spans) for one in records))
        for spans, offset, arrival_ns, interesting in records:
            self._budget.make_room(len(spans))
            closed += self.advance(arrival_ns)
            for span in spans:
                trace = self._taken(span, offset, arrival_ns)
                if len(trace.spans) >= self._limits.max_spans and trace.trace_id in self._open:
                    closed.append(self._closed(trace, "max_spans"))
                    self._forget(trace)
            for trace_id in interesting:
                if trace_id in self._open:
                    self._open[trace_id].interesting = True
            closed += self._shed()
        return closed

    def advance(self, now_ns: int) -> list[Revision]:
        """Move the watermark, never back: close what is due, forget what was remembered long enough."""
        if now_ns <= self._now_ns:
            return []
        self._now_ns = now_ns
        closed: list[Revision] = []
        while self._timers and self._timers[0][0] <= now_ns:
            due_ns, order, trace = heappop(self._timers)
            if (due_ns, order) != (trace.due_ns, trace.order):
                continue
            trace.due_ns, reason = self._due(trace)
            if trace.due_ns > due_ns:
                heappush(self._timers, (trace.due_ns, trace.order, trace))
            else:
                closed.append(self._closed(trace, reason))
        forget_before_ns = now_ns - self._limits.amend_ns
        while self._recent:
            closed_ns, trace = next(iter(self._recent.values()))
            if closed_ns > forget_before_ns:
                break
            self._forget(trace)
        return closed

    def finish(self) -> list[Revision]:
        """Nothing more will come: close all that is open, as it would have closed in time."""
        return [self._closed(trace, self._due(trace)[1]) for trace in list(self._open.values())]

    def mark_kept(self, trace_id: bytes, kept_by: str) -> None:
        """A revision of this trace was kept by sampling: later ones are kept, too."""
        trace = self._in_memory(trace_id)
        if trace is not None:
            trace.kept_by = kept_by

    def kept_by(self, trace_id: bytes) -> str:
        """By what sampling kept an earlier revision of this trace; "" if it did not."""
        trace = self._in_memory(trace_id)
        return trace.kept_by if trace is not None else ""

    def open_spans(self) -> list[list[Span]]:
        """The spans of every open trace, for a successor."""
        return [list(trace.spans.values()) for trace in self._open.values()]

    @property
    def oldest_closed_ns(self) -> int | None:
        """When the trace closed that is remembered for the longest time (arrival); None if none is."""
        for closed_ns, _ in self._recent.values():
            return closed_ns
        return None

    def forget(self, spans: int, until_ns: int) -> None:
        """Let traces that closed until then go, oldest first, until so many spans have gone; one at least."""
        enough = self._budget.held - spans
        while self._budget.held > enough and self._recent:
            closed_ns, trace = next(iter(self._recent.values()))
            if closed_ns > until_ns:
                break
            self._forget(trace)
            self.counts.forgotten_early += 1

    def drop(self) -> None:
        """Give the worker's budget back; this assembler is not used any more."""
        for trace in [*self._open.values(), *(trace for _, trace in self._recent.values())]:
            self._budget.held -= len(trace.spans)
        self._open.clear()
        self._recent.clear()
        self._timers.clear()

    def _in_memory(self, trace_id: bytes) -> _Trace | None:
        if trace_id in self._recent:
            return self._recent[trace_id][1]
        return self._open.get(trace_id)

    def _taken(self, span: Span, offset: int, arrival_ns: int) -> _Trace:
        """Take one span; its trace, which opens unless it is remembered and the span adds nothing."""
        trace = self._in_memory(span.trace_id) or _Trace(span.trace_id, arrival_ns)
        key = identity(span)
        held = trace.spans.get(key)
        if held is not None:
            trace.duplicates += 1
            self.counts.duplicates += 1
            if truer(held, span) is held:
                return trace
        trace.spans[key] = span
        if trace.due_ns < 0:
            self._open_again(trace, offset, arrival_ns)
        if held is None:
            self.counts.spans += 1
            self._budget.held += 1
            trace.last_arrival_ns = arrival_ns
            if not span.parent_span_id and not trace.has_root:
                trace.has_root = True
                self._set_timer(trace)
        return trace

    def _open_again(self, trace: _Trace, offset: int, arrival_ns: int) -> None:
        """Open a trace that is new, or was closed and remembered."""
        self._recent.pop(trace.trace_id, None)
        trace.first_offset = offset
        trace.opened_ns = trace.last_arrival_ns = arrival_ns
        trace.order = self._opened
        self._opened += 1
        self._open[trace.trace_id] = trace
        self._set_timer(trace)

    def _due(self, trace: _Trace) -> tuple[int, CloseReason]:
        """When ``trace`` closes if nothing more comes, and why."""
        limits = self._limits
        amends = trace.revision > 0
        quiet_ns = limits.settle_ns if trace.has_root or amends else limits.idle_ns
        settled_ns, aged_ns = trace.last_arrival_ns + quiet_ns, trace.opened_ns + limits.max_age_ns
        if amends:
            return min(settled_ns, aged_ns), "late"
        if aged_ns < settled_ns:
            return aged_ns, "max_age"
        return settled_ns, "complete" if trace.has_root else "idle"

    def _set_timer(self, trace: _Trace) -> None:
        trace.due_ns = self._due(trace)[0]
        heappush(self._timers, (trace.due_ns, trace.order, trace))

    def _closed(self, trace: _Trace, reason: CloseReason, shed: bool = False) -> Revision:
        del self._open[trace.trace_id]
        trace.due_ns = -1
        trace.revision += 1
        if trace.revision > 1:
            self.counts.late_spans += len(trace.spans) - trace.counted
        self.counts.closed[reason] = self.counts.closed.get(reason, 0) + 1
        revision = Revision(
            trace.trace_id,
            list(trace.spans.values()),
            trace.counted,
            trace.revision,
            reason,
            shed,
            trace.first_offset,
            trace.first_arrival_ns,
            trace.last_arrival_ns,
            trace.duplicates,
            trace.interesting,
            trace.kept_by,
        )
        trace.counted = len(trace.spans)
        self._recent[trace.trace_id] = (self._now_ns, trace)
        return revision

    def _forget(self, trace: _Trace) -> None:
        del self._recent[trace.trace_id]
        self._budget.held -= len(trace.spans)

    def _shed(self) -> list[Revision]:
        """Where there is no room even so, close what is open, oldest first. Nothing is lost."""
        closed: list[Revision] = []
        while not self._budget.make_room(0) and self._open:
            trace = next(iter(self._open.values()))
            closed.append(self._closed(trace, "max_spans", shed=True))
            self._forget(trace)
            self.counts.shed_traces += 1
        return closed
