"""Traces of one partition in flat arrays, compiled: ``Assembler`` is what is meant.

A span is a row, and so is a trace; rows name each other by number. There is no object of either, so a span costs less
time and memory than a reference to one would. Rows that are given back are taken again before new ones. Compiling is
numba's, as in ``tracecore.forest``.
"""

import threading
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from stream import revision_columns
from stream.assembler import Counts, Limits, SpanBudget
from stream.revision_columns import (
    CLOSED_TRACE,
    HELD_SPAN,
    REASONS,
    RevisionColumns,
    SpanSources,
)
from stream.sampling import KEPT_BY
from tracecore.compiling import uncounted
from tracecore.record_spans import RecordSpans
from tracecore.span import Span, SpanKind, truer
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
    SpanColumns,
    columns_of,
)

_SERVER, _CONSUMER = int(SpanKind.SERVER), int(SpanKind.CONSUMER)
_COMPLETE, _IDLE, _MAX_AGE, _MAX_SPANS, _LATE = map(REASONS.index, ("complete", "idle", "max_age", "max_spans", "late"))
#: A trace that is open for longer keeps its spans' bytes apart: as they came they keep whole records.
_APART_NS = 30_000_000_000
#: By how much arrays grow, at least: to double them would leave half of the memory empty.
_GROWTH = 1.5
_FIRST_ROWS = 256
_NONE = -1

#: A trace, open or remembered; ``before`` and ``after`` are those of its kind. ``seen`` has bits of its spans' ids, and
#: several may share one: where a bit is missing, no span need be looked for.
_TRACE = np.dtype(
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
_TIMER = np.dtype([("due_ns", "i8"), ("order", "i8"), ("trace", "i8")])
#: What there is one of: how many rows were ever taken, and which was given back last; the ends of the lists of traces;
#: how many timers run; and counts.
_BOARD = np.dtype(
    [
        (name, "i8")
        for name in (
            "spans", "free_span", "traces", "free_trace", "first_open", "last_open", "first_recent", "last_recent",
            "timers", "opened", "open", "held", "added", "duplicates", "late", "forgotten_early", "shed",
            "live", "closed_traces", "closed_spans", "twin",
        )
    ]
    + [("closed", "i8", (len(REASONS),))]
)  # fmt: skip

_warm = threading.Event()

Array = np.ndarray[Any, Any]


class _Limits(NamedTuple):
    """As of ``Limits``."""

    settle_ns: int
    idle_ns: int
    max_age_ns: int
    max_spans: int
    amend_ns: int


class _Store(NamedTuple):
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


class OpenTraces:
    """The traces of one partition. Every method that may close traces returns their revisions, in order."""

    def __init__(self, limits: Limits, budget: SpanBudget, sources: SpanSources) -> None:
        """``sources`` keep what spans that are held refer to."""
        self._limits = _Limits(limits.settle_ns, limits.idle_ns, limits.max_age_ns, limits.max_spans, limits.amend_ns)
        self._budget = budget
        self._sources = sources
        self._nothing = RevisionColumns(b"", b"", sources)
        self._now_ns = 0
        board = np.zeros(1, _BOARD)
        for name in ("free_span", "free_trace", "first_open", "last_open", "first_recent", "last_recent", "twin"):
            board[name] = _NONE
        heads = np.full(_FIRST_ROWS, _NONE, np.int32)
        # A field of the one row is looked up ten times as fast in an array of its own.
        self._board = {name: board[name] for name in _BOARD.fields or ()}
        self._store = _Store(
            board, np.zeros(_FIRST_ROWS, _TRACE), np.zeros(_FIRST_ROWS, HELD_SPAN), heads, heads.copy(),
            np.zeros(_FIRST_ROWS, _TIMER), np.zeros(_FIRST_ROWS, CLOSED_TRACE), np.zeros(_FIRST_ROWS, HELD_SPAN),
        )  # fmt: skip

    @property
    def open_traces(self) -> int:
        """Traces that have not closed, or are being amended."""
        return int(self._board["open"][0])

    @property
    def now_ns(self) -> int:
        """The arrival watermark: the latest time that was told."""
        return self._now_ns

    @property
    def first_offset(self) -> int | None:
        """The lowest offset that an open trace rests on; None if none is open."""
        first = self._board["first_open"][0]
        return int(self._store.traces[first]["first_offset"]) if first >= 0 else None

    @property
    def counts(self) -> Counts:
        """What was done since the beginning."""
        board = self._board
        return Counts(
            spans=int(board["added"][0]),
            duplicates=int(board["duplicates"][0]),
            late_spans=int(board["late"][0]),
            shed_traces=int(board["shed"][0]),
            forgotten_early=int(board["forgotten_early"][0]),
            closed={reason: int(n) for reason, n in zip(REASONS, board["closed"][0], strict=True) if n},
        )

    def add(self, spans: RecordSpans | Iterable[Span], offset: int, arrival_ns: int) -> RevisionColumns:
        """Take the spans of one record; first closes what was due at ``arrival_ns``. O(1) a span.

        ``ValueError`` for spans that no decoder makes: their numbers or ids do not fit.
        """
        if not isinstance(spans, RecordSpans):
            made = list(spans)
            columns = columns_of(made)
            if columns is None:
                raise ValueError("a span's ids, or its numbers, have no place in a column")
            spans = RecordSpans(columns, 0, len(made), True)
        self._advance(arrival_ns)
        held = int(self._board["held"][0])
        source = self._sources.number_of(spans.columns)
        self._make_room(len(spans))
        at = spans.low
        while at < spans.high:
            at = _add(
                *self._store, self._sources.uses, spans.columns.table, at, spans.high, source, offset, arrival_ns,
                self._now_ns, self._limits,
            )  # fmt: skip
            if self._board["twin"][0] >= 0:
                self._settle_twin(spans.columns, at, source, offset, arrival_ns)
                at += 1
            elif at < spans.high:
                self._make_room_for_closed()
        self._budget.held += int(self._board["held"][0]) - held
        self._shed()
        return self._closed()

    def advance(self, now_ns: int) -> RevisionColumns:
        """Move the watermark, never back: close what is due, forget what was remembered long enough."""
        self._advance(now_ns)
        return self._closed()

    def finish(self) -> RevisionColumns:
        """Nothing more will come: close all that is open, as it would have closed in time."""
        while not _finish(self._store, self._now_ns, self._limits):
            self._make_room_for_closed()
        return self._closed()

    def mark_interesting(self, trace_id: bytes) -> None:
        """A detector named this trace: its next revision tells so."""
        trace = self._found(trace_id)
        if trace >= 0 and self._store.traces["is_open"][trace]:
            self._store.traces["interesting"][trace] = 1

    def mark_kept(self, trace_id: bytes, kept_by: str) -> None:
        """A revision of this trace was kept by sampling: later ones are kept, too."""
        trace = self._found(trace_id)
        if trace >= 0:
            self._store.traces["kept_by"][trace] = KEPT_BY.index(kept_by)

    def kept_by(self, trace_id: bytes) -> str:
        """By what sampling kept an earlier revision of this trace; "" if it did not."""
        trace = self._found(trace_id)
        return KEPT_BY[self._store.traces["kept_by"][trace]] if trace >= 0 else ""

    def open_spans(self) -> list[list[Span]]:
        """The spans of every open trace, for a successor."""
        traces = self._store.traces
        open_: list[list[Span]] = []
        at = int(self._board["first_open"][0])
        while at >= 0:
            open_.append(list(self._columns_of(at)))
            at = int(traces["after"][at])
        return open_

    def drop(self) -> None:
        """Give the worker's budget back; this assembler is not used any more."""
        held = int(self._board["held"][0])
        _drop(self._store, self._sources.uses)
        self._budget.held -= held

    def _advance(self, now_ns: int) -> None:
        if now_ns <= self._now_ns:
            return
        self._now_ns = now_ns
        held = int(self._board["held"][0])
        while True:
            met = _advance(*self._store, self._sources.uses, now_ns, self._limits)
            if met == _NONE:
                break
            if met == _FULL:
                self._make_room_for_closed()
            else:
                self._keep_apart(met)
        self._budget.held += int(self._board["held"][0]) - held

    def _shed(self) -> None:
        """Make room: forget what has closed, oldest first; then close what is open, oldest first. Nothing is lost."""
        while self._budget.held > self._budget.limit:
            held = int(self._board["held"][0])
            is_done = _shed(self._store, self._sources.uses, self._now_ns, self._budget.held - self._budget.limit)
            self._budget.held += int(self._board["held"][0]) - held
            if is_done:
                break
            self._make_room_for_closed()

    def _closed(self) -> RevisionColumns:
        """What has closed since this was last asked."""
        board, store = self._board, self._store
        traces, spans = int(board["closed_traces"][0]), int(board["closed_spans"][0])
        if not traces:
            return self._nothing
        board["closed_traces"][0] = board["closed_spans"][0] = 0
        return RevisionColumns(
            store.closed_traces[:traces].tobytes(), store.closed_spans[:spans].tobytes(), self._sources
        )

    def _found(self, trace_id: bytes) -> int:
        high, low = (int.from_bytes(half, "big", signed=True) for half in (trace_id[:8], trace_id[8:]))
        return int(_found_trace(self._store, high, low))

    def _columns_of(self, trace: int) -> SpanColumns:
        """The spans of a trace in their order."""
        rows = np.empty(int(self._store.traces["size"][trace]), np.int32)
        _list_spans(self._store, trace, rows)
        row = self._store.traces[trace]
        ids = np.array([[row["high"]], [row["low"]]], np.int64).repeat(len(rows), axis=1)
        return self._sources.columns_of(self._store.spans[rows].tobytes(), ids)

    def _keep_apart(self, trace: int) -> None:
        """Let the bytes of a trace's spans be all that is kept of the records in which they came."""
        columns = self._columns_of(trace)
        source = self._sources.number_of(columns)
        _move(self._store, self._sources.uses, trace, columns.table, source)

    def _settle_twin(self, columns: SpanColumns, at: int, source: int, offset: int, arrival_ns: int) -> None:
        """Of two spans with one identity that end at once the bytes decide."""
        board, store = self._board, self._store
        twin = int(board["twin"][0])
        board["twin"][0] = _NONE
        row = store.spans[twin : twin + 1]
        (held,) = self._sources.columns_of(row.tobytes(), columns.table[TRACE_HIGH : TRACE_LOW + 1, at : at + 1])
        if truer(held, columns[at]) is not held:
            _replace(store, self._sources.uses, columns.table, at, source, twin, offset, arrival_ns, self._limits)

    def _make_room(self, spans: int) -> None:
        """Make room for so many more spans, and as many traces."""
        board, store = self._board, self._store
        if board["held"][0] + spans > len(store.spans):
            _grow(store.spans, spans)
        if board["live"][0] + spans > len(store.traces):
            _grow(store.traces, spans)
        # Each may open a trace, and be its root.
        if board["timers"][0] + 2 * spans > len(store.timers):
            _grow(store.timers, 2 * spans)
        if board["spans"][0] > len(store.span_heads) or board["traces"][0] > len(store.trace_heads):
            self._store = store._replace(
                trace_heads=np.full(_slots_for(len(store.traces)), _NONE, np.int32),
                span_heads=np.full(_slots_for(len(store.spans)), _NONE, np.int32),
            )
            _chain_again(self._store)

    def _make_room_for_closed(self) -> None:
        for rows in (self._store.closed_traces, self._store.closed_spans):
            _grow(rows, len(rows))


def is_warm() -> bool:
    """True once ``warm_up`` is done: from then on nothing waits for the compiler."""
    return _warm.is_set()


def warm_up() -> None:
    """Compile, or load what was compiled."""
    columns = columns_of([])
    assert columns is not None
    traces = OpenTraces(Limits(1, 1, 1, 2, 1), SpanBudget(0), SpanSources())
    store, uses, limits = traces._store, traces._sources.uses, traces._limits
    table = np.zeros_like(columns.table)
    _add(*store, uses, table, 0, 0, 0, 0, 0, 0, limits)
    _advance(*store, uses, 0, limits)
    _finish(store, 0, limits)
    _shed(store, uses, 0, 0)
    _drop(store, uses)
    _found_trace(store, 0, 0)
    _chain_again(store)
    _list_spans(store, 0, np.zeros(0, np.int32))
    _move(store, uses, 0, table, 0)
    revision_columns.warm_up()
    _warm.set()


def _grow(rows: Array, more: int) -> None:
    """Make room for so many more, where the rows are if that can be: nobody holds them but who calls."""
    rows.resize(max(len(rows) + more, int(len(rows) * _GROWTH)), refcheck=False)


def _slots_for(rows: int) -> int:
    # Many: each row that is met in vain is one more that no cache has.
    return 4 << (rows - 1).bit_length()


#: What ``_advance`` says when there is no room for what closes.
_FULL = -2


@uncounted
def _add(
    board, traces, spans, trace_heads, span_heads, timers, closed_traces, closed_spans,
    uses, table, at, high, source, offset, arrival_ns, now_ns, limits,
):  # fmt: skip
    """Take spans from ``at`` on; up to which that went: then there is no room for what closes, or a twin to settle."""
    store = _Store(board, traces, spans, trace_heads, span_heads, timers, closed_traces, closed_spans)
    counts = board[0]
    for i in range(at, high):
        t = _found_trace(store, table[TRACE_HIGH, i], table[TRACE_LOW, i])
        twin = _found_span(store, t, table[SPAN_ID, i], table[KIND, i]) if t >= 0 else -1
        if twin >= 0:
            traces[t].duplicates += 1
            counts.duplicates += 1
            held_ns, end_ns = np.uint64(spans[twin].end_ns), np.uint64(table[END_NS, i])
            if end_ns == held_ns:
                counts.twin = twin
                return i
            if end_ns > held_ns:
                _replace(store, uses, table, i, source, twin, offset, arrival_ns, limits)
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
            _close(store, t, _MAX_SPANS, False, now_ns)
            _forget(store, uses, t)
    return high


@uncounted
def _replace(store, uses, table, i, source, twin, offset, arrival_ns, limits):
    """Let span ``i`` of ``table`` be held in place of ``twin``, whose trace is open again."""
    t = store.spans[twin].trace
    uses[store.spans[twin].source] -= 1
    _fill(store, uses, table, i, source, twin)
    if not store.traces[t].is_open:
        _open(store, t, offset, arrival_ns, limits)


@uncounted
def _advance(
    board, traces, spans, trace_heads, span_heads, timers, closed_traces, closed_spans,
    uses, now_ns, limits,
):  # fmt: skip
    """Close and forget; -1 if that is done, -2 if there is no room, else a trace whose bytes are to be kept apart."""
    store = _Store(board, traces, spans, trace_heads, span_heads, timers, closed_traces, closed_spans)
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
            return _FULL
        else:
            _pop_timer(store)
            _close(store, t, _reason(trace, limits), False, now_ns)
    while counts.first_recent >= 0 and traces[counts.first_recent].since_ns <= now_ns - limits.amend_ns:
        _forget(store, uses, counts.first_recent)
    return -1


@uncounted
def _finish(store, now_ns, limits):
    """False if there is no room for all."""
    board, traces = store.board[0], store.traces
    while board.first_open >= 0:
        t = board.first_open
        if not _has_room(store, traces[t].size):
            return False
        _close(store, t, _reason(traces[t], limits), False, now_ns)
    return True


@uncounted
def _shed(store, uses, now_ns, excess):
    """Let so many spans go; False if there is no room for what closes."""
    board, traces = store.board[0], store.traces
    enough = board.held - excess
    while board.held > enough and board.first_recent >= 0:
        _forget(store, uses, board.first_recent)
        board.forgotten_early += 1
    while board.held > enough and board.first_open >= 0:
        t = board.first_open
        if not _has_room(store, traces[t].size):
            return False
        _close(store, t, _MAX_SPANS, True, now_ns)
        _forget(store, uses, t)
        board.shed += 1
    return True


@uncounted
def _drop(store, uses):
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
def _list_spans(store, t, rows):
    """Fill in the rows of a trace's spans."""
    s = store.traces[t].last
    for k in range(len(rows) - 1, -1, -1):
        rows[k] = s
        s = store.spans[s].next


@uncounted
def _move(store, uses, t, table, source):
    """Let the spans of a trace refer to ``table``, which has them in their order, and to its source."""
    s = store.traces[t].last
    for i in range(table.shape[1] - 1, -1, -1):
        uses[store.spans[s].source] -= 1
        _fill(store, uses, table, i, source, s)
        s = store.spans[s].next


@uncounted
def _found_trace(store, high, low):
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
    slot = _slot(high ^ low, len(store.trace_heads))
    trace.chain = store.trace_heads[slot]
    store.trace_heads[slot] = t
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
    slot = _slot(table[SPAN_ID, i] + t, len(store.span_heads))
    spans[s].chain = store.span_heads[slot]
    store.span_heads[slot] = s
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
        slot = _slot(spans[s].span_id + t, len(store.span_heads))
        if store.span_heads[slot] == s:
            store.span_heads[slot] = spans[s].chain
        else:
            other = store.span_heads[slot]
            while spans[other].chain != s:
                other = spans[other].chain
            spans[other].chain = spans[s].chain
        uses[spans[s].source] -= 1
        spans[s].next = board.free_span
        board.free_span = s
        s = after
    board.held -= traces[t].size
    slot = _slot(traces[t].high ^ traces[t].low, len(store.trace_heads))
    if store.trace_heads[slot] == t:
        store.trace_heads[slot] = traces[t].chain
    else:
        other = store.trace_heads[slot]
        while traces[other].chain != t:
            other = traces[other].chain
        traces[other].chain = traces[t].chain
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
def _chain_again(store):
    """Fill empty heads."""
    board, traces, spans = store.board[0], store.traces, store.spans
    for is_open in range(2):
        t = board.first_open if is_open else board.first_recent
        while t >= 0:
            slot = _slot(traces[t].high ^ traces[t].low, len(store.trace_heads))
            traces[t].chain = store.trace_heads[slot]
            store.trace_heads[slot] = t
            s = traces[t].last
            while s >= 0:
                slot = _slot(spans[s].span_id + t, len(store.span_heads))
                spans[s].chain = store.span_heads[slot]
                store.span_heads[slot] = s
                s = spans[s].next
            t = traces[t].after


@uncounted
def _slot(key, slots):
    # Fibonacci hashing: ids of some tracers count up.
    return np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & (slots - 1)
