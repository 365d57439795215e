"""The feeds as Server-Sent Events, for whom WebSockets do not reach: the same messages, the cursor as event id.

A browser's EventSource resumes by itself: it sends the id of the last event that it saw.
Source: HTML living standard, server-sent events.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import StreamingResponse

from live_api.admission import Admission, Asked, ReadFilter, asked_for, opened, parse_query
from live_api.feeds import AlertFeed, LiveFeed, TraceFeed
from live_api.filters import alert_filter, trace_filter
from live_api.messages import heartbeat_message
from live_api.openapi import query_parameters

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def sse_router(
    alerts: AlertFeed, traces: TraceFeed, admission: Admission, heartbeat_s: float, closing: asyncio.Event
) -> APIRouter:
    """The routes ``/sse/alerts`` and ``/sse/traces``; streams end when ``closing`` is set."""
    router = APIRouter(tags=["feeds"])

    def stream(live: LiveFeed[Any], read_filter: ReadFilter) -> Any:
        async def events(request: Request) -> StreamingResponse:
            query = parse_query(request.scope["query_string"])
            if last_seen := request.headers.get("last-event-id", ""):
                query["after"] = [last_seen]
            asked = asked_for(query, live, read_filter)
            await admission.check(live)
            messages = _messages(live, asked, admission, heartbeat_s, closing)
            return StreamingResponse(messages, media_type="text/event-stream", headers=_HEADERS)

        return events

    for path, live, read_filter, parameters in (
        ("/sse/alerts", alerts, alert_filter, ("service", "severity", "kind", "status", "replay", "after")),
        ("/sse/traces", traces, trace_filter, ("service", "min_duration_ms", "errors_only", "replay", "after")),
    ):
        router.add_api_route(
            path,
            stream(live, read_filter),
            name=path.removeprefix("/sse/"),
            description=f"The feed of {path.removeprefix('/sse/')} as Server-Sent Events; messages as over WebSocket.",
            openapi_extra=query_parameters(*parameters),
            response_class=StreamingResponse,
        )
    return router


async def _messages(
    live: LiveFeed[Any], asked: Asked, admission: Admission, heartbeat_s: float, closing: asyncio.Event
) -> AsyncIterator[bytes]:
    """Chunks of the stream. A slow reader stops this generator where it stands, and delays nobody."""
    with admission.connection(live):
        subscription, first = opened(live, asked)
        for message in first:
            yield _event(message)
        while not closing.is_set():
            async for messages in live.hub.missed(subscription):
                for message in messages:
                    yield _event(message)
            if not await live.hub.arrival(heartbeat_s):
                yield _event(heartbeat_message(subscription.cursor))


def _event(message: bytes) -> bytes:
    """A message as an event; its type is in the message, so that one listener hears all."""
    cursor = json.loads(message)["cursor"]
    return b"id: %b\ndata: %b\n\n" % (cursor.encode(), message)
