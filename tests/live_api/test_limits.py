"""Limits of a real process: idle and stuck callers, connections, sizes of messages."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.live_api.running import LiveApi, numbered_alerts, publish_alerts
from tests.services import KafkaServer
from tracecore.topics import Topics


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the other side ends the connection soon."""
    async with asyncio.timeout(10):
        try:
            while await reader.read(65536):
                pass
        except ConnectionResetError:
            pass
    return True


async def test_callers_that_do_nothing_are_cut_and_others_served(
    start_live_api: Callable[..., LiveApi], kafka: KafkaServer, topics: Topics
) -> None:
    live_api = start_live_api(STUCK_AFTER_S="1", MAX_CONNECTIONS="12", HEARTBEAT_S="3600")
    for sent in (b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", live_api.port)
        writer.write(sent)
        assert await ended(reader)
        writer.close()
    idle = [await asyncio.open_connection("127.0.0.1", live_api.port) for _ in range(15)]
    assert (await asyncio.to_thread(live_api.get, "/healthz"))[0] == 503
    for reader, writer in idle:
        assert await ended(reader)
        writer.close()
    assert (await asyncio.to_thread(live_api.get, "/healthz"))[0] == 200

    # A subscriber over SSE that reads no further than the head of the answer.
    reader, writer = await asyncio.open_connection("127.0.0.1", live_api.port)
    writer.write(b"GET /sse/alerts HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    alerts = [replace(each, annotations={"padding": "x" * 50_000}) for each in numbered_alerts(400)]
    await publish_alerts(kafka.bootstrap_servers, topics.alerts, alerts)
    async with asyncio.timeout(20):
        while b'tracewatch_live_api_subscribers{feed="alerts"} 0.0' not in live_api.get("/metrics")[2]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert b'tracewatch_live_api_subscribers_stuck_total{feed="http"} 19.0' in live_api.get("/metrics")[2]
    writer.transport.abort()
    async with connect(live_api.ws("/ws/alerts")) as connection:  # longer than what a request may take
        await connection.recv()
        await asyncio.sleep(1.5)
        await connection.ping()
    assert "Traceback" not in live_api.log.read_text()


async def test_message_that_is_too_large_closes_with_1009(start_live_api: Callable[..., LiveApi]) -> None:
    live_api = start_live_api(TOKENS="one")
    for pieces in (["x" * 9000], ["x" * 5000, "x" * 5000]):
        async with connect(live_api.ws("/ws/alerts")) as connection:
            await connection.send(pieces[0] if len(pieces) == 1 else iter(pieces))
            with pytest.raises(ConnectionClosed) as closed:
                await connection.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009
