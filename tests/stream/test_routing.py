"""Compiled code routes spans as the plain router does."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream import router, routing
from stream.router import Gathering, decode_record, encoded_records, split_by_partition
from tests.tracecore.builders import order_spans, span
from tests.tracecore.strategies import requests_of_few_ids
from tracecore.batch_decoding import plain_spans
from tracecore.otlp import encode_spans
from tracecore.partition import partition_of
from tracecore.span import Span


@pytest.fixture(autouse=True)
def compiled() -> None:
    routing.warm_up()


def routed(requests: list[bytes], partitions: int) -> dict[int, list[bytes]]:
    """Records by partition, of requests that compiled code reads."""
    decoded = plain_spans(requests)
    gathered: dict[int, Gathering] = {}
    for spans in decoded:
        assert spans is not None
    for partition, run in routing.routed(decoded[0].columns, partitions) if decoded and decoded[0] else ():
        gathered.setdefault(partition, Gathering()).add(run)
    return {partition: list(share.records()) for partition, share in gathered.items()}


def sent(records: Iterable[bytes]) -> dict[bytes, list[Span]]:
    """Spans by trace, in their order; of one trace those of one origin stay together."""
    by_trace: dict[bytes, list[Span]] = {}
    for record in records:
        for one in decode_record(record)[0]:
            by_trace.setdefault(one.trace_id, []).append(one)
    return {trace_id: sorted(spans, key=lambda one: one.service) for trace_id, spans in by_trace.items()}


@given(st.lists(requests_of_few_ids(), min_size=1, max_size=4), st.sampled_from([1, 3, 4, 7]))
def test_compiled_or_not_the_same_spans_go_to_the_same_partitions(requests: list[bytes], partitions: int) -> None:
    spans = [one for request in requests for one in decode_record(request)[0]]
    expected = {
        partition: sent(encoded_records(share)) for partition, share in split_by_partition(spans, partitions).items()
    }
    assert {partition: sent(records) for partition, records in routed(requests, partitions).items()} == expected


@given(st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=20), st.integers(1, 100))
def test_partitions_are_those_of_kafkas_clients(trace_ids: list[bytes], partitions: int) -> None:
    for trace_id in trace_ids:
        high, low = (int.from_bytes(half, signed=True) for half in (trace_id[:8], trace_id[8:]))
        assert routing._partition(high, low, partitions) == partition_of(trace_id, partitions)


def test_records_stay_below_kafkas_limit() -> None:
    requests = [
        encode_spans([span(attributes={"payload": "x" * 10_000}, service=f"s{i % 3}") for i in range(90)])
        for _ in range(4)
    ]
    records = [record for share in routed(requests, 1).values() for record in share]
    assert len(records) > 3
    assert max(map(len, records)) < router.MAX_RECORD_BYTES
    assert sum(len(decode_record(record)[0]) for record in records) == 360


def test_long_and_short_spans_keep_their_bytes() -> None:
    spans = [span(attributes={"payload": "x" * size}) for size in (0, 50, 100, 127, 128, 5000, 16_383, 16_384, 100_000)]
    records = routed([encode_spans([*order_spans(), *spans])], 4)
    found = [one.raw for share in records.values() for record in share for one in decode_record(record)[0]]
    assert sorted(found) == sorted(one.raw for one in [*order_spans(), *spans])
