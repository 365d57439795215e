"""Traces that closed as rows, and what the rows of spans refer to: texts and bytes of the records in which they came.

Compiling is numba's, as in ``tracecore.forest``.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np

from stream.assembler import Revision
from stream.sampling import KEPT_BY
from tracecore.batch_analysis import GatheredColumns
from tracecore.byte_runs import copied
from tracecore.compiling import uncounted
from tracecore.span_columns import (
    COUNT_MILLI,
    END_NS,
    KIND,
    NAME,
    ORIGIN,
    PARENT_ID,
    RAW_AT,
    RAW_END,
    ROWS,
    SPAN_ID,
    START_NS,
    STATUS,
    TRACE_HIGH,
    TRACE_LOW,
    SpanColumns,
    renumbered,
)

#: A span that is held. Its name, its origin and its bytes are those of its ``source``; it is of trace ``trace``, and
#: ``next`` is the next of that; ``chain`` is the next of the same hash.
HELD_SPAN = np.dtype(
    [
        ("span_id", "i8"), ("parent_id", "i8"), ("start_ns", "i8"), ("end_ns", "i8"), ("count_milli", "i8"),
        ("kind", "i4"), ("status", "i4"), ("name", "i4"), ("origin", "i4"), ("raw_at", "i4"), ("raw_end", "i4"),
        ("source", "i4"), ("trace", "i4"), ("next", "i4"), ("chain", "i4"),
    ],
    align=True,
)  # fmt: skip
#: A trace that closed, as of ``Revision``; reasons are numbers of ``CLOSE_REASONS``, and ``kept_by`` of ``KEPT_BY``.
CLOSED_TRACE = np.dtype(
    [
        ("high", "i8"), ("low", "i8"), ("first_offset", "i8"), ("first_arrival_ns", "i8"), ("last_arrival_ns", "i8"),
        ("size", "i4"), ("revision", "i4"), ("counted", "i4"), ("duplicates", "i4"),
        ("reason", "i1"), ("is_shed", "i1"), ("interesting", "i1"), ("kept_by", "i1"),
    ],
    align=True,
)  # fmt: skip

Array = np.ndarray[Any, Any]


class _Source:
    """What spans of some records have in common."""

    __slots__ = ("buffer", "names", "origins")

    def __init__(self, columns: SpanColumns) -> None:
        self.names, self.origins, self.buffer = columns.names, columns.origins, columns.buffer


class SpanSources:
    """What spans that are held refer to, by number, for as long as they do."""

    def __init__(self) -> None:
        self._sources: list[_Source | None] = []
        self._free: list[int] = []
        self._last: tuple[SpanColumns, int] | None = None
        #: By source, how many spans refer to it: for those to count who hold them.
        self.uses = np.zeros(64, np.int32)

    def number_of(self, columns: SpanColumns) -> int:
        """The number of what ``columns`` refer to, until ``release``."""
        if self._last is None or self._last[0] is not columns:
            self._last = columns, self._added(_Source(columns))
        return self._last[1]

    def release(self) -> None:
        """Let go of what no span refers to; spans that were closed must not be asked for any more."""
        self._last = None
        for number in np.flatnonzero(self.uses[: len(self._sources)] == 0).tolist():
            if self._sources[number] is not None:
                self._sources[number] = None
                self._free.append(number)

    def columns_of(self, packed: bytes, trace_ids: Array) -> SpanColumns:
        """Rows of ``HELD_SPAN`` as columns, with no more names, origins and bytes than they need. O(n) in bytes.

        ``trace_ids`` are two rows, the halves of ids.
        """
        spans = np.frombuffer(packed, HELD_SPAN)
        sources = np.flatnonzero(np.bincount(spans["source"])).tolist()
        used = [source for number in sources if (source := self._sources[number]) is not None]
        place = np.zeros(len(self._sources), np.int64)
        place[sources] = np.arange(len(sources))
        of = place[spans["source"]]
        table, bounds = np.empty((ROWS, len(spans)), np.int64), np.zeros(len(used) + 1, np.int64)
        order, ends = np.empty_like(of), np.zeros(len(used), np.int64)
        _lay_out(spans, of, table, bounds, order, ends)
        table[TRACE_HIGH : TRACE_LOW + 1] = trace_ids
        table[NAME], names = renumbered(table[NAME], of, [source.names for source in used])
        table[ORIGIN], origins = renumbered(table[ORIGIN], of, [source.origins for source in used])
        buffer = np.empty(int(table[RAW_END, -1]) if len(spans) else 0, np.uint8)
        for source, low, high in zip(used, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            _copy_bytes(spans, order[low:high], np.frombuffer(source.buffer, np.uint8), table[RAW_AT], buffer)
        return SpanColumns(table, names, origins, buffer.tobytes())

    def _added(self, source: _Source) -> int:
        if self._free:
            number = self._free.pop()
            self._sources[number] = source
            return number
        self._sources.append(source)
        if len(self._sources) > len(self.uses):
            self.uses = np.concatenate((self.uses, np.zeros_like(self.uses)))
        return len(self._sources) - 1


class RevisionColumns(Sequence[Revision]):
    """Revisions of traces in the order in which they closed: rows of ``CLOSED_TRACE``, and of ``HELD_SPAN`` for each.

    One is made when somebody looks at it. Not to be looked at after ``SpanSources.release``.
    """

    def __init__(self, traces: bytes, spans: bytes, sources: SpanSources) -> None:
        # As bytes: numpy copies and joins rows of several fields ten times slower.
        self._packed = traces, spans
        self._sources = sources

    @cached_property
    def traces(self) -> Array:
        """The rows of the traces."""
        return np.frombuffer(self._packed[0], CLOSED_TRACE)

    @classmethod
    def joined(cls, parts: Sequence["RevisionColumns"]) -> "RevisionColumns":
        """Those of all ``parts``, which are of the same sources; at least one."""
        traces, spans = (b"".join(packed) for packed in zip(*(part._packed for part in parts), strict=True))
        return cls(traces, spans, parts[0]._sources)

    def __len__(self) -> int:
        return len(self._packed[0]) // CLOSED_TRACE.itemsize

    @overload
    def __getitem__(self, index: int) -> Revision: ...
    @overload
    def __getitem__(self, index: slice) -> list[Revision]: ...
    def __getitem__(self, index: int | slice) -> Revision | list[Revision]:
        if isinstance(index, slice):
            return [self[trace] for trace in range(*index.indices(len(self)))]
        row, one = self.traces[index], self.gathered.one(index)
        return Revision(
            one.trace_id,
            one.spans,
            int(row["counted"]),
            one.revision,
            one.reason,
            bool(row["is_shed"]),
            int(row["first_offset"]),
            one.first_arrival_ns,
            one.last_arrival_ns,
            one.duplicate_count,
            bool(row["interesting"]),
            KEPT_BY[row["kept_by"]],
        )

    @property
    def span_count(self) -> int:
        """How many spans all have."""
        return len(self._packed[1]) // HELD_SPAN.itemsize

    @cached_property
    def gathered(self) -> GatheredColumns:
        """What there is to analyse."""
        traces = self.traces
        first = np.zeros(len(traces) + 1, np.int64)
        np.cumsum(traces["size"], out=first[1:])
        ids = np.stack((traces["high"], traces["low"])).repeat(traces["size"], axis=1)
        revisions, reasons, duplicates = (
            traces[name].astype(np.int64) for name in ("revision", "reason", "duplicates")
        )
        # Rows of their own: compiled code knows no others.
        arrivals = traces["first_arrival_ns"].copy(), traces["last_arrival_ns"].copy()
        return GatheredColumns(
            self._sources.columns_of(self._packed[1], ids), first, revisions, reasons, *arrivals, duplicates
        )


def warm_up() -> None:
    """Compile, or load what was compiled."""
    none, spans = np.zeros(0, np.int64), np.frombuffer(b"", HELD_SPAN)
    _lay_out(spans, none, np.zeros((ROWS, 0), np.int64), np.zeros(1, np.int64), none, none)
    _copy_bytes(spans, none, np.frombuffer(b"", np.uint8), none, np.zeros(0, np.uint8))


@uncounted
def _lay_out(spans, source_of, table, bounds, order, ends):
    """Fill the table but for the ids of traces; and by source its spans: ``order`` from ``bounds`` on to the next."""
    raw_at = np.int64(0)
    for i in range(len(spans)):
        span = spans[i]
        table[SPAN_ID, i], table[PARENT_ID, i] = span.span_id, span.parent_id
        table[KIND, i], table[STATUS, i], table[COUNT_MILLI, i] = span.kind, span.status, span.count_milli
        table[START_NS, i], table[END_NS, i] = span.start_ns, span.end_ns
        table[NAME, i], table[ORIGIN, i] = span.name, span.origin
        table[RAW_AT, i] = raw_at
        raw_at += span.raw_end - span.raw_at
        table[RAW_END, i] = raw_at
        bounds[source_of[i] + 1] += 1
    for source in range(len(ends)):
        ends[source] = bounds[source]
        bounds[source + 1] += bounds[source]
    for i in range(len(spans)):
        order[ends[source_of[i]]] = i
        ends[source_of[i]] += 1


@uncounted
def _copy_bytes(spans, order, buffer, places, out):
    """Copy the bytes of spans of one source to their places."""
    for k in range(len(order)):
        i = order[k]
        copied(out, places[i], buffer, spans[i].raw_at, spans[i].raw_end)
