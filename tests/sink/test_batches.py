"""When a batch is due, and what goes into it."""

from dataclasses import replace

import pytest

from sink.batches import AWAITED_BATCHES, Batcher, BatchLimits, Range, Record, batch_of
from sink.rows import RowEncoder
from tests.sink.builders import checkout_trace, records_of, trace_of
from tracecore.topics import Topics
from tracecore.wire import encode_trace

TOPICS = Topics()
LIMITS = BatchLimits(rows=100, bytes=1_000_000, age_s=0.2, parts_timeout_s=5)
TRACES = (TOPICS.traces, 0)


def large_records(offset: int = 0) -> list[Record]:
    trace = trace_of(checkout_trace(5, spans=60))
    values = encode_trace(trace, 4000)
    assert len(values) >= 4
    return [Record(TOPICS.traces, 0, offset + i, 0, b"", value) for i, value in enumerate(values)]


@pytest.fixture
def batcher() -> Batcher:
    return Batcher(TOPICS, LIMITS)


def test_nothing_is_never_due(batcher: Batcher) -> None:
    assert batcher.due_in_s(99) is None
    assert batcher.is_empty


def test_a_batch_is_due_by_age(batcher: Batcher) -> None:
    batcher.add(next(records_of([trace_of(checkout_trace(1))], TOPICS)), 10.0)
    assert batcher.due_in_s(10.1) == pytest.approx(0.1)
    assert batcher.due_in_s(10.3) == 0
    assert len(batcher.take(10.3)) == 1
    assert batcher.due_in_s(10.3) is None


def test_a_batch_is_due_by_rows_and_by_bytes() -> None:
    by_rows, by_bytes = Batcher(TOPICS, LIMITS), Batcher(TOPICS, replace(LIMITS, bytes=5000))
    for number, record in enumerate(records_of([trace_of(checkout_trace(n)) for n in range(13)], TOPICS)):
        assert by_rows.is_full == (number >= 13)
        by_rows.add(record, 0)
        by_bytes.add(record, 0)
    assert by_rows.is_full and by_rows.due_in_s(0) == 0
    assert by_bytes.is_full


def test_a_revision_is_not_cut_between_its_parts(batcher: Batcher) -> None:
    records = list(records_of([trace_of(checkout_trace(1))], TOPICS))
    large = large_records(offset=1)
    after = list(records_of([trace_of(checkout_trace(2))], TOPICS, offset=1 + len(large)))
    for record in [*records, *large[:-1]]:
        batcher.add(record, 0)
    assert [entry.record.offset for entry in batcher.take(1)] == [0]
    assert batcher.due_in_s(1) == pytest.approx(LIMITS.age_s), "what waits is not looked at again at once"
    for record in [large[-1], *after]:
        batcher.add(record, 1)
    assert [entry.record.offset for entry in batcher.take(2)] == list(range(1, 2 + len(large)))


def test_missing_parts_are_awaited_for_a_time_only(batcher: Batcher) -> None:
    for record in large_records()[:-1]:
        batcher.add(record, 0)
    assert batcher.take(LIMITS.parts_timeout_s - 1) == []
    assert len(batcher.take(LIMITS.parts_timeout_s + 1)) == len(large_records()) - 1


def test_missing_parts_are_awaited_up_to_a_size_only() -> None:
    records = large_records()[:-1]
    held = sum(len(record.value) for record in records)
    batcher = Batcher(TOPICS, replace(LIMITS, rows=10, bytes=held // AWAITED_BATCHES))
    for record in records[:-1]:
        batcher.add(record, 0)
        assert not batcher.is_full
    batcher.add(records[-1], 0)
    assert batcher.is_full and len(batcher.take(0)) == len(records)


def test_what_another_sink_owns_is_forgotten(batcher: Batcher) -> None:
    for partition in (0, 1):
        for record in records_of([trace_of(checkout_trace(partition))], TOPICS, partition):
            batcher.add(record, 0)
    batcher.forget([TRACES])
    assert [entry.record.partition for entry in batcher.take(1)] == [1]
    assert batcher.is_empty


def test_a_batch_knows_its_offsets_and_what_could_not_be_read(batcher: Batcher) -> None:
    batcher.add(Record(TOPICS.traces, 0, 7, 0, None, b"\xc1"), 0)
    batcher.add(Record(TOPICS.windows, 1, 3, 0, None, b"?"), 0)
    batcher.add(Record(TOPICS.alerts, 0, 4, 0, None, b"{}"), 0)
    for record in records_of([trace_of(checkout_trace(1)), trace_of(checkout_trace(1))], TOPICS, offset=9):
        batcher.add(record, 0)
    batch = batch_of(batcher.take(1), RowEncoder())
    assert batch.ranges == {TRACES: Range(7, 11), (TOPICS.windows, 1): Range(3, 4), (TOPICS.alerts, 0): Range(4, 5)}
    assert [record.offset for record, _ in batch.unreadable] == [7, 3, 4]
    assert all(reason for _, reason in batch.unreadable)
    assert [len(revisions) for revisions in batch.revisions.values()] == [1], "the same revision twice is one"
