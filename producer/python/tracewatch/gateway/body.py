"""Request bodies within a limit, decompressed as they arrive."""

import zlib
from collections.abc import AsyncIterable

from tracewatch.gateway.errors import BodyTooLarge, UnknownMediaType, UnreadableBody

# 31: gzip's framing and the largest window; 47 would also guess zlib's.
_WINDOW_BITS = {"gzip": 31, "deflate": 15}


async def read_body(chunks: AsyncIterable[bytes], content_encoding: str, max_bytes: int) -> bytes:
    """All of a body, at most ``max_bytes`` after decompression: a bomb costs no more than that.

    Raises BodyTooLarge, UnknownMediaType (an encoding that is not read), UnreadableBody.
    """
    encoding = content_encoding.strip().lower()
    if encoding in ("", "identity"):
        return await _plain(chunks, max_bytes)
    window_bits = _WINDOW_BITS.get(encoding)
    if window_bits is None:
        raise UnknownMediaType(f"content-encoding {encoding!r} is not read: send gzip, deflate or none")
    return await _inflated(chunks, window_bits, encoding, max_bytes)


async def _plain(chunks: AsyncIterable[bytes], max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > max_bytes:
            raise BodyTooLarge(max_bytes)
    return bytes(body)


async def _inflated(chunks: AsyncIterable[bytes], window_bits: int, encoding: str, max_bytes: int) -> bytes:
    body = bytearray()
    inflater = zlib.decompressobj(window_bits)
    try:
        async for chunk in chunks:
            data = chunk
            while data:
                if inflater.eof:
                    # Gzip may be several members, one after another.
                    inflater = zlib.decompressobj(window_bits)
                body += inflater.decompress(data, max_bytes + 1 - len(body))
                if len(body) > max_bytes:
                    raise BodyTooLarge(max_bytes)
                data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    except zlib.error as error:
        raise UnreadableBody(f"the body is not {encoding}, as its content-encoding says: {error}") from error
    if body and not inflater.eof:
        raise UnreadableBody(f"the {encoding} body ends too early")
    return bytes(body)
