import json
from pathlib import Path

import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as aiokafkas_murmur2
from hypothesis import given
from hypothesis import strategies as st

from tracecore.partition import murmur2, partition_of

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "partitions.json").read_text())["vectors"]


@given(st.binary(max_size=40))
def test_murmur2_is_kafkas(data: bytes) -> None:
    assert murmur2(data) == aiokafkas_murmur2(data) & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "signed"),
    # Source: Apache Kafka, UtilsTest.testMurmur2.
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536),
     (b"a-little-bit-longer-string", -1486304829), (b"abc", 479470107)],
)  # fmt: skip
def test_murmur2_of_kafkas_own_vectors(data: bytes, signed: int) -> None:
    assert murmur2(data) == signed & 0xFFFFFFFF


@given(st.binary(min_size=16, max_size=16), st.integers(1, 64))
def test_trace_goes_where_kafka_puts_its_hex_id_as_a_key(trace_id: bytes, partitions: int) -> None:
    everywhere = list(range(partitions))
    assert partition_of(trace_id, partitions) == DefaultPartitioner()(trace_id.hex().encode(), everywhere, everywhere)


def test_producers_and_pipeline_agree_on_every_vector() -> None:
    for vector in VECTORS:
        trace_id = bytes.fromhex(vector["trace_id"])
        assert murmur2(trace_id.hex().encode()) == vector["murmur2"]
        for count, partition in enumerate(vector["partitions"], 1):
            assert partition_of(trace_id, count) == partition
