"""Closed traces as MessagePack, compiled: columns in, records out, but for what is known only after sampling.

Byte for byte what msgspec writes of ``ClosedTrace``; the tests hold both equal. Compiling is numba's, as in ``forest``.
"""

import threading
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, NamedTuple

import msgspec
import numpy as np

from tracecore.byte_runs import copied
from tracecore.closed_trace import CLOSE_REASONS, TAIL_FIELDS, ClosedTrace, TracedSpan
from tracecore.compiling import uncounted

_TRACE_FIELDS = tuple(field.name for field in fields(ClosedTrace))
_SPAN_FIELDS = len(TracedSpan._fields)
_ID_BYTES, _INTEGER_BYTES, _HEADER_BYTES = 10, 9, 5
TRACE_ID_BYTES = 16
#: At most, beside what has a size of its own: three ids, eleven integers, no warnings.
_SPAN_BYTES = 3 + 3 * _ID_BYTES + 11 * _INTEGER_BYTES + 1 + _HEADER_BYTES
_SEGMENT_BYTES = 1 + _ID_BYTES + 2 * _INTEGER_BYTES
_LINK_BYTES = 1 + 5 * _INTEGER_BYTES
#: A trace's: its own id and two more, ten integers, four single bytes, headers of path, links and spans.
_TRACE_BYTES = 3 + 2 + TRACE_ID_BYTES + 2 * _ID_BYTES + 10 * _INTEGER_BYTES + 4 + 3 * _HEADER_BYTES
_FALSE, _EMPTY_ARRAY, _EMPTY_BYTES = 0xC2, 0x90, (0xC4, 0)

_warm = threading.Event()

Array = np.ndarray[Any, Any]


class Texts(NamedTuple):
    """Values as MessagePack writes them, one after another; number ``n`` lies from ``bounds[n]`` to ``bounds[n + 1]``.

    Mostly texts; also whole tables that many traces share.
    """

    packed: Array
    bounds: Array


class RawBytes(NamedTuple):
    """Raw bytes of spans, in the order in which spans were given: in ``buffer``, from ``starts`` to ``ends``."""

    buffer: Array
    starts: Array
    ends: Array


class SpanValues(NamedTuple):
    """What there is to write of each span; spans of trace ``t`` are ``first[t]`` to ``first[t + 1]``.

    Ids are integers, 0 is none; ``parents`` are positions here, -1 is none. ``services`` and ``names`` are numbers of
    texts, ``order`` has positions in ``RawBytes``. A path lies from ``path_first[t]`` to ``path_first[t + 1]``; its
    spans count from the trace's root.
    """

    first: Array
    order: Array
    span_ids: Array
    parent_ids: Array
    parents: Array
    depths: Array
    services: Array
    names: Array
    kinds: Array
    statuses: Array
    starts: Array
    ends: Array
    skews: Array
    self_times: Array
    path_shares: Array
    gaps: Array
    resources: Array
    scopes: Array
    path_first: Array
    path_spans: Array
    path_starts: Array
    path_ends: Array


class LinkValues(NamedTuple):
    """Links of trace ``t`` are ``first[t]`` to ``first[t + 1]``; names and types are numbers of texts.

    The rest is as of ``ServiceLink``.
    """

    first: Array
    callers: Array
    callees: Array
    types: Array
    calls: Array
    errors: Array
    durations: Array
    gaps: Array
    gap_calls: Array


class TraceValues(NamedTuple):
    """What there is to write of each trace beside its spans and links; one that needs repair is not written.

    ``trace_ids`` are bytes, ``TRACE_ID_BYTES`` a trace. ``origins`` count from the trace's root, -1 is none.
    ``reasons`` are numbers of ``CLOSE_REASONS``; ``resources`` and ``scopes`` are numbers of tables.
    """

    needs_repair: Array
    trace_ids: Array
    revisions: Array
    reasons: Array
    first_arrivals: Array
    last_arrivals: Array
    duplicate_counts: Array
    starts: Array
    ends: Array
    error_counts: Array
    origins: Array
    counts_milli: Array
    resources: Array
    scopes: Array


class Shared(NamedTuple):
    """PackedTraces values that the numbers mean. ``services`` has the names of peers, too.

    By table of resources, ``service_tables`` has the names of their services, sorted.
    """

    services: Texts
    names: Texts
    link_types: Texts
    service_tables: Texts
    resource_tables: Texts
    scope_tables: Texts


class PackedTraces(NamedTuple):
    """Records of traces, one after another, and where each begins; where the tail of each begins."""

    records: Array
    bounds: Array
    tails: Array

    def heads(self) -> list[memoryview]:
        """Each but for its tail."""
        whole = self.records.data
        return [whole[start:end] for start, end in zip(self.bounds[:-1].tolist(), self.tails.tolist(), strict=True)]


def packed_traces(
    traces: TraceValues, spans: SpanValues, links: LinkValues, raws: RawBytes, shared: Shared, tail: bytes
) -> PackedTraces:
    """Of each trace its record but for ``TAIL_FIELDS``, with ``tail`` for these; empty where it needs repair.

    O(n) in bytes.
    """
    count, roots = len(traces.needs_repair), spans.first[:-1]
    size = (
        int((raws.ends - raws.starts).sum())
        + _size(shared.services, spans.services)
        + _size(shared.names, spans.names)
        + _SPAN_BYTES * len(spans.span_ids)
        + _SEGMENT_BYTES * int(spans.path_first[-1])
        + _size(shared.services, links.callers)
        + _size(shared.services, links.callees)
        + _size(shared.link_types, links.types)
        + _LINK_BYTES * len(links.callers)
        + _size(_REASONS, traces.reasons)
        + _size(shared.service_tables, traces.resources)
        + _size(shared.resource_tables, traces.resources)
        + _size(shared.scope_tables, traces.scopes)
        # A root's service and name are written once more.
        + _size(shared.services, spans.services[roots])
        + _size(shared.names, spans.names[roots])
        + count * (_TRACE_BYTES + len(_KEYS.packed) + len(tail))
    )
    packed = np.empty(size, np.uint8)
    bounds, tails = np.zeros(count + 1, np.int64), np.zeros(count, np.int64)
    _pack(
        traces, spans, links, raws, _KEYS, _REASONS, shared, np.frombuffer(tail, np.uint8), packed, bounds, tails
    )  # fmt: skip
    return PackedTraces(packed, bounds, tails)


def texts(values: Iterable[Any]) -> Texts:
    """Texts, or other values that msgspec encodes, packed."""
    each = [msgspec.msgpack.encode(value) for value in values]
    bounds = np.zeros(len(each) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, each), np.int64, len(each)), out=bounds[1:])
    return Texts(np.frombuffer(b"".join(each), np.uint8), bounds)


_KEYS = texts(_TRACE_FIELDS[: len(_TRACE_FIELDS) - len(TAIL_FIELDS)])
_REASONS = texts(CLOSE_REASONS)


def is_warm() -> bool:
    """True once ``warm_up`` is done: from then on nothing waits for the compiler."""
    return _warm.is_set()


def warm_up() -> None:
    """Compile, or load what was compiled."""
    none, ids, bounds = np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(1, np.int64)
    raw = np.frombuffer(b"", np.uint8)
    traces = TraceValues(
        np.zeros(0, np.bool_),
        np.zeros(0, np.uint8),
        none,
        none,
        none,
        none,
        none,
        none,
        none,
        none,
        none,
        none,
        none,
        none,
    )
    spans = SpanValues(
        bounds, none, ids, ids, none, none, none, none, none, none, none, none, none, none, none, none, none, none,
        bounds, none, none, none,
    )  # fmt: skip
    links = LinkValues(bounds, none, none, none, none, none, none, none, none)
    packed_traces(traces, spans, links, RawBytes(raw, none, none), Shared(*[texts(())] * len(Shared._fields)), b"")
    _warm.set()


def _size(values: Texts, numbers: Array) -> int:
    return int(np.diff(values.bounds)[numbers].sum())


@uncounted
def _pack(traces, spans, links, raws, keys, reasons, shared, tail, out, bounds, tails):
    (
        needs_repair, trace_ids, revisions, reason_of, first_arrivals, last_arrivals, duplicate_counts, trace_starts,
        trace_ends, error_counts, origins, counts_milli, resources_of, scopes_of,
    ) = traces  # fmt: skip
    (
        first, order, span_ids, parent_ids, parents, depths, service_of, name_of, kinds, statuses, starts, ends, skews,
        self_times, path_shares, gaps, resources, scopes, path_first, path_spans, path_starts, path_ends,
    ) = spans  # fmt: skip
    link_first, callers, callees, link_types, calls, errors, durations, link_gaps, gap_calls = links
    services, names, types, service_tables, resource_tables, scope_tables = shared
    raw, raw_starts, raw_ends = raws
    o = 0
    for t in range(len(needs_repair)):
        bounds[t] = tails[t] = o
        if needs_repair[t]:
            continue
        root, end = first[t], first[t + 1]
        o = _put_big_endian(out, o, 0xDE, len(_TRACE_FIELDS), 2)
        o = _put_size(out, _put(out, o, keys, 0), TRACE_ID_BYTES)
        o = copied(out, o, trace_ids, TRACE_ID_BYTES * t, TRACE_ID_BYTES * (t + 1))
        o = _put_integer(out, _put(out, o, keys, 1), revisions[t])
        o = _put(out, _put(out, o, keys, 2), reasons, reason_of[t])
        o = _put_id(out, _put(out, o, keys, 3), span_ids[root])
        o = _put(out, _put(out, o, keys, 4), services, service_of[root])
        o = _put(out, _put(out, o, keys, 5), names, name_of[root])
        o = _put_integer(out, _put(out, o, keys, 6), trace_starts[t])
        o = _put_integer(out, _put(out, o, keys, 7), trace_ends[t])
        o = _put_integer(out, _put(out, o, keys, 8), first_arrivals[t])
        o = _put_integer(out, _put(out, o, keys, 9), last_arrivals[t])
        o = _put_integer(out, _put(out, o, keys, 10), end - root)
        o = _put_integer(out, _put(out, o, keys, 11), error_counts[t])
        o = _put_integer(out, _put(out, o, keys, 12), duplicate_counts[t])
        # What needs no repair lacks neither root nor parents, and has no warnings.
        o = _put_byte(out, _put(out, o, keys, 13), _FALSE)
        o = _put_byte(out, _put(out, o, keys, 14), 0)
        o = _put_id(out, _put(out, o, keys, 15), span_ids[root + origins[t]] if origins[t] >= 0 else np.uint64(0))
        o = _put_integer(out, _put(out, o, keys, 16), counts_milli[t])
        o = _put(out, _put(out, o, keys, 17), service_tables, resources_of[t])
        o = _put_array(out, _put(out, o, keys, 18), path_first[t + 1] - path_first[t])
        for k in range(path_first[t], path_first[t + 1]):
            o = _put_id(out, _put_array(out, o, 3), span_ids[root + path_spans[k]])
            o = _put_integer(out, o, path_starts[k])
            o = _put_integer(out, o, path_ends[k])
        o = _put_array(out, _put(out, o, keys, 19), link_first[t + 1] - link_first[t])
        for k in range(link_first[t], link_first[t + 1]):
            o = _put(out, _put_array(out, o, 8), services, callers[k])
            o = _put(out, o, services, callees[k])
            o = _put(out, o, types, link_types[k])
            o = _put_integer(out, o, calls[k])
            o = _put_integer(out, o, errors[k])
            o = _put_integer(out, o, durations[k])
            o = _put_integer(out, o, link_gaps[k])
            o = _put_integer(out, o, gap_calls[k])
        o = _put_byte(out, _put(out, o, keys, 20), _EMPTY_ARRAY)
        o = _put(out, _put(out, o, keys, 21), resource_tables, resources_of[t])
        o = _put(out, _put(out, o, keys, 22), scope_tables, scopes_of[t])
        o = _put_array(out, _put(out, o, keys, 23), end - root)
        for i in range(root, end):
            o = _put_array(out, o, _SPAN_FIELDS)
            o = _put_id(out, o, span_ids[i])
            o = _put_id(out, o, parent_ids[i])
            o = _put_id(out, o, span_ids[parents[i]] if parents[i] >= 0 else np.uint64(0))
            o = _put_integer(out, o, depths[i])
            o = _put(out, o, services, service_of[i])
            o = _put(out, o, names, name_of[i])
            o = _put_integer(out, o, kinds[i])
            o = _put_integer(out, o, statuses[i])
            o = _put_integer(out, o, starts[i])
            o = _put_integer(out, o, ends[i])
            o = _put_integer(out, o, skews[i])
            o = _put_integer(out, o, self_times[i])
            o = _put_integer(out, o, path_shares[i])
            o = _put_integer(out, o, gaps[i])
            o = _put_byte(out, o, _EMPTY_ARRAY)
            o = _put_integer(out, o, resources[i])
            o = _put_integer(out, o, scopes[i])
            raw_start, raw_end = raw_starts[order[i]], raw_ends[order[i]]
            o = copied(out, _put_size(out, o, raw_end - raw_start), raw, raw_start, raw_end)
        tails[t] = o
        o = copied(out, o, tail, 0, len(tail))
    bounds[len(needs_repair)] = o


@uncounted
def _put(out, o, values, number):
    return copied(out, o, values.packed, values.bounds[number], values.bounds[number + 1])


@uncounted
def _put_byte(out, o, value):
    out[o] = value
    return o + 1


@uncounted
def _put_array(out, o, count):
    if count < 16:
        out[o] = 0x90 | count
        return o + 1
    if count < 1 << 16:
        return _put_big_endian(out, o, 0xDC, count, 2)
    return _put_big_endian(out, o, 0xDD, count, 4)


@uncounted
def _put_size(out, o, size):
    """What stands before bytes."""
    if size < 1 << 8:
        return _put_big_endian(out, o, 0xC4, size, 1)
    if size < 1 << 16:
        return _put_big_endian(out, o, 0xC5, size, 2)
    return _put_big_endian(out, o, 0xC6, size, 4)


@uncounted
def _put_id(out, o, span_id):
    if span_id == 0:
        out[o], out[o + 1] = _EMPTY_BYTES
        return o + 2
    out[o] = 0xC4
    return _put_big_endian(out, o + 1, 8, span_id, 8)


@uncounted
def _put_integer(out, o, value):
    """As short as it can be."""
    if value >= 0:
        if value < 1 << 7:
            out[o] = value
            return o + 1
        if value < 1 << 8:
            return _put_big_endian(out, o, 0xCC, value, 1)
        if value < 1 << 16:
            return _put_big_endian(out, o, 0xCD, value, 2)
        if value < 1 << 32:
            return _put_big_endian(out, o, 0xCE, value, 4)
        return _put_big_endian(out, o, 0xCF, value, 8)
    if value >= -(1 << 5):
        out[o] = value & 0xFF
        return o + 1
    if value >= -(1 << 7):
        return _put_big_endian(out, o, 0xD0, value, 1)
    if value >= -(1 << 15):
        return _put_big_endian(out, o, 0xD1, value, 2)
    if value >= -(1 << 31):
        return _put_big_endian(out, o, 0xD2, value, 4)
    return _put_big_endian(out, o, 0xD3, value, 8)


@uncounted
def _put_big_endian(out, o, kind, value, size):
    # Unsigned places are not looked at twice, for a negative one: the compiler makes one store of eight.
    unsigned = np.uint64(value)
    out[np.uint64(o)] = kind
    for k in range(size):
        out[np.uint64(o + 1 + k)] = np.uint8(unsigned >> np.uint64(8 * (size - 1 - k)))
    return o + 1 + size
