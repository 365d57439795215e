"""``python -m tracewatch.gateway``: serve until SIGTERM. Settings: TRACEWATCH_GATEWAY_*, TRACEWATCH_KAFKA_*."""

import logging
import signal
import sys

from tracewatch.errors import InvalidSetting, MissingPackage

try:
    import uvicorn
    from prometheus_client import disable_created_metrics

    from tracewatch.gateway.app import gateway
except ImportError as error:
    raise SystemExit(str(MissingPackage(error.name or "starlette", "gateway"))) from error
from tracewatch.gateway.logs import start_logging
from tracewatch.gateway.settings import GatewaySettings

logger = logging.getLogger("tracewatch.gateway")

_GRACE_S = 10


def main() -> None:
    """Serve; exit status 2 for a wrong setting."""
    try:
        start_logging()
        settings = GatewaySettings.from_environment()
    except InvalidSetting as error:
        logger.error("%s", error)
        sys.exit(2)
    disable_created_metrics()  # type: ignore[no-untyped-call]
    # uvicorn raises the signal again after a graceful end: an asked-for end is a success.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(
        gateway(settings),
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=_GRACE_S,
    )


if __name__ == "__main__":
    main()
