"""Real traces of two demo applications, read as the stream reads them. A sample: the whole takes minutes."""

from pathlib import Path

import pytest

from tests.tracecore.builders import closed
from tests.tracecore.recordings import records
from tracecore import wire
from tracecore.otlp import decode_spans, encode_spans, span_detail
from tracecore.span import Span


@pytest.mark.parametrize(("name", "caller", "callee"), [
    ("ob22", "frontend", "currencyservice"),
    ("tt29", "ts-route-service", "other_sql"),
])  # fmt: skip
def test_every_span_of_a_recording_is_in_exactly_one_trace(
    shared_data: Path, name: str, caller: str, callee: str
) -> None:
    by_trace: dict[bytes, list[Span]] = {}
    count = 0
    for record in records(shared_data, name, limit=250):
        spans, rejected = decode_spans(record)
        assert not rejected
        assert decode_spans(encode_spans(spans)) == (spans, [])
        count += len(spans)
        for span in spans:
            by_trace.setdefault(span.trace_id, []).append(span)
    assert count > 1000
    links: dict[tuple[str, str], int] = {}
    complete = counted = 0
    for spans in by_trace.values():
        trace = closed(spans)
        assert wire.encode_trace(trace) == wire.encode_trace(closed(spans[::-1]))
        counted += trace.span_count + trace.duplicate_count
        complete += trace.is_complete
        root = trace.spans[0]
        assert sum(part.end_ns - part.start_ns for part in trace.critical_path) == root.end_ns - root.start_ns
        assert all(0 <= node.critical_path_ns <= node.self_time_ns for node in trace.spans)
        for link in trace.links:
            links[link.caller, link.callee] = links.get((link.caller, link.callee), 0) + link.calls
    assert counted == count
    assert complete > 0.5 * len(by_trace), "what the sample cuts off at its end is incomplete"
    assert links[caller, callee] > 10
    span_detail(next(iter(by_trace.values()))[0].raw)
