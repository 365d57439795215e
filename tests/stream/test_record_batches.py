"""Compiled code writes batches of records as aiokafka's builder does, byte for byte, and aiokafka reads them."""

from typing import Any

import numpy as np
import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from stream import record_batches
from stream.outgoing import OutgoingRun
from stream.record_batches import RecordBatch

BATCH_SIZE = 20_000

values = st.one_of(
    st.binary(max_size=300), st.builds(bytes, st.sampled_from([63, 64, 127, 128, 8_191, 8_192, 30_000, 1_200_000]))
)
headers = st.lists(st.tuples(st.text(max_size=80), st.none() | st.binary(max_size=80)), max_size=3)
records = st.fixed_dictionaries(
    {
        "timestamp": st.integers(0, 2**62) | st.integers(1_700_000_000_000, 1_700_000_100_000),
        "key": st.none() | st.binary(max_size=200),
        "value": values,
        "headers": headers,
    }
)


@pytest.fixture(autouse=True)
def compiled() -> None:
    if not record_batches.warm_up():
        pytest.skip("this processor has no CRC of its own")


@given(st.lists(records, min_size=1, max_size=80))
def test_compiled_or_not_a_batch_is_the_same_bytes(several: list[dict[str, Any]]) -> None:
    ours, theirs = RecordBatch(BATCH_SIZE), BatchBuilder(10**8, 0)
    for number, record in enumerate(several):
        if ours.append(**record) is None:
            assert number > 0
            break
        theirs.append(**record)
    assert ours.record_count() == theirs.record_count()
    assert len(ours._build()) <= ours.size()
    assert bytes(ours._build()) == bytes(theirs._build())


@given(
    st.lists(st.lists(values, min_size=1, max_size=20) | records, min_size=1, max_size=8), headers, st.integers(0, 9)
)
def test_a_run_is_written_as_its_records_one_by_one(
    pieces: list[list[bytes] | dict[str, Any]], told: list[tuple[str, bytes]], key_size: int
) -> None:
    told = [(name, value or b"") for name, value in told]
    ours, theirs = RecordBatch(BATCH_SIZE), RecordBatch(BATCH_SIZE)
    for piece in pieces:
        if isinstance(piece, dict):
            assert ours.append(**piece) == theirs.append(**piece)
            continue
        run = run_of(piece, key_size, tuple(told))
        one_by_one = [
            theirs.append(timestamp=1_700_000_000_000, key=record.key, value=record.value, headers=record.headers)
            for record in run.records()
        ]
        assert ours.append_run(run, 0, 1_700_000_000_000) == sum(number is not None for number in one_by_one)
    assert ours.closed() == theirs.closed()
    assert (ours.record_count(), ours.size()) == (theirs.record_count(), theirs.size())
    assert bytes(ours._build()) == bytes(theirs._build())


def run_of(several: list[bytes], key_size: int, told: tuple[tuple[str, bytes], ...]) -> OutgoingRun:
    """A run of records with bytes between them that belong to none."""
    ends = np.cumsum([len(value) + 3 for value in several])
    starts = ends - np.array([len(value) for value in several])
    packed = np.frombuffer(b"".join(b"..." + value for value in several), np.uint8)
    keys = bytes(number % 256 for number in range(key_size * len(several)))
    return OutgoingRun("out", keys, key_size, packed, starts, ends, told, 0)


@given(st.binary(max_size=100), st.integers(0, 9))
def test_the_processors_crc_is_kafkas(data: bytes, words_before: int) -> None:
    start = 8 * words_before
    words = record_batches.np.frombuffer(bytes(start) + data + bytes(-len(data) % 8), "u8")
    assert record_batches._crc(words, words.view("u1"), start, start + len(data)) == calc_crc32c(data)


def test_what_was_written_can_be_read() -> None:
    batch = RecordBatch(BATCH_SIZE)
    assert [batch.append(timestamp=9 - n, key=None, value=b"%d" % n) for n in range(3)] == [0, 1, 2]
    read = MemoryRecords(bytes(batch._build())).next_batch()
    assert read is not None and read.validate_crc()
    assert [(record.offset, record.timestamp, record.key, record.value) for record in read] == [
        (0, 9, None, b"0"), (1, 8, None, b"1"), (2, 7, None, b"2"),
    ]  # fmt: skip
    assert (read.first_timestamp, read.max_timestamp) == (9, 9)


def test_a_full_batch_takes_no_more_but_the_first_record_always() -> None:
    batch = RecordBatch(1_000)
    assert batch.append(timestamp=1, key=None, value=bytes(5_000)) == 0
    assert batch.append(timestamp=1, key=None, value=b"") is None
    assert batch.closed()
    batch = RecordBatch(1_000)
    sizes = [batch.append(timestamp=1, key=b"k", value=bytes(100)) for _ in range(20)]
    assert sizes[-1] is None
    assert 5 < batch.record_count() < 10
    assert batch.append(timestamp=1, key=None, value=b"") is None, "closed, though this would fit"


def test_a_closed_batch_takes_nothing_and_is_built_once() -> None:
    batch = RecordBatch(1_000)
    batch.append(timestamp=1, key=b"k", value=b"v")
    batch.close()
    assert batch.append(timestamp=1, key=b"k", value=b"v") is None
    assert batch._build() is batch._build()
