"""How long an error takes from the end of its span to a WebSocket client, through real processes.

    python -m bench end_to_end [--broker apache|embedded] [--alerts 200] [--spans-per-s 200]

A service (the SDK with our exporter, in this process) ends a failed span of a new operation ten times a second, so each
fires an alert of its own, beside a load of ordinary spans. The bound is 1 s for the 99th percentile on Apache Kafka.
"""

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, Status, StatusCode

from bench.figures import Figure, tell
from quickstart.apache_kafka import ApacheKafka
from quickstart.delays import Delays
from quickstart.embedded_broker import EmbeddedBroker
from quickstart.feed import alerts
from quickstart.process import free_port
from quickstart.program import PythonModule, http_answers
from tracewatch import KafkaSpanExporter
from tracewatch.exporter import KafkaSpanProcessor
from tracewatch.settings import KafkaSettings, ProducerSettings

#: A person is promised a second; these are what is left of it for networks and busier machines.
MEDIAN_BOUND_NS: Final = 100_000_000
P99_BOUND_NS: Final = 300_000_000
ERRORS_PER_S: Final = 10.0
#: Alerts may be this much later than the last span.
PATIENCE_S: Final = 15.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=("apache", "embedded"), default="apache")
    parser.add_argument("--alerts", type=int, default=200)
    parser.add_argument("--spans-per-s", type=float, default=200.0)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        run_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tracewatch-bench-")))
        broker_kind = ApacheKafka if arguments.broker == "apache" else EmbeddedBroker
        broker = stack.enter_context(broker_kind(log_path=run_dir / "broker.log"))
        live_port = _started_rooms(stack, broker.bootstrap_servers, run_dir)
        provider = provider_for(broker.bootstrap_servers)
        stack.callback(provider.shutdown)
        delays = asyncio.run(measured(provider, live_port, arguments.alerts, arguments.spans_per_s)).delays
    print(f"{broker_kind.title}: {len(delays)} of {arguments.alerts} errors reached the WebSocket")
    median, p99 = delays.quantile_ns(0.5), delays.quantile_ns(0.99)
    holds = tell(
        (
            Figure("span end to WebSocket, median", median / 1e6, "ms", MEDIAN_BOUND_NS / 1e6),
            Figure("span end to WebSocket, 99 %", p99 / 1e6, "ms", P99_BOUND_NS / 1e6),
        )
    )
    if len(delays) < arguments.alerts or (arguments.broker == "apache" and not holds):
        raise SystemExit(1)


def _started_rooms(stack: ExitStack, bootstrap_servers: str, run_dir: Path) -> int:
    """Start stream and live_api; returns live_api's port."""
    kafka = {"TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers, "TRACEWATCH_KAFKA_PARTITIONS": "4"}
    stream_port, live_port = free_port(), free_port()
    for room, port, path in (("stream", stream_port, "healthz"), ("live_api", live_port, "readyz")):
        stack.enter_context(
            PythonModule(
                room,
                environment={**kafka, f"TRACEWATCH_{room.upper()}_PORT": str(port)},
                is_ready=http_answers(f"http://127.0.0.1:{port}/{path}"),
                run_dir=run_dir,
            )
        )
    return live_port


def provider_for(bootstrap_servers: str) -> TracerProvider:
    """A service's SDK with our exporter."""
    provider = TracerProvider(resource=Resource.create({"service.name": "bench"}))
    settings = ProducerSettings(kafka=KafkaSettings(bootstrap_servers=bootstrap_servers))
    provider.add_span_processor(KafkaSpanProcessor(KafkaSpanExporter(settings)))
    return provider


@dataclass(frozen=True, slots=True)
class Heard:
    """What a WebSocket client heard while a service failed: how late, and how often which alert began to fire."""

    delays: Delays
    alerts: Counter[tuple[str, str]]
    spans_per_s: float


async def measured(
    provider: TracerProvider, live_port: int, count: int, spans_per_s: float, name: str = "fails"
) -> Heard:
    """Let ``count`` operations called ``name`` and a number fail; wait until each was heard of, or for a while."""
    ended_ns: dict[str, int] = {}
    delays, heard = Delays(), Counter[tuple[str, str]]()

    async def receive() -> None:
        async for received in alerts(f"ws://127.0.0.1:{live_port}"):
            labels = received.alert["labels"]
            operation = labels["operation"]
            if received.alert["status"] == "firing":
                heard[labels["alertname"], labels["service"]] += 1
            if operation in ended_ns:
                delays.observe(time.time_ns() - ended_ns.pop(operation))
                if len(delays) == count:
                    return

    receiving = asyncio.create_task(receive())
    await asyncio.sleep(1)  # the client connects
    load = _Load(provider, spans_per_s)
    loading = asyncio.create_task(load())
    tracer = provider.get_tracer("bench")
    for number in range(count):
        span = tracer.start_span(f"{name} {number}", kind=SpanKind.SERVER, attributes={"error.type": "BenchError"})
        span.set_status(Status(StatusCode.ERROR, "on purpose"))
        now_ns = time.time_ns()
        ended_ns[f"{name} {number}"] = now_ns
        span.end(now_ns)
        await asyncio.sleep(1 / ERRORS_PER_S)
    rate = load.rate()
    with suppress(TimeoutError):
        await asyncio.wait_for(receiving, PATIENCE_S)
    loading.cancel()
    return Heard(delays, heard, rate)


class _Load:
    """Ordinary traces of four spans, as many a second as asked for: what a late turn left out is made up for."""

    def __init__(self, provider: TracerProvider, spans_per_s: float) -> None:
        self._tracer = provider.get_tracer("bench")
        self._spans_per_s = spans_per_s
        self._begun_s = time.monotonic()
        self._spans = 0

    async def __call__(self) -> None:
        while self._spans_per_s > 0:
            while self._spans < (time.monotonic() - self._begun_s) * self._spans_per_s:
                with self._tracer.start_as_current_span("GET /", kind=SpanKind.SERVER):
                    for name in ("parse", "compute", "render"):
                        self._tracer.start_span(name).end()
                self._spans += 4
            await asyncio.sleep(4 / self._spans_per_s)

    def rate(self) -> float:
        """Spans a second until now."""
        return self._spans / (time.monotonic() - self._begun_s)


if __name__ == "__main__":
    main()
