"""How often a service fails and how much it is asked, per window, against its own past.

Errors: the failed spans of the last minute are more than the learned share explains (Chernoff's exponent of a
binomial tail, over the learned dispersion), and a share that matters. Traffic of a service that others call follows
its callers and is not judged here (see ``dependencies``); of a service at the edge, the last minute's requests are
held against the last half hour's, and a drop must be sudden: traffic that falls at night falls by some per cent a
minute, which the level follows. When everything falls silent at once, the input has a gap, and nobody dropped.

Assumes counts of a minute near to Poisson, up to the learned dispersion. Cold start: ``MIN_WINDOWS`` windows.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from stream.detection.hour_of_day import HourProfiles
from stream.detection.recent import Recent
from stream.detection.round_merger import WholeWindow
from stream.detection.series import nats_above
from tracecore.span import ONE_SPAN_MILLI, SpanKind

_RECEIVING = (SpanKind.SERVER, SpanKind.CONSUMER)

#: Windows pooled: a minute.
POOL_WINDOWS = 6
#: Windows learned before anything is judged: two minutes for errors, five for traffic.
MIN_ERROR_WINDOWS, MIN_TRAFFIC_WINDOWS = 12, 30
#: Memory of the levels in windows: half an hour for errors, ten minutes for traffic.
ERROR_MEMORY, TRAFFIC_MEMORY = 180.0, 60.0
MAX_DISPERSION = 50.0
#: Operations whose share of failures is remembered, those asked for last.
MAX_OPERATIONS = 50_000
#: A level that did not fit for this many windows (half an hour) is the new level.
NEW_NORMAL_WINDOWS = 180
#: An error share is never believed to be below this: one failure in a thousand is nobody's incident.
MIN_ERROR_SHARE = 0.001


@dataclass(frozen=True, slots=True)
class RateSettings:
    """When a rate is off; all of it must hold."""

    min_surprise: float = 14.0
    #: Failures in the last minute, and their share.
    min_errors: float = 5.0
    min_error_share: float = 0.05
    #: Traffic below this part of the usual is a drop, above this multiple a surge ...
    drop_to: float = 0.2
    surge_to: float = 5.0
    #: ... where a minute usually has at least this many requests (a surge: has).
    min_requests: float = 30.0


_DEFAULT = RateSettings()


@dataclass(frozen=True, slots=True)
class RateVerdict:
    """A rate that is off, over the last minute. ``observed`` and ``usual`` are a share, or requests a second."""

    kind: Literal["error_rate", "traffic_drop", "traffic_surge"]
    service: str
    operation: str
    observed: float
    usual: float
    count: float
    sample: str = ""


@dataclass(slots=True)
class _Errors:
    windows: int = 0
    share: float = 0.0
    dispersion: float = 1.0
    recent: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=POOL_WINDOWS))


@dataclass(slots=True)
class _Traffic:
    windows: int = 0
    #: Requests a window, and how much their count varies beyond Poisson.
    level: float = 0.0
    dispersion: float = 1.0
    off_windows: int = 0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=POOL_WINDOWS))


class Rates:
    """Every operation's share of failures, and every edge service's traffic."""

    def __init__(
        self,
        settings_of: Callable[[str], RateSettings] = lambda service: _DEFAULT,
        hours: HourProfiles | None = None,
    ) -> None:
        """``settings_of`` has the knobs of a service."""
        self._settings_of = settings_of
        self._hours = hours or HourProfiles()
        self._errors: Recent[tuple[str, str], _Errors] = Recent(MAX_OPERATIONS, _Errors)
        self._traffic: dict[str, _Traffic] = {}

    def judge(self, window: WholeWindow) -> list[RateVerdict]:
        """What is off, by service and operation; then learn from the window. O(operations)."""
        return [*self._judge_errors(window), *self._judge_traffic(window)]

    def _judge_errors(self, window: WholeWindow) -> list[RateVerdict]:
        found: list[RateVerdict] = []
        for (service, operation, kind), now in sorted(window.operations.items()):
            if kind not in _RECEIVING:
                continue  # a failed call is its callee's failure, or shows as this service's own request failing
            count, failed = now.count_milli / ONE_SPAN_MILLI, now.error_milli / ONE_SPAN_MILLI
            past = self._errors.of((service, operation))
            past.recent.append((count, failed))
            pooled, errors = (sum(column) for column in zip(*past.recent, strict=True))
            hour = self._hours.of("errors", service, operation)
            usual = max(past.share, MIN_ERROR_SHARE, hour.usual(window.end_ns) or 0.0)
            hour.learn(window.end_ns, failed, count)
            surprise = nats_above(errors, pooled * usual, pooled) / past.dispersion
            is_known = past.windows >= MIN_ERROR_WINDOWS
            settings = self._settings_of(service)
            if (
                is_known
                and surprise >= settings.min_surprise
                and errors >= max(settings.min_errors, settings.min_error_share * pooled)
                and failed > 0
            ):
                found.append(RateVerdict("error_rate", service, operation, errors / pooled, usual, errors, now.failed))
            elif count > 0 and (not is_known or surprise < settings.min_surprise / 2):
                past.windows += 1
                expected = count * usual
                rate = max(1 / ERROR_MEMORY, 1 / past.windows)
                if is_known:
                    square = min((failed - expected) ** 2 / expected, MAX_DISPERSION)
                    past.dispersion = max(past.dispersion + (square - past.dispersion) / ERROR_MEMORY, 1.0)
                past.share += rate * (failed / count - past.share)
        return found

    def _judge_traffic(self, window: WholeWindow) -> list[RateVerdict]:
        requests = edge_requests(window)
        if not window.operations or not window.is_whole or window.skipped:
            # A gap, or a part of the picture: silence in it means nothing, and what was pooled is stale.
            for past in self._traffic.values():
                past.recent.clear()
            return []
        for service, count in requests.items():
            if count > 0:
                self._traffic.setdefault(service, _Traffic())
        verdicts = [
            self._traffic_verdict(name, past, requests.get(name, 0.0), window.end_ns)
            for name, past in self._traffic.items()
        ]
        return [verdict for verdict in verdicts if verdict is not None]

    def _traffic_verdict(self, service: str, past: _Traffic, count: float, now_ns: int) -> RateVerdict | None:
        settings = self._settings_of(service)
        past.recent.append(count)
        pooled, windows = sum(past.recent), len(past.recent)
        # What this hour brings every day, or lacks, is usual now.
        most, least = self._hours.of("most", service), self._hours.of("least", service)
        high = max(past.level, most.usual(now_ns) or 0.0) * windows
        low = past.level * windows
        if (lowest := least.usual(now_ns)) is not None:
            low = min(low, -lowest * windows)
        most.learn(now_ns, count, 1.0)
        least.learn(now_ns, -count, 1.0)
        verdict: RateVerdict | None = None
        if past.windows >= MIN_TRAFFIC_WINDOWS and windows == POOL_WINDOWS:
            usual = low if pooled < low else high
            seconds = windows * 10.0
            if _poisson_nats(pooled, usual) / past.dispersion >= settings.min_surprise:
                if pooled <= settings.drop_to * low and low >= settings.min_requests:
                    verdict = RateVerdict("traffic_drop", service, "", pooled / seconds, low / seconds, pooled)
                elif pooled >= settings.surge_to * high and pooled >= settings.min_requests:
                    verdict = RateVerdict("traffic_surge", service, "", pooled / seconds, high / seconds, pooled)
        past.off_windows = past.off_windows + 1 if verdict else 0
        if verdict is None or past.off_windows > NEW_NORMAL_WINDOWS:
            past.windows += 1
            expected = max(past.level, 0.1)
            if past.windows > MIN_TRAFFIC_WINDOWS:
                square = min((count - expected) ** 2 / expected, MAX_DISPERSION)
                past.dispersion = max(past.dispersion + (square - past.dispersion) / TRAFFIC_MEMORY, 1.0)
            past.level += max(1 / TRAFFIC_MEMORY, 1 / past.windows) * (count - past.level)
        return verdict


def edge_requests(window: WholeWindow) -> dict[str, float]:
    """Requests that came to each service from no service that is traced."""
    requests: dict[str, float] = {}
    for (service, _, kind), now in window.operations.items():
        if kind in _RECEIVING:
            requests[service] = requests.get(service, 0.0) + now.count_milli / ONE_SPAN_MILLI
    for (_, callee, _), hop in window.hops.items():
        if callee in requests:
            requests[callee] -= hop.count_milli / ONE_SPAN_MILLI
    # Where nearly all are called by others, the rest are calls whose caller's span came in another window.
    return {service: count for service, count in requests.items() if count > 0.5}


def _poisson_nats(count: float, expected: float) -> float:
    """Chernoff's exponent of a Poisson tail, on either side."""
    if expected <= 0:
        return 0.0
    return count * math.log(count / expected) - count + expected if count > 0 else expected
