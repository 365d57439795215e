"""Spans of many traces learned by compiled code, as long as none of them may be slow.

``SlowSpans`` and ``AnsweredCalls`` are what is meant. What may be slow is only recognized here, by bounds that no slow
span stays below; to judge it is theirs. Compiling is numba's, as in ``tracecore.forest``.
"""

import math
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from stream.detection.log_baseline import ALPHA, MIN_COUNT, MIN_SIGMA, WINSOR_SIGMAS
from tracecore.analysed import AnalysedSpans
from tracecore.compiling import uncounted

_MIN_VARIANCE = MIN_SIGMA**2
#: What rounding may take from a bound.
_SLACK = 1e-9

_warm = threading.Event()

Array = np.ndarray[Any, Any]


class Baselines(NamedTuple):
    """The state of ``LogBaseline`` by series: an operation's number twice, plus one for its gap."""

    counts: Array
    levels: Array
    variances: Array


class Bounds(NamedTuple):
    """By operation what a slow span reaches at least, all of it: see ``SlowSpanSettings``."""

    min_counts: Array
    min_scores: Array
    min_log_ratios: Array
    floors_ns: Array


class SlowShares(NamedTuple):
    """In what share of its last traces something was slow; 0 if it was not of late.

    By series; by service, of its own time; and by hop, a row of ``hops``: numbers of the caller's and its own service.
    """

    series: Array
    services: Array
    hops: Array
    by_hop: Array
    #: How fast shares are followed, and below what they are forgotten.
    rate: float
    least: float


class UsualSpans:
    """What the traces of one analysis show to who judges durations."""

    def __init__(self, spans: AnalysedSpans, traces: Sequence[int]) -> None:
        """``traces`` are numbers of those to judge, in their order."""
        self.spans = spans
        self.traces = np.array(traces, np.int64)

    @cached_property
    def answered(self) -> Array:
        """True for calls that a server's span answered."""
        spans = self.spans
        answered = np.zeros(len(spans.kinds), np.bool_)
        answered[spans.parents[spans.is_receiving & (spans.parents >= 0)]] = True
        return answered

    @cached_property
    def own_times(self) -> Array:
        """Self times to judge, 0 for none: what an answered call waits for is its callee's."""
        return np.where(self.spans.is_calling & self.answered, 0, self.spans.self_times)

    @cached_property
    def series(self) -> list[int]:
        """The series that have something to judge."""
        spans = self.spans
        is_judged_trace = np.zeros(len(spans.first) - 1, np.bool_)
        is_judged_trace[self.traces] = True
        is_judged = np.repeat(is_judged_trace, np.diff(spans.first))
        used = np.zeros(2 * len(spans.operations.keys), np.bool_)
        used[2 * spans.operations.of[is_judged & (self.own_times > 0)]] = True
        used[2 * spans.operations.of[is_judged & (spans.gaps > 0)] + 1] = True
        return np.nonzero(used)[0].tolist()

    def learned(self, start: int, baselines: Baselines, bounds: Bounds, shares: SlowShares) -> int:
        """Learn from position ``start`` on, until a trace may be slow; its position, or how many traces there are."""
        spans = self.spans
        return int(
            _learn(
                self.traces, start, spans.first, spans.operations.of, spans.services, spans.parents, self.own_times,
                spans.gaps, *baselines, *bounds, *shares, *self._undo,
            )
        )  # fmt: skip

    @cached_property
    def _undo(self) -> tuple[Array, Array]:
        longest = int(np.diff(self.spans.first).max(initial=0))
        return np.zeros((2 * longest, 3), np.int64), np.zeros((2 * longest, 2), np.float64)

    def follow_answers(self, operations: Array, shares: Array, rate: float) -> None:
        """Bring shares of answered calls up to date; ``operations`` has a number a span, of a NaN nothing is known."""
        _follow_answers(self.traces, self.spans.first, self.spans.is_calling, self.answered, operations, shares, rate)


def log_ratio(ratio: float) -> float:
    """A ratio as a bound on a difference of logarithms."""
    return math.log(ratio) - _SLACK if ratio > 0 else -math.inf


def is_warm() -> bool:
    """True once ``warm_up`` is done: from then on nothing waits for the compiler."""
    return _warm.is_set()


def warm_up() -> None:
    """Compile, or load what was compiled."""
    none, flags, numbers = np.zeros(0, np.int64), np.zeros(0, np.bool_), np.zeros(0)
    first = np.zeros(1, np.int64)
    _learn(
        none, 0, first, none, none, none, none, none, none, numbers, numbers, none, numbers, numbers, none, numbers,
        numbers, np.zeros((0, 2), np.int64), numbers, 0.0, 0.0, np.zeros((0, 3), np.int64), np.zeros((0, 2)),
    )  # fmt: skip
    _follow_answers(none, first, flags, flags, none, numbers, 0.0)
    _warm.set()


@njit(cache=True, nogil=True)
def _learn(
    traces, start, first, operations, services, parents, own_times, gaps, counts, levels, variances,
    min_counts, min_scores, min_log_ratios, floors_ns, series_shares, service_shares, hops, hop_shares,
    share_rate, least_share, undo_places, undo_values,
):  # fmt: skip
    is_followed = len(hops) > 0 or np.any(series_shares > 0) or np.any(service_shares > 0)
    # The last trace in which something was followed, by what it was: it counts once a trace.
    series_seen, service_seen = np.full(len(series_shares), -1, np.int64), np.full(len(service_shares), -1, np.int64)
    hop_seen = np.full(len(hops), -1, np.int64)
    for position in range(start, len(traces)):
        low, high = first[traces[position]], first[traces[position] + 1]
        learned = 0
        for i in range(low, high):
            operation = operations[i]
            for part in range(2):
                taken_ns = own_times[i] if part == 0 else gaps[i]
                if taken_ns <= 0:
                    continue
                series = 2 * operation + part
                log_ns = math.log(taken_ns)
                if (
                    counts[series] >= min_counts[operation]
                    and taken_ns >= floors_ns[operation]
                    and _may_be_slow(
                        log_ns - levels[series], variances[series], min_scores[operation], min_log_ratios[operation]
                    )
                ):
                    # As if this trace had not been looked at.
                    for k in range(learned - 1, -1, -1):
                        back = undo_places[k, 0]
                        counts[back] = undo_places[k, 1]
                        levels[back], variances[back] = undo_values[k, 0], undo_values[k, 1]
                    return position
                undo_places[learned, 0], undo_places[learned, 1], undo_places[learned, 2] = series, counts[series], i
                undo_values[learned, 0], undo_values[learned, 1] = levels[series], variances[series]
                learned += 1
                _learn_log(series, log_ns, counts, levels, variances)
        if not is_followed:
            continue
        for k in range(learned):
            series, i = undo_places[k, 0], undo_places[k, 2]
            _follow(series, position, series_shares, series_seen, share_rate, least_share)
            if series % 2 == 0:
                _follow(services[i], position, service_shares, service_seen, share_rate, least_share)
                continue
            for hop in range(len(hops)):
                if hops[hop, 0] == services[parents[i]] and hops[hop, 1] == services[i]:
                    _follow(hop, position, hop_shares, hop_seen, share_rate, least_share)
    return len(traces)


@uncounted
def _follow(place, position, shares, seen, rate, least):
    """``slow_spans._follow``, of what was not slow this time."""
    if shares[place] > 0 and seen[place] != position:
        seen[place] = position
        share = shares[place] + rate * (0 - shares[place])
        shares[place] = share if share >= least else 0.0


@uncounted
def _may_be_slow(above, variance, min_score, min_log_ratio):
    if above <= 0 or above < min_log_ratio:
        return False
    sigma = max(math.sqrt(variance), MIN_SIGMA)
    return above >= min_score * sigma * (1 - _SLACK)


@uncounted
def _learn_log(series, x, counts, levels, variances):
    """``LogBaseline.learn_log`` of one with the defaults: the same operations in the same order, to the last bit."""
    count = counts[series] + 1
    counts[series] = count
    if count == 1:
        levels[series] = x
        return
    level, variance = levels[series], variances[series]
    delta = x - level
    if count > MIN_COUNT:
        reach = WINSOR_SIGMAS * (math.sqrt(variance) if variance > _MIN_VARIANCE else MIN_SIGMA)
        if delta > reach:
            delta = reach
        elif delta < -reach:
            delta = -reach
    weight = 1 / count
    if weight < ALPHA:
        weight = ALPHA
    levels[series] = level + weight * delta
    variances[series] = (1 - weight) * (variance + weight * delta * delta)


@uncounted
def _follow_answers(traces, first, is_calling, answered, operations, shares, rate):
    for t in range(len(traces)):
        for i in range(first[traces[t]], first[traces[t] + 1]):
            if is_calling[i]:
                now = 1.0 if answered[i] else 0.0
                share = shares[operations[i]]
                shares[operations[i]] = now if math.isnan(share) else share + rate * (now - share)
