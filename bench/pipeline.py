"""The whole pipeline at ten thousand spans a second: from an error to a WebSocket client, from a root to Postgres.

    python -m bench pipeline [--spans-per-s 10000] [--alerts 200]

Apache Kafka, PostgreSQL, stream, sink and live_api as the demo starts them, and what makes the load, on one machine. A
service with the SDK ends a failed span ten times a second; the rest are traces of ten spans that Kafka gets as records
of a hundred. Every tenth of a second one of these traces is looked for in the history until it is there. Bounds: an
error is heard of within 100 ms (median) and 300 ms (99 %), a trace can be read 4 s after its root's end (99 %).
"""

import argparse
import asyncio
import time

import psycopg
from aiokafka import AIOKafkaProducer

from bench.deployment import PARTITIONS, Deployment, deployment
from bench.end_to_end import measured, provider_for
from bench.figures import Figure, tell
from quickstart.delays import Delays
from tests.stream.workload import load
from tracecore.topics import Topics

SPANS_PER_TRACE = 10
TRACES_PER_RECORD = 10
LOOK_EVERY_S = 0.1
#: Load before the first error: code is warm, and the first traces have closed.
WARM_UP_S = 8.0
#: Traces may be this much later than the last of the load.
PATIENCE_S = 20.0


def main() -> None:
    """Print the figures; exits with 1 if a bound is broken, or an alert or trace did not come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans-per-s", type=float, default=10_000)
    parser.add_argument("--alerts", type=int, default=200)
    options = parser.parse_args()
    with deployment("apache", {}) as rooms:
        for room in ("stream", "sink"):
            rooms.start(room)
        live_port = rooms.start("live_api")
        holds = asyncio.run(_measure(rooms, live_port, options.spans_per_s, options.alerts))
    if not holds:
        raise SystemExit(1)


async def _measure(rooms: Deployment, live_port: int, spans_per_s: float, alerts: int) -> bool:
    provider = provider_for(rooms.bootstrap_servers)
    async with AIOKafkaProducer(bootstrap_servers=rooms.bootstrap_servers, linger_ms=5) as producer:
        load = _Load(producer, spans_per_s)
        loading = asyncio.create_task(load())
        await asyncio.sleep(WARM_UP_S)
        history = _History(rooms.database)
        looking = asyncio.create_task(history.look_for(load))
        begun_s, before = time.monotonic(), rooms.cpu_s()
        heard = await measured(provider, live_port, alerts, spans_per_s=0)
        took_s = time.monotonic() - begun_s
        busy = {name: (now_s - before[name]) / took_s for name, now_s in rooms.cpu_s().items()}
        load.is_over = True
        await loading
        await asyncio.wait_for(looking, PATIENCE_S)
    await asyncio.to_thread(provider.shutdown)
    print(f"{len(heard.delays)} of {alerts} errors reached the WebSocket, beside {load.rate:,.0f} spans a second")
    print("busy, of a core: " + ", ".join(f"{name} {share:.0%}" for name, share in busy.items()))
    delays = history.delays
    return (
        tell(
            (
                Figure("span end to WebSocket, median", heard.delays.quantile_ns(0.5) / 1e6, "ms", 100),
                Figure("span end to WebSocket, 99 %", heard.delays.quantile_ns(0.99) / 1e6, "ms", 300),
                Figure("trace can be read after its root's end, 99 %", delays.quantile_ns(0.99) / 1e9, "s", 4),
            )
        )
        and len(heard.delays) == alerts
    )


class _Load:
    """Records at an even rate; what a late turn left out is made up for."""

    def __init__(self, producer: AIOKafkaProducer, spans_per_s: float) -> None:
        self._producer = producer
        self._spans_per_s = spans_per_s
        self._begun_s = time.monotonic()
        self._spans = 0
        self.is_over = False
        #: Spans a second, once it is over.
        self.rate = 0.0
        #: Of a trace of the last record its id, and when its root ended.
        self.last: tuple[bytes, int] | None = None

    async def __call__(self) -> None:
        number = 0
        while not self.is_over:
            ahead_s = self._begun_s + self._spans / self._spans_per_s - time.monotonic()
            if ahead_s > 0.002:
                await asyncio.sleep(ahead_s)
            now_ns = time.time_ns()
            # Roots last for 50 ms, and end as they are sent.
            work = load(
                traces=TRACES_PER_RECORD, spans_per_trace=SPANS_PER_TRACE, partitions=1, seed=number,
                start_ns=now_ns - 50_000_000,
            )  # fmt: skip
            for _, value in work.records:
                await self._producer.send(Topics().spans, value, partition=number % PARTITIONS)
            self.last = next(iter(work.spans_of)), now_ns
            number += 1
            self._spans += TRACES_PER_RECORD * SPANS_PER_TRACE
        self.rate = self._spans / (time.monotonic() - self._begun_s)


class _History:
    """Who looks for traces in the history until they are there."""

    def __init__(self, database: str) -> None:
        self._database = database
        self.delays = Delays()

    async def look_for(self, load: _Load) -> None:
        """For one of the load's traces every tenth of a second; ends when the load is over and all were found."""
        waiting: dict[bytes, int] = {}
        async with await psycopg.AsyncConnection.connect(self._database, autocommit=True) as connection:
            while waiting or not load.is_over:
                if load.last is not None and not load.is_over:
                    trace_id, ended_ns = load.last
                    waiting.setdefault(trace_id, ended_ns)
                await asyncio.sleep(LOOK_EVERY_S)
                cursor = await connection.execute(
                    "SELECT trace_id FROM traces WHERE trace_id = ANY(%s)", (list(waiting),)
                )
                now_ns = time.time_ns()
                for (trace_id,) in await cursor.fetchall():
                    self.delays.observe(now_ns - waiting.pop(trace_id))


if __name__ == "__main__":
    main()
