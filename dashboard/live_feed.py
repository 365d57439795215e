"""The alert feed over WebSocket: one connection of the process, whatever the number of viewers."""

import logging
import threading
import time
from typing import Final
from urllib.parse import urlencode, urlsplit, urlunsplit

from websockets.exceptions import InvalidHandshake, InvalidURI, WebSocketException
from websockets.sync.client import connect

from dashboard.alert_board import AlertBoard, BoardState
from tracecore.errors import MalformedPayload

logger = logging.getLogger(__name__)

_RETRY_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
#: Without a word for this long, heartbeats included, the connection is taken for dead.
_SILENCE_S: Final = 60.0


class LiveFeed:
    """Follows live_api's ``/ws/alerts`` in a thread of its own; ``state`` may be asked from any thread."""

    def __init__(self, live_api_url: str, token: str) -> None:
        self._url = live_api_url
        self._headers = {"Authorization": f"Bearer {token}"} if token else None
        self._board = AlertBoard(time.time_ns())
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        threading.Thread(target=self._follow, name="alert-feed", daemon=True).start()

    def state(self) -> BoardState:
        """What the feed has told so far."""
        with self._lock:
            return self._board.state()

    def stop(self) -> None:
        """Follow no longer."""
        self._stopped.set()

    def _follow(self) -> None:
        tries = 0
        while not self._stopped.is_set():
            try:
                with connect(
                    self._address(), additional_headers=self._headers, open_timeout=5, close_timeout=1
                ) as feed:
                    tries = 0
                    self._is("live")
                    while not self._stopped.is_set():
                        self._take(feed.recv(timeout=_SILENCE_S))
            except (OSError, TimeoutError, WebSocketException) as error:
                if tries == 0:
                    logger.warning("the alert feed is away: %s", type(error).__name__)
                if isinstance(error, InvalidHandshake | InvalidURI):
                    # A cursor that is not taken, or no such feed: start over with what fires now.
                    with self._lock:
                        self._board.cursor = ""
            self._is("away")
            self._stopped.wait(_RETRY_S[min(tries, len(_RETRY_S) - 1)])
            tries += 1

    def _address(self) -> str:
        parts = urlsplit(self._url)
        scheme = "wss" if parts.scheme == "https" else "ws"
        with self._lock:
            query = urlencode({"after": self._board.cursor}) if self._board.cursor else ""
        return urlunsplit((scheme, parts.netloc, f"{parts.path.rstrip('/')}/ws/alerts", query, ""))

    def _take(self, message: str | bytes) -> None:
        with self._lock:
            try:
                self._board.take(message)
            except MalformedPayload as error:
                logger.warning("the alert feed sent what cannot be read: %s", error)

    def _is(self, connection: str) -> None:
        with self._lock:
            self._board.connection_is("live" if connection == "live" else "away", time.time_ns())
