"""Latency per window: which services' own time, and which hops, are slower than they ever are.

Time is judged where it is spent. A series is a service's self time (all its operations) or the gap of a hop between
two services; a slow callee shows in neither of its callers' series. Each duration is slow or not by its own
component's past (``usual.Usual``), so a change in the mix of requests is no change of the index.

A series is slow when, over the last windows: its past does not explain it, by the mean of the logarithms or by how
many durations are slow (both in nats: 14 is about one in a million; both divided by the overdispersion that was
learned, for spans of one trace are not independent); a quarter are slow; it shows in the last window and in one
before; and the time lost is worth a person's look.

Source: Chernoff bound for binomial tails; quasi-likelihood for overdispersed counts (Wedderburn 1974).
"""

import math
from dataclasses import dataclass, field

from stream.detection.round_merger import WholeWindow
from stream.detection.usual import Seen, Usual, seen
from tracecore.span import SpanKind
from tracecore.window import WINDOW_NS

#: A series is its service ("own"), or its caller and callee ("hop").
SeriesKey = tuple[str, ...]
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
#: How fast dispersions are learned, and the most that one window can tell of them.
DISPERSION_RATE, MAX_DISPERSION = 1 / 60, 25.0


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


@dataclass(slots=True)
class Tally:
    """A series in one window, or several: how many durations, how far off, how many slow, the time over the usual."""

    end_ns: int = 0
    count: float = 0.0
    #: Sum over durations of their logarithm's distance from the level, and the variance that sum usually has.
    offset: float = 0.0
    offset_variance: float = 0.0
    slow: float = 0.0
    expected_slow: float = 0.0
    usual_ns: float = 0.0
    excess_ns: float = 0.0
    #: By component, the time over what is usual, and the durations: the largest excess names the operation.
    by_component: dict[str, tuple[float, float]] = field(default_factory=dict)
    sample: str = ""
    sample_ns: float = 0.0

    @property
    def mean_nats(self) -> float:
        """How surprising the mean of the logarithms is, if it is high."""
        return self.offset**2 / self.offset_variance / 2 if self.offset > 0 < self.offset_variance else 0.0

    @property
    def slow_nats(self) -> float:
        """How surprising the number of slow durations is, if it is high."""
        return nats_above(self.slow, self.expected_slow, self.count)

    @property
    def factor(self) -> float:
        """By how much durations are multiplied, geometric mean."""
        return math.exp(min(self.offset / self.count, 40.0)) if self.count else 1.0

    @property
    def worst(self) -> tuple[str, float]:
        """The component that loses most time, and how much a call, in ns."""
        if not self.by_component:
            return "", 0.0
        name, (excess_ns, count) = max(self.by_component.items(), key=lambda item: (item[1][0], item[0]))
        return name, excess_ns / count

    def add(self, other: "Tally") -> None:
        """Pool another window."""
        self.count += other.count
        self.offset += other.offset
        self.offset_variance += other.offset_variance
        self.slow += other.slow
        self.expected_slow += other.expected_slow
        self.usual_ns += other.usual_ns
        self.excess_ns += other.excess_ns
        for name, (excess_ns, count) in other.by_component.items():
            excess_before, count_before = self.by_component.get(name, (0.0, 0.0))
            self.by_component[name] = excess_before + excess_ns, count_before + count
        if other.sample and other.sample_ns >= self.sample_ns:
            self.sample, self.sample_ns = other.sample, other.sample_ns


@dataclass(slots=True)
class Series:
    """What is known of a series. Dispersions are how much more its windows vary than independent durations would."""

    components: dict[str, Usual] = field(default_factory=dict)
    windows: int = 0
    mean_dispersion: float = 1.0
    slow_dispersion: float = 1.0
    hot_since_ns: int = 0
    recent: list[Tally] = field(default_factory=list)
    #: Hot windows that may turn out to be a hiccup, and then tell of the dispersion.
    held_back: list[Tally] = field(default_factory=list)

    def surprise(self, tally: Tally) -> float:
        """Nats by which a tally is higher than the series' past explains."""
        return max(tally.mean_nats / self.mean_dispersion, tally.slow_nats / self.slow_dispersion)

    def disperse(self, tally: Tally) -> None:
        """Learn the dispersions from a window."""
        if tally.offset_variance > 0:
            square = min(tally.offset**2 / tally.offset_variance, MAX_DISPERSION)
            self.mean_dispersion = max(self.mean_dispersion + DISPERSION_RATE * (square - self.mean_dispersion), 1.0)
        if 0 < tally.expected_slow < tally.count:
            variance = tally.expected_slow * (1 - tally.expected_slow / tally.count)
            square = min((tally.slow - tally.expected_slow) ** 2 / variance, MAX_DISPERSION)
            self.slow_dispersion = max(self.slow_dispersion + DISPERSION_RATE * (square - self.slow_dispersion), 1.0)


@dataclass(frozen=True, slots=True)
class SlowSeries:
    """A series over the last windows: how it stands against its past."""

    key: SeriesKey
    tally: Tally
    surprise: float
    since_ns: int
    is_slow: bool

    @property
    def slow_share(self) -> float:
        """Share of durations that are slow."""
        return self.tally.slow / self.tally.count if self.tally.count else 0.0

    @property
    def operation(self) -> str:
        """Where most of the time is lost."""
        return self.tally.worst[0]


class Latency:
    """Every series' past, and the judgement of each window by it."""

    def __init__(self, settings: LatencySettings | None = None) -> None:
        self._settings = settings or LatencySettings()
        self.series: dict[SeriesKey, Series] = {}
        self._silent_windows = 0
        self._cold_windows = 0

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
            tally = _tally(series, components, window)
            since_ns = window.end_ns - POOL_REACH_NS
            recent = [past for past in series.recent if past.end_ns > since_ns]
            series.recent = [*recent, tally][-POOL_WINDOWS:]
            verdict = self._verdict(key, series)
            if series.windows >= MIN_WINDOWS:
                judged[key] = verdict
            self._learn(series, components, tally, verdict)
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

    def _verdict(self, key: SeriesKey, series: Series) -> SlowSeries:
        settings = self._settings
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
        self, series: Series, components: dict[str, tuple[Seen, str]], tally: Tally, verdict: SlowSeries
    ) -> None:
        limit = self._settings.learn_below
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
            series.components.setdefault(name, Usual()).learn(durations)


def nats_above(successes: float, expected: float, count: float) -> float:
    """Chernoff's exponent of a binomial tail: how surprising it is that ``successes`` exceed ``expected``; else 0."""
    if successes <= expected or expected <= 0:
        return 0.0
    nats = successes * math.log(successes / expected)
    rest, expected_rest = count - successes, count - expected
    if rest > 0 and expected_rest > 0:
        nats += rest * math.log(rest / expected_rest)
    return max(nats, 0.0)


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


def _tally(series: Series, components: dict[str, tuple[Seen, str]], window: WholeWindow) -> Tally:
    tally = Tally(window.end_ns)
    for name, (durations, sample) in components.items():
        usual = series.components.get(name)
        if usual is None or not usual.is_known:
            continue
        usual_ns = durations.count * usual.mean_ns
        excess_ns = durations.total_ns - usual_ns
        tally.count += durations.count
        tally.offset += durations.count * (durations.log_mean - usual.level)
        tally.offset_variance += durations.count * usual.spread**2
        tally.slow += usual.slow_count(durations)
        tally.expected_slow += durations.count * usual.slow_share
        tally.usual_ns += usual_ns
        tally.excess_ns += excess_ns
        tally.by_component[name] = excess_ns, durations.count
        if excess_ns >= tally.sample_ns and sample:
            tally.sample, tally.sample_ns = sample, excess_ns
    return tally
