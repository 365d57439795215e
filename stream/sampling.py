"""Which closed traces are kept: tail sampling, after the statistics were taken.

Errors, slow and anomalous traces and those with a dependency not seen before are always kept; of the rest a share,
chosen by the trace id alone, so that every worker, every revision and every replay chooses the same.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from tracecore.buckets import Buckets, bucket_of, quantile
from tracecore.closed_trace import ClosedTrace

#: A root operation is judged slow against its own past only after this many traces.
MIN_TRACES = 100
#: Why a trace is kept where the rule keeps all.
KEPT_BY_RULE = "all"
#: All that a trace may be kept by; "": it is not.
KEPT_BY = ("", KEPT_BY_RULE, "error", "anomaly", "new_dependency", "slow", "share")
#: Root operations and dependencies that a partition remembers, at most.
MAX_REMEMBERED = 10_000
#: Counts are halved at this many: what was slow last week does not decide what is slow now.
_HALVE_AT = 10_000
#: The threshold is computed anew after this many traces, since a quantile costs more than a look-up.
_REFRESH_EVERY = 50


@dataclass(frozen=True, slots=True)
class SamplingRule:
    """What to keep; ``share`` 1 keeps everything and switches sampling off for those services."""

    share: float = 1.0
    #: Share by the root's service, where it differs.
    shares: Mapping[str, float] = field(default_factory=dict)
    #: A trace above this quantile of its root operation's durations is slow.
    slow_quantile: float = 0.99

    def share_of(self, service: str) -> float:
        """The share of a root service's ordinary traces to keep."""
        return self.shares.get(service, self.share)


class Sampler:
    """Decides for the traces of one partition; remembers what their roots' durations and dependencies were."""

    def __init__(self, rule: SamplingRule) -> None:
        self._rule = rule
        #: True if every trace is kept, whatever it is: then nothing need be learned, and nobody be asked.
        self.keeps_all = rule.share >= 1 and all(share >= 1 for share in rule.shares.values())
        self._roots: OrderedDict[tuple[str, str], _Durations] = OrderedDict()
        self._dependencies: OrderedDict[tuple[str, str], None] = OrderedDict()

    def sampled_by(self, trace: ClosedTrace, is_anomalous: bool, kept_by: str) -> str:
        """Why ``trace`` is kept: "all", "error", "anomaly", "new_dependency", "slow" or "share"; or "": it is not.

        ``kept_by`` is what an earlier revision was kept by, or empty: what was kept once stays kept.
        """
        if self.keeps_all:
            return KEPT_BY_RULE
        is_slow = self._is_slow(trace)
        is_new = self._has_new_dependency(trace)
        share = self._rule.share_of(trace.root_service)
        if share >= 1:
            return KEPT_BY_RULE
        if kept_by:
            return kept_by
        if trace.error_count:
            return "error"
        if is_anomalous:
            return "anomaly"
        if is_new:
            return "new_dependency"
        if is_slow:
            return "slow"
        return "share" if is_in_share(trace.trace_id, share) else ""

    def _is_slow(self, trace: ClosedTrace) -> bool:
        key = (trace.root_service, trace.root_name)
        durations = self._roots.get(key)
        if durations is None:
            durations = self._roots[key] = _Durations()
            if len(self._roots) > MAX_REMEMBERED:
                self._roots.popitem(last=False)
        return durations.is_above(trace.duration_ns, self._rule.slow_quantile)

    def _has_new_dependency(self, trace: ClosedTrace) -> bool:
        is_new = False
        for link in trace.links:
            key = (link.caller, link.callee)
            if key in self._dependencies:
                self._dependencies.move_to_end(key)
            else:
                is_new = True
                self._dependencies[key] = None
        while len(self._dependencies) > MAX_REMEMBERED:
            self._dependencies.popitem(last=False)
        return is_new


def is_in_share(trace_id: bytes, share: float) -> bool:
    """True for the fraction ``share`` of trace ids, by their last 56 bits.

    Source: OpenTelemetry, TraceState probability sampling: the rightmost 56 bits of a trace id are its randomness.
    """
    return int.from_bytes(trace_id[-7:], "big") >= (1 - share) * (1 << 56)


class _Durations:
    """A root operation's past durations, and the threshold that they set."""

    __slots__ = ("_buckets", "_count", "_since", "_threshold_ns")

    def __init__(self) -> None:
        self._buckets: Buckets = {}
        self._count = 0
        self._since = _REFRESH_EVERY
        self._threshold_ns = float("inf")

    def is_above(self, duration_ns: int, q: float) -> bool:
        """Judge, then learn."""
        if self._count >= MIN_TRACES and self._since >= _REFRESH_EVERY:
            self._threshold_ns = quantile(self._buckets, q)
            self._since = 0
        above = duration_ns > self._threshold_ns
        bucket = bucket_of(duration_ns)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self._count += 1
        self._since += 1
        if self._count >= _HALVE_AT:
            self._buckets = {b: n // 2 for b, n in self._buckets.items() if n > 1}
            self._count = sum(self._buckets.values())
        return above
