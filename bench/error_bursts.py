"""Bursts of failing requests in a recording, and whether alerts named where they began in time.

A burst: within a minute at least five requests of a service fail, and a fifth of all it had. It began in the service of
the deepest failed span below most of those requests. It is named if an error alert on that service was firing 15 s of
event time after its fifth failure at the latest.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tracecore.span import Span, SpanKind, StatusCode

MIN_FAILURES, MIN_SHARE, WITHIN_S = 5, 0.2, 60.0
#: How long after the fifth failure an alert may fire.
PATIENCE_S = 15.0

_RECEIVING = (SpanKind.SERVER, SpanKind.CONSUMER)


@dataclass(frozen=True, slots=True)
class Burst:
    """Unix seconds: of its first failure, of the one that made it a burst, of its last."""

    service: str
    began_in: str
    first_s: float
    is_burst_s: float
    last_s: float
    failures: int


class Requests:
    """The requests of a recording, as far as bursts need them. It is read twice: ``add``, then ``add_links``."""

    def __init__(self) -> None:
        self._ends_s: dict[str, dict[bytes, float]] = defaultdict(dict)
        self._failed: dict[bytes, dict[bytes, Span]] = defaultdict(dict)
        self._parents: dict[bytes, dict[bytes, bytes]] = defaultdict(dict)

    @property
    def has_failures(self) -> bool:
        """False if there is nothing to read a second time for."""
        return bool(self._failed)

    def add(self, spans: Iterable[Span]) -> None:
        """Take in spans in any order, and any number of times."""
        for span in spans:
            if span.kind in _RECEIVING:
                self._ends_s[span.service][span.span_id] = span.end_ns / 1e9
            if span.status == StatusCode.ERROR:
                self._failed[span.trace_id][span.span_id] = span

    def add_links(self, spans: Iterable[Span]) -> None:
        """Who is whose parent, in traces with failures: one that failed may stand below one that did not."""
        for span in spans:
            if span.trace_id in self._failed:
                self._parents[span.trace_id][span.span_id] = span.parent_span_id

    def bursts(self) -> list[Burst]:
        """Every burst, by its time."""
        failures: dict[str, list[tuple[float, str]]] = defaultdict(list)
        for trace_id, failed in self._failed.items():
            origins = _origins(failed, self._parents[trace_id])
            for span in failed.values():
                if span.kind in _RECEIVING:
                    failures[span.service].append((span.end_ns / 1e9, origins[span.span_id].service))
        found = [
            burst
            for service, failed in failures.items()
            for burst in _bursts(service, sorted(failed), sorted(self._ends_s[service].values()))
        ]
        return sorted(found, key=lambda burst: (burst.is_burst_s, burst.service))


def delay_s(burst: Burst, alerts: Sequence[Mapping[str, object]]) -> float | None:
    """How long after the burst was one an error alert fired where it began; below 0 if before; None if too late.

    ``alerts`` as the scoring script reads them.
    """
    delays = []
    for alert in alerts:
        fired_s, ends_s = float(str(alert["fired_at"])), alert["ends_at"]
        is_over = ends_s is not None and float(str(ends_s)) < burst.first_s
        if alert["service"] == burst.began_in and alert["kind"] == "error" and not is_over:
            delays.append(fired_s - burst.is_burst_s)
    earliest = min(delays, default=None)
    return earliest if earliest is not None and earliest <= PATIENCE_S else None


def _origins(failed: Mapping[bytes, Span], parents: Mapping[bytes, bytes]) -> dict[bytes, Span]:
    """For each failed span the deepest failed one below it, or itself; of two, the one that ended first."""
    origins: dict[bytes, tuple[int, float, Span]] = {}
    for span in failed.values():
        above, depth = span.span_id, 0
        while above and depth < len(parents) + 1:  # parents may stand in a circle
            if above in failed:
                best = origins.get(above)
                if best is None or (depth, -span.end_ns) > best[:2]:
                    origins[above] = depth, -span.end_ns, span
            above, depth = parents.get(above, b""), depth + 1
    return {span_id: span for span_id, (_, _, span) in origins.items()}


def _bursts(service: str, failures: list[tuple[float, str]], ends_s: list[float]) -> list[Burst]:
    found: list[Burst] = []
    window: deque[tuple[float, str]] = deque()
    requests: deque[float] = deque()
    coming = iter(ends_s)
    upcoming = next(coming, None)
    for at_s, origin in failures:
        window.append((at_s, origin))
        while upcoming is not None and upcoming <= at_s:
            requests.append(upcoming)
            upcoming = next(coming, None)
        while window[0][0] <= at_s - WITHIN_S:
            window.popleft()
        while requests and requests[0] <= at_s - WITHIN_S:
            requests.popleft()
        if len(window) < MIN_FAILURES or len(window) < MIN_SHARE * len(requests):
            continue
        began_in = Counter(name for _, name in window).most_common(1)[0][0]
        last = found[-1] if found else None
        if last is not None and last.began_in == began_in and window[0][0] <= last.last_s:
            found[-1] = Burst(service, began_in, last.first_s, last.is_burst_s, at_s, last.failures + 1)
        else:
            found.append(Burst(service, began_in, window[0][0], at_s, at_s, len(window)))
    return found
