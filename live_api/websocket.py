"""WebSocket endpoints of the feeds: admit, show what fires, serve what was missed, then let the hub write."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from live_api.access import Access, bearer_token, subprotocol_token
from live_api.admission import Admission, Asked, ReadFilter, asked_for, opened, parse_query
from live_api.errors import InvalidParameter, Unavailable
from live_api.feeds import AlertFeed, LiveFeed, TraceFeed
from live_api.filters import alert_filter, trace_filter
from live_api.frames import SCOPE_EXTENSION, FrameWriter, text_frame
from live_api.hub import Subscriber

SUBPROTOCOL = "tracewatch.v1"
_POLICY_VIOLATION = 1008
#: A client that could not send a token before may send it as its first message, within so long.
_TOKEN_TIMEOUT_S = 10.0


class FeedEndpoint:
    """One feed at one path."""

    def __init__(self, live: LiveFeed[Any], read_filter: ReadFilter, access: Access, admission: Admission) -> None:
        self._live = live
        self._read_filter = read_filter
        self._access = access
        self._admission = admission

    async def connected(self, websocket: WebSocket) -> None:
        """Serve one connection to its end."""
        headers = Headers(scope=websocket.scope)
        offered = websocket.scope.get("subprotocols", [])
        token = bearer_token(headers.get("authorization", "")) or subprotocol_token(offered)
        if not self._access.allows_origin(headers.get("origin", ""), headers.get("host", "")):
            await self._refuse(
                websocket, 403, "origin", "this origin may not connect: TRACEWATCH_LIVE_API_ALLOWED_ORIGINS"
            )
            return
        if token and not self._access.allows(token):
            await self._refuse(websocket, 401, "token", "the bearer token is not known")
            return
        try:
            asked = asked_for(parse_query(websocket.scope["query_string"]), self._live, self._read_filter)
        except InvalidParameter as error:
            await self._refuse(websocket, 400, "parameter", str(error), error.parameter)
            return
        try:
            await self._admission.check(self._live)
        except Unavailable as error:
            await self._refuse(websocket, 503, "", str(error))
            return
        await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
        # Nobody reads them again, and they would stay as long as the subscriber does.
        websocket.scope["headers"] = []
        del headers
        with self._admission.connection(self._live):
            try:
                if not self._access.needs_token or token or await self._token_came(websocket):
                    await self._serve(websocket, asked)
            except WebSocketDisconnect:
                pass

    async def _serve(self, websocket: WebSocket, asked: Asked) -> None:
        live = self._live
        writer: FrameWriter = websocket.scope["extensions"][SCOPE_EXTENSION]
        subscription, first = opened(live, asked)
        for message in first:
            writer.write(text_frame(message))
        subscriber = Subscriber(subscription, asked.filter, writer, websocket.close)
        try:
            await live.hub.serve(subscriber)
            if (await websocket.receive())["type"] == "websocket.receive":
                await websocket.close(_POLICY_VIOLATION, "this feed takes no messages; filters go into the query")
        finally:
            live.hub.remove(subscriber)

    async def _token_came(self, websocket: WebSocket) -> bool:
        """Whether the first message is ``{"type": "authenticate", "token": "..."}`` with a token of ours."""
        try:
            async with asyncio.timeout(_TOKEN_TIMEOUT_S):
                text = await websocket.receive_text()
            message = json.loads(text)
            if message["type"] == "authenticate" and self._access.allows(message["token"]):
                return True
        except (TimeoutError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        self._admission.metrics.refused.labels("token").inc()
        await websocket.close(_POLICY_VIOLATION, "a bearer token is needed")
        return False

    async def _refuse(self, websocket: WebSocket, status: int, reason: str, detail: str, parameter: str = "") -> None:
        if reason:
            self._admission.metrics.refused.labels(reason).inc()
        body = {"detail": detail} | ({"parameter": parameter} if parameter else {})
        await websocket.send_denial_response(JSONResponse(body, status))


class Front:
    """The ASGI application: WebSockets go straight to their feed, all else to ``http``.

    Through the framework's middleware a WebSocket would pass, too; but every layer is a frame that stays as long as
    the subscriber does, and ten thousand of them are memory.
    """

    def __init__(self, http: ASGIApp, endpoints: Mapping[str, FeedEndpoint]) -> None:
        self._http = http
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection."""
        if scope["type"] != "websocket":
            await self._http(scope, receive, send)
            return
        websocket = WebSocket(scope, receive, send)
        endpoint = self._endpoints.get(scope["path"])
        if endpoint is None:
            known = ", ".join(self._endpoints)
            await websocket.send_denial_response(
                JSONResponse({"detail": f"there is no such feed; there are {known}"}, 404)
            )
            return
        await endpoint.connected(websocket)


def feed_endpoints(
    alerts: AlertFeed, traces: TraceFeed, access: Access, admission: Admission
) -> dict[str, FeedEndpoint]:
    """The endpoints by path: ``/ws/alerts`` and ``/ws/traces``."""
    return {
        "/ws/alerts": FeedEndpoint(alerts, alert_filter, access, admission),
        "/ws/traces": FeedEndpoint(traces, trace_filter, access, admission),
    }
