"""A deployment of the test's own: topics, database, live stream worker and sink; and replays, run as people do."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import ConsumerRecord

from tests import services
from tests.conftest import environment_of
from tests.replay.derived import DERIVED_TABLES, ROAD
from tests.services import ROOT, KafkaServer, PostgresServer
from tests.sink.harness import CONTENT_TABLES, SinkProcess, eventually, query
from tests.stream.worker import QUICK, StreamWorker
from tracecore.topics import Topics

PARTITIONS = 2
#: When traces and windows close: the same for live workers and for those of replays, or other traces would come out.
#: Longer than a live worker is behind the broker's clock on a machine that has too much to do, or spans would be late.
CLOSING = {"settle_s": "3", "idle_s": "8", "window_grace_s": "4"}


class Deployment:
    """Servers are the session's; topics, groups and the database are this deployment's."""

    def __init__(self, kafka: KafkaServer, database: str, logs: Path) -> None:
        self.kafka = kafka
        self.database = database
        self.logs = logs
        prefix = f"replay-{uuid4().hex[:8]}."
        self.topics = Topics(prefix, f"{prefix}otlp_spans")
        self.environment = {
            **environment_of(kafka, self.topics),
            **QUICK,
            **{f"TRACEWATCH_STREAM_{name.upper()}": value for name, value in CLOSING.items()},
            "TRACEWATCH_DATABASE_URL": database,
            "TRACEWATCH_KAFKA_PARTITIONS": str(PARTITIONS),
            "TRACEWATCH_REPLAY_CHECKPOINT_S": "0.2",
            "TRACEWATCH_REPLAY_DRAIN_TIMEOUT_S": "60",
            "TRACEWATCH_REPLAY_NICE": "0",
        }

    @contextmanager
    def running(self) -> Iterator["Deployment"]:
        """With a sink and a live stream worker."""
        for spec in self.topics.specs():
            partitions = PARTITIONS if spec.partitioned else 1
            services.create_topic(self.kafka.bootstrap_servers, spec.name, partitions, dict(spec.config))
        self.sink = SinkProcess(self.environment, self.logs / "sink.log")
        with self.sink:
            yield self

    def live_worker(self, **settings: str) -> StreamWorker:
        return StreamWorker(self.environment, self.logs / "stream.log", **CLOSING, **settings)

    def create_topic(self, name: str, config: dict[str, str]) -> None:
        """A topic of another's."""
        services.create_topic(self.kafka.bootstrap_servers, name, PARTITIONS, config)

    def send(
        self,
        records: Iterable[tuple[int, bytes]],
        topic: str = "",
        timestamp_ms: int | None = None,
        headers: Iterable[tuple[str, bytes]] = (),
    ) -> None:
        """Records to their partitions, in order; by default to the topic of spans."""

        async def send() -> None:
            producer = AIOKafkaProducer(bootstrap_servers=self.kafka.bootstrap_servers)
            await producer.start()
            try:
                for partition, value in records:
                    await producer.send_and_wait(
                        topic or self.topics.spans,
                        value,
                        partition=partition,
                        timestamp_ms=timestamp_ms,
                        headers=list(headers),
                    )
            finally:
                await producer.stop()

        in_a_loop_of_its_own(send())

    def replay(self, *arguments: str, expect: int = 0) -> str:
        """``python -m replay ARGUMENTS``; what it printed."""
        # Two stream workers in a row, where it is a back-test: patience, for machines that have too much to do.
        done = services.run_room("replay", *arguments, environment=self.environment, timeout_s=400)
        said = done.stdout + done.stderr
        assert done.returncode == expect, f"exit code {done.returncode} of replay {' '.join(arguments)}:\n{said}"
        return said

    def start_replay(self, *arguments: str) -> subprocess.Popen[str]:
        """As ``replay``, but returns at once."""
        return subprocess.Popen(
            [sys.executable, "-m", "replay", *arguments],
            cwd=ROOT,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def derived(self) -> dict[str, list[str]]:
        """Of every table that is derived from spans: what its rows say, in an order of their own."""
        found: dict[str, list[str]] = {}
        with psycopg.connect(self.database) as connection:
            for table in DERIVED_TABLES:
                row = "to_jsonb(t)" + "".join(f" - '{column}'" for column in ROAD.get(table, ()))
                found[table] = [
                    text for (text,) in connection.execute(f"SELECT ({row})::text FROM {table} t ORDER BY 1")
                ]
        return found

    def forget_history(self) -> None:
        """As after tables were dropped and made anew; where the sink stands is kept."""
        # It knows which resources it has stored already.
        self.sink.terminate()
        with psycopg.connect(self.database) as connection:
            connection.execute(f"TRUNCATE {', '.join((*CONTENT_TABLES, 'replays'))} CASCADE")
        self.sink.start()

    def derive_as_an_older_version(self) -> None:
        """What is derived becomes what other code might have derived: no links, no critical paths, other histograms."""
        self.sink.terminate()
        with psycopg.connect(self.database) as connection:
            for statement in (
                "UPDATE traces SET digest = 'older', links = '[]', critical_path = '[]'",
                "UPDATE service_traces SET critical_path_ns = 0, self_time_ns = duration_ns",
                "DELETE FROM service_dependencies",
                *(
                    f"UPDATE operation_{table} SET duration_buckets = '{{1}}', duration_counts = ARRAY[spans]"
                    for table in ("windows", "minutes", "hours")
                ),
            ):
                connection.execute(statement)
        self.sink.start()

    def another_unfinished(self) -> None:
        with psycopg.connect(self.database) as connection:
            connection.execute(
                "INSERT INTO replays (replay_id, name, source, request, state)"
                " VALUES ('other', 'other', 'topic:elsewhere', '{}', 'failed')"
            )

    def query(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        return query(self.database, statement, *parameters)

    def count(self, statement: str, *parameters: object) -> int:
        return int(str(query(self.database, statement, *parameters)[0][0]))

    def await_traces(self, traces: int, timeout_s: float = 60) -> None:
        eventually(lambda: self.count("SELECT count(*) FROM traces"), lambda count: count >= traces, timeout_s)

    def committed(self, group: str) -> dict[tuple[str, int], int]:
        """Offsets of a consumer group by topic and partition; empty if there is none."""

        async def ask() -> dict[tuple[str, int], int]:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka.bootstrap_servers)
            await admin.start()
            try:
                offsets = await admin.list_consumer_group_offsets(group)
                return {(tp.topic, tp.partition): at.offset for tp, at in offsets.items()}
            finally:
                await admin.close()

        return in_a_loop_of_its_own(ask())

    def records(self, topic: str, partitions: int = PARTITIONS) -> list[ConsumerRecord]:
        """All that stands in a topic."""

        async def read() -> list[ConsumerRecord]:
            consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka.bootstrap_servers, auto_offset_reset="earliest")
            await consumer.start()
            try:
                assigned = [TopicPartition(topic, number) for number in range(partitions)]
                consumer.assign(assigned)
                await consumer.seek_to_beginning(*assigned)
                found: list[ConsumerRecord] = []
                while True:
                    for messages in (await consumer.getmany(timeout_ms=300)).values():
                        found += messages
                    marks = [(consumer.highwater(tp), await consumer.position(tp)) for tp in assigned]
                    if all(end is not None and at >= end for end, at in marks):
                        return found
            finally:
                await consumer.stop()

        return in_a_loop_of_its_own(read())


def ended(process: subprocess.Popen[str], by: signal.Signals | None = None) -> tuple[int, str]:
    """The exit code of a replay, and what it printed; ``by``: send that signal first."""
    if by is not None:
        process.send_signal(by)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


@contextmanager
def deployment(kafka: KafkaServer, postgres: PostgresServer, template: str, logs: Path) -> Iterator[Deployment]:
    """A running one, without a live worker."""
    name = f"replay_{uuid4().hex[:8]}"
    url = postgres.create_database(name, template=template)
    try:
        with Deployment(kafka, url, logs).running() as made:
            yield made
    finally:
        postgres.drop_database(name)


def differences(one: dict[str, list[str]], other: dict[str, list[str]]) -> dict[str, list[str]]:
    """Of tables that differ, the columns that do; the column "rows" if one has more."""
    found: dict[str, list[str]] = {}
    for table in one:
        if one[table] != other[table]:
            rows, others = ([json.loads(row) for row in each[table]] for each in (one, other))
            names = sorted(rows[0] if rows else [])
            found[table] = (
                ["rows"] if len(rows) != len(others) else [n for n in names if _column(rows, n) != _column(others, n)]
            )
    return found


def _column(rows: list[dict[str, object]], name: str) -> list[str]:
    return sorted(json.dumps(row[name]) for row in rows)


def in_a_loop_of_its_own(work):  # type: ignore[no-untyped-def]
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result(120)


def lines_of(said: str) -> Sequence[str]:
    return [line.strip() for line in said.splitlines()]
