"""Encoded spans to Kafka records: one record for each partition, split where it would grow too large."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tracewatch.partitioning import partitions_of
from tracewatch.protobuf import varint

# What a span lies in: a ``ResourceSpans`` without its scope_spans and a ``ScopeSpans`` without its spans.
Envelope = tuple[bytes, bytes]
# A span on its way: its trace id; its envelope, which a service's spans share; and the span as it stands in there, tag
# and length first. A plain tuple, because one is made for every span: a NamedTuple costs five times that.
EncodedSpan = tuple[bytes, Envelope, bytes]

# The tags and lengths (at most four bytes each) of the two messages that a span lies in.
_ENVELOPE_FRAMING_BYTES = 10
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


def envelope_bytes(envelope: Envelope) -> int:
    """What an envelope adds to a record, at most."""
    resource, scope = envelope
    return len(resource) + len(scope) + _ENVELOPE_FRAMING_BYTES


def records(spans: Sequence[EncodedSpan], partition_count: int, max_record_bytes: int) -> list[Record]:
    """Group spans by partition, each group as few records of at most ``max_record_bytes`` as arrival order allows.

    A single span above the limit still gets its record: whoever encodes spans
    keeps them below it.
    """
    traces = list(dict.fromkeys([trace_id for trace_id, _, _ in spans]))
    partitions = partitions_of(traces, partition_count)
    groups: dict[int, list[EncodedSpan]] = {partition: [] for partition in partitions}
    group_of = {trace_id: groups[partition] for trace_id, partition in zip(traces, partitions, strict=True)}
    for span in spans:
        group_of[span[0]].append(span)
    return [
        Record(partition, _value(part), part)
        for partition, group in groups.items()
        for part in _parts(group, max_record_bytes)
    ]


def _parts(spans: list[EncodedSpan], max_record_bytes: int) -> Iterator[list[EncodedSpan]]:
    """The spans of each record."""
    first = size_bytes = 0
    envelopes: set[Envelope] = set()
    last: Envelope | None = None
    for place, (_, envelope, body) in enumerate(spans):
        # One service's spans share the very object: most of the time there is nothing to look up.
        if envelope is not last and envelope not in envelopes:
            envelopes.add(envelope)
            size_bytes += envelope_bytes(envelope)
        last = envelope
        size_bytes += len(body)
        if size_bytes > max_record_bytes and place > first:
            yield spans[first:place]
            first, size_bytes, envelopes = place, envelope_bytes(envelope) + len(body), {envelope}
    yield spans[first:] if first else spans


def _value(spans: list[EncodedSpan]) -> bytes:
    """The spans as one ``ExportTraceServiceRequest``, each resource and scope once."""
    resources: dict[bytes, dict[bytes, list[bytes]]] = {}
    last: Envelope | None = None
    for _, envelope, body in spans:
        if envelope is not last:
            last = resource, scope = envelope
            bodies = resources.setdefault(resource, {}).setdefault(scope, [])
        bodies.append(body)
    # Joined once, not at every level: a record is large enough for its copies to cost what its grouping costs.
    pieces: list[bytes] = []
    for resource, scopes in resources.items():
        inner = [resource]
        for scope, bodies in scopes.items():
            inner += (b"\x12", varint(len(scope) + sum(map(len, bodies))), scope, *bodies)
        pieces += (b"\x0a", varint(sum(map(len, inner))), *inner)
    return b"".join(pieces)
