"""Encoded spans to Kafka records: one record for each partition, split where it would grow too large."""

from collections.abc import Iterable
from typing import NamedTuple

from tracewatch.encoder import delimited, varint
from tracewatch.partitioning import partition_of


class EncodedSpan(NamedTuple):
    """A span on its way: its trace id and the three nested parts of its OTLP form, encoded."""

    trace_id: int
    resource: bytes
    scope: bytes
    span: bytes


class Record(NamedTuple):
    """One Kafka record: an ``ExportTraceServiceRequest`` whose spans all belong to ``partition``."""

    partition: int
    value: bytes
    spans: list[EncodedSpan]


def records(spans: Iterable[EncodedSpan], partition_count: int, max_record_bytes: int) -> list[Record]:
    """Group spans by partition, each group as few records of at most ``max_record_bytes`` as arrival order allows.

    A single span above the limit still gets its record: whoever encodes spans
    keeps them below it.
    """
    partitions: dict[int, int] = {}
    groups: dict[int, _Group] = {}
    done: list[Record] = []
    for span in spans:
        partition = partitions.get(span.trace_id)
        if partition is None:
            partition = partitions[span.trace_id] = partition_of(span.trace_id, partition_count)
        group = groups.get(partition)
        if group is None:
            group = groups[partition] = _Group()
        elif group.size_bytes + group.growth(span) > max_record_bytes:
            done.append(Record(partition, request(group.spans), group.spans))
            group = groups[partition] = _Group()
        group.add(span)
    done.extend(Record(partition, request(group.spans), group.spans) for partition, group in groups.items())
    return done


def request(encoded_spans: Iterable[EncodedSpan]) -> bytes:
    """An ``ExportTraceServiceRequest`` in protobuf, spans grouped by resource and scope."""
    resources: dict[bytes, dict[bytes, list[bytes]]] = {}
    for span in encoded_spans:
        resources.setdefault(span.resource, {}).setdefault(span.scope, []).append(span.span)
    parts = []
    for resource, scopes in resources.items():
        body = resource
        for scope, encoded in scopes.items():
            spans_bytes = b"".join([part for span in encoded for part in (b"\x12", varint(len(span)), span)])
            body += b"\x12" + delimited(scope + spans_bytes)
        parts.append(b"\x0a" + delimited(body))
    return b"".join(parts)


class _Group:
    """Spans of one record and an upper bound of its size."""

    __slots__ = ("_envelopes", "size_bytes", "spans")

    def __init__(self) -> None:
        self.spans: list[EncodedSpan] = []
        self.size_bytes = 0
        self._envelopes: set[tuple[bytes, bytes]] = set()

    def growth(self, span: EncodedSpan) -> int:
        # Each nesting level adds a tag and a varint of at most four bytes below 256 MB.
        size = len(span.span) + 5
        if (span.resource, span.scope) not in self._envelopes:
            size += len(span.resource) + len(span.scope) + 10
        return size

    def add(self, span: EncodedSpan) -> None:
        self.size_bytes += self.growth(span)
        self._envelopes.add((span.resource, span.scope))
        self.spans.append(span)
