"""Encoded spans to Kafka records: one record for each partition, split where it would grow too large."""

from collections.abc import Sequence
from typing import NamedTuple

from tracewatch.partitioning import partitions_of
from tracewatch.protobuf import delimited, varint


class Envelope(NamedTuple):
    """What spans lie in: a ``ResourceSpans`` without its scope_spans, a ``ScopeSpans`` without its spans."""

    resource: bytes
    scope: bytes

    @property
    def size_bytes(self) -> int:
        """What the envelope adds to a record; each nesting level, a tag and a varint of at most four bytes."""
        return len(self.resource) + len(self.scope) + 10


# A span on its way: its trace id, its envelope, and the span as it stands in one, tag and length first. A plain tuple,
# because one is made for every span: a NamedTuple costs five times that.
EncodedSpan = tuple[int, Envelope, bytes]


class Record(NamedTuple):
    """One Kafka record: an ``ExportTraceServiceRequest`` whose spans all belong to ``partition``."""

    partition: int
    value: bytes
    spans: list[EncodedSpan]


_FRAMES = tuple(b"\x12" + varint(size) for size in range(2048))


def framed(span: bytes) -> bytes:
    """An encoded ``Span`` as a field of its ``ScopeSpans``."""
    size = len(span)
    return (_FRAMES[size] if size < 2048 else b"\x12" + varint(size)) + span


def records(spans: Sequence[EncodedSpan], partition_count: int, max_record_bytes: int) -> list[Record]:
    """Group spans by partition, each group as few records of at most ``max_record_bytes`` as arrival order allows.

    A single span above the limit still gets its record: whoever encodes spans
    keeps them below it.
    """
    traces = list(dict.fromkeys([span[0] for span in spans]))
    partitions = partitions_of(traces, partition_count)
    groups = {partition: _Group(partition) for partition in partitions}
    of_traces = {trace_id: groups[partition] for trace_id, partition in zip(traces, partitions, strict=True)}
    done: list[Record] = []
    for span in spans:
        trace_id, envelope, body = span
        group = of_traces[trace_id]
        bodies = group.bodies.get(envelope)
        size = len(body) if bodies is not None else len(body) + envelope.size_bytes
        if group.size_bytes + size > max_record_bytes and group.spans:
            done.append(group.record())
            bodies = None
            size = len(body) + envelope.size_bytes
        if bodies is None:
            bodies = group.bodies[envelope] = []
        bodies.append(body)
        group.spans.append(span)
        group.size_bytes += size
    done.extend(group.record() for group in groups.values())
    return done


def request(bodies: dict[Envelope, list[bytes]]) -> bytes:
    """An ``ExportTraceServiceRequest`` in protobuf: framed spans by their envelopes."""
    resources: dict[bytes, list[bytes]] = {}
    for envelope, spans in bodies.items():
        scope_spans = b"\x12" + delimited(b"".join((envelope.scope, *spans)))
        resources.setdefault(envelope.resource, [envelope.resource]).append(scope_spans)
    return b"".join([b"\x0a" + delimited(b"".join(parts)) for parts in resources.values()])


class _Group:
    """Spans of a partition's next record and an upper bound of its size."""

    __slots__ = ("bodies", "partition", "size_bytes", "spans")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.bodies: dict[Envelope, list[bytes]] = {}
        self.spans: list[EncodedSpan] = []
        self.size_bytes = 0

    def record(self) -> Record:
        """What is grouped, as a record; the group is empty then."""
        record = Record(self.partition, request(self.bodies), self.spans)
        self.bodies, self.spans, self.size_bytes = {}, [], 0
        return record
