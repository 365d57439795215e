"""``python -m quickstart doctor``: asks Kafka, PostgreSQL and the rooms' groups how they are, and says what to do."""

import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError

from quickstart.diagnosis import (
    Diagnosis,
    GroupSeen,
    TopicSeen,
    of_clock,
    of_group,
    of_migrations,
    of_topics,
)
from quickstart.program import ROOT
from tracecore.settings import DatabaseSettings, KafkaSettings, read

ANSWER_WITHIN_S: Final = 10.0
#: Between two looks at a lag: does it shrink?
WATCH_S: Final = 3.0
#: The rooms' own settings, which the doctor may not import.
_STREAM_GROUP, _SINK_GROUP = "TRACEWATCH_STREAM_APP_ID", "TRACEWATCH_SINK_GROUP_ID"


def diagnoses(environment: Mapping[str, str] = os.environ) -> list[Diagnosis]:
    """Of everything, in the order in which to mend it. Raises ``InvalidSetting``."""
    # What it could not do it raises; what it logs besides would stand in the middle of the report.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    kafka, database = read(KafkaSettings), read(DatabaseSettings)
    return [*asyncio.run(_of_kafka(kafka, environment)), *_of_postgres(database)]


async def _of_kafka(kafka: KafkaSettings, environment: Mapping[str, str]) -> list[Diagnosis]:
    admin = AIOKafkaAdminClient(**kafka.client_options())
    consumer = AIOKafkaConsumer(**kafka.client_options(), fetch_max_wait_ms=100)
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            await admin.start()
            await consumer.start()
    except (KafkaError, OSError, TimeoutError) as error:
        await admin.close()
        await consumer.stop()
        seen = f"{kafka.bootstrap_servers} by {kafka.security_protocol}: {str(error) or type(error).__name__}"
        remedy = (
            "Is it running, and is TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS right? With TLS or SASL compare"
            " TRACEWATCH_KAFKA_SECURITY_PROTOCOL, _SASL_* and _SSL_CAFILE with the broker's listener."
        )
        return [Diagnosis("Kafka", "broken", seen, remedy)]
    try:
        return await _of_what_kafka_holds(kafka, environment, admin, consumer)
    except KafkaError as error:
        # Let in, and then refused something: most often by an access list.
        remedy = f"May the user {kafka.sasl_username or 'nobody'} describe topics and groups? See docs/security.md."
        return [Diagnosis("Kafka", "broken", str(error), remedy)]
    finally:
        await consumer.stop()
        await admin.close()


async def _of_what_kafka_holds(
    kafka: KafkaSettings, environment: Mapping[str, str], admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer
) -> list[Diagnosis]:
    found = [Diagnosis("Kafka", "well", f"answers at {kafka.bootstrap_servers}")]
    topics = kafka.topics
    seen_topics = await _topics(kafka, admin, [spec.name for spec in topics.specs()])
    about_topics = of_topics(topics.specs(), seen_topics, kafka.partitions)
    found += about_topics
    if any(spec.name not in seen_topics for spec in topics.specs()):
        return found
    stream = environment.get(_STREAM_GROUP) or f"{kafka.topic_prefix}stream"
    sink = environment.get(_SINK_GROUP) or "tracewatch-sink"
    read_by = {
        stream: ("stream", [topics.spans]),
        sink: ("sink", [topics.traces, topics.windows, topics.alerts, topics.health]),
    }
    before = {group: await _lag(kafka, group, names) for group, (_, names) in read_by.items()}
    await asyncio.sleep(WATCH_S)
    for group, (room, names) in read_by.items():
        after = await _lag(kafka, group, names)
        seen_group = GroupSeen(await _members(kafka, group), before[group], after, WATCH_S)
        found.append(of_group(f"{room} (group {group})", room, seen_group))
    newest_ms = await _newest_ms(consumer, topics.spans)
    if newest_ms is not None:
        # The broker stamped it before now: it can tell of a clock ahead of ours, not of one behind.
        found.append(of_clock("Kafka's clock", max(0.0, newest_ms / 1000 - time.time())))
    return found


async def _topics(kafka: KafkaSettings, admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, TopicSeen]:
    there = set(await admin.list_topics())
    known = [name for name in names if name in there]
    if not known:
        return {}
    partitions = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics(known)}
    config = await _configs(kafka, known)
    return {name: TopicSeen(partitions[name], config.get(name, {})) for name in known}


async def _configs(kafka: KafkaSettings, topics: list[str]) -> dict[str, dict[str, str]]:
    """How topics are configured; nothing where the broker does not tell."""
    # By a connection of its own: the embedded broker answers what cannot be read, which ends the connection.
    admin = AIOKafkaAdminClient(**kafka.client_options(), request_timeout_ms=2000)
    config: dict[str, dict[str, str]] = {}
    try:
        await admin.start()
        for answer in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in topics]):
            for _, _, _, name, entries in answer.resources:
                config[name] = {entry[0]: entry[1] for entry in entries}
    except (KafkaError, ValueError):
        return {}
    finally:
        await admin.close()
    return config


async def _patiently(ask: Callable[[Any], Awaitable[Any]], what: Any) -> Any:
    """Ask again while the broker says that it cannot tell yet: a new one first has to make its topic of offsets."""
    deadline = time.monotonic() + ANSWER_WITHIN_S
    while True:
        try:
            return await ask(what)
        except KafkaError as error:
            if isinstance(error, KafkaConnectionError) or not error.retriable or time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.3)


async def _members(kafka: KafkaSettings, group: str) -> int | None:
    """How many read as ``group``; None where the broker cannot tell, as the embedded one cannot."""
    admin = AIOKafkaAdminClient(**kafka.client_options(), request_timeout_ms=2000)
    try:
        await admin.start()
        (answer,) = await _patiently(admin.describe_consumer_groups, [group])
        return sum(len(described[5]) for described in answer.groups)
    except (KafkaConnectionError, ValueError):
        return None
    finally:
        await admin.close()


async def _lag(kafka: KafkaSettings, group: str, topics: list[str]) -> int | None:
    """Records that ``group`` has yet to read; None while it has committed nothing."""
    # As a consumer of the group that is assigned by hand: it joins nothing and disturbs nobody.
    reader = AIOKafkaConsumer(**kafka.client_options(), group_id=group, enable_auto_commit=False)
    await reader.start()
    try:
        places = [TopicPartition(topic, n) for topic in topics for n in sorted(await _partitions(reader, topic))]
        reader.assign(places)
        read_to = {place: await reader.committed(place) for place in places}
        known = {place: offset for place, offset in read_to.items() if offset is not None}
        if not known:
            return None
        ends = await reader.end_offsets(list(known))
        return sum(max(0, ends[place] - offset) for place, offset in known.items())
    finally:
        await reader.stop()


async def _newest_ms(consumer: AIOKafkaConsumer, topic: str) -> int | None:
    """The broker's time of the newest record of ``topic``; None if it is empty."""
    partitions = [TopicPartition(topic, number) for number in sorted(await _partitions(consumer, topic))]
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)
    begins = await consumer.beginning_offsets(partitions)
    filled = [place for place in partitions if ends[place] > begins[place]]
    for place in partitions:
        consumer.seek(place, max(begins[place], ends[place] - 1))
    if not filled:
        return None
    records = await consumer.getmany(*filled, timeout_ms=2000)
    return max((record.timestamp for some in records.values() for record in some), default=None)


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    await consumer._client._wait_on_metadata(topic)
    return consumer.partitions_for_topic(topic) or set()


def _of_postgres(database: DatabaseSettings) -> list[Diagnosis]:
    url = database.url.get_secret_value()
    try:
        with psycopg.connect(url, connect_timeout=int(ANSWER_WITHIN_S), application_name="tracewatch-doctor") as server:
            row = server.execute("SELECT current_setting('server_version')").fetchone()
            asked_s = time.time()
            clock = server.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
            answered_s = time.time()
    except psycopg.Error as error:
        remedy = (
            "Is it running, and is TRACEWATCH_DATABASE_URL right? What the URL leaves out, PGHOST, PGPASSWORD"
            " and libpq's other variables say."
        )
        return [Diagnosis("PostgreSQL", "broken", str(error).strip().partition("\n")[0], remedy)]
    assert row is not None and clock is not None
    status = subprocess.run(
        [sys.executable, "-m", "migrations", "status"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return [
        Diagnosis("PostgreSQL", "well", f"answers, version {row[0]}"),
        of_migrations(status.returncode, status.stdout or status.stderr),
        # Half of the way there and back belongs to neither clock.
        of_clock("PostgreSQL's clock", clock[0] - (asked_s + answered_s) / 2),
    ]
