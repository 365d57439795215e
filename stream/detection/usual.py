"""What is usual for one part of a service's time: the self time of an operation, or the gap of a hop.

The level and the spread of the logarithm tell how far a window's mean is off. Beside them, each duration is slow or
not: slow lies two spreads above the level. How many are slow on an ordinary day is learned too, so a heavy tail, a
second mode, or a network that loses packets now and then is no news; that more are slow than ever is.

Assumes: durations of one component are alike over half an hour. Cold start: ``MIN_LEARNED`` durations.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from tracecore.buckets import bounds_of, bucket_of
from tracecore.span import ONE_SPAN_MILLI

#: Durations seen before anything is judged.
MIN_LEARNED = 20.0
#: Windows of ten seconds that the memory spans: half an hour.
MEMORY_WINDOWS = 180.0
#: A duration is slow this many spreads of the logarithm above the level ...
SLOW_SIGMAS = 2.0
#: ... where a spread is at least this: a factor of 1.25 is no news.
MIN_SPREAD = 0.22
#: Share of slow durations that is assumed before it is known; it weighs as much as this many durations.
PRIOR_SHARE, PRIOR_WEIGHT = 0.05, 20.0
#: No share is believed to be smaller.
MIN_SHARE = 0.01
#: A window's mean beyond this multiple of the usual is learned as if it were this.
MEAN_REACH = 3.0
#: ln of 2**62 ns.
_MAX_LOG = 42.0


@dataclass(frozen=True, slots=True)
class Seen:
    """Durations of one window: how many, sum and sum of squares of their logarithms, their sum in ns."""

    count: float
    log_sum: float
    log_square_sum: float
    total_ns: float
    buckets: Mapping[int, int]

    @property
    def log_mean(self) -> float:
        """Mean of the logarithms; ``count`` not zero."""
        return self.log_sum / self.count


def seen(buckets: Mapping[int, int]) -> Seen:
    """Moments of a histogram in thousandths of spans."""
    count = log_sum = log_square_sum = total = 0.0
    for bucket, milli in buckets.items():
        weight = milli / ONE_SPAN_MILLI
        log, value = _middle(bucket)
        count += weight
        log_sum += weight * log
        log_square_sum += weight * log * log
        total += weight * value
    return Seen(count, log_sum, log_square_sum, total, buckets)


@dataclass(slots=True)
class Usual:
    """The level (mean of ln ns), its variance, the mean in ns, and the share of slow durations."""

    learned: float = 0.0
    level: float = 0.0
    variance: float = 0.0
    mean_ns: float = 0.0
    slow_share: float = PRIOR_SHARE
    #: End of the last window with durations.
    seen_ns: int = 0

    @property
    def is_known(self) -> bool:
        """True once enough was seen to judge by."""
        return self.learned >= MIN_LEARNED

    @property
    def spread(self) -> float:
        """Standard deviation of the logarithm, as far as it is believed."""
        return max(math.sqrt(self.variance), MIN_SPREAD)

    def slow_count(self, now: Seen, lift: float = 0.0) -> float:
        """How many durations of a window are slow, if the level were ``lift`` higher."""
        limit = bucket_of(int(math.exp(min(self.level + lift + SLOW_SIGMAS * self.spread, _MAX_LOG))))
        return sum(milli for bucket, milli in now.buckets.items() if bucket > limit) / ONE_SPAN_MILLI

    def learn(self, now: Seen) -> None:
        """Take an ordinary window in. ``now.count`` is not zero."""
        if self.is_known:
            weight = max(now.count / (self.learned + PRIOR_WEIGHT), 1 / MEMORY_WINDOWS)
            share = self.slow_share + weight * (self.slow_count(now) / now.count - self.slow_share)
            self.slow_share = max(share, MIN_SHARE)
        self.learned += now.count
        rate = max(now.count / self.learned, 1 / MEMORY_WINDOWS)
        mean_ns = now.total_ns / now.count
        if self.is_known and self.mean_ns:
            mean_ns = min(mean_ns, MEAN_REACH * self.mean_ns)
        within = max(now.log_square_sum / now.count - now.log_mean**2, 0.0)
        delta = now.log_mean - self.level
        first = self.learned == now.count
        self.level += rate * delta
        self.mean_ns += rate * (mean_ns - self.mean_ns)
        self.variance += rate * (within + (0.0 if first else (1 - rate) * delta * delta) - self.variance)


@lru_cache(maxsize=8192)
def _middle(bucket: int) -> tuple[float, float]:
    low, high = bounds_of(bucket)
    value = max((low + high - 1) / 2, 1.0)
    return math.log(value), value
