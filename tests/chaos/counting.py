"""What there is at the end: rows in PostgreSQL, records on the topics, and what a client of the live feed was told."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator

import psycopg
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from quickstart.feed import alerts
from tests.chaos.books import AlertEvent, StoredTrace
from tests.chaos.poison import POISON_SERVICE, number_of
from tracecore import wire
from tracecore.topics import Topics

logger = logging.getLogger(__name__)


def stored_traces(url: str) -> Iterator[StoredTrace]:
    """Every trace of the history; rows and summaries that stand alone too."""
    with psycopg.connect(url) as connection, connection.cursor("stored") as cursor:
        cursor.itersize = 20_000
        cursor.execute(
            "SELECT trace_id, coalesce(rows, 0), coalesce(span_ids, 0), coalesce(span_count, 0) FROM"
            " (SELECT trace_id, count(*) AS rows, count(DISTINCT span_id) AS span_ids FROM service_traces GROUP BY 1)"
            " AS counted FULL JOIN traces USING (trace_id)"
        )
        for row in cursor:
            yield StoredTrace(*row)


def totals(url: str) -> dict[str, int]:
    """Sums that have to agree with the rows: of spans in windows, minutes and hours, of calls and errors."""
    # Poison with a NUL is a span like any other until it is to be stored: it is counted, and has no row.
    counted = f"SELECT coalesce(sum(spans), 0) FROM %s WHERE service <> '{POISON_SERVICE}'"
    statements = {
        "rows": "SELECT count(*) FROM service_traces",
        "operation_windows": counted % "operation_windows",
        "operation_minutes": counted % "operation_minutes",
        "operation_hours": counted % "operation_hours",
        "error rows": "SELECT count(*) FROM service_traces WHERE status = 2",
        "error_group_minutes": "SELECT coalesce(sum(errors), 0) FROM error_group_minutes",
        "calls in traces": (
            "SELECT coalesce(sum((link->>3)::bigint), 0) FROM traces, jsonb_array_elements(links) AS link"
        ),
        "service_dependencies": "SELECT coalesce(sum(calls), 0) FROM service_dependencies",
    }
    with psycopg.connect(url) as connection:
        return {name: int((connection.execute(text).fetchone() or (0,))[0]) for name, text in statements.items()}  # type: ignore[arg-type]


def window_differences(url: str) -> list[tuple[str, int, int, int]]:
    """Where windows say other than rows do: entrance, the window's start in Unix seconds, rows, spans in windows.

    What a producer's clock puts into the future is counted at its arrival, so such spans differ in two places.
    """
    statement = (
        "SELECT entrance, at_s, coalesce(rows, 0), coalesce(counted, 0) FROM"
        " (SELECT split_part(service, '-', 1) AS entrance, (start_ns + duration_ns) / 10000000000 * 10 AS at_s,"
        "  count(*) AS rows FROM service_traces GROUP BY 1, 2) AS stored FULL JOIN"
        " (SELECT split_part(service, '-', 1) AS entrance, extract(epoch FROM start_time)::bigint AS at_s,"
        f"  sum(spans)::bigint AS counted FROM operation_windows WHERE service <> '{POISON_SERVICE}' GROUP BY 1, 2)"
        " AS windows USING (entrance, at_s) WHERE rows IS DISTINCT FROM counted ORDER BY 1, 2"
    )
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchall()


def stored_alerts(url: str) -> dict[tuple[str, int], str]:
    """Status by episode."""
    with psycopg.connect(url) as connection:
        return {
            (f, at): status
            for f, at, status in connection.execute("SELECT fingerprint, starts_at_ns, status FROM alerts")
        }


async def dead_letters(bootstrap_servers: str) -> tuple[Counter[int], int]:
    """How often each poison record is among the dead letters, and how many letters are none of ours."""
    found: Counter[int] = Counter()
    others = 0
    for record in await records(bootstrap_servers, Topics().dead_letters):
        number = number_of(record.value or b"")
        if number is None:
            others += 1
            logger.warning("a dead letter that is no poison of ours: %s", dict(record.headers))
        else:
            found[number] += 1
    return found, others


async def alert_events(bootstrap_servers: str) -> list[AlertEvent]:
    """The topic of alerts, in its order."""
    found = []
    for record in await records(bootstrap_servers, Topics().alerts):
        alert = wire.decode_alert(record.value or b"")
        labels = alert.labels
        found.append(
            AlertEvent(
                alert.fingerprint, alert.starts_at_ns, alert.status, labels["alertname"], labels["service"],
                labels["operation"], alert.updated_at_ns,
            )
        )  # fmt: skip
    return found


async def topics(bootstrap_servers: str) -> list[str]:
    """All topics but Kafka's own."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        return [name for name in await admin.list_topics() if not name.startswith("__")]
    finally:
        await admin.close()


async def records(bootstrap_servers: str, topic: str) -> list[ConsumerRecord]:
    """All records of a topic that is not too large for that."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        await consumer.topics()
        consumer.assign([TopicPartition(topic, 0)])
        while not (numbers := consumer.partitions_for_topic(topic)):  # noqa: ASYNC110  it has no event
            await asyncio.sleep(0.05)
        partitions = [TopicPartition(topic, number) for number in numbers]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        found: list[ConsumerRecord] = []
        while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
            for batch in (await consumer.getmany(timeout_ms=300)).values():
                found += batch
        return found
    finally:
        await consumer.stop()


async def watch_feed(live_url: str, received: list[AlertEvent]) -> None:
    """Until cancelled: note every alert that a client of the live feed is told, over any number of connections."""
    async for each in alerts(live_url):
        alert = each.alert
        labels = alert["labels"]
        received.append(
            AlertEvent(
                alert["fingerprint"], alert["starts_at_ns"], alert["status"], labels["alertname"], labels["service"],
                labels["operation"], alert["updated_at_ns"],
            )
        )  # fmt: skip
