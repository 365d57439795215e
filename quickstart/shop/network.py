"""The network between two services of the shop: it passes bytes on, sees no spans, and can be slow."""

import argparse
import asyncio
import contextlib
import json
from typing import Final
from urllib.parse import parse_qs, urlsplit

from quickstart.shop.faults import NETWORK_DELAY, NETWORK_DELAY_S, Faults

CHUNK_BYTES: Final = 64 * 1024
#: A connection that begins so is not passed on: it tells the network itself to be slow.
CONTROL: Final = b"POST /faults/"


class Network:
    """Passes every connection on to ``host:port``; what clients send arrives later while the fault is on."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._faults = Faults(NETWORK_DELAY)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(writer.close)
            stack.enter_context(contextlib.suppress(OSError))  # either side may hang up at any time
            first = await reader.read(CHUNK_BYTES)
            if first.startswith(CONTROL):
                writer.write(self._injected(first))
                return
            answers, requests = await asyncio.open_connection(self._host, self._port)
            stack.callback(requests.close)
            await asyncio.gather(self._pass_requests(first, reader, requests), _pass_answers(answers, writer))

    async def _pass_requests(self, chunk: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk:
            if self._faults.is_on(NETWORK_DELAY):
                await asyncio.sleep(NETWORK_DELAY_S)
            writer.write(chunk)
            await writer.drain()
            chunk = await reader.read(CHUNK_BYTES)
        writer.write_eof()

    def _injected(self, request: bytes) -> bytes:
        """The answer to a request to have a fault; HTTP/1.1."""
        target = urlsplit(request.split(b" ", 2)[1].decode("latin-1"))
        kind = target.path.rpartition("/")[2]
        try:
            self._faults.inject(kind, float(parse_qs(target.query).get("for_s", ["20"])[0]))
        except ValueError as error:
            return _answer("400 Bad Request", {"error": str(error)})
        return _answer("202 Accepted", {"fault": kind})


async def _pass_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    writer.close()  # the service has hung up: its client is to know


def _answer(status: str, body: dict[str, str]) -> bytes:
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + content


async def _serve(port: int, target: str) -> None:
    service = urlsplit(target)
    network = Network(service.hostname or "127.0.0.1", service.port or 80)
    async with await asyncio.start_server(network.connected, "127.0.0.1", port) as server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--target", required=True, help="URL of the service behind")
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.port, arguments.target))


if __name__ == "__main__":
    main()
