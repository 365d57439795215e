"""Records of whole traces to rows, a batch at a time, by ``sink.kernels``; what these leave is the reference's."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from sink import kernels as k
from sink.contributions import EdgeKey, EdgeSums
from sink.packed import SharedUse, digests_of, trace_id_in
from sink.rows import ErrorSpan, RowEncoder
from tracecore.closed_trace import ClosedTrace, TracedSpan
from tracecore.redaction import Redaction
from tracecore.span import Resource, Scope

#: What a table holds before it begins anew: resources, scopes or keys of attributes.
TABLE_ENTRIES = 1 << 15
#: Rounds in which what is unknown is looked up; what is unknown then is the reference's.
ROUNDS = 4
#: Edges of the graph in a batch, at most; more are counted trace by trace.
EDGES = 1 << 13

SharedT = TypeVar("SharedT", Resource, Scope, str)

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]


class Head(msgspec.Struct):
    """What an odd span's row needs of its trace."""

    error_origin: bytes
    last_arrival_ns: int
    resources: tuple[Resource, ...]
    scopes: tuple[Scope, ...]


_NOTHING = np.empty(0, np.uint8)
_head_decoder = msgspec.msgpack.Decoder(Head)
_span_decoder = msgspec.msgpack.Decoder(TracedSpan)
_resource_decoder = msgspec.msgpack.Decoder(Resource)
_scope_decoder = msgspec.msgpack.Decoder(Scope)
_names_decoder = msgspec.msgpack.Decoder(tuple[str, str, str])


@dataclass(frozen=True, slots=True)
class Rows:
    """What the rows of packed traces stand in: a ``PackedBatch``."""

    records: Bytes
    spans: memoryview
    traces: memoryview
    shared: list[SharedUse]
    digests: list[bytes]
    #: What ``kernels.pack`` tells of each record.
    table: Numbers
    #: Of traces with odd spans, the rows of their spans in pieces; of those with errors, their ids and these.
    pieces: dict[int, list[bytes | memoryview]]
    failed: dict[int, tuple[bytes, tuple[ErrorSpan, ...]]]

    @property
    def packed(self) -> list[int]:
        """The traces whose rows are made."""
        status = self.table[:, k.STATUS]
        return np.flatnonzero((status == k.PLAIN) | (status == k.DONE)).tolist()

    @property
    def days(self) -> set[int]:
        """The days of the rows; between those of two spans there is none."""
        return set(np.unique(self.table[self.packed, k.FIRST_DAY : k.LAST_DAY + 1]).tolist())

    def span_count(self, traces: Sequence[int]) -> int:
        """How many rows the traces' spans are."""
        return int(self.table[_places(traces), k.SPAN_COUNT].sum())

    def span_rows(self, traces: Sequence[int]) -> Iterator[bytes | memoryview]:
        """The rows of the traces' spans, in pieces."""
        bounds = self.table[_places(traces), k.SPANS_START : k.SPANS_END + 1]
        start = 0
        for place in [place for place, trace in enumerate(traces) if trace in self.pieces] if self.pieces else []:
            yield from _runs(self.spans, bounds[start:place])
            yield from self.pieces[traces[place]]
            start = place + 1
        yield from _runs(self.spans, bounds[start:])

    def trace_rows(self, traces: Sequence[int]) -> Iterator[memoryview]:
        """The traces' own rows, in pieces."""
        return _runs(self.traces, self.table[_places(traces), k.TRACE_START : k.TRACE_END + 1])

    def errors(self, traces: Sequence[int]) -> Iterator[tuple[bytes, tuple[ErrorSpan, ...]]]:
        """The error spans of those traces that have some, by trace id."""
        return (self.failed[trace] for trace in traces if trace in self.failed)

    def edges(self, traces: Sequence[int]) -> dict[EdgeKey, EdgeSums]:
        """What the traces add to the graph of services."""
        edges = np.empty((EDGES, k.EDGE_COLUMNS), np.int64)
        slots = np.full(2 * EDGES, -1, np.int64)
        places = _places(traces)
        links_at, starts, weights = (self.table[places, column] for column in (k.LINKS_AT, k.START_NS, k.COUNT_MILLI))
        found = k.sum_links(self.records, links_at, starts, weights, edges, slots)
        if found < 0:
            middle = len(traces) // 2
            first, second = self.edges(traces[:middle]), self.edges(traces[middle:])
            for key, sums in second.items():
                old = first.get(key)
                first[key] = EdgeSums(*map(sum, zip(old, sums, strict=True))) if old else sums
            return first
        records = self.records
        return {
            EdgeKey(minute_ns, *_names(records[at:until].tobytes())): EdgeSums(*sums)
            for at, until, minute_ns, *sums in edges[:found].tolist()
        }


class Packer:
    """Makes rows of records; keeps what repeats. Raises nothing for bad bytes: those it does not take."""

    def __init__(self, redaction: Redaction) -> None:
        """The compiled code is loaded here, or compiled: seconds, the first time on a machine."""
        self._encoder = RowEncoder(redaction)
        self._resources: _Table[Resource] = _Table(
            _resource_decoder.decode, lambda one: redaction.masked_resource(one.raw) == one.raw, self._encoder.id_of
        )
        self._scopes: _Table[Scope] = _Table(
            _scope_decoder.decode, lambda one: redaction.masked_scope(one.raw) == one.raw, self._encoder.id_of
        )
        self._memory_of_records, self._memory_of_spans, self._memory_of_traces = _Memory(), _Memory(), _Memory()
        self._keys: _Table[str] = _Table(bytes.decode, lambda key: not redaction.is_secret(key), _is_json_as_it_is)
        # All of it, or the first batch would wait for the rest.
        rows = self.pack([])
        rows.edges([])
        slots, pool, pool_at = self._keys.arrays[:3]
        k.slot_of(rows.records, 0, 0, slots, pool, pool_at)
        k.place_of(rows.records, 0, 0, slots)

    def pack(self, values: Sequence[bytes]) -> Rows:
        """The rows of those of these records that are not left to the reference."""
        sizes = list(map(len, values))
        bounds = np.zeros(len(values) + 1, np.int64)
        np.cumsum(sizes, out=bounds[1:])
        records = self._joined(values, sizes)
        joined = records.data
        digests = digests_of(values)
        longest = max(sizes, default=0)
        table = np.zeros((len(values), k.COLUMNS), np.int64)
        spans = self._memory_of_spans.bytes_of(3 * len(joined) + k.JSON_GROWTH * longest)
        # The kernel asks whether there is room for what stands before a record's spans; what stands after them, a
        # rule's and a replay's name, has its room behind the end.
        size = 2 * len(joined) + k.JSON_GROWTH * longest + k.ROW_BYTES
        traces = self._memory_of_traces.bytes_of(size + longest)
        odd = np.empty((1 + len(joined) // 256, k.ODD_COLUMNS), np.int64)
        errors = np.empty((1 + len(joined) // 256, k.ERROR_COLUMNS), np.int64)
        missing = np.empty((1024, 3), np.int64)
        self._resources.begin()
        self._scopes.begin()
        self._keys.begin()
        for _ in range(ROUNDS):
            odds, failed, unknown = k.pack(
                records,
                bounds,
                # An array that may be written, as all are, although it is not: the code is compiled for one type.
                np.frombuffer(bytearray().join(digests), np.uint8),
                self._resources.arrays,
                self._scopes.arrays,
                self._keys.arrays,
                spans,
                traces[:size],
                table,
                odd,
                errors,
                missing,
            )
            if not unknown:
                break
            for kind, at, end in missing[:unknown].tolist():
                if kind == k.KEY:
                    self._keys.add(records, at, end)
                elif kind == k.SCOPE:
                    self._scopes.add(records, at, end)
                else:
                    self._resources.add(records, at, end)
        shared = [SharedUse(*use) for use in self._resources.used()]
        shared += [SharedUse(*use) for use in self._scopes.used()]
        rows = Rows(records, spans.data, traces.data, shared, digests, table, {}, {})
        oddities = odd[:odds].tolist()
        placed = [(row[k.ERROR_AT], _error_of(joined, rows.spans, row)) for row in errors[:failed].tolist()]
        for number in np.flatnonzero(table[:, k.STATUS] == k.DONE).tolist():
            self._add_odd_and_errors(rows, number, joined, values[number], oddities, placed)
        return rows

    def _joined(self, values: Sequence[bytes], sizes: Sequence[int]) -> Bytes:
        """Records one after another, and the padding."""
        array = self._memory_of_records.bytes_of(sum(sizes) + len(k.PADDING))
        joined, at = array.data, 0
        for value, size in zip(values, sizes, strict=True):
            joined[at : at + size] = value
            at += size
        joined[at:] = k.PADDING
        return array

    def _add_odd_and_errors(
        self,
        rows: Rows,
        number: int,
        joined: memoryview,
        value: bytes,
        oddities: list[list[int]],
        placed: list[tuple[int, ErrorSpan]],
    ) -> None:
        """Have the reference make the odd spans of a trace, and note its errors; if it cannot, the trace is refused."""
        row = rows.table[number].tolist()
        found = placed[row[k.ERROR_START] : row[k.ERROR_END]]
        if row[k.ODD_END] > row[k.ODD_START]:
            made = self._with_odd_spans(joined, value, rows.spans, row, oddities)
            if made is None:
                rows.table[number, k.STATUS] = k.REFUSED
                return
            rows.pieces[number], others = made
            found = sorted([*found, *others])
        if found:
            rows.failed[number] = trace_id_in(value), tuple(error for _, error in found)

    def _with_odd_spans(
        self, joined: memoryview, value: bytes, spans: memoryview, row: list[int], oddities: list[list[int]]
    ) -> tuple[list[bytes | memoryview], list[tuple[int, ErrorSpan]]] | None:
        """The rows of a trace whose odd spans the reference makes, and the errors among these by their places.

        None if one cannot be stored as it is.
        """
        odd = oddities[row[k.ODD_START] : row[k.ODD_END]]
        try:
            head = _head_decoder.decode(value)
            decoded = tuple(_span_decoder.decode(joined[at:until]) for at, until, _ in odd)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        trace = _trace_of(trace_id_in(value), head, decoded)
        rows = self._encoder.rows_of(trace, b"")
        if rows.poison or rows.trace is not trace:
            return None
        pieces: list[bytes | memoryview] = []
        start = row[k.SPANS_START]
        for (_, _, place), made in zip(odd, rows.span_rows, strict=True):
            pieces += [spans[start:place], made]
            start = place
        pieces.append(spans[start : row[k.SPANS_END]])
        places = {span.span_id: at for span, (at, _, _) in zip(decoded, odd, strict=True)}
        return pieces, [(places[error.span_id], error) for error in rows.errors]


class _Memory:
    """Memory that is used again, megabytes a batch: of what is new, the operating system clears each page first."""

    def __init__(self) -> None:
        self._spare: list[Bytes] = []

    def bytes_of(self, size: int) -> Bytes:
        """An array with anything in it. Its memory is spare again when nothing refers to the array or its ``data``.

        Another array that is made of it does not count: numpy has that refer to the memory itself.
        """
        whole = self._spare.pop() if self._spare else _NOTHING
        if whole.size < size:
            # A power of two: no batch after it is likely to be too large. What is not written takes no memory.
            whole = np.empty(1 << size.bit_length(), np.uint8)
        array = whole[:size]
        weakref.finalize(array, self._spare.append, whole)
        return array


class _Table(Generic[SharedT]):
    """Resources, scopes or keys by their bytes, in arrays that the compiled code looks them up in."""

    def __init__(
        self, decode: Callable[[bytes], SharedT], is_plain: Callable[[SharedT], bool], id_of: Callable[[SharedT], int]
    ) -> None:
        """``is_plain`` tells whether it may be stored as it is; ``id_of`` the id of what may be."""
        self._decode: Callable[[bytes], SharedT] = decode
        self._is_plain: Callable[[SharedT], bool] = is_plain
        self._id_of: Callable[[SharedT], int] = id_of
        self._shared: list[SharedT | None] = []
        self.arrays = _empty_table()

    def begin(self) -> None:
        """Forget what was used; forget all, if there is much."""
        if len(self._shared) > TABLE_ENTRIES // 2:
            self._shared, self.arrays = [], _empty_table()
        used = self.arrays[4][: len(self._shared)]
        used[used > k.FIT] = k.FIT

    def add(self, records: Bytes, at: int, end: int) -> None:
        """Remember what stands there, unless it is known."""
        slots, pool, pool_at, ids, used = self.arrays
        entry = len(self._shared)
        if entry == TABLE_ENTRIES or k.slot_of(records, at, end, slots, pool, pool_at) >= 0:
            return
        start, stop = int(pool_at[entry]), int(pool_at[entry]) + end - at
        if stop + len(k.PADDING) > pool.size:
            pool = np.concatenate([pool, np.empty(max(pool.size, end - at), np.uint8)])
            self.arrays = (slots, pool, pool_at, ids, used)
        pool[start:stop] = records[at:end]
        pool_at[entry + 1] = stop
        slots[k.place_of(records, at, end, slots)] = entry
        try:
            shared: SharedT | None = self._decode(bytes(records[at:end]))
        except (msgspec.DecodeError, UnicodeDecodeError):
            shared = None
        is_fit = shared is not None and self._is_plain(shared)
        used[entry] = k.FIT if is_fit else k.UNFIT
        ids[entry] = self._id_of(shared) if shared is not None and is_fit else 0
        self._shared.append(shared)

    def used(self) -> list[tuple[int, SharedT, int]]:
        """What was used since ``begin``: its id, itself, and the last day."""
        ids, used = self.arrays[3:]
        found = []
        for entry in np.flatnonzero(used[: len(self._shared)] > k.FIT).tolist():
            shared = self._shared[entry]
            if shared is not None:
                found.append((int(ids[entry]), shared, int(used[entry])))
        return found


def _is_json_as_it_is(key: str) -> int:
    return k.AS_IT_IS if key.isascii() and msgspec.json.encode(key) == b'"%b"' % key.encode() else 0


def _empty_table() -> tuple[NDArray[np.int32], Bytes, Numbers, Numbers, Numbers]:
    """Slots of the hash table; the entries' bytes, where each begins, its id, and the last day that it was used."""
    return (
        np.full(2 * TABLE_ENTRIES, -1, np.int32),
        np.empty(1 << 16, np.uint8),
        np.zeros(TABLE_ENTRIES + 1, np.int64),
        np.zeros(TABLE_ENTRIES, np.int64),
        np.full(TABLE_ENTRIES, k.FIT, np.int64),
    )


def _trace_of(trace_id: bytes, head: Head, spans: tuple[TracedSpan, ...]) -> ClosedTrace:
    """As much of a trace as its spans' rows need."""
    return ClosedTrace(
        trace_id=trace_id,
        revision=1,
        reason="complete",
        root_span_id=b"",
        root_service="",
        root_name="",
        start_ns=head.last_arrival_ns,
        end_ns=head.last_arrival_ns,
        first_arrival_ns=head.last_arrival_ns,
        last_arrival_ns=head.last_arrival_ns,
        span_count=len(spans),
        error_count=0,
        duplicate_count=0,
        missing_root=False,
        missing_parents=0,
        error_origin=head.error_origin,
        count_milli=0,
        services=(),
        critical_path=(),
        links=(),
        warnings=(),
        resources=head.resources,
        scopes=head.scopes,
        spans=spans,
    )


def _error_of(joined: memoryview, spans: memoryview, row: list[int]) -> ErrorSpan:
    """An error span, from where its texts stand in the records, and its type among the rows."""
    id_at, service, service_end, name, name_end, message, message_end, kind, kind_end, start_ns, is_origin = row
    return ErrorSpan(
        bytes(joined[id_at : id_at + 8]),
        str(joined[service:service_end], "utf-8"),
        str(joined[name:name_end], "utf-8"),
        str(spans[kind:kind_end], "utf-8"),
        str(joined[message:message_end], "utf-8"),
        start_ns,
        bool(is_origin),
    )


def _places(traces: Sequence[int]) -> Numbers:
    return np.array(traces, np.int64)


def _runs(rows: memoryview, bounds: Numbers) -> Iterator[memoryview]:
    """Rows from where to where; those that follow one another are one piece."""
    if not len(bounds):
        return
    cuts = np.flatnonzero(bounds[1:, 0] != bounds[:-1, 1])
    starts, ends = bounds[np.append(0, cuts + 1), 0], bounds[np.append(cuts, -1), 1]
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        yield rows[start:end]


@lru_cache(maxsize=65536)
def _names(packed: bytes) -> tuple[str, str, str]:
    """Caller, callee and type, as they stand in a link."""
    return _names_decoder.decode(b"\x93" + packed)
