"""The application: feeds, query APIs, and their common life."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from live_api.access import Access
from live_api.admission import Admission
from live_api.answers import Gate, answer_errors
from live_api.database import Database
from live_api.feeds import AlertFeed, SilenceBook, TraceFeed, WindowFeed
from live_api.jaeger_routes import jaeger_router
from live_api.metrics import Metrics
from live_api.red_collector import RedCollector
from live_api.rest import rest_router
from live_api.settings import LiveApiSettings
from live_api.silence_routes import silence_router
from live_api.sse import sse_router
from live_api.websocket import Front, feed_endpoints
from live_api.zipkin_routes import zipkin_router
from tracecore.settings import DatabaseSettings, KafkaSettings

logger = logging.getLogger(__name__)

DESCRIPTION = """
Traces, services, alerts: our own API under `/api/v1`, and the query APIs of Jaeger (v1, v3) and Zipkin (v2).
The WebSocket feeds `/ws/alerts` and `/ws/traces` are described by docs/asyncapi.yaml.
"""


class LiveApi:
    """Everything that runs, and the ASGI application on top."""

    def __init__(self, kafka: KafkaSettings, database: DatabaseSettings, settings: LiveApiSettings) -> None:
        self.metrics = Metrics()
        self.closing = asyncio.Event()
        self.alerts = AlertFeed(kafka, settings, self.metrics)
        self.traces = TraceFeed(kafka, settings, self.metrics)
        self.windows = WindowFeed(kafka, settings.max_operations)
        self.silences = SilenceBook(kafka)
        self.metrics.registry.register(RedCollector(self.windows.red))
        self.database = Database(database.url.get_secret_value(), settings.query_timeout_s, settings.max_spans)
        self._heartbeat_s = settings.heartbeat_s
        self._tails = (self.alerts.tail, self.traces.tail, self.windows.tail, self.silences.tail)
        access = Access(settings.all_tokens, settings.origins)
        admission = Admission(self.metrics, settings.max_subscribers)
        self.app = Front(
            self._http(settings, access, admission), feed_endpoints(self.alerts, self.traces, access, admission)
        )

    def end_streams(self) -> None:
        """Shutdown begins: let the SSE streams end, which nothing else would."""
        self.closing.set()
        for live in (self.alerts, self.traces):
            live.hub.wake()

    def _http(self, settings: LiveApiSettings, access: Access, admission: Admission) -> FastAPI:
        app = FastAPI(title="Tracewatch", version="1", description=DESCRIPTION, lifespan=self._lifespan)
        answer_errors(app)
        app.add_middleware(Gate, access=access, metrics=self.metrics)
        if settings.origins:
            app.add_middleware(
                CORSMiddleware,
                allow_origins=settings.origins,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["Authorization", "Content-Type", "Last-Event-ID"],
            )
        app.include_router(sse_router(self.alerts, self.traces, admission, settings.heartbeat_s, self.closing))
        app.include_router(rest_router(self.database, self.alerts))
        app.include_router(silence_router(self.silences))
        app.include_router(jaeger_router(self.database))
        app.include_router(zipkin_router(self.database))
        app.include_router(zipkin_router(self.database), prefix="/zipkin", include_in_schema=False)
        app.add_api_route("/healthz", self._healthz, tags=["health"], response_class=PlainTextResponse)
        app.add_api_route("/readyz", self._readyz, tags=["health"], responses={503: {"description": "Not ready."}})
        app.add_api_route("/metrics", self._metrics, tags=["health"], response_class=PlainTextResponse)
        return app

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        self.database.open()
        tasks = [asyncio.create_task(work) for work in (*(tail.run() for tail in self._tails), self._beat())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for live in (self.alerts, self.traces):
                await live.history.close()
            await self.silences.close()
            await asyncio.to_thread(self.database.close)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s)
            for live in (self.alerts, self.traces):
                live.hub.heartbeat()

    async def _healthz(self) -> Response:
        """The process answers."""
        return PlainTextResponse("ok\n")

    async def _readyz(self) -> Response:
        """Whether the feeds are level with Kafka, else 503 and why; of PostgreSQL, what was last seen of it."""
        reasons = {tail.topic: tail.not_ready() for tail in self._tails}
        bad = {topic: reason for topic, reason in reasons.items() if reason}
        return JSONResponse({"ready": not bad, "reasons": bad, "history": self.database.state}, 503 if bad else 200)

    async def _metrics(self, request: Request) -> Response:
        """The room's own figures, and rate, errors and duration of every operation, with exemplars (OpenMetrics)."""
        for tail in self._tails:
            self.metrics.lag.labels(tail.topic).set(-1 if (lag := tail.lag()) is None else lag)
        body, media_type = self.metrics.exposition(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": media_type})
