"""One replay, from the first record read to the last row stored."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from replay.ahead import Ahead
from replay.completion import Check, Completion
from replay.journal import Journal
from replay.pacing import Pace
from replay.progress import Shown
from replay.publisher import ReplayPublisher
from replay.records import Place, ReplayRecord, SourceRecord, replay_records, spans_of
from replay.report import Report
from replay.settings import ReplaySettings
from replay.sources.source import Source
from replay.topic_admin import create_missing_topics, delete_topics, forget_records, next_offsets, start_group_at
from replay.worker import stream_workers
from tracecore.errors import MalformedPayload
from tracecore.settings import KafkaSettings
from tracecore.topics import Topics

logger = logging.getLogger(__name__)

#: Records that are sent in one go: the history is asked about their traces in one query.
_BATCH_RECORDS = 200
#: How often, at most, a replay that only waits asks whether it is to stop.
_ASK_S = 1.0
#: Traces that are known to be noted; a bound for memory.
_NOTED_TRACES = 500_000


class Cancelled(Exception):
    """Somebody ran ``python -m replay cancel``."""


@dataclass(slots=True)
class Counts:
    """What was read and sent."""

    records: int = 0
    spans: int = 0
    unreadable: int = 0
    first_arrival_ns: int = 0
    last_arrival_ns: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be repeated, and how. ``position`` and ``produced`` are where an interrupted run had come to."""

    replay_id: str
    name: str
    source: Source
    service: str
    speed: float
    spans_per_s: float
    #: Stream workers to start; 0: somebody else does.
    workers: int
    #: Receivers of notifications are told of its alerts.
    notify: bool = False
    is_resumed: bool = False
    position: int = 0
    produced: Mapping[int, int] = field(default_factory=dict)
    counted: Counts = field(default_factory=Counts)


class Run:
    """Carries a plan out. Whatever ends it leaves it resumable, but for ``Cancelled``."""

    def __init__(
        self, kafka: KafkaSettings, settings: ReplaySettings, journal: Journal, plan: Plan, shown: Shown
    ) -> None:
        self._kafka = kafka
        self._topics: Topics = kafka.topics
        self._settings = settings
        self._journal = journal
        self._plan = plan
        self._shown = shown
        self._group = group_of(kafka, plan.replay_id)
        self._noted: set[bytes] = set()
        self._asked_at = 0.0
        #: Goes on from where an interrupted run had come to.
        self.counts = plan.counted

    async def __call__(self) -> Report:
        """Send everything, wait until it is stored, and tell what it did."""
        plan, journal = self._plan, self._journal
        begun_s = time.monotonic()
        await create_missing_topics(self._kafka)
        only = None
        if plan.service:
            self._shown.phase(f"looking for the traces of {plan.service}")
            only = await _traces_with(plan.source, plan.service)
        try:
            ends = await self._sent_and_stored(only)
        except Cancelled:
            await delete_topics(self._kafka, f"{self._group}-")
            raise
        self._shown.phase("comparing")
        outcome = await journal.finish(plan.replay_id)
        await delete_topics(self._kafka, f"{self._group}-")
        if not await journal.others_unfinished(plan.replay_id):
            await forget_records(self._kafka, self._topics.replay, ends)
        counts = self.counts
        return Report(
            plan.replay_id, plan.name, "done", counts.records, counts.spans, counts.unreadable, outcome,
            plan.notify, (counts.last_arrival_ns - counts.first_arrival_ns) / 1e9, time.monotonic() - begun_s,
        )  # fmt: skip

    async def _sent_and_stored(self, only: set[bytes] | None) -> dict[int, int]:
        """Returns, by partition of the replay topic, the offset behind what this replay wrote."""
        plan, settings, group, topics = self._plan, self._settings, self._group, self._topics
        environment = worker_environment(self._kafka, plan.replay_id, plan.notify)
        async with (
            Completion(self._kafka, settings.drain_timeout_s, self._shown.share) as completion,
            ReplayPublisher(self._kafka, topics.replay, plan.replay_id, settings.max_in_flight_bytes) as publisher,
        ):
            # Before its workers start: they need nothing of what other replays, or live findings, have left.
            started_at = await start_group_at(
                self._kafka,
                group,
                {topics.replay: plan.produced or await completion.ends(topics.replay),
                 topics.findings: await completion.ends(topics.findings)},
            )  # fmt: skip
            since = plan.produced or next_offsets(started_at, topics.replay)
            async with stream_workers(plan.workers, environment, settings.nice) as workers_live:

                async def check() -> None:
                    await workers_live()
                    await self._ask()

                await self._send_all(publisher, completion, since, only, check)
                await self._journal.set(plan.replay_id, state="draining")
                self._shown.phase("assembling")
                ends = await publisher.end(self.counts.last_arrival_ns)
                await completion.committed(group, topics.replay, ends, check)
                findings = {number: end for number, end in (await completion.ends(topics.findings)).items() if end}
                await completion.committed(group, topics.findings, findings, check)
                self._shown.phase("storing")
                stored_topics = (topics.traces, topics.windows, topics.alerts, topics.health)
                await completion.stored(self._journal.stored_offsets, stored_topics, check)
        return ends

    async def _send_all(
        self,
        publisher: ReplayPublisher,
        completion: Completion,
        since: Mapping[int, int],
        only: set[bytes] | None,
        check: Check,
    ) -> None:
        plan, counts = self._plan, self.counts
        nothing = Place(-1, -1)
        publisher.next_offsets = dict(since)
        sent_before = await publisher.last_sent(since) if plan.is_resumed else {}
        pace = Pace(plan.speed, plan.spans_per_s)
        ahead = Ahead(completion, self._group, self._topics.replay, self._settings.max_ahead_bytes)
        clock = asyncio.get_running_loop().time
        checkpoint_at = clock() + self._settings.checkpoint_s
        batch: list[ReplayRecord] = []
        self._shown.phase("sending")
        async for record in plan.source.records():
            counts.first_arrival_ns = counts.first_arrival_ns or record.arrival_ns
            counts.last_arrival_ns = record.arrival_ns
            if record.position < plan.position:
                continue
            wait_s = pace.wait_s(record.arrival_ns, clock())
            if wait_s > 0:
                # What is due goes out before the pause.
                batch = await self._send(publisher, batch, pace)
                await self._pause(wait_s, publisher, record.position)
            batch += (part for part in self._parts(record, publisher.partitions, only)
                      if part.place > sent_before.get(part.partition, nothing))  # fmt: skip
            if len(batch) >= _BATCH_RECORDS or clock() >= checkpoint_at:
                batch = await self._send(publisher, batch, pace)
            if clock() >= checkpoint_at:
                await check()
                await self._checkpoint(publisher, record.position + 1)
                self._shown.came_to(record.arrival_ns, counts.records, counts.spans)
                await ahead.stay_near(publisher, check)
                checkpoint_at = clock() + self._settings.checkpoint_s
        await self._send(publisher, batch, pace)
        await self._checkpoint(publisher, counts.records)
        self._shown.came_to(counts.last_arrival_ns, counts.records, counts.spans)

    def _parts(self, record: SourceRecord, partitions: int, only: set[bytes] | None) -> list[ReplayRecord]:
        counts = self.counts
        counts.records += 1
        try:
            spans, rejected = spans_of(record)
        except MalformedPayload as error:
            logger.warning("record %d of %s is passed over: %s", record.position, self._plan.source.name, error)
            counts.unreadable += 1
            return []
        counts.unreadable += rejected
        parts = replay_records(record, spans, partitions, only)
        counts.spans += sum(part.spans for part in parts)
        return parts

    async def _send(self, publisher: ReplayPublisher, batch: list[ReplayRecord], pace: Pace) -> list[ReplayRecord]:
        """Send a batch; returns the next one, empty."""
        # Law: how the history holds a trace is noted before anything of it is sent.
        unnoted = set().union(*(part.trace_ids for part in batch)) - self._noted
        if unnoted:
            await self._journal.note_traces(self._plan.replay_id, unnoted)
            if len(self._noted) > _NOTED_TRACES:
                self._noted.clear()  # to note twice changes nothing
            self._noted |= unnoted
        for part in batch:
            await publisher.send(part)
            pace.sent(part.spans)
        return []

    async def _checkpoint(self, publisher: ReplayPublisher, position: int) -> None:
        await publisher.tell_time(self.counts.last_arrival_ns)
        await publisher.flush()
        counts = self.counts
        if await self._journal.checkpoint(
            self._plan.replay_id,
            position=position,
            produced=publisher.next_offsets,
            records=counts.records,
            spans=counts.spans,
            unreadable=counts.unreadable,
        ):
            raise Cancelled

    async def _pause(self, seconds: float, publisher: ReplayPublisher, position: int) -> None:
        # In slices, so that a slow replay hears of being cancelled; before a long one what was sent is noted.
        if seconds > self._settings.checkpoint_s:
            await self._checkpoint(publisher, position)
            self._shown.came_to(self.counts.last_arrival_ns, self.counts.records, self.counts.spans)
        while seconds > 0:
            step = min(seconds, _ASK_S)
            await asyncio.sleep(step)
            await self._ask()
            seconds -= step

    async def _ask(self) -> None:
        """Raises ``Cancelled`` if somebody asked for that."""
        now_s = time.monotonic()
        if now_s - self._asked_at >= _ASK_S:
            self._asked_at = now_s
            if await self._journal.cancel_requested(self._plan.replay_id):
                raise Cancelled


def group_of(kafka: KafkaSettings, replay_id: str) -> str:
    """The consumer group of a replay, and its Faust app id: each has its own, so that none waits for another."""
    return f"{kafka.topic_prefix}replay-stream.{replay_id}"


def worker_environment(kafka: KafkaSettings, replay_id: str, notify: bool = False) -> dict[str, str]:
    """What makes ``python -m stream`` a worker of this replay."""
    return {
        "TRACEWATCH_STREAM_SOURCE_TOPIC": kafka.topics.replay,
        "TRACEWATCH_STREAM_APP_ID": group_of(kafka, replay_id),
        "TRACEWATCH_STREAM_REPLAY_ID": replay_id,
        "TRACEWATCH_STREAM_REPLAY_NOTIFY": str(notify).lower(),
    }


def utc(time_ns: int | None) -> datetime | None:
    """For Postgres and people, to the microsecond."""
    return None if time_ns is None else datetime.fromtimestamp(time_ns // 1000 / 1e6, UTC)


async def _traces_with(source: Source, service: str) -> set[bytes]:
    """Ids of the traces in which ``service`` takes part."""
    found: set[bytes] = set()
    async for record in source.records():
        try:
            spans, _ = spans_of(record)
        except MalformedPayload:
            continue
        found.update(span.trace_id for span in spans if span.service == service)
    return found
