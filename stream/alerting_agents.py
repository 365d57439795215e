"""Alerting at the edge: reads findings and rounds, writes alerts, keeps the episodes in a Faust Table.

Laws: an alert is sent before the Table tells of it, and both are stored before the finding is committed; a crash in
between makes the same event again, by the same id, and loses none; what the topic of alerts holds already is not sent
twice. A worker that was frozen, and has been replaced meanwhile, tells nothing: before anything is told the broker is
asked whose the findings are. What is usual of late is not stored: after a start
the rounds of the last half hour are read again, and learned from, without alerting anew. What is usual at an hour of
the day takes days to learn, and is.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import faust
import msgspec
from aiokafka.errors import KafkaError
from faust.types import TP

from stream import notification_agents
from stream.alerting.alerting import Alerting
from stream.alerting.episode import Episode
from stream.alerting.history import History
from stream.alerting.settings import AlertingSettings
from stream.alerting.watch import Watch
from stream.consumer_access import at_hand, commit, last_fetch, offset_at, seek, starts
from stream.continuity import Cursor
from stream.detection.round import decode_round, is_round
from stream.rules_source import RulesSource
from stream.told_events import ToldEvents, told_events
from tracecore import wire
from tracecore.alert import Alert
from tracecore.errors import MalformedPayload
from tracecore.settings import KafkaSettings, read
from tracecore.topics import NOTIFY_HEADER, REPLAY_HEADER, Topics

logger = logging.getLogger(__name__)

#: How often time is told to alerting when nothing else tells it, and progress is committed.
TICK_S = 1.0
#: Without a record for this long, time is our own clock's: no worker judges spans, and alerts must still end.
SILENCE_S = 30.0
#: How far back rounds are learned from after a start.
LOOK_BACK_S = 1800.0

_encode = msgspec.msgpack.Encoder().encode
_decode_episode = msgspec.msgpack.Decoder(Episode).decode
_decode_history = msgspec.msgpack.Decoder(History).decode
_EPISODE, _HISTORY, _HOURS = "e", "h", "d"
#: Findings that are judged in one go. To tell of an alert takes a turn with the broker, and of many as long.
FINDINGS_AT_ONCE = 64
#: Profiles of the day that are stored in a tick: a write of a Table costs a third of a millisecond.
MAX_STORED = 100


@dataclass(slots=True)
class Reading:
    """Where this worker stands in the findings."""

    cursor: Cursor
    committed: int
    #: Records before it were judged by a predecessor: they are learned from.
    judged_until: int
    #: What came of records before it was told, and is in the Table.
    told_until: int = 0
    looked_back: bool = False
    last_record_at: float = field(default_factory=time.monotonic)


class Events(NamedTuple):
    """What a watch has to tell."""

    watch: Watch
    alerts: list[Alert]


class AlertingAgent:
    """One worker holds the findings' one partition, and with it this state; the others hold none."""

    def __init__(
        self,
        app: faust.App,
        topics: Topics,
        kafka: KafkaSettings,
        rules: RulesSource,
        *,
        replay: bool,
        replay_id: str,
        notify: bool = False,
    ) -> None:
        self._app = app
        self._topic = topics.findings
        self._replay = replay or bool(replay_id)
        self._replay_id = replay_id
        # Somebody asked that receivers be told of this replay's alerts.
        self._more_headers = {NOTIFY_HEADER: b"1"} if notify else {}
        self._rules = rules
        self._kafka = kafka
        self._told = ToldEvents()
        self._alerts_topic = topics.alerts
        self._alerts = app.topic(topics.alerts, key_serializer="raw", value_serializer="raw", internal=False)
        self._health = app.topic(topics.health, key_serializer="raw", value_serializer="raw", internal=False)
        self._table = app.Table("alerting", partitions=1, key_type=bytes, value_type=bytes, use_partitioner=True)
        self._reading: Reading | None = None
        self._watches: dict[str, Watch] | None = None
        # Held from judging to having told: the Table must not tell of what was judged meanwhile.
        self._publishing = asyncio.Lock()
        # So that an earlier offset is never committed after a later one.
        self._committing = asyncio.Lock()
        self.malformed_total = 0
        self.alerts_total = 0

    def attach(self) -> None:
        """Register the agent, its timers and its signal handlers with the app."""
        app = self._app
        findings = app.topic(self._topic, key_serializer="raw", value_serializer="raw", acks=False, internal=False)
        app.agent(findings, name="alerting")(self._on_records)
        app.timer(TICK_S, name="alerting-clock")(self._on_timer)
        app.on_partitions_revoked.connect(self._on_revoked, weak=False)
        app.on_partitions_assigned.connect(self._on_assigned, weak=False)
        app.on_before_shutdown.connect(self._on_shutdown, weak=False)

    async def _on_records(self, stream: Any) -> None:
        async for event in stream.noack().events():
            async with self._publishing:
                await self._on_messages(at_hand(self._app, stream, event, FINDINGS_AT_ONCE))

    async def _on_messages(self, messages: Sequence[Any]) -> None:
        """Judge what is next; then tell of it all."""
        events: list[Events] = []
        for message in messages:
            reading = self._reading
            if reading is None:
                continue  # of an assignment that is over: it comes again
            if not reading.looked_back and await self._look_back(message.tp, reading):
                break
            verdict = reading.cursor.judge(message.offset, time.monotonic())
            if verdict == "missing":
                await self._ask_again(message.tp, reading.cursor)
            if verdict != "read":
                continue
            reading.last_record_at = time.monotonic()
            if self._is_ours(message):
                events += self._judged(message, is_judged=message.offset < reading.judged_until)
        reading = self._reading
        if reading is None or (events and not await self._are_ours(reading)):
            return
        try:
            await self._publish(events)
        except Exception:
            # The outermost loop. Faust would end the agent; a worker that stopped would stop again at the same record.
            logger.exception("bug at %s, in what was to be told", self._topic)
        reading.told_until = reading.cursor.next_offset

    async def _are_ours(self, reading: Reading) -> bool:
        """Whether the findings are still this worker's to judge; if not, it forgets what it made of them.

        A process that was frozen, or cut off from the broker, finds records in its hands that its successor has judged
        by now. Only the broker knows, and tells whoever commits: what is committed is committed again.
        """
        async with self._committing:
            if self._reading is reading and await commit(self._app, {TP(self._topic, 0): reading.committed}):
                return True
        logger.info("%s is another worker's by now: nothing is told of what was read", self._topic)
        if self._reading is reading:
            self._reading = self._watches = None
        return False

    async def _look_back(self, tp: TP, reading: Reading) -> bool:
        """Go back to the rounds of the last half hour, if there are any; True if reading goes on there."""
        reading.looked_back = True
        if self._replay:
            return False
        self._told = await told_events(self._kafka, self._alerts_topic)
        since_ms = int((time.time() - LOOK_BACK_S) * 1000)
        offset = await offset_at(self._app, tp, since_ms)
        if offset is None or offset >= reading.cursor.next_offset:
            return False
        reading.cursor = Cursor(offset, time.monotonic())
        await seek(self._app, tp, offset)
        return True

    async def _ask_again(self, tp: TP, cursor: Cursor) -> None:
        offset = cursor.next_offset
        logger.warning("%s[%d]: records from offset %d on did not come, reading again", tp.topic, tp.partition, offset)
        await seek(self._app, tp, offset)

    def _is_ours(self, message: Any) -> bool:
        replay_id = dict(message.headers or ()).get(REPLAY_HEADER)
        if not self._replay:
            return replay_id is None
        return replay_id is not None and self._replay_id in ("", replay_id.decode("utf-8", "replace"))

    def _judged(self, message: Any, *, is_judged: bool) -> list[Events]:
        """The events that follow from a record; none from one that a predecessor judged, for it told of them."""
        value, events = message.value or b"", list[Events]()
        try:
            if is_round(value):
                round_ = decode_round(value)
                watch = self._watch(round_.replay_id)
                if is_judged:
                    watch.learn(round_)
                else:
                    events.append(Events(watch, watch.on_round(round_, time.time_ns(), message.offset)))
                return events
            finding = wire.decode_finding(value)
            watch = self._watch(finding.replay_id)
            if is_judged:
                watch.learn_finding(finding)
            else:
                events.append(Events(watch, watch.on_finding(finding, time.time_ns(), message.offset)))
        except MalformedPayload as error:
            self.malformed_total += 1
            logger.warning("skipped a finding: %s[%d]@%d: %s", message.topic, message.partition, message.offset, error)
        except Exception:
            logger.exception("bug at %s[%d]@%d", message.topic, message.partition, message.offset)
        return events

    def _watch(self, replay_id: str) -> Watch:
        if self._watches is None:
            self._watches = {}
        watch = self._watches.get(replay_id)
        if watch is None:
            watch = self._watches[replay_id] = Watch(self._restored(replay_id), replay_id)
            watch.hours.restore(
                {name: value for kind, owner, name, value in self._stored() if (kind, owner) == (_HOURS, replay_id)}
            )
            watch.use(self._rules.book)
        return watch

    def _restored(self, replay_id: str) -> Alerting:
        """Alerting as the Table holds it."""
        episodes: list[Episode] = []
        histories: dict[str, History] = {}
        for kind, owner, name, value in self._stored():
            if owner != replay_id:
                continue
            if kind == _EPISODE:
                episodes.append(_decode_episode(value))
            elif kind == _HISTORY:
                histories[name] = _decode_history(value)
        return Alerting(self._rules.book.rules, episodes, histories)

    def _stored(self) -> Iterator[tuple[str, str, str, bytes]]:
        """What the Table holds: kind, replay ("" for live), name, value."""
        for key, value in self._table.items():
            kind, owner, name = key.decode().split("/", 2)
            yield kind, owner, name, value

    def _store_hours(self) -> None:
        """What days have taught; of a replay it is not stored, for a replay has an end."""
        watch = (self._watches or {}).get("")
        for name, profile in watch.hours.changed(MAX_STORED).items() if watch else ():
            self._table[f"{_HOURS}//{name}".encode()] = profile

    async def _on_timer(self) -> None:
        reading = self._reading
        if reading is None or self._app.rebalancing:
            return
        if self._rules.has_changed():
            for watch in (self._watches or {}).values():
                watch.use(self._rules.book)
        tp = TP(self._topic, 0)
        fetched = last_fetch(self._app, tp)
        if fetched is not None and reading.cursor.has_lost(fetched.position, time.monotonic()):
            await self._ask_again(tp, reading.cursor)
        silent_s = time.monotonic() - reading.last_record_at
        if silent_s >= SILENCE_S and not self._replay:
            async with self._publishing:
                if await self._are_ours(reading):
                    watch, now_ns = self._watch(""), time.time_ns()
                    await self._publish([Events(watch, watch.on_tick(now_ns, now_ns))])
        self._store_hours()
        await self._commit()

    async def _publish(self, events: Sequence[Events]) -> None:
        await self._send([alert for _, alerts in events for alert in alerts if not self._told.holds(alert)])
        for watch in {id(watch): watch for watch, _ in events}.values():
            for report in watch.reports():
                await self._health.send(
                    key=report.service.encode(), value=wire.encode_health(report), headers=_headers(report.replay_id)
                )
            episodes, histories = watch.alerting.changed()
            for kind, changed in ((_EPISODE, episodes), (_HISTORY, histories)):
                for name, state in changed.items():
                    key = f"{kind}/{watch.replay_id}/{name}".encode()
                    if state is not None:
                        self._table[key] = _encode(state)
                    elif key in self._table:
                        del self._table[key]

    async def _send(self, alerts: Sequence[Alert]) -> None:
        """Send events; returns once the broker has them all, for the Table must not know of what was not told.

        They are on their way together: a window may end a hundred alerts, and new ones must not wait for each.
        """
        pause_s = 0.5
        while alerts:
            sent = [await self._on_its_way(alert) for alert in alerts]
            errors = await asyncio.gather(*sent, return_exceptions=True)
            failed = next((number for number, error in enumerate(errors) if isinstance(error, BaseException)), None)
            for alert in alerts[:failed]:
                self.alerts_total += 1
                logger.info("alert %s %s %s", alert.status, alert.labels["alertname"], alert.fingerprint)
            if failed is None:
                return
            error = errors[failed]
            if not isinstance(error, KafkaError):
                raise error
            logger.warning("the broker did not take an alert, trying again: %r", error)
            # With all that followed: an event must not overtake an earlier one. Who got it knows it by its id.
            alerts = alerts[failed:]
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 10.0)

    async def _on_its_way(self, alert: Alert) -> Awaitable[Any]:
        try:
            delivery: Awaitable[Any] = await self._alerts.send(
                key=alert.fingerprint.encode(),
                value=wire.encode_alert(alert),
                headers=_headers(alert.replay_id) | self._more_headers,
            )
        except KafkaError as error:
            delivery = asyncio.get_running_loop().create_future()
            delivery.set_exception(error)
        return delivery

    async def _commit(self) -> None:
        reading = self._reading
        if reading is None or reading.told_until <= reading.committed:
            return
        offset = reading.told_until
        await self._app.producer.flush()
        async with self._committing:
            if await commit(self._app, {TP(self._topic, 0): offset}):
                reading.committed = offset

    async def _on_revoked(self, app: faust.App, revoked: Any, **_: Any) -> None:
        await self._commit()
        self._reading = self._watches = None

    async def _on_assigned(self, app: faust.App, assigned: Iterable[TP], **_: Any) -> None:
        self._watches = None
        ours = [tp for tp in assigned if tp.topic == self._topic]
        for offset in (await starts(app, ours)).values():
            # A write to the Table asks the producer, at once, for the partitions of a topic that it may not know yet.
            await app.producer._producer.partitions_for(self._table.changelog_topic.get_topic_name())  # type: ignore[attr-defined]
            self._reading = Reading(Cursor(offset, time.monotonic()), offset, offset)

    async def _on_shutdown(self, app: faust.App, **_: Any) -> None:
        await self._commit()
        self._reading = None


def attach(
    app: faust.App,
    topics: Topics,
    kafka: KafkaSettings,
    *,
    replay: bool = False,
    replay_id: str = "",
    notify: bool = False,
) -> AlertingAgent:
    """Let ``app`` turn findings into alerts: live ones, those of replays, or those of one replay.

    ``notify``: receivers of notifications are told of that replay's alerts, too.
    Raises ``TracewatchError`` if the rules are bad.
    """
    settings = read(AlertingSettings)
    rules = RulesSource(settings.alert_rules)
    agent = AlertingAgent(app, topics, kafka, rules, replay=replay, replay_id=replay_id, notify=notify)
    agent.attach()
    if not replay and not replay_id:
        notification_agents.attach(app, topics, kafka, settings)
    return agent


def _headers(replay_id: str) -> dict[str, bytes]:
    return {REPLAY_HEADER: replay_id.encode()} if replay_id else {}
