"""The sink as a process, and what stands in the database afterwards."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar

import psycopg
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.consumer import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord

from sink.batches import Record

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
#: Bookkeeping that tells when, not what.
NOT_CONTENT = {"traces": ("stored_at", "digest")}
CONTENT_TABLES = (
    "traces",
    "service_traces",
    "service_dependencies",
    "resources",
    "scopes",
    "operation_windows",
    "operation_minutes",
    "operation_hours",
    "hop_windows",
    "hop_minutes",
    "hop_hours",
    "alerts",
    "service_health",
    "error_groups",
    "error_group_minutes",
)


class SinkProcess:
    """``python -m sink``, to be killed and started again."""

    def __init__(self, environment: Mapping[str, str], log_path: Path) -> None:
        self._environment = {**os.environ, **environment, "TRACEWATCH_SINK_PORT": "0"}
        self.log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sink"], cwd=ROOT, env=self._environment, stdout=log, stderr=log
            )
        return self

    def kill(self) -> None:
        self._running().kill()
        self._running().wait()

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self._running().send_signal(signal.SIGTERM)
        return self._running().wait(timeout=20)

    @property
    def url(self) -> str:
        """Where it serves /healthz and /metrics."""
        found = eventually(lambda: re.findall(r"on (http://\S+)", self.log_path.read_text()))
        return str(found[-1])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process


def eventually(read: Callable[[], T], holds: Callable[[T], bool] = bool, timeout_s: float = 30) -> T:
    """What ``read`` gives as soon as it ``holds``."""
    deadline = time.monotonic() + timeout_s
    while not holds(value := read()):
        assert time.monotonic() < deadline, f"still {value!r} after {timeout_s} s"
        time.sleep(0.05)
    return value


def produce(bootstrap_servers: str, records: Iterable[Record]) -> None:
    """Send records to the partitions that they name, in order."""

    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, linger_ms=5)
        await producer.start()
        try:
            for r in records:
                await producer.send(
                    r.topic,
                    r.value,
                    key=r.key,
                    partition=r.partition,
                    timestamp_ms=r.timestamp_ms or None,
                    headers=list(r.headers),
                )
            await producer.flush()
        finally:
            await producer.stop()

    _in_a_loop_of_its_own(send)


def consumed(bootstrap_servers: str, topic: str, count: int, timeout_s: float = 20) -> list[ConsumerRecord]:
    """The first ``count`` records of partition 0 of a topic."""

    async def read() -> list[ConsumerRecord]:
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest")
        await consumer.start()
        try:
            consumer.assign([TopicPartition(topic, 0)])
            found: list[ConsumerRecord] = []
            deadline = time.monotonic() + timeout_s
            while len(found) < count and time.monotonic() < deadline:
                for messages in (await consumer.getmany(timeout_ms=200)).values():
                    found += messages
            return found
        finally:
            await consumer.stop()

    return _in_a_loop_of_its_own(read)


def told_offsets(bootstrap_servers: str, group_id: str) -> dict[tuple[str, int], int]:
    """How far Kafka was told that a group has come."""

    async def read() -> dict[tuple[str, int], int]:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
        await admin.start()
        try:
            told = await admin.list_consumer_group_offsets(group_id)
            return {(tp.topic, tp.partition): int(found.offset) for tp, found in told.items()}
        finally:
            await admin.close()

    return _in_a_loop_of_its_own(read)


def query(database: str, statement: str, *parameters: object) -> list[tuple[object, ...]]:
    """The rows of a query."""
    with psycopg.connect(database) as connection:
        return connection.execute(statement, parameters).fetchall()


def stored_offsets(database: str) -> dict[tuple[str, int], int]:
    rows = query(database, "SELECT topic, partition, next_offset FROM sink_offsets")
    return {(str(topic), int(str(partition))): int(str(offset)) for topic, partition, offset in rows}


def contents(database: str) -> dict[str, tuple[int, str]]:
    """Of every table of the history: how many rows, and a checksum over all of them."""
    found = {}
    with psycopg.connect(database) as connection:
        for table in CONTENT_TABLES:
            row = "to_jsonb(t)" + "".join(f" - '{column}'" for column in NOT_CONTENT.get(table, ()))
            count, checksum = connection.execute(
                f"SELECT count(*), md5(coalesce(string_agg(md5(({row})::text), '' ORDER BY ({row})::text), ''))"
                f" FROM {table} t"
            ).fetchone()
            found[table] = (count, checksum)
    return found


def _in_a_loop_of_its_own(work: Callable[[], "asyncio.Future[T]"]) -> T:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result(120)
