"""A caller over HTTP that sends no request, or takes no answer, is cut.

Nobody else would end such a connection: it keeps a file, and a stream of events that is not read keeps its place among
the subscribers. Over WebSocket, pings find the dead and ``hub`` the stuck.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

logger = logging.getLogger(__name__)


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with a limit to its patience. ``on_cut`` hears of each connection that is cut."""

    def __init__(self, *, patience_s: float, on_cut: Callable[[], object], **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._patience_s = patience_s
        self._on_cut = on_cut
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for("sent no request")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait_for("sent half a request")

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for("took nothing of an answer")

    def resume_writing(self) -> None:
        self._stop_waiting()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for(self, what: str) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(self._patience_s, self._cut, what)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cut(self, what: str) -> None:
        self._timer = None
        self._on_cut()
        logger.warning("a caller %s for %g s and is cut", what, self._patience_s)
        self.transport.abort()  # to close would wait until it takes the rest
