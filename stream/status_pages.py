"""/healthz and /metrics, on Faust's own web server."""

from typing import Any

import faust

from stream.metrics import Metrics


def is_stalled(lag_records: int, quiet_s: float, stalled_s: float) -> bool:
    """True if records wait and none was read for too long; a worker with nothing to read is well, however long."""
    return lag_records > 0 and quiet_s > stalled_s


def add_status_pages(app: faust.App, metrics: Metrics, *, stalled_s: float) -> None:
    """Serve both; unhealthy is a worker that reads nothing for ``stalled_s`` though records wait for it.

    Consumers were reported to die in silence (faust-streaming 175, 640; aiokafka 983, 1037): a supervisor that asks
    /healthz restarts such a worker.
    """

    @app.page("/healthz")
    async def healthz(self: Any, request: Any) -> Any:
        lag = sum(metrics.lags().values())
        quiet_s = metrics.seconds_without_progress()
        stalled = is_stalled(lag, quiet_s, stalled_s)
        body = {
            "status": "stalled" if stalled else "ok",
            "lag_records": lag,
            "seconds_without_progress": round(quiet_s, 1),
            "rebalancing": app.rebalancing,
        }
        return self.json(body, status=503 if stalled else 200)

    @app.page("/metrics")
    async def metrics_page(self: Any, request: Any) -> Any:
        return self.bytes(metrics.exposition(), content_type="text/plain; version=0.0.4")
