"""How fast a stretch is repeated. Pure: it is told the time and says how long to wait."""

import re
from dataclasses import dataclass, field

from replay.errors import BadStretch

MAX_SPEED = 0.0


def parsed_speed(text: str) -> float:
    """Event seconds a second of "1x", "2.5x", "10"; 0 for "max". Raises ``BadStretch``."""
    if text == "max":
        return MAX_SPEED
    speed = re.fullmatch(r"(\d+(?:\.\d+)?)x?", text)
    if speed is None or float(speed[1]) <= 0:
        raise BadStretch(f"{text!r} is no speed: write max, 1x, 10x or 0.5x")
    return float(speed[1])


@dataclass(slots=True)
class Pace:
    """When a record may be sent. ``spans_per_s`` bounds the rate at any speed; 0 is no bound."""

    speed: float = MAX_SPEED
    spans_per_s: float = 0.0
    _first_ns: int | None = None
    _started_s: float = 0.0
    _sent_spans: int = field(default=0)

    def wait_s(self, arrival_ns: int, now_s: float) -> float:
        """Seconds to wait, at ``now_s`` of any steady clock, before what arrived at ``arrival_ns`` is sent."""
        if self._first_ns is None:
            self._first_ns, self._started_s = arrival_ns, now_s
        elapsed_s = now_s - self._started_s
        due_s = 0.0
        if self.speed > 0:
            due_s = (arrival_ns - self._first_ns) / 1e9 / self.speed
        if self.spans_per_s > 0:
            due_s = max(due_s, self._sent_spans / self.spans_per_s)
        return max(0.0, due_s - elapsed_s)

    def sent(self, spans: int) -> None:
        """Tell that ``spans`` were sent."""
        self._sent_spans += spans
