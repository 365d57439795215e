"""What an alert's past makes likely: how often its evidence trickles in, and whether it flaps.

An error that happens now and then is no news the next time. The past is held as the number of minutes with evidence,
fading with a half-life of an hour; an incident, however bad, adds one a minute. Evidence within some time is news if
a Poisson count with that past's mean would hardly ever be as high.
"""

import math
from dataclasses import dataclass

MINUTE_NS = 60 * 1_000_000_000
HALF_LIFE_NS = 60 * MINUTE_NS
#: Minutes that a fading memory with this half-life holds.
MEMORY_MINUTES = HALF_LIFE_NS / math.log(2) / MINUTE_NS
#: Nats of surprise that make evidence news: less than one chance in a hundred.
NEWS_NATS = 5.0

#: An alert that fires again this soon after it resolved flaps ...
FLAP_WITHIN_NS = 10 * MINUTE_NS
#: ... and waits longer for quiet each time, at most this many times.
MAX_PATIENCE = 4


@dataclass(slots=True)
class History:
    """The past of one fingerprint. Times are arrival times."""

    minutes: float = 0.0
    faded_at_ns: int = 0
    resolved_at_ns: int = 0
    patience: int = 1

    @property
    def is_new(self) -> bool:
        """True if there never was evidence."""
        return self.faded_at_ns == 0

    def is_news(self, count: float, within_ns: int, now_ns: int) -> bool:
        """True if ``count`` pieces of evidence within ``within_ns`` are more than the past makes likely."""
        if self.is_new:
            return True
        expected = self._faded(now_ns) / MEMORY_MINUTES * within_ns / MINUTE_NS
        if expected <= 0 or count <= expected:
            return expected <= 0
        return count * math.log(count / expected) - count + expected >= NEWS_NATS

    def learn(self, now_ns: int) -> bool:
        """Note a minute with evidence; True if that changed anything."""
        if now_ns // MINUTE_NS <= self.faded_at_ns // MINUTE_NS:
            return False
        self.minutes = self._faded(now_ns) + 1
        self.faded_at_ns = now_ns
        return True

    def fired(self, now_ns: int) -> int:
        """It fires; how patient to be with it."""
        flaps = self.resolved_at_ns > 0 and now_ns - self.resolved_at_ns < FLAP_WITHIN_NS
        self.patience = min(self.patience * 2, MAX_PATIENCE) if flaps else 1
        return self.patience

    def _faded(self, now_ns: int) -> float:
        return self.minutes * math.exp(-math.log(2) * max(now_ns - self.faded_at_ns, 0) / HALF_LIFE_NS)
