"""What fires now: the state that a subscriber is shown when it connects."""

from collections.abc import Iterator
from typing import TypeVar

from live_api.filters import AlertFilter
from tracecore.alert import Alert
from tracecore.wire import encode_alert

Key = TypeVar("Key")

#: Alerts of replays never resolve if the replay was cut short: the oldest make room.
_MAX_REPLAYED = 10_000


class Firing:
    """Alerts that fire, by fingerprint: the last event of each."""

    def __init__(self) -> None:
        self._live: dict[str, Alert] = {}
        self._replayed: dict[tuple[str, str], Alert] = {}

    def __len__(self) -> int:
        return len(self._live)

    def observe(self, alert: Alert) -> None:
        """Take the next event of the topic."""
        if alert.replay_id:
            _observe(self._replayed, (alert.replay_id, alert.fingerprint), alert)
            if len(self._replayed) > _MAX_REPLAYED:
                del self._replayed[next(iter(self._replayed))]
        else:
            _observe(self._live, alert.fingerprint, alert)

    def clear(self) -> None:
        """The topic was made anew."""
        self._live.clear()
        self._replayed.clear()

    def asked_for(self, asked: AlertFilter) -> Iterator[Alert]:
        """Alerts that fire and match, in the order in which they began to."""
        yield from filter(asked.matches, self._live.values())
        if asked.replay:
            yield from filter(asked.matches, self._replayed.values())

    def snapshot(self, asked: AlertFilter) -> list[bytes]:
        """``asked_for``, each as JSON."""
        return [encode_alert(alert) for alert in self.asked_for(asked)]


def _observe(firing: dict[Key, Alert], key: Key, alert: Alert) -> None:
    if alert.status == "firing":
        firing[key] = alert
    else:
        firing.pop(key, None)
