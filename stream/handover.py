"""What a worker that stops leaves to its successor: open traces and windows, as records at the partition's end.

Without it a successor would read again from the watermark, and publish again what closed since. So a clean stop
writes the spans of open traces once more (OTLP, like any record of the topic: other readers see repeated spans, as
of any producer that retries), and the windows in a header of records without spans; then it commits the next offset.

A reader that began before that offset has seen all of this itself: to it the spans are repetitions, and it passes
over the windows. So a crash between writing and committing does no harm.

What was not read yet stands before what is handed over. A successor reads it first, with windows that begin anew, and
would close and forget them before it is told what stood in them. So a worker that is behind hands over nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from tracecore.errors import MalformedPayload
from tracecore.otlp import encode_spans
from tracecore.span import Span
from tracecore.window import Window
from tracecore.wire import decode_window, encode_window

#: Bytes of spans, or of windows, in a record; leaves room for resources below the limit of a record.
_CHUNK_BYTES = 600_000


class Handover(msgspec.Struct, frozen=True, array_like=True):
    """The header of a record of a handover; ``next_offset`` is where the successor starts if all went well."""

    next_offset: int
    #: Windows up to here were closed by the predecessor.
    closed_until_ns: int
    windows: list[bytes] = []

    def decoded_windows(self) -> list[Window]:
        """Raises ``MalformedPayload``."""
        return [decode_window(window) for window in self.windows]


def is_timely(unread_records: int, behind_ns: int, grace_ns: int) -> bool:
    """Whether a successor reads what is handed over before its windows close.

    ``behind_ns`` is the time between the last record that was read and the last in the partition, by their arrival.
    """
    return unread_records <= 0 or behind_ns <= grace_ns // 2


class HandoverRecord(NamedTuple):
    """A record to append to the partition: the header's and the record's value."""

    header: bytes
    value: bytes


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Handover)


def handover_records(
    next_offset: int, closed_until_ns: int, traces: Iterable[Sequence[Span]], windows: Iterable[Window]
) -> Iterator[HandoverRecord]:
    """The records of a handover, each below Kafka's limit; none if there is nothing to hand over."""
    plain = _encode(Handover(next_offset, closed_until_ns))
    chunk: list[Span] = []
    size = 0
    for span in (span for spans in traces for span in spans):
        if chunk and size + len(span.raw) > _CHUNK_BYTES:
            yield HandoverRecord(plain, encode_spans(chunk))
            chunk, size = [], 0
        chunk.append(span)
        size += len(span.raw)
    if chunk:
        yield HandoverRecord(plain, encode_spans(chunk))
    encoded: list[bytes] = []
    size = 0
    for window in map(encode_window, windows):
        if encoded and size + len(window) > _CHUNK_BYTES:
            yield HandoverRecord(_encode(Handover(next_offset, closed_until_ns, encoded)), b"")
            encoded, size = [], 0
        encoded.append(window)
        size += len(window)
    if encoded:
        yield HandoverRecord(_encode(Handover(next_offset, closed_until_ns, encoded)), b"")


def decode_handover(header: bytes) -> Handover:
    """Raises ``MalformedPayload``."""
    try:
        return _decoder.decode(header)
    except msgspec.DecodeError as error:
        raise MalformedPayload(f"not a handover: {error}") from None
