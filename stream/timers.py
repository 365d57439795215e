"""Many timers that are cheap to set and to hold: most are overtaken by another of the same entry before they are due.

A heap of all of them costs a step for each doubling of open traces, and misses the processor's caches at most steps. So
entries lie in slots of eight milliseconds, and only slots are kept in order. An entry knows itself when it is due, and
which of its slots counts: a slot holds no more than the entry.
"""

from heapq import heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")

#: 2^23 ns are 8.4 ms: in a second of traffic there are a hundred slots.
_SLOT_BITS = 23


class Timers(Generic[T]):
    """Entries by the time at which they are due, nanoseconds of any clock."""

    def __init__(self) -> None:
        self._slots: dict[int, list[T]] = {}
        self._order: list[int] = []

    def set(self, due_ns: int, entry: T) -> int:
        """Add an entry; the number of its slot."""
        number = due_ns >> _SLOT_BITS
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = []
            heappush(self._order, number)
        slot.append(entry)
        return number

    def begun(self, now_ns: int) -> list[tuple[int, list[T]]]:
        """Take the slots that have begun at ``now_ns``, in order, each with its entries as they were set.

        All that is due is there; of the last slot some may be due a little later, and are for the caller to set again.
        """
        now, order = now_ns >> _SLOT_BITS, self._order
        begun: list[tuple[int, list[T]]] = []
        while order and order[0] <= now:
            number = heappop(order)
            begun.append((number, self._slots.pop(number)))
        return begun

    def clear(self) -> None:
        """Forget all entries."""
        self._slots.clear()
        self._order.clear()
