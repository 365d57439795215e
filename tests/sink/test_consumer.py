"""The whole sink, on a real broker and a real PostgreSQL."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services import KafkaServer
from tests.sink.builders import checkout_trace, records_of, trace_of
from tests.sink.harness import SinkProcess, eventually, produce, query, stored_offsets
from tracecore.topics import Topics


@pytest.fixture
def environment(kafka_environment: dict[str, str], database: str) -> dict[str, str]:
    return {
        **kafka_environment,
        "TRACEWATCH_DATABASE_URL": database,
        "TRACEWATCH_SINK_SESSION_TIMEOUT_S": "6",
    }


def test_a_closed_trace_can_be_read_within_a_second(
    kafka: KafkaServer,
    make_topics: Callable[..., Topics],
    environment: dict[str, str],
    database: str,
    tmp_path: Path,
) -> None:
    topics = make_topics(partitions=2)
    with SinkProcess(environment, tmp_path / "sink.log") as sink:
        eventually(lambda: stored_offsets(database))
        delays = []
        for number in range(5):
            trace = trace_of(checkout_trace(number))
            produce(kafka.bootstrap_servers, records_of([trace], topics))
            began = time.monotonic()
            eventually(lambda seen=number: query(database, "SELECT count(*) FROM traces") == [(seen + 1,)])
            delays.append(time.monotonic() - began)
        assert max(delays) <= 1.0, delays
        assert query(database, "SELECT count(*) FROM service_traces") == [(40,)]
        assert sink.terminate() == 0, (tmp_path / "sink.log").read_text()
