"""A round: what one source partition saw in ten seconds, as it travels to the one who judges the whole.

Rounds stand in the findings topic, between findings: one order of both makes alerts a function of that topic. A round
without windows is a heartbeat; it tells that the partition was silent and not forgotten.
"""

from collections.abc import Iterator, Sequence

import msgspec

from tracecore.errors import MalformedPayload
from tracecore.topics import MAX_RECORD_BYTES
from tracecore.window import HopWindow, OperationWindow, Window

#: First byte of a round. A finding is JSON and starts with a brace.
ROUND_MARK = b"r"

#: The smallest part a round is cut into: what one record cannot hold, more records can.
_MIN_SERIES_PER_PART = 1


class Round(msgspec.Struct, frozen=True, array_like=True):
    """One partition's windows that end at ``end_ns``, or a part of them.

    The last part has ``is_last``: until then the windows are not all there. ``arrival_ns`` is the partition's
    watermark when they closed, ``partitions`` how many there are in all.
    """

    end_ns: int
    arrival_ns: int
    partition: int
    partitions: int
    is_last: bool
    operations: list[OperationWindow]
    hops: list[HopWindow]
    replay_id: str = ""
    #: By service, what its resource says of ``service.criticality``; only services that say something.
    criticality: dict[str, str] = {}


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Round)


def encoded_rounds(
    windows: Sequence[Window],
    end_ns: int,
    arrival_ns: int,
    partition: int,
    partitions: int,
    replay_id: str = "",
    criticality: dict[str, str] | None = None,
    max_record_bytes: int = MAX_RECORD_BYTES,
) -> list[bytes]:
    """The records of a round: one, or parts that each stay under ``max_record_bytes`` where series allow."""

    def records(part: Sequence[Window], is_last: bool) -> Iterator[bytes]:
        operations = [window for window in part if isinstance(window, OperationWindow)]
        hops = [window for window in part if isinstance(window, HopWindow)]
        record = ROUND_MARK + _encode(
            Round(end_ns, arrival_ns, partition, partitions, is_last, operations, hops, replay_id, criticality or {})
        )
        if len(record) <= max_record_bytes or len(part) <= _MIN_SERIES_PER_PART:
            yield record
            return
        middle = len(part) // 2
        yield from records(part[:middle], False)
        yield from records(part[middle:], is_last)

    return list(records(windows, True))


def is_round(record: bytes) -> bool:
    """True for a round, false for a finding."""
    return record[:1] == ROUND_MARK


def decode_round(record: bytes) -> Round:
    """Raises ``MalformedPayload``."""
    try:
        return _decoder.decode(record[1:])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedPayload(f"not a round: {error}") from None
