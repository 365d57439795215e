"""Spans of one request by trace, compiled: what an assembler takes trace by trace, not span by span.

Compiling is numba's, as in ``forest``.
"""

import threading
from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit

from tracecore import otlp_scan
from tracecore.grouped_spans import GroupedSpans
from tracecore.otlp_scan import Scanned, slots_for
from tracecore.span import SpanKind, StatusCode
from tracecore.span_columns import (
    KIND,
    PARENT_ID,
    ROWS,
    SPAN_ID,
    TRACE_HIGH,
    TRACE_LOW,
    Origin,
    SpanColumns,
)

# In the order of the rows from KIND to RAW_END.
_SCANNED = np.array([
    otlp_scan.KIND, otlp_scan.START_NS, otlp_scan.END_NS, otlp_scan.STATUS, otlp_scan.COUNT_MILLI, otlp_scan.NAME,
    otlp_scan.SCOPE, otlp_scan.RAW_AT, otlp_scan.RAW_END,
])  # fmt: skip
_SERVER, _CONSUMER, _ERROR = int(SpanKind.SERVER), int(SpanKind.CONSUMER), int(StatusCode.ERROR)
_SCANNED_STATUS = otlp_scan.STATUS

_warm = threading.Event()

Array = np.ndarray[Any, Any]


def grouped(found: Scanned, names: Sequence[str], origins: Sequence[Origin]) -> list[GroupedSpans]:
    """The spans of each request; ``names`` and ``origins`` are what their numbers mean. O(spans)."""
    count = len(found.trace_ids)
    table, keys, groups = np.empty((ROWS, count), np.int64), np.empty(count, np.int64), np.empty((4, count), np.int64)
    first_group, failed = np.zeros(len(found.first), np.int64), np.zeros(len(found.plain), np.bool_)
    _group(
        found.first, found.trace_ids, found.span_ids, found.parent_ids, found.spans, table, keys, groups, first_group,
        failed,
        np.full((2, slots_for(count)), -1, np.int32),
    )  # fmt: skip
    bounds = first_group.tolist()
    firsts, lows, has_root, has_twins = groups[:, : bounds[-1]]
    # A row of bytes is an opaque value to numpy, which gives it as bytes.
    trace_ids = found.trace_ids.view("V16")[firsts, 0].tolist()
    starts = lows.tolist()
    starts.append(count)
    columns, all_keys = SpanColumns(table, names, origins, found.joined), array("q", keys.tobytes())
    all_groups = list(zip(trace_ids, starts, starts[1:], has_root.tolist(), has_twins.tolist(), strict=False))
    return [
        GroupedSpans(columns, all_keys, all_groups[low:high], starts[low], starts[high], has_failed)
        for (low, high), has_failed in zip(pairwise(bounds), failed.tolist(), strict=True)
    ]


def is_warm() -> bool:
    """True once ``warm_up`` is done: from then on nothing waits for the compiler."""
    return _warm.is_set()


def warm_up() -> None:
    """Compile, or load what was compiled."""
    ids = np.zeros((0, 8), np.uint8)
    # Laid out as what is scanned: a part of more columns.
    spans, tables = np.zeros((13, 2), np.int64)[:, :1], np.zeros((0, 8), np.int64)
    found = Scanned(
        b"", np.zeros(1, np.int64), np.zeros(0, np.bool_), np.zeros((0, 16), np.uint8), ids, ids, spans, tables, tables,
        False, False,
    )  # fmt: skip
    grouped(found, [], [])
    _warm.set()


@njit(cache=True, nogil=True)
def _group(first, trace_ids, span_ids, parent_ids, spans, table, keys, groups, first_group, failed, slots):
    """Fill the table and the keys by request and trace; of each group its first span as scanned and its first here,
    whether it has a root, and twins; and of each request its first group, and whether a span failed.
    """
    count, mask = len(keys), slots.shape[1] - 1
    group_of, sizes = np.empty(count, np.int64), np.zeros(count, np.int64)
    highs, lows = np.empty(count, np.int64), np.empty(count, np.int64)
    group_count = 0
    for r in range(len(first) - 1):
        for i in range(first[r], first[r + 1]):
            failed[r] = failed[r] or spans[_SCANNED_STATUS, i] == _ERROR
            highs[i], lows[i] = _integer(trace_ids, i, 0), _integer(trace_ids, i, 8)
            slot = _slot((highs[i] ^ lows[i]) + r, mask)
            while slots[0, slot] >= 0:
                known = groups[0, slots[0, slot]]
                if highs[known] == highs[i] and lows[known] == lows[i] and known >= first[r]:
                    break
                slot = (slot + 1) & mask
            if slots[0, slot] < 0:
                slots[0, slot] = group_count
                groups[0, group_count], groups[2, group_count], groups[3, group_count] = i, 0, 0
                group_count += 1
            group_of[i] = slots[0, slot]
            sizes[group_of[i]] += 1
        first_group[r + 1] = group_count
    at = np.int64(0)
    for group in range(group_count):
        groups[1, group] = at
        at += sizes[group]
        sizes[group] = 0
    for i in range(count):
        group = group_of[i]
        place = groups[1, group] + sizes[group]
        sizes[group] += 1
        span_id, parent_id = _integer(span_ids, i, 0), _integer(parent_ids, i, 0)
        table[TRACE_HIGH, place], table[TRACE_LOW, place] = highs[i], lows[i]
        table[SPAN_ID, place], table[PARENT_ID, place] = span_id, parent_id
        for k in range(len(_SCANNED)):
            table[KIND + k, place] = spans[_SCANNED[k], i]
        if parent_id == 0:
            groups[2, group] = 1
        kind = table[KIND, place]
        key = ~span_id if kind in (_SERVER, _CONSUMER) else span_id
        keys[place] = key
        slot = _slot(key + group, mask)
        while slots[1, slot] >= 0:
            known = slots[1, slot]
            if keys[known] == key and groups[1, group] <= known < place:
                groups[3, group] = 1
                break
            slot = (slot + 1) & mask
        if slots[1, slot] < 0:
            slots[1, slot] = place


@njit(cache=True, nogil=True)
def _integer(ids, i, at):
    """Eight bytes, the first of them the highest."""
    value = np.int64(0)
    for k in range(at, at + 8):
        value = value << 8 | np.int64(ids[i, k])
    return value


@njit(cache=True, nogil=True)
def _slot(key, mask):
    # Fibonacci hashing: ids of some tracers count up.
    return np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
