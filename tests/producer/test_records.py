"""Spans become as few records as possible, each whole, each of one partition."""

import random

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from tracewatch.partitioning import partition_of
from tracewatch.records import EncodedSpan, framed, records


def span(trace_id: int, number: int, service: str = "s", name: str = "n") -> EncodedSpan:
    resource = ResourceSpans(schema_url=service).SerializeToString()
    scope = ScopeSpans(schema_url="scope").SerializeToString()
    message = Span(trace_id=trace_id.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"), name=name)
    return message.trace_id, (resource, scope), framed(message.SerializeToString())


def test_a_batch_is_one_record_for_each_partition() -> None:
    ids = random.Random(1)
    traces = [ids.getrandbits(128) for _ in range(50)]
    batch = records([span(trace, number + 1) for number in range(4) for trace in traces], 8, 1_000_000)
    assert sorted(record.partition for record in batch) == list(range(8))


@given(
    st.lists(
        st.tuples(st.integers(1, 2**128 - 1), st.sampled_from("abc"), st.integers(0, 400)), min_size=1, max_size=40
    ),
    st.integers(1, 12),
    st.integers(200, 3000),
)
def test_every_span_arrives_once_in_its_partition_within_the_limit(
    made: list[tuple[int, str, int]], partitions: int, max_record_bytes: int
) -> None:
    spans = [span(trace, n + 1, service, "x" * length) for n, (trace, service, length) in enumerate(made)]
    seen = []
    for record in records(spans, partitions, max_record_bytes):
        assert len(record.value) <= max_record_bytes or len(record.spans) == 1
        for resource_spans in ExportTraceServiceRequest.FromString(record.value).resource_spans:
            for scope_spans in resource_spans.scope_spans:
                for each in scope_spans.spans:
                    assert partition_of(int.from_bytes(each.trace_id, "big"), partitions) == record.partition
                    seen.append((each.span_id, resource_spans.schema_url, each.name))
    expected = [((n + 1).to_bytes(8, "big"), service, "x" * length) for n, (_, service, length) in enumerate(made)]
    assert sorted(seen) == sorted(expected)
