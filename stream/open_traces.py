"""Traces of one partition in flat arrays: ``Assembler`` is what is meant.

There is no object of a span or a trace, so a span costs less time and memory than a reference to one would. What is
done with the rows is in ``trace_rows``, compiled; here is what needs Python's objects: room, texts, bytes.
"""

import threading
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from stream import revision_columns, trace_rows
from stream.assembler import Arrived, Counts, Limits, SpanBudget
from stream.revision_columns import CLOSED_TRACE, HELD_SPAN, RevisionColumns, SpanSources
from stream.sampling import KEPT_BY
from tracecore.closed_trace import CLOSE_REASONS
from tracecore.record_spans import RecordSpans
from tracecore.span import Span, truer
from tracecore.span_columns import TRACE_HIGH, TRACE_LOW, SpanColumns, columns_of

#: By how much arrays grow, at least: to double them would leave half of the memory empty.
_GROWTH = 1.5
_FIRST_ROWS = 256

_warm = threading.Event()

Array = np.ndarray[Any, Any]


class OpenTraces:
    """The traces of one partition. Every method that may close traces returns their revisions, in order."""

    def __init__(self, limits: Limits, budget: SpanBudget, sources: SpanSources) -> None:
        """``sources`` keep what spans that are held refer to."""
        self._limits = trace_rows.RowLimits(
            limits.settle_ns, limits.idle_ns, limits.max_age_ns, limits.max_spans, limits.amend_ns
        )
        self._budget = budget
        self._sources = sources
        self._nothing = RevisionColumns(b"", b"", sources)
        board = np.zeros(1, trace_rows.BOARD)
        for name in ("free_span", "free_trace", "first_open", "last_open", "first_recent", "last_recent", "twin"):
            board[name] = trace_rows.NONE
        heads = np.full(_FIRST_ROWS, trace_rows.NONE, np.int32)
        # A field of the one row is looked up ten times as fast in an array of its own.
        self._board = {name: board[name] for name in trace_rows.BOARD.fields or ()}
        self._store = trace_rows.Store(
            board,
            traces=np.zeros(_FIRST_ROWS, trace_rows.TRACE),
            spans=np.zeros(_FIRST_ROWS, HELD_SPAN),
            trace_heads=heads,
            span_heads=heads.copy(),
            timers=np.zeros(_FIRST_ROWS, trace_rows.TIMER),
            closed_traces=np.zeros(_FIRST_ROWS, CLOSED_TRACE),
            closed_spans=np.zeros(_FIRST_ROWS, HELD_SPAN),
        )
        budget.join(self)

    @property
    def open_traces(self) -> int:
        """Traces that have not closed, or are being amended."""
        return int(self._board["open"][0])

    @property
    def now_ns(self) -> int:
        """The arrival watermark: the latest time that was told."""
        return int(self._board["now_ns"][0])

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
            closed={reason: int(n) for reason, n in zip(CLOSE_REASONS, board["closed"][0], strict=True) if n},
        )

    def add(self, records: Sequence[Arrived]) -> RevisionColumns:
        """Take the spans of each; first closes what was due as it came. O(1) a span.

        ``ValueError`` for spans that no decoder makes: their numbers or ids do not fit.
        """
        held = [(one, _in_columns(one.spans)) for one in records]
        if not self._budget.make_room(sum(len(spans) for _, spans in held)) and len(held) > 1:
            # What is let go hangs on what was held at each.
            return RevisionColumns.joined([self.add([one]) for one in records])
        for _, group in groupby(held, lambda one: id(one[1].columns)):
            self._add(list(group))
        self._shed()
        return self._closed()

    def advance(self, now_ns: int) -> RevisionColumns:
        """Move the watermark, never back: close what is due, forget what was remembered long enough."""
        self._advance(now_ns)
        return self._closed()

    def finish(self) -> RevisionColumns:
        """Nothing more will come: close all that is open, as it would have closed in time."""
        while not trace_rows.finish(self._store, self.now_ns, self._limits):
            self._make_room_for_closed()
        return self._closed()

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

    @property
    def oldest_closed_ns(self) -> int | None:
        """When the trace closed that is remembered for the longest time (arrival); None if none is."""
        first = self._board["first_recent"][0]
        return int(self._store.traces["since_ns"][first]) if first >= 0 else None

    def forget(self, spans: int, until_ns: int) -> None:
        """Let traces that closed until then go, oldest first, until so many spans have gone; one at least."""
        held = int(self._board["held"][0])
        trace_rows.forget(self._store, self._sources.uses, spans, until_ns)
        self._budget.held += int(self._board["held"][0]) - held

    def drop(self) -> None:
        """Give the worker's budget back; this assembler is not used any more."""
        held = int(self._board["held"][0])
        trace_rows.drop(self._store, self._sources.uses)
        self._budget.held -= held

    def _add(self, records: Sequence[tuple[Arrived, RecordSpans]]) -> None:
        """Take the spans of each; they stand in the same columns."""
        board, columns = self._board, records[0][1].columns
        held, source = int(board["held"][0]), self._sources.number_of(columns)
        self._make_room(sum(len(spans) for _, spans in records))
        rows = np.array([(spans.low, spans.high, one.offset, one.arrival_ns) for one, spans in records], np.int64)
        named = [(at, *_halves(trace_id)) for at, (one, _) in enumerate(records) for trace_id in one.interesting]
        marks = np.array(named, np.int64).reshape(-1, 3)
        place = np.array([0, rows[0, 0], 0, 0], np.int64)
        while True:
            met = trace_rows.take(
                *self._store, self._sources.uses, columns.table, source, rows, marks, place, self._limits
            )
            if met == trace_rows.NONE:
                break
            if met == trace_rows.TWIN:
                record, at = place[:2].tolist()
                self._settle_twin(columns, at, source, *rows[record, 2:].tolist())
                place[1] += 1
            else:
                self._settle(met)
        self._budget.held += int(board["held"][0]) - held

    def _advance(self, now_ns: int) -> None:
        if now_ns <= self.now_ns:
            return
        self._board["now_ns"][0] = now_ns
        held = int(self._board["held"][0])
        while True:
            met = trace_rows.advance(*self._store, self._sources.uses, now_ns, self._limits)
            if met == trace_rows.NONE:
                break
            self._settle(met)
        self._budget.held += int(self._board["held"][0]) - held

    def _settle(self, met: int) -> None:
        """Do what ``trace_rows.advance`` stopped for."""
        if met == trace_rows.FULL:
            self._make_room_for_closed()
        else:
            self._keep_apart(met)

    def _shed(self) -> None:
        """Where there is no room even so, close what is open, oldest first. Nothing is lost."""
        while not self._budget.make_room(0):
            held = int(self._board["held"][0])
            excess = self._budget.held - self._budget.limit
            is_done = trace_rows.shed(self._store, self._sources.uses, self.now_ns, excess)
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
        return int(trace_rows.found_trace(self._store, *_halves(trace_id)))

    def _columns_of(self, trace: int) -> SpanColumns:
        """The spans of a trace in their order."""
        rows = np.empty(int(self._store.traces["size"][trace]), np.int32)
        trace_rows.list_spans(self._store, trace, rows)
        row = self._store.traces[trace]
        ids = np.array([[row["high"]], [row["low"]]], np.int64).repeat(len(rows), axis=1)
        return self._sources.columns_of(self._store.spans[rows].tobytes(), ids)

    def _keep_apart(self, trace: int) -> None:
        """Let the bytes of a trace's spans be all that is kept of the records in which they came."""
        columns = self._columns_of(trace)
        source = self._sources.number_of(columns)
        trace_rows.move(self._store, self._sources.uses, trace, columns.table, source)

    def _settle_twin(self, columns: SpanColumns, at: int, source: int, offset: int, arrival_ns: int) -> None:
        """Of two spans with one identity that end at once the bytes decide."""
        board, store = self._board, self._store
        twin = int(board["twin"][0])
        board["twin"][0] = trace_rows.NONE
        row = store.spans[twin : twin + 1]
        (held,) = self._sources.columns_of(row.tobytes(), columns.table[TRACE_HIGH : TRACE_LOW + 1, at : at + 1])
        if truer(held, columns[at]) is not held:
            trace_rows.replace(
                store, self._sources.uses, columns.table, at, source, twin, offset, arrival_ns, self._limits
            )

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
                trace_heads=np.full(_slots_for(len(store.traces)), trace_rows.NONE, np.int32),
                span_heads=np.full(_slots_for(len(store.spans)), trace_rows.NONE, np.int32),
            )
            trace_rows.chain_again(self._store)

    def _make_room_for_closed(self) -> None:
        for rows in (self._store.closed_traces, self._store.closed_spans):
            _grow(rows, len(rows))


def _in_columns(spans: RecordSpans | Sequence[Span]) -> RecordSpans:
    if isinstance(spans, RecordSpans):
        return spans
    columns = columns_of(spans)
    if columns is None:
        raise ValueError("a span's ids, or its numbers, have no place in a column")
    return RecordSpans(columns, 0, len(spans), True)


def _halves(trace_id: bytes) -> tuple[int, int]:
    return int.from_bytes(trace_id[:8], "big", signed=True), int.from_bytes(trace_id[8:], "big", signed=True)


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
    rows, marks, place = np.zeros((0, 4), np.int64), np.zeros((0, 3), np.int64), np.zeros(4, np.int64)
    trace_rows.take(*store, uses, table, 0, rows, marks, place, limits)
    trace_rows.advance(*store, uses, 0, limits)
    trace_rows.finish(store, 0, limits)
    trace_rows.forget(store, uses, 0, 0)
    trace_rows.shed(store, uses, 0, 0)
    trace_rows.drop(store, uses)
    trace_rows.found_trace(store, 0, 0)
    trace_rows.chain_again(store)
    trace_rows.list_spans(store, 0, np.zeros(0, np.int32))
    trace_rows.move(store, uses, 0, table, 0)
    trace_rows.replace(store, uses, np.zeros((len(table), 1), np.int64), 0, 0, 0, 0, 0, limits)
    revision_columns.warm_up()
    _warm.set()


def _grow(rows: Array, more: int) -> None:
    """Make room for so many more, where the rows are if that can be: nobody holds them but who calls."""
    rows.resize(max(len(rows) + more, int(len(rows) * _GROWTH)), refcheck=False)


def _slots_for(rows: int) -> int:
    # Many: each row that is met in vain is one more that no cache has.
    return 4 << (rows - 1).bit_length()
