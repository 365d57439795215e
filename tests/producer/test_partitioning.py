"""Traces land where Kafka's Java client would put their hex ids: vectors that every language asserts."""

import json
from pathlib import Path

from tracewatch.partitioning import partition_of

VECTORS = Path(__file__).parents[1] / "vectors" / "partitions.json"


def test_every_vector_holds() -> None:
    vectors = json.loads(VECTORS.read_text())["vectors"]
    assert len(vectors) >= 32
    for vector in vectors:
        trace_id = int(vector["trace_id"], 16)
        assert [partition_of(trace_id, count) for count in range(1, 65)] == vector["partitions"], vector["trace_id"]
