"""What a thread of ours needs in somebody else's process: an event loop that works to the end, and silence."""

import asyncio
import logging
import socket
import threading
from typing import Any

from opentelemetry import context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

_NOISY_LOGGERS = ("aiokafka", "aiokafka.conn", "aiokafka.cluster", "aiokafka.producer.sender")


class ResolvingLoop(asyncio.SelectorEventLoop):
    """Resolves names on its own thread.

    asyncio would hand that to an executor, which takes no work once the
    interpreter is ending: a short script could then never deliver its spans.
    Nothing else waits for this loop.
    """

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> Any:
        return socket.getaddrinfo(host, port, **hints)

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> Any:
        return socket.getnameinfo(sockaddr, flags)


def keep_out_of_traces_and_logs() -> None:
    """Make the calling thread ours: it traces nothing, and its Kafka client logs nothing."""
    # Instrumented Kafka clients and sockets must not trace the tracer.
    context.attach(context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    _our_threads.add(threading.get_ident())


# aiokafka logs several errors a second while Kafka is away. On our threads we say it ourselves, once; a service's own
# Kafka clients run on other threads and keep their voice.
_our_threads: set[int] = set()


def _is_not_ours_to_tell(record: logging.LogRecord) -> bool:
    return record.thread not in _our_threads or logging.getLogger("tracewatch").isEnabledFor(logging.DEBUG)


for _name in _NOISY_LOGGERS:
    logging.getLogger(_name).addFilter(_is_not_ours_to_tell)
