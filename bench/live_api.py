"""Fan-out of alerts: 500 subscribers, 40 alerts/s; delay, CPU and memory a subscriber, beside bare transports.

live_api runs as it does in production, on Apache Kafka where it can be had; the subscribers are raw sockets in this
process. The delay is from an alert's making to its reading, by every tenth subscriber: to read them all would be what
is measured. The bound is a process that does nothing but write one frame, made before, to as many transports, in the
same run.
"""

import argparse
import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import uvloop
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from quickstart.apache_kafka import ApacheKafka
from quickstart.embedded_broker import EmbeddedBroker
from quickstart.errors import NotAvailable
from quickstart.process import free_port
from tracecore.alert import Alert, Evidence, fingerprint
from tracecore.topics import Topics
from tracecore.wire import encode_alert

P99_MS = 60.0
CPU_RATIO = 2.0
SUBSCRIBER_KB = 40.0
#: Every so many subscribers, one reads the delays.
READERS = 10
_HANDSHAKE = (
    b"GET /ws/alerts HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_ALERT = b'{"type":"alert"'
_STAMP = b'"detected_at_ns":'


class Deliveries:
    """What the subscribers received."""

    def __init__(self) -> None:
        self.count = 0
        self.delays_ns: list[int] = []


class Subscriber(asyncio.Protocol):
    """Counts alerts; if it ``reads``, also how long ago each was made."""

    def __init__(self, deliveries: Deliveries, reads: bool) -> None:
        self.opened = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None
        self._deliveries = deliveries
        self._reads = reads
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self.transport.write(_HANDSHAKE)

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            self._open(self._buffer + data)
            return
        if self._buffer:
            data = self._buffer + data
        found = 0
        end = 0
        at = data.find(_ALERT)
        while at >= 0:
            stamp = data.find(_STAMP, at) + len(_STAMP)
            if stamp < len(_STAMP) or len(data) < stamp + 19:
                break  # the rest of this alert is still to come
            found += 1
            if self._reads:
                self._deliveries.delays_ns.append(time.time_ns() - int(data[stamp : stamp + 19]))
            end = stamp + 19
            at = data.find(_ALERT, end)
        self._deliveries.count += found
        self._buffer = data[at:] if at >= 0 else data[max(end, len(data) - len(_ALERT)) :]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionError("closed"))

    def _open(self, data: bytes) -> None:
        head, end, self._buffer = data.partition(b"\r\n\r\n")
        if not end:
            self._buffer = data
            return
        assert b" 101 " in head, head
        self.opened.set_result(None)


def stamped_alert(number: int) -> bytes:
    """An alert as the stream publishes it, 700 bytes, made now."""
    labels = {
        "alertname": "LatencyShift",
        "service": f"service-{number % 20}",
        "operation": "GET /",
        "severity": "warning",
    }
    annotations = {"summary": "GET / of service is slower than it was", "description": "x" * 200}
    evidence = Evidence(250e6, 20e6, "ns", 40, ("ab" * 16, "cd" * 16))
    now_ns = time.time_ns()
    return encode_alert(
        Alert(fingerprint(labels), "firing", labels, annotations, now_ns, now_ns, None, now_ns, evidence)
    )


async def subscribe(port: int, count: int, deliveries: Deliveries, receive_buffer: int = 0) -> list[Subscriber]:
    """Connect subscribers, 50 at a time."""
    loop = asyncio.get_running_loop()
    found: list[Subscriber] = []
    while len(found) < count:
        batch = []
        for number in range(min(50, count - len(found))):
            sock = socket.socket()
            if receive_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", port))
            reads = number % READERS == 0
            _, subscriber = await loop.create_connection(lambda reads=reads: Subscriber(deliveries, reads), sock=sock)
            batch.append(subscriber)
        await asyncio.gather(*(subscriber.opened for subscriber in batch))
        found += batch
    return found


def cpu_s(pid: int) -> float:
    """CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_kb(pid: int) -> float:
    """Memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1000


async def measured(
    publish: Callable[[bytes], Awaitable[None]],
    *,
    pid: int,
    deliveries: Deliveries,
    subscribers: int,
    rate: float,
    seconds: float,
) -> tuple[float, float, float]:
    """Publish at a rate. Median and 99th percentile of the delay (ms), and the process's CPU a delivery (us)."""
    alerts = round(rate * seconds)
    deliveries.delays_ns.clear()
    deliveries.count = 0
    gc.collect()
    gc.disable()
    began_s, cpu_before_s = time.perf_counter(), cpu_s(pid)
    for number in range(alerts):
        await asyncio.sleep(max(0.0, began_s + number / rate - time.perf_counter()))
        await publish(stamped_alert(number))
    async with asyncio.timeout(30):
        while deliveries.count < alerts * subscribers:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    used_s = cpu_s(pid) - cpu_before_s
    gc.enable()
    assert deliveries.count == alerts * subscribers, f"{deliveries.count} deliveries of {alerts * subscribers}"
    delays = sorted(deliveries.delays_ns)
    return delays[len(delays) // 2] / 1e6, delays[len(delays) * 99 // 100] / 1e6, used_s / deliveries.count * 1e6


async def bare_server(port: int) -> None:
    """The bound: every line read on standard input is a message, framed once and written to every transport."""
    from live_api.frames import text_frame

    transports: set[asyncio.Transport] = set()

    class Bare(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.Transport, transport)

        def data_received(self, data: bytes) -> None:
            self.transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            transports.add(self.transport)

        def connection_lost(self, exc: Exception | None) -> None:
            transports.discard(self.transport)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Bare, "127.0.0.1", port, backlog=2048)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print("ready", flush=True)
    while line := await lines.readline():
        frame = text_frame(b'{"type":"alert","cursor":"a1-0","alert":%b}' % line.rstrip())
        for transport in transports:
            transport.write(frame)
    server.close()


async def bench_bare(subscribers: int, rate: float, seconds: float) -> float:
    """CPU a delivery (us) of the bound."""
    port, deliveries = free_port(), Deliveries()
    command = [sys.executable, "-m", "bench", "live_api", "--bare", str(port)]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin and process.stdout
    try:
        await process.stdout.readline()
        connected = await subscribe(port, subscribers, deliveries)

        async def publish(alert: bytes) -> None:
            assert process.stdin
            process.stdin.write(alert + b"\n")

        p50, p99, cpu_us = await measured(
            publish, pid=process.pid, deliveries=deliveries, subscribers=subscribers, rate=rate, seconds=seconds
        )
        print(f"  bare transports     p50 {p50:6.1f} ms   p99 {p99:6.1f} ms   {cpu_us:5.2f} us CPU a delivery")
        for subscriber in connected:
            assert subscriber.transport
            subscriber.transport.abort()
        return cpu_us
    finally:
        process.stdin.close()
        await process.wait()


async def bench_live_api(
    bootstrap: str, subscribers: int, stuck: int, rate: float, seconds: float
) -> tuple[float, ...]:
    """p99 (ms), CPU a delivery (us) and kB a subscriber; and p99 with stuck subscribers beside."""
    topics, port, deliveries = Topics(), free_port(), Deliveries()
    read = (topics.alerts, topics.traces, topics.windows, topics.silences)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, 1, 1) for name in read])
    await admin.close()
    environment = {
        **os.environ,
        "TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": bootstrap,
        "TRACEWATCH_LIVE_API_PORT": str(port),
        "TRACEWATCH_LIVE_API_MAX_BUFFER_BYTES": "32768",
    }
    process = subprocess.Popen([sys.executable, "-m", "live_api"], env=environment)  # noqa: ASYNC220
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        await asyncio.to_thread(_wait_until_ready, port)

        async def publish(alert: bytes) -> None:
            await producer.send(topics.alerts, alert)

        async def figures(count: int) -> tuple[float, float, float]:
            return await measured(
                publish, pid=process.pid, deliveries=deliveries, subscribers=count, rate=rate, seconds=seconds
            )

        warm = await subscribe(port, 20, deliveries)
        await measured(publish, pid=process.pid, deliveries=deliveries, subscribers=20, rate=rate, seconds=1)
        for subscriber in warm:
            assert subscriber.transport
            subscriber.transport.abort()
        await asyncio.sleep(0.5)
        before_kb = resident_kb(process.pid)
        connected = await subscribe(port, subscribers, deliveries)
        p50, p99, cpu_us = await figures(subscribers)
        memory_kb = (resident_kb(process.pid) - before_kb) / subscribers
        print(f"  live_api            p50 {p50:6.1f} ms   p99 {p99:6.1f} ms   {cpu_us:5.2f} us CPU a delivery")
        print(f"                      {memory_kb:.1f} kB a subscriber")
        for subscriber in await subscribe(port, stuck, Deliveries(), receive_buffer=4096):
            assert subscriber.transport
            subscriber.transport.pause_reading()
            connected.append(subscriber)
        p50_stuck, p99_stuck, cpu_stuck_us = await figures(subscribers)
        print(f"  with {stuck} stuck       p50 {p50_stuck:6.1f} ms   p99 {p99_stuck:6.1f} ms   {cpu_stuck_us:5.2f} us")
        behind = _metric(port, 'tracewatch_live_api_subscribers_behind_total{feed="alerts"}')
        print(f"                      {behind:.0f} of the {stuck} fell behind")
        return p99, cpu_us, memory_kb, p99_stuck
    finally:
        await producer.stop()
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 15)


def _broker(log: Path) -> ApacheKafka | EmbeddedBroker:
    """The embedded broker answers a waiting fetch up to 50 ms late: its delays are not the fan-out's."""
    try:
        return ApacheKafka(log_path=log)
    except NotAvailable:
        return EmbeddedBroker(log_path=log)


def _wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
                if json.load(answer)["ready"]:
                    return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError("live_api is not ready")


def _metric(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)), 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench live_api", description=__doc__)
    parser.add_argument("--subscribers", type=int, default=500)
    parser.add_argument("--stuck", type=int, default=50)
    parser.add_argument("--rate", type=float, default=40.0, help="alerts a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--bare", type=int, default=0, metavar="PORT", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.bare:
        uvloop.run(bare_server(asked.bare))
        return
    print(
        f"{asked.subscribers} subscribers, {asked.rate:g} alerts/s: {asked.subscribers * asked.rate:.0f} deliveries/s"
    )
    with tempfile.TemporaryDirectory() as logs, _broker(Path(logs) / "broker.log") as broker:
        print(f"  on {broker.title}")
        p99, cpu_us, memory_kb, p99_stuck = uvloop.run(
            bench_live_api(broker.bootstrap_servers, asked.subscribers, asked.stuck, asked.rate, asked.seconds)
        )
    bare_us = uvloop.run(bench_bare(asked.subscribers, asked.rate, asked.seconds))
    for name, value, bound in (
        ("p99 of the delay, ms", p99, P99_MS),
        ("p99 with stuck subscribers, ms", p99_stuck, P99_MS),
        ("CPU a delivery, times the bare transports'", cpu_us / bare_us, CPU_RATIO),
        ("kB a subscriber", memory_kb, SUBSCRIBER_KB),
    ):
        print(f"{'holds ' if value <= bound else 'BROKEN'} {name}: {value:.1f} (bound {bound:g})")


if __name__ == "__main__":
    main()
