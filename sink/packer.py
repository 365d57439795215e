"""Records of whole traces to rows, a batch at a time, by ``sink.kernels``; what these leave is the reference's."""

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from sink import kernels as k
from sink.contributions import EdgeKey, EdgeSums
from sink.packed import TRACE_ID, PackedTrace, SharedUse, trace_id_in, unmarked
from sink.rows import ErrorSpan, RowEncoder, digest_of
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

    def span_rows(self, traces: Iterable[PackedTrace]) -> Iterator[bytes | memoryview]:
        """The rows of the traces' spans, in pieces."""
        start = end = 0
        for trace in traces:
            if trace.pieces is None and trace.start == end:
                end = trace.end
                continue
            if end > start:
                yield self.spans[start:end]
            start, end = trace.start, trace.end
            if trace.pieces is not None:
                yield from trace.pieces
                start = end
        if end > start:
            yield self.spans[start:end]

    def trace_rows(self, traces: Iterable[PackedTrace]) -> Iterator[memoryview]:
        """The traces' own rows, in pieces."""
        start = end = 0
        for trace in traces:
            if trace.trace_start != end:
                if end > start:
                    yield self.traces[start:end]
                start = trace.trace_start
            end = trace.trace_end
        if end > start:
            yield self.traces[start:end]

    def edges(self, traces: Sequence[PackedTrace]) -> dict[EdgeKey, EdgeSums]:
        """What the traces add to the graph of services."""
        edges = np.empty((EDGES, k.EDGE_COLUMNS), np.int64)
        slots = np.full(2 * EDGES, -1, np.int64)
        links_at = np.array([trace.links_at for trace in traces], np.int64)
        starts = np.array([trace.start_ns for trace in traces], np.int64)
        weights = np.array([trace.count_milli for trace in traces], np.int64)
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
        self._memory, self._memory_of_traces = _Memory(), _Memory()
        self._keys: _Table[str] = _Table(bytes.decode, lambda key: not redaction.is_secret(key), _is_json_as_it_is)
        # All of it, or the first batch would wait for the rest.
        rows, _ = self.pack([])
        rows.edges([])
        slots, pool, pool_at = self._keys.arrays[:3]
        k.slot_of(rows.records, 0, 0, slots, pool, pool_at)
        k.place_of(rows.records, 0, 0, slots)

    def pack(self, values: Sequence[bytes]) -> tuple[Rows, list[PackedTrace | None]]:
        """The rows of these records, None for each that the reference is to take."""
        # Arrays that may be written, all of them, although none of these is: the code is compiled for one type alone.
        joined = bytearray().join([*values, k.PADDING])
        records = np.frombuffer(joined, np.uint8)
        bounds = np.cumsum([0, *map(len, values)], dtype=np.int64)
        digests = [digest_of([unmarked(value)]) for value in values]
        longest = max(map(len, values), default=0)
        table = np.zeros((len(values), k.COLUMNS), np.int64)
        spans = self._memory.bytes_of(3 * len(joined) + k.JSON_GROWTH * longest)
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
        packed = Rows(records, spans.data, traces.data, shared)
        oddities = odd[:odds].tolist()
        placed = [(row[k.ERROR_AT], _error_of(joined, packed.spans, row)) for row in errors[:failed].tolist()]
        # Hot, once a trace: most are made here, in the order of the columns, without a call of Python's.
        status, plain, first, day, new = k.STATUS, k.PLAIN, k.SPANS_START, k.FIRST_DAY, tuple.__new__
        return packed, [
            new(PackedTrace, (value[TRACE_ID], digest, *row[first:day], _days(row[day], row[day + 1]), None, ()))
            if row[status] == plain
            else self._trace(joined, value, packed.spans, row, digest, oddities, placed)
            for value, row, digest in zip(values, table.tolist(), digests, strict=True)
        ]

    def _trace(
        self,
        joined: bytearray,
        value: bytes,
        spans: memoryview,
        row: list[int],
        digest: bytes,
        oddities: list[list[int]],
        placed: list[tuple[int, ErrorSpan]],
    ) -> PackedTrace | None:
        """A trace with odd spans or errors; None if its record was not done."""
        if row[k.STATUS] != k.DONE:
            return None
        pieces: tuple[bytes | memoryview, ...] | None = None
        errors: tuple[ErrorSpan, ...] = ()
        if row[k.ERROR_END] > row[k.ERROR_START] or row[k.ODD_END] > row[k.ODD_START]:
            found = placed[row[k.ERROR_START] : row[k.ERROR_END]]
            if row[k.ODD_END] > row[k.ODD_START]:
                made = self._with_odd_spans(joined, value, spans, row, oddities)
                if made is None:
                    return None
                pieces, others = made
                found = sorted([*found, *others])
            errors = tuple(error for _, error in found)
        return PackedTrace._make(
            (
                trace_id_in(value),
                digest,
                *row[k.SPANS_START : k.FIRST_DAY],
                _days(row[k.FIRST_DAY], row[k.LAST_DAY]),
                pieces,
                errors,
            )
        )

    def _with_odd_spans(
        self, joined: bytearray, value: bytes, spans: memoryview, row: list[int], oddities: list[list[int]]
    ) -> tuple[tuple[bytes | memoryview, ...], list[tuple[int, ErrorSpan]]] | None:
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
        return tuple(pieces), [(places[error.span_id], error) for error in rows.errors]


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
            whole = np.empty(size, np.uint8)
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


def _error_of(joined: bytearray, spans: memoryview, row: list[int]) -> ErrorSpan:
    """An error span, from where its texts stand in the records, and its type among the rows."""
    id_at, service, service_end, name, name_end, message, message_end, kind, kind_end, start_ns, is_origin = row
    return ErrorSpan(
        bytes(joined[id_at : id_at + 8]),
        joined[service:service_end].decode(),
        joined[name:name_end].decode(),
        str(spans[kind:kind_end], "utf-8"),
        joined[message:message_end].decode(),
        start_ns,
        bool(is_origin),
    )


@lru_cache
def _days(first: int, last: int) -> tuple[int, ...]:
    return tuple(range(first, last + 1))


@lru_cache(maxsize=65536)
def _names(packed: bytes) -> tuple[str, str, str]:
    """Caller, callee and type, as they stand in a link."""
    return _names_decoder.decode(b"\x93" + packed)
