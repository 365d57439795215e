"""Dependencies that appear, and those that vanish though their caller still works.

A caller's calls are held against its own requests that succeeded: a caller that is asked less, or fails, calls less,
and that is no news. A dependency has vanished when the calls that those requests would have made by its past, and did
not, are more than chance explains (Poisson), and three times more than it ever paused before: requests come in kinds,
and kinds in bursts. It is new when a caller that has been known for long calls a service it never called.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from stream.detection.round_merger import WholeWindow
from tracecore.span import ONE_SPAN_MILLI, SpanKind

_RECEIVING = (SpanKind.SERVER, SpanKind.CONSUMER)

MEMORY_WINDOWS = 180.0
#: Windows a dependency was seen in before it can be missed.
MIN_SEEN_WINDOWS = 30


@dataclass(frozen=True, slots=True)
class DependencySettings:
    """When a dependency is new, or has vanished. The knobs are the caller's."""

    #: Windows in which a caller was seen before its dependencies count as known: ten minutes.
    min_windows: int = 60
    #: Calls that should have been made by now, and were not: e^-16 is about one in ten million ...
    missed_calls: float = 16.0
    #: ... and this many times more than the longest pause that ended by itself.
    longest_pauses: float = 3.0


_DEFAULT = DependencySettings()


@dataclass(frozen=True, slots=True)
class DependencyVerdict:
    """A dependency that appeared or vanished; ``usual`` calls of it for each request to the caller."""

    kind: Literal["new_dependency", "vanished_dependency"]
    caller: str
    callee: str
    observed: float
    usual: float
    sample: str = ""


@dataclass(slots=True)
class _Dependency:
    seen_windows: int = 0
    per_request: float = 0.0
    missed: float = 0.0
    longest: float = 0.0


class Dependencies:
    """Who calls whom, and how often for each request."""

    def __init__(self, settings_of: Callable[[str], DependencySettings] = lambda caller: _DEFAULT) -> None:
        self._settings_of = settings_of
        self._callers: dict[str, int] = {}
        self._known: dict[tuple[str, str], _Dependency] = {}

    def judge(self, window: WholeWindow) -> list[DependencyVerdict]:
        """What appeared in the window, or is missed by now; then learn from it."""
        requests: dict[str, float] = {}
        for (service, _, kind), now in window.operations.items():
            if kind in _RECEIVING:
                succeeded = (now.count_milli - now.error_milli) / ONE_SPAN_MILLI
                requests[service] = requests.get(service, 0.0) + succeeded
        calls: dict[tuple[str, str], float] = {}
        samples: dict[tuple[str, str], str] = {}
        for (caller, callee, _), hop in window.hops.items():
            if caller != callee:
                calls[caller, callee] = calls.get((caller, callee), 0.0) + hop.count_milli / ONE_SPAN_MILLI
                samples[caller, callee] = hop.slowest
        found = self._appeared(calls, samples)
        if window.is_whole:
            found += self._vanished(requests, calls)
        for caller in requests:
            self._callers[caller] = self._callers.get(caller, 0) + 1
        return found

    def _appeared(
        self, calls: dict[tuple[str, str], float], samples: dict[tuple[str, str], str]
    ) -> list[DependencyVerdict]:
        found: list[DependencyVerdict] = []
        for (caller, callee), count in sorted(calls.items()):
            if (caller, callee) not in self._known:
                self._known[caller, callee] = _Dependency()
                if self._callers.get(caller, 0) >= self._settings_of(caller).min_windows:
                    sample = samples[caller, callee]
                    found.append(DependencyVerdict("new_dependency", caller, callee, count, 0.0, sample))
        return found

    def _vanished(self, requests: dict[str, float], calls: dict[tuple[str, str], float]) -> list[DependencyVerdict]:
        found: list[DependencyVerdict] = []
        for (caller, callee), dependency in self._known.items():
            asked = requests.get(caller, 0.0)
            count = calls.get((caller, callee), 0.0)
            if count > 0:
                dependency.longest = max(dependency.longest, dependency.missed)
                dependency.missed = 0.0
                dependency.seen_windows += 1
            elif asked > 0 and dependency.seen_windows >= MIN_SEEN_WINDOWS:
                dependency.missed += asked * min(dependency.per_request, 1.0)
                settings = self._settings_of(caller)
                if dependency.missed >= max(settings.missed_calls, settings.longest_pauses * dependency.longest):
                    usual = dependency.per_request
                    found.append(DependencyVerdict("vanished_dependency", caller, callee, 0.0, usual))
                    if dependency.missed >= settings.missed_calls * 100:
                        dependency.seen_windows = 0  # gone for good: no incident any more
                    continue
            if asked > 0:
                rate = max(1 / MEMORY_WINDOWS, 1 / (dependency.seen_windows + 1))
                dependency.per_request += rate * (count / asked - dependency.per_request)
        return found
