"""Alerting on a real broker and a real Faust app: findings in, alerts out, across a restart."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import faust
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from stream import alerting_agents
from tests.services import KafkaServer
from tracecore import wire
from tracecore.alert import Alert
from tracecore.finding import Finding
from tracecore.settings import KafkaSettings
from tracecore.topics import Topics


def error_finding(number: int = 0, service: str = "checkout") -> Finding:
    return Finding(
        finding_id=f"finding-{number}",
        kind="error",
        service=service,
        operation="PlaceOrder",
        at_ns=1_000_000_000 + number,
        arrival_ns=time.time_ns(),
        observed=1.0,
        unit="errors",
        labels={"error_type": "Timeout"},
        trace_id=f"{number + 1:032x}",
    )


@asynccontextmanager
async def alerting_app(kafka: KafkaServer, topics: Topics, datadir: Path) -> AsyncIterator[faust.App]:
    app = faust.App(
        f"{topics.prefix}stream",
        broker=f"kafka://{kafka.bootstrap_servers}",
        value_serializer="raw",
        datadir=datadir,
        topic_disable_leader=True,
        web_enabled=False,
        producer_linger=0.005,
        broker_session_timeout=6.0,
        broker_heartbeat_interval=1.0,
    )
    settings = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers, topic_prefix=topics.prefix)
    alerting_agents.attach(app, topics, settings)
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


async def next_alert(consumer: AIOKafkaConsumer) -> Alert:
    record = await asyncio.wait_for(consumer.getone(), 40)
    return wire.decode_alert(record.value)


async def test_finding_becomes_one_alert_and_a_restart_makes_no_second(
    apache_kafka: KafkaServer, make_topics: Callable[..., Topics], tmp_path: Path
) -> None:
    topics = make_topics(partitions=2)
    servers = apache_kafka.bootstrap_servers
    producer = AIOKafkaProducer(bootstrap_servers=servers)
    consumer = AIOKafkaConsumer(
        topics.alerts, bootstrap_servers=servers, auto_offset_reset="earliest", fetch_max_wait_ms=50
    )
    await producer.start()
    await consumer.start()
    try:
        async with alerting_app(apache_kafka, topics, tmp_path):
            await producer.send_and_wait(topics.findings, wire.encode_finding(error_finding()), key=b"checkout")
            alert = await next_alert(consumer)
            assert (alert.status, alert.service, alert.labels["error_type"]) == ("firing", "checkout", "Timeout")
        async with alerting_app(apache_kafka, topics, tmp_path):
            await producer.send_and_wait(topics.findings, wire.encode_finding(error_finding(1)), key=b"checkout")
            await producer.send_and_wait(topics.findings, wire.encode_finding(error_finding(2, "cart")), key=b"cart")
            second = await next_alert(consumer)
            assert second.service == "cart", "the checkout episode was remembered, and not told twice"
    finally:
        await consumer.stop()
        await producer.stop()
