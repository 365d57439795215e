"""What the sink is for: whatever dies and whenever, the rows are those of an undisturbed run."""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from quickstart.embedded_postgres import EmbeddedPostgres
from sink.batches import Batcher, BatchLimits, Record, batch_of
from sink.packed import Packing
from sink.rows import RowEncoder
from sink.store import Store
from tests import services
from tests.services import KafkaServer
from tests.sink.builders import NOON_NS, checkout_trace, records_of, trace_of
from tests.sink.harness import SinkProcess, contents, eventually, produce, stored_offsets
from tracecore.alert import Alert, Evidence
from tracecore.topics import Topics
from tracecore.window import WINDOW_NS, OperationWindow
from tracecore.wire import encode_alert, encode_window

PARTITIONS = 3
TRACES = 3000
KILLS = 20
#: How long PostgreSQL stays away: several tries long. With TRACEWATCH_TEST_AWAY_S=30, half a minute.
AWAY_S = float(os.environ.get("TRACEWATCH_TEST_AWAY_S", "5"))


def workload(topics: Topics, traces: int = TRACES) -> list[Record]:
    """Traces with revisions, partial ones among them, windows and alerts, in the order of their partitions."""
    pick = random.Random(11)
    records: list[Record] = []
    offsets = [0] * PARTITIONS
    for number in range(traces):
        partition = number % PARTITIONS
        spans = checkout_trace(number)
        revisions = [trace_of(spans)]
        if pick.random() < 0.1:
            revisions = [trace_of(spans[:5]), trace_of(spans[pick.randrange(5) :], 2, "late", arrival_s=5)]
        for revision in revisions:
            for record in records_of([revision], topics, partition, offsets[partition]):
                records.append(record)
                offsets[partition] += 1
    for index in range(300):
        window = OperationWindow(
            NOON_NS + index // 10 * WINDOW_NS, "cart", f"op {index % 10}", 2, 0, 4, 4000, 0, {index: 4000}, {3: 4000}
        )
        records.append(Record(topics.windows, index % PARTITIONS, index // PARTITIONS, 0, b"", encode_window(window)))
        alert = Alert(
            f"f{index % 7}",
            "firing" if index < 150 else "resolved",
            {"alertname": "a", "service": "cart", "severity": "critical"},
            {},
            NOON_NS,
            NOON_NS + index,
            None if index < 150 else NOON_NS + index,
            NOON_NS + index,
            Evidence(1.0, None, "ns", 1, ()),
        )
        records.append(Record(topics.alerts, 0, index, 0, b"", encode_alert(alert)))
    return records


def ends_of(records: Sequence[Record]) -> dict[tuple[str, int], int]:
    """Where each partition ends."""
    ends: dict[tuple[str, int], int] = {}
    for record in records:
        partition = (record.topic, record.partition)
        ends[partition] = max(ends.get(partition, 0), record.offset + 1)
    return ends


def write_undisturbed(database: str, records: Sequence[Record], topics: Topics) -> None:
    """What a sink that nothing happens to writes."""
    batcher = Batcher(topics, BatchLimits(10**9, 10**12, 0, 0))
    for record in records:
        batcher.add(record, 0)
    batch = batch_of(batcher.take(1), RowEncoder())
    store = Store(database, topics.otlp_spans)
    store.store(batch, store.offsets(list(batch.ranges)), lambda letters: pytest.fail(f"letters: {letters}"))
    store.close()


def environment_of(kafka_environment: dict[str, str], database: str) -> dict[str, str]:
    return {
        **kafka_environment,
        "TRACEWATCH_DATABASE_URL": database,
        "TRACEWATCH_SINK_SESSION_TIMEOUT_S": "6",
        "TRACEWATCH_SINK_BATCH_ROWS": "400",
        "TRACEWATCH_SINK_FLUSH_AFTER_S": "0.02",
        "TRACEWATCH_SINK_RETRY_MAX_S": "0.5",
        "TRACEWATCH_SINK_RETENTION_INTERVAL_S": "0",
    }


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of the test's own, migrated, to be stopped and crashed."""
    with EmbeddedPostgres(log_path=tmp_path / "postgres.log") as server:
        services.migrate(server.url)
        yield server


def test_twenty_kills_under_load_and_a_second_sink_change_nothing(
    kafka: KafkaServer,
    make_topics: Callable[..., Topics],
    kafka_environment: dict[str, str],
    database: str,
    empty_twin: str,
    packing: Packing,
    tmp_path: Path,
) -> None:
    topics = make_topics(partitions=PARTITIONS)
    records = workload(topics)
    ends = ends_of(records)
    environment = environment_of(kafka_environment, database)
    pick = random.Random(3)
    size = -(-len(records) // (KILLS + 1))
    with ExitStack() as lives:
        for life in range(KILLS):
            # A dead member would keep its partitions for a session's time: each life is a group of its own, which is
            # harder on the offsets in PostgreSQL, since nothing but these tells where to read on.
            sink = SinkProcess(
                {**environment, "TRACEWATCH_SINK_GROUP_ID": f"g{topics.prefix}{life}"}, tmp_path / f"sink-{life}.log"
            )
            lives.enter_context(sink)
            before = stored_offsets(database)
            produce(kafka.bootstrap_servers, records[life * size : (life + 1) * size])
            if life % 4:  # else it dies wherever its start has come to
                eventually(lambda seen=before: stored_offsets(database) != seen)
            time.sleep(pick.random() * 0.1)
            sink.kill()
        for name in ("left", "right"):
            log = tmp_path / f"sink-{name}.log"
            lives.enter_context(SinkProcess({**environment, "TRACEWATCH_SINK_COMPILED": "always"}, log))
            eventually(lambda log=log: "rows are made by compiled code" in log.read_text(), timeout_s=120)
        produce(kafka.bootstrap_servers, records[KILLS * size :])
        eventually(lambda: stored_offsets(database), lambda stored: ends.items() <= stored.items(), timeout_s=60)
    write_undisturbed(empty_twin, records, topics)
    assert contents(database) == contents(empty_twin)


def test_a_crash_and_a_stop_of_postgresql_lose_nothing(
    kafka: KafkaServer,
    make_topics: Callable[..., Topics],
    kafka_environment: dict[str, str],
    own_postgres: EmbeddedPostgres,
    empty_twin: str,
    packing: Packing,
    tmp_path: Path,
) -> None:
    topics = make_topics(partitions=PARTITIONS)
    records = workload(topics, traces=1500)
    ends = ends_of(records)
    log = tmp_path / "sink.log"
    produced = threading.Thread(target=_produce_slowly, args=(kafka.bootstrap_servers, records), daemon=True)
    with SinkProcess(environment_of(kafka_environment, own_postgres.url), log) as sink:
        eventually(lambda: stored_offsets(own_postgres.url))
        produced.start()
        eventually(lambda: sum(stored_offsets(own_postgres.url).values()) > 300)
        own_postgres.kill()  # as pg_ctl restart -m immediate does: nothing is written back
        own_postgres.start()
        eventually(lambda: sum(stored_offsets(own_postgres.url).values()) > 600)
        own_postgres.stop()
        produced.join()
        time.sleep(AWAY_S)
        assert "PostgreSQL is away since" in log.read_text()
        own_postgres.start()
        eventually(
            lambda: stored_offsets(own_postgres.url), lambda stored: ends.items() <= stored.items(), timeout_s=60
        )
        assert sink.terminate() == 0
    assert "PostgreSQL is back after" in log.read_text()
    write_undisturbed(empty_twin, records, topics)
    assert contents(own_postgres.url) == contents(empty_twin)


def test_two_sinks_that_come_and_go_share_the_work_and_change_nothing(
    kafka: KafkaServer,
    make_topics: Callable[..., Topics],
    kafka_environment: dict[str, str],
    database: str,
    empty_twin: str,
    packing: Packing,
    tmp_path: Path,
) -> None:
    topics = make_topics(partitions=PARTITIONS)
    records = workload(topics, traces=1500)
    ends = ends_of(records)
    environment = environment_of(kafka_environment, database)
    produced = threading.Thread(target=_produce_slowly, args=(kafka.bootstrap_servers, records), daemon=True)
    with SinkProcess(environment, tmp_path / "first.log") as first:
        eventually(lambda: stored_offsets(database))
        produced.start()
        with SinkProcess(environment, tmp_path / "second.log") as second:
            eventually(lambda: "assigned" in (tmp_path / "second.log").read_text())
            eventually(lambda: sum(stored_offsets(database).values()) > 500)
            assert first.terminate() == 0
            with SinkProcess(environment, tmp_path / "third.log"):
                eventually(lambda: "assigned" in (tmp_path / "third.log").read_text())
                second.kill()
                produced.join()
                eventually(
                    lambda: stored_offsets(database), lambda stored: ends.items() <= stored.items(), timeout_s=60
                )
    write_undisturbed(empty_twin, records, topics)
    assert contents(database) == contents(empty_twin)


def _produce_slowly(bootstrap_servers: str, records: Sequence[Record], pieces: int = 20) -> None:
    size = -(-len(records) // pieces)
    for start in range(0, len(records), size):
        produce(bootstrap_servers, records[start : start + size])
        time.sleep(0.3)
