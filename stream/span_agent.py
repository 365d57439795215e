"""The edge between the topic of spans and the pipelines: a Faust agent, a clock for silent partitions, and commits.

Law: an offset is committed only after everything below it was sent and stored. Faust itself commits nothing of this
topic (``acks=False``), for it commits past events that were not acknowledged (faust-streaming issue 606).
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

import faust
from faust.types import TP

from stream.arrival_order import Held, next_in_order
from stream.assembler import Arrived, Counts, SpanBudget
from stream.attempt import attempt
from stream.closing import Closing
from stream.compiled import is_warming
from stream.consumer_access import RECORDS_AT_ONCE, at_hand, commit, last_fetch, notes, seek, starts
from stream.continuity import Cursor
from stream.handover import decode_handover, is_timely
from stream.hooks import Hooks
from stream.outgoing import Outgoing, OutgoingRecord
from stream.outlet import Outlet
from stream.pipeline import Pipeline, Rules, Tally
from stream.transport import TOGETHER
from stream.watermark import changed_watermarks, watermark
from tracecore.batch_decoding import decode_together
from tracecore.dead_letter import dead_letter_headers
from tracecore.errors import MalformedPayload, UndecodableRecord
from tracecore.otlp import decode_spans
from tracecore.record_spans import RecordSpans
from tracecore.topics import HANDOVER_HEADER, REPLAY_END_HEADER, REPLAY_HEADER

logger = logging.getLogger(__name__)

#: How often the watermark of a silent partition moves.
TICK_S = 0.1
#: The same for a replay, in the time of its records.
REPLAY_STEP_NS = 1_000_000_000
#: How long traces that closed wait for others: what two records close took 13 us a span, and what thirty close 4.6.
CLOSE_TOGETHER_S = 0.1

#: How often a worker that has begun looks whether compiled code is there.
WARMING_STEP_S = 0.05

HooksFor = Callable[[str], Hooks]
NewPipeline = Callable[["Source", str], Pipeline]


class Source:
    """A partition that this worker reads: a pipeline for live spans, or one for each replay."""

    def __init__(self, partition: int, started_at: int, told_until_ns: int, new_pipeline: NewPipeline) -> None:
        self.partition = partition
        #: How far windows were told as of the offset at which reading began.
        self.told_until_ns = told_until_ns
        self.cursor = Cursor(started_at, time.monotonic())
        self.pipelines: dict[str, Pipeline] = {}
        # The clock of a silent partition: the time that was last told, and when by our own clock that was.
        self.told_ns = 0
        self.told_at = 0.0
        # True while nothing was read and the time is our own clock's, so that detection hears of silence.
        self.is_guess = False
        #: Of a replay: records that wait for older ones of other partitions.
        self.held: deque[Held] = deque()
        #: The end of the replay was read here.
        self.is_over = False
        self._new_pipeline = new_pipeline

    def pipeline(self, replay_id: str) -> Pipeline:
        """The pipeline of live spans (""), or of a replay."""
        pipeline = self.pipelines.get(replay_id)
        if pipeline is None:
            pipeline = self.pipelines[replay_id] = self._new_pipeline(self, replay_id)
        return pipeline

    @property
    def first_held(self) -> Held | None:
        """The oldest record that waits."""
        return self.held[0] if self.held else None

    @property
    def next_offset(self) -> int:
        """The offset of the first record that was not taken yet."""
        return self.held[0][1].offset if self.held else self.cursor.next_offset

    def watermark(self) -> int:
        """The offset to commit."""
        needed = [p.first_offset for p in self.pipelines.values()]
        return watermark(self.next_offset, min((offset for offset in needed if offset is not None), default=None))

    def came_to(self, arrival_ns: int, now_s: float) -> None:
        """Records told this time, at this time of our own clock."""
        self.told_ns, self.told_at = max(arrival_ns, self.told_ns), now_s

    def forget_guess(self) -> None:
        """The first record came: its time counts, not what was guessed."""
        self.is_guess = False
        self.told_ns = 0
        self.pipelines.clear()


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
        only_replay: str = "",
    ) -> None:
        self._app = app
        self._outlet = outlet
        self._rules = rules
        self._hooks_for = hooks_for
        self._source_topic = source_topic
        self._is_replay = source_topic == rules.topics.replay
        #: A worker of one replay takes its records in the order of their arrival; those of others it passes over.
        self._only_replay = only_replay
        self._replay_ns = 0
        #: By replay, "" for live spans.
        self._closing: dict[str, Closing] = {}
        self._closed_at = 0.0
        self.budget = SpanBudget(memory_spans)
        self.sources: dict[TP, Source] = {}
        # Partitions that were revoked: if they come back with nobody having read on, so does their state.
        self._suspended: dict[TP, Source] = {}
        self._committed: dict[TP, int] = {}
        # Held from taking spans to having sent what came of them: no watermark may pass what is in between.
        self._publishing = asyncio.Lock()
        # Held over a commit: an older watermark must not be committed after a newer one.
        self._committing = asyncio.Lock()
        self._stopped = False
        self.records_total = 0
        self.dead_letters_total = 0
        self.commits_total = 0
        self.gaps_total = 0
        self.rebalances_total = 0
        #: What partitions counted that were given up since.
        self.closed_counts = Counts()
        self.closed_tally = Tally()
        self.last_progress_at = time.monotonic()

    def attach(self, commit_interval_s: float) -> None:
        """Register the agent, its timers and its signal handlers with the app."""
        app = self._app
        topic = app.topic(self._source_topic, key_serializer="raw", value_serializer="raw", acks=False, internal=False)
        # Of events, each of which may be so many records. (An argument of this name is ignored: faust-streaming 0.15.)
        topic.maxsize = app.conf.stream_buffer_maxsize // TOGETHER
        app.agent(topic, name="assemble")(self._on_records)
        app.timer(TICK_S, name="silence")(self._on_tick)
        app.timer(commit_interval_s, name="watermark")(self._commit)
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
        for tp, source in self.sources.items():
            fetched = last_fetch(self._app, tp)
            if fetched is not None:
                lags[tp.partition] = max(0, fetched.end - source.cursor.next_offset)
        return lags

    async def _on_records(self, stream: Any) -> None:
        async for event in stream.noack().events():
            missing: dict[TP, Source] = {}
            while is_warming():  # noqa: ASYNC110 (a thread ends it, which knows no loop)
                await asyncio.sleep(WARMING_STEP_S)
            messages = at_hand(self._app, stream, event)
            async with self._publishing:
                await self._outlet.send(self._taken_of(messages, missing))
                if time.monotonic() - self._closed_at >= CLOSE_TOGETHER_S:
                    await self._send_closed()
            for tp, source in missing.items():
                await self._ask_again(tp, source)
            if self._only_replay:
                await self._take_in_order()

    def _taken_of(self, messages: Sequence[Any], missing: dict[TP, Source]) -> list[Outgoing]:
        """Take what is next in its partition; those of which something is missing are added to ``missing``."""
        due: list[tuple[Any, Source]] = []
        for message in messages:
            source = self.sources.get(message.tp)
            if self._stopped or source is None:
                continue  # of an assignment that is over: it comes again
            verdict = source.cursor.judge(message.offset, time.monotonic())
            if verdict == "missing":
                missing[message.tp] = source
            elif verdict == "read" and not self._only_replay:
                due.append((message, source))
            elif verdict == "read" and self._replay_id(message) == self._only_replay:
                source.held.append((self._arrival_ns(message), message))
        decoded = self._decoded([message for message, _ in due])
        out: list[Outgoing] = []
        records = [(message, source, spans) for (message, source), spans in zip(due, decoded, strict=True)]
        for (source, is_plain), group in groupby(records, _together_by):
            if is_plain:
                out += self._taken_together(source, [(message, spans) for message, _, spans in group if spans])
            else:
                out += [record for one in group for record in self._taken(*one)]
        return out

    async def _take_in_order(self) -> None:
        """Take what waits, as far as no partition can have an older record."""
        is_more = True
        while is_more:
            async with self._publishing:
                if self._stopped:
                    return  # what waits is its successor's
                out: list[Outgoing] = []
                for _ in range(RECORDS_AT_ONCE):
                    source = next_in_order(self.sources.values())
                    is_more = source is not None
                    if source is None:
                        break
                    arrival_ns, message = source.held.popleft()
                    if arrival_ns >= self._replay_ns + REPLAY_STEP_NS:
                        # As the clock does for live partitions that are silent: all have come to this time.
                        self._replay_ns = arrival_ns - arrival_ns % REPLAY_STEP_NS
                        for pipeline in self.all_pipelines():
                            out += pipeline.move(self._replay_ns)
                    (spans,) = self._decoded([message])
                    out += self._taken(message, source, spans)
                await self._outlet.send(out)
                await self._send_closed()
            await asyncio.sleep(0)  # much may have waited, and others have a turn

    async def _send_closed(self) -> None:
        """Send what comes of the traces that closed: no watermark may pass them before."""
        self._closed_at = time.monotonic()
        for closing in self._closing.values():
            await self._outlet.send(closing.published())

    def _new_pipeline(self, source: Source, replay_id: str) -> Pipeline:
        closing = self._closing.get(replay_id)
        if closing is None:
            closing = self._closing[replay_id] = Closing(replay_id)
        told_until_ns = source.told_until_ns if replay_id == self._only_replay else 0
        hooks = self._hooks_for(replay_id)
        return Pipeline(source.partition, self._rules, self.budget, hooks, replay_id, closing, told_until_ns)

    def _note(self, source: Source) -> str:
        """What a successor must know that begins at the watermark: how far windows were told."""
        pipeline = source.pipelines.get(self._only_replay)
        told_until_ns = pipeline.windows.closed_until_ns if pipeline is not None else 0
        return str(max(told_until_ns, source.told_until_ns))

    async def _ask_again(self, tp: TP, source: Source) -> None:
        self.gaps_total += 1
        offset = source.cursor.next_offset
        logger.warning("%s[%d]: records from offset %d on did not come, reading again", tp.topic, tp.partition, offset)
        await seek(self._app, tp, offset)

    def _decoded(self, messages: Sequence[Any]) -> Sequence[RecordSpans | None]:
        """Many are decoded cheaper than one; None is left to the plain decoder, and to its judgement."""
        decoded = attempt(decode_together, [message.value or b"" for message in messages])
        if isinstance(decoded, Exception):
            logger.error("bug at one of %d records", len(messages), exc_info=decoded)
            return [None] * len(messages)
        return decoded

    def _taken_together(self, source: Source, records: Sequence[tuple[Any, RecordSpans]]) -> list[Outgoing]:
        """Records of live spans of one partition, in a row."""
        if source.is_guess:
            source.forget_guess()
        arrived = [Arrived(spans, message.offset, self._arrival_ns(message)) for message, spans in records]
        taken = attempt(source.pipeline("").take_together, arrived)
        if isinstance(taken, Exception):
            logger.error("bug at one of %d records", len(records), exc_info=taken)
            return [outgoing for message, spans in records for outgoing in self._taken(message, source, spans)]
        self.records_total += len(records)
        self.last_progress_at = time.monotonic()
        source.came_to(max(one.arrival_ns for one in arrived), self.last_progress_at)
        return taken

    def _taken(self, message: Any, source: Source, spans: RecordSpans | None) -> list[Outgoing]:
        try:
            return self._read(message, source, spans)
        except Exception as error:
            # The outermost loop. Faust would skip the record in silence, and commit it; a worker that stopped would
            # stop again at the same record.
            logger.exception("bug at %s[%d]@%d", message.topic, message.partition, message.offset)
            return [self._dead_letter(message, message.value or b"", f"bug: {error!r}")]

    def _read(self, message: Any, source: Source, spans: RecordSpans | None) -> list[Outgoing]:
        offset = message.offset
        if source.is_guess:
            source.forget_guess()
        self.records_total += 1
        self.last_progress_at = time.monotonic()
        headers = dict(message.headers) if message.headers else {}
        replay_id = self._replay_id(message)
        if REPLAY_END_HEADER in headers:
            source.is_over = True
            return self._finished(source, replay_id)
        if replay_id and not message.value and HANDOVER_HEADER not in headers:
            return []  # it only told how far the replay has come
        try:
            pipeline = source.pipeline(replay_id)
            is_known = False
            if HANDOVER_HEADER in headers:
                handover = decode_handover(headers[HANDOVER_HEADER])
                is_known = source.cursor.started_at >= handover.next_offset
                if is_known:
                    pipeline.take_over(handover, offset)
            taken, rejected = (spans, []) if spans is not None else decode_spans(message.value or b"")
        except MalformedPayload as error:
            return [self._dead_letter(message, message.value or b"", str(error))]
        arrival_ns = self._arrival_ns(message)
        source.came_to(arrival_ns, self.last_progress_at)
        out = pipeline.take(taken, offset, arrival_ns, is_known)
        for span in rejected:
            out.append(self._dead_letter(message, span.request, span.reason))
        return out

    def _replay_id(self, message: Any) -> str:
        return next((value for key, value in message.headers or () if key == REPLAY_HEADER), b"").decode(
            "utf-8", "replace"
        )

    def _finished(self, source: Source, replay_id: str) -> list[Outgoing]:
        """What the end of a replay closes; its state is forgotten. Detection waits for the end of every partition."""
        pipeline = source.pipeline(replay_id)
        out = pipeline.finish()
        del source.pipelines[replay_id]
        self._give_up(pipeline)
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
        return OutgoingRecord(self._rules.topics.dead_letters, message.key, value, None, dead_letter_headers(error))

    async def _on_tick(self) -> None:
        """Move the watermark of partitions that are silent: read to their end, as the broker's last answer told."""
        if is_warming():
            return
        silent: list[tuple[Source, float]] = []
        for tp, source in [] if self._stopped else list(self.sources.items()):
            fetched = last_fetch(self._app, tp)
            if fetched is None:
                continue
            if not self._app.rebalancing and source.cursor.has_lost(fetched.position, time.monotonic()):
                await self._ask_again(tp, source)
            # A replay's time is in its records alone: one that stalls gives the same traces.
            if not self._is_replay and source.cursor.next_offset >= fetched.end:
                silent.append((source, time.monotonic() - fetched.age_s))
        async with self._publishing:
            await self._outlet.send([record for source, until in silent for record in self._moved(source, until)])
            await self._send_closed()

    def _moved(self, source: Source, known_until: float) -> list[Outgoing]:
        """Move the watermark of a silent partition.

        Not to the time now but to that of the broker's last answer: what came since is not known, and silence while
        it does not answer means nothing.
        """
        if not source.told_ns:
            self._guess(source)
        elif known_until > source.told_at:
            source.told_ns += round((known_until - source.told_at) * 1e9)
            source.told_at = known_until
        return [record for pipeline in source.pipelines.values() for record in pipeline.move(source.told_ns)]

    def _guess(self, source: Source) -> None:
        if not source.cursor.has_read:
            source.is_guess = True
            source.told_ns, source.told_at = time.time_ns(), time.monotonic()
            source.pipeline("")

    async def _commit(self) -> None:
        if self._stopped:
            return
        async with self._committing:
            async with self._publishing:
                await self._send_closed()
                read = {tp: source for tp, source in self.sources.items() if source.cursor.has_read}
                watermarks = {tp: source.watermark() for tp, source in read.items()}
                noted = {tp: self._note(source) for tp, source in read.items()}
            await self._commit_offsets(watermarks, noted)

    async def _commit_offsets(self, offsets: dict[TP, int], noted: dict[TP, str]) -> None:
        changed = changed_watermarks(offsets, self._committed)
        if not changed:
            return
        await self._outlet.flush()
        if await commit(self._app, changed, noted):
            self._committed.update(changed)
            self.commits_total += 1

    async def _on_revoked(self, app: faust.App, revoked: Iterable[TP], **_: Any) -> None:
        if self._stopped:
            return
        await self._commit()
        # From here on records of this assignment are passed over; they come again after the next one.
        self._suspended |= {tp: source for tp, source in self.sources.items() if source.cursor.has_read}
        self.sources = {}
        async with self._publishing:
            await self._send_closed()

    async def _on_assigned(self, app: faust.App, assigned: Iterable[TP], **_: Any) -> None:
        if self._stopped:
            return
        ours = sorted(tp for tp in assigned if tp.topic == self._source_topic)
        sources: dict[TP, Source] = {}
        noted = await notes(app, ours)
        for tp, start in (await starts(app, ours)).items():
            suspended = self._suspended.pop(tp, None)
            # Nobody has read on: what we know of it is all that is to be known.
            if suspended is not None and start in (self._committed.get(tp), suspended.cursor.next_offset):
                sources[tp] = suspended
                continue
            if suspended is not None:
                self._drop(suspended)
            sources[tp] = Source(tp.partition, start, _told_until_ns(noted[tp]), self._new_pipeline)
            self._committed[tp] = start
        for source in self._suspended.values():
            self._drop(source)
        self._suspended = {}
        self._committed = {tp: offset for tp, offset in self._committed.items() if tp in sources}
        self.sources = sources
        self.rebalances_total += 1
        offsets = {tp.partition: source.cursor.next_offset for tp, source in sources.items()}
        logger.info("reading %s, partitions and offsets %s", self._source_topic, offsets)

    def _drop(self, source: Source) -> None:
        for pipeline in source.pipelines.values():
            self._give_up(pipeline)

    def _give_up(self, pipeline: Pipeline) -> None:
        self.closed_counts.add(pipeline.assembler.counts)
        self.closed_tally.add(pipeline.tally)
        pipeline.assembler.drop()

    async def _on_shutdown(self, app: faust.App, **_: Any) -> None:
        """Hand over what is open and commit all that was read; where that came too late, commit the watermark."""
        self._stopped = True
        async with self._committing, self._publishing:
            await self._send_closed()
            offsets: dict[TP, int] = {}
            noted = {tp: self._note(source) for tp, source in self.sources.items()}
            handed_over: list[int] = []
            for tp, source in self.sources.items():
                if not source.cursor.has_read:
                    continue
                offsets[tp] = source.watermark()
                if self._is_timely(tp, source):
                    for pipeline in source.pipelines.values():
                        await self._outlet.send(self._handover(source, pipeline), tp.partition)
                    offsets[tp] = source.next_offset
                    handed_over.append(tp.partition)
            await self._commit_offsets(offsets, noted)
        committed = {tp.partition: offset for tp, offset in offsets.items()}
        logger.info("stopped at offsets %s; handed over partitions %s", committed, handed_over)

    def _is_timely(self, tp: TP, source: Source) -> bool:
        if self._is_replay:
            return False  # its publisher goes on, much faster than time does
        fetched = last_fetch(self._app, tp)
        unread = fetched.end - source.next_offset if fetched is not None else 1
        return is_timely(unread, time.time_ns() - source.told_ns, self._rules.window_limits.grace_ns)

    def _handover(self, source: Source, pipeline: Pipeline) -> list[Outgoing]:
        now_ms = pipeline.assembler.now_ns // 1_000_000
        return [
            OutgoingRecord(self._source_topic, b"", record.value, now_ms, ((HANDOVER_HEADER, record.header),))
            for record in pipeline.handover(source.next_offset)
        ]


def _told_until_ns(note: str) -> int:
    """What ``SpanAgent._note`` wrote; 0 for what somebody else did."""
    return int(note) if note.isascii() and note.isdecimal() else 0


def _together_by(record: tuple[Any, Source, RecordSpans | None]) -> tuple[Source, bool]:
    """What records that follow one another must have in common to be taken together, and whether these may be."""
    message, source, spans = record
    return source, spans is not None and not message.headers
