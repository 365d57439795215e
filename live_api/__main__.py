"""``python -m live_api``: serve until SIGTERM, then close every connection with code 1012 and exit 0."""

import contextlib
import gc
import logging
import resource
import signal
import sys
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address
from socket import socket

import uvicorn

from live_api.app import LiveApi
from live_api.frames import FrameProtocol, set_max_buffer_bytes
from live_api.patience import PatientProtocol
from live_api.settings import LiveApiSettings
from tracecore.errors import InvalidSetting
from tracecore.logs import start_logging
from tracecore.settings import DatabaseSettings, KafkaSettings, LogSettings, read

logger = logging.getLogger("live_api")

#: After SIGTERM, connections have so long to take what waits for them.
_SHUTDOWN_TIMEOUT_S = 3
#: A subscriber sends a token at most.
_MAX_MESSAGE_BYTES = 8192
_SWITCH_INTERVAL_S = 0.001
#: Files beside the connections: Kafka, PostgreSQL, libraries.
_OTHER_FILES = 200


class Server(uvicorn.Server):
    """uvicorn's server, except that a signal ends it with exit status 0 instead of being raised again."""

    def __init__(self, config: uvicorn.Config, live_api: LiveApi) -> None:
        super().__init__(config)
        self._live_api = live_api

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """End the streams, which uvicorn would wait for, then all else."""
        self._live_api.end_streams()
        await super().shutdown(sockets)


def main() -> int:
    """Exit status: 0 after a signal, 2 for a wrong setting, 3 if the port is taken."""
    try:
        start_logging(read(LogSettings), "live_api")
        # uvicorn's INFO is several lines a connection.
        for noisy in ("aiokafka", "uvicorn.error"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        kafka, database, settings = read(KafkaSettings), read(DatabaseSettings), read(LiveApiSettings)
    except InvalidSetting as error:
        logger.error("%s", error)
        return 2
    logger.info("serving on http://%s:%d, feeds from %s", settings.host, settings.port, kafka.bootstrap_servers)
    if not settings.all_tokens and not _is_loopback(settings.host):
        logger.warning("%s is not the loopback interface and no token is set: everyone may call", settings.host)
    set_max_buffer_bytes(settings.max_buffer_bytes)
    _allow_files(settings.max_connections + _OTHER_FILES)
    # Queries run in threads; the feeds get the interpreter back this soon.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    live_api = LiveApi(kafka, database, settings)
    config = uvicorn.Config(
        live_api.app,
        host=settings.host,
        port=settings.port,
        http=partial(  # type: ignore[arg-type]  # called as the class would be
            PatientProtocol, patience_s=settings.stuck_after_s, on_cut=live_api.metrics.stuck.labels("http").inc
        ),
        limit_concurrency=settings.max_connections,
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
    # What was made until now stays: to look through its 94 000 objects took 50 ms at a time, and nobody is served then.
    gc.collect()
    gc.freeze()
    Server(config, live_api).run()
    logger.info("ended")
    return 0


def _allow_files(wanted: int) -> None:
    """Every connection is a file, and many systems allow a process 1024 unless it asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        logger.warning("the system allows %d files, fewer than the connections that the settings allow", allowed)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    sys.exit(main())
