"""A series of durations over some windows, and how surprising it is by its own past.

A series is a service's own time, or a hop's gap; its components are operations, each with its own ``Usual``. A tally
counts by how much durations are off and how many are slow; both are surprising in nats (14 is about one in a million),
divided by how much more the series' windows vary than independent durations would.

Source: Chernoff bound for binomial tails; quasi-likelihood for overdispersed counts (Wedderburn 1974).
"""

import math
from dataclasses import dataclass, field

from stream.detection.usual import Usual

#: A series is its service ("own"), or its caller and callee ("hop").
SeriesKey = tuple[str, ...]

#: How fast dispersions are learned, and the most that one window can tell of them.
DISPERSION_RATE, MAX_DISPERSION = 1 / 60, 25.0


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


def nats_above(successes: float, expected: float, count: float) -> float:
    """Chernoff's exponent of a binomial tail: how surprising it is that ``successes`` exceed ``expected``; else 0."""
    if successes <= expected or expected <= 0:
        return 0.0
    nats = successes * math.log(successes / expected)
    rest, expected_rest = count - successes, count - expected
    if rest > 0 and expected_rest > 0:
        nats += rest * math.log(rest / expected_rest)
    return max(nats, 0.0)
