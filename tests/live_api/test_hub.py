"""Fan-out to connections that are full, or closing: who keeps up is written to at once, who does not sees all later."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from live_api.events import alert_event
from live_api.feed import Feed
from live_api.filters import AlertFilter
from live_api.hub import Hub, Subscriber
from live_api.kafka import TopicHistory
from live_api.metrics import Metrics
from live_api.subscription import Subscription
from tests.live_api.builders import alert
from tracecore.alert import Alert
from tracecore.settings import KafkaSettings
from tracecore.wire import encode_alert


class Connection:
    """A ``FrameWriter`` that holds so many frames until they are ``taken``."""

    def __init__(self, room: int) -> None:
        self.full = False
        self.closing = False
        self.frames: list[bytes] = []
        self._room = room
        self._waiting = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self._unfit: Callable[[], None] | None = None

    def write(self, frame: bytes) -> bool:
        if self.closing:
            return False
        self._put(frame)
        return True

    def direct(self, unfit: Callable[[], None]) -> Callable[[bytes], object] | None:
        if self.full or self.closing:
            return None
        self._unfit = unfit
        return self._put

    async def drained(self) -> None:
        await self._writable.wait()

    def abort(self) -> None:
        self.close()

    def taken(self) -> None:
        """The peer read everything."""
        self._waiting = 0
        self.full = False
        self._writable.set()

    def close(self) -> None:
        self.closing = True
        self._tell()

    def messages(self) -> list[Any]:
        """(type, offset) of the frames so far, or just the type."""
        found: list[Any] = []
        for frame in self.frames:
            message = said(frame)
            number = message.get("alert", {}).get("updated_at_ns", 0)
            found.append(number - 1_000_000_000 if number else message["type"])
        return found

    def _put(self, frame: bytes) -> None:
        assert not self.closing, "a frame after the close frame"
        assert not self.full, "a frame for a connection that is full"
        self.frames.append(frame)
        self._waiting += 1
        if self._waiting >= self._room:
            self.full = True
            self._writable.clear()
            self._tell()

    def _tell(self) -> None:
        unfit, self._unfit = self._unfit, None
        if unfit is not None:
            unfit()


def said(frame: bytes) -> dict[str, Any]:
    """The message in a frame."""
    message: dict[str, Any] = json.loads(frame[2 if frame[1] < 126 else 4 :])
    return message


class Fixture:
    """A hub that publishes numbered alerts."""

    def __init__(self, *, skip_when_slow: bool = False) -> None:
        self.metrics = Metrics()
        self.hub: Hub[Alert] = Hub(
            Feed("alerts", [0], 100, 10**9),
            event_type="alert",
            read_event=alert_event,
            history=TopicHistory(KafkaSettings(), "alerts"),
            metrics=self.metrics.of_feed("alerts"),
            stuck_after_s=30.0,
            skip_when_slow=skip_when_slow,
        )

    async def joined(self, room: int = 10**6) -> tuple[Subscriber[Alert], Connection]:
        connection, asked = Connection(room), AlertFilter()

        async def close(code: int, reason: str) -> None:
            connection.close()

        subscription = Subscription(self.hub.feed, "alert", asked)
        subscriber = Subscriber(subscription, asked, connection, close)
        await self.hub.serve(subscriber)
        return subscriber, connection

    def registered(self, name: str) -> float | None:
        """A figure of /metrics."""
        return self.metrics.registry.get_sample_value(name, {"feed": "alerts"})

    def publish(self, number: int) -> None:
        event = alert_event(0, number, encode_alert(alert(number=number)))
        self.hub.publish(event)


async def settled() -> None:
    """Let every task that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_one_who_is_full_sees_what_it_missed_and_delays_nobody() -> None:
    fixture = Fixture()
    _, quick = await fixture.joined()
    _, slow = await fixture.joined(room=2)
    for number in range(1, 6):
        fixture.publish(number)
    assert quick.messages() == [1, 2, 3, 4, 5]
    assert slow.messages() == [1, 2]
    while len(slow.frames) < 6:
        slow.taken()
        await settled()
    assert slow.messages() == [1, 2, "gap", 3, 4, 5]
    slow.taken()
    await settled()
    fixture.publish(6)
    assert (quick.messages()[-1], slow.messages()[-1]) == (6, 6)


async def test_one_who_was_full_and_missed_nothing_is_told_of_no_gap() -> None:
    fixture = Fixture()
    _, slow = await fixture.joined(room=1)
    fixture.publish(1)
    slow.taken()
    await settled()
    fixture.publish(2)
    assert slow.messages() == [1, 2]


async def test_live_tail_goes_on_with_the_newest_and_says_how_many_it_left_out() -> None:
    fixture = Fixture(skip_when_slow=True)
    _, slow = await fixture.joined(room=2)
    for number in range(1, 6):
        fixture.publish(number)
    slow.taken()
    await settled()
    fixture.publish(6)
    assert slow.messages() == [1, 2, "gap", 6]
    assert said(slow.frames[2])["lost"] == 3


@pytest.mark.parametrize("when", ["level", "full", "removed while full"])
async def test_no_frame_follows_once_a_connection_closes(when: str) -> None:
    fixture = Fixture()
    subscriber, connection = await fixture.joined(room=2 if "full" in when else 10)
    fixture.publish(1)
    fixture.publish(2)
    if when == "removed while full":
        fixture.hub.remove(subscriber)
        connection.taken()
    connection.close()
    connection.taken()
    fixture.publish(3)
    fixture.hub.heartbeat()
    await settled()
    fixture.publish(4)
    assert connection.messages() == [1, 2]


async def test_one_who_closes_while_it_catches_up_never_joins() -> None:
    fixture = Fixture()
    fixture.publish(0)
    connection, asked = Connection(10), AlertFilter()

    async def close(code: int, reason: str) -> None:
        connection.close()

    subscriber = Subscriber(Subscription(fixture.hub.feed, "alert", asked), asked, connection, close)
    connection.close()
    await fixture.hub.serve(subscriber)
    fixture.publish(1)
    assert connection.messages() == []


async def test_nothing_is_kept_of_those_who_are_gone() -> None:
    fixture = Fixture()
    for _ in range(10):
        subscriber, _ = await fixture.joined()
        fixture.hub.remove(subscriber)
    fixture.publish(1)
    assert fixture.registered("tracewatch_live_api_deliveries_total") == 0
