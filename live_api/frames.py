"""One WebSocket frame, made once and written to many transports.

uvicorn's own send path makes a frame for every connection. Its protocol is extended here by ``FrameWriter``, which the
application finds in the ASGI scope: a message is framed once and its bytes are written as they are. Only between
messages, never compressed, never fragmented: such a frame is valid on every connection. Who writes to hundreds takes
the transport's own ``write`` (``FrameWriter.direct``): nothing is asked of a connection until it tells of itself.

Source: RFC 6455, section 5.2.
"""

import asyncio
import socket
from asyncio.transports import BaseTransport
from collections.abc import Callable, MutableMapping
from typing import Any, Protocol

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

SCOPE_EXTENSION = "tracewatch.frames"

#: Bytes that may wait in a transport before its subscriber counts as behind: ``set_max_buffer_bytes``.
_max_buffer_bytes = 262_144


def set_max_buffer_bytes(max_buffer_bytes: int) -> None:
    """For connections made from now on."""
    global _max_buffer_bytes
    _max_buffer_bytes = max_buffer_bytes


def text_frame(message: bytes) -> bytes:
    """An unmasked text frame, as a server sends it."""
    length = len(message)
    if length < 126:
        return bytes((0x81, length)) + message
    if length < 65536:
        return b"\x81\x7e" + length.to_bytes(2, "big") + message
    return b"\x81\x7f" + length.to_bytes(8, "big") + message


class FrameWriter(Protocol):
    """Where a subscriber's frames go. ``full``: more waits than it may; ``drained`` returns when that has changed."""

    full: bool

    def write(self, frame: bytes) -> bool: ...
    def direct(self, unfit: Callable[[], None]) -> Callable[[bytes], object] | None: ...
    async def drained(self) -> None: ...
    def abort(self) -> None: ...


class FrameProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol, and a ``FrameWriter``."""

    full = False
    _unfit: Callable[[], None] | None = None

    def write(self, frame: bytes) -> bool:
        """Write a whole frame; False if the connection is closing and takes none."""
        if not self._takes_frames:
            return False
        self.transport.write(frame)
        return True

    def direct(self, unfit: Callable[[], None]) -> Callable[[bytes], object] | None:
        """The transport's own ``write``, for whole frames; None if the connection is full or closing.

        Good until ``unfit`` is called, once: the connection is full now (it took the last frame) or begins to close.
        """
        if self.full or not self._takes_frames:
            return None
        self._unfit = unfit
        return self.transport.write

    async def drained(self) -> None:
        await self.writable.wait()

    def abort(self) -> None:
        """Cut the connection: what waits is thrown away."""
        self._is_unfit()
        self.transport.abort()

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=_max_buffer_bytes, low=_max_buffer_bytes // 4)
        # The kernel would let a send buffer grow to megabytes, for each subscriber that does not read.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _max_buffer_bytes)

    def pause_writing(self) -> None:
        self.full = True
        super().pause_writing()
        self._is_unfit()

    def resume_writing(self) -> None:
        self.full = False
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.full = False
        self._is_unfit()
        super().connection_lost(exc)

    def handle_close(self, event: Frame) -> None:
        self._is_unfit()
        super().handle_close(event)

    def handle_parser_exception(self) -> None:
        self._is_unfit()
        super().handle_parser_exception()

    def shutdown(self) -> None:
        self._is_unfit()
        super().shutdown()

    def keepalive_timeout(self) -> None:
        self._is_unfit()
        super().keepalive_timeout()
        # A peer that answers no ping takes no bytes either: waiting for the rest to drain would be for ever.
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated and self.conn.handshake_exc is not None:
            # The handshake cannot be read, say a line of it is too long. uvicorn forgets to send the refusal.
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "websocket.close":
            self._is_unfit()
        await super().send(message)
        if message["type"] == "websocket.accept":
            # The handshake is over, and its headers are the larger part of what a subscriber holds.
            del self.request, self.response
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True  # refused with a response; uvicorn would log an error

    async def run_asgi(self) -> None:
        extensions: MutableMapping[str, Any] = self.scope["extensions"]
        extensions[SCOPE_EXTENSION] = self
        try:
            await super().run_asgi()
        finally:
            extensions.clear()  # the scope refers to us and we to it: nothing is left to the garbage collector

    @property
    def _takes_frames(self) -> bool:
        closing = self.close_sent or self.disconnected or self.transport.is_closing()
        return self.handshake_complete and not closing

    def _is_unfit(self) -> None:
        unfit, self._unfit = self._unfit, None
        if unfit is not None:
            unfit()


async def drained_within(writer: FrameWriter, timeout_s: float) -> bool:
    """Wait until the writer takes frames again; False if it does not in time."""
    try:
        async with asyncio.timeout(timeout_s):
            await writer.drained()
    except TimeoutError:
        return False
    return True
