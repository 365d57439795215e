"""A stretch of time, as a person types it."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from replay.errors import BadStretch

_SECOND_NS = 1_000_000_000
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])(?: ago)?")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Arrival times in Unix nanoseconds, the end exclusive; None is open."""

    from_ns: int | None = None
    until_ns: int | None = None

    def __post_init__(self) -> None:
        if self.from_ns is not None and self.until_ns is not None and self.until_ns <= self.from_ns:
            raise BadStretch(f"the stretch ends ({_shown(self.until_ns)}) before it begins ({_shown(self.from_ns)})")

    def holds(self, arrival_ns: int) -> bool:
        """True if a record that arrived then belongs to the stretch."""
        return (self.from_ns is None or arrival_ns >= self.from_ns) and not self.is_past(arrival_ns)

    def is_past(self, arrival_ns: int) -> bool:
        """True if a record that arrived then lies behind the stretch."""
        return self.until_ns is not None and arrival_ns >= self.until_ns


def parsed_time(text: str, now_ns: int) -> int:
    """Unix nanoseconds of "2026-11-22T19:40", "2026-11-22" (UTC where no zone is told), "90m", "2h ago", "now".

    Unix seconds, too, whole or not. Raises ``BadStretch``.
    """
    text = text.strip()
    if text == "now":
        return now_ns
    if ago := _AGO.fullmatch(text):
        return now_ns - round(float(ago[1]) * _UNITS_S[ago[2]] * _SECOND_NS)
    if re.fullmatch(r"\d{9,10}(\.\d{1,9})?", text):
        seconds, _, fraction = text.partition(".")
        return int(seconds) * _SECOND_NS + int(fraction.ljust(9, "0"))
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise BadStretch(
            f"{text!r} is no time: write 2026-11-22T19:40 (UTC, or with a zone), 2h ago, Unix seconds, or now"
        ) from None
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return int(time.timestamp()) * _SECOND_NS + time.microsecond * 1000


def unix_seconds(time_ns: int) -> str:
    """What ``parsed_time`` reads back as the same time."""
    return f"{time_ns // _SECOND_NS:09d}.{time_ns % _SECOND_NS:09d}"


def _shown(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / _SECOND_NS, UTC).isoformat(timespec="seconds")
