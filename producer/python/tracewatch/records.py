"""Encoded spans to Kafka records: one record for each partition, split where it would grow too large."""

from collections.abc import Sequence
from typing import NamedTuple

from tracewatch.partitioning import partitions_of
from tracewatch.protobuf import delimited, varint

# A span on its way: its trace id; what it lies in, a ``ResourceSpans`` without its scope_spans and a ``ScopeSpans``
# without its spans; and the span as it stands in there, tag and length first. A plain tuple of plain values, because
# one is made for every span: a NamedTuple costs five times that, and the garbage collector would follow it.
EncodedSpan = tuple[int, bytes, bytes, bytes]

# The tags and lengths (at most four bytes each) of the two messages that a span lies in.
ENVELOPE_FRAMING_BYTES = 10
_FRAMES = tuple(b"\x12" + varint(size) for size in range(2048))


class Record(NamedTuple):
    """One Kafka record: an ``ExportTraceServiceRequest`` whose spans all belong to ``partition``."""

    partition: int
    value: bytes
    spans: list[EncodedSpan]


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
        trace_id, resource, scope, body = span
        group = of_traces[trace_id]
        # One service's spans share the very objects: most of the time there is nothing to look up.
        if resource is not group.resource or scope is not group.scope:
            group.turn_to(resource, scope)
        size = len(body)
        if group.size_bytes + size > max_record_bytes and group.spans:
            done.append(group.record())
            group.turn_to(resource, scope)
        group.bodies.append(body)
        group.spans.append(span)
        group.size_bytes += size
    done.extend(group.record() for group in groups.values())
    return done


class _Group:
    """Spans of a partition's next record and an upper bound of its size."""

    __slots__ = ("_envelopes", "bodies", "partition", "resource", "scope", "size_bytes", "spans")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self._begin()

    def _begin(self) -> None:
        self._envelopes: dict[bytes, dict[bytes, list[bytes]]] = {}
        self.resource: bytes | None = None
        self.scope: bytes | None = None
        self.bodies: list[bytes] = []
        self.spans: list[EncodedSpan] = []
        self.size_bytes = 0

    def turn_to(self, resource: bytes, scope: bytes) -> None:
        """Let ``bodies`` be the spans of this resource and scope."""
        self.resource, self.scope = resource, scope
        scopes = self._envelopes.setdefault(resource, {})
        if scope not in scopes:
            scopes[scope] = []
            self.size_bytes += len(resource) + len(scope) + ENVELOPE_FRAMING_BYTES
        self.bodies = scopes[scope]

    def record(self) -> Record:
        """What is grouped, as a record; the group is empty then."""
        parts = []
        for resource, scopes in self._envelopes.items():
            bodies = [b"\x12" + delimited(b"".join((scope, *spans))) for scope, spans in scopes.items() if spans]
            if bodies:
                parts.append(b"\x0a" + delimited(b"".join((resource, *bodies))))
        record = Record(self.partition, b"".join(parts), self.spans)
        self._begin()
        return record
