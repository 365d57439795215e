"""Many timers that are cheap to set: they are set several times a trace, and most are set again before they are due.

A heap of all of them costs a step for each doubling of open traces, and misses the processor's caches at most steps. So
timers lie in slots of eight milliseconds; only slots are kept in order, and a slot is sorted when its time has come.
"""

from heapq import heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")

#: 2^23 ns are 8.4 ms: in a second of traffic there are a hundred slots.
_SLOT_BITS = 23


class Timers(Generic[T]):
    """Entries by the time at which they are due, nanoseconds of any clock."""

    def __init__(self) -> None:
        self._slots: dict[int, list[tuple[int, int, T]]] = {}
        self._order: list[int] = []

    def set(self, due_ns: int, number: int, entry: T) -> None:
        """Add an entry; ``number`` is unique, and orders entries that are due at the same time."""
        key = due_ns >> _SLOT_BITS
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = []
            heappush(self._order, key)
        slot.append((due_ns, number, entry))

    def due(self, now_ns: int) -> list[tuple[int, int, T]]:
        """Take what is due at ``now_ns`` or before, in order: time, number, entry."""
        now_key, order = now_ns >> _SLOT_BITS, self._order
        due: list[tuple[int, int, T]] = []
        while order and order[0] <= now_key:
            slot = self._slots[order[0]]
            slot.sort()
            if slot[-1][0] > now_ns:
                at = next(index for index, timer in enumerate(slot) if timer[0] > now_ns)
                due += slot[:at]
                del slot[:at]
                break
            due += slot
            del self._slots[heappop(order)]
        return due

    def clear(self) -> None:
        """Forget all entries."""
        self._slots.clear()
        self._order.clear()
