"""Latency per window: which services' own time, and which hops, are slower than they ever are.

Time is judged where it is spent. A series is a service's self time (all its operations) or the gap of a hop between
two services; a slow callee shows in neither of its callers' series. Each duration is slow or not by its own
component's past (``usual.Usual``), so a change in the mix of requests is no change of the index.

A series is slow when, over the last windows: its past does not explain it, by the mean of the logarithms or by how
many durations are slow (both in nats: 14 is about one in a million; both divided by the overdispersion that was
learned, for spans of one trace are not independent); a quarter are slow; it shows in the last window and in one
before; and the time lost is worth a person's look.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from stream.detection.hour_of_day import HourProfiles
from stream.detection.round_merger import WholeWindow
from stream.detection.series import Series, SeriesKey, SlowSeries, Tally
from stream.detection.usual import Seen, Usual, seen
from tracecore.span import SpanKind
from tracecore.window import WINDOW_NS

_CALLING = (SpanKind.CLIENT, SpanKind.PRODUCER)

#: Windows with traffic that are pooled for one judgement, how far back they may lie, how many must show it.
POOL_WINDOWS, POOL_REACH_NS, MIN_HOT_WINDOWS = 4, 60 * 1_000_000_000, 2
#: Windows learned before a series is judged: a minute.
MIN_WINDOWS = 6
#: Without a span for this long (two minutes) the whole input had a gap. What comes after it is a start: for half a
#: minute caches and pools are cold, and it is neither judged nor learned.
GAP_WINDOWS, WARM_UP_WINDOWS = 12, 3
#: A hot stretch of no more windows than this was a hiccup: told of if it was bad, but learned as this series' noise.
HICCUP_WINDOWS = 12
#: After this long of anomaly it is the new normal.
NEW_NORMAL_NS = 3600 * 1_000_000_000
#: Components that were not seen for two days are forgotten.
FORGET_AFTER_NS, FORGET_EVERY_NS = 48 * 3600 * 1_000_000_000, 3600 * 1_000_000_000
#: Logarithm of the largest factor by which an hour may be slower.
_MAX_LIFT = 20.0


@dataclass(frozen=True, slots=True)
class LatencySettings:
    """When a series is slow; all of it must hold. The same for every service, and each can be overridden."""

    #: Nats of surprise: 14 is about one in a million.
    min_surprise: float = 14.0
    min_slow_share: float = 0.25
    min_slow: float = 4.0
    #: Time taken, against what is usual for the same calls: their sum, and their geometric mean.
    min_ratio: float = 2.0
    #: Time lost a call of the operation that loses most, on average. Below it nobody feels the difference.
    floor_ns: int = 10_000_000
    #: Windows with this much surprise are not learned from.
    learn_below: float = 7.0


_DEFAULT = LatencySettings()


class Latency:
    """Every series' past, and the judgement of each window by it."""

    def __init__(
        self,
        settings_of: Callable[[str], LatencySettings] = lambda service: _DEFAULT,
        hours: HourProfiles | None = None,
    ) -> None:
        """``settings_of`` has the knobs of a service; of a hop they are its callee's."""
        self._settings_of = settings_of
        self._hours = hours or HourProfiles()
        self.series: dict[SeriesKey, Series] = {}
        self._silent_windows = 0
        self._cold_windows = 0
        self._forgot_ns = 0

    def judge(self, window: WholeWindow) -> dict[SeriesKey, SlowSeries]:
        """How every series with traffic stands, pooled over the last windows; then learn from the window.

        O(components and their buckets).
        """
        now = _components(window)
        if self._is_cold(window, bool(now)):
            return {}
        judged: dict[SeriesKey, SlowSeries] = {}
        for key, components in now.items():
            series = self.series.setdefault(key, Series())
            tally = self._tally(key, series, components, window)
            since_ns = window.end_ns - POOL_REACH_NS
            recent = [past for past in series.recent if past.end_ns > since_ns]
            series.recent = [*recent, tally][-POOL_WINDOWS:]
            verdict = self._verdict(key, series)
            if series.windows >= MIN_WINDOWS:
                judged[key] = verdict
            self._learn(key, series, components, tally, verdict)
        self._forget(window.end_ns)
        return judged

    def _is_cold(self, window: WholeWindow, has_traffic: bool) -> bool:
        """True while the system starts again after a gap."""
        self._silent_windows += window.skipped
        if not has_traffic:
            self._silent_windows += 1
            return False
        if self._silent_windows >= GAP_WINDOWS:
            self._cold_windows = WARM_UP_WINDOWS
        self._silent_windows = 0
        is_cold = self._cold_windows > 0
        self._cold_windows -= is_cold
        return is_cold

    def _tally(
        self, key: SeriesKey, series: Series, components: dict[str, tuple[Seen, str]], window: WholeWindow
    ) -> Tally:
        tally = Tally(window.end_ns)
        for name, (durations, sample) in components.items():
            usual = series.components.get(name)
            if usual is None or not usual.is_known:
                continue
            # What is slower at this hour every day is usual now.
            at_this_hour = self._hours.of("latency", *key, name).usual(window.end_ns)
            lift = max(at_this_hour - usual.level, 0.0) if at_this_hour is not None else 0.0
            usual_ns = durations.count * usual.mean_ns * math.exp(min(lift, _MAX_LIFT))
            excess_ns = durations.total_ns - usual_ns
            tally.count += durations.count
            tally.offset += durations.count * (durations.log_mean - usual.level - lift)
            tally.offset_variance += durations.count * usual.spread**2
            tally.slow += usual.slow_count(durations, lift)
            tally.expected_slow += durations.count * usual.slow_share
            tally.usual_ns += usual_ns
            tally.excess_ns += excess_ns
            tally.by_component[name] = excess_ns, durations.count
            if excess_ns >= tally.sample_ns and sample:
                tally.sample, tally.sample_ns = sample, excess_ns
        return tally

    def _forget(self, now_ns: int) -> None:
        """Drop what was not seen for days, once an hour: names that hold ids would fill the memory."""
        if now_ns // FORGET_EVERY_NS == self._forgot_ns // FORGET_EVERY_NS:
            return
        self._forgot_ns = now_ns
        for key, series in list(self.series.items()):
            known = {
                name: usual for name, usual in series.components.items() if now_ns - usual.seen_ns < FORGET_AFTER_NS
            }
            series.components = known
            if not known and series.windows:
                del self.series[key]

    def _verdict(self, key: SeriesKey, series: Series) -> SlowSeries:
        settings = self._settings_of(key[-1])
        pool = Tally(series.recent[-1].end_ns)
        for tally in series.recent:
            pool.add(tally)
        hot = [tally for tally in series.recent if tally.offset > 0 and tally.slow > tally.expected_slow]
        surprise = series.surprise(pool)
        is_slow = (
            series.windows >= MIN_WINDOWS
            and surprise >= settings.min_surprise
            and len(hot) >= MIN_HOT_WINDOWS
            and hot[-1] is series.recent[-1]
            and pool.slow >= max(settings.min_slow, settings.min_slow_share * pool.count)
            and pool.worst[1] >= settings.floor_ns
            and pool.excess_ns >= (settings.min_ratio - 1) * pool.usual_ns
            and pool.factor >= settings.min_ratio
        )
        since_ns = (hot[0].end_ns if hot else pool.end_ns) - WINDOW_NS
        return SlowSeries(key, pool, surprise, since_ns, is_slow)

    def _learn(
        self,
        key: SeriesKey,
        series: Series,
        components: dict[str, tuple[Seen, str]],
        tally: Tally,
        verdict: SlowSeries,
    ) -> None:
        for name, (durations, _) in components.items():
            self._hours.of("latency", *key, name).learn(tally.end_ns, durations.log_sum, durations.count)
            if name in series.components:
                series.components[name].seen_ns = tally.end_ns
        limit = self._settings_of(key[-1]).learn_below
        if series.windows >= MIN_WINDOWS:
            if series.surprise(tally) >= limit or (verdict.surprise >= limit and tally.slow > tally.expected_slow):
                series.hot_since_ns = series.hot_since_ns or tally.end_ns
                series.held_back = [*series.held_back, tally][-HICCUP_WINDOWS - 1 :]
                if tally.end_ns - series.hot_since_ns < NEW_NORMAL_NS:
                    return
            series.hot_since_ns = 0
            for hiccup in series.held_back if len(series.held_back) <= HICCUP_WINDOWS else ():
                series.disperse(hiccup)
            series.held_back = []
            series.disperse(tally)
        series.windows += 1
        for name, (durations, _) in components.items():
            usual = series.components.setdefault(name, Usual())
            usual.learn(durations)
            usual.seen_ns = tally.end_ns


def _components(window: WholeWindow) -> dict[SeriesKey, dict[str, tuple[Seen, str]]]:
    """Durations by series and component, with a sample trace."""
    now: dict[SeriesKey, dict[str, tuple[Seen, str]]] = {}
    for (service, operation, kind), operation_window in window.operations.items():
        durations = seen(operation_window.self_time)
        if durations.count:
            name = operation if kind not in _CALLING else f"{operation} (call)"
            now.setdefault((service,), {})[name] = durations, operation_window.slowest
    for (caller, callee, operation), hop_window in window.hops.items():
        durations = seen(hop_window.gap)
        if durations.count:
            now.setdefault((caller, callee), {})[operation] = durations, hop_window.slowest
    return now
