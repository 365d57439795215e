"""Cursors: where a subscriber stands in a feed, as text that it hands back to resume.

A cursor names, for each partition of the feed's topic, the offset that comes next. It means the same to every
live_api and after every restart, since nothing but Kafka keeps it. Clients are not to look inside.
"""

from dataclasses import dataclass
from typing import Literal

from live_api.errors import InvalidParameter

FeedName = Literal["alerts", "traces"]

_VERSION = "1"
_MAX_PARTITIONS = 1024
_MAX_OFFSET = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Cursor:
    """``offsets[partition]`` is the next offset to read there; a partition beyond the end begins at 0."""

    feed: FeedName
    offsets: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.feed[0]}{_VERSION}-" + ".".join(f"{offset:x}" for offset in self.offsets)


def parse_cursor(text: str, feed: FeedName) -> Cursor:
    """Read a cursor of ``feed``. Raises ``InvalidParameter`` for anything that ``str(Cursor)`` never wrote."""
    head, dash, tail = text.partition("-")
    if not dash or head != f"{feed[0]}{_VERSION}":
        raise InvalidParameter("after", f"is not a cursor of the {feed} feed; take one from a message of that feed")
    try:
        offsets = tuple(int(part, 16) for part in tail.split("."))
    except ValueError:
        offsets = ()
    cursor = Cursor(feed, offsets)
    in_range = 0 < len(offsets) <= _MAX_PARTITIONS and min(offsets) >= 0 and max(offsets) <= _MAX_OFFSET
    if not in_range or str(cursor) != text:
        raise InvalidParameter("after", f"is not a cursor of the {feed} feed; take one from a message of that feed")
    return cursor
