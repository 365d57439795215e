"""Back-tests: which alerts a stretch raises under other rules, with nothing stored and nobody told.

A stream worker runs on topics of its own, under a prefix of its own, so that neither spans nor alerts meet anything
that lives; the topics are deleted afterwards.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from replay.ahead import Ahead
from replay.completion import Check, Completion
from replay.progress import Shown
from replay.publisher import ReplayPublisher
from replay.records import replay_records, spans_of
from replay.run import group_of, worker_environment
from replay.settings import ReplaySettings
from replay.sources.source import Source
from replay.topic_admin import create_missing_topics, delete_topics
from replay.worker import stream_workers
from tracecore.alert import Alert
from tracecore.errors import MalformedPayload
from tracecore.settings import KafkaSettings
from tracecore.wire import decode_alert

RULES_VARIABLE = "TRACEWATCH_STREAM_ALERT_RULES"

#: The same for every back-test: it is in the labels of alerts, and two back-tests are compared by those.
_REPLAY_ID = "backtest"


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
    prefix = f"{kafka.topic_prefix}backtest.{name}."
    own = kafka.model_copy(update={"topic_prefix": prefix, "otlp_topic": f"{prefix}otlp_spans"})
    group = group_of(own, _REPLAY_ID)
    environment = {
        "TRACEWATCH_KAFKA_TOPIC_PREFIX": prefix,
        "TRACEWATCH_KAFKA_OTLP_TOPIC": own.otlp_topic,
        **worker_environment(own, _REPLAY_ID),
        **({RULES_VARIABLE: str(rules)} if rules else {}),
    }
    await create_missing_topics(own)
    try:
        async with (
            stream_workers(1, environment, settings.nice) as check,
            ReplayPublisher(own, own.topics.replay, _REPLAY_ID, settings.max_in_flight_bytes) as publisher,
            Completion(own, settings.drain_timeout_s, shown.share) as completion,
        ):
            ahead = Ahead(completion, group, own.topics.replay, settings.max_ahead_bytes)
            last_ns = await _send_all(publisher, source, ahead, settings.checkpoint_s, check, shown)
            shown.phase("judging")
            await completion.committed(group, own.topics.replay, await publisher.end(last_ns), check)
            findings = {number: end for number, end in (await completion.ends(own.topics.findings)).items() if end}
            await completion.committed(group, own.topics.findings, findings, check)
            return episodes_of(await _alerts(own, await completion.ends(own.topics.alerts)))
    finally:
        await delete_topics(own, prefix)


async def _send_all(
    publisher: ReplayPublisher, source: Source, ahead: Ahead, look_every_s: float, check: Check, shown: Shown
) -> int:
    """Returns the last arrival."""
    arrival_ns = records = spans_sent = 0
    clock = asyncio.get_running_loop().time
    look_at = clock() + look_every_s
    async for record in source.records():
        arrival_ns = record.arrival_ns
        records += 1
        try:
            spans, _ = spans_of(record)
        except MalformedPayload:
            continue
        for part in replay_records(record, spans, publisher.partitions):
            await publisher.send(part)
            spans_sent += part.spans
        if clock() >= look_at:
            await check()
            await publisher.tell_time(arrival_ns)
            await publisher.flush()
            shown.came_to(arrival_ns, records, spans_sent)
            await ahead.stay_near(publisher, check)
            look_at = clock() + look_every_s
    await publisher.flush()
    shown.came_to(arrival_ns, records, spans_sent)
    return arrival_ns


async def _alerts(kafka: KafkaSettings, ends: Mapping[int, int]) -> list[Alert]:
    topic = kafka.topics.alerts
    partitions = [TopicPartition(topic, number) for number, end in ends.items() if end]
    if not partitions:
        return []  # and no consumer: aiokafka's raises CancelledError if it is stopped before it did anything
    consumer = AIOKafkaConsumer(
        **kafka.client_options(), enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=100
    )
    await consumer.start()
    try:
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


def episodes_of(events: list[Alert]) -> list[Episode]:
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
