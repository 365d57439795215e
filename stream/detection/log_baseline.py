"""What is usual for a duration: a rolling level and spread of its logarithm.

Durations are positive, skewed and heavy-tailed, and changes act on them by factors; their logarithm is near enough
to symmetric for a level and a spread to mean something. Both are exponentially weighted, so that they follow slow
change, and observations far outside are pulled in (winsorized) before they are learned, so that an incident moves
the level by little. Bimodal durations (a cache, a branch) show as a wide spread: the test turns blunt, never loud.

Assumes: observations of one series, roughly independent. Cold start: until ``min_count`` observations nothing is
judged.

Source: exponentially weighted moments as in Finch, "Incremental calculation of weighted mean and variance" (2009);
winsorizing as in Huber, "Robust Statistics".
"""

import math
from dataclasses import dataclass

#: Observations further out than this are learned as if they lay here.
WINSOR_SIGMAS = 3.0
#: No spread is believed below this: a factor of 1.1 is no news, however steady a series was.
MIN_SIGMA = 0.1
#: A memory of about five hundred observations.
ALPHA = 0.002
#: Until so many observations all are equal, and none is pulled in.
MIN_COUNT = 30
_MIN_VARIANCE = MIN_SIGMA**2


@dataclass(slots=True)
class LogBaseline:
    """Level and variance of ln(duration in ns) with a memory of about ``1 / alpha`` observations."""

    alpha: float = ALPHA
    count: int = 0
    level: float = 0.0
    variance: float = 0.0

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm, at least ``MIN_SIGMA``."""
        return max(math.sqrt(self.variance), MIN_SIGMA)

    @property
    def typical_ns(self) -> float:
        """The usual duration (the geometric mean), in ns."""
        return math.exp(self.level)

    def score(self, duration_ns: int) -> float:
        """How many spreads above the level; negative below it."""
        return (math.log(max(duration_ns, 1)) - self.level) / self.sigma

    def learn(self, duration_ns: int) -> None:
        """Take an observation in."""
        self.learn_log(math.log(max(duration_ns, 1)))

    def learn_log(self, x: float, min_count: int = MIN_COUNT) -> None:
        """Take in the logarithm of an observation. Until ``min_count`` all are equal, and none is pulled in."""
        # Once a span, so without calls and with each field read once.
        self.count = count = self.count + 1
        if count == 1:
            self.level = x
            return
        level, variance = self.level, self.variance
        delta = x - level
        if count > min_count:
            reach = WINSOR_SIGMAS * (math.sqrt(variance) if variance > _MIN_VARIANCE else MIN_SIGMA)
            if delta > reach:
                delta = reach
            elif delta < -reach:
                delta = -reach
        weight = 1 / count
        if weight < self.alpha:
            weight = self.alpha
        self.level = level + weight * delta
        self.variance = (1 - weight) * (variance + weight * delta * delta)
