"""Which partition a trace belongs to: the one Kafka's Java client would choose for its hex id.

All spans of a trace must meet in one partition, whoever produced them, so the
rule is part of the wire contract: ``murmur2(lowercase hex trace id)``, made
positive, modulo the partition count. tests/vectors/partitions.json holds it for
every language.
"""

import struct

_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
# murmur2 starts from its seed, 0x9747b28c in Kafka, and the length: a hex trace id has 32 bytes.
_START = 0x9747B28C ^ 32
_words = struct.Struct("<8I").unpack
_lanes = struct.Struct("<8Q")
_LANES_MASK = int.from_bytes(_lanes.pack(*[_MASK] * 8), "little")


def partition_of(trace_id: int, partition_count: int) -> int:
    """Partition, 0-based, of a 128-bit trace id on a topic of ``partition_count`` partitions."""
    return (_murmur2_of_32_bytes(b"%032x" % trace_id) & 0x7FFFFFFF) % partition_count


def _murmur2_of_32_bytes(data: bytes) -> int:
    # The eight words are mixed at once, each in 64 bits of one long integer, where no product can reach its neighbour;
    # only the chain through h takes them in turn. Half the time of the plain loop, which is a sixth of a span's cost.
    # Source: org.apache.kafka.common.utils.Utils.murmur2 (Austin Appleby's MurmurHash2).
    k = int.from_bytes(_lanes.pack(*_words(data)), "little") * _M & _LANES_MASK
    k = ((k ^ k >> 24) & _LANES_MASK) * _M & _LANES_MASK
    h = _START
    for word in _lanes.unpack(k.to_bytes(64, "little")):
        h = (h * _M & _MASK) ^ word
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15
