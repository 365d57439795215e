"""What a source gives, and what goes to the replay topic for it."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from tracecore.otlp import decode_spans, encode_spans
from tracecore.otlp_json import otlp_of_json
from tracecore.partition import partition_of
from tracecore.span import Span
from tracecore.topics import MAX_RECORD_BYTES, REPLAY_HEADER

#: Which source record, and which part of it, a record of the replay topic was made of: a resumed replay goes on after
#: the last.
POSITION_HEADER = "tracewatch-replay-position"

#: Records of several hundred spans keep Kafka's cost a span low, and stay well below the limit of a record.
_MAX_CHUNK_BYTES = MAX_RECORD_BYTES - 100_000


class SourceRecord(NamedTuple):
    """One record of a source: OTLP bytes and when it arrived. ``position`` counts from 0, the same in every reading."""

    position: int
    arrival_ns: int
    value: bytes


class Place(NamedTuple):
    """Where a record of the replay topic comes from: a source record and, of what it gives a partition, which part."""

    position: int
    part: int

    def encoded(self) -> bytes:
        """As a header."""
        return f"{self.position}.{self.part}".encode()

    @classmethod
    def decoded(cls, header: bytes) -> "Place":
        """From a header. Raises ``ValueError``."""
        position, _, part = header.decode().partition(".")
        return cls(int(position), int(part))


class ReplayRecord(NamedTuple):
    """One record for the replay topic."""

    partition: int
    arrival_ns: int
    value: bytes
    place: Place
    spans: int
    trace_ids: frozenset[bytes]

    def headers(self, replay_id: str) -> list[tuple[str, bytes]]:
        """Its Kafka headers."""
        return [(REPLAY_HEADER, replay_id.encode()), (POSITION_HEADER, self.place.encoded())]


def spans_of(record: SourceRecord) -> tuple[list[Span], int]:
    """The spans of a record, and how many could not be read. Raises ``MalformedPayload`` if nothing could be."""
    value = record.value
    if value[:1] in (b"{", b"["):
        value = otlp_of_json(value)
    spans, rejected = decode_spans(value)
    return spans, len(rejected)


def replay_records(
    record: SourceRecord, spans: list[Span], partitions: int, only: Collection[bytes] | None = None
) -> list[ReplayRecord]:
    """The records to send for one source record: a record a partition, more where it would grow too large.

    ``only``: trace ids to keep; None keeps all. Spans keep their bytes and their order.
    """
    placed: dict[bytes, int] = {}
    groups: dict[int, list[Span]] = {}
    for span in spans:
        if only is not None and span.trace_id not in only:
            continue
        partition = placed.get(span.trace_id)
        if partition is None:
            partition = placed[span.trace_id] = partition_of(span.trace_id, partitions)
        groups.setdefault(partition, []).append(span)
    return [
        ReplayRecord(
            partition,
            record.arrival_ns,
            encode_spans(chunk),
            Place(record.position, part),
            len(chunk),
            frozenset(span.trace_id for span in chunk),
        )
        for partition, group in sorted(groups.items())
        for part, chunk in enumerate(_chunks(group))
    ]


def _chunks(spans: list[Span]) -> Iterator[list[Span]]:
    chunk: list[Span] = []
    size = 0
    envelopes: set[tuple[bytes, bytes]] = set()
    for span in spans:
        cost = len(span.raw) + 16
        envelope = (span.resource.raw, span.scope.raw)
        if envelope not in envelopes:
            cost += len(envelope[0]) + len(envelope[1]) + 16
        if chunk and size + cost > _MAX_CHUNK_BYTES:
            yield chunk
            chunk, size, envelopes = [], 0, set()
        envelopes.add(envelope)
        chunk.append(span)
        size += cost
    if chunk:
        yield chunk
