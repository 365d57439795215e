"""What may be committed: per partition, the lowest offset that is still needed.

The source topic is the durable state of what is open. The committed offset is the watermark: a successor that
starts there reads every open trace and window again, whole. What closed since is read again too, some of it in part.
"""

from collections.abc import Mapping
from typing import TypeVar

PartitionT = TypeVar("PartitionT")


def watermark(next_offset: int, first_needed: int | None) -> int:
    """The offset to commit, where ``next_offset`` is the next to be read and ``first_needed`` what state rests on."""
    return next_offset if first_needed is None else min(first_needed, next_offset)


def changed_watermarks(
    watermarks: Mapping[PartitionT, int], committed: Mapping[PartitionT, int]
) -> dict[PartitionT, int]:
    """Those that have moved since they were committed. They only move forward."""
    return {partition: offset for partition, offset in watermarks.items() if offset > committed.get(partition, -1)}
