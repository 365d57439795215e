"""The recent past of a feed, in memory: a ring of events, and where in Kafka it begins and ends.

Positions are vectors of next offsets, one a partition, so that a subscriber's place means the same in another
process, whose partitions interleave otherwise. What the ring no longer holds is read from Kafka again.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from live_api.cursor import Cursor, FeedName

Subject = TypeVar("Subject")


class Event(NamedTuple, Generic[Subject]):
    """One record of the topic. ``body`` is its JSON; ``subject`` is what filters judge."""

    partition: int
    offset: int
    subject: Subject
    body: bytes


@dataclass(slots=True)
class Feed(Generic[Subject]):
    """Events in the order in which this process read them; the last ``max_events`` or ``max_bytes`` of them.

    ``next_offsets`` is where the feed stands; ``floor`` the position from which the ring holds everything. An event's
    sequence number counts all that was ever appended; it is this process's own.
    """

    name: FeedName
    next_offsets: list[int]
    max_events: int
    max_bytes: int
    floor: list[int] = field(init=False)
    sequence: int = field(init=False, default=0)
    bytes_held: int = field(init=False, default=0)
    _ring: deque[Event[Subject]] = field(init=False, default_factory=deque)

    def __post_init__(self) -> None:
        self.floor = list(self.next_offsets)

    @property
    def cursor(self) -> Cursor:
        """After the last event."""
        return Cursor(self.name, tuple(self.next_offsets))

    @property
    def held(self) -> int:
        """How many events the ring holds."""
        return len(self._ring)

    def began(self, offsets: Sequence[int]) -> None:
        """The topic was found, and is read from here."""
        self.next_offsets = list(offsets)
        self.floor = list(offsets)

    def append(self, event: Event[Subject]) -> None:
        """Take the next event of a partition. An offset that was passed already means another log: see ``rewound``."""
        self.next_offsets[event.partition] = event.offset + 1
        self.sequence += 1
        self._ring.append(event)
        self.bytes_held += len(event.body)
        while len(self._ring) > self.max_events or self.bytes_held > self.max_bytes:
            oldest = self._ring.popleft()
            self.bytes_held -= len(oldest.body)
            self.floor[oldest.partition] = oldest.offset + 1

    def passed(self, partition: int, next_offset: int) -> None:
        """Records before ``next_offset`` were read and hold no event."""
        self.next_offsets[partition] = max(self.next_offsets[partition], next_offset)

    def rewound(self, partition: int, next_offset: int) -> None:
        """The partition's log is another one than before (the topic was made anew): begin at ``next_offset``."""
        self._ring = deque(event for event in self._ring if event.partition != partition)
        self.bytes_held = sum(len(event.body) for event in self._ring)
        self.next_offsets[partition] = self.floor[partition] = next_offset

    def grown(self, partitions: int) -> None:
        """The topic has more partitions now; the new ones begin at offset 0."""
        new = [0] * (partitions - len(self.next_offsets))
        self.next_offsets += new
        self.floor += new

    def knows(self, offsets: Sequence[int]) -> bool:
        """False if a position lies beyond the feed's end: a cursor of another log."""
        return len(offsets) <= len(self.next_offsets) and all(
            offset <= end for offset, end in zip(offsets, self.next_offsets, strict=False)
        )

    def missing(self, offsets: Sequence[int]) -> dict[int, int]:
        """Partitions of which the ring holds less than all since ``offsets``, and the offset from which it does."""
        return {
            partition: floor
            for partition, (offset, floor) in enumerate(zip(offsets, self.floor, strict=True))
            if offset < floor
        }

    def since(self, sequence: int, limit: int) -> list[Event[Subject]]:
        """Events after the first ``sequence`` ever appended, ``limit`` at most, as far as the ring holds them."""
        skip = max(0, len(self._ring) - (self.sequence - sequence))
        return list(islice(self._ring, skip, skip + limit))

    @property
    def first_sequence(self) -> int:
        """How many events were dropped from the ring."""
        return self.sequence - len(self._ring)
