"""Static thresholds and service level objectives, judged per window: what people promised, whatever is usual.

A threshold is crossed when the last ``over`` of a service's requests is above (or below) a fixed value. An objective
burns when its error budget goes so fast that it matters, over a long time and still now: by default 14.4 times too
fast for an hour and five minutes, or 6 times for six hours and half an hour.

Source: Google, "The Site Reliability Workbook", chapter 5, multiwindow, multi-burn-rate alerts.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from stream.detection.finding_id import finding_id
from stream.detection.round_merger import WholeWindow
from tracecore.buckets import Buckets, merged, quantile
from tracecore.finding import Finding
from tracecore.span import ONE_SPAN_MILLI, SpanKind
from tracecore.window import WINDOW_NS

Metric = Literal["p50", "p95", "p99", "error_share", "request_rate"]

_RECEIVING = (SpanKind.SERVER, SpanKind.CONSUMER)
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_MINUTE_WINDOWS = 6
#: Burn rate, long and short window in windows of ten seconds.
BURN_RATES = ((14.4, 60 * _MINUTE_WINDOWS, 5 * _MINUTE_WINDOWS), (6.0, 360 * _MINUTE_WINDOWS, 30 * _MINUTE_WINDOWS))
MAX_WINDOWS = 360 * _MINUTE_WINDOWS
#: Failures in the long window below which nothing burns: two of three requests at night are no incident.
MIN_FAILURES = 5.0


@dataclass(frozen=True, slots=True)
class Threshold:
    """``limit`` in ns for quantiles, a share for ``error_share``, requests a second for ``request_rate``."""

    name: str
    service: str
    metric: Metric
    limit: float
    is_upper: bool = True
    over_ns: int = 6 * WINDOW_NS


@dataclass(frozen=True, slots=True)
class Objective:
    """``target`` is the share of requests that must succeed, e.g. 0.999."""

    name: str
    service: str
    target: float


@dataclass(slots=True)
class _Past:
    counts: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=MAX_WINDOWS))
    durations: deque[Buckets] = field(default_factory=lambda: deque(maxlen=60 * _MINUTE_WINDOWS))
    sample: str = ""


class Objectives:
    """The thresholds and objectives in force, and the windows they look back on."""

    def __init__(self, replay_id: str = "") -> None:
        self.thresholds: Sequence[Threshold] = ()
        self.objectives: Sequence[Objective] = ()
        self._replay_id = replay_id
        self._past: dict[str, _Past] = {}

    def judge(self, window: WholeWindow) -> list[Finding]:
        """What is crossed, or burns, as of this window. O(services that are named in a rule)."""
        named = {threshold.service for threshold in self.thresholds}
        for service in sorted(named | {objective.service for objective in self.objectives}):
            self._note(service, window)
        found = [self._crossed(threshold, window) for threshold in self.thresholds]
        found += [self._burning(objective, window) for objective in self.objectives]
        return [finding for finding in found if finding is not None]

    def _note(self, service: str, window: WholeWindow) -> None:
        past = self._past.setdefault(service, _Past())
        seen = [now for now in window.operations.values() if now.service == service and now.kind in _RECEIVING]
        requests = sum(now.count_milli for now in seen) / ONE_SPAN_MILLI
        past.counts.append((requests, sum(now.error_milli for now in seen) / ONE_SPAN_MILLI))
        past.durations.append(merged(now.duration for now in seen))
        past.sample = max((now.failed or now.slowest for now in seen), default=past.sample)

    def _crossed(self, threshold: Threshold, window: WholeWindow) -> Finding | None:
        past = self._past[threshold.service]
        windows = max(threshold.over_ns // WINDOW_NS, 1)
        requests, failed = _summed(past, windows)
        if len(past.counts) < windows or not (requests or threshold.metric == "request_rate"):
            return None
        unit = "1/s"
        if threshold.metric in _QUANTILES:
            recent = list(past.durations)[-windows:]
            value, unit = quantile(merged(recent), _QUANTILES[threshold.metric]), "ns"
        elif threshold.metric == "error_share":
            value, unit = failed / requests, "ratio"
        else:
            value = requests / (windows * WINDOW_NS / 1e9)
        if value == threshold.limit or (value > threshold.limit) != threshold.is_upper:
            return None
        side = "above" if threshold.is_upper else "below"
        message = f"{threshold.metric} is {value:.4g}, {side} the limit of {threshold.limit:.4g} {unit}"
        labels = {"rule": threshold.name, "metric": threshold.metric}
        return self._finding("threshold", threshold.service, labels, value, threshold.limit, unit, message, window)

    def _burning(self, objective: Objective, window: WholeWindow) -> Finding | None:
        past, budget = self._past[objective.service], 1 - objective.target
        for rate, long_windows, short_windows in BURN_RATES:
            burns = []
            for windows in (long_windows, short_windows):
                requests, failed = _summed(past, windows)
                burns.append(failed / requests / budget if requests else 0.0)
            if min(burns) >= rate and _summed(past, long_windows)[1] >= MIN_FAILURES:
                message = f"the error budget of {objective.name} goes {burns[0]:.1f} times too fast"
                labels = {"rule": objective.name}
                return self._finding("slo_burn", objective.service, labels, burns[0], 1.0, "ratio", message, window)
        return None

    def _finding(
        self,
        kind: Literal["threshold", "slo_burn"],
        service: str,
        labels: dict[str, str],
        observed: float,
        baseline: float,
        unit: str,
        message: str,
        window: WholeWindow,
    ) -> Finding:
        return Finding(
            finding_id=finding_id(kind, labels["rule"], service, window.end_ns),
            kind=kind,
            service=service,
            operation="",
            at_ns=window.start_ns,
            arrival_ns=window.arrival_ns,
            observed=observed,
            unit=unit,
            baseline=baseline,
            message=message,
            trace_id=self._past[service].sample,
            labels=labels,
            replay_id=self._replay_id,
        )


def _summed(past: _Past, windows: int) -> tuple[float, float]:
    recent = list(past.counts)[-windows:]
    return sum(count for count, _ in recent), sum(failed for _, failed in recent)
