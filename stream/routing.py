"""Columns of spans to runs of their bytes by partition, compiled: ``router.split_by_partition`` is what is meant.

Compiling is numba's, as in ``tracecore.forest``.
"""

import threading
from typing import Any

import numpy as np

from stream.router import Run
from tracecore.byte_runs import copied
from tracecore.compiling import uncounted
from tracecore.span_columns import ORIGIN, RAW_AT, RAW_END, TRACE_HIGH, TRACE_LOW, Origin, SpanColumns

#: A run ends at so many bytes, so that records can be filled with whole runs.
_RUN_BYTES = 32 * 1024
#: What stands before a span: a tag, and a size of up to 35 bits.
_TAG, _FIELD_BYTES = 0x12, 6
_HEX_SEED, _M = 0x9747B28C ^ 32, 0x5BD1E995
#: Traces whose partition is remembered, a power of two: spans of one trace stand near each other.
_REMEMBERED = 1024

_warm = threading.Event()

Array = np.ndarray[Any, Any]


def routed(spans: SpanColumns, partitions: int) -> list[tuple[int, Run]]:
    """Runs of spans with their partitions; spans of a trace in their order. O(n) in bytes."""
    table = spans.table
    # Most are one of few objects: telling objects apart saves hashing the bytes of each.
    number: dict[Origin, int] = {}
    objects = {id(origin): origin for origin in spans.origins}
    number_of = {key: number.setdefault(origin, len(number)) for key, origin in objects.items()}
    origins = list(number)
    origin_of = np.array([number_of[id(origin)] for origin in spans.origins], np.int64)
    count = table.shape[1]
    out = np.empty(int((table[RAW_END] - table[RAW_AT]).sum()) + _FIELD_BYTES * count, np.uint8)
    runs = np.empty((count, 4), np.int64)
    run_count = _route(
        table, origin_of, len(origins), partitions, np.frombuffer(spans.buffer, np.uint8), out, runs,
        np.empty(count, np.int64), np.empty(count, np.int64), np.zeros(partitions * len(origins) + 1, np.int64),
        np.zeros((_REMEMBERED, 3), np.int64),
    )  # fmt: skip
    fields = out.data
    return [
        (key // len(origins), Run(origins[key % len(origins)], fields[start:end], sent))
        for key, start, end, sent in runs[:run_count].tolist()
    ]


def is_warm() -> bool:
    """True once ``warm_up`` is done: from then on nothing waits for the compiler."""
    return _warm.is_set()


def warm_up() -> None:
    """Compile, or load what was compiled."""
    routed(SpanColumns(np.zeros((13, 0), np.int64), [], [], b""), 1)
    _warm.set()


@uncounted
def _route(table, origin_of, origins, partitions, buffer, out, runs, keys, order, places, known):
    """Fill ``out``, and of each run its partition and origin in one number, where it begins and ends, and its spans.

    ``places`` and ``known`` are zeros.
    """
    count = table.shape[1]
    for i in range(count):
        high, low = table[TRACE_HIGH, i], table[TRACE_LOW, i]
        slot = np.int64(np.uint64(high ^ low) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)) & (len(known) - 1)
        # No trace has an id of zeros.
        if known[slot, 0] != high or known[slot, 1] != low:
            known[slot, 0], known[slot, 1], known[slot, 2] = high, low, _partition(high, low, partitions)
        keys[i] = known[slot, 2] * origins + origin_of[table[ORIGIN, i]]
        places[keys[i] + 1] += 1
    for key in range(1, len(places)):
        places[key] += places[key - 1]
    for i in range(count):
        order[places[keys[i]]] = i
        places[keys[i]] += 1
    o = run_count = start = sent = 0
    for k in range(count):
        i = order[k]
        at, end = table[RAW_AT, i], table[RAW_END, i]
        out[o] = _TAG
        o += 1
        size = end - at
        while size > 127:
            out[o] = size & 127 | 128
            size >>= 7
            o += 1
        out[o] = size
        o = copied(out, o + 1, buffer, at, end)
        sent += 1
        if k + 1 == count or keys[order[k + 1]] != keys[i] or o - start >= _RUN_BYTES:
            runs[run_count, 0], runs[run_count, 1], runs[run_count, 2], runs[run_count, 3] = keys[i], start, o, sent
            run_count += 1
            start, sent = o, 0
    return run_count


@uncounted
def _partition(high, low, partitions):
    """``tracecore.partition.partition_of``: murmur2 of the id in lowercase hex."""
    mask = np.int64(0xFFFFFFFF)
    h = np.int64(_HEX_SEED)
    for word in range(8):
        half = high if word < 4 else low
        pair = half >> (48 - 16 * (word % 4))
        k = np.int64(0)
        for digit in range(4):
            value = pair >> (12 - 4 * digit) & 15
            k |= (value + 48 if value < 10 else value + 87) << (8 * digit)
        k = k * _M & mask
        k = (k ^ k >> 24) * _M & mask
        h = (h * _M & mask) ^ k
    h = (h ^ h >> 13) * _M & mask
    h ^= h >> 15
    return (h & 0x7FFFFFFF) % partitions
