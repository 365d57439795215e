"""Which partition a trace belongs to: the same everywhere, so that one worker sees the whole trace."""

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def partition_of(trace_id: bytes, partitions: int) -> int:
    """Partition of a trace: murmur2 of the lowercase hex trace id, as Kafka's Java client places that key."""
    return partition_of_key(trace_id.hex().encode(), partitions)


def partition_of_key(key: bytes, partitions: int) -> int:
    """Partition of a key, as Kafka's Java client places it."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """Unsigned 32-bit murmur2 with Kafka's seed.

    Source: MurmurHash2 (Austin Appleby), as in Kafka's ``Utils.murmur2``.
    """
    length = len(data)
    h = _SEED ^ length
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    tail = data[whole:]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15
