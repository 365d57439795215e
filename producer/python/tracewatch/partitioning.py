"""Which partition a trace belongs to: the one Kafka's Java client would choose for its hex id.

All spans of a trace must meet in one partition, whoever produced them, so the
rule is part of the wire contract: ``murmur2(lowercase hex trace id)``, made
positive, modulo the partition count. tests/vectors/partitions.json holds it for
every language.
"""

import sys
from array import array
from collections.abc import Sequence
from typing import Final

_M: Final = 0x5BD1E995
# murmur2 starts from its seed, 0x9747b28c in Kafka, and the length: a hex trace id has 32 bytes, eight words.
_START: Final = 0x9747B28C ^ 32
_WORDS: Final = 8


def partition_of(trace_id: int, partition_count: int) -> int:
    """Partition, 0-based, of a 128-bit trace id on a topic of ``partition_count`` partitions."""
    return partitions_of((trace_id.to_bytes(16, "big"),), partition_count)[0]


def partitions_of(trace_ids: Sequence[bytes], partition_count: int) -> list[int]:
    """The partition of each trace id, 16 bytes each.

    All are hashed at once, each in 64 bits of one long integer, where no product of
    32 bits can reach its neighbour: a seventh of the time of one after the other,
    which would be a tenth of a span's whole cost.

    Source: org.apache.kafka.common.utils.Utils.murmur2 (Austin Appleby's MurmurHash2).
    """
    count = len(trace_ids)
    words = array("I", b"".join(trace_ids).hex().encode())
    if sys.byteorder == "big":
        words.byteswap()
    columns = memoryview(words)
    lanes = array("I", bytes(8 * count))
    low_halves = memoryview(lanes)[::2] if sys.byteorder == "little" else memoryview(lanes)[1::2]
    ones = int.from_bytes(array("Q", [1]) * count, sys.byteorder)
    mask = ones * 0xFFFFFFFF
    h = ones * _START
    for column in range(_WORDS):
        low_halves[:] = columns[column::_WORDS]
        k = int.from_bytes(lanes, sys.byteorder) * _M & mask
        k = ((k ^ k >> 24) & mask) * _M & mask
        h = (h * _M & mask) ^ k
    h = ((h ^ h >> 13) & mask) * _M & mask
    h ^= h >> 15
    hashes = array("Q", h.to_bytes(8 * count, sys.byteorder))
    return [(each & 0x7FFFFFFF) % partition_count for each in hashes]
