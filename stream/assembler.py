"""Spans of one partition to revisions of traces: what is open, when it closes, and what amends it.

A trace closes when its root has arrived and nothing more came for ``settle``, or nothing came for ``idle``, or it is
``max_age`` old or ``max_spans`` large. It is remembered for a while, so that spans which come later amend it with a
further, complete revision. ``now`` is arrival: the broker's clock, as records carry it. This module reads no clock.
"""

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple

from stream.timers import Timers
from tracecore.analysis import Gathered
from tracecore.closed_trace import CloseReason
from tracecore.grouped_spans import GroupedSpans
from tracecore.span import Span, SpanKind, identity, truer
from tracecore.span_columns import SpansInParts

_RECEIVING = (int(SpanKind.SERVER), int(SpanKind.CONSUMER))
#: A trace that is open for longer holds its spans itself: as columns they hold whole records.
_KEEP_COLUMNS_NS = 30_000_000_000
#: A trace of more spans looks its keys up in a set, which takes ten times the memory of an array.
_FEW = 64
_NO_KEYS = array("q")


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


@dataclass(slots=True)
class SpanBudget:
    """How many spans a worker holds in memory, over all its partitions, and how many it may."""

    limit: int
    held: int = 0


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
    """A trace in memory, open or remembered.

    Its spans are in ``parts`` (``SpansInParts``) as long as all came as columns and none came twice, and ``keys`` are
    those of its spans; else in ``spans``, by identity.
    """

    __slots__ = (
        "counted",
        "duplicates",
        "first_arrival_ns",
        "first_offset",
        "has_root",
        "interesting",
        "kept_by",
        "keys",
        "last_arrival_ns",
        "opened_ns",
        "parts",
        "revision",
        "spans",
        "timer",
        "trace_id",
    )

    def __init__(self, trace_id: bytes, offset: int, arrival_ns: int) -> None:
        self.trace_id = trace_id
        self.spans: dict[bytes, Span] | None = None
        self.parts: list[Any] = []
        self.keys: array[int] | set[int] = _NO_KEYS
        self.counted = 0
        self.revision = 0
        self.has_root = False
        self.duplicates = 0
        self.first_offset = offset
        self.first_arrival_ns = arrival_ns
        self.last_arrival_ns = arrival_ns
        self.opened_ns = arrival_ns
        # The slot of the one timer that counts; others are left behind and skipped.
        self.timer = -1
        self.interesting = False
        self.kept_by = ""

    def size(self) -> int:
        """How many spans it has."""
        return len(self.keys) if self.spans is None else len(self.spans)

    def all_spans(self) -> Sequence[Span]:
        """In the order of their arrival, as they are now."""
        return SpansInParts(self.parts[:], len(self.keys)) if self.spans is None else list(self.spans.values())

    def by_identity(self) -> dict[bytes, Span]:
        """Its spans, each of its own from now on."""
        if self.spans is None:
            self.spans = {identity(span): span for span in self.all_spans()}
            self.parts, self.keys = [], _NO_KEYS
        return self.spans


class Assembler:
    """The traces of one partition. Every method that may close traces returns their revisions, in order."""

    def __init__(self, limits: Limits, budget: SpanBudget) -> None:
        self._limits = limits
        self._budget = budget
        # Both are emptied from the front, where a plain dict has to step over all that was deleted before.
        # In the order of their first offset: the first is what the partition's watermark rests on.
        self._open: OrderedDict[bytes, _Trace] = OrderedDict()
        # Closed, in the order of closing, with the time of it.
        self._recent: OrderedDict[bytes, tuple[int, _Trace]] = OrderedDict()
        self._timers: Timers[_Trace] = Timers()
        self._now_ns = 0
        self.counts = Counts()

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

    def add(self, spans: GroupedSpans | Iterable[Span], offset: int, arrival_ns: int) -> list[Revision]:
        """Take the spans of one record; first closes what was due at ``arrival_ns``.

        Of spans with one identity the truer is kept (``span.identity``, ``span.truer``). O(1) a span.
        """
        closed = self.advance(arrival_ns)
        if isinstance(spans, GroupedSpans):
            self._add_columns(spans, offset, arrival_ns, closed)
        else:
            by_trace: dict[bytes, list[Span]] = {}
            for span in spans:
                by_trace.setdefault(span[0], []).append(span)
            for trace_id, group in by_trace.items():
                self._add_spans(trace_id, group, offset, arrival_ns, closed)
        if self._budget.held > self._budget.limit:
            closed += self._shed()
        return closed

    def _add_columns(self, spans: GroupedSpans, offset: int, arrival_ns: int, closed: list[Revision]) -> None:
        # One local name each and few calls: this loop runs tens of thousands of times a second.
        open_get, recent_get, max_spans = self._open.get, self._recent.get, self._limits.max_spans
        columns, all_keys = spans.columns, spans.keys
        added = 0
        for trace_id, low, high, has_root, has_twins in spans.groups:
            trace = open_get(trace_id)
            is_new = trace is None
            if trace is None:
                remembered = recent_get(trace_id)
                trace = _Trace(trace_id, offset, arrival_ns) if remembered is None else remembered[1]
            keys, own = all_keys[low:high], trace.keys
            if (
                has_twins
                or trace.spans is not None
                or len(own) + high - low >= max_spans
                or (own and not (own.isdisjoint(keys) if isinstance(own, set) else set(keys).isdisjoint(own)))
            ):
                self._add_spans(trace_id, columns[low:high], offset, arrival_ns, closed)
                continue
            trace.parts += (columns, low, high)
            if isinstance(own, set):
                own.update(keys)
            else:
                trace.keys = own + keys if len(own) < _FEW else {*own, *keys}
            added += high - low
            if is_new:
                self._open_again(trace, offset, arrival_ns)
            trace.last_arrival_ns = arrival_ns
            if is_new or (has_root and not trace.has_root):
                trace.has_root = trace.has_root or bool(has_root)
                self._set_timer(trace)
        self.counts.spans += added
        self._budget.held += added

    def _add_spans(
        self, trace_id: bytes, spans: Iterable[Span], offset: int, arrival_ns: int, closed: list[Revision]
    ) -> None:
        """Take spans of one trace, of which some may be held, and which may be more than a trace may have."""
        trace = self._open.get(trace_id)
        added, is_stirred = 0, False
        for span in spans:
            if trace is None:
                trace = self._opened(span, offset, arrival_ns)
                if trace is None:
                    continue
                is_stirred = True
            held = trace.by_identity()
            key = span[1] if span[4] not in _RECEIVING else span[1] + b"<"  # span.identity, inlined
            if key in held:
                trace.duplicates += 1
                self.counts.duplicates += 1
                held[key] = truer(held[key], span)
                continue
            held[key] = span
            added += 1
            trace.last_arrival_ns = arrival_ns
            if not span[2] and not trace.has_root:
                trace.has_root = is_stirred = True
            if len(held) >= self._limits.max_spans:
                closed.append(self._closed(trace, "max_spans"))
                self._forget(trace)
                trace = None
        if trace is not None and is_stirred:
            self._set_timer(trace)
        self.counts.spans += added
        self._budget.held += added

    def advance(self, now_ns: int) -> list[Revision]:
        """Move the watermark, never back: close what is due, forget what was remembered long enough."""
        if now_ns <= self._now_ns:
            return []
        self._now_ns = now_ns
        due: list[tuple[int, CloseReason, _Trace]] = []
        early: list[_Trace] = []
        for slot, traces in self._timers.begun(now_ns):
            for trace in traces:
                if trace.timer != slot:
                    continue
                trace.timer = -1
                due_ns, reason = self._due(trace)
                if due_ns <= now_ns:
                    due.append((due_ns, reason, trace))
                else:
                    early.append(trace)
        # Only now: set again at once, it would be met once more in the slot at hand.
        for trace in early:
            if now_ns - trace.opened_ns > _KEEP_COLUMNS_NS:
                trace.by_identity()
            self._set_timer(trace)
        due.sort(key=itemgetter(0))
        closed = [self._closed(trace, reason) for _, reason, trace in due]
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

    def mark_interesting(self, trace_id: bytes) -> None:
        """A detector named this trace: its next revision tells so."""
        trace = self._open.get(trace_id)
        if trace is not None:
            trace.interesting = True

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
        return [list(trace.all_spans()) for trace in self._open.values()]

    def drop(self) -> None:
        """Give the worker's budget back; this assembler is not used any more."""
        for trace in [*self._open.values(), *(trace for _, trace in self._recent.values())]:
            self._budget.held -= trace.size()
        self._open.clear()
        self._recent.clear()
        self._timers.clear()

    def _in_memory(self, trace_id: bytes) -> _Trace | None:
        if trace_id in self._recent:
            return self._recent[trace_id][1]
        return self._open.get(trace_id)

    def _opened(self, span: Span, offset: int, arrival_ns: int) -> _Trace | None:
        """The trace of ``span``: a new one, or a remembered one that is open again; None if ``span`` adds nothing."""
        trace_id = span.trace_id
        remembered = self._recent.get(trace_id)
        if remembered is None:
            trace = _Trace(trace_id, offset, arrival_ns)
        else:
            trace = remembered[1]
            same = trace.by_identity().get(identity(span))
            if same is not None and truer(same, span) is same:
                trace.duplicates += 1
                self.counts.duplicates += 1
                return None
        self._open_again(trace, offset, arrival_ns)
        return trace

    def _open_again(self, trace: _Trace, offset: int, arrival_ns: int) -> None:
        """Open a trace that is new, or was closed and remembered."""
        self._recent.pop(trace.trace_id, None)
        trace.first_offset = offset
        trace.opened_ns = trace.last_arrival_ns = arrival_ns
        self._open[trace.trace_id] = trace

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
        limits = self._limits
        # As ``_due`` says; a call less, for it is made several times a trace.
        quiet_ns = limits.settle_ns if trace.has_root or trace.revision else limits.idle_ns
        due_ns = min(trace.last_arrival_ns + quiet_ns, trace.opened_ns + limits.max_age_ns)
        trace.timer = self._timers.set(due_ns, trace)

    def _closed(self, trace: _Trace, reason: CloseReason, shed: bool = False) -> Revision:
        del self._open[trace.trace_id]
        trace.timer = -1
        trace.revision += 1
        if trace.revision > 1:
            self.counts.late_spans += trace.size() - trace.counted
        self.counts.closed[reason] = self.counts.closed.get(reason, 0) + 1
        spans, size = trace.all_spans(), trace.size()
        revision = Revision(
            trace.trace_id,
            spans,
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
        trace.counted = size
        self._recent[trace.trace_id] = (self._now_ns, trace)
        return revision

    def _forget(self, trace: _Trace) -> None:
        del self._recent[trace.trace_id]
        self._budget.held -= trace.size()

    def _shed(self) -> list[Revision]:
        """Make room: forget what has closed, oldest first; then close what is open, oldest first. Nothing is lost."""
        closed: list[Revision] = []
        while self._budget.held > self._budget.limit and self._recent:
            self._forget(next(iter(self._recent.values()))[1])
            self.counts.forgotten_early += 1
        while self._budget.held > self._budget.limit and self._open:
            trace = next(iter(self._open.values()))
            closed.append(self._closed(trace, "max_spans", shed=True))
            self._forget(trace)
            self.counts.shed_traces += 1
        return closed
