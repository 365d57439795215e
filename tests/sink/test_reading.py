"""Reading from Kafka by librdkafka: what is read and when, who is told what, and what happens without Kafka."""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

from quickstart.apache_kafka import ApacheKafka
from quickstart.embedded_broker import EmbeddedBroker
from sink.batches import Record
from sink.errors import KafkaAway, StoreAway
from sink.letter_box import LARGEST_BYTES, LetterBox
from sink.letters import Letter, StoredLetter, record_letter
from sink.reading import SAID_AGAIN_S, Partition, Reader, client_logger
from tests import services
from tests.conftest import environment_of
from tests.services import KafkaServer
from tests.sink.builders import checkout_trace, records_of, trace_of
from tests.sink.harness import SinkProcess, consumed, eventually, produce, query, stored_offsets, told_offsets
from tracecore.dead_letter import REASON_HEADER
from tracecore.settings import KafkaSettings
from tracecore.topics import Topics


class Told:
    """Notes what a reader tells."""

    def __init__(self) -> None:
        self.partitions: set[Partition] = set()
        self.assigned = 0
        self.revoked = 0
        self.thread = 0
        self.so_far: dict[Partition, int] = {}

    async def on_assigned(self, partitions: Collection[Partition]) -> None:
        self.partitions = set(partitions)
        self.assigned += 1
        self.thread = threading.get_ident()

    async def on_revoked(self) -> Mapping[Partition, int]:
        self.partitions = set()
        self.revoked += 1
        return self.so_far


def settings_of(bootstrap_servers: str, topics: Topics) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=bootstrap_servers, topic_prefix=topics.prefix, otlp_topic=topics.otlp_spans)


async def joined(kafka: KafkaServer, topics: Topics, told: Told) -> Reader:
    """A reader of the traces that was told what it has been given."""
    reader = Reader(settings_of(kafka.bootstrap_servers, topics), f"{topics.prefix}readers", 6)
    await reader.join([topics.traces], told)
    await read_until(reader, lambda: told.assigned > 0)
    return reader


async def read_until(reader: Reader, holds: Callable[[], bool], timeout_s: float = 30) -> list[Record]:
    """Read until it holds; what was read."""
    found: list[Record] = []
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not after {timeout_s} s"
        found += [record for records in (await reader.read(256, 0.1)).values() for record in records]
    return found


async def read(reader: Reader, count: int, timeout_s: float = 30) -> list[Record]:
    """The next ``count`` records, and what came with the last of them."""
    found: list[Record] = []
    deadline = time.monotonic() + timeout_s
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count}"
        found += [record for records in (await reader.read(7, 0.1)).values() for record in records]
    return found


def numbered(topics: Topics, count: int, partition: int = 0) -> list[Record]:
    return [
        Record(topics.traces, partition, n, 0, b"k%d" % n, b"v%d" % n, (("h", b"%d" % n),) if n % 2 else ())
        for n in range(count)
    ]


async def test_nothing_is_read_before_it_is_begun_and_then_each_record_from_there(
    kafka: KafkaServer, make_topics: Callable[..., Topics]
) -> None:
    topics = make_topics(partitions=2)
    produce(kafka.bootstrap_servers, [*numbered(topics, 40), *numbered(topics, 40, partition=1)])
    told = Told()
    reader = await joined(kafka, topics, told)
    try:
        assert told.partitions == {(topics.traces, 0), (topics.traces, 1)}
        assert told.thread == threading.get_ident(), "it is told on the loop's thread"
        assert not await reader.read(256, 0.5)
        assert await reader.beginnings(told.partitions) == dict.fromkeys(told.partitions, 0)
        await reader.begin({(topics.traces, 0): 10, (topics.traces, 1): 0})
        found = await read(reader, 70)
        expected = [*numbered(topics, 40)[10:], *numbered(topics, 40, partition=1)]
        assert sorted(record._replace(timestamp_ms=0) for record in found) == expected
        assert all(abs(record.timestamp_ms / 1000 - time.time()) < 120 for record in found)
        assert await reader.log_ends(told.partitions) == dict.fromkeys(told.partitions, 40)
        assert not await reader.ends_before((topics.traces, 0), 40)
        if kafka.is_apache:
            assert await reader.ends_before((topics.traces, 0), 41)
    finally:
        await reader.close()


async def test_what_was_fetched_before_a_new_beginning_is_not_read_after_it(
    kafka: KafkaServer, make_topics: Callable[..., Topics]
) -> None:
    topics = make_topics(partitions=1)
    produce(kafka.bootstrap_servers, numbered(topics, 500))
    reader = await joined(kafka, topics, Told())
    partition = (topics.traces, 0)
    try:
        for offset in (0, 100, 30, 400, 0, 499):
            await reader.begin({partition: offset})
            assert [record.offset for record in await read(reader, 1)][:1] == [offset]
        await reader.begin({partition: 100})
        await read(reader, 50)
        assert await reader.begin_again(partition)
        assert [record.offset for record in await read(reader, 500)] == list(range(500))
    finally:
        await reader.close()


async def test_a_pause_loses_nothing_and_repeats_nothing(
    kafka: KafkaServer, make_topics: Callable[..., Topics]
) -> None:
    topics = make_topics(partitions=1)
    produce(kafka.bootstrap_servers, numbered(topics, 300))
    reader = await joined(kafka, topics, Told())
    try:
        await reader.begin({(topics.traces, 0): 0})
        found = await read(reader, 20)
        await reader.pause()
        assert not await reader.read(256, 0.5)
        await reader.resume()
        found += await read(reader, 300 - len(found))
        assert [record.offset for record in found] == list(range(300))
        await reader.pause()
        await reader.begin({(topics.traces, 0): 290})
        assert len(await read(reader, 10)) == 10, "what is begun is not paused"
    finally:
        await reader.close()


async def test_a_member_that_reads_by_aiokafka_shares_the_group(
    kafka: KafkaServer, make_topics: Callable[..., Topics]
) -> None:
    topics = make_topics(partitions=4)
    told = Told()
    told.so_far = {(topics.traces, 1): 17}
    reader = await joined(kafka, topics, told)
    other = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers,
        group_id=f"{topics.prefix}readers",
        enable_auto_commit=False,
        session_timeout_ms=6000,
    )
    other.subscribe([topics.traces])
    starting = asyncio.create_task(other.start())
    try:
        await read_until(reader, lambda: told.assigned == 2 and len(told.partitions) == 2)
        assert told.revoked == 1
        told_kafka = await asyncio.to_thread(told_offsets, kafka.bootstrap_servers, f"{topics.prefix}readers")
        assert told_kafka[topics.traces, 1] == 17
        await starting
        await read_until(reader, lambda: len(other.assignment()) == 2)
        assert told.partitions.isdisjoint({(tp.topic, tp.partition) for tp in other.assignment()})
    finally:
        await other.stop()
        await read_until(reader, lambda: len(told.partitions) == 4)
        await reader.close()


async def test_who_cannot_reach_kafka_is_told_why() -> None:
    reader = Reader(KafkaSettings(bootstrap_servers="127.0.0.1:1"), "nobody", 6)
    try:
        with pytest.raises(KafkaAway, match="refused"):
            await reader.topics()
    finally:
        await reader.close()


def test_a_log_that_was_made_anew_is_read_from_its_beginning(
    apache_kafka: KafkaServer,
    make_topics: Callable[..., Topics],
    kafka_environment: dict[str, str],
    database: str,
    tmp_path: Path,
) -> None:
    topics = make_topics(partitions=1)
    servers, log = apache_kafka.bootstrap_servers, tmp_path / "sink.log"
    produce(servers, records_of([trace_of(checkout_trace(n)) for n in range(40)], topics))
    with SinkProcess({**kafka_environment, "TRACEWATCH_DATABASE_URL": database}, log) as sink:
        eventually(lambda: query(database, "SELECT count(*) FROM traces"), lambda rows: rows == [(40,)])
        services.delete_topics(servers, topics.traces)
        eventually(lambda: made_again(servers, topics), timeout_s=20)
        produce(servers, records_of([trace_of(checkout_trace(n)) for n in range(100, 105)], topics))
        eventually(lambda: query(database, "SELECT count(*) FROM traces"), lambda rows: rows == [(45,)], timeout_s=60)
        assert stored_offsets(database)[topics.traces, 0] == 5
        produce(servers, records_of([trace_of(checkout_trace(105))], topics))
        eventually(lambda: query(database, "SELECT count(*) FROM traces"), lambda rows: rows == [(46,)])
        assert sink.terminate() == 0


def made_again(bootstrap_servers: str, topics: Topics) -> bool:
    """Whether the topic of the traces could be created, which may be too soon after it was deleted."""
    try:
        services.create_topic(bootstrap_servers, topics.traces, 1, {})
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "silent"])
def test_a_sink_ends_in_time_without_kafka(topics: Topics, database: str, tmp_path: Path, blow: signal.Signals) -> None:
    with EmbeddedBroker(log_path=tmp_path / "broker.log") as broker:
        server = KafkaServer(broker.bootstrap_servers, "embedded")
        for spec in topics.specs():
            services.create_topic(broker.bootstrap_servers, spec.name, 1, {})
        environment = {
            **environment_of(server, topics),
            "TRACEWATCH_DATABASE_URL": database,
            "TRACEWATCH_SINK_SESSION_TIMEOUT_S": "6",
        }
        with SinkProcess(environment, tmp_path / "sink.log") as sink:
            produce(broker.bootstrap_servers, records_of([trace_of(checkout_trace(1))], topics))
            eventually(lambda: query(database, "SELECT count(*) FROM traces"), lambda rows: rows == [(1,)])
            pid = broker.process.pid
            assert pid is not None
            os.kill(pid, blow)
            try:
                assert sink.terminate() == 0, sink.log_path.read_text()
            finally:
                os.kill(pid, signal.SIGCONT) if blow == signal.SIGSTOP else None
        assert "Traceback" not in sink.log_path.read_text()


def test_a_kafka_that_crashes_and_comes_back_is_read_on(
    crashable_kafka: ApacheKafka, topics: Topics, database: str, tmp_path: Path
) -> None:
    servers = crashable_kafka.bootstrap_servers
    for spec in topics.specs():
        services.create_topic(servers, spec.name, 1, {})
    environment = {
        **environment_of(KafkaServer(servers, "apache"), topics),
        "TRACEWATCH_DATABASE_URL": database,
        "TRACEWATCH_SINK_SESSION_TIMEOUT_S": "6",
    }
    log = tmp_path / "sink.log"
    with SinkProcess(environment, log) as sink:
        produce(servers, records_of([trace_of(checkout_trace(n)) for n in range(50)], topics))
        eventually(lambda: query(database, "SELECT count(*) FROM traces"), lambda rows: rows == [(50,)])
        crashable_kafka.kill()
        eventually(lambda: "librdkafka" in log.read_text())
        crashable_kafka.start()
        produce(servers, records_of([trace_of(checkout_trace(n)) for n in range(50, 80)], topics))
        eventually(lambda: query(database, "SELECT count(*) FROM traces"), lambda rows: rows == [(80,)], timeout_s=60)
        assert sink.terminate() == 0
    assert log.read_text().count("Connection refused") < 10, "it is said, and not twenty times a second"


def test_what_librdkafka_repeats_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    logger = client_logger()
    assert client_logger() is logger and len(logger.filters) == 1
    with caplog.at_level(logging.WARNING, "librdkafka"):
        for _ in range(5):
            logger.error("TESTING [thrd:a]: connection refused")
        logger.warning("ANOTHER [thrd:a]: of another kind")
        logger.info("TESTED: nobody wants to know")
    assert [record.message.split()[0] for record in caplog.records] == ["TESTING", "ANOTHER"]
    assert SAID_AGAIN_S > 1


def test_letters_are_at_kafka_when_they_are_sent(kafka: KafkaServer, make_topics: Callable[..., Topics]) -> None:
    topics = make_topics(partitions=1)
    box = LetterBox(settings_of(kafka.bootstrap_servers, topics))
    whole = Letter(b"key", b"value", (("one", b"1"), ("two", b"")))
    large = Letter(None, bytes(LARGEST_BYTES + 1), (("one", b"1"),))
    box.send([whole, large])
    found = consumed(kafka.bootstrap_servers, topics.dead_letters, 2)
    assert [(each.key, each.value or b"", tuple(each.headers)) for each in found] == [
        (whole.key, whole.value, whole.headers),
        (None, b"", large.headers),
    ]


def test_a_letter_of_large_headers_still_says_where_it_stood_and_why(
    kafka: KafkaServer, topics: Topics, make_topic: Callable[..., str]
) -> None:
    make_topic(topics.dead_letters, config={"max.message.bytes": "1000"})
    record = Record(topics.traces, 3, 17, 0, b"key", b"value", (("long", bytes(1000)), (REASON_HEADER, bytes(1000))))
    LetterBox(settings_of(kafka.bootstrap_servers, topics)).send([record_letter(record, "it is odd")])
    (found,) = consumed(kafka.bootstrap_servers, topics.dead_letters, 1)
    stored = StoredLetter("", 0, found.key, found.value or b"", tuple(found.headers))
    assert (stored.key, stored.value, stored.own_headers) == (None, b"", ())
    assert (stored.origin, stored.reason) == (f"{topics.traces}[3]@17", "it is odd")


def test_letters_that_nobody_takes_are_to_be_sent_again(
    kafka: KafkaServer, topics: Topics, make_topic: Callable[..., str]
) -> None:
    make_topic(topics.dead_letters, config={"max.message.bytes": "100"})
    box = LetterBox(settings_of(kafka.bootstrap_servers, topics))
    with pytest.raises(StoreAway, match="takes no record"):
        box.send([record_letter(Record(topics.traces, 3, 17, 0, b"key", b"value"), "it is odd")])
