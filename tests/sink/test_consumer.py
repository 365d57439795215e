"""The whole sink, on a real broker and a real PostgreSQL."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import psycopg
import pytest

from tests import services
from tests.services import KafkaServer, run_room
from tests.sink.builders import SpanSpec, checkout_trace, records_of, spans_of, trace_of
from tests.sink.harness import SinkProcess, consumed, eventually, produce, query, stored_offsets, told_offsets
from tracecore.otlp import decode_spans
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


def test_a_sink_that_ends_has_told_kafka_how_far_the_history_goes(
    kafka: KafkaServer,
    make_topics: Callable[..., Topics],
    environment: dict[str, str],
    database: str,
    tmp_path: Path,
) -> None:
    topics = make_topics(partitions=1)
    produce(kafka.bootstrap_servers, records_of([trace_of(checkout_trace(n)) for n in range(400)], topics))
    group_id = f"{topics.prefix}sink"
    own = {**environment, "TRACEWATCH_SINK_GROUP_ID": group_id, "TRACEWATCH_SINK_BATCH_ROWS": "100"}
    with SinkProcess(own, tmp_path / "sink.log") as sink:
        eventually(lambda: query(database, "SELECT count(*) FROM traces"), lambda rows: rows == [(400,)])
        assert sink.terminate() == 0
    assert told_offsets(kafka.bootstrap_servers, group_id)[topics.traces, 0] == 400


def test_dead_letters_can_be_listed_shown_and_redriven(
    kafka: KafkaServer,
    make_topics: Callable[..., Topics],
    environment: dict[str, str],
    database: str,
    tmp_path: Path,
) -> None:
    topics = make_topics(partitions=1)
    records = list(records_of([trace_of(checkout_trace(n)) for n in range(4)], topics))
    records[1] = records[1]._replace(value=b"\xc1garbage", headers=(("mine", b"1"),))
    poison = trace_of(spans_of(bytes(16 * [7]), [SpanSpec(1), SpanSpec(2, 1, attributes=(("k", "a\0b"),))]))
    records += records_of([poison], topics, offset=4)
    with SinkProcess(environment, tmp_path / "sink.log") as sink:
        produce(kafka.bootstrap_servers, records)
        eventually(lambda: stored_offsets(database).get((topics.traces, 0)), lambda offset: offset == 5)
        assert query(database, "SELECT count(*) FROM service_traces") == [(3 * 8 + 1,)]
        with urlopen(f"{sink.url}/metrics") as answer:
            metrics = answer.read().decode()
        assert "tracewatch_sink_dead_letters_total 2.0" in metrics
        assert "tracewatch_sink_spans_total 25.0" in metrics
        with urlopen(f"{sink.url}/healthz") as answer:
            assert json.load(answer) == {"status": "ok", "reason": ""}

    def command(*arguments: str) -> str:
        outcome = run_room("sink", "dead-letters", *arguments, environment=environment)
        assert outcome.returncode == 0, outcome.stderr
        return outcome.stdout

    listed = command("list").splitlines()
    assert len(listed) == 2 and f"{topics.traces}[0]@1" in listed[0] and "NUL" in listed[1]
    assert command("list", "--reason", "nul").splitlines() == [listed[1]]
    assert command("list", "--topic", topics.windows) == ""
    assert command("list", "--until", "2020-01-01") == ""
    place = listed[1].split()[0]
    shown = json.loads(command("show", place))
    assert shown["spans"][0]["attributes"] == {"k": "a\0b"} and shown["destination"] == topics.otlp_spans
    assert "would be sent" in command("redrive", place, "--dry-run")
    assert run_room("sink", "dead-letters", "redrive", environment=environment).returncode == 1, "not all by accident"
    command("redrive", "--topic", topics.traces)
    (span,) = consumed(kafka.bootstrap_servers, topics.otlp_spans, 1)
    assert decode_spans(span.value)[0][0].raw == poison.spans[1].raw
    again = consumed(kafka.bootstrap_servers, topics.traces, 6)[-1]
    assert again.value == b"\xc1garbage"
    assert dict(again.headers) == {"mine": b"1", "tracewatch-redriven": listed[0].split()[0].encode()}


def test_a_sink_that_cannot_store_holds_back_and_says_so(
    kafka: KafkaServer,
    make_topics: Callable[..., Topics],
    environment: dict[str, str],
    empty_database: str,
    tmp_path: Path,
) -> None:
    topics = make_topics(partitions=1)
    produce(kafka.bootstrap_servers, records_of([trace_of(checkout_trace(n)) for n in range(400)], topics))
    log = tmp_path / "sink.log"
    settings = {"TRACEWATCH_SINK_STALLED_S": "2", "TRACEWATCH_SINK_BATCH_ROWS": "200"}
    with SinkProcess({**environment, **settings, "TRACEWATCH_DATABASE_URL": empty_database}, log) as sink:
        eventually(lambda: "python -m migrations up" in log.read_text())

        def health() -> int:
            try:
                with urlopen(f"{sink.url}/healthz") as answer:
                    return int(answer.status)
            except HTTPError as error:
                with error:
                    return error.code

        eventually(health, lambda status: status == 503)
        services.migrate(empty_database)
        eventually(lambda: query(empty_database, "SELECT count(*) FROM traces"), lambda rows: rows == [(400,)])
        eventually(health, lambda status: status == 200)
        assert sink.terminate() == 0


def test_a_batch_that_could_not_be_stored_at_the_end_is_passed_over_by_none(
    kafka: KafkaServer,
    make_topics: Callable[..., Topics],
    environment: dict[str, str],
    database: str,
    tmp_path: Path,
) -> None:
    topics = make_topics(partitions=1)
    produce(kafka.bootstrap_servers, records_of([trace_of(checkout_trace(n)) for n in range(400)], topics))
    sinks = "FROM pg_stat_activity WHERE application_name = 'tracewatch-sink' AND datname = current_database()"
    small = {**environment, "TRACEWATCH_SINK_BATCH_ROWS": "200", "TRACEWATCH_SINK_RETENTION_INTERVAL_S": "0"}
    with SinkProcess(small, tmp_path / "sink.log") as sink, ThreadPoolExecutor(1) as thread:
        with psycopg.connect(database) as holding:
            holding.execute("LOCK TABLE traces IN ACCESS EXCLUSIVE MODE")
            waiting = f"SELECT count(*) {sinks} AND wait_event_type = 'Lock'"
            eventually(lambda: query(database, waiting), lambda found: found != [(0,)])
            ended = thread.submit(sink.terminate)
            # Its connection is gone for one try, and there for the next.
            holding.execute(f"SELECT pg_terminate_backend(pid) {sinks}")
        assert ended.result() == 0
    assert query(database, "SELECT count(*) FROM traces") == [(stored_offsets(database)[topics.traces, 0],)]
    with SinkProcess(environment, tmp_path / "sink.log"):
        eventually(lambda: query(database, "SELECT count(*) FROM traces"), lambda rows: rows == [(400,)])


@pytest.mark.parametrize(
    ("variable", "value"), [("TRACEWATCH_SINK_BATCH_ROWS", "0"), ("TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")]
)
def test_what_is_set_wrong_is_named(environment: dict[str, str], variable: str, value: str) -> None:
    settings = {"TRACEWATCH_SINK_PORT": "0", "TRACEWATCH_SINK_BROKER_TIMEOUT_S": "1", variable: value}
    outcome = run_room("sink", environment={**environment, **settings})
    assert outcome.returncode == 1
    assert variable in outcome.stderr and "Traceback" not in outcome.stderr
