"""The WebSocket feeds of a real process, on a real broker."""

import asyncio
import json
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from websockets import Origin
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from tests.live_api.builders import alert, closed_trace
from tests.live_api.running import LiveApi, numbered_alerts, publish, publish_alerts
from tests.services import KafkaServer
from tracecore.topics import Topics
from tracecore.wire import encode_alert, encode_trace


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


async def test_bad_parameter_is_refused_by_name(live_api: LiveApi) -> None:
    for query, named in (
        ("severity=loud", "severity"),
        ("after=nonsense", "after"),
        ("after=t1-0", "after"),
        ("after=a1-0&after=a1-1", "after"),
        ("colour=red", "colour"),
        ("service=", "service"),
        ("service=%ff", "query"),
    ):
        with pytest.raises(InvalidStatus) as refused:
            await connect(live_api.ws(f"/ws/alerts?{query}"))
        assert refused.value.response.status_code == 400
        assert json.loads(refused.value.response.body)["detail"].startswith(f"{named}: ")
    with pytest.raises(InvalidStatus) as refused:
        await connect(live_api.ws("/ws/alerts?service=" + "x" * 9000))
    assert refused.value.response.status_code == 414


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
    """The memory holds but 20 events, so most resumes read Kafka; the server is killed twice on the way.

    Alerts have one partition, so theirs is one order, that of each fingerprint included.
    """
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
            # Cut after so many messages; the last connection reads to the end.
            patience = rng.randrange(1, 2 * total // cuts) if connections < cuts else total
            try:
                async with connect(live_api.ws(f"/ws/alerts?after={cursor}" if cursor else "/ws/alerts")) as connection:
                    connections += 1
                    for _ in range(patience):
                        message = json.loads(await connection.recv())
                        assert message["type"] != "gap"
                        cursor = message["cursor"]
                        if message["type"] == "alert":
                            seen.append(message["alert"]["updated_at_ns"] - 1_000_000_000)
                        if len(seen) == total:
                            break
                    connection.transport.abort()
            except (ConnectionClosed, OSError, InvalidHandshake):  # a kill may come in the middle of the handshake
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


async def test_token_comes_by_header_by_subprotocol_or_as_first_message(
    start_live_api: Callable[..., LiveApi], tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    file.write_text("from-file  # of the dashboard\n")
    live_api = start_live_api(TOKENS="one,two", TOKENS_FILE=str(file))
    url = live_api.ws("/ws/alerts")
    async with connect(url, additional_headers={"Authorization": "Bearer from-file"}) as connection:
        await next_of(connection, "snapshot")
    async with connect(url, subprotocols=["tracewatch.v1", "bearer.two"]) as connection:
        assert connection.subprotocol == "tracewatch.v1"  # the token is not told again
        await next_of(connection, "snapshot")
    async with connect(url) as connection:
        await connection.send('{"type": "authenticate", "token": "one"}')
        await next_of(connection, "snapshot")
    with pytest.raises(InvalidStatus) as refused:
        await connect(url, additional_headers={"Authorization": "Bearer wrong"})
    assert refused.value.response.status_code == 401
    for message in ('{"type": "authenticate", "token": "wrong"}', '{"token": 1}', "[]", "x" * 8000, b"\0"):
        async with connect(url) as connection:
            await connection.send(message)
            with pytest.raises(ConnectionClosed) as closed:
                await connection.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008


async def test_page_of_a_strange_origin_may_not_connect(start_live_api: Callable[..., LiveApi]) -> None:
    live_api = start_live_api(ALLOWED_ORIGINS="https://grafana.example.org")
    url, own = live_api.ws("/ws/alerts"), f"http://127.0.0.1:{live_api.port}"
    for origin in ("https://grafana.example.org", own):
        async with connect(url, origin=Origin(origin)) as connection:
            await next_of(connection, "snapshot")
    for origin in ("https://evil.example.org", "null", own + "0"):
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, origin=Origin(origin))
        assert refused.value.response.status_code == 403


async def test_limit_of_subscribers_holds_and_no_message_is_taken(start_live_api: Callable[..., LiveApi]) -> None:
    live_api = start_live_api(MAX_SUBSCRIBERS="2")
    url = live_api.ws("/ws/alerts")
    async with connect(url) as first, connect(url):
        with pytest.raises(InvalidStatus) as refused:
            await connect(url)
        assert refused.value.response.status_code == 503
        await next_of(first, "snapshot")
        await first.send("hello")
        with pytest.raises(ConnectionClosed) as closed:
            await first.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008
        async with asyncio.timeout(10):
            while True:
                try:
                    async with connect(url):
                        break
                except InvalidStatus:
                    await asyncio.sleep(0.01)


async def test_slow_subscriber_is_told_and_loses_nothing_while_others_are_not_delayed(
    start_live_api: Callable[..., LiveApi], kafka: KafkaServer, topics: Topics
) -> None:
    """The slow one stops reading; its buffers fill; the other sees all at once. Then the slow one reads on."""
    live_api = start_live_api(MAX_BUFFER_BYTES="4096", RETAINED_EVENTS="100")
    padding = "x" * 20_000
    alerts = [replace(each, annotations={"padding": padding}) for each in numbered_alerts(400)]
    slow_url = live_api.ws("/ws/alerts")
    async with connect(slow_url, max_queue=1) as slow, connect(slow_url) as quick:
        await next_of(slow, "snapshot")
        await next_of(quick, "snapshot")
        publishing = asyncio.create_task(publish_alerts(kafka.bootstrap_servers, topics.alerts, alerts))
        seen = [(await next_of(quick, "alert"))["alert"]["updated_at_ns"] for _ in alerts]
        await publishing
        expected = [alert.updated_at_ns for alert in alerts]
        assert seen == expected
        late, gaps = [], []
        async with asyncio.timeout(30):
            while len(late) < len(alerts):
                message = json.loads(await slow.recv())
                if message["type"] == "gap":
                    gaps.append((message["reason"], message["lost"]))
                elif message["type"] == "alert":
                    late.append(message["alert"]["updated_at_ns"])
        assert late == expected
        assert set(gaps) == {("slow", 0)}


async def test_subscriber_that_takes_nothing_is_cut(
    start_live_api: Callable[..., LiveApi], kafka: KafkaServer, topics: Topics
) -> None:
    live_api = start_live_api(MAX_BUFFER_BYTES="4096", STUCK_AFTER_S="0.5")
    padding = "x" * 50_000
    alerts = [replace(each, annotations={"padding": padding}) for each in numbered_alerts(400)]
    reader, writer = await asyncio.open_connection("127.0.0.1", live_api.port)
    writer.write(
        b"GET /ws/alerts HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await publish_alerts(kafka.bootstrap_servers, topics.alerts, alerts)
    async with asyncio.timeout(20):
        while b'tracewatch_live_api_subscribers_stuck_total{feed="alerts"} 1.0' not in live_api.get("/metrics")[2]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    writer.transport.abort()


async def test_expired_cursor_is_a_gap_with_the_number_of_lost_events(
    start_live_api: Callable[..., LiveApi], apache_kafka: KafkaServer, topics: Topics
) -> None:
    live_api = start_live_api(RETAINED_EVENTS="5")
    await publish_alerts(apache_kafka.bootstrap_servers, topics.alerts, numbered_alerts(30))
    admin = AIOKafkaAdminClient(bootstrap_servers=apache_kafka.bootstrap_servers)
    await admin.start()
    await admin.delete_records({TopicPartition(topics.alerts, 0): RecordsToDelete(before_offset=12)})
    await admin.close()
    async with connect(live_api.ws("/ws/alerts?after=a1-3")) as connection:
        gap = json.loads(await connection.recv())
        assert (gap["type"], gap["reason"], gap["lost"], gap["cursor"]) == ("gap", "expired", 9, "a1-c")
        seen = [json.loads(await connection.recv())["alert"]["updated_at_ns"] - 1_000_000_000 for _ in range(18)]
    assert seen == list(range(12, 30))


async def test_cursor_of_another_log_is_a_gap_and_a_snapshot(
    live_api: LiveApi, kafka: KafkaServer, topics: Topics
) -> None:
    async with connect(live_api.ws("/ws/alerts?after=a1-ffff")) as connection:
        gap = json.loads(await connection.recv())
        assert (gap["type"], gap["reason"], gap["lost"]) == ("gap", "unknown_cursor", None)
        assert json.loads(await connection.recv())["type"] == "snapshot"
        await publish_alerts(kafka.bootstrap_servers, topics.alerts, [alert("a")])
        assert (await next_of(connection, "alert"))["cursor"] == "a1-1"


async def test_unreadable_record_is_passed_over_and_counted(
    live_api: LiveApi, kafka: KafkaServer, topics: Topics
) -> None:
    async with connect(live_api.ws("/ws/alerts")) as connection:
        values = [b"no json", b"{}", b"", encode_alert(alert("a"))]
        await publish(kafka.bootstrap_servers, topics.alerts, values)
        assert (await next_of(connection, "alert"))["cursor"] == "a1-4"
    metrics = live_api.get("/metrics")[2]
    assert b'tracewatch_live_api_undecodable_records_total{feed="alerts"} 3.0' in metrics


def fuzzed_frame(rng: random.Random) -> bytes:
    """A frame of a client with some of it wrong: opcode, flags, mask, length; or a right one, or just bytes."""
    payload = rng.choice(
        (b"", b'{"type": "authenticate", "token": "x"}', b"\x03\xe8bye", rng.randbytes(rng.randrange(300)))
    )
    opcode = rng.choice((0, 1, 1, 2, 3, 8, 9, 10, 15))
    first = opcode | (0x80 if rng.random() < 0.8 else 0) | (rng.choice((0x40, 0x20, 0x10)) if rng.random() < 0.1 else 0)
    masked = 0x80 if rng.random() < 0.9 else 0
    length = len(payload) if rng.random() < 0.8 else rng.choice((0, 126, 127, 2**16, 2**40))
    head = bytes((first, masked | min(length, 125))) if length < 126 else bytes((first, masked | 127))
    if length >= 126:
        head += length.to_bytes(8, "big")
    if rng.random() < 0.1:
        return rng.randbytes(rng.randrange(1, 200))
    return head + (b"\0\0\0\0" if masked else b"") + payload


def fuzzed_query(rng: random.Random) -> str:
    """A query of a feed with some of it wrong."""
    names = ("service", "severity", "kind", "status", "replay", "after", "min_duration_ms", "errors_only", "x", "%", "")
    values = (
        "a",
        "critical",
        "all",
        "a1-0",
        "a1-ff",
        "t1-0.0",
        "1e309",
        "-1",
        "%ff",
        "%00",
        "%F0%9F%92%A9",
        "'",
        "true",
    )
    pairs = [f"{rng.choice(names)}={rng.choice(values)}" for _ in range(rng.randrange(5))]
    return "&".join(pairs) + rng.choice(("", "", "&", "=&=", ";", "%"))


async def test_fuzzed_frames_and_queries_crash_nothing_and_leave_nothing(live_api: LiveApi) -> None:
    rng = random.Random(5)
    assert live_api.process is not None
    statm, files = (Path(f"/proc/{live_api.process.pid}/{name}") for name in ("statm", "fd"))

    async def calls(count: int) -> None:
        for _ in range(count):
            path = rng.choice(("/ws/alerts", "/ws/traces", "/sse/alerts", "/sse/traces")) + f"?{fuzzed_query(rng)}"
            reader, writer = await asyncio.open_connection("127.0.0.1", live_api.port)
            upgrade = (
                b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" if "/ws" in path else b""
            )
            key = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" if upgrade else b""
            writer.write(b"GET %b HTTP/1.1\r\nHost: x\r\n%b%b\r\n" % (path.encode(), upgrade, key))
            async with asyncio.timeout(10):
                with suppress(ConnectionError, asyncio.IncompleteReadError):
                    status = (await reader.readuntil(b"\r\n\r\n"))[9:12]
                    assert status in (b"101", b"200", b"400"), (path, status)
                    if status == b"101":
                        writer.write(b"".join(fuzzed_frame(rng) for _ in range(rng.randrange(1, 6))))
                        writer.write_eof()
                        await reader.read(-1)
            writer.transport.abort()

    async def held() -> tuple[int, int]:
        """Files and kB, once nobody is connected."""
        async with asyncio.timeout(10):
            for feed in (b"alerts", b"traces"):
                while b'tracewatch_live_api_subscribers{feed="%b"} 0.0' % feed not in live_api.get("/metrics")[2]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        return len(list(files.iterdir())), int(statm.read_text().split()[1]) * 4

    await calls(150)
    files_before, kb_before = await held()
    await calls(300)
    files_after, kb_after = await held()
    assert files_after <= files_before + 2
    assert kb_after - kb_before < 3000  # a connection that stayed would be 20 kB of it
    assert "Traceback" not in live_api.log.read_text()
