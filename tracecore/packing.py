"""Traced spans and critical paths of many traces as MessagePack, compiled: columns in, bytes out.

Byte for byte what msgspec writes of ``TracedSpan`` and ``PathSegment``; the tests hold both equal. Compiling is
numba's, as in ``forest``.
"""

import threading
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numba import njit

from tracecore.closed_trace import TracedSpan

_FIELDS = len(TracedSpan._fields)
#: A span beside its texts and its raw bytes: three ids, eleven integers, and what stands before each value.
_SPAN_BYTES = 3 * 10 + 11 * 9 + 3 + 1 + 5
_SEGMENT_BYTES = 1 + 10 + 2 * 9
_HEADER_BYTES = 5
_EMPTY_BYTES, _EMPTY_ARRAY = (0xC4, 0), 0x90

_warm = threading.Event()

Array = np.ndarray[Any, Any]


class Texts(NamedTuple):
    """Texts as MessagePack writes them, one after another; text ``n`` lies from ``bounds[n]`` to ``bounds[n + 1]``."""

    packed: Array
    bounds: Array


class PackedTraces(NamedTuple):
    """By trace where its spans begin, where they end and its path begins, and where that ends."""

    packed: memoryview
    bounds: list[list[int]]


class SpanValues(NamedTuple):
    """What there is to write of each span; spans of trace ``t`` are ``first[t]`` to ``first[t + 1]``.

    Ids are integers, 0 is none; ``parents`` are positions here, -1 is none. ``services`` and ``names`` are numbers of
    texts. A path lies from ``path_first[t]`` to ``path_first[t + 1]``, its spans are positions here.
    """

    first: Array
    needs_repair: Array
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


def packed_traces(values: SpanValues, services: Texts, names: Texts, raws: list[bytes]) -> PackedTraces:
    """All traces, but those that need repair: of them there is nothing. O(n) in bytes."""
    raw_bounds = np.zeros(len(raws) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, raws), np.int64, len(raws)), out=raw_bounds[1:])
    size = (
        int(raw_bounds[-1])
        + int(np.diff(services.bounds)[values.services].sum())
        + int(np.diff(names.bounds)[values.names].sum())
        + _SPAN_BYTES * len(raws)
        + _SEGMENT_BYTES * len(values.path_spans)
        + 2 * _HEADER_BYTES * len(values.needs_repair)
    )
    packed = np.empty(size, np.uint8)
    bounds = np.zeros((len(values.needs_repair), 3), np.int64)
    _pack(
        *values, *services, *names, np.frombuffer(b"".join(raws), np.uint8), raw_bounds, packed, bounds,
    )  # fmt: skip
    return PackedTraces(packed.data, bounds.tolist())


def texts(values: Iterable[str]) -> Texts:
    """Texts, packed."""
    each = [msgspec.msgpack.encode(value) for value in values]
    bounds = np.zeros(len(each) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, each), np.int64, len(each)), out=bounds[1:])
    return Texts(np.frombuffer(b"".join(each), np.uint8), bounds)


def is_warm() -> bool:
    """True once ``warm_up`` is done: from then on nothing waits for the compiler."""
    return _warm.is_set()


def warm_up() -> None:
    """Compile, or load what was compiled."""
    none, ids = np.zeros(0, np.int64), np.zeros(0, np.uint64)
    first = np.zeros(1, np.int64)
    values = SpanValues(
        first, np.zeros(0, np.bool_), ids, ids, none, none, none, none, none, none, none, none, none, none, none, none,
        none, none, first, none, none, none,
    )  # fmt: skip
    packed_traces(values, texts(()), texts(()), [])
    _warm.set()


@njit(cache=True, nogil=True)
def _pack(
    first, needs_repair, span_ids, parent_ids, parents, depths, services, names, kinds, statuses, starts, ends, skews,
    self_times, path_shares, gaps, resources, scopes, path_first, path_spans, path_starts, path_ends,
    service_texts, service_bounds, name_texts, name_bounds, raws, raw_bounds, out, bounds,
):  # fmt: skip
    o = 0
    for t in range(len(needs_repair)):
        bounds[t, 0] = bounds[t, 1] = bounds[t, 2] = o
        if needs_repair[t]:
            continue
        o = _put_array(out, o, first[t + 1] - first[t])
        for i in range(first[t], first[t + 1]):
            out[o], out[o + 1], out[o + 2] = 0xDC, 0, _FIELDS
            o = _put_id(out, o + 3, span_ids[i])
            o = _put_id(out, o, parent_ids[i])
            o = _put_id(out, o, span_ids[parents[i]] if parents[i] >= 0 else np.uint64(0))
            o = _put_integer(out, o, depths[i])
            o = _put_copy(out, o, service_texts, service_bounds[services[i]], service_bounds[services[i] + 1])
            o = _put_copy(out, o, name_texts, name_bounds[names[i]], name_bounds[names[i] + 1])
            o = _put_integer(out, o, kinds[i])
            o = _put_integer(out, o, statuses[i])
            o = _put_integer(out, o, starts[i])
            o = _put_integer(out, o, ends[i])
            o = _put_integer(out, o, skews[i])
            o = _put_integer(out, o, self_times[i])
            o = _put_integer(out, o, path_shares[i])
            o = _put_integer(out, o, gaps[i])
            out[o] = _EMPTY_ARRAY  # a trace that needs no repair has no warnings
            o = _put_integer(out, o + 1, resources[i])
            o = _put_integer(out, o, scopes[i])
            o = _put_size(out, o, raw_bounds[i + 1] - raw_bounds[i])
            o = _put_copy(out, o, raws, raw_bounds[i], raw_bounds[i + 1])
        bounds[t, 1] = o
        o = _put_array(out, o, path_first[t + 1] - path_first[t])
        for k in range(path_first[t], path_first[t + 1]):
            out[o] = 0x93
            o = _put_id(out, o + 1, span_ids[path_spans[k]])
            o = _put_integer(out, o, path_starts[k])
            o = _put_integer(out, o, path_ends[k])
        bounds[t, 2] = o


@njit(cache=True, nogil=True)
def _put_array(out, o, count):
    if count < 16:
        out[o] = 0x90 | count
        return o + 1
    if count < 1 << 16:
        return _put_big_endian(out, o, 0xDC, count, 2)
    return _put_big_endian(out, o, 0xDD, count, 4)


@njit(cache=True, nogil=True)
def _put_size(out, o, size):
    """What stands before bytes."""
    if size < 1 << 8:
        return _put_big_endian(out, o, 0xC4, size, 1)
    if size < 1 << 16:
        return _put_big_endian(out, o, 0xC5, size, 2)
    return _put_big_endian(out, o, 0xC6, size, 4)


@njit(cache=True, nogil=True)
def _put_id(out, o, span_id):
    if span_id == 0:
        out[o], out[o + 1] = _EMPTY_BYTES
        return o + 2
    out[o], out[o + 1] = 0xC4, 8
    for k in range(8):
        out[o + 2 + k] = (span_id >> np.uint64(56 - 8 * k)) & np.uint64(0xFF)
    return o + 10


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _put_big_endian(out, o, kind, value, size):
    out[o] = kind
    for k in range(size):
        out[o + 1 + k] = (value >> (8 * (size - 1 - k))) & 0xFF
    return o + 1 + size


@njit(cache=True, nogil=True)
def _put_copy(out, o, source, start, end):
    for k in range(end - start):
        out[o + k] = source[start + k]
    return o + end - start
