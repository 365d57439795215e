"""What the alert feed has told so far: which alerts fire, and the latest events. No I/O; ``now_ns`` is passed in."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from tracecore.alert import Alert
from tracecore.errors import MalformedPayload

_REMEMBERED_EVENTS: Final = 200

Connection = Literal["connecting", "live", "away"]


@dataclass(frozen=True, slots=True)
class BoardState:
    """A moment of the board. ``events`` are newest first; ``version`` grows with each change."""

    connection: Connection
    since_ns: int
    firing: tuple[Alert, ...]
    events: tuple[Alert, ...]
    gap: str
    version: int


class AlertBoard:
    """Takes the feed's messages in their order."""

    def __init__(self, now_ns: int) -> None:
        self.cursor = ""
        self._firing: dict[str, Alert] = {}
        self._events: deque[Alert] = deque(maxlen=_REMEMBERED_EVENTS)
        self._seen: deque[str] = deque(maxlen=2 * _REMEMBERED_EVENTS)
        self._gap = ""
        self._connection: Connection = "connecting"
        self._since_ns = now_ns
        self._version = 0

    def state(self) -> BoardState:
        """The board as it is, a value."""
        firing = sorted(self._firing.values(), key=lambda alert: alert.starts_at_ns, reverse=True)
        return BoardState(
            self._connection, self._since_ns, tuple(firing), tuple(self._events), self._gap, self._version
        )

    def connection_is(self, connection: Connection, now_ns: int) -> None:
        """The feed was reached, or was lost."""
        if connection != self._connection:
            self._connection, self._since_ns = connection, now_ns
            self._version += 1

    def take(self, message: str | bytes) -> None:
        """One message of the feed; of a kind that is not known, only the cursor counts. Raises ``MalformedPayload``."""
        try:
            envelope: Any = msgspec.json.decode(message)
            if not isinstance(envelope, Mapping):
                raise MalformedPayload("a feed's message is an object")
            kind = envelope.get("type")
            if kind == "alert":
                self._event(msgspec.convert(envelope.get("alert"), Alert))
            elif kind == "snapshot":
                alerts = msgspec.convert(envelope.get("alerts"), list[Alert])
                self._firing = {alert.fingerprint: alert for alert in alerts if not alert.replay_id}
                self._version += 1
            elif kind == "gap":
                self._gap = str(envelope.get("detail") or envelope.get("reason") or "events were lost")
                self._version += 1
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise MalformedPayload(f"not a message of the alert feed: {error}") from None
        if isinstance(cursor := envelope.get("cursor"), str):
            self.cursor = cursor

    def _event(self, alert: Alert) -> None:
        event = f"{alert.event_id}-{alert.updated_at_ns}-{alert.replay_id}"
        if event in self._seen:
            return
        self._seen.append(event)
        self._events.appendleft(alert)
        if not alert.replay_id:
            if alert.status == "firing":
                self._firing[alert.fingerprint] = alert
            elif (known := self._firing.get(alert.fingerprint)) and known.starts_at_ns <= alert.starts_at_ns:
                del self._firing[alert.fingerprint]
        self._version += 1
