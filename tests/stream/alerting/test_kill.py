"""Workers are killed while a service fails: one alert begins and one ends, whoever reads of it."""

import asyncio
import itertools
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.services import KafkaServer
from tests.stream.alerting.test_alerting_agents import error_finding
from tests.stream.alerting.test_receivers import Hook
from tests.stream.worker import StreamWorker
from tests.tracecore.builders import MS, T0_NS, span
from tracecore.alert import Alert
from tracecore.otlp import encode_spans
from tracecore.partition import partition_of
from tracecore.span import SpanKind
from tracecore.topics import Topics
from tracecore.wire import decode_alert, encode_finding

PARTITIONS = 4
RULES = """
defaults: false
rules: [{name: CheckoutFails, kinds: [error], severity: critical, min_count: 3, resolve_after: 25s}]
"""


async def test_incident_during_which_workers_are_killed_begins_once_and_ends_once(
    apache_kafka: KafkaServer,
    make_topics: Callable[..., Topics],
    kafka_environment: dict[str, str],
    tmp_path: Path,
) -> None:
    topics = make_topics(partitions=PARTITIONS)
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    randomness = random.Random(time.time_ns())
    hook = Hook()
    events: list[Alert] = []
    servers = apache_kafka.bootstrap_servers
    async with (
        AIOKafkaConsumer(topics.alerts, bootstrap_servers=servers, auto_offset_reset="earliest") as consumer,
        AIOKafkaProducer(bootstrap_servers=servers) as producer,
        hook.server() as server,
    ):
        environment = {
            **kafka_environment,
            "TRACEWATCH_STREAM_ALERT_RULES": str(rules),
            "TRACEWATCH_STREAM_ALERT_WEBHOOK_URLS": json.dumps([str(server.make_url("/"))]),
            "TRACEWATCH_STREAM_ALERT_GROUP_WAIT_S": "0.2",
        }
        workers = [
            StreamWorker(environment, tmp_path / f"{name}.log", session_timeout_s="6") for name in ("first", "second")
        ]
        with workers[0], workers[1]:
            failing = asyncio.create_task(_fail(producer, topics.spans))
            # As it may be about to fire; then each, for one of them holds the findings; then both.
            await asyncio.sleep(randomness.uniform(0, 1))
            await _killed(randomness.choice(workers))
            await _until(consumer, events, "firing")
            for worker in workers:
                await _killed(worker)
                await asyncio.sleep(randomness.uniform(0, 3))
            await _killed(*workers)
            await asyncio.sleep(3)
            failing.cancel()
            await _until(consumer, events, "resolved")
            await asyncio.sleep(5)
            events += await _more(consumer)
            bodies = list(hook.bodies)
    assert [event.status for event in events] == ["firing", "resolved"]
    assert len({(event.fingerprint, event.starts_at_ns) for event in events}) == 1
    assert {body["status"] for body in bodies} <= {"firing", "resolved"}
    assert bodies[0]["status"] == "firing"


async def test_worker_that_was_frozen_tells_nothing_of_what_another_has_told_meanwhile(
    apache_kafka: KafkaServer, make_topics: Callable[..., Topics], kafka_environment: dict[str, str], tmp_path: Path
) -> None:
    topics = make_topics(partitions=PARTITIONS)
    servers = apache_kafka.bootstrap_servers
    frozen, other = (StreamWorker(kafka_environment, tmp_path / f"{name}.log") for name in ("frozen", "other"))
    async with (
        AIOKafkaConsumer(topics.alerts, bootstrap_servers=servers, auto_offset_reset="earliest") as consumer,
        AIOKafkaProducer(bootstrap_servers=servers) as producer,
    ):
        events: list[Alert] = []
        with frozen:
            await producer.send_and_wait(topics.findings, encode_finding(error_finding(0, "before")))
            await _until(consumer, events, "firing")
            frozen.freeze()
            try:
                # The broker answers the fetch that it was asked for last: this lies in the frozen worker's socket.
                await producer.send_and_wait(topics.findings, encode_finding(error_finding(1, "meanwhile")))
                with other:
                    events.clear()
                    await _until(consumer, events, "firing")
                    frozen.thaw()
                    await asyncio.sleep(8)
                    events += await _more(consumer)
            finally:
                frozen.thaw()
    assert [(event.status, event.service) for event in events] == [("firing", "meanwhile")]


async def _fail(producer: AIOKafkaProducer, topic: str) -> None:
    """A failed request of checkout twenty times a second."""
    for number in itertools.count(1):
        start_ms = (time.time_ns() - T0_NS) / MS
        failed = span(
            "PlaceOrder", trace=number, service="checkout", kind=SpanKind.SERVER, start_ms=start_ms, error=True
        )
        await producer.send(topic, encode_spans([failed]), partition=partition_of(failed.trace_id, PARTITIONS))
        await asyncio.sleep(0.05)


async def _killed(*workers: StreamWorker) -> None:
    """Kill workers, and start them again."""
    for worker in workers:
        await asyncio.to_thread(worker.kill)
    for worker in workers:
        worker.start()
    for worker in workers:
        await asyncio.to_thread(worker.ready)


async def _until(consumer: AIOKafkaConsumer, events: list[Alert], status: str) -> None:
    deadline = time.monotonic() + 120  # half a minute on two free cores
    while not any(event.status == status for event in events):
        assert time.monotonic() < deadline, f"nothing {status}: {[event.event_id for event in events]}"
        events += await _more(consumer)


async def _more(consumer: AIOKafkaConsumer) -> list[Alert]:
    records = (await consumer.getmany(timeout_ms=500)).values()
    return [decode_alert(record.value) for some in records for record in some]
