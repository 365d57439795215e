"""Faults that a service of the shop can be told to have, each for a while."""

import time
from typing import Final

ERRORS: Final = "errors"
SLOW: Final = "slow"
NETWORK_DELAY: Final = "network-delay"

#: Share of requests that fail while ERRORS is on.
ERROR_RATIO: Final = 0.5
#: What SLOW adds to the time a service spends itself.
SLOW_BY_S: Final = 0.8
#: What NETWORK_DELAY adds to the way of a request.
NETWORK_DELAY_S: Final = 0.4


class Faults:
    """Which of the faults that a service can have are on now. Safe to ask from any thread."""

    def __init__(self, *kinds: str) -> None:
        self._until_s = dict.fromkeys(kinds, 0.0)

    def inject(self, kind: str, for_s: float) -> None:
        """Have ``kind`` from now on, for ``for_s`` seconds. Raises ValueError for a kind it cannot have."""
        if kind not in self._until_s:
            raise ValueError(f"{kind!r} is no fault of this service; it can have {', '.join(self._until_s)}")
        if not 0 < for_s <= 3600:
            raise ValueError(f"for_s is {for_s:g}; a fault lasts between 0 and 3600 seconds")
        self._until_s[kind] = time.monotonic() + for_s

    def is_on(self, kind: str) -> bool:
        return time.monotonic() < self._until_s[kind]
