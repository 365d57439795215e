"""Alerting on a real broker and a real Faust app: findings in, alerts out, across a restart."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import faust
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from faust.types import TP

from stream import alerting_agents, transport
from stream.consumer_access import last_fetch, seek
from stream.detection.hour_of_day import HourProfile
from stream.detection.round import encoded_rounds
from tests.services import KafkaServer
from tests.stream.alerting.test_receivers import Hook
from tests.stream.detection.system import System
from tracecore import wire
from tracecore.alert import Alert
from tracecore.finding import Finding
from tracecore.settings import KafkaSettings
from tracecore.silence import Matcher, Silence
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
    # As the stream's own app is made; only what alerting needs is attached.
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
    transport.install(app)
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


async def test_alert_is_told_to_a_webhook_unless_it_is_silenced(
    apache_kafka: KafkaServer, make_topics: Callable[..., Topics], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = make_topics(partitions=2)
    silence = Silence("s1", (Matcher("service", "cart"),), 0, 2**62, "me", "known", 1)
    hook = Hook()
    producer = AIOKafkaProducer(bootstrap_servers=apache_kafka.bootstrap_servers)
    await producer.start()
    try:
        await producer.send_and_wait(topics.silences, wire.encode_silence(silence), key=b"s1")
        async with hook.server() as server:
            monkeypatch.setenv("TRACEWATCH_STREAM_ALERT_WEBHOOK_URLS", json.dumps([str(server.make_url("/"))]))
            monkeypatch.setenv("TRACEWATCH_STREAM_ALERT_GROUP_WAIT_S", "0.5")
            async with alerting_app(apache_kafka, topics, tmp_path):
                for number, service in enumerate(("cart", "checkout")):
                    finding = error_finding(number, service)
                    await producer.send_and_wait(topics.findings, wire.encode_finding(finding), key=service.encode())
                await asyncio.wait_for(hook.done.wait(), 60)
    finally:
        await producer.stop()
    assert [body["groupLabels"]["service"] for body in hook.bodies] == ["checkout"]


async def test_alerts_that_were_lost_on_the_way_are_told_though_none_comes_after_them(
    apache_kafka: KafkaServer, make_topics: Callable[..., Topics], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = make_topics(partitions=2)
    alerts = TP(topics.alerts, 0)
    hook = Hook()
    async with hook.server() as server:
        monkeypatch.setenv("TRACEWATCH_STREAM_ALERT_WEBHOOK_URLS", json.dumps([str(server.make_url("/"))]))
        monkeypatch.setenv("TRACEWATCH_STREAM_ALERT_GROUP_WAIT_S", "0")
        async with (
            alerting_app(apache_kafka, topics, tmp_path) as app,
            AIOKafkaProducer(bootstrap_servers=apache_kafka.bootstrap_servers) as producer,
        ):
            while alerts not in app.consumer.assignment() or last_fetch(app, alerts) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            # As around a rebalance: the consumer stands behind an alert that no agent was given.
            await seek(app, alerts, 1)
            await producer.send_and_wait(topics.findings, wire.encode_finding(error_finding()), key=b"checkout")
            await asyncio.wait_for(hook.done.wait(), 60)
    assert [body["groupLabels"]["service"] for body in hook.bodies] == ["checkout"]


async def test_changed_rules_hold_for_the_next_finding_and_bad_ones_do_not(
    apache_kafka: KafkaServer, make_topics: Callable[..., Topics], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = make_topics(partitions=2)
    rules = tmp_path / "rules.yaml"
    rules.write_text("defaults: false\n")
    monkeypatch.setenv("TRACEWATCH_STREAM_ALERT_RULES", str(rules))
    servers = apache_kafka.bootstrap_servers
    async with (
        AIOKafkaProducer(bootstrap_servers=servers) as producer,
        AIOKafkaConsumer(topics.alerts, bootstrap_servers=servers, auto_offset_reset="earliest") as consumer,
        alerting_app(apache_kafka, topics, tmp_path),
    ):
        await producer.send_and_wait(topics.findings, wire.encode_finding(error_finding(0, "unheard")))
        for number, text in enumerate(
            ("defaults: false\nrules: [{name: Mine, kinds: [error], severity: info}]\n", "rules: nonsense\n")
        ):
            await asyncio.sleep(2)
            rules.write_text(text)
            await asyncio.sleep(2)
            finding = error_finding(number + 1, f"service-{number}")
            await producer.send_and_wait(topics.findings, wire.encode_finding(finding))
            alert = await next_alert(consumer)
            assert (alert.labels["alertname"], alert.service) == ("Mine", f"service-{number}")


async def test_what_days_have_taught_is_stored(
    apache_kafka: KafkaServer, make_topics: Callable[..., Topics], tmp_path: Path
) -> None:
    topics = make_topics(partitions=2)
    servers = apache_kafka.bootstrap_servers
    changelog = f"{topics.prefix}stream-alerting-changelog"
    async with (
        AIOKafkaProducer(bootstrap_servers=servers) as producer,
        AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest", fetch_max_wait_ms=50) as consumer,
        alerting_app(apache_kafka, topics, tmp_path),
    ):
        system = System()
        for _ in range(130):  # a level is of ten minutes, and noted once they are over
            window = system.window()
            (record,) = encoded_rounds(list(window.operations.values()), window.end_ns, window.arrival_ns, 0, 1)
            await producer.send(topics.findings, record)
        await producer.flush()
        consumer.assign([TopicPartition(changelog, 0)])
        record = await asyncio.wait_for(consumer.getone(), 40)
        while not record.key.startswith(b"d//latency"):
            record = await asyncio.wait_for(consumer.getone(), 40)
    assert HourProfile(record.value).encoded() == record.value != HourProfile().encoded()
