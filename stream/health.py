"""The health of services: 0 to 100 for each ten seconds, with what cost points.

    score = 100 - criticality x (errors + latency + alerts), never below 0

    errors    120 x share of failed requests in the window, at most 60: one in two failing is as bad as it gets
    latency   10 for each doubling of the time a service that was named as a cause takes, at most 30
    alerts    20 for a firing critical alert of the service, 10 for a warning; at most 30. An alert about what cost
              points already (errors, latency) adds nothing.
    criticality (resource attribute ``service.criticality``): critical 1.25, high 1.1, medium 1, low 0.75

A score falls at once and climbs by at most ``MAX_CLIMB`` a window, so that it does not flicker. Services without
requests in a window keep what they had; after ``FORGET_WINDOWS`` of that they are no longer told.
"""

import math
from collections.abc import Mapping, Sequence

from stream.alerting.episode import Episode
from stream.detection.round_merger import WholeWindow
from tracecore.health import Health, HealthReason
from tracecore.span import ONE_SPAN_MILLI, SpanKind

MAX_CLIMB = 10
FORGET_WINDOWS = 30
MAX_ERROR_POINTS, MAX_LATENCY_POINTS, MAX_ALERT_POINTS = 60, 30, 30
ALERT_POINTS = {"critical": 20, "warning": 10, "info": 0}
CRITICALITY = {"critical": 1.25, "high": 1.1, "medium": 1.0, "low": 0.75}
#: A share of failures is only told of so many requests; one failure of one request is not "everything fails".
MIN_REQUESTS = 3.0

_RECEIVING = (SpanKind.SERVER, SpanKind.CONSUMER)
#: What windows show by themselves.
_SHOWN_KINDS = ("error", "error_rate", "latency_shift", "slow_span")


class HealthKeeper:
    """The last score of every service."""

    def __init__(self, replay_id: str = "") -> None:
        self._replay_id = replay_id
        self._scores: dict[str, int] = {}
        self._silent_windows: dict[str, int] = {}

    def reports(
        self,
        window: WholeWindow,
        slow: Mapping[str, float],
        firing: Sequence[Episode],
        criticality: Mapping[str, str],
    ) -> list[Health]:
        """The health of each service in a window, by name.

        ``slow`` is the factor by which named services are slower; ``firing`` the episodes under way.
        """
        requests: dict[str, tuple[float, float]] = {}
        for (service, _, kind), now in window.operations.items():
            count, failed = requests.get(service, (0.0, 0.0))
            if kind in _RECEIVING:
                count, failed = count + now.count_milli / ONE_SPAN_MILLI, failed + now.error_milli / ONE_SPAN_MILLI
            requests[service] = count, failed
        for service in requests:
            self._silent_windows[service] = 0
        reports: list[Health] = []
        for service in sorted(self._silent_windows):
            if service not in requests:
                self._silent_windows[service] += 1
                if self._silent_windows[service] > FORGET_WINDOWS:
                    del self._silent_windows[service]
                    self._scores.pop(service, None)
                    continue
            reasons = _reasons(service, requests.get(service, (0.0, 0.0)), slow, firing)
            weight = CRITICALITY.get(criticality.get(service, "medium").lower(), 1.0)
            weighed = tuple(
                HealthReason(reason.reason, round(reason.points * weight), reason.detail) for reason in reasons
            )
            score = max(100 - sum(reason.points for reason in weighed), 0)
            score = min(score, self._scores.get(service, 100) + MAX_CLIMB)
            self._scores[service] = score
            reports.append(Health(service, window.start_ns, score, weighed, self._replay_id))
        return reports


def _reasons(
    service: str, requests: tuple[float, float], slow: Mapping[str, float], firing: Sequence[Episode]
) -> list[HealthReason]:
    reasons: list[HealthReason] = []
    count, failed = requests
    if failed and count >= MIN_REQUESTS:
        points = min(round(120 * failed / count), MAX_ERROR_POINTS)
        reasons.append(HealthReason("errors", points, f"{failed:.0f} of {count:.0f} requests failed"))
    if service in slow:
        points = min(round(10 * math.log2(max(slow[service], 1.0))), MAX_LATENCY_POINTS)
        reasons.append(HealthReason("latency", points, f"{slow[service]:.1f} times as slow as usual"))
    told = {reason.reason for reason in reasons}
    left = MAX_ALERT_POINTS
    for episode in sorted(firing, key=lambda episode: (-ALERT_POINTS[episode.labels["severity"]], episode.fingerprint)):
        kind = episode.labels["kind"]
        if episode.labels["service"] != service or (
            kind in _SHOWN_KINDS and ("latency" if kind in ("latency_shift", "slow_span") else "errors") in told
        ):
            continue
        points = min(ALERT_POINTS[episode.labels["severity"]], left)
        left -= points
        if points:
            reasons.append(HealthReason("alert", points, episode.labels["alertname"]))
    return sorted((reason for reason in reasons if reason.points), key=lambda reason: -reason.points)
