"""How long alerts took, over the last few hundred of them."""

from collections import deque
from typing import Final

KEPT: Final = 500


class Delays:
    """Observed delays in nanoseconds; the newest ``KEPT`` count."""

    def __init__(self) -> None:
        self._observed_ns: deque[int] = deque(maxlen=KEPT)

    def observe(self, delay_ns: int) -> None:
        self._observed_ns.append(delay_ns)

    def __len__(self) -> int:
        return len(self._observed_ns)

    def quantile_ns(self, q: float) -> int:
        """The smallest observed delay that at least a share ``q`` of all does not exceed. Needs one observation."""
        ordered = sorted(self._observed_ns)
        return ordered[max(0, -(-int(q * 1000) * len(ordered) // 1000) - 1)]
