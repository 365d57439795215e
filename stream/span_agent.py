"""The edge between the topic of spans and the pipelines: a Faust agent, a clock for silent partitions, and commits.

Law: an offset is committed only after everything below it was sent and stored. Faust itself commits nothing of this
topic (``acks=False``), for it commits past events that were not acknowledged (faust-streaming issue 606).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import faust
from faust.types import TP

from stream.assembler import Counts, SpanBudget
from stream.handover import HANDOVER_HEADER, decode_handover
from stream.hooks import Hooks
from stream.outlet import Outlet
from stream.pipeline import Outgoing, Pipeline, Rules, Tally
from stream.watermark import changed_watermarks, watermark
from tracecore.dead_letter import dead_letter_headers
from tracecore.errors import MalformedPayload, UndecodableRecord
from tracecore.otlp import decode_spans
from tracecore.topics import REPLAY_HEADER

logger = logging.getLogger(__name__)

#: How often the watermark of a silent partition moves.
TICK_S = 0.1

HooksFor = Callable[[str], Hooks]


class Source:
    """A partition that this worker reads: a pipeline for live spans, or one for each replay."""

    def __init__(self, partition: int, started_at: int, rules: Rules, budget: SpanBudget, hooks_for: HooksFor) -> None:
        self.partition = partition
        #: The first offset that was read; what stands before, others have read.
        self.started_at = started_at
        self.next_offset = started_at
        self.pipelines: dict[str, Pipeline] = {}
        # The clock of a silent partition: the time that was last told, and when by our own clock that was.
        self.told_ns = 0
        self.told_at = 0.0
        #: Nothing was read yet: the time is our own clock's, so that detection hears of a silence from the start.
        self.is_guess = False
        self._new_pipeline = lambda replay_id: Pipeline(partition, rules, budget, hooks_for(replay_id), replay_id)

    def pipeline(self, replay_id: str) -> Pipeline:
        """The pipeline of live spans (""), or of a replay."""
        pipeline = self.pipelines.get(replay_id)
        if pipeline is None:
            pipeline = self.pipelines[replay_id] = self._new_pipeline(replay_id)
        return pipeline

    def watermark(self) -> int:
        """The offset to commit."""
        needed = [p.first_offset for p in self.pipelines.values()]
        return watermark(self.next_offset, min((offset for offset in needed if offset is not None), default=None))

    def drop(self) -> None:
        """Forget everything."""
        for pipeline in self.pipelines.values():
            pipeline.assembler.drop()


class SpanAgent:
    """Reads the assigned partitions of one topic of spans."""

    def __init__(
        self,
        app: faust.App,
        outlet: Outlet,
        rules: Rules,
        hooks_for: HooksFor,
        *,
        source_topic: str,
        memory_spans: int,
    ) -> None:
        self._app = app
        self._outlet = outlet
        self._rules = rules
        self._hooks_for = hooks_for
        self._source_topic = source_topic
        self._is_replay = source_topic == rules.topics.replay
        self.budget = SpanBudget(memory_spans)
        self.sources: dict[TP, Source] = {}
        # Partitions that were revoked: if they come back with nobody having read on, so does their state.
        self._suspended: dict[TP, Source] = {}
        self._committed: dict[TP, int] = {}
        self._assigned: set[TP] = set()
        # Held from taking spans to having sent what came of them: no watermark may pass what is in between.
        self._publishing = asyncio.Lock()
        self._stopped = False
        self.records_total = 0
        self.dead_letters_total = 0
        self.commits_total = 0
        self.rebalances_total = 0
        #: What partitions counted that were given up since.
        self.closed_counts = Counts()
        self.closed_tally = Tally()
        self.last_progress_at = time.monotonic()

    def attach(self, commit_interval_s: float) -> None:
        """Register the agent, its timers and its signal handlers with the app."""
        app = self._app
        topic = app.topic(self._source_topic, key_serializer="raw", value_serializer="raw", acks=False, internal=False)
        app.agent(topic, name="assemble")(self._on_records)
        app.timer(TICK_S, name="silence")(self._on_tick)
        app.timer(commit_interval_s, name="watermark")(self._on_commit_timer)
        app.on_partitions_revoked.connect(self._on_revoked, weak=False)
        app.on_partitions_assigned.connect(self._on_assigned, weak=False)
        app.on_before_shutdown.connect(self._on_shutdown, weak=False)

    def all_pipelines(self) -> list[Pipeline]:
        """Every pipeline with state."""
        sources = [*self.sources.values(), *self._suspended.values()]
        return [pipeline for source in sources for pipeline in source.pipelines.values()]

    def lags(self) -> dict[int, int]:
        """Records between what was read and the end of each assigned partition, as the last fetch told."""
        lags: dict[int, int] = {}
        for tp in self._assigned:
            state = self._fetch_state(tp)
            if state is not None and state.highwater is not None and state.has_valid_position:
                source = self.sources.get(tp)
                lags[tp.partition] = max(0, state.highwater - (source.next_offset if source else state.position))
        return lags

    async def _on_records(self, stream: Any) -> None:
        async for event in stream.noack().events():
            message = event.message
            if self._stopped or message.tp not in self._assigned:
                continue
            async with self._publishing:
                await self._outlet.send(self._taken(message))

    def _taken(self, message: Any) -> list[Outgoing]:
        try:
            return self._read(message)
        except Exception as error:
            # The outermost loop. Faust would skip the record in silence, and commit it; a worker that stopped would
            # stop again at the same record.
            logger.exception("bug at %s[%d]@%d", message.topic, message.partition, message.offset)
            return [self._dead_letter(message, message.value or b"", f"bug: {error!r}")]

    def _read(self, message: Any) -> list[Outgoing]:
        tp, offset = message.tp, message.offset
        source = self.sources.get(tp)
        if source is None or source.is_guess:
            source = self._begun(tp, offset)
        if offset < source.next_offset:
            return []  # read before a rebalance, and still known
        source.next_offset = offset + 1
        self.records_total += 1
        self.last_progress_at = time.monotonic()
        headers = dict(message.headers) if message.headers else {}
        try:
            pipeline = source.pipeline(headers.get(REPLAY_HEADER, b"").decode("utf-8", "replace"))
            is_known = False
            if HANDOVER_HEADER in headers:
                handover = decode_handover(headers[HANDOVER_HEADER])
                is_known = source.started_at >= handover.next_offset
                if is_known:
                    pipeline.take_over(handover, offset)
            spans, rejected = decode_spans(message.value or b"")
        except MalformedPayload as error:
            return [self._dead_letter(message, message.value or b"", str(error))]
        arrival_ns = self._arrival_ns(message)
        source.told_ns, source.told_at = max(arrival_ns, source.told_ns), self.last_progress_at
        out = pipeline.read(spans, offset, arrival_ns, is_known)
        for span in rejected:
            out.append(self._dead_letter(message, span.request, span.reason))
        return out

    def _arrival_ns(self, message: Any) -> int:
        arrival_ns = round(message.timestamp * 1000) * 1_000_000
        if message.timestamp_type == 0 and not self._is_replay:
            # CreateTime: a topic, or a broker, that does not stamp arrival. A producer's clock that is ahead
            # must not close everybody's traces.
            arrival_ns = min(arrival_ns, time.time_ns())
        return arrival_ns

    def _dead_letter(self, message: Any, value: bytes, reason: str) -> Outgoing:
        self.dead_letters_total += 1
        error = UndecodableRecord(message.topic, message.partition, message.offset, reason)
        logger.warning("dead letter: %s", error)
        return Outgoing(self._rules.topics.dead_letters, message.key, value, None, dead_letter_headers(error))

    def _begun(self, tp: TP, offset: int) -> Source:
        """The state of a partition whose first record is at ``offset``: what was kept of it, or a new one."""
        suspended = self._suspended.pop(tp, None)
        if suspended is not None:
            if offset in (self._committed.get(tp), suspended.next_offset):
                self.sources[tp] = suspended
                return suspended
            self._drop(suspended)
        source = Source(tp.partition, offset, self._rules, self.budget, self._hooks_for)
        self.sources[tp] = source
        return source

    def _drop(self, source: Source) -> None:
        for pipeline in source.pipelines.values():
            self.closed_counts.add(pipeline.assembler.counts)
            self.closed_tally.add(pipeline.tally)
        source.drop()

    async def _on_tick(self) -> None:
        """Move the watermark of partitions that are silent: read to their end, as the broker told just now."""
        for tp in [] if self._stopped else list(self._assigned):
            state = self._fetch_state(tp)
            if not _is_fresh(state):
                continue
            async with self._publishing:
                source = self.sources.get(tp) or self._idle(tp, state)
                if source is None or source.next_offset < state.highwater:
                    continue
                now = time.monotonic()
                source.told_ns += round((now - source.told_at) * 1e9)
                source.told_at = now
                for pipeline in source.pipelines.values():
                    await self._outlet.send(pipeline.advance(source.told_ns))

    def _idle(self, tp: TP, state: Any) -> Source | None:
        """The state of a partition that has nothing new to read since it was assigned."""
        suspended = self._suspended.get(tp)
        if suspended is not None:
            return self._begun(tp, suspended.next_offset) if suspended.next_offset == state.highwater else None
        if self._is_replay or state.position != state.highwater:
            return None
        source = Source(tp.partition, state.highwater, self._rules, self.budget, self._hooks_for)
        source.is_guess = True
        source.told_ns, source.told_at = time.time_ns(), time.monotonic()
        source.pipeline("")
        self.sources[tp] = source
        return source

    def _fetch_state(self, tp: TP) -> Any:
        """aiokafka's state of a partition: position, highwater, timestamp of the last fetch (ms); or None."""
        # Private in Faust and aiokafka; the public highwater() has no time. The end offsets that a broker can be
        # asked for are no substitute: the embedded broker answers them wrongly.
        thread = getattr(self._app.consumer, "_thread", None)
        consumer = getattr(thread, "_consumer", None)
        subscription = consumer._subscription.subscription if consumer is not None else None
        if subscription is None or subscription.assignment is None:
            return None
        partition = next((p for p in subscription.assignment.tps if p == tp), None)
        return None if partition is None else subscription.assignment.state_value(partition)

    async def _on_commit_timer(self) -> None:
        if not self._stopped:
            await self._commit()

    async def _commit(self) -> None:
        async with self._publishing:
            watermarks = {tp: source.watermark() for tp, source in self.sources.items() if not source.is_guess}
        await self._commit_offsets(watermarks)

    async def _commit_offsets(self, offsets: dict[TP, int]) -> None:
        changed = changed_watermarks(offsets, self._committed)
        if not changed:
            return
        await self._outlet.flush()
        # Private in Faust: its public commit() only knows of acknowledged events.
        if await self._app.consumer._commit(changed):  # type: ignore[attr-defined]
            self._committed.update(changed)
            self.commits_total += 1

    async def _on_revoked(self, app: faust.App, revoked: Iterable[TP], **_: Any) -> None:
        if self._stopped:
            return
        self._assigned = set()
        await self._commit()
        self._suspended |= {tp: source for tp, source in self.sources.items() if not source.is_guess}
        self.sources = {}

    async def _on_assigned(self, app: faust.App, assigned: Iterable[TP], **_: Any) -> None:
        self._assigned = {tp for tp in assigned if tp.topic == self._source_topic}
        for tp in list(self._suspended):
            if tp not in self._assigned:
                self._drop(self._suspended.pop(tp))
                self._committed.pop(tp, None)
        self.rebalances_total += 1
        logger.info("reading %s, partitions %s", self._source_topic, sorted(tp.partition for tp in self._assigned))

    async def _on_shutdown(self, app: faust.App, **_: Any) -> None:
        """Hand over what is open, then commit everything that was read."""
        async with self._publishing:
            self._stopped = True
            handed_over: dict[TP, int] = {}
            for tp, source in self.sources.items():
                if source.is_guess:
                    continue
                for replay_id, pipeline in source.pipelines.items():
                    await self._outlet.send(self._handover(source, pipeline, replay_id), tp.partition)
                handed_over[tp] = source.next_offset
            await self._commit_offsets(handed_over)

    def _handover(self, source: Source, pipeline: Pipeline, replay_id: str) -> list[Outgoing]:
        now_ms = pipeline.assembler.now_ns // 1_000_000
        replay = ((REPLAY_HEADER, replay_id.encode()),) if replay_id else ()
        return [
            Outgoing(self._source_topic, b"", record.value, now_ms, ((HANDOVER_HEADER, record.header), *replay))
            for record in pipeline.handover(source.next_offset)
        ]


def _is_fresh(state: Any) -> bool:
    """True if the broker answered a fetch just now: while it does not, silence means nothing."""
    return (
        state is not None
        and state.highwater is not None
        and state.has_valid_position
        and state.timestamp is not None
        and time.time() - state.timestamp / 1000 < 1.0
    )
