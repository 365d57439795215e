"""The WebSocket feeds of a real process, on a real broker."""

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.live_api.builders import alert, closed_trace
from tests.live_api.running import LiveApi, numbered_alerts, publish, publish_alerts
from tests.services import KafkaServer
from tracecore.topics import Topics
from tracecore.wire import encode_trace


async def next_of(connection: ClientConnection, message_type: str) -> dict[str, Any]:
    """The next message of a type; others are passed over."""
    async with asyncio.timeout(20):
        while True:
            message: dict[str, Any] = json.loads(await connection.recv())
            if message["type"] == message_type:
                return message


async def test_new_subscriber_sees_what_fires_and_then_what_comes(
    live_api: LiveApi, kafka: KafkaServer, topics: Topics
) -> None:
    before = [alert("a"), alert("b"), alert("a", status="resolved", number=1)]
    await publish_alerts(kafka.bootstrap_servers, topics.alerts, before)
    async with connect(live_api.ws("/ws/alerts"), subprotocols=["tracewatch.v1"]) as connection:
        assert connection.subprotocol == "tracewatch.v1"
        snapshot = json.loads(await connection.recv())
        while [each["labels"]["service"] for each in snapshot["alerts"]] != ["b"]:
            snapshot = await _reconnected_snapshot(live_api)
        await publish_alerts(kafka.bootstrap_servers, topics.alerts, [alert("c")])
        message = await next_of(connection, "alert")
        while message["alert"]["labels"]["service"] != "c":
            message = await next_of(connection, "alert")
        assert message["alert"]["evidence"]["sample_trace_ids"] == ["ab" * 16]


async def _reconnected_snapshot(live_api: LiveApi) -> dict[str, Any]:
    async with connect(live_api.ws("/ws/alerts")) as connection:
        message: dict[str, Any] = json.loads(await connection.recv())
        assert message["type"] == "snapshot" and message["version"] == 1
        return message


async def test_subscriber_sees_only_what_it_asked_for(live_api: LiveApi, kafka: KafkaServer, topics: Topics) -> None:
    async with connect(live_api.ws("/ws/alerts?service=b&service=c&severity=critical")) as connection:
        await connection.recv()
        sent = [alert("a"), alert("b", severity="info"), alert("b"), alert("b", replay_id="r1"), alert("c")]
        await publish_alerts(kafka.bootstrap_servers, topics.alerts, sent)
        seen = [(await next_of(connection, "alert"))["alert"] for _ in range(2)]
    assert [(each["labels"]["service"], each["labels"]["severity"]) for each in seen] == [
        ("b", "critical"),
        ("c", "critical"),
    ]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("severity=loud", "severity"),
        ("after=nonsense", "after"),
        ("after=t1-0", "after"),
        ("colour=red", "colour"),
        ("service=", "service"),
    ],
)
async def test_bad_parameter_is_refused_by_name(live_api: LiveApi, query: str, named: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(live_api.ws(f"/ws/alerts?{query}"))
    assert refused.value.response.status_code == 400
    assert json.loads(refused.value.response.body)["detail"].startswith(f"{named}: ")


async def test_heartbeat_carries_a_cursor_to_resume_from(
    start_live_api: Callable[..., LiveApi], kafka: KafkaServer, topics: Topics
) -> None:
    live_api = start_live_api(HEARTBEAT_S="0.1")
    async with connect(live_api.ws("/ws/alerts?service=nobody")) as connection:
        await connection.recv()
        await publish_alerts(kafka.bootstrap_servers, topics.alerts, numbered_alerts(3))
        cursor = (await next_of(connection, "heartbeat"))["cursor"]
        while cursor != "a1-3":
            cursor = (await next_of(connection, "heartbeat"))["cursor"]
    await publish_alerts(kafka.bootstrap_servers, topics.alerts, numbered_alerts(1, start=3))
    async with connect(live_api.ws(f"/ws/alerts?after={cursor}")) as connection:
        assert json.loads(await connection.recv())["alert"]["updated_at_ns"] == 1_000_000_003


async def test_subscriber_that_is_cut_a_hundred_times_sees_every_alert_once(
    start_live_api: Callable[..., LiveApi], apache_kafka: KafkaServer, topics: Topics
) -> None:
    """The memory holds but 20 events, so most resumes read Kafka; the server is killed twice on the way."""
    live_api = start_live_api(RETAINED_EVENTS="20")
    total, cuts, kills = 3000, 100, 2
    rng = random.Random(9)
    seen: list[int] = []

    async def publish_all() -> None:
        for start in range(0, total, 10):
            await publish_alerts(apache_kafka.bootstrap_servers, topics.alerts, numbered_alerts(10, start))

    async def follow() -> None:
        cursor, connections = "", 0
        while len(seen) < total:
            connections += 1
            # Cut after so many messages; the last connection reads to the end.
            patience = rng.randrange(1, 2 * total // cuts) if connections <= cuts else total
            try:
                async with connect(live_api.ws(f"/ws/alerts?after={cursor}" if cursor else "/ws/alerts")) as connection:
                    for _ in range(patience):
                        message = json.loads(await connection.recv())
                        assert message["type"] != "gap"
                        cursor = message["cursor"]
                        if message["type"] == "alert":
                            seen.append(message["alert"]["updated_at_ns"] - 1_000_000_000)
                        if len(seen) == total:
                            break
                    connection.transport.abort()
            except (ConnectionClosed, OSError, InvalidStatus):
                await asyncio.sleep(0.02)
        assert connections > cuts

    async def kill() -> None:
        for number in range(kills):
            while len(seen) < total * (number + 1) // (kills + 1):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await asyncio.to_thread(live_api.kill)
            await asyncio.to_thread(live_api.start)

    first = connect(live_api.ws("/ws/alerts"))
    async with first:  # the subscriber is there before the first alert
        pass
    async with asyncio.timeout(80):
        async with asyncio.TaskGroup() as group:
            group.create_task(follow())
            group.create_task(publish_all())
            group.create_task(kill())
    assert seen == list(range(total))


async def test_sigterm_closes_subscribers_with_service_restart_and_exits_0(live_api: LiveApi) -> None:
    async with connect(live_api.ws("/ws/alerts")) as connection:
        await connection.recv()
        stopping = asyncio.create_task(asyncio.to_thread(live_api.stop))
        with pytest.raises(ConnectionClosed) as closed:
            await connection.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012
        assert await stopping == 0


async def test_live_tail_shows_closed_traces_that_match(live_api: LiveApi, kafka: KafkaServer, topics: Topics) -> None:
    path = "/ws/traces?service=back&min_duration_ms=10&errors_only=true"
    async with connect(live_api.ws(path)) as connection:
        assert (await next_of(connection, "snapshot"))["traces"] == []
        traces = [
            closed_trace(1, duration_ns=20_000_000),
            closed_trace(2, errors=1),
            closed_trace(3, services=("front",), duration_ns=20_000_000, errors=1),
            closed_trace(4, duration_ns=20_000_000, errors=1),
        ]
        for partition in range(2):
            values = [record for trace in traces for record in encode_trace(trace)]
            await publish(kafka.bootstrap_servers, topics.traces, values, partition)
        for _ in range(2):
            message = await next_of(connection, "trace")
            assert message["trace"]["trace_id"] == f"{4:032x}"
            assert message["trace"]["services"] == ["front", "back"]
