"""Back-tests: which alerts a stretch raises under other rules, with nothing stored and nobody told.

A stream worker runs on topics of its own, under a prefix of its own, so that neither spans nor alerts meet anything
that lives; the topics are deleted afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from replay.completion import Completion
from replay.pacing import Pace
from replay.progress import Shown
from replay.publisher import ReplayPublisher
from replay.records import replay_records, spans_of
from replay.settings import ReplaySettings
from replay.sources.source import Source
from replay.worker import StreamWorker
from tracecore.alert import Alert
from tracecore.errors import MalformedPayload
from tracecore.settings import KafkaSettings
from tracecore.wire import decode_alert

RULES_VARIABLE = "TRACEWATCH_STREAM_ALERT_RULES"


@dataclass(frozen=True, slots=True)
class Episode:
    """An alert from its firing to its resolution, in event time; ``ends_at_ns`` None: it was firing at the end."""

    alert: Alert
    ends_at_ns: int | None

    @property
    def key(self) -> tuple[str, int]:
        """What episodes of two back-tests are compared by."""
        return self.alert.fingerprint, self.alert.starts_at_ns


@dataclass(frozen=True, slots=True)
class Difference:
    """Episodes of both, and those of only one."""

    both: tuple[Episode, ...]
    only_first: tuple[Episode, ...]
    only_second: tuple[Episode, ...]


def difference(first: list[Episode], second: list[Episode]) -> Difference:
    """Compare two back-tests: episodes of one fingerprint that overlap are the same."""
    matched: set[tuple[str, int]] = set()
    both, only_first = [], []
    for episode in first:
        twin = next((other for other in second if other.key not in matched and _overlap(episode, other)), None)
        if twin is None:
            only_first.append(episode)
        else:
            matched.add(twin.key)
            both.append(episode)
    return Difference(tuple(both), tuple(only_first), tuple(e for e in second if e.key not in matched))


async def backtest(
    kafka: KafkaSettings, settings: ReplaySettings, source: Source, rules: Path | None, name: str, shown: Shown
) -> list[Episode]:
    """The episodes that ``source`` raises under ``rules`` (None: those in force), oldest first.

    Raises ``WorkerFailed`` with the worker's words if the rules are bad: line and reason.
    """
    prefix = f"tracewatch-backtest.{name}."
    own = kafka.model_copy(update={"topic_prefix": prefix, "otlp_topic": f"{prefix}otlp_spans"})
    environment = {
        "TRACEWATCH_KAFKA_TOPIC_PREFIX": prefix,
        "TRACEWATCH_KAFKA_OTLP_TOPIC": own.otlp_topic,
        "TRACEWATCH_STREAM_SOURCE_TOPIC": own.topics.replay,
        "TRACEWATCH_STREAM_APP_ID": f"{prefix}stream",
        **({RULES_VARIABLE: str(rules)} if rules else {}),
    }
    await _create_topics(own)
    try:
        async with (
            StreamWorker(environment) as worker,
            ReplayPublisher(own, own.topics.replay, name, settings.max_in_flight_bytes) as publisher,
        ):
            last_ns = await _send_all(publisher, source, worker, shown)
            ends = await publisher.end(last_ns)
            completion = Completion(own, settings.drain_timeout_s, worker.check)
            await completion.committed(f"{prefix}stream", own.topics.replay, ends)
            findings = {
                partition: end for partition, end in (await completion.ends(own.topics.findings)).items() if end
            }
            await completion.committed(f"{prefix}stream", own.topics.findings, findings)
            return _episodes(await _alerts(own, await completion.ends(own.topics.alerts)))
    finally:
        await _delete_topics(own, prefix)


async def _send_all(publisher: ReplayPublisher, source: Source, worker: StreamWorker, shown: Shown) -> int:
    pace = Pace()
    arrival_ns = records = spans_sent = 0
    async for record in source.records():
        arrival_ns = record.arrival_ns
        records += 1
        try:
            spans, _ = spans_of(record)
        except MalformedPayload:
            continue
        for part in replay_records(record, spans, publisher.partitions):
            await publisher.send(part)
            pace.sent(part.spans)
            spans_sent += part.spans
        if records % 200 == 0:
            worker.check()
            shown.came_to(arrival_ns, records, spans_sent)
    await publisher.flush()
    shown.came_to(arrival_ns, records, spans_sent)
    return arrival_ns


async def _create_topics(kafka: KafkaSettings) -> None:
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        await admin.create_topics(
            [
                NewTopic(
                    spec.name,
                    kafka.partitions if spec.partitioned else 1,
                    kafka.replication_factor,
                    topic_configs=dict(spec.config),
                )
                for spec in kafka.topics.specs()
            ]
        )
    finally:
        await admin.close()


async def _delete_topics(kafka: KafkaSettings, prefix: str) -> None:
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        await admin.delete_topics([name for name in await admin.list_topics() if name.startswith(prefix)])
    finally:
        await admin.close()


async def _alerts(kafka: KafkaSettings, ends: Mapping[int, int]) -> list[Alert]:
    topic = kafka.topics.alerts
    consumer = AIOKafkaConsumer(
        **kafka.client_options(), enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=100
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number, end in ends.items() if end]
        consumer.assign(partitions)
        for partition in partitions:
            consumer.seek(partition, 0)
        alerts: list[Alert] = []
        while any([await consumer.position(p) < ends[p.partition] for p in partitions]):
            for messages in (await consumer.getmany(timeout_ms=200)).values():
                alerts += (decode_alert(message.value) for message in messages)
        return alerts
    finally:
        await consumer.stop()


def _episodes(events: list[Alert]) -> list[Episode]:
    """Events to episodes, each as it fired and when it ended."""
    fired: dict[tuple[str, int], Alert] = {}
    ended: dict[tuple[str, int], int | None] = {}
    for event in events:
        key = (event.fingerprint, event.starts_at_ns)
        if event.status == "firing":
            fired.setdefault(key, event)
        else:
            ended[key] = event.ends_at_ns
    episodes = [Episode(alert, ended.get(key)) for key, alert in fired.items()]
    return sorted(episodes, key=lambda episode: (episode.alert.starts_at_ns, episode.alert.fingerprint))


def _overlap(one: Episode, other: Episode) -> bool:
    if one.alert.fingerprint != other.alert.fingerprint:
        return False
    one_ends, other_ends = (e.ends_at_ns if e.ends_at_ns is not None else 2**63 for e in (one, other))
    return one.alert.starts_at_ns <= other_ends and other.alert.starts_at_ns <= one_ends
