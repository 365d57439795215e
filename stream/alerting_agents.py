"""Alerting at the edge: reads findings, writes alerts, keeps the episodes in a Faust Table.

Law: an alert is sent before the Table tells of it and before the finding is committed. A crash between them sends the
same event again, by the same id; none is ever lost.
"""

import logging
import time
from collections.abc import AsyncIterator

import faust
import msgspec
from faust.types import TP

from stream.alerting.alerting import Alerting
from stream.alerting.episode import Episode
from tracecore import wire
from tracecore.alert import Alert
from tracecore.errors import MalformedPayload
from tracecore.settings import KafkaSettings
from tracecore.topics import REPLAY_HEADER, Topics

logger = logging.getLogger(__name__)

#: How often time is told to alerting when nothing else tells it.
TICK_S = 1.0

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Episode).decode


class AlertingAgent:
    """One worker holds the findings' one partition, and with it this state; the others hold none."""

    def __init__(self, app: faust.App, topics: Topics, replay: bool) -> None:
        self._replay = replay
        self._alerts = app.topic(topics.alerts, key_serializer="raw", value_serializer="raw", internal=False)
        # The timer changes it too, outside of the agent's iteration: then Faust wants the key to choose the partition.
        self._table = app.Table("alerting", partitions=1, key_type=bytes, value_type=bytes, use_partitioner=True)
        self._alerting: Alerting | None = None
        self.malformed_total = 0

    async def on_findings(self, stream: faust.StreamT[bytes]) -> AsyncIterator[None]:
        """The agent: a finding at a time, in the topic's order."""
        async for event in stream.events():
            if self._is_ours(event):
                await self._on_record(event)
            yield

    async def on_timer(self) -> None:
        """Resolve what has become quiet. Nothing to do on a worker that does not hold the findings."""
        if self._alerting is not None:
            await self._publish(self._alerting.on_tick(time.time_ns(), time.time_ns()))

    def forget(self) -> None:
        """Drop the state: after a rebalance it is what the Table holds, wherever the partition is now."""
        self._alerting = None

    def _is_ours(self, event: faust.EventT) -> bool:
        headers = event.message.headers or {}
        names = headers if isinstance(headers, dict) else dict(headers)
        return (REPLAY_HEADER in names) == self._replay

    async def _on_record(self, event: faust.EventT) -> None:
        try:
            finding = wire.decode_finding(event.message.value)
        except MalformedPayload as error:
            self.malformed_total += 1
            message = event.message
            logger.warning("skipped a finding: %s[%d]@%d: %s", message.topic, message.partition, message.offset, error)
            return
        if self._alerting is None:
            self._alerting = Alerting(episodes=[_decode(value) for value in self._table.values()])
        await self._publish(self._alerting.on_finding(finding, time.time_ns()))

    async def _publish(self, alerts: list[Alert]) -> None:
        assert self._alerting is not None
        for alert in alerts:
            await self._alerts.send(key=alert.fingerprint.encode(), value=wire.encode_alert(alert))
            logger.info("alert %s %s %s", alert.status, alert.labels["alertname"], alert.fingerprint)
        for name, episode in self._alerting.changed().items():
            if episode is not None:
                self._table[name.encode()] = _encode(episode)
            elif name.encode() in self._table:
                del self._table[name.encode()]


def attach(app: faust.App, topics: Topics, kafka: KafkaSettings, *, replay: bool = False) -> AlertingAgent:
    """Let ``app`` turn findings into alerts: live ones, or with ``replay`` those of replays."""
    agent = AlertingAgent(app, topics, replay)
    findings = app.topic(topics.findings, key_serializer="raw", value_serializer="raw", internal=False)
    app.agent(findings, name="alerting")(agent.on_findings)
    app.timer(TICK_S, name="alerting-clock")(agent.on_timer)

    async def forget(sender: object, partitions: set[TP], **kwargs: object) -> None:
        agent.forget()

    app.on_partitions_revoked.connect(forget, weak=False)
    app.on_partitions_assigned.connect(forget, weak=False)
    return agent
