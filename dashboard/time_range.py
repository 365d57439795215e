"""The stretch of time that a page shows, and how the URL says it.

``?range=1h`` follows the clock; ``?from=2026-01-31T08:00:00Z&to=2026-01-31T09:00:00Z`` stays where it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

SECOND_NS: Final = 1_000_000_000
MINUTE_NS: Final = 60 * SECOND_NS
HOUR_NS: Final = 60 * MINUTE_NS
DAY_NS: Final = 24 * HOUR_NS

PRESETS: Final[dict[str, int]] = {
    "5m": 5 * MINUTE_NS,
    "15m": 15 * MINUTE_NS,
    "1h": HOUR_NS,
    "6h": 6 * HOUR_NS,
    "24h": DAY_NS,
    "7d": 7 * DAY_NS,
}
DEFAULT_PRESET: Final = "1h"

#: Widths that a person reads without counting; the smallest is the window of the statistics.
_STEPS: Final = tuple(
    seconds * SECOND_NS for seconds in (10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400)
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TimeRange:
    """From ``start_ns`` (inclusive) to ``end_ns`` (exclusive), Unix time. ``preset`` is empty for a fixed range."""

    start_ns: int
    end_ns: int
    preset: str = ""

    @property
    def duration_ns(self) -> int:
        """Length of the range."""
        return self.end_ns - self.start_ns

    @property
    def seconds(self) -> float:
        """Length of the range, what a count is divided by to be a rate."""
        return self.duration_ns / SECOND_NS

    def shifted(self, by_ns: int) -> "TimeRange":
        """The same length, at another time; fixed."""
        return TimeRange(self.start_ns + by_ns, self.end_ns + by_ns)

    def step_ns(self, points: int) -> int:
        """The width of a step so that about ``points`` of them fill the range: a round number of seconds."""
        wanted = self.duration_ns / points
        return next((step for step in _STEPS if step >= wanted), _STEPS[-1])

    def as_params(self) -> dict[str, str]:
        """The range as the URL says it."""
        if self.preset:
            return {"range": self.preset}
        return {"from": iso_of(self.start_ns), "to": iso_of(self.end_ns)}


def range_of(params: Mapping[str, str], now_ns: int) -> tuple[TimeRange, str]:
    """The range that a URL names, and a sentence for the reader if it names none that can be used (else empty)."""
    preset = params.get("range", "")
    if preset in PRESETS:
        return _preset(preset, now_ns), ""
    default = _preset(DEFAULT_PRESET, now_ns)
    if preset:
        return default, f"There is no time range “{preset[:20]}”: the last hour is shown."
    if "from" not in params and "to" not in params:
        return default, ""
    try:
        start_ns = ns_of(params["from"])
        end_ns = ns_of(params["to"]) if params.get("to") else now_ns
    except (KeyError, ValueError):
        return default, "The link's from and to are no times (2026-01-31T08:00:00Z): the last hour is shown."
    if start_ns >= end_ns:
        return default, "The link's time range ends before it begins: the last hour is shown."
    return TimeRange(start_ns, end_ns), ""


def ns_of(text: str) -> int:
    """ISO 8601, or Unix time in milliseconds, as nanoseconds. Raises ``ValueError``."""
    if text.lstrip("-").isdigit():
        return int(text) * 1_000_000
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def iso_of(time_ns: int) -> str:
    """Unix nanoseconds as ISO 8601 in UTC, to the millisecond where there are any."""
    moment = datetime.fromtimestamp(time_ns // SECOND_NS, UTC)
    millis = time_ns % SECOND_NS // 1_000_000
    return f"{moment:%Y-%m-%dT%H:%M:%S}{f'.{millis:03d}' if millis else ''}Z"


def _preset(name: str, now_ns: int) -> TimeRange:
    return TimeRange(now_ns - PRESETS[name], now_ns, name)
