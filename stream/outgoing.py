"""What is to be published, as those who decide it tell the ``Outlet``."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class OutgoingRecord(NamedTuple):
    """A record to publish; without ``timestamp_ms`` it carries the time of sending.

    ``partition`` is where its key belongs, if that is known; in a topic of fewer partitions its remainder.
    """

    topic: str
    key: bytes
    value: bytes | memoryview
    timestamp_ms: int | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class OutgoingRun:
    """Records of one partition to publish, in their order: no object for each. They carry the time of sending.

    Record ``n`` is bytes ``starts[n]`` to ``ends[n]`` of ``values``; its key is ``key_size`` bytes of ``keys``.
    """

    topic: str
    keys: bytes
    key_size: int
    values: Array
    starts: Array
    ends: Array
    headers: tuple[tuple[str, bytes], ...]
    partition: int

    def __len__(self) -> int:
        return len(self.starts)

    def records(self, first: int = 0) -> Iterator[OutgoingRecord]:
        """Each from ``first`` on."""
        values, size = self.values.data, self.key_size
        for n, (start, end) in enumerate(zip(self.starts[first:].tolist(), self.ends[first:].tolist(), strict=True)):
            key = self.keys[size * (first + n) : size * (first + n + 1)]
            yield OutgoingRecord(self.topic, key, values[start:end], None, self.headers, self.partition)


Outgoing = OutgoingRecord | OutgoingRun


def one_by_one(outgoing: Iterable[Outgoing]) -> Iterator[OutgoingRecord]:
    """Every record."""
    for each in outgoing:
        if isinstance(each, OutgoingRun):
            yield from each.records()
        else:
            yield each
