"""One WebSocket frame, made once and written to many transports.

uvicorn's own send path makes a frame for every connection. Its protocol is extended here by ``FrameWriter``, which the
application finds in the ASGI scope: a message is framed once and its bytes are written as they are. Only between
messages, never compressed, never fragmented: such a frame is valid on every connection.

Source: RFC 6455, section 5.2.
"""

import asyncio
import socket
from asyncio.transports import BaseTransport
from collections.abc import MutableMapping
from typing import Any, Protocol

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

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
    async def drained(self) -> None: ...
    def abort(self) -> None: ...


class FrameProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol, and a ``FrameWriter``."""

    full = False

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=_max_buffer_bytes, low=_max_buffer_bytes // 4)
        # The kernel would let a send buffer grow to megabytes, for each subscriber that does not read.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _max_buffer_bytes)

    def pause_writing(self) -> None:
        self.full = True
        super().pause_writing()

    def resume_writing(self) -> None:
        self.full = False
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.full = False
        super().connection_lost(exc)

    def keepalive_timeout(self) -> None:
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
        await super().send(message)
        if message["type"] == "websocket.accept":
            # The handshake is over, and its headers are the larger part of what a subscriber holds.
            del self.request, self.response
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True  # refused with a response; uvicorn would log an error

    def write(self, frame: bytes) -> bool:
        """Write a whole frame; False if the connection is closing and takes none."""
        if self.close_sent or self.disconnected or not self.handshake_complete or self.transport.is_closing():
            return False
        self.transport.write(frame)
        return True

    async def drained(self) -> None:
        await self.writable.wait()

    def abort(self) -> None:
        """Cut the connection: what waits is thrown away."""
        self.transport.abort()

    async def run_asgi(self) -> None:
        extensions: MutableMapping[str, Any] = self.scope["extensions"]
        extensions[SCOPE_EXTENSION] = self
        try:
            await super().run_asgi()
        finally:
            extensions.clear()  # the scope refers to us and we to it: nothing is left to the garbage collector


async def drained_within(writer: FrameWriter, timeout_s: float) -> bool:
    """Wait until the writer takes frames again; False if it does not in time."""
    try:
        async with asyncio.timeout(timeout_s):
            await writer.drained()
    except TimeoutError:
        return False
    return True
