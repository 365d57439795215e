"""/healthz and /metrics, on Faust's own web server."""

from typing import Any

import faust

from stream.metrics import Metrics


def add_status_pages(app: faust.App, metrics: Metrics, *, stalled_s: float) -> None:
    """Serve both; unhealthy is a worker that reads nothing for ``stalled_s`` though records wait for it.

    Consumers were reported to die in silence (faust-streaming 175, 640; aiokafka 983, 1037): a supervisor that asks
    /healthz restarts such a worker.
    """

    @app.page("/healthz")
    async def healthz(self: Any, request: Any) -> Any:
        lag = sum(metrics.lags().values())
        quiet_s = metrics.seconds_without_progress()
        is_stalled = lag > 0 and quiet_s > stalled_s
        body = {
            "status": "stalled" if is_stalled else "ok",
            "lag_records": lag,
            "seconds_without_progress": round(quiet_s, 1),
            "rebalancing": app.rebalancing,
        }
        return self.json(body, status=503 if is_stalled else 200)

    @app.page("/metrics")
    async def metrics_page(self: Any, request: Any) -> Any:
        return self.bytes(metrics.exposition(), content_type="text/plain; version=0.0.4")
