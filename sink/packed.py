"""Traces whose rows were made from records by compiled code: what the store sees of them.

Nothing here needs numba: without it there is no ``Packing``, and every record is read by the reference.
"""

from collections.abc import Iterable, Iterator, Sequence, Set
from typing import NamedTuple, Protocol

import msgspec

from sink.contributions import EdgeKey, EdgeSums
from sink.rows import ErrorSpan, digest_of
from tracecore.span import Resource, Scope

_WHOLE_HEAD = b"\xde\x00\x1c\xa8trace_id\xc4\x10"
_WHOLE_TAIL = b"\xa4part\x00\xa5parts\x01"
#: Where the trace id of a record stands that ``is_whole``.
TRACE_ID = slice(len(_WHOLE_HEAD), len(_WHOLE_HEAD) + 16)
_REPLAY_KEY = b"\xa9replay_id"
_NO_REPLAY = _REPLAY_KEY + b"\xa0"
_PART_KEY = b"\xa4part"
_NO_REPLAY_TAIL = _NO_REPLAY + _WHOLE_TAIL
_SPAN_COUNT_KEY = b"\xaaspan_count"
_SPAN_COUNT_KEY_SIZE = len(_SPAN_COUNT_KEY)
#: Bytes that follow MessagePack's tag of an integer.
_INTEGER_BYTES = {0xCC: 1, 0xCD: 2, 0xCE: 4}


class SharedUse(NamedTuple):
    """A resource or scope that rows refer to, and the last day (since 1970, UTC) of these."""

    shared_id: int
    shared: Resource | Scope
    day: int


class PackedBatch(Protocol):
    """The rows of the records of one call of ``Packing.pack``. A trace is told by its number, the place of its record.

    Columns for the whole batch: to make an object of each trace took as long as to hash it.
    """

    @property
    def packed(self) -> Sequence[int]:
        """The traces whose rows are made, ascending; the others are the reference's."""

    @property
    def digests(self) -> Sequence[bytes]:
        """The digest of each record, packed or not."""

    @property
    def shared(self) -> Sequence[SharedUse]:
        """The resources and scopes that the rows refer to."""

    @property
    def days(self) -> Set[int]:
        """The days, since 1970, of the rows."""

    def span_count(self, traces: Sequence[int]) -> int:
        """How many rows the traces' spans are."""

    def span_rows(self, traces: Sequence[int]) -> Iterator[bytes | memoryview]:
        """The rows of the traces' spans, in pieces."""

    def trace_rows(self, traces: Sequence[int]) -> Iterator[bytes | memoryview]:
        """The traces' own rows, in pieces."""

    def edges(self, traces: Sequence[int]) -> dict[EdgeKey, EdgeSums]:
        """What the traces add to the graph of services."""

    def errors(self, traces: Sequence[int]) -> Iterator[tuple[bytes, Sequence[ErrorSpan]]]:
        """The error spans of those traces that have some, by trace id."""


class Packing(Protocol):
    """Makes rows of records."""

    def pack(self, values: Sequence[bytes]) -> PackedBatch:
        """The rows of those of these records that it takes."""


def is_whole(value: bytes) -> bool:
    """Whether a record looks like the only one of its revision: worth packing."""
    return value.startswith(_WHOLE_HEAD) and value.endswith(_WHOLE_TAIL)


def trace_id_in(value: bytes) -> bytes:
    """The trace id of a record that ``is_whole``."""
    return value[TRACE_ID]


def span_count_in(value: bytes) -> int:
    """How many spans a record that ``is_whole`` says it has; at least 1."""
    at = value.find(_SPAN_COUNT_KEY) + _SPAN_COUNT_KEY_SIZE
    try:
        if value[at] < 128:  # most, so that it is worth not to ask a decoder
            return max(value[at], 1)
        count = msgspec.msgpack.decode(value[at : at + 1 + _INTEGER_BYTES.get(value[at], 0)])
    except (msgspec.DecodeError, IndexError):
        return 1
    return max(count, 1) if isinstance(count, int) else 1


def digests_of(values: Iterable[bytes]) -> list[bytes]:
    """The digest of each record, as that of a revision in one part."""
    # Hot, once a trace: most were said by no replay, which is seen without a call.
    return [digest_of([value if value.endswith(_NO_REPLAY_TAIL) else unmarked(value)]) for value in values]


def unmarked(value: bytes) -> bytes:
    """A record of a trace as it would be if no replay had said it."""
    if value.endswith(_NO_REPLAY_TAIL):
        return value
    at = value.rfind(_REPLAY_KEY)
    # After the replay's id stand two small numbers: which part it is, of how many.
    tail = value.rfind(_PART_KEY)
    if at < 0 or tail < at or value.startswith(_NO_REPLAY, at):
        return value
    return value[:at] + _NO_REPLAY + value[tail:]
