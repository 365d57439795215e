"""How long an error takes from the end of its span to an alert on the topic, at 5 000 spans a second.

    python -m bench alert_delay [--alerts 300] [--spans-per-s 5000]

Apache Kafka, one stream worker. A service with the SDK and its defaults ends a failed span of a new operation ten times
a second, so each fires an alert of its own; two more services send the load. Bounds: median 150 ms, 99 % 500 ms.
"""

import argparse
import asyncio
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaConsumer
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, Status, StatusCode

from bench.figures import Figure, tell
from quickstart.apache_kafka import ApacheKafka
from quickstart.delays import Delays
from quickstart.process import ManagedProcess, free_port
from quickstart.program import ROOT, PythonModule, http_answers
from tracecore.topics import Topics
from tracecore.wire import decode_alert
from tracewatch import KafkaSpanExporter
from tracewatch.exporter import KafkaSpanProcessor
from tracewatch.settings import KafkaSettings, ProducerSettings

MEDIAN_BOUND_NS: Final = 150_000_000
P99_BOUND_NS: Final = 500_000_000
ERRORS_PER_S: Final = 10.0
LOAD_SERVICES: Final = 2
SPANS_PER_TRACE: Final = 5
#: Seconds of load that the worker has taken before the first error: it reads, and code is warm.
WARM_UP_S: Final = 4.0
WARM_UP_TIMEOUT_S: Final = 120.0
#: Alerts may be this much later than the last span.
PATIENCE_S: Final = 15.0


def main() -> None:
    """Print the figures; exits with 1 if a bound is broken or an alert did not come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alerts", type=int, default=300)
    parser.add_argument("--spans-per-s", type=float, default=5000.0)
    parser.add_argument("--load", metavar="SERVERS", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        _load(arguments.load, arguments.spans_per_s)
        return
    with ExitStack() as stack:
        run_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tracewatch-bench-")))
        servers = stack.enter_context(ApacheKafka(log_path=run_dir / "broker.log")).bootstrap_servers
        kafka = {"TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": servers, "TRACEWATCH_KAFKA_PARTITIONS": "4"}
        port = free_port()
        environment = {**kafka, "TRACEWATCH_STREAM_PORT": str(port)}
        is_ready = http_answers(f"http://127.0.0.1:{port}/healthz")
        stack.enter_context(PythonModule("stream", environment=environment, is_ready=is_ready, run_dir=run_dir))
        for number in range(LOAD_SERVICES):
            load = ManagedProcess(
                f"load {number}",
                [
                    *(sys.executable, "-m", "bench.alert_delay", "--load", servers),
                    *("--spans-per-s", str(arguments.spans_per_s / LOAD_SERVICES)),
                ],
                log_path=run_dir / f"load-{number}.log",
                env={"PYTHONUNBUFFERED": "1"},
                cwd=ROOT,
            )
            stack.callback(load.kill)
            load.start()
        delays, spans_per_s = asyncio.run(_measured(servers, port, arguments))
    if not len(delays):
        raise SystemExit("no error became an alert")
    median, p99 = delays.quantile_ns(0.5), delays.quantile_ns(0.99)
    print(f"{len(delays)} of {arguments.alerts} errors became alerts, beside {spans_per_s:,.0f} spans a second")
    holds = tell(
        (
            Figure("span end to alert on the topic, median", median / 1e6, "ms", MEDIAN_BOUND_NS / 1e6),
            Figure("span end to alert on the topic, 99 %", p99 / 1e6, "ms", P99_BOUND_NS / 1e6),
        )
    )
    if len(delays) < arguments.alerts or not holds:
        raise SystemExit(1)


async def _measured(servers: str, port: int, arguments: argparse.Namespace) -> tuple[Delays, float]:
    """Delays until a consumer read the alert; and how many spans a second the worker took meanwhile."""
    topics, count = Topics(), arguments.alerts
    provider = _provider(servers, "bench")
    ended_ns: dict[str, int] = {}
    delays = Delays()
    consumer = AIOKafkaConsumer(topics.alerts, bootstrap_servers=servers, auto_offset_reset="earliest")
    await consumer.start()

    async def receive() -> None:
        async for record in consumer:
            operation = decode_alert(record.value).labels["operation"]
            if operation in ended_ns:
                delays.observe(time.time_ns() - ended_ns.pop(operation))
                if len(delays) == count:
                    return

    receiving = asyncio.create_task(receive())
    deadline = time.monotonic() + WARM_UP_TIMEOUT_S
    while await asyncio.to_thread(_spans, port) < WARM_UP_S * arguments.spans_per_s:
        assert time.monotonic() < deadline, "the worker does not take the load"
        await asyncio.sleep(0.5)
    tracer = provider.get_tracer("bench")
    begun_s, before = time.monotonic(), await asyncio.to_thread(_spans, port)
    for number in range(count):
        span = tracer.start_span(f"fails {number}", kind=SpanKind.SERVER, attributes={"error.type": "BenchError"})
        span.set_status(Status(StatusCode.ERROR, "on purpose"))
        ended_ns[f"fails {number}"] = now_ns = time.time_ns()
        span.end(now_ns)
        await asyncio.sleep(1 / ERRORS_PER_S)
    spans_per_s = (await asyncio.to_thread(_spans, port) - before) / (time.monotonic() - begun_s)
    with suppress(TimeoutError):
        await asyncio.wait_for(receiving, PATIENCE_S)
    await consumer.stop()
    provider.shutdown()
    return delays, spans_per_s


def _spans(port: int) -> float:
    """Spans that the worker has assembled."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("tracewatch_stream_spans_total "))


def _load(servers: str, spans_per_s: float) -> None:
    """Ordinary traces, evenly, for ever: what a late turn left out is made up for."""
    tracer = _provider(servers, "load").get_tracer("load")
    begun_s, spans = time.monotonic(), 0
    while True:
        while spans < (time.monotonic() - begun_s) * spans_per_s:
            with tracer.start_as_current_span("GET /", kind=SpanKind.SERVER):
                for number in range(SPANS_PER_TRACE - 1):
                    tracer.start_span(f"step {number}").end()
            spans += SPANS_PER_TRACE
        time.sleep(0.002)


def _provider(servers: str, service: str) -> TracerProvider:
    """A service's SDK with our exporter, and nothing set but where Kafka is."""
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    settings = ProducerSettings(kafka=KafkaSettings(bootstrap_servers=servers))
    provider.add_span_processor(KafkaSpanProcessor(KafkaSpanExporter(settings)))
    return provider


if __name__ == "__main__":
    main()
