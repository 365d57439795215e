"""What every subscriber passes, over WebSocket and over SSE: parameters, readiness, room for one more."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from live_api.cursor import Cursor, parse_cursor
from live_api.errors import InvalidParameter, Unavailable
from live_api.feeds import AlertFeed, LiveFeed
from live_api.filters import AlertFilter
from live_api.messages import gap_message, snapshot_message
from live_api.metrics import Metrics
from live_api.subscription import Filter, Subscription, unknown_cursor

#: A feed that was just started reads its topic first; who connects meanwhile waits so long.
_READY_TIMEOUT_S = 10.0
_MAX_QUERY_BYTES = 8192

Query = dict[str, list[str]]
ReadFilter = Callable[[Query], Filter[Any]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a subscriber asks for: which events, and since when; None for from now on."""

    filter: Filter[Any]
    cursor: Cursor | None


class Admission:
    """Counts subscribers of all feeds; one for the whole process."""

    def __init__(self, metrics: Metrics, max_subscribers: int) -> None:
        self.metrics = metrics
        self._max_subscribers = max_subscribers
        self._connected = 0

    async def check(self, live: LiveFeed[Any]) -> None:
        """Raise ``Unavailable`` if the feed has not caught up with its topic, or nobody more is admitted."""
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                await live.tail.caught_up.wait()
        except TimeoutError:
            self.metrics.refused.labels("not_ready").inc()
            raise Unavailable(f"the feed is not ready: {live.tail.stands_still() or 'reading its topic'}") from None
        if self._connected >= self._max_subscribers:
            self.metrics.refused.labels("too_many").inc()
            raise Unavailable("too many subscribers; try again later")

    @contextmanager
    def connection(self, live: LiveFeed[Any]) -> Iterator[None]:
        """A subscriber is connected."""
        self._connected += 1
        live.metrics.subscribers.inc()
        try:
            yield
        finally:
            self._connected -= 1
            live.metrics.subscribers.dec()


def asked_for(query: Query, live: LiveFeed[Any], read_filter: ReadFilter) -> Asked:
    """Read a query. Raises ``InvalidParameter``."""
    after = query.pop("after", [])
    if len(after) > 1:
        raise InvalidParameter("after", "may be given once")
    cursor = parse_cursor(after[0], live.feed.name) if after and after[0] else None
    return Asked(read_filter(query), cursor)


def parse_query(query_string: bytes) -> Query:
    """A query string as lists of values. Raises ``InvalidParameter`` if it is too long or not UTF-8."""
    if len(query_string) > _MAX_QUERY_BYTES:
        raise InvalidParameter("query", f"may have {_MAX_QUERY_BYTES} bytes at most")
    try:
        return parse_qs(query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=200)
    except ValueError:
        raise InvalidParameter("query", "cannot be read: it is not UTF-8, or has more than 200 parameters") from None


def opened(live: LiveFeed[Any], asked: Asked) -> tuple[Subscription[Any], list[bytes]]:
    """A subscription, and what the subscriber sees first.

    A new one sees what fires (of traces, just where the feed stands); one who resumes sees what it missed, and
    nothing before. A cursor that the topic never had is a gap.
    """
    known = asked.cursor is None or live.feed.knows(asked.cursor.offsets)
    offsets = asked.cursor.offsets if asked.cursor is not None and known else None
    subscription = Subscription(live.feed, live.hub.event_type, asked.filter, offsets)
    first = []
    if not known:
        first.append(gap_message(unknown_cursor(subscription.cursor)))
    if offsets is None:
        is_alerts = isinstance(live, AlertFeed) and isinstance(asked.filter, AlertFilter)
        firing = live.firing.snapshot(asked.filter) if is_alerts else []  # type: ignore[attr-defined]
        first.append(snapshot_message(live.feed.name, subscription.cursor, firing))
    return subscription, first
