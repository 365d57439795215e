"""Values of query parameters: how their text is read, and what is said when it cannot be.

Every reader raises ``InvalidParameter`` with the parameter's name. Times become Unix nanoseconds.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from live_api.errors import InvalidParameter
from tracecore.span import SpanKind

#: PostgreSQL's timestamps and int8 hold far more; no trace is older or younger than this.
MAX_TIME_NS = 4_102_444_800 * 1_000_000_000  # 2100-01-01
MAX_DURATION_NS = 10 * 365 * 86_400 * 1_000_000_000
_MAX_TEXT = 1024
_MAX_TAGS = 20

_GO_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,  # micro sign
    "\u03bcs": 1_000,  # Greek mu
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_GO_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")
_HEX = re.compile(r"[0-9a-fA-F]{1,32}")


class Parameters:
    """The parameters of one request: first values by name, and lists where a name may be repeated."""

    def __init__(self, values: Mapping[str, Sequence[str]]) -> None:
        self._values = values

    def text(self, *names: str) -> str:
        """The first value of the first of ``names`` that is given; empty if none is."""
        for name in names:
            for value in self._values.get(name, ()):
                if value:
                    return checked_text(name, value)
        return ""

    def texts(self, name: str) -> list[str]:
        """All values of a repeated name."""
        return [checked_text(name, value) for value in self._values.get(name, ()) if value]

    def required(self, *names: str) -> str:
        """As ``text``, but it must be there."""
        value = self.text(*names)
        if not value:
            raise InvalidParameter(names[0], "is required")
        return value

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``."""
        value = self.text(name)
        return integer_of(name, value, low, high) if value else default

    def boolean(self, *names: str) -> bool:
        """False if not given."""
        value = self.text(*names).lower()
        if value in ("", "0", "f", "false"):
            return False
        if value in ("1", "t", "true"):
            return True
        raise InvalidParameter(names[0], "must be true or false")

    def unix_time(self, name: str, unit_ns: int, default_ns: int) -> int:
        """A number of units since 1970, as Unix nanoseconds."""
        value = self.text(name)
        return integer_of(name, value, 0, MAX_TIME_NS // unit_ns) * unit_ns if value else default_ns

    def duration(self, name: str, unit_ns: int, default_ns: int) -> int:
        """A number of units, as nanoseconds."""
        value = self.text(name)
        return integer_of(name, value, 0, MAX_DURATION_NS // unit_ns) * unit_ns if value else default_ns

    def rfc3339(self, *names: str) -> int | None:
        """A time like 2026-01-02T03:04:05.678901234Z; None if not given."""
        value = self.text(*names)
        return rfc3339_ns(names[0], value) if value else None

    def go_duration(self, *names: str) -> int | None:
        """A duration as Go writes it, like 1.5s or 1m30s; None if not given."""
        value = self.text(*names)
        return go_duration_ns(names[0], value) if value else None


def checked_text(name: str, value: str) -> str:
    """The value, if PostgreSQL can hold it and nobody minds its length."""
    if len(value) > _MAX_TEXT:
        raise InvalidParameter(name, f"may have {_MAX_TEXT} characters at most")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidParameter(name, "has a character that no text can hold")
    return value


def integer_of(name: str, value: str, low: int, high: int) -> int:
    """An integer from ``low`` to ``high``."""
    try:
        number = int(value) if len(value) <= 24 else high + 1
    except ValueError:
        raise InvalidParameter(name, f"must be an integer from {low} to {high}") from None
    if not low <= number <= high:
        raise InvalidParameter(name, f"must be an integer from {low} to {high}")
    return number


def rfc3339_ns(name: str, value: str) -> int:
    """Unix nanoseconds of an RFC 3339 time, to the nanosecond."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)", value)
    try:
        if match is None:
            raise ValueError
        zone = "+00:00" if match[3] in "Zz" else match[3]
        whole = datetime.fromisoformat(match[1].upper().replace(" ", "T") + zone)
        seconds = int((whole - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    except (ValueError, OverflowError):
        raise InvalidParameter(name, "must be a time like 2026-01-02T03:04:05Z (RFC 3339)") from None
    nanoseconds = seconds * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))
    if not 0 <= nanoseconds <= MAX_TIME_NS:
        raise InvalidParameter(name, "must lie between 1970 and 2100")
    return nanoseconds


def go_duration_ns(name: str, value: str) -> int:
    """Nanoseconds of a duration as Go writes it. Source: Go, ``time.ParseDuration``."""
    parts = _GO_PART.findall(value)
    if value == "0":
        return 0
    if not parts or "".join(number + unit for number, unit in parts) != value or len(value) > 64:
        raise InvalidParameter(name, "must be a duration like 250ms, 1.5s or 1m30s")
    total = round(sum(float(number) * _GO_UNITS_NS[unit] for number, unit in parts))
    if total > MAX_DURATION_NS:
        raise InvalidParameter(name, "is longer than ten years")
    return total


def trace_id_of(name: str, value: str) -> bytes:
    """16 bytes of a trace id in hex; a shorter one (64 bits, leading zeros left out) is filled up on the left."""
    if not _HEX.fullmatch(value) or not int(value, 16):
        raise InvalidParameter(name, "must be a trace id: up to 32 hex digits, not all zero")
    return bytes.fromhex(value.zfill(32))


def tags_of(name: str, value: str) -> dict[str, str]:
    """A JSON object of texts, like {"http.status_code":"404"}; numbers and booleans are taken as their text."""
    try:
        tags = json.loads(value)
    except (ValueError, RecursionError):
        tags = None
    if not isinstance(tags, dict):
        raise InvalidParameter(name, 'must be a JSON object like {"http.status_code":"404"}')
    read: dict[str, str] = {}
    for key, item in tags.items():
        if isinstance(item, bool | int | float):
            item = json.dumps(item)
        if not isinstance(item, str):
            raise InvalidParameter(name, "must be a JSON object whose values are texts")
        read[checked_text(name, key)] = checked_text(name, item)
    return limited_tags(name, read)


def limited_tags(name: str, tags: dict[str, str]) -> dict[str, str]:
    """The tags, unless there are too many."""
    if len(tags) > _MAX_TAGS:
        raise InvalidParameter(name, f"may name {_MAX_TAGS} tags at most")
    return tags


def span_kind_of(name: str, value: str) -> int:
    """The number of a span kind: server, SERVER or SPAN_KIND_SERVER."""
    try:
        return SpanKind[value.upper().removeprefix("SPAN_KIND_")]
    except KeyError:
        kinds = ", ".join(kind.name.lower() for kind in SpanKind)
        raise InvalidParameter(name, f"must be one of {kinds}") from None
