"""Which service is to blame, when several are off at once.

A fault of a service lengthens its self time, and the gaps of its hops, those to it or those from it: its host is
starved, or its network is slow. A hop has two ends, so a slow gap alone blames both. A service explains the slow hops
to it if most of its callers feel them, and the slow hops from it if most of its callees are reached slowly; a caller
with one slow hop among many explains none. The service that explains most of the time lost is named, of two that
explain the same the one that was called; what it explains is set aside; what is left is looked at again, and named
only if it is a good share of the whole.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from stream.detection.series import SeriesKey, SlowSeries

#: A service explains its hops of one direction if at least this share of its neighbours there is affected.
MIN_NEIGHBOURS = 0.5
#: A further cause must explain at least this share of all the time lost.
MIN_SHARE = 0.3
#: Durations a hop needs to speak for or against a cause.
MIN_EVIDENCE = 3.0
#: A hop with this share of slow durations speaks for a cause, even if it would not be named by itself.
FELT_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Cause:
    """A service and the slow series it explains, largest excess first; ``share`` of all the time lost.

    ``impacted`` are its callers, nearest first; ``path`` is the one on which most calls come to it, from the edge.
    """

    service: str
    explained: tuple[SlowSeries, ...]
    share: float
    impacted: tuple[str, ...]
    path: tuple[str, ...]

    @property
    def excess_ns(self) -> float:
        """Time lost that it explains."""
        return sum(series.tally.excess_ns for series in self.explained)


def causes(judged: Mapping[SeriesKey, SlowSeries]) -> list[Cause]:
    """The services to blame, most important first; empty if nothing is slow. O(services x hops), when something is."""
    left = {key: series for key, series in judged.items() if series.is_slow}
    total_ns = sum(series.tally.excess_ns for series in left.values())
    if not left:
        return []
    hops = _hops_by_service(judged)
    found: list[Cause] = []
    while left:
        best: tuple[float, float, str] | None = None
        for service in sorted({name for key in left for name in key}):
            keys = _explained(service, left, judged, hops)
            excess_ns = sum(left[key].tally.excess_ns for key in keys)
            inside_ns = sum(left[key].tally.excess_ns for key in keys if key[-1] == service)
            if excess_ns > 0 and (best is None or (excess_ns, inside_ns) > best[:2]):
                best = excess_ns, inside_ns, service
        if best is None or (found and best[0] < MIN_SHARE * total_ns):
            break
        excess_ns, _, service = best
        mine = sorted(_explained(service, left, judged, hops), key=lambda key: -left[key].tally.excess_ns)
        explained = tuple(left.pop(key) for key in mine)
        for key in [key for key in left if service in key]:
            del left[key]
        path = _path(service, hops, judged)
        found.append(Cause(service, explained, excess_ns / total_ns, _callers(service, hops), path))
    return found


def _explained(
    service: str,
    left: Mapping[SeriesKey, SlowSeries],
    judged: Mapping[SeriesKey, SlowSeries],
    hops: Mapping[str, list[SeriesKey]],
) -> list[SeriesKey]:
    own: list[SeriesKey] = [(service,)] if (service,) in left else []
    to_it = [key for key in hops.get(service, ()) if key[1] == service]
    from_it = [key for key in hops.get(service, ()) if key[0] == service]
    for direction in (to_it, from_it):
        felt = [_is_felt(judged[key]) for key in direction]
        known = [is_felt for is_felt in felt if is_felt is not None]
        if known and sum(known) >= MIN_NEIGHBOURS * len(known):
            own += [key for key in direction if key in left]
    return own


def _is_felt(series: SlowSeries) -> bool | None:
    """Whether a hop is slower than usual, if only by what few calls tell; None if they are too few to tell."""
    if series.is_slow:
        return True
    if series.tally.count < MIN_EVIDENCE:
        return None
    return series.slow_share >= FELT_SHARE and series.tally.excess_ns > 0.5 * series.tally.usual_ns


def _hops_by_service(judged: Mapping[SeriesKey, SlowSeries]) -> dict[str, list[SeriesKey]]:
    hops: dict[str, list[SeriesKey]] = defaultdict(list)
    for key in judged:
        if len(key) == 2:
            hops[key[0]].append(key)
            if key[1] != key[0]:
                hops[key[1]].append(key)
    return hops


def _callers(service: str, hops: Mapping[str, list[SeriesKey]]) -> tuple[str, ...]:
    """Everyone who calls the service, directly or through others; nearest first."""
    callers: list[str] = []
    front = [service]
    while front:
        above = sorted({key[0] for name in front for key in hops.get(name, ()) if key[1] == name})
        front = [name for name in above if name not in callers and name != service]
        callers += front
    return tuple(callers)


def _path(service: str, hops: Mapping[str, list[SeriesKey]], judged: Mapping[SeriesKey, SlowSeries]) -> tuple[str, ...]:
    """The way on which most calls come to a service, from the edge of the system."""
    path = [service]
    while True:
        into = [key for key in hops.get(path[0], ()) if key[1] == path[0] and key[0] not in path]
        if not into:
            return tuple(path)
        path.insert(0, max(into, key=lambda key: (judged[key].tally.count, key))[0])
