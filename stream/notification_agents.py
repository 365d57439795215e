"""Notifications at the edge: alert events, grouped and unless silenced, to those who are to be told.

Each receiver has a queue and a task of its own: one that does not answer is tried again with growing pauses and holds
up no other. What was read is committed when it was told, so a crash tells again and forgets nothing; receivers know
alerts by fingerprint and start. Of the events of the last day a new worker learns what was told before.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import aiohttp
import faust
from aiokafka import AIOKafkaConsumer
from faust.types import TP

from stream.alerting.grouping import Grouping, GroupSettings, Notification
from stream.alerting.payloads import postable_alerts, slack_message, webhook_payload
from stream.alerting.settings import AlertingSettings
from stream.alerting.silences import Silences
from stream.consumer_access import commit, last_fetch, offset_at, seek, starts
from stream.continuity import Cursor
from tracecore import wire
from tracecore.alert import Alert
from tracecore.errors import MalformedPayload
from tracecore.settings import KafkaSettings
from tracecore.topics import NOTIFY_HEADER, REPLAY_HEADER, Topics

logger = logging.getLogger(__name__)

TICK_S = 0.5
LOOK_BACK_S = 24 * 3600.0
REQUEST_TIMEOUT_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
#: A notification that could not be delivered for this long is given up, with an ERROR.
GIVE_UP_S = 3600.0
#: Notifications that wait for one receiver; beyond it the oldest is given up.
MAX_QUEUE = 1000

Payload = Callable[[Notification], Any]


class Receiver:
    """One URL that is told. Its name is in logs and metrics; its URL may hold a secret, and is not."""

    def __init__(self, name: str, url: str, payload: Payload) -> None:
        self.name = name
        self._url = url
        self._payload = payload
        self._queue: asyncio.Queue[Notification] = asyncio.Queue()
        self._busy = False
        self._task: asyncio.Task[None] | None = None
        self.sent_total = 0
        self.failed_total = 0
        self.given_up_total = 0

    @property
    def is_idle(self) -> bool:
        """True if nothing waits to be delivered."""
        return self._queue.empty() and not self._busy

    def start(self, session: aiohttp.ClientSession) -> None:
        """Begin to deliver."""
        self._task = asyncio.create_task(self._deliver_all(session), name=f"receiver {self.name}")

    async def stop(self) -> None:
        """Stop; what waits is told by the next worker, for it was not committed."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def tell(self, notification: Notification) -> None:
        """Queue a notification."""
        if self._queue.qsize() >= MAX_QUEUE:
            self._queue.get_nowait()
            self._give_up("too many wait")
        self._queue.put_nowait(notification)

    async def _deliver_all(self, session: aiohttp.ClientSession) -> None:
        while True:
            notification = await self._queue.get()
            self._busy = True
            try:
                await self._deliver(session, notification)
            finally:
                self._busy = False

    async def _deliver(self, session: aiohttp.ClientSession, notification: Notification) -> None:
        body = self._payload(notification)
        pause_s, until = FIRST_PAUSE_S, time.monotonic() + GIVE_UP_S
        while True:
            reason = await self._refusal(session, body)
            if reason is None:
                self.sent_total += 1
                return
            self.failed_total += 1
            if reason.startswith("4") and reason[:3] not in ("408", "429"):
                self._give_up(reason)  # it will never like this
                return
            if time.monotonic() > until:
                self._give_up(reason)
                return
            logger.warning("receiver %s did not take a notification: %s; trying again", self.name, reason)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _refusal(self, session: aiohttp.ClientSession, body: Any) -> str | None:
        try:
            async with session.post(self._url, json=body, timeout=aiohttp.ClientTimeout(REQUEST_TIMEOUT_S)) as answer:
                return None if answer.status < 300 else f"{answer.status} {answer.reason}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return type(error).__name__  # its text may hold the URL

    def _give_up(self, reason: str) -> None:
        self.given_up_total += 1
        logger.error("receiver %s was not told: %s", self.name, reason)


class NotificationAgent:
    """Reads alerts and silences; the worker that holds the alerts' one partition tells the receivers."""

    def __init__(self, app: faust.App, topics: Topics, kafka: KafkaSettings, settings: AlertingSettings) -> None:
        self._app = app
        self._topics = topics
        self._kafka = kafka
        self.receivers = receivers_of(settings)
        self._group_settings = GroupSettings(
            tuple(settings.alert_group_by), group_wait_ns=round(settings.alert_group_wait_s * 1e9)
        )
        self._silences = Silences()
        self._grouping = Grouping(self._group_settings)
        self._cursor: Cursor | None = None
        self._committed = self._told_until = 0
        self._looked_back = False
        self._session: aiohttp.ClientSession | None = None
        self.silenced_total = 0

    def attach(self) -> None:
        """Register agents, timer and signal handlers with the app."""
        app = self._app
        raw: dict[str, Any] = {"key_serializer": "raw", "value_serializer": "raw", "internal": False}
        app.agent(app.topic(self._topics.alerts, acks=False, **raw), name="notify")(self._on_alerts)
        app.timer(TICK_S, name="notify-clock")(self._on_timer)
        app.on_partitions_revoked.connect(self._on_revoked, weak=False)
        app.on_partitions_assigned.connect(self._on_assigned, weak=False)
        app.on_before_shutdown.connect(self._on_revoked, weak=False)
        app.task()(self._follow_silences)

    async def _on_alerts(self, stream: Any) -> None:
        async for event in stream.noack().events():
            message, cursor = event.message, self._cursor
            if cursor is None:
                continue
            if not self._looked_back and await self._look_back(message.tp, cursor):
                continue
            verdict = cursor.judge(message.offset, time.monotonic())
            if verdict == "missing":
                await seek(self._app, message.tp, cursor.next_offset)
            headers = dict(message.headers or ())
            if verdict != "read" or (REPLAY_HEADER in headers and NOTIFY_HEADER not in headers):
                continue
            try:
                alert = wire.decode_alert(message.value or b"")
            except MalformedPayload as error:
                logger.warning("skipped an alert at offset %d: %s", message.offset, error)
                continue
            if message.offset < self._told_until:
                self._grouping.learn(alert, time.time_ns())
            else:
                self._grouping.add(alert, time.time_ns())

    async def _look_back(self, tp: TP, cursor: Cursor) -> bool:
        """Go back to the alerts of the last day, if there are any; True if reading goes on there."""
        self._looked_back = True
        offset = await offset_at(self._app, tp, int((time.time() - LOOK_BACK_S) * 1000))
        if offset is None or offset >= cursor.next_offset:
            return False
        self._cursor = Cursor(offset, time.monotonic())
        await seek(self._app, tp, offset)
        return True

    async def _on_timer(self) -> None:
        cursor = self._cursor
        if cursor is None or self._session is None or self._app.rebalancing:
            return
        tp = TP(self._topics.alerts, 0)
        fetched = last_fetch(self._app, tp)
        if fetched is not None and cursor.has_lost(fetched.position, time.monotonic()):
            # The last alert before a quiet night is the one that nothing comes after.
            logger.warning("%s[0]: alerts from offset %d on did not come, reading again", tp.topic, cursor.next_offset)
            await seek(self._app, tp, cursor.next_offset)
        now_ns = time.time_ns()
        self._silences.forget_expired(now_ns)
        notifications = self._grouping.due(now_ns)
        # Only who may commit may tell: a worker that was frozen may have been replaced, and its successor told it all.
        if notifications and not await commit(self._app, {tp: self._committed}):
            self._cursor = None
            return
        for notification in notifications:
            heard = tuple(alert for alert in notification.alerts if not self._is_silenced(alert, now_ns))
            self.silenced_total += len(notification.alerts) - len(heard)
            for receiver in self.receivers if heard else ():
                receiver.tell(replace(notification, alerts=heard))
        await self._commit(cursor)

    def _is_silenced(self, alert: Alert, now_ns: int) -> bool:
        return alert.status == "firing" and self._silences.muting(alert.labels, now_ns) is not None

    async def _commit(self, cursor: Cursor) -> None:
        is_told = self._grouping.is_idle and all(receiver.is_idle for receiver in self.receivers)
        if is_told and cursor.next_offset > self._committed:
            offset = cursor.next_offset
            if await commit(self._app, {TP(self._topics.alerts, 0): offset}):
                self._committed = offset

    async def _on_assigned(self, app: faust.App, assigned: Iterable[TP], **_: Any) -> None:
        ours = [tp for tp in assigned if tp.topic == self._topics.alerts]
        for offset in (await starts(app, ours)).values():
            self._grouping = Grouping(self._group_settings)
            self._committed = self._told_until = offset
            self._looked_back = False
            self._cursor = Cursor(offset, time.monotonic())
            self._session = aiohttp.ClientSession()
            for receiver in self.receivers:
                receiver.start(self._session)

    async def _on_revoked(self, app: faust.App, *_: Any, **__: Any) -> None:
        self._cursor = None
        for receiver in self.receivers:
            await receiver.stop()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _follow_silences(self) -> None:
        """Every worker knows every silence, from the topic's beginning: no group shares them out."""
        consumer = AIOKafkaConsumer(
            self._topics.silences,
            **self._kafka.client_options(),
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=500,
        )
        await consumer.start()
        try:
            async for record in consumer:
                try:
                    self._silences.observe(wire.decode_silence(record.value or b""))
                except MalformedPayload as error:
                    logger.warning("skipped a silence at offset %d: %s", record.offset, error)
        finally:
            await consumer.stop()


def receivers_of(settings: AlertingSettings) -> list[Receiver]:
    """The receivers that the environment names."""
    link = settings.alert_external_url
    receivers: list[Receiver] = []
    for number, url in enumerate(settings.alert_webhook_urls, 1):
        name = f"webhook-{number}"
        receivers.append(Receiver(name, url.get_secret_value(), partial(_webhook, name, link)))
    for number, url in enumerate(settings.alert_alertmanager_urls, 1):
        api = f"{url.get_secret_value().rstrip('/')}/api/v2/alerts"
        receivers.append(Receiver(f"alertmanager-{number}", api, partial(_posted, link)))
    for number, url in enumerate(settings.alert_slack_urls, 1):
        receivers.append(Receiver(f"slack-{number}", url.get_secret_value(), partial(_slack, link)))
    return receivers


def attach(
    app: faust.App, topics: Topics, kafka: KafkaSettings, settings: AlertingSettings
) -> NotificationAgent | None:
    """Let ``app`` notify; None if nobody is to be told."""
    agent = NotificationAgent(app, topics, kafka, settings)
    if not agent.receivers:
        return None
    agent.attach()
    return agent


def _webhook(name: str, link: str, notification: Notification) -> Any:
    return webhook_payload(notification, name, link)


def _posted(link: str, notification: Notification) -> Any:
    return postable_alerts(notification, link)


def _slack(link: str, notification: Notification) -> Any:
    return slack_message(notification, link)
