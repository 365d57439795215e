"""One replay, from the first record read to the last row stored."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from replay.completion import Check, Completion
from replay.journal import Journal
from replay.pacing import Pace
from replay.progress import Shown
from replay.publisher import ReplayPublisher
from replay.records import ReplayRecord, SourceRecord, replay_records, spans_of, traces_with
from replay.report import Report
from replay.settings import ReplaySettings
from replay.sources.source import Source
from replay.worker import StreamWorker
from tracecore.errors import MalformedPayload
from tracecore.settings import KafkaSettings
from tracecore.topics import Topics

logger = logging.getLogger(__name__)

#: Records that are sent in one go: the history is asked about their traces in one query.
_BATCH_RECORDS = 200
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
    with_worker: bool
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
        self._noted: set[bytes] = set()
        #: Goes on from where an interrupted run had come to.
        self.counts = plan.counted

    async def __call__(self) -> Report:
        """Send everything, wait until it is stored, and tell what it did."""
        plan, journal = self._plan, self._journal
        begun_s = time.monotonic()
        only = None
        if plan.service:
            self._shown.phase(f"looking for the traces of {plan.service}")
            only = await _traces_with(plan.source, plan.service)
        async with ReplayPublisher(
            self._kafka, self._topics.replay, plan.replay_id, self._settings.max_in_flight_bytes
        ) as publisher:
            if plan.with_worker:
                async with StreamWorker(self._worker_environment()) as worker:
                    await self._sent_and_stored(publisher, only, worker.check)
            else:
                await self._sent_and_stored(publisher, only, lambda: None)
        self._shown.phase("comparing")
        new, amended, unchanged = await journal.compared(plan.replay_id)
        alerts = await journal.alerts(plan.replay_id)
        await journal.set(
            plan.replay_id, state="done", failure="", traces_new=new, traces_amended=amended,
            traces_unchanged=unchanged, alerts=alerts,
        )  # fmt: skip
        counts = self.counts
        return Report(
            plan.replay_id, plan.name, "done", counts.records, counts.spans, counts.unreadable, new, amended,
            unchanged, alerts, (counts.last_arrival_ns - counts.first_arrival_ns) / 1e9, time.monotonic() - begun_s,
        )  # fmt: skip

    async def _sent_and_stored(self, publisher: ReplayPublisher, only: set[bytes] | None, check: Check) -> None:
        await self._send_all(publisher, only, check)
        await self._journal.set(self._plan.replay_id, state="draining")
        self._shown.phase("assembling")
        ends = await publisher.end(self.counts.last_arrival_ns)
        completion = Completion(self._kafka, self._settings.drain_timeout_s, check)
        group, topics = self._settings.app_id, self._topics
        await completion.committed(group, topics.replay, ends)
        findings = {partition: end for partition, end in (await completion.ends(topics.findings)).items() if end}
        await completion.committed(group, topics.findings, findings)
        self._shown.phase("storing")
        await completion.stored(self._journal.stored_offsets, (topics.traces, topics.windows, topics.alerts))

    async def _send_all(self, publisher: ReplayPublisher, only: set[bytes] | None, check: Check) -> None:
        plan, counts = self._plan, self.counts
        sent_before = await publisher.last_sent(dict(plan.produced)) if plan.is_resumed else {}
        pace = Pace(plan.speed, plan.spans_per_s)
        clock = asyncio.get_running_loop().time
        checkpoint_at = clock() + self._settings.checkpoint_s
        batch: list[ReplayRecord] = []
        self._shown.phase("sending")
        async for record in plan.source.records():
            counts.first_arrival_ns = counts.first_arrival_ns or record.arrival_ns
            counts.last_arrival_ns = record.arrival_ns
            if record.position < plan.position:
                continue
            batch += (part for part in self._parts(record, publisher.partitions, only)
                      if part.position > sent_before.get(part.partition, -1))  # fmt: skip
            wait_s = pace.wait_s(record.arrival_ns, clock())
            if wait_s > 0 or len(batch) >= _BATCH_RECORDS or clock() >= checkpoint_at:
                await self._send(publisher, batch, pace)
                batch = []
            if clock() >= checkpoint_at:
                check()
                await self._checkpoint(publisher, record.position + 1)
                checkpoint_at = clock() + self._settings.checkpoint_s
                self._shown.came_to(record.arrival_ns, counts.records, counts.spans)
            await self._wait(wait_s)
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

    async def _send(self, publisher: ReplayPublisher, batch: list[ReplayRecord], pace: Pace) -> None:
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

    async def _checkpoint(self, publisher: ReplayPublisher, position: int) -> None:
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

    async def _wait(self, seconds: float) -> None:
        # In slices, so that a slow replay still hears of being cancelled and still makes checkpoints.
        while seconds > 0:
            step = min(seconds, self._settings.checkpoint_s)
            await asyncio.sleep(step)
            seconds -= step

    def _worker_environment(self) -> dict[str, str]:
        return {
            "TRACEWATCH_STREAM_SOURCE_TOPIC": self._topics.replay,
            "TRACEWATCH_STREAM_APP_ID": self._settings.app_id,
        }


def utc(time_ns: int | None) -> datetime | None:
    """For Postgres, to the microsecond."""
    return None if time_ns is None else datetime.fromtimestamp(time_ns // 1000 / 1e6, UTC)


async def _traces_with(source: Source, service: str) -> set[bytes]:
    found: set[bytes] = set()
    async for record in source.records():
        found |= traces_with(iter((record,)), service)
    return found
