"""Spans of many traces to sums by window and series, compiled: ``Windows.count`` is what is meant, a span at a time.

It adds up and changes nothing; ``Windows`` adds the sums to what it holds. Compiling is numba's, as in
``tracecore.forest``.
"""

import threading
from typing import Any, NamedTuple

import numpy as np

from tracecore.analysed import AnalysedSpans
from tracecore.buckets import SUB_BITS
from tracecore.compiling import uncounted
from tracecore.window import WINDOW_NS

#: Columns of a window of a tally: its start, its part, and the lowest offset that it rests on.
START_NS, PART, FIRST_OFFSET = range(3)
#: Columns of a series: its window; the number of an operation, or beyond them of a call; sums; the trace with the
#: longest duration, and that with the highest id of those that failed (-1: none).
WINDOW, KEY, SPANS, COUNT_MILLI, ERROR_MILLI, SLOWEST_NS, SLOWEST, FAILED = range(8)
#: Columns of a bucket: its series twice, plus one if it is of the second histogram; its index and its count.
HISTOGRAM, BUCKET, COUNT = range(3)

#: A window's worth of traces ends in few windows; what is strewn over more than this is counted one by one.
_MOST_WINDOWS = 64
#: More than there are buckets.
_BUCKETS = 1 << 12
_SUB_BITS = SUB_BITS
#: Spans for which a thread keeps its room.
_KEPT_ROOM = 1 << 14

_warm = threading.Event()

Array = np.ndarray[Any, Any]


class Counted(NamedTuple):
    """Numbers of traces that were analysed together, in the order of counting, and what is known of each.

    ``high`` and ``low`` are halves of their ids.
    """

    traces: Array
    high: Array
    low: Array
    last_arrivals_ns: Array
    first_offsets: Array


class TallyLimits(NamedTuple):
    """As of ``WindowLimits``, and until when windows were told by a predecessor; nanoseconds."""

    past_ns: int
    future_ns: int
    in_time_ns: int
    told_until_ns: int


class Tally(NamedTuple):
    """Windows, series and buckets in the order of their first span; traces are positions in what was counted.

    ``misdated`` are positions of spans.
    """

    windows: Array
    series: Array
    buckets: Array
    misdated: Array


class _Desk(threading.local):
    """Where a thread counts: memory that is new with every call takes as long to get as the spans take to count."""

    def __init__(self) -> None:
        self.most = -1

    def fit(self, most: int) -> None:
        """Make room for so many spans: a span is of two series at most, and of two buckets of each."""
        if most <= self.most:
            return
        self.most = most = 1 << max(6, most.bit_length())
        self.windows, self.misdated = np.empty((_MOST_WINDOWS, 3), np.int64), np.empty(most, np.int64)
        self.series, self.buckets = np.empty((2 * most, 8), np.int64), np.empty((4 * most, 3), np.int64)
        self.series_slots, self.bucket_slots = np.empty(4 * most, np.int32), np.empty(8 * most, np.int32)


_desk = _Desk()


def tallied(spans: AnalysedSpans, counted: Counted, limits: TallyLimits) -> Tally | None:
    """Sums of the spans of traces that need no repair; None if they are strewn over too many windows. O(spans).

    The arrays are the thread's, until it counts again.
    """
    traces = counted.traces
    most = int((spans.first[traces + 1] - spans.first[traces]).sum())
    calls = spans.calls
    desk = _desk if most <= _KEPT_ROOM else _Desk()
    desk.fit(most)
    # Of the slots a power of two, at least twice what there can be: to clear all that others once needed takes longer.
    used = 1 << max(most - 1, 1).bit_length()
    series_slots, bucket_slots = desk.series_slots[: 4 * used], desk.bucket_slots[: 8 * used]
    series_slots.fill(-1)
    bucket_slots.fill(-1)
    window_count, series_count, bucket_count, misdated_count = _tally(
        traces,
        # Rows of their own: compiled code knows no others.
        np.stack((counted.high, counted.low), axis=1).view(np.uint64).reshape(-1),
        counted.last_arrivals_ns.copy(),
        counted.first_offsets.copy(),
        *limits,
        spans.first, spans.operations.of, len(spans.operations.keys), calls.of, calls.clients, spans.starts, spans.ends,
        spans.self_times, spans.gaps, spans.failed, spans.counts_milli,
        desk.windows, desk.series, desk.buckets, desk.misdated, series_slots, bucket_slots,
    )  # fmt: skip
    if window_count < 0:
        return None
    return Tally(
        desk.windows[:window_count],
        desk.series[:series_count],
        desk.buckets[:bucket_count],
        desk.misdated[:misdated_count],
    )


def is_warm() -> bool:
    """True once ``warm_up`` is done: from then on nothing waits for the compiler."""
    return _warm.is_set()


def warm_up() -> None:
    """Compile, or load what was compiled."""
    none, flags = np.zeros(0, np.int64), np.zeros(0, np.bool_)
    slots = np.full(16, -1, np.int32)
    _tally(
        none, none.astype(np.uint64), none, none, 0, 0, 0, 0, np.zeros(1, np.int64), none, 0, none, none, none, none,
        none, none, flags, none, np.zeros((1, 3), np.int64), np.zeros((0, 8), np.int64), np.zeros((0, 3), np.int64),
        none, slots, slots,
    )  # fmt: skip
    _warm.set()


@uncounted
def _tally(
    traces, trace_ids, last_arrivals, first_offsets, past_ns, future_ns, in_time_ns, told_until_ns,
    first, operations, operation_count, calls, clients, starts, ends, self_times, gaps, failed, counts_milli,
    windows, series, buckets, misdated, series_slots, bucket_slots,
):  # fmt: skip
    window_count = series_count = bucket_count = misdated_count = 0
    for k in range(len(traces)):
        arrival_ns = last_arrivals[k]
        window, start_ns = -1, np.int64(-1)
        for i in range(first[traces[k]], first[traces[k] + 1]):
            end_ns = ends[i]
            if not arrival_ns - past_ns <= end_ns <= arrival_ns + future_ns:
                misdated[misdated_count] = i
                misdated_count += 1
                end_ns = arrival_ns
            if not (start_ns >= 0 and start_ns <= end_ns < start_ns + WINDOW_NS):
                start_ns = end_ns - end_ns % WINDOW_NS
                part = np.int64(0)
                if arrival_ns >= start_ns + WINDOW_NS + in_time_ns:
                    part = (arrival_ns - start_ns) // WINDOW_NS
                window = -1
                if start_ns + (part + 1) * WINDOW_NS > told_until_ns:
                    window = 0
                    while window < window_count and not (
                        windows[window, START_NS] == start_ns and windows[window, PART] == part
                    ):
                        window += 1
                    if window == len(windows):
                        return -1, 0, 0, 0
                    if window == window_count:
                        windows[window, START_NS], windows[window, PART] = start_ns, part
                        windows[window, FIRST_OFFSET] = first_offsets[k]
                        window_count += 1
                    windows[window, FIRST_OFFSET] = min(windows[window, FIRST_OFFSET], first_offsets[k])
            if window < 0:
                continue
            series_count, bucket_count = _observe(
                window, operations[i], ends[i] - starts[i], max(self_times[i], 0), counts_milli[i], failed[i], k,
                trace_ids, series, series_count, series_slots, buckets, bucket_count, bucket_slots,
            )  # fmt: skip
            if calls[i] >= 0:
                client = clients[i]
                series_count, bucket_count = _observe(
                    window, operation_count + calls[i], ends[client] - starts[client],
                    gaps[i] if client != i else np.int64(-1), counts_milli[i], failed[i] or failed[client], k,
                    trace_ids, series, series_count, series_slots, buckets, bucket_count, bucket_slots,
                )  # fmt: skip
    return window_count, series_count, bucket_count, misdated_count


@uncounted
def _observe(
    window, key, duration_ns, second_ns, milli, failed, k, trace_ids,
    series, series_count, series_slots, buckets, bucket_count, bucket_slots,
):  # fmt: skip
    slot = _slot(key * _MOST_WINDOWS + window, len(series_slots) - 1)
    while series_slots[slot] >= 0:
        s = series_slots[slot]
        if series[s, KEY] == key and series[s, WINDOW] == window:
            break
        slot = (slot + 1) & (len(series_slots) - 1)
    if series_slots[slot] < 0:
        series_slots[slot] = series_count
        series[series_count, WINDOW], series[series_count, KEY] = window, key
        series[series_count, SPANS] = series[series_count, COUNT_MILLI] = series[series_count, ERROR_MILLI] = 0
        series[series_count, SLOWEST_NS] = series[series_count, SLOWEST] = series[series_count, FAILED] = -1
        series_count += 1
    s = series_slots[slot]
    series[s, SPANS] += 1
    series[s, COUNT_MILLI] += milli
    if failed:
        series[s, ERROR_MILLI] += milli
        highest = series[s, FAILED]
        if (
            highest < 0
            or trace_ids[2 * k] > trace_ids[2 * highest]
            or (trace_ids[2 * k] == trace_ids[2 * highest] and trace_ids[2 * k + 1] > trace_ids[2 * highest + 1])
        ):
            series[s, FAILED] = k
    if duration_ns > series[s, SLOWEST_NS]:
        series[s, SLOWEST_NS], series[s, SLOWEST] = duration_ns, k
    bucket_count = _count(2 * s, duration_ns, milli, buckets, bucket_count, bucket_slots)
    if second_ns >= 0:
        bucket_count = _count(2 * s + 1, second_ns, milli, buckets, bucket_count, bucket_slots)
    return series_count, bucket_count


@uncounted
def _count(histogram, value, milli, buckets, count, slots):
    # ``buckets.bucket_of``.
    # How many bits it has, halving: a duration has thirty, and most spans count two.
    bits, rest = 0, value
    for step in (32, 16, 8, 4, 2, 1):
        if rest >> step:
            bits += step
            rest >>= step
    bits += rest
    shift = bits - _SUB_BITS - 1
    bucket = (shift << _SUB_BITS) + (value >> shift) if shift > 0 else value
    slot = _slot(histogram * _BUCKETS + bucket, len(slots) - 1)
    while slots[slot] >= 0:
        b = slots[slot]
        if buckets[b, HISTOGRAM] == histogram and buckets[b, BUCKET] == bucket:
            buckets[b, COUNT] += milli
            return count
        slot = (slot + 1) & (len(slots) - 1)
    slots[slot] = count
    buckets[count, HISTOGRAM], buckets[count, BUCKET], buckets[count, COUNT] = histogram, bucket, milli
    return count + 1


@uncounted
def _slot(key, mask):
    # Fibonacci hashing: keys count up.
    return np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
