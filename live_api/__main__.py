"""``python -m live_api``: serve until SIGTERM, then close every connection with code 1012 and exit 0."""

import contextlib
import logging
import signal
import sys
from collections.abc import Iterator

import uvicorn

from live_api.app import make_app
from live_api.frames import FrameProtocol, set_max_buffer_bytes
from live_api.settings import LiveApiSettings
from tracecore.errors import InvalidSetting
from tracecore.settings import KafkaSettings, read

logger = logging.getLogger("live_api")

#: After SIGTERM, connections have so long to take what waits for them.
_SHUTDOWN_TIMEOUT_S = 3
#: A subscriber sends a token at most.
_MAX_MESSAGE_BYTES = 8192


class Server(uvicorn.Server):
    """uvicorn's server, except that a signal ends it with exit status 0 instead of being raised again."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield


def main() -> int:
    """Exit status: 0 after a signal, 2 for a wrong setting, 3 if the port is taken."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # uvicorn's INFO is several lines a connection.
    for noisy in ("aiokafka", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        kafka, settings = read(KafkaSettings), read(LiveApiSettings)
    except InvalidSetting as error:
        print(f"live_api: {error}", file=sys.stderr)
        return 2
    logger.info("serving on http://%s:%d, feeds from %s", settings.host, settings.port, kafka.bootstrap_servers)
    set_max_buffer_bytes(settings.max_buffer_bytes)
    config = uvicorn.Config(
        make_app(kafka, settings),
        host=settings.host,
        port=settings.port,
        ws=FrameProtocol,
        ws_max_size=_MAX_MESSAGE_BYTES,
        # Frames are made once for all, so none is compressed for one.
        ws_per_message_deflate=False,
        backlog=2048,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT_S,
    )
    Server(config).run()
    logger.info("ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
