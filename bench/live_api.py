"""Fan-out of alerts: 500 subscribers, 40 alerts/s; delay, CPU and memory a subscriber, beside bare transports.

live_api runs as it does in production, on Apache Kafka where it can be had; the subscribers are raw sockets in this
process. The delay is from an alert's making to its reading, by every tenth subscriber: to read them all would be what
is measured. The bound is a process that does nothing but write one frame, made before, to as many transports, in the
same run: rounds of it, of live_api, and of live_api with stuck subscribers beside take turns, and medians are told.
"""

import argparse
import asyncio
import gc
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, cast

import uvloop
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench.figures import Figure, tell
from quickstart.apache_kafka import ApacheKafka
from quickstart.embedded_broker import EmbeddedBroker
from quickstart.errors import NotAvailable
from quickstart.process import free_port
from tracecore.alert import Alert, Evidence, fingerprint
from tracecore.topics import Topics
from tracecore.wire import encode_alert

P99_MS = 60.0
CPU_RATIO = 1.6
SUBSCRIBER_KB = 40.0
#: With stuck subscribers beside, the median may be later by so much: what two rounds without them differ by.
STUCK_P50_MS = 5.0
#: Every so many subscribers, one reads the delays.
READERS = 10
_HANDSHAKE = (
    b"GET /ws/alerts HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_BEHIND = 'tracewatch_live_api_subscribers_behind_total{feed="alerts"}'
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


class Figures(NamedTuple):
    """Of a round: median and 99th percentile of the delay, and the server's CPU a delivery."""

    p50_ms: float
    p99_ms: float
    cpu_us: float

    def __str__(self) -> str:
        return f"p50 {self.p50_ms:6.1f} ms   p99 {self.p99_ms:6.1f} ms   {self.cpu_us:5.2f} us CPU a delivery"


class Server(NamedTuple):
    """A process that fans out, and whoever is subscribed to it."""

    pid: int
    publish: Callable[[bytes], Awaitable[None]]
    deliveries: Deliveries


async def measured(server: Server, *, subscribers: int, rate: float, seconds: float) -> Figures:
    """Publish at a rate."""
    alerts, deliveries = round(rate * seconds), server.deliveries
    deliveries.delays_ns.clear()
    deliveries.count = 0
    gc.collect()
    gc.disable()
    began_s, cpu_before_s = time.perf_counter(), cpu_s(server.pid)
    for number in range(alerts):
        await asyncio.sleep(max(0.0, began_s + number / rate - time.perf_counter()))
        await server.publish(stamped_alert(number))
    async with asyncio.timeout(30):
        while deliveries.count < alerts * subscribers:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    used_s = cpu_s(server.pid) - cpu_before_s
    gc.enable()
    assert deliveries.count == alerts * subscribers, f"{deliveries.count} deliveries of {alerts * subscribers}"
    delays = sorted(deliveries.delays_ns)
    cpu_us = used_s / deliveries.count * 1e6
    return Figures(delays[len(delays) // 2] / 1e6, delays[len(delays) * 99 // 100] / 1e6, cpu_us)


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


@asynccontextmanager
async def bare_transports(subscribers: int) -> AsyncIterator[Server]:
    """The bound, with its subscribers."""
    port, deliveries = free_port(), Deliveries()
    command = [sys.executable, "-m", "bench", "live_api", "--bare", str(port)]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    lines = process.stdin
    assert lines and process.stdout
    try:
        await process.stdout.readline()
        connected = await subscribe(port, subscribers, deliveries)

        async def publish(alert: bytes) -> None:
            lines.write(alert + b"\n")

        yield Server(process.pid, publish, deliveries)
        _cut(connected)
    finally:
        lines.close()
        await process.wait()


@asynccontextmanager
async def live_api(bootstrap: str, port: int) -> AsyncIterator[Server]:
    """live_api, warm, without subscribers."""
    topics = Topics()
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

        server = Server(process.pid, publish, Deliveries())
        warm = await subscribe(port, 20, server.deliveries)
        await measured(server, subscribers=20, rate=40, seconds=1)
        _cut(warm)
        await asyncio.sleep(0.5)
        yield server
    finally:
        await producer.stop()
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 15)


async def bench(bootstrap: str, subscribers: int, stuck: int, rate: float, seconds: float, rounds: int) -> None:
    """Print every round, the medians, and which bounds hold."""
    port = free_port()
    ours: list[Figures] = []
    beside_stuck: list[Figures] = []
    bare: list[Figures] = []
    async with live_api(bootstrap, port) as server, bare_transports(subscribers) as bound:
        before_kb = resident_kb(server.pid)
        # Anew for each figure: these clients answer no ping, and are rightly cut after forty seconds.
        subscribed = await subscribe(port, subscribers, server.deliveries)

        async def figures(of: Server, name: str, found: list[Figures]) -> None:
            found.append(await measured(of, subscribers=subscribers, rate=rate, seconds=seconds))
            print(f"  {name:<18}{found[-1]}", flush=True)

        for number in range(rounds):
            if number:
                _cut(subscribed)
                subscribed = await subscribe(port, subscribers, server.deliveries)
            await figures(server, "live_api", ours)
            if not number:
                memory_kb = (resident_kb(server.pid) - before_kb) / subscribers
            await figures(bound, "bare transports", bare)
            behind = _metric(port, _BEHIND)
            stopped = await subscribe(port, stuck, Deliveries(), receive_buffer=4096)
            for subscriber in stopped:
                assert subscriber.transport
                subscriber.transport.pause_reading()
            # Until every buffer on the way to them is full.
            while _metric(port, _BEHIND) - behind < stuck:
                await measured(server, subscribers=subscribers, rate=rate, seconds=1)
            await figures(server, f"with {stuck} stuck", beside_stuck)
            _cut(stopped)
    typical, with_stuck, at_best = (
        Figures(*map(statistics.median, zip(*of, strict=True))) for of in (ours, beside_stuck, bare)
    )
    tell(
        (
            Figure("delay of a message, 99 %", typical.p99_ms, "ms", P99_MS),
            Figure("with stuck subscribers, 99 %", with_stuck.p99_ms, "ms", P99_MS),
            Figure("median that stuck subscribers add", with_stuck.p50_ms - typical.p50_ms, "ms", STUCK_P50_MS),
            Figure("CPU a delivery", typical.cpu_us, "us", CPU_RATIO * at_best.cpu_us, bare=at_best.cpu_us),
            Figure("memory a subscriber", memory_kb, "kB", SUBSCRIBER_KB),
        )
    )


def _cut(subscribers: list[Subscriber]) -> None:
    for subscriber in subscribers:
        assert subscriber.transport
        subscriber.transport.abort()


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
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="of each kind, in turns")
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
        uvloop.run(
            bench(broker.bootstrap_servers, asked.subscribers, asked.stuck, asked.rate, asked.seconds, asked.rounds)
        )


if __name__ == "__main__":
    main()
