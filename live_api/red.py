"""Rate, errors, duration: counters of every operation since this process began, from its windows.

A window may come again with more spans (late ones, a crashed worker's second try): what it adds is the difference.
"""

from bisect import bisect_left
from dataclasses import dataclass, field

from tracecore.buckets import Buckets, bounds_of
from tracecore.window import WINDOW_NS, OperationWindow

#: Upper bounds of the histogram, seconds. Those of OpenTelemetry's http.server.request.duration, and two slower ones.
BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0)

#: What has no room of its own adds up under this name.
OTHER = "other"

_BOUNDS_NS = tuple(round(bound * 1e9) for bound in BOUNDS_S)
#: A window that is older than the newest by this much does not come again.
_REMEMBERED_NS = 90 * WINDOW_NS

Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A trace that stands for a count."""

    trace_id: str
    value: float
    time_ns: int


@dataclass(slots=True)
class Operation:
    """Counters of one operation, in thousandths of a span. ``durations`` by bucket, not cumulated; the last is +Inf."""

    count_milli: int = 0
    error_milli: int = 0
    sum_milli_ns: float = 0.0
    durations: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    slowest: dict[int, Exemplar] = field(default_factory=dict)
    failed: Exemplar | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    spans: int
    count_milli: int
    error_milli: int
    duration: Buckets


class Red:
    """Takes windows in, holds ``operations``. At most ``max_operations``, and one more a service for the rest."""

    def __init__(self, max_operations: int) -> None:
        self.operations: dict[Key, Operation] = {}
        self._max_operations = max_operations
        self._seen: dict[int, dict[tuple[Key, int], _Seen]] = {}

    def observe(self, window: OperationWindow) -> None:
        """Add what a window has more than it had when it came before."""
        newest = max(self._seen, default=window.start_ns)
        if window.start_ns < newest - _REMEMBERED_NS:
            return
        for start_ns in [start_ns for start_ns in self._seen if start_ns < newest - _REMEMBERED_NS]:
            del self._seen[start_ns]
        seen = self._seen.setdefault(window.start_ns, {})
        source = (window.key, window.partition)
        before = seen.get(source, _Seen(0, 0, 0, {}))
        if window.spans <= before.spans:
            return
        seen[source] = _Seen(window.spans, window.count_milli, window.error_milli, window.duration)
        self._add(self._operation(window.key), window, before)

    def _operation(self, key: Key) -> Operation:
        operation = self.operations.get(key)
        if operation is None:
            if len(self.operations) >= self._max_operations:
                key = (key[0], OTHER, 0)
            operation = self.operations.setdefault(key, Operation())
        return operation

    def _add(self, operation: Operation, window: OperationWindow, before: _Seen) -> None:
        operation.count_milli += max(0, window.count_milli - before.count_milli)
        operation.error_milli += max(0, window.error_milli - before.error_milli)
        slowest_ns = 0.0
        for bucket, count in window.duration.items():
            added = count - before.duration.get(bucket, 0)
            if added <= 0:
                continue
            low, high = bounds_of(bucket)
            middle_ns = (low + high - 1) / 2
            slowest_ns = max(slowest_ns, middle_ns)
            operation.durations[bisect_left(_BOUNDS_NS, middle_ns)] += added
            operation.sum_milli_ns += added * middle_ns
        end_ns = window.start_ns + WINDOW_NS
        if window.slowest and slowest_ns:
            place = bisect_left(_BOUNDS_NS, slowest_ns)
            operation.slowest[place] = Exemplar(window.slowest, slowest_ns / 1e9, end_ns)
        if window.failed:
            operation.failed = Exemplar(window.failed, 1.0, end_ns)
