"""The edge of the router: from the Collector's topic to the topic of spans."""

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

import faust
from faust.types import TP

from stream.attempt import attempt
from stream.consumer_access import at_hand, commit, last_fetch, seek, starts
from stream.continuity import Cursor
from stream.outgoing import Outgoing, OutgoingRecord
from stream.outlet import Outlet
from stream.router import Gathering, decode_record, split_by_partition
from stream.transport import TOGETHER
from stream.watermark import changed_watermarks
from tracecore.batch_decoding import decode_together
from tracecore.dead_letter import dead_letter_headers
from tracecore.errors import MalformedPayload, UndecodableRecord
from tracecore.topics import Topics

try:
    from stream import routing
except (ImportError, RuntimeError):  # no numba, or no place for what it compiles: a matter of speed alone
    routing = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

#: How long spans wait for others of their partition: a record of one span costs as much as one of a hundred.
_GATHER_S = 0.02
#: Spans of one partition that are sent without waiting.
_GATHER_SPANS = 500


class RouterAgent:
    """Gathers spans by partition and sends them on; commits what was read once it is stored."""

    def __init__(self, app: faust.App, outlet: Outlet, topics: Topics, partitions: int) -> None:
        self._app = app
        self._outlet = outlet
        self._topics = topics
        self._partitions = partitions
        self._gathered: dict[int, Gathering] = {}
        self._cursors: dict[TP, Cursor] = {}
        self._committed: dict[TP, int] = {}
        # A timer that looks fifty times a second whether anything was gathered cost more than all else that waits.
        self._gathering: asyncio.Future[None] | None = None
        self._sending = asyncio.Lock()
        self._committing = asyncio.Lock()
        self.records_total = 0
        self.spans_total = 0
        self.dead_letters_total = 0

    def attach(self, commit_interval_s: float) -> None:
        """Register the agent, its timers and its signal handlers with the app."""
        app = self._app
        topic = app.topic(
            self._topics.otlp_spans, key_serializer="raw", value_serializer="raw", acks=False, internal=False
        )
        topic.maxsize = app.conf.stream_buffer_maxsize // TOGETHER  # see SpanAgent.attach
        app.agent(topic, name="route")(self._on_records)
        app.timer(commit_interval_s, name="routed")(self._commit)
        app.on_partitions_revoked.connect(self._on_revoked, weak=False)
        app.on_partitions_assigned.connect(self._on_assigned, weak=False)
        app.on_before_shutdown.connect(self._on_shutdown, weak=False)

    async def _on_records(self, stream: Any) -> None:
        async for event in stream.noack().events():
            due: list[Any] = []
            missing: dict[TP, Cursor] = {}
            for message in at_hand(self._app, stream, event):
                cursor = self._cursors.get(message.tp)
                if cursor is None:
                    continue  # of an assignment that is over: it comes again
                verdict = cursor.judge(message.offset, time.monotonic())
                if verdict == "missing":
                    missing[message.tp] = cursor
                elif verdict == "read":
                    due.append(message)
            async with self._sending:
                await self._outlet.send(self._taken_of(due))
                for partition in [p for p, share in self._gathered.items() if share.spans >= _GATHER_SPANS]:
                    await self._send(partition)
            for tp, cursor in missing.items():
                await self._ask_again(tp, cursor)
            if self._gathered and (self._gathering is None or self._gathering.done()):
                self._gathering = self._app.add_future(self._send_soon())

    async def _ask_again(self, tp: TP, cursor: Cursor) -> None:
        offset = cursor.next_offset
        logger.warning("%s[%d]: records from offset %d on did not come, reading again", tp.topic, tp.partition, offset)
        await seek(self._app, tp, offset)

    def _taken_of(self, messages: Sequence[Any]) -> list[Outgoing]:
        """Gather the spans of records; returns dead letters."""
        self.records_total += len(messages)
        routed = attempt(self._routed, [message.value or b"" for message in messages])
        if isinstance(routed, Exception):
            logger.error("bug at one of %d records", len(messages), exc_info=routed)
            routed = [False] * len(messages)
        left = (message for message, is_routed in zip(messages, routed, strict=True) if not is_routed)
        return [letter for message in left for letter in self._taken(message)]

    def _routed(self, values: Sequence[bytes]) -> list[bool]:
        """Gather what compiled code reads, many records at once; which of them that were."""
        if routing is None or not routing.is_warm():
            return [False] * len(values)
        decoded = decode_together(values)
        columns = {id(spans.columns): spans.columns for spans in decoded if spans is not None}
        runs = [run for together in columns.values() for run in routing.routed(together, self._partitions)]
        for partition, run in runs:
            self._share(partition).add(run)
            self.spans_total += run.spans
        return [spans is not None for spans in decoded]

    def _taken(self, message: Any) -> list[Outgoing]:
        try:
            return self._read(message)
        except Exception as error:
            # The outermost loop: see SpanAgent._taken.
            logger.exception("bug at %s[%d]@%d", message.topic, message.partition, message.offset)
            return [self._dead_letter(message, message.value or b"", f"bug: {error!r}")]

    def _read(self, message: Any) -> list[Outgoing]:
        """Gather a record's spans; returns dead letters."""
        value = message.value or b""
        try:
            spans, rejected = decode_record(value)
        except MalformedPayload as error:
            return [self._dead_letter(message, value, str(error))]
        self.spans_total += len(spans)
        for partition, share in split_by_partition(spans, self._partitions).items():
            self._share(partition).add_spans(share)
        return [self._dead_letter(message, span.request, span.reason) for span in rejected]

    def _share(self, partition: int) -> Gathering:
        return self._gathered.setdefault(partition, Gathering())

    def _dead_letter(self, message: Any, value: bytes, reason: str) -> Outgoing:
        self.dead_letters_total += 1
        error = UndecodableRecord(message.topic, message.partition, message.offset, reason)
        logger.warning("dead letter: %s", error)
        return OutgoingRecord(self._topics.dead_letters, message.key, value, None, dead_letter_headers(error))

    async def _send(self, partition: int) -> None:
        share = self._gathered.pop(partition)
        records = [OutgoingRecord(self._topics.spans, b"", record) for record in share.records()]
        await self._outlet.send(records, partition)

    async def _send_gathered(self) -> None:
        for partition in list(self._gathered):
            await self._send(partition)

    async def _send_soon(self) -> None:
        await asyncio.sleep(_GATHER_S)
        async with self._sending:
            await self._send_gathered()

    async def _commit(self) -> None:
        for tp, cursor in [] if self._app.rebalancing else list(self._cursors.items()):
            fetched = last_fetch(self._app, tp)
            if fetched is not None and cursor.has_lost(fetched.position, time.monotonic()):
                await self._ask_again(tp, cursor)
        async with self._committing:
            async with self._sending:
                await self._send_gathered()
                read = {tp: cursor.next_offset for tp, cursor in self._cursors.items() if cursor.has_read}
                offsets = changed_watermarks(read, self._committed)
            if not offsets:
                return
            await self._outlet.flush()
            if await commit(self._app, offsets):
                self._committed.update(offsets)

    async def _on_revoked(self, app: faust.App, revoked: Any, **_: Any) -> None:
        await self._commit()
        self._cursors = {}

    async def _on_assigned(self, app: faust.App, assigned: Iterable[TP], **_: Any) -> None:
        ours = [tp for tp in assigned if tp.topic == self._topics.otlp_spans]
        self._committed = await starts(app, ours)
        self._cursors = {tp: Cursor(offset, time.monotonic()) for tp, offset in self._committed.items()}

    async def _on_shutdown(self, app: faust.App, **_: Any) -> None:
        await self._commit()
        self._cursors = {}
