"""The feeds as Server-Sent Events, and the figures, of a real process."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.live_api.builders import alert, closed_trace
from tests.live_api.running import LiveApi, numbered_alerts, publish, publish_alerts
from tests.services import KafkaServer
from tracecore.topics import Topics
from tracecore.window import OperationWindow
from tracecore.wire import encode_trace, encode_window


@asynccontextmanager
async def events(
    live_api: LiveApi, path: str, headers: dict[str, str] | None = None
) -> AsyncIterator[Callable[[], Any]]:
    """``await next()`` gives the id and the data of the next event."""
    async with (
        httpx.AsyncClient(timeout=20) as client,
        client.stream("GET", f"http://127.0.0.1:{live_api.port}{path}", headers=headers or {}) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.aiter_lines()

        async def following() -> tuple[str, dict[str, Any]]:
            event_id = (await anext(lines)).removeprefix("id: ")
            data = json.loads((await anext(lines)).removeprefix("data: "))
            assert await anext(lines) == ""
            return event_id, data

        yield following


async def test_stream_resumes_from_the_last_event_id_and_ends_at_shutdown(
    start_live_api: Callable[..., LiveApi], kafka: KafkaServer, topics: Topics
) -> None:
    live_api = start_live_api(HEARTBEAT_S="0.2", RETAINED_EVENTS="5")
    async with events(live_api, "/sse/alerts?service=service-1") as following:
        event_id, message = await following()
        assert (event_id, message["type"]) == ("a1-0", "snapshot")
        await publish_alerts(kafka.bootstrap_servers, topics.alerts, numbered_alerts(30))
        while message["type"] != "alert":
            event_id, message = await following()
        assert (event_id, message["alert"]["labels"]["service"]) == ("a1-2", "service-1")
    async with events(live_api, "/sse/alerts", {"Last-Event-ID": "a1-2"}) as following:
        assert [(await following())[0] for _ in range(28)] == [f"a1-{offset:x}" for offset in range(3, 31)]
        assert (await following())[1]["type"] == "heartbeat"
    async with events(live_api, "/sse/traces") as following:
        await following()
        await publish(kafka.bootstrap_servers, topics.traces, encode_trace(closed_trace(3)))
        message = {"type": ""}
        while message["type"] != "trace":
            _, message = await following()
        assert message["trace"]["trace_id"] == f"{3:032x}"
        assert await asyncio.to_thread(live_api.stop) == 0
    status = live_api.process
    assert status is not None and status.returncode == 0


async def test_bad_parameter_of_a_stream_is_400(live_api: LiveApi) -> None:
    status, _, body = live_api.get("/sse/alerts?severity=loud")
    assert (status, json.loads(body)["parameter"]) == (400, "severity")


async def test_metrics_have_red_figures_with_exemplars(live_api: LiveApi, kafka: KafkaServer, topics: Topics) -> None:
    window = OperationWindow(
        start_ns=1_000_000_000_000,
        service="cart",
        operation="GET /",
        kind=2,
        partition=0,
        spans=10,
        count_milli=10_000,
        error_milli=1_000,
        duration={1000: 10_000},
        self_time={},
        slowest="ab" * 16,
        failed="cd" * 16,
    )
    await publish(kafka.bootstrap_servers, topics.windows, [encode_window(window), encode_window(window)])
    await publish_alerts(kafka.bootstrap_servers, topics.alerts, [alert()])
    wanted = (
        'tracewatch_operation_duration_seconds_bucket{kind="server",le="0.005",operation="GET /",service="cart"} 10.0'
        ' # {trace_id="ababab',
        'tracewatch_operation_duration_seconds_count{kind="server",operation="GET /",service="cart"} 10.0',
        'tracewatch_operation_errors_total{kind="server",operation="GET /",service="cart"} 1.0 # {trace_id="cdcdcd',
        'tracewatch_live_api_events_total{feed="alerts"} 1.0',
        f'tracewatch_live_api_lag_records{{topic="{topics.alerts}"}} 0.0',
    )
    text = ""
    async with asyncio.timeout(10):
        while not all(each in text for each in wanted):
            await asyncio.sleep(0.05)
            status, headers, body = live_api.get("/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
            text = body.decode()
            assert status == 200 and headers["content-type"].startswith("application/openmetrics-text")
    plain = live_api.get("/metrics")[2].decode()
    assert "trace_id" not in plain and "tracewatch_operation_duration_seconds_bucket" in plain
