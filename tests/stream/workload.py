"""Many small traces, as OTLP records of a partition each, built fast: a load, not a story."""

import random
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from opentelemetry.proto.resource.v1 import resource_pb2

from tracecore.otlp import encode_spans, resource_of
from tracecore.partition import partition_of
from tracecore.span import ONE_SPAN_MILLI, Resource, Scope, Span, SpanKind

_SCOPE = Scope(b"", "")


@dataclass(frozen=True)
class Load:
    """Records in the order in which to send them: (partition, value), and how many spans each trace has."""

    records: list[tuple[int, bytes]]
    spans_of: dict[bytes, int]


def load(
    *, traces: int, spans_per_trace: int, partitions: int, seed: int, start_ns: int, spans_per_record: int = 100
) -> Load:
    """Traces whose spans are strewn over several records, as producers that send every second or so strew them."""
    randomness = random.Random(seed)
    resources = [resource_named(f"service-{i}") for i in range(8)]
    waiting: dict[int, list[tuple[float, Span]]] = defaultdict(list)
    spans_of: dict[bytes, int] = {}
    for number in range(traces):
        trace_id = randomness.randbytes(16)
        spans_of[trace_id] = spans_per_trace
        partition = partition_of(trace_id, partitions)
        root = randomness.randbytes(8)
        for i in range(spans_per_trace):
            span_id = root if i == 0 else randomness.randbytes(8)
            parent = b"" if i == 0 else root
            resource = resources[i % len(resources)]
            # Position in the stream: around the trace's own place, a few records to and fro.
            begin_ns, end_ns = start_ns + i * 1_000_000, start_ns + 50_000_000 - i * 1_000_000
            kind = int(SpanKind.SERVER if i == 0 else SpanKind.INTERNAL)
            span = quick_span(trace_id, span_id, parent, f"operation {i}", kind, begin_ns, end_ns, resource)
            waiting[partition].append((number + randomness.random() * 60, span))
    records: list[tuple[float, int, bytes]] = []
    for partition, spans in waiting.items():
        spans.sort(key=lambda item: item[0])
        for chunk in _chunks(spans, spans_per_record):
            records.append((chunk[0][0], partition, encode_spans(span for _, span in chunk)))
    records.sort(key=lambda record: record[0])
    return Load([(partition, value) for _, partition, value in records], spans_of)


def _chunks(spans: list[tuple[float, Span]], size: int) -> Iterator[list[tuple[float, Span]]]:
    for at in range(0, len(spans), size):
        yield spans[at : at + size]


def resource_named(service: str) -> Resource:
    """A resource with no more than a service's name."""
    message = resource_pb2.Resource()
    attribute = message.attributes.add()
    attribute.key, attribute.value.string_value = "service.name", service
    return resource_of(message.SerializeToString())


def quick_span(
    trace_id: bytes, span_id: bytes, parent: bytes, name: str, kind: int, begin_ns: int, end_ns: int, resource: Resource
) -> Span:
    """A span with one attribute of a common size, put together byte by byte: a tenth of what protobuf takes."""
    raw = b"".join(
        (
            b"\x0a\x10", trace_id, b"\x12\x08", span_id, b"\x22\x08" + parent if parent else b"",
            b"\x2a", bytes((len(name),)), name.encode(), b"\x30", bytes((kind,)),
            b"\x39", struct.pack("<Q", begin_ns), b"\x41", struct.pack("<Q", end_ns),
            # {"http.route": "/a/route/of/a/common/length"}
            b"\x4a\x2b\x0a\x0ahttp.route\x12\x1d\x0a\x1b/a/route/of/a/common/length",
        )
    )  # fmt: skip
    return Span(trace_id, span_id, parent, name, kind, begin_ns, end_ns, 0, ONE_SPAN_MILLI, resource, _SCOPE, raw)
