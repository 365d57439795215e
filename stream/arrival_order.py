"""The partitions of a replay, read as one: in the order in which their records once arrived.

Live, all partitions are at the same moment. A replay at full speed reads them at unlike speeds, minutes apart; what a
worker learns over all partitions, such as how slow an operation usually is, would then come out another way each time.
"""

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

#: When a record arrived, and the record.
Held = tuple[int, Any]


class Waiting(Protocol):
    """A partition with records that were read and not taken yet."""

    @property
    def first_held(self) -> Held | None:
        """The oldest of them."""

    @property
    def is_over(self) -> bool:
        """The replay has ended here: no record will come any more."""


WaitingT = TypeVar("WaitingT", bound=Waiting)


def next_in_order(partitions: Iterable[WaitingT]) -> WaitingT | None:
    """The partition whose next record arrived first; None while one of them may still get an older one."""
    found: WaitingT | None = None
    first_ns = 0
    for partition in partitions:
        held = partition.first_held
        if held is None:
            if not partition.is_over:
                return None
        elif found is None or held[0] < first_ns:
            found, first_ns = partition, held[0]
    return found
