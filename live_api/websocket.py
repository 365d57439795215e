"""WebSocket endpoints of the feeds: admit, show what fires, serve what was missed, then let the hub write."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import JSONResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from live_api.cursor import Cursor, parse_cursor
from live_api.errors import InvalidParameter
from live_api.feeds import AlertFeed, LiveFeed, TraceFeed
from live_api.filters import AlertFilter, alert_filter, trace_filter
from live_api.frames import SCOPE_EXTENSION, FrameWriter, text_frame
from live_api.hub import Subscriber
from live_api.messages import gap_message, snapshot_message
from live_api.metrics import Metrics
from live_api.subscription import Filter, Subscription, unknown_cursor

SUBPROTOCOL = "tracewatch.v1"
#: A feed that was just started reads its topic first; who connects meanwhile waits so long.
READY_TIMEOUT_S = 10.0
_POLICY_VIOLATION = 1008
_MAX_QUERY_LENGTH = 8192


class FeedEndpoint:
    """One feed at one path."""

    def __init__(
        self,
        live: LiveFeed[Any],
        read_filter: Callable[[dict[str, list[str]]], Filter[Any]],
        metrics: Metrics,
        max_subscribers: int,
    ) -> None:
        self._live = live
        self._read_filter = read_filter
        self._metrics = metrics
        self._max_subscribers = max_subscribers

    async def connected(self, websocket: WebSocket) -> None:
        """Serve one connection to its end."""
        try:
            asked, cursor = self._read(websocket)
        except InvalidParameter as error:
            await self._refuse(websocket, 400, "bad_parameter", str(error))
            return
        if not await self._ready():
            await self._refuse(websocket, 503, "not_ready", "the feed is not ready, try again")
            return
        if self._metrics.connected >= self._max_subscribers:
            await self._refuse(websocket, 503, "too_many", "too many subscribers, try again later")
            return
        offered = websocket.scope.get("subprotocols", [])
        await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
        with self._metrics.connection(self._live.metrics):
            await self._serve(websocket, asked, cursor)

    async def _serve(self, websocket: WebSocket, asked: Filter[Any], cursor: Cursor | None) -> None:
        live = self._live
        writer: FrameWriter = websocket.scope["extensions"][SCOPE_EXTENSION]
        known = cursor is None or live.feed.knows(cursor.offsets)
        offsets = cursor.offsets if cursor is not None and known else None
        subscription = Subscription(live.feed, live.hub.event_type, asked, offsets)
        if not known:
            writer.write(text_frame(gap_message(unknown_cursor(subscription.cursor))))
        if offsets is None:
            writer.write(text_frame(opening_message(live, asked, subscription.cursor)))
        subscriber = Subscriber(subscription, asked, writer, websocket.close)
        try:
            await live.hub.serve(subscriber)
            while (await websocket.receive())["type"] == "websocket.receive":
                await websocket.close(_POLICY_VIOLATION, "this feed takes no messages; filters go into the query")
        except WebSocketDisconnect:
            pass
        finally:
            live.hub.remove(subscriber)

    def _read(self, websocket: WebSocket) -> tuple[Filter[Any], Cursor | None]:
        query = parse_query(websocket.scope["query_string"])
        return read_subscription(query, self._live, self._read_filter)

    async def _ready(self) -> bool:
        return await ready_within(self._live, READY_TIMEOUT_S)

    async def _refuse(self, websocket: WebSocket, status: int, reason: str, detail: str) -> None:
        self._metrics.refused.labels(reason).inc()
        await websocket.send_denial_response(JSONResponse({"detail": detail}, status))


def websocket_routes(
    alerts: AlertFeed, traces: TraceFeed, metrics: Metrics, max_subscribers: int
) -> Iterable[WebSocketRoute]:
    """The routes ``/ws/alerts`` and ``/ws/traces``."""
    yield WebSocketRoute("/ws/alerts", FeedEndpoint(alerts, alert_filter, metrics, max_subscribers).connected)
    yield WebSocketRoute("/ws/traces", FeedEndpoint(traces, trace_filter, metrics, max_subscribers).connected)


def read_subscription(
    query: dict[str, list[str]], live: LiveFeed[Any], read_filter: Callable[[dict[str, list[str]]], Filter[Any]]
) -> tuple[Filter[Any], Cursor | None]:
    """The filter and the cursor of a query. Raises ``InvalidParameter``."""
    after = query.pop("after", [])
    if len(after) > 1:
        raise InvalidParameter("after", "may be given once")
    cursor = parse_cursor(after[0], live.feed.name) if after and after[0] else None
    return read_filter(query), cursor


def opening_message(live: LiveFeed[Any], asked: Filter[Any], cursor: str) -> bytes:
    """What a new subscriber sees first: what fires; of traces, nothing but where the feed stands."""
    firing = live.firing.snapshot(asked) if isinstance(live, AlertFeed) and isinstance(asked, AlertFilter) else []
    return snapshot_message(live.feed.name, cursor, firing)


def parse_query(query_string: bytes) -> dict[str, list[str]]:
    """A query string as lists of values. Raises ``InvalidParameter`` if it is too long or no UTF-8."""
    if len(query_string) > _MAX_QUERY_LENGTH:
        raise InvalidParameter("query", f"may have {_MAX_QUERY_LENGTH} bytes at most")
    try:
        return parse_qs(query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=200)
    except ValueError as error:
        raise InvalidParameter("query", f"cannot be read: {error}") from None


async def ready_within(live: LiveFeed[Any], timeout_s: float) -> bool:
    """Wait until the feed has caught up with its topic; False if that takes longer."""
    try:
        async with asyncio.timeout(timeout_s):
            await live.tail.caught_up.wait()
    except TimeoutError:
        return False
    return True
