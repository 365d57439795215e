"""What goes to the replay topic for a record of a source."""

from hypothesis import given
from hypothesis import strategies as st

from replay.records import Place, SourceRecord, replay_records, spans_of
from tests.tracecore.builders import span, trace_id
from tracecore.otlp import decode_spans, encode_spans
from tracecore.partition import partition_of
from tracecore.topics import MAX_RECORD_BYTES


def test_spans_go_to_the_partition_of_their_trace_with_their_bytes() -> None:
    spans = [span(f"op {i}", trace=i + 1) for i in range(20)]
    record = SourceRecord(7, 1_000, encode_spans(spans))
    read, rejected = spans_of(record)
    sent = replay_records(record, read, 4)
    assert rejected == 0
    assert [one.partition for one in sent] == sorted({partition_of(s.trace_id, 4) for s in spans})
    assert all(one.arrival_ns == 1_000 and one.place == Place(7, 0) for one in sent)
    back = [s for one in sent for s in decode_spans(one.value)[0]]
    assert sorted(s.raw for s in back) == sorted(s.raw for s in spans)
    assert all(partition_of(s.trace_id, 4) == one.partition for one in sent for s in decode_spans(one.value)[0])


def test_only_the_traces_that_were_asked_for_are_sent() -> None:
    spans = [span("a", trace=1), span("b", trace=2)]
    record = SourceRecord(0, 0, encode_spans(spans))
    (sent,) = replay_records(record, spans_of(record)[0], 1, only={trace_id(2)})
    assert sent.trace_ids == {trace_id(2)}
    assert sent.spans == 1


def test_what_would_be_too_large_a_record_travels_in_parts_that_are_told_apart() -> None:
    spans = [span("a", trace=1, attributes={"blob": "x" * 30_000, "n": str(i)}) for i in range(100)]
    record = SourceRecord(3, 0, encode_spans(spans))
    sent = replay_records(record, spans_of(record)[0], 1)
    assert [one.place for one in sent] == [Place(3, part) for part in range(len(sent))]
    assert len(sent) > 1
    assert all(len(one.value) < MAX_RECORD_BYTES for one in sent)
    assert sum(one.spans for one in sent) == 100


@given(st.integers(0, 2**62), st.integers(0, 1000), st.integers(0, 2**62), st.integers(0, 1000))
def test_places_survive_their_header_and_keep_their_order(p: int, a: int, q: int, b: int) -> None:
    one, other = Place(p, a), Place(q, b)
    assert Place.decoded(one.encoded()) == one
    assert (one < other) == ((p, a) < (q, b))
