"""Statistics of one partition in ten-second windows of event time, taken from every trace before sampling.

Everything in a window comes from closed traces, for self time and gaps need the tree. So that nothing is counted
twice, a revision counts only the spans, and the calls, that no earlier revision of the trace held; what it corrects
of earlier spans (a self time that a late child shortens) is not corrected here.

A window closes ``grace`` after its end. Traces that came in time and close after that make the whole window again,
with more spans: of records with the same key, window and partition, the one with the most spans is the truth.

Traces that come later (a producer's clock that is behind, an outage) are counted into parts of their own, one for
every ten seconds of arrival. For a worker that begins after a crash has not what its predecessor counted into a window
that was told: it would tell that window again with the few late spans alone, and they would be lost. A part that rests
on arrival holds the watermark until it is told, as a window does, and is counted again whole or not at all.

A worker that begins where another was killed reads some traces again, of the oldest only a part. So it is told how far
the other's windows had closed as of what it committed, and counts nothing into those.
"""

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stream.assembler import Revision
from stream.attempt import attempt
from tracecore.analysed import AnalysedSpans
from tracecore.batch_analysis import ClosedTraces
from tracecore.buckets import SUB_BITS, Buckets, merged
from tracecore.closed_trace import NO_GAP, ClosedTrace, TracedSpan
from tracecore.peers import peer_of
from tracecore.span import ONE_SPAN_MILLI, Span, SpanKind, StatusCode
from tracecore.stretches import stretches
from tracecore.tree import shared_span_id
from tracecore.window import PARTS_APART, WINDOW_NS, HopWindow, OperationWindow, Window, window_start

logger = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]

try:
    from stream import window_tally
except (ImportError, RuntimeError):  # no numba, or no place for what it compiles: a matter of speed alone
    window_tally = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from stream.revision_columns import RevisionColumns
    from stream.window_tally import Array, Tally

#: Operations beyond ``max_series`` are counted under this name: a service that puts ids into names harms itself only.
OTHER_OPERATION = "(other)"

_RECEIVING = (int(SpanKind.SERVER), int(SpanKind.CONSUMER))
_ERROR = int(StatusCode.ERROR)
_NO_IDS: frozenset[bytes] = frozenset()
_CALLING = (int(SpanKind.CLIENT), int(SpanKind.PRODUCER))


@dataclass(frozen=True, slots=True)
class WindowLimits:
    """Nanoseconds of arrival and event time."""

    #: A window closes this long after its end.
    grace_ns: int
    #: A span that ended longer before its arrival than this counts at its arrival.
    past_ns: int
    #: A span that ends further in the arrival clock's future than this counts at its arrival.
    future_ns: int
    #: Series a window holds, at most.
    max_series: int

    @property
    def in_time_ns(self) -> int:
        """How long after a window's end its spans come in time: a trace takes a while to close, the window must not."""
        return self.grace_ns - self.grace_ns // 5


class ClosedWindow(NamedTuple):
    """A window that closes for the first time: all its series, and the arrival at which it closes."""

    start_ns: int
    series: list[Window]


class _Series:
    """Counts of an operation or a hop: ``second`` is self time of the one, gap of the other."""

    __slots__ = (
        "changed",
        "count_milli",
        "duration",
        "error_milli",
        "failed",
        "second",
        "slowest",
        "slowest_ns",
        "spans",
    )

    def __init__(self) -> None:
        self.spans = 0
        self.count_milli = 0
        self.error_milli = 0
        self.duration: Buckets = {}
        self.second: Buckets = {}
        self.slowest_ns = -1
        self.slowest = ""
        self.failed = ""
        self.changed = True

    def count(self, milli: int, failed: bool, duration_ns: int, second_ns: int, trace_id: str) -> None:
        self.changed = True
        self.spans += 1
        self.count_milli += milli
        if duration_ns < 0:  # it ends before it starts
            duration_ns = 0
        # ``buckets.bucket_of``, inlined: twice a span.
        shift, buckets = duration_ns.bit_length() - SUB_BITS - 1, self.duration
        bucket = (shift << SUB_BITS) + (duration_ns >> shift) if shift > 0 else duration_ns
        buckets[bucket] = buckets.get(bucket, 0) + milli
        if second_ns >= 0:
            shift, buckets = second_ns.bit_length() - SUB_BITS - 1, self.second
            bucket = (shift << SUB_BITS) + (second_ns >> shift) if shift > 0 else second_ns
            buckets[bucket] = buckets.get(bucket, 0) + milli
        if failed:
            self.error_milli += milli
            self.failed = max(self.failed, trace_id)
        if duration_ns > self.slowest_ns:
            self.slowest_ns, self.slowest = duration_ns, trace_id

    def add(self, spans: int, milli: int, error_milli: int, slowest_ns: int, slowest: str, failed: str) -> None:
        """As ``count`` does of many spans, but for the buckets."""
        self.changed = True
        self.spans += spans
        self.count_milli += milli
        self.error_milli += error_milli
        self.failed = max(self.failed, failed)
        if slowest_ns > self.slowest_ns:
            self.slowest_ns, self.slowest = slowest_ns, slowest

    def restore(self, window: Window, second: Buckets) -> None:
        self.spans += window.spans
        self.count_milli += window.count_milli
        self.error_milli += window.error_milli
        self.duration = merged((self.duration, window.duration))
        self.second = merged((self.second, second))
        self.slowest = max(self.slowest, window.slowest)
        self.failed = max(self.failed, window.failed)
        self.changed = True


class _Window:
    """A window, or a part of one that came late: ``part`` tens of seconds after it."""

    __slots__ = ("amended", "closed", "first_offset", "hops", "operations", "part", "start_ns")

    def __init__(self, start_ns: int, part: int, first_offset: int) -> None:
        self.start_ns = start_ns
        self.part = part
        self.first_offset = first_offset
        self.operations: dict[tuple[str, str, int], _Series] = {}
        self.hops: dict[tuple[str, str, str], _Series] = {}
        self.closed = False
        self.amended = False

    @property
    def end_ns(self) -> int:
        """When nothing more comes for it, on the clock of arrivals."""
        return self.start_ns + (self.part + 1) * WINDOW_NS


_NO_WINDOW = _Window(0, 0, 0)


class Windows:
    """The windows of one source partition."""

    def __init__(self, partition: int, limits: WindowLimits, told_until_ns: int = 0) -> None:
        """Windows that end until ``told_until_ns`` were told by a predecessor, whole."""
        self._partition = partition
        self._limits = limits
        self._told_until_ns = told_until_ns
        # By start and part.
        self._windows: dict[tuple[int, int], _Window] = {}
        self._closed_until_ns = 0
        self._advanced_to_ns = 0
        #: Spans that were counted into OTHER_OPERATION.
        self.overflowed_spans = 0

    @property
    def closed_until_ns(self) -> int:
        """No further window that ends at or before this will close for the first time."""
        return self._closed_until_ns

    @property
    def first_offset(self) -> int | None:
        """The lowest offset that a window rests on which did not close yet."""
        return min((window.first_offset for window in self._windows.values() if not window.closed), default=None)

    def count_columns(
        self, closed: ClosedTraces, revisions: "RevisionColumns", places: "Array"
    ) -> dict[int, set[bytes] | Exception]:
        """``count_revision`` of those at ``places``, in their order; by place what it says, if that is not empty.

        A bug at one does not keep the others from being counted: it is returned in its place.
        """

        def count_alone(place: int) -> set[bytes]:
            return self.count_revision(closed[place], revisions[place])

        odd: dict[int, set[bytes] | Exception] = {}
        is_alone = closed.needs_repair[places] | (revisions.traces["counted"][places] > 0)
        for low, high in stretches(is_alone):
            some = places[low:high]
            together = None if is_alone[low] else self._count_together(closed, revisions, some)
            if together is not None:
                odd |= together
                continue
            alone = {place: attempt(count_alone, place) for place in some.tolist()}
            odd |= {place: misdated for place, misdated in alone.items() if misdated}
        return odd

    def count_revision(self, closed: ClosedTrace, revision: Revision) -> set[bytes]:
        """``count`` of the spans that no earlier revision held."""
        spans = revision.spans
        return self.count(
            closed,
            _ids(spans[: revision.counted]) if revision.counted else _NO_IDS,
            {span[1]: span[8] for span in spans if span[8] != ONE_SPAN_MILLI},
            revision.last_arrival_ns,
            revision.first_offset,
        )

    def count(
        self,
        closed: ClosedTrace,
        counted_already: Set[bytes],
        milli_of: Mapping[bytes, int],
        arrival_ns: int,
        first_offset: int,
    ) -> set[bytes]:
        """Count the spans of a revision, but those ``counted_already``; returns the ids of those with untrue times.

        ``milli_of`` has the weight of spans by id where it is not a thousand; ``arrival_ns`` is when the trace's
        last span came.
        """
        trace_id = closed.trace_id.hex()
        earliest_ns, latest_ns = arrival_ns - self._limits.past_ns, arrival_ns + self._limits.future_ns
        misdated: set[bytes] = set()
        by_id: dict[bytes, TracedSpan] = {}
        parents: set[bytes] = set()
        start_ns, window = -1, None
        # Tuples are taken apart by position, and calls are few: this loop sees every span.
        for span in closed.spans:
            span_id, _, _, _, service, name, kind, status, begin_ns, end_ns, _, self_time_ns = span[:12]
            fresh = span_id not in counted_already
            client = None
            if kind in _RECEIVING:
                by_id = by_id or {span.span_id: span for span in closed.spans}
                client = _client_of(span, by_id)
            fresh_call = client is not None and (fresh or client.span_id not in counted_already)
            if not fresh and not fresh_call:
                continue
            duration_ns = end_ns - begin_ns
            if not earliest_ns <= end_ns <= latest_ns:
                misdated.add(span_id)
                end_ns = arrival_ns
            if window is None or not start_ns <= end_ns < start_ns + WINDOW_NS:
                start_ns = end_ns - end_ns % WINDOW_NS
                window = self._window_of(start_ns, arrival_ns, first_offset)
            if window is None:
                continue
            milli = milli_of.get(span_id, ONE_SPAN_MILLI) if milli_of else ONE_SPAN_MILLI
            failed = status == _ERROR
            if fresh:
                series = window.operations.get((service, name, kind)) or self._operation(window, service, name, kind)
                series.count(milli, failed, duration_ns, self_time_ns if self_time_ns > 0 else 0, trace_id)
                if kind in _CALLING:
                    parents = parents or {span.tree_parent_id for span in closed.spans}
                    peer = peer_of(span.raw) if span_id not in parents else None
                    if peer is not None and not peer.receives:
                        hop = self._hop(window, service, peer.name, name)
                        hop.count(milli, failed, duration_ns, NO_GAP, trace_id)
            if client is not None and fresh_call:
                hop = self._hop(window, client.service, service, name)
                failed = failed or client.status == _ERROR
                hop.count(milli, failed, client.end_ns - client.start_ns, span.gap_ns, trace_id)
        return misdated

    def due_ns(self, now_ns: int) -> int | None:
        """The latest time until ``now_ns`` at which windows may close, if it was not told to ``advance`` yet."""
        due_ns = window_start(now_ns - self._limits.grace_ns) + self._limits.grace_ns
        return due_ns if due_ns > self._advanced_to_ns else None

    def advance(self, now_ns: int) -> tuple[list[ClosedWindow], list[Window]]:
        """Windows that close at ``now_ns``, oldest first; and series of those that are amended, or came late."""
        self._advanced_to_ns = max(self._advanced_to_ns, now_ns)
        closed: list[ClosedWindow] = []
        amended: list[Window] = []
        for key, window in sorted(self._windows.items()):
            if not window.closed:
                if now_ns >= window.end_ns + self._limits.grace_ns:
                    window.closed = True
                    if window.part:
                        amended += self._series(window)
                    else:
                        closed.append(ClosedWindow(window.start_ns, self._series(window)))
            elif window.amended:
                amended += self._series(window)
                window.amended = False
            if now_ns >= window.end_ns + self._limits.past_ns + self._limits.grace_ns:
                amended += self._series(window)
                del self._windows[key]
        self._closed_until_ns = max(self._closed_until_ns, window_start(now_ns - self._limits.grace_ns))
        return closed, amended

    def changed(self) -> list[Window]:
        """Every series that no record tells of yet, for a successor."""
        return [series for _, window in sorted(self._windows.items()) for series in self._series(window)]

    def take_over(self, windows: Sequence[Window], closed_until_ns: int, offset: int) -> None:
        """Go on with series that a predecessor counted; ``offset`` is of the record that told of them."""
        self._closed_until_ns = max(self._closed_until_ns, closed_until_ns)
        for series in windows:
            window = self._window(series.start_ns, series.partition // PARTS_APART, offset)
            if isinstance(series, OperationWindow):
                into = self._operation(window, series.service, series.operation, series.kind)
                into.restore(series, series.self_time)
            else:
                self._hop(window, series.caller, series.callee, series.operation).restore(series, series.gap)

    def _count_together(
        self, closed: ClosedTraces, revisions: "RevisionColumns", places: "Array"
    ) -> dict[int, set[bytes]] | None:
        """None, with nothing counted, if they are better counted one by one."""
        if window_tally is None or not window_tally.is_warm():
            return None
        limits, spans, traces = self._limits, closed.analysed, revisions.traces[places]
        tally = attempt(
            window_tally.tallied,
            spans,
            window_tally.Counted(
                places, traces["high"], traces["low"], traces["last_arrival_ns"], traces["first_offset"]
            ),
            window_tally.TallyLimits(limits.past_ns, limits.future_ns, limits.in_time_ns, self._told_until_ns),
        )
        if isinstance(tally, Exception):
            logger.error("bug at one of %d traces", len(places), exc_info=tally)
            return None
        if tally is None or not self._has_room(spans, tally):
            return None
        self._add(spans, tally, closed.packed_ids[places])
        misdated: dict[int, set[bytes]] = {}
        of = np.searchsorted(spans.first, tally.misdated, side="right") - 1
        for span, place in zip(tally.misdated.tolist(), of.tolist(), strict=True):
            misdated.setdefault(place, set()).add(spans.spans[span].span_id)
        return misdated

    def _has_room(self, spans: AnalysedSpans, tally: "Tally") -> bool:
        """True if no window will hold too many series: which of them are summed up hangs on the order of spans."""
        most, operation_count = self._limits.max_series, len(spans.operations.keys)
        for number, (start_ns, part, _) in enumerate(tally.windows.tolist()):
            window = self._windows.get((start_ns, part)) or _NO_WINDOW
            keys = tally.series[tally.series[:, window_tally.WINDOW] == number, window_tally.KEY]
            is_operation = keys < operation_count
            for held, names, its in (
                (window.operations, spans.operations.keys, keys[is_operation]),
                (window.hops, spans.calls.keys, keys[~is_operation] - operation_count),
            ):
                # Most have room even if none of these were held.
                if len(held) + len(its) > most and len(held.keys() | {names[key] for key in its.tolist()}) > most:
                    return False
        return True

    def _add(self, spans: AnalysedSpans, tally: "Tally", packed_ids: Array) -> None:
        windows = [self._window(start_ns, part, offset) for start_ns, part, offset in tally.windows.tolist()]
        operations, calls = spans.operations.keys, spans.calls.keys
        histograms: list[Buckets] = []
        # All in hex, one after another.
        ids = packed_ids.tobytes().hex()
        for window, key, count, milli, error_milli, slowest_ns, slowest, failed in tally.series.tolist():
            if key < len(operations):
                series = self._operation(windows[window], *operations[key])
            else:
                series = self._hop(windows[window], *calls[key - len(operations)])
            slowest_id = ids[32 * slowest : 32 * slowest + 32] if slowest >= 0 else ""
            failed_id = ids[32 * failed : 32 * failed + 32] if failed >= 0 else ""
            series.add(count, milli, error_milli, slowest_ns, slowest_id, failed_id)
            histograms += (series.duration, series.second)
        for histogram, bucket, count in tally.buckets.tolist():
            buckets = histograms[histogram]
            buckets[bucket] = buckets.get(bucket, 0) + count

    def _window_of(self, start_ns: int, arrival_ns: int, first_offset: int) -> _Window | None:
        is_late = arrival_ns >= start_ns + WINDOW_NS + self._limits.in_time_ns
        part = (arrival_ns - start_ns) // WINDOW_NS if is_late else 0
        if start_ns + (part + 1) * WINDOW_NS <= self._told_until_ns:
            # Read again after a crash, and perhaps a part of its trace only: what was told is truer.
            return None
        return self._window(start_ns, part, first_offset)

    def _window(self, start_ns: int, part: int, first_offset: int) -> _Window:
        window = self._windows.get((start_ns, part))
        if window is None:
            window = self._windows[start_ns, part] = _Window(start_ns, part, first_offset)
            # Its time has passed with nothing in it: it cannot close again, only be amended.
            window.closed = window.end_ns <= self._closed_until_ns
        if window.closed:
            window.amended = True
        elif first_offset < window.first_offset:
            window.first_offset = first_offset
        return window

    def _operation(self, window: _Window, service: str, name: str, kind: int) -> _Series:
        key = (service, name, kind)
        series = window.operations.get(key)
        if series is None:
            if len(window.operations) >= self._limits.max_series:
                self.overflowed_spans += 1
                key = (service, OTHER_OPERATION, kind)
            series = window.operations.setdefault(key, _Series())
        return series

    def _hop(self, window: _Window, caller: str, callee: str, name: str) -> _Series:
        key = (caller, callee, name)
        series = window.hops.get(key)
        if series is None:
            if len(window.hops) >= self._limits.max_series:
                key = (caller, callee, OTHER_OPERATION)
            series = window.hops.setdefault(key, _Series())
        return series

    def _series(self, window: _Window) -> list[Window]:
        """Series that have changed since they were last asked for."""
        start_ns, partition = window.start_ns, self._partition + window.part * PARTS_APART
        series: list[Window] = []
        for (service, operation, kind), s in window.operations.items():
            if s.changed:
                s.changed = False
                series.append(
                    OperationWindow(
                        start_ns, service, operation, kind, partition, s.spans, s.count_milli, s.error_milli,
                        _sorted(s.duration), _sorted(s.second), s.slowest, s.failed,
                    )
                )  # fmt: skip
        for (caller, callee, operation), s in window.hops.items():
            if s.changed:
                s.changed = False
                series.append(
                    HopWindow(
                        start_ns, caller, callee, operation, partition, s.spans, s.count_milli, s.error_milli,
                        _sorted(s.duration), _sorted(s.second), s.slowest, s.failed,
                    )
                )  # fmt: skip
        return series


def _client_of(span: TracedSpan, by_id: dict[bytes, TracedSpan]) -> TracedSpan | None:
    """The span that called ``span``, if it came: an orphan hangs where nobody called it from."""
    if span.parent_span_id != span.tree_parent_id and span.gap_ns == NO_GAP:
        return None
    parent = by_id.get(span.tree_parent_id)
    return parent if parent is not None and parent.kind in _CALLING else None


def _ids(spans: Sequence[Span]) -> set[bytes]:
    """The ids that ``spans`` have in a closed trace; a server's may be a derived one."""
    return {span.span_id for span in spans} | {
        shared_span_id(span.span_id) for span in spans if span.kind in _RECEIVING
    }


def _sorted(buckets: Buckets) -> Buckets:
    # By index: in which order they were filled hangs on how many traces were counted at once.
    return dict(sorted(buckets.items()))
