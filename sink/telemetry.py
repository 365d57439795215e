"""What the sink tells of itself: Prometheus metrics, and whether it is well."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import make_wsgi_app

from sink.store import Outcome

logger = logging.getLogger(__name__)


class Metrics:
    """Counters and gauges of one sink."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        named: dict[str, Any] = {"namespace": "tracewatch", "subsystem": "sink", "registry": self.registry}
        self.records = Counter("records_total", "Records read from Kafka.", ["topic"], **named)
        self.spans = Counter("spans_total", "Rows written to service_traces.", **named)
        self.traces = Counter("traces_total", "Traces by what became of them.", ["result"], **named)
        self.windows = Counter("windows_total", "Parts of windows that were new or changed.", **named)
        self.alerts = Counter("alerts_total", "Alert events written.", **named)
        self.health = Counter("health_total", "Windows of health written.", **named)
        self.dead_letters = Counter("dead_letters_total", "Records and spans sent to the dead letters.", **named)
        self.batches = Counter("batches_total", "Batches committed.", **named)
        self.retries = Counter("retries_total", "Tries to store that failed and were repeated.", **named)
        self.overtaken = Counter("overtaken_total", "Batches dropped, since another sink had stored them.", **named)
        self.store_seconds = Histogram(
            "store_seconds",
            "Time of a batch's transaction.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            **named,
        )
        self.delay_seconds = Histogram(
            "delay_seconds",
            "From a batch's oldest record to its commit.",
            buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600),
            **named,
        )
        self.lag = Gauge(
            "lag_records", "Records that are on Kafka and not yet stored.", ["topic", "partition"], **named
        )
        self.buffered_rows = Gauge("buffered_rows", "Rows read and not yet handed to PostgreSQL.", **named)
        self.postgres_away = Gauge(
            "postgres_away_seconds", "How long PostgreSQL has not been reached; 0: it is.", **named
        )
        self.partitions_dropped = Counter(
            "partitions_dropped_total", "Daily partitions that retention dropped.", **named
        )

    def count(self, outcome: Outcome, took_s: float, delay_s: float) -> None:
        """Count a batch that was committed."""
        self.batches.inc()
        self.store_seconds.observe(took_s)
        self.delay_seconds.observe(max(delay_s, 0.0))
        self.spans.inc(outcome.spans)
        self.windows.inc(outcome.windows)
        self.alerts.inc(outcome.alerts)
        self.health.inc(outcome.health)
        self.dead_letters.inc(len(outcome.letters))
        for result in ("new", "amended", "unchanged"):
            self.traces.labels(result).inc(getattr(outcome, f"traces_{result}"))


@dataclass(slots=True)
class Progress:
    """What /healthz goes by. Times by ``time.monotonic``."""

    last_progress_s: float
    #: Records that are on Kafka and not yet stored.
    lag: int = 0
    #: Since when PostgreSQL is away, or None.
    away_since_s: float | None = None
    #: Why, in PostgreSQL's or our words.
    away_reason: str = ""

    def problem(self, now_s: float, stalled_s: float) -> str:
        """What is wrong, or empty."""
        if self.away_since_s is not None and now_s - self.away_since_s > stalled_s / 10:
            return f"PostgreSQL is away since {now_s - self.away_since_s:.0f} s: {self.away_reason}"
        if self.lag and now_s - self.last_progress_s > stalled_s:
            return f"nothing was stored for {now_s - self.last_progress_s:.0f} s while {self.lag} records wait"
        return ""


class TelemetryServer:
    """/metrics and /healthz, on a thread of its own."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, problem: Callable[[], str]) -> None:
        """Listen at once; raises ``OSError`` if the port is taken. Port 0 takes a free one."""
        metrics: Callable[[dict[str, Any], Any], Iterable[bytes]] = make_wsgi_app(registry)

        def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "")
            if path == "/metrics":
                return metrics(environ, start_response)
            if path != "/healthz":
                start_response("404 Not Found", [("Content-Type", "text/plain")])
                return [b"There are /healthz and /metrics.\n"]
            wrong = problem()
            status = "503 Service Unavailable" if wrong else "200 OK"
            start_response(status, [("Content-Type", "application/json")])
            return [json.dumps({"status": "unhealthy" if wrong else "ok", "reason": wrong}).encode()]

        self._server = make_server(host, port, application, server_class=_Server, handler_class=_SilentHandler)
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="telemetry", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """A scrape every few seconds is no news."""


def steady_s() -> float:
    """The clock of ``Progress``."""
    return time.monotonic()
