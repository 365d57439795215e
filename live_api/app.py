"""The application: feeds, endpoints, and their common life."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse

from live_api.feeds import AlertFeed, TraceFeed
from live_api.metrics import Metrics
from live_api.settings import LiveApiSettings
from live_api.websocket import websocket_routes
from tracecore.settings import KafkaSettings

logger = logging.getLogger(__name__)


def make_app(kafka: KafkaSettings, settings: LiveApiSettings) -> FastAPI:
    """The application, not yet started; starting connects it to Kafka."""
    metrics = Metrics()
    alerts = AlertFeed(kafka, settings, metrics)
    traces = TraceFeed(kafka, settings, metrics)
    feeds = (alerts, traces)

    async def beat() -> None:
        while True:
            await asyncio.sleep(settings.heartbeat_s)
            for live in feeds:
                live.hub.heartbeat()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(work) for work in (alerts.tail.run(), traces.tail.run(), beat())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for live in feeds:
                await live.history.close()

    app = FastAPI(title="Tracewatch", version="1", lifespan=lifespan)
    app.router.routes.extend(websocket_routes(alerts, traces, metrics, settings.max_subscribers))

    @app.get("/healthz", response_class=PlainTextResponse, tags=["health"])
    async def healthz() -> PlainTextResponse:
        """The process answers."""
        return PlainTextResponse("ok\n")

    @app.get("/readyz", tags=["health"])
    async def readyz() -> JSONResponse:
        """Whether the feeds are level with Kafka; 503 and the reasons where not."""
        reasons = {live.tail.topic: live.tail.stands_still() or "" for live in feeds}
        for live in feeds:
            if not reasons[live.tail.topic] and not live.tail.caught_up.is_set():
                reasons[live.tail.topic] = "still reading what was there before"
        bad = {topic: reason for topic, reason in reasons.items() if reason}
        return JSONResponse({"ready": not bad, "reasons": bad}, 503 if bad else 200)

    return app
