"""Rows of the spans and traces of one partition, and what is done with them, compiled: see ``open_traces``.

A span is a row, and so is a trace; rows name each other by number. Rows that are given back are taken again before new
ones. Compiling is numba's, as in ``tracecore.forest``.
"""

from typing import Any, NamedTuple

import numpy as np

from tracecore.closed_trace import CLOSE_REASONS
from tracecore.compiling import uncounted
from tracecore.span import SpanKind
from tracecore.span_columns import (
    COUNT_MILLI,
    END_NS,
    KIND,
    NAME,
    ORIGIN,
    PARENT_ID,
    RAW_AT,
    RAW_END,
    SPAN_ID,
    START_NS,
    STATUS,
    TRACE_HIGH,
    TRACE_LOW,
)

_SERVER, _CONSUMER = int(SpanKind.SERVER), int(SpanKind.CONSUMER)
_COMPLETE, _IDLE, _MAX_AGE, _MAX_SPANS, _LATE = map(
    CLOSE_REASONS.index, ("complete", "idle", "max_age", "max_spans", "late")
)
#: A trace that is open for longer keeps its spans' bytes apart: as they came they keep whole records.
_APART_NS = 30_000_000_000
#: No row; and what ``advance`` says when nothing is left to do, or when there is no room for what closes; and ``take``
#: when a span must be held beside one of its identity that ends as it does.
NONE, FULL, TWIN = -1, -2, -3

#: A trace, open or remembered; ``before`` and ``after`` are those of its kind. ``seen`` has bits of its spans' ids, and
#: several may share one: where a bit is missing, no span need be looked for.
TRACE = np.dtype(
    [
        ("high", "i8"), ("low", "i8"), ("first_offset", "i8"), ("first_arrival_ns", "i8"), ("last_arrival_ns", "i8"),
        # When it was opened; of a remembered trace, when it was closed.
        ("since_ns", "i8"),
        # Of the one timer that counts; others are left behind and skipped.
        ("due_ns", "i8"), ("order", "i8"),
        ("seen", "u8"), ("revision", "i4"), ("counted", "i4"), ("size", "i4"), ("duplicates", "i4"),
        ("last", "i4"), ("before", "i4"), ("after", "i4"), ("chain", "i4"),
        ("is_open", "i1"), ("has_root", "i1"), ("interesting", "i1"), ("kept_by", "i1"), ("is_apart", "i1"),
    ],
    align=True,
)  # fmt: skip
#: A timer: a trace may be due later than it says, never earlier.
TIMER = np.dtype([("due_ns", "i8"), ("order", "i8"), ("trace", "i8")])
#: What there is one of: how many rows were ever taken, and which was given back last; the ends of the lists of traces;
#: how many timers run; and counts.
BOARD = np.dtype(
    [
        (name, "i8")
        for name in (
            "spans", "free_span", "traces", "free_trace", "first_open", "last_open", "first_recent", "last_recent",
            "timers", "opened", "open", "held", "added", "duplicates", "late", "forgotten_early", "shed",
            "live", "closed_traces", "closed_spans", "twin", "now_ns",
        )
    ]
    + [("closed", "i8", (len(CLOSE_REASONS),))]
)  # fmt: skip

Array = np.ndarray[Any, Any]


class RowLimits(NamedTuple):
    """As of ``Limits``."""

    settle_ns: int
    idle_ns: int
    max_age_ns: int
    max_spans: int
    amend_ns: int


class Store(NamedTuple):
    """All arrays. ``trace_heads`` and ``span_heads`` begin chains by hash; ``timers`` is a heap by time,
    and of one time in the order of opening.

    ``closed_traces`` and ``closed_spans`` take traces as they close.
    """

    board: Array
    traces: Array
    spans: Array
    trace_heads: Array
    span_heads: Array
    timers: Array
    closed_traces: Array
    closed_spans: Array


@uncounted
def take(
    board, traces, spans, trace_heads, span_heads, timers, closed_traces, closed_spans,
    uses, table, source, records, marks, place, limits,
):  # fmt: skip
    """Take records: from where to where their spans stand in ``table``, the offset and the time of each.

    ``marks`` name traces: the record, and the halves of the id. ``place`` is where to go on: record, span, mark, and
    whether what is due is being closed. Returns ``NONE`` if that is all; or as ``advance``, or ``TWIN``.
    """
    store = Store(board, traces, spans, trace_heads, span_heads, timers, closed_traces, closed_spans)
    counts = board[0]
    for r in range(place[0], len(records)):
        place[0] = r
        high, offset, arrival_ns = records[r, 1], records[r, 2], records[r, 3]
        if arrival_ns > counts.now_ns:
            counts.now_ns = arrival_ns
            place[3] = 1
        if place[3]:
            met = advance(
                board, traces, spans, trace_heads, span_heads, timers, closed_traces, closed_spans,
                uses, counts.now_ns, limits,
            )  # fmt: skip
            if met != NONE:
                return met
            place[3] = 0
        place[1] = _add(store, uses, table, place[1], high, source, offset, arrival_ns, limits)
        if place[1] < high:
            return TWIN if counts.twin >= 0 else FULL
        while place[2] < len(marks) and marks[place[2], 0] == r:
            t = found_trace(store, marks[place[2], 1], marks[place[2], 2])
            if t >= 0 and traces[t].is_open:
                traces[t].interesting = 1
            place[2] += 1
        if r + 1 < len(records):
            place[1] = records[r + 1, 0]
    return NONE


@uncounted
def _add(store, uses, table, at, high, source, offset, arrival_ns, limits):
    """Take spans from ``at`` on; up to which that went: then there is no room for what closes, or a twin to settle."""
    traces, spans, counts = store.traces, store.spans, store.board[0]
    for i in range(at, high):
        t = found_trace(store, table[TRACE_HIGH, i], table[TRACE_LOW, i])
        twin = _found_span(store, t, table[SPAN_ID, i], table[KIND, i]) if t >= 0 else -1
        if twin >= 0:
            traces[t].duplicates += 1
            counts.duplicates += 1
            held_ns, end_ns = np.uint64(spans[twin].end_ns), np.uint64(table[END_NS, i])
            if end_ns == held_ns:
                counts.twin = twin
                return i
            if end_ns > held_ns:
                replace(store, uses, table, i, source, twin, offset, arrival_ns, limits)
            continue
        if t >= 0 and traces[t].size + 1 >= limits.max_spans and not _has_room(store, traces[t].size + 1):
            return i
        if t < 0:
            t = _new_trace(store, table[TRACE_HIGH, i], table[TRACE_LOW, i], arrival_ns)
        if not traces[t].is_open:
            _open(store, t, offset, arrival_ns, limits)
        _append(store, uses, table, i, source, t)
        traces[t].last_arrival_ns = arrival_ns
        counts.added += 1
        if table[PARENT_ID, i] == 0 and not traces[t].has_root:
            traces[t].has_root = 1
            _set_timer(store, t, limits)
        if traces[t].size >= limits.max_spans:
            _close(store, t, _MAX_SPANS, False, counts.now_ns)
            _forget(store, uses, t)
    return high


@uncounted
def replace(store, uses, table, i, source, twin, offset, arrival_ns, limits):
    """Let span ``i`` of ``table`` be held in place of ``twin``, whose trace is open again."""
    t = store.spans[twin].trace
    uses[store.spans[twin].source] -= 1
    _fill(store, uses, table, i, source, twin)
    if not store.traces[t].is_open:
        _open(store, t, offset, arrival_ns, limits)


@uncounted
def advance(
    board, traces, spans, trace_heads, span_heads, timers, closed_traces, closed_spans,
    uses, now_ns, limits,
):  # fmt: skip
    """Close and forget; -1 if that is done, -2 if there is no room, else a trace whose bytes are to be kept apart."""
    store = Store(board, traces, spans, trace_heads, span_heads, timers, closed_traces, closed_spans)
    counts = board[0]
    while counts.timers and timers[0].due_ns <= now_ns:
        t = timers[0].trace
        trace = traces[t]
        if timers[0].due_ns != trace.due_ns or timers[0].order != trace.order or not trace.is_open:
            _pop_timer(store)
        elif _due_ns(trace, limits) > trace.due_ns:
            _pop_timer(store)
            _set_timer(store, t, limits)
            if now_ns - trace.since_ns > _APART_NS and not trace.is_apart:
                trace.is_apart = 1
                return t
        elif not _has_room(store, trace.size):
            return FULL
        else:
            _pop_timer(store)
            _close(store, t, _reason(trace, limits), False, now_ns)
    while counts.first_recent >= 0 and traces[counts.first_recent].since_ns <= now_ns - limits.amend_ns:
        _forget(store, uses, counts.first_recent)
    return NONE


@uncounted
def finish(store, now_ns, limits):
    """False if there is no room for all."""
    board, traces = store.board[0], store.traces
    while board.first_open >= 0:
        t = board.first_open
        if not _has_room(store, traces[t].size):
            return False
        _close(store, t, _reason(traces[t], limits), False, now_ns)
    return True


@uncounted
def forget(store, uses, spans, until_ns):
    """Let traces that closed until then go, oldest first, until so many spans have gone."""
    board, traces = store.board[0], store.traces
    enough = board.held - spans
    while board.held > enough and board.first_recent >= 0 and traces[board.first_recent].since_ns <= until_ns:
        _forget(store, uses, board.first_recent)
        board.forgotten_early += 1


@uncounted
def shed(store, uses, now_ns, spans):
    """Close what is open, oldest first, until so many spans have gone; False if there is no room for what closes."""
    board, traces = store.board[0], store.traces
    enough = board.held - spans
    while board.held > enough and board.first_open >= 0:
        t = board.first_open
        if not _has_room(store, traces[t].size):
            return False
        _close(store, t, _MAX_SPANS, True, now_ns)
        _forget(store, uses, t)
        board.shed += 1
    return True


@uncounted
def drop(store, uses):
    board = store.board[0]
    while board.first_recent >= 0:
        _forget(store, uses, board.first_recent)
    while board.first_open >= 0:
        t = board.first_open
        _unlist(store, t)
        _remember(store, t, 0)
        _forget(store, uses, t)
    board.timers = 0


@uncounted
def list_spans(store, t, rows):
    """Fill in the rows of a trace's spans."""
    s = store.traces[t].last
    for k in range(len(rows) - 1, -1, -1):
        rows[k] = s
        s = store.spans[s].next


@uncounted
def move(store, uses, t, table, source):
    """Let the spans of a trace refer to ``table``, which has them in their order, and to its source."""
    s = store.traces[t].last
    for i in range(table.shape[1] - 1, -1, -1):
        uses[store.spans[s].source] -= 1
        _fill(store, uses, table, i, source, s)
        s = store.spans[s].next


@uncounted
def found_trace(store, high, low):
    traces = store.traces
    t = store.trace_heads[_slot(high ^ low, len(store.trace_heads))]
    while t >= 0 and not (traces[t].high == high and traces[t].low == low):
        t = traces[t].chain
    return t


@uncounted
def _found_span(store, t, span_id, kind):
    """The span of a trace with this identity; -1 if there is none."""
    if not store.traces[t].seen & _bit(span_id):
        return np.int32(-1)
    spans, receives = store.spans, _receives(kind)
    s = store.span_heads[_slot(span_id + t, len(store.span_heads))]
    while s >= 0 and not (spans[s].span_id == span_id and spans[s].trace == t and _receives(spans[s].kind) == receives):
        s = spans[s].chain
    return s


@uncounted
def _bit(span_id):
    return np.uint64(1) << (np.uint64(span_id) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(58))


@uncounted
def _receives(kind):
    return kind in (_SERVER, _CONSUMER)


@uncounted
def _new_trace(store, high, low, arrival_ns):
    """A trace, not open yet."""
    board, traces = store.board[0], store.traces
    t = board.free_trace
    if t >= 0:
        board.free_trace = traces[t].after
    else:
        t = board.traces
        board.traces += 1
    board.live += 1
    trace = traces[t]
    trace.high, trace.low, trace.first_arrival_ns = high, low, arrival_ns
    trace.revision = trace.counted = trace.size = trace.duplicates = 0
    trace.last = trace.before = trace.after = -1
    trace.seen = np.uint64(0)
    trace.is_open = trace.has_root = trace.interesting = trace.kept_by = trace.is_apart = 0
    _chain(store.trace_heads, traces, high ^ low, t)
    return t


@uncounted
def _append(store, uses, table, i, source, t):
    """Hold span ``i`` of ``table`` as the last of trace ``t``."""
    board, spans, trace = store.board[0], store.spans, store.traces[t]
    s = board.free_span
    if s >= 0:
        board.free_span = spans[s].next
    else:
        s = board.spans
        board.spans += 1
    _fill(store, uses, table, i, source, s)
    spans[s].trace, spans[s].next = t, trace.last
    _chain(store.span_heads, spans, table[SPAN_ID, i] + t, s)
    trace.last = s
    trace.seen |= _bit(table[SPAN_ID, i])
    trace.size += 1
    board.held += 1


@uncounted
def _fill(store, uses, table, i, source, s):
    span = store.spans[s]
    span.span_id, span.parent_id = table[SPAN_ID, i], table[PARENT_ID, i]
    span.start_ns, span.end_ns = table[START_NS, i], table[END_NS, i]
    span.count_milli, span.kind, span.status = table[COUNT_MILLI, i], table[KIND, i], table[STATUS, i]
    span.name, span.origin, span.source = table[NAME, i], table[ORIGIN, i], source
    span.raw_at, span.raw_end = table[RAW_AT, i], table[RAW_END, i]
    uses[source] += 1


@uncounted
def _open(store, t, offset, arrival_ns, limits):
    """Open a trace that is new, or was closed and remembered."""
    board, trace = store.board[0], store.traces[t]
    if trace.revision > 0:
        _unlist(store, t)
    trace.first_offset = offset
    trace.since_ns = trace.last_arrival_ns = arrival_ns
    trace.order = board.opened
    board.opened += 1
    trace.is_open = 1
    board.open += 1
    trace.before, trace.after = board.last_open, -1
    if board.last_open >= 0:
        store.traces[board.last_open].after = t
    else:
        board.first_open = t
    board.last_open = t
    _set_timer(store, t, limits)


@uncounted
def _remember(store, t, now_ns):
    """List a trace as the last that closed."""
    board, trace = store.board[0], store.traces[t]
    trace.since_ns = now_ns
    trace.before, trace.after = board.last_recent, -1
    if board.last_recent >= 0:
        store.traces[board.last_recent].after = t
    else:
        board.first_recent = t
    board.last_recent = t


@uncounted
def _unlist(store, t):
    """Take a trace out of the list in which it is."""
    board, traces = store.board[0], store.traces
    before, after = traces[t].before, traces[t].after
    if before >= 0:
        traces[before].after = after
    elif traces[t].is_open:
        board.first_open = after
    else:
        board.first_recent = after
    if after >= 0:
        traces[after].before = before
    elif traces[t].is_open:
        board.last_open = before
    else:
        board.last_recent = before
    if traces[t].is_open:
        traces[t].is_open = 0
        board.open -= 1


@uncounted
def _forget(store, uses, t):
    """Give back a remembered trace and its spans."""
    board, traces, spans = store.board[0], store.traces, store.spans
    _unlist(store, t)
    s = traces[t].last
    while s >= 0:
        after = spans[s].next
        _unchain(store.span_heads, spans, spans[s].span_id + t, s)
        uses[spans[s].source] -= 1
        spans[s].next = board.free_span
        board.free_span = s
        s = after
    board.held -= traces[t].size
    _unchain(store.trace_heads, traces, traces[t].high ^ traces[t].low, t)
    traces[t].after = board.free_trace
    board.free_trace = t
    board.live -= 1


@uncounted
def _has_room(store, spans):
    """True if a trace of so many spans can close."""
    board = store.board[0]
    return board.closed_traces < len(store.closed_traces) and board.closed_spans + spans <= len(store.closed_spans)


@uncounted
def _close(store, t, reason, is_shed, now_ns):
    """Copy a trace to what has closed, for which there must be room, and remember it."""
    board, trace = store.board[0], store.traces[t]
    _unlist(store, t)
    trace.revision += 1
    if trace.revision > 1:
        board.late += trace.size - trace.counted
    board.closed[reason] += 1
    closed = store.closed_traces[board.closed_traces]
    board.closed_traces += 1
    closed.high, closed.low, closed.size = trace.high, trace.low, trace.size
    closed.first_offset = trace.first_offset
    closed.first_arrival_ns, closed.last_arrival_ns = trace.first_arrival_ns, trace.last_arrival_ns
    closed.revision, closed.counted, closed.duplicates = trace.revision, trace.counted, trace.duplicates
    closed.reason, closed.is_shed = reason, is_shed
    closed.interesting, closed.kept_by = trace.interesting, trace.kept_by
    s, at = trace.last, board.closed_spans + trace.size
    board.closed_spans = at
    while s >= 0:
        at -= 1
        store.closed_spans[at] = store.spans[s]
        s = store.spans[s].next
    trace.counted = trace.size
    _remember(store, t, now_ns)


@uncounted
def _quiet_ns(trace, limits):
    return limits.settle_ns if trace.has_root or trace.revision > 0 else limits.idle_ns


@uncounted
def _reason(trace, limits):
    """``Assembler._due``'s second answer."""
    if trace.revision > 0:
        return _LATE
    if trace.since_ns + limits.max_age_ns < trace.last_arrival_ns + _quiet_ns(trace, limits):
        return _MAX_AGE
    return _COMPLETE if trace.has_root else _IDLE


@uncounted
def _due_ns(trace, limits):
    """When a trace closes if nothing more comes."""
    return min(trace.last_arrival_ns + _quiet_ns(trace, limits), trace.since_ns + limits.max_age_ns)


@uncounted
def _set_timer(store, t, limits):
    """Set the timer of a trace; one that it has is left behind."""
    board, timers, trace = store.board[0], store.timers, store.traces[t]
    trace.due_ns = _due_ns(trace, limits)
    at = board.timers
    board.timers += 1
    while at > 0 and _is_before(trace, timers[(at - 1) // 2]):
        timers[at] = timers[(at - 1) // 2]
        at = (at - 1) // 2
    timers[at].due_ns, timers[at].order, timers[at].trace = trace.due_ns, trace.order, t


@uncounted
def _pop_timer(store):
    """Take the first away."""
    board, timers = store.board[0], store.timers
    board.timers -= 1
    count, last, at = board.timers, timers[board.timers], 0
    while 2 * at + 1 < count:
        child = 2 * at + 1
        if child + 1 < count and _is_before(timers[child + 1], timers[child]):
            child += 1
        if not _is_before(timers[child], last):
            break
        timers[at] = timers[child]
        at = child
    timers[at] = last


@uncounted
def _is_before(one, other):
    return one.due_ns < other.due_ns or (one.due_ns == other.due_ns and one.order < other.order)


@uncounted
def chain_again(store):
    """Fill empty heads."""
    board, traces, spans = store.board[0], store.traces, store.spans
    for is_open in range(2):
        t = board.first_open if is_open else board.first_recent
        while t >= 0:
            _chain(store.trace_heads, traces, traces[t].high ^ traces[t].low, t)
            s = traces[t].last
            while s >= 0:
                _chain(store.span_heads, spans, spans[s].span_id + t, s)
                s = spans[s].next
            t = traces[t].after


@uncounted
def _chain(heads, rows, key, row):
    """Put a row into the chain of its key."""
    slot = _slot(key, len(heads))
    rows[row].chain = heads[slot]
    heads[slot] = row


@uncounted
def _unchain(heads, rows, key, row):
    """Take a row out of the chain of its key."""
    slot = _slot(key, len(heads))
    if heads[slot] == row:
        heads[slot] = rows[row].chain
        return
    other = heads[slot]
    while rows[other].chain != row:
        other = rows[other].chain
    rows[other].chain = rows[row].chain


@uncounted
def _slot(key, slots):
    # Fibonacci hashing: ids of some tracers count up.
    return np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & (slots - 1)
