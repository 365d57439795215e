"""Dead letters of the sink: what could not be stored, byte for byte, with where it stood and why."""

from dataclasses import dataclass
from typing import NamedTuple

from sink.batches import Record
from tracecore.closed_trace import ClosedTrace, TracedSpan
from tracecore.dead_letter import (
    ORIGIN_OFFSET_HEADER,
    ORIGIN_PARTITION_HEADER,
    ORIGIN_TOPIC_HEADER,
    REASON_HEADER,
    dead_letter_headers,
)
from tracecore.errors import UndecodableRecord
from tracecore.otlp import encode_spans
from tracecore.span import Span

#: Which room gave up: header of every letter that the sink writes.
ROOM_HEADER = "tracewatch-room"
#: Where a re-drive sends the letter, if not to where it came from.
REDRIVE_HEADER = "tracewatch-redrive-topic"
ROOM = b"sink"
#: On a record that was sent again: which letter it was.
REDRIVEN_HEADER = "tracewatch-redriven"

_OUR_HEADERS = frozenset(
    (
        ORIGIN_TOPIC_HEADER,
        ORIGIN_PARTITION_HEADER,
        ORIGIN_OFFSET_HEADER,
        REASON_HEADER,
        ROOM_HEADER,
        REDRIVE_HEADER,
        REDRIVEN_HEADER,
    )
)


class Letter(NamedTuple):
    """A record for the dead-letter topic."""

    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]

    @property
    def bare(self) -> "Letter":
        """Without all that is not ours, which stands behind ours: a few kilobytes, whatever it was."""
        ours: dict[str, bytes] = {}
        for name, value in self.headers:
            if name in _OUR_HEADERS:
                ours.setdefault(name, value)
        return Letter(None, b"", tuple(ours.items()))


def record_letter(record: Record, reason: str) -> Letter:
    """A whole record that cannot be read or stored; its own headers follow ours."""
    return Letter(record.key, record.value, (*_headers(record, reason), *record.headers))


def span_letter(trace: ClosedTrace, span: TracedSpan, record: Record, reason: str, redrive_topic: str) -> Letter:
    """One span of a trace that was stored without it: an OTLP request with just this span."""
    resource, scope = trace.resources[span.resource], trace.scopes[span.scope]
    request = encode_spans([Span(trace.trace_id, b"", b"", "", 0, 0, 0, 0, 0, resource, scope, span.raw)])
    reason = f"span {span.span_id.hex()} of trace {trace.trace_id.hex()}: {reason}"
    return Letter(record.key, request, (*_headers(record, reason), (REDRIVE_HEADER, redrive_topic.encode())))


def _headers(record: Record, reason: str) -> tuple[tuple[str, bytes], ...]:
    error = UndecodableRecord(record.topic, record.partition, record.offset, reason)
    return (*dead_letter_headers(error), (ROOM_HEADER, ROOM))


class StoredLetter(NamedTuple):
    """A dead letter as it stands on its topic; ``place`` names it there."""

    place: str
    timestamp_ms: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]

    def header(self, name: str) -> str:
        """The first header of this name as text, or empty."""
        return next((value.decode("utf-8", "replace") for key, value in self.headers if key == name), "")

    @property
    def reason(self) -> str:
        """Why it could not be read or stored."""
        return self.header(REASON_HEADER)

    @property
    def origin(self) -> str:
        """Where it stood: topic[partition]@offset."""
        topic, partition, offset = map(
            self.header, (ORIGIN_TOPIC_HEADER, ORIGIN_PARTITION_HEADER, ORIGIN_OFFSET_HEADER)
        )
        return f"{topic}[{partition}]@{offset}"

    @property
    def destination(self) -> str:
        """Where a re-drive sends it; empty if nobody said where it came from."""
        return self.header(REDRIVE_HEADER) or self.header(ORIGIN_TOPIC_HEADER)

    @property
    def own_headers(self) -> tuple[tuple[str, bytes], ...]:
        """The headers that it had before it was a dead letter."""
        return tuple((name, value) for name, value in self.headers if name not in _OUR_HEADERS)


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters; what is empty or None lets all pass. Times in Unix milliseconds, ``until_ms`` exclusive."""

    places: frozenset[str] = frozenset()
    origin_topic: str = ""
    room: str = ""
    reason: str = ""
    since_ms: int | None = None
    until_ms: int | None = None

    def passes(self, letter: StoredLetter) -> bool:
        """True if the letter is wanted; ``reason`` is looked for anywhere in its reason, in any case."""
        return (
            (not self.places or letter.place in self.places)
            and (not self.origin_topic or letter.header(ORIGIN_TOPIC_HEADER) == self.origin_topic)
            and (not self.room or letter.header(ROOM_HEADER) == self.room)
            and self.reason.lower() in letter.reason.lower()
            and (self.since_ms is None or letter.timestamp_ms >= self.since_ms)
            and (self.until_ms is None or letter.timestamp_ms < self.until_ms)
        )
