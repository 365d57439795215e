"""Spans reach Kafka: in their partitions, soon, from forks and dying processes. A Kafka that is away costs nothing."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import StatusCode

from tests.producer.conftest import ROOT, Delivered, service_environment
from tests.services import KafkaServer
from tracewatch import KafkaSpanExporter
from tracewatch.exporter import KafkaSpanProcessor
from tracewatch.partitioning import partition_of
from tracewatch.settings import KafkaSettings, ProducerSettings

Read = Callable[..., list[Delivered]]


class Service:
    """A provider with our exporter, as configure makes it."""

    def __init__(self, bootstrap_servers: str, topic: str = "spans", **settings: Any) -> None:
        self.exporter = KafkaSpanExporter(
            ProducerSettings(kafka=KafkaSettings(bootstrap_servers), topic=topic, **settings)
        )
        self.provider = TracerProvider(resource=Resource({"service.name": "service"}), shutdown_on_exit=False)
        self.provider.add_span_processor(KafkaSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")


@pytest.fixture
def service(kafka: KafkaServer, make_topic: Callable[..., str]) -> Any:
    service = Service(kafka.bootstrap_servers, make_topic("spans", partitions=4))
    yield service
    service.provider.shutdown()


@pytest.fixture
def nowhere() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_each_span_is_in_its_traces_partition_and_a_batch_is_a_record_for_each(
    service: Service, delivered: Read
) -> None:
    for number in range(40):
        with service.tracer.start_as_current_span(f"root {number}"), service.tracer.start_as_current_span("child"):
            pass
    assert service.provider.force_flush(10_000)
    found = delivered(service.exporter.settings.topic, 80)
    assert len(found) == 80
    for each in found:
        assert each.partition == partition_of(int.from_bytes(each.span.trace_id, "big"), 4)
        assert each.service == "service"
    records = {(each.partition, each.offset) for each in found}
    assert len(records) == service.exporter.counters.exported_records_total
    assert service.exporter.counters.exported_spans_total == 80
    assert len(records) <= 12


@pytest.mark.parametrize("ending", ["local root", "error"])
def test_a_root_and_an_error_do_not_wait_for_the_linger(
    kafka: KafkaServer, make_topic: Callable[..., str], delivered: Read, ending: str
) -> None:
    service = Service(kafka.bootstrap_servers, make_topic("spans"), linger_ms=60_000)
    try:
        if ending == "local root":
            service.tracer.start_span("root").end()
        else:
            with service.tracer.start_as_current_span("root"):
                child = service.tracer.start_span("child")
                child.set_status(StatusCode.ERROR)
                child.end()
        assert delivered(service.exporter.settings.topic, 1)
    finally:
        service.provider.shutdown()


def test_other_spans_wait_for_the_linger(service: Service, delivered: Read) -> None:
    with service.tracer.start_as_current_span("root"):
        service.tracer.start_span("child").end()
        assert delivered(service.exporter.settings.topic, 1)[0].span.name == "child"


def test_a_busy_service_flushes_early_at_most_once_an_interval(
    kafka: KafkaServer, make_topic: Callable[..., str]
) -> None:
    service = Service(kafka.bootstrap_servers, make_topic("spans"), early_flush_interval_ms=500)
    started = time.monotonic()
    while time.monotonic() - started < 1.1:
        service.tracer.start_span("root").end()
        time.sleep(0.005)
    assert service.exporter.counters.exported_records_total <= 4
    service.provider.shutdown()


def test_spans_of_more_than_a_record_travel_in_parts(service: Service, delivered: Read) -> None:
    with service.tracer.start_as_current_span("root"):
        for number in range(5):
            service.tracer.start_span("large", attributes={"n": number, "text": str(number) * 400_000}).end()
    assert service.provider.force_flush(10_000)
    found = delivered(service.exporter.settings.topic, 6)
    assert len({each.offset for each in found}) >= 3
    assert all(len(a.value.string_value) in (0, 400_000) for each in found for a in each.span.attributes)


def test_a_span_of_more_than_a_record_is_cut_to_fit(service: Service, delivered: Read) -> None:
    attributes = {"huge": "x" * 3_000_000, "small": "kept", "list": ["y" * 1000] * 3000}
    service.tracer.start_span("root", attributes=attributes).end()
    assert service.provider.force_flush(10_000)
    (found,) = delivered(service.exporter.settings.topic, 1)
    texts = {a.key: a.value.string_value for a in found.span.attributes}
    assert texts["small"] == "kept"
    assert 64 <= len(texts["huge"]) < 1_000_000
    assert service.exporter.counters.shortened_spans_total == 1


def test_a_topic_that_takes_less_than_kafkas_default_gets_smaller_records(
    apache_kafka: KafkaServer, make_topic: Callable[..., str], delivered: Read
) -> None:
    topic = make_topic("spans", config={"max.message.bytes": "20000"})
    service = Service(apache_kafka.bootstrap_servers, topic)
    with service.tracer.start_as_current_span("root"):
        for number in range(100):
            service.tracer.start_span("span", attributes={"n": number, "text": "x" * 1000}).end()
        service.tracer.start_span("too large alone", attributes={"text": "x" * 30_000}).end()
    assert service.provider.force_flush(20_000)
    found = delivered(topic, 101)
    assert sorted(each.span.name for each in found) == ["root"] + ["span"] * 100
    counters = service.exporter.counters
    assert (counters.exported_spans_total, counters.dropped_spans_total) == (101, 1)
    service.provider.shutdown()


def test_a_resource_of_more_than_a_record_does_not_stop_the_spans(
    kafka: KafkaServer, make_topic: Callable[..., str], delivered: Read
) -> None:
    service = Service(kafka.bootstrap_servers, make_topic("spans"))
    attributes = {"service.name": "large", "command": "x" * 2_000_000}
    provider = TracerProvider(resource=Resource(attributes), shutdown_on_exit=False)
    provider.add_span_processor(KafkaSpanProcessor(service.exporter))
    provider.get_tracer("t").start_span("span", attributes={"text": "y" * 900_000}).end()
    assert provider.force_flush(10_000)
    (found,) = delivered(service.exporter.settings.topic, 1)
    assert (found.service, found.span.name) == ("large", "span")
    provider.shutdown()


def test_a_span_that_does_not_fit_even_when_cut_is_dropped_and_counted(service: Service, delivered: Read) -> None:
    nested = [[["z" * 64] * 64] * 64] * 8
    service.provider.get_tracer("t").start_span("nested", attributes={"nested": nested}).end()
    service.tracer.start_span("after").end()
    assert service.provider.force_flush(30_000)
    assert [each.span.name for each in delivered(service.exporter.settings.topic, 1)] == ["after"]
    assert service.exporter.counters.dropped_spans_total == 1


def test_odd_values_never_break_the_service(
    service: Service, delivered: Read, caplog: pytest.LogCaptureFixture
) -> None:
    class Hostile(str):
        def encode(self, *_: object, **__: object) -> bytes:
            raise RuntimeError("hostile")

    caplog.set_level(logging.ERROR, "opentelemetry")
    odd: Any = {1: "one", "nan": float("nan"), "lone": "\ud800", "big": 10**30, None: 1, "object": object(), "": "x"}
    service.tracer.start_span("odd", attributes=odd).end()
    many = service.tracer.start_span("many")
    many.set_attributes({f"key{number}": number for number in range(1000)})
    many.end()
    service.tracer.start_span("hostile", attributes={"text": Hostile("x" * 3)}).end()
    service.tracer.start_span("after").end()
    assert service.provider.force_flush(10_000)
    spans = {each.span.name: each.span for each in delivered(service.exporter.settings.topic, 3)}
    assert set(spans) >= {"odd", "many", "after"}
    assert len(spans["many"].attributes) == 128
    assert spans["many"].dropped_attributes_count == 872


def test_a_full_queue_drops_and_counts(nowhere: str, caplog: pytest.LogCaptureFixture) -> None:
    service = Service(nowhere, max_queue_spans=100, max_pending_bytes=20_000, flush_timeout_s=0.1)
    for _ in range(5000):
        service.tracer.start_span("span").end()
    assert not service.provider.force_flush(300)
    counters = service.exporter.counters
    assert counters.dropped_spans_total > 4000
    service.provider.shutdown()
    assert counters.dropped_spans_total == 5000
    assert counters.exported_spans_total == 0
    assert any("were not delivered before the end" in message for message in caplog.messages)


def test_what_is_no_ended_span_is_dropped_and_counted(nowhere: str) -> None:
    service = Service(nowhere, flush_timeout_s=0.1)
    exporter = service.exporter
    assert exporter.export([ReadableSpan("no context", resource=Resource.get_empty())]).name == "FAILURE"
    assert exporter.counters.dropped_spans_total == 1
    service.provider.shutdown()
    assert exporter.counters.dropped_spans_total == 1


def test_ending_a_span_does_not_wait_for_an_absent_kafka(nowhere: str) -> None:
    service = Service(nowhere, flush_timeout_s=0.1)
    started = time.perf_counter()
    for _ in range(1000):
        service.tracer.start_span("span").end()
    assert time.perf_counter() - started < 2.0
    service.provider.shutdown()


def test_after_shutdown_nothing_is_taken_and_nothing_breaks(service: Service) -> None:
    service.tracer.start_span("span").end()
    service.provider.shutdown()
    service.tracer.start_span("late").end()
    assert service.exporter.export([]).name == "FAILURE"
    assert service.exporter.force_flush(100)
    assert service.exporter.counters.dropped_spans_total == 1


def test_it_works_behind_opentelemetrys_batch_processor(service: Service, delivered: Read) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = KafkaSpanExporter(service.exporter.settings)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    provider.get_tracer("t").start_span("batched").end()
    provider.shutdown()
    assert delivered(service.exporter.settings.topic, 1)[0].span.name == "batched"


def test_spans_outlive_a_kafka_that_comes_late(
    delivered: Read, kafka: KafkaServer, make_topic: Callable[..., str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    service = Service(f"127.0.0.1:{port}", make_topic("spans"), flush_timeout_s=15)
    service.tracer.start_span("early").end()
    assert not service.provider.force_flush(300)
    with Forwarder(port, kafka.bootstrap_servers):
        assert service.provider.force_flush(15_000)
    assert delivered(service.exporter.settings.topic, 1)[0].span.name == "early"
    assert service.exporter.counters.delivery_failures_total >= 1
    service.provider.shutdown()


class Forwarder:
    """Forwards a local port to a broker: a Kafka that comes when it is told to."""

    def __init__(self, port: int, target: str) -> None:
        self._code = (
            "import asyncio, sys\n"
            "host, port = sys.argv[2].split(':')\n"
            "async def pipe(r, w):\n"
            "    while data := await r.read(65536): w.write(data); await w.drain()\n"
            "    w.close()\n"
            "async def serve(r, w):\n"
            "    br, bw = await asyncio.open_connection(host, int(port))\n"
            "    await asyncio.gather(pipe(r, bw), pipe(br, w))\n"
            "async def main():\n"
            "    async with await asyncio.start_server(serve, '127.0.0.1', int(sys.argv[1])) as s:\n"
            "        await s.serve_forever()\n"
            "asyncio.run(main())\n"
        )
        self._arguments = [str(port), target.split(",")[0]]

    def __enter__(self) -> "Forwarder":
        self._process = subprocess.Popen(
            [sys.executable, "-c", self._code, *self._arguments], stderr=subprocess.DEVNULL
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


SCRIPT = """
import tracewatch
from opentelemetry import trace
tracewatch.configure(service_name="script")
tracer = trace.get_tracer("t")
"""


def test_a_script_that_ends_at_once_delivers(run_service: Any, make_topic: Callable[..., str], delivered: Read) -> None:
    topic = make_topic("spans")
    outcome = run_service(SCRIPT + "tracer.start_span('last words').end()", topic)
    assert delivered(topic, 1)[0].span.name == "last words"
    assert outcome.stderr == ""


def test_a_name_is_resolved_while_the_interpreter_ends(
    run_service: Any, kafka: KafkaServer, make_topic: Callable[..., str], delivered: Read
) -> None:
    topic = make_topic("spans")
    port = kafka.bootstrap_servers.split(",")[0].rpartition(":")[2]
    code = SCRIPT + "import atexit; atexit.register(lambda: tracer.start_span('at exit').end())\n"
    # Registered after the SDK's own exit handler, it runs before: the thread starts and connects only then.
    run_service(code, topic, {"TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": f"localhost:{port}"})
    assert delivered(topic, 1)[0].span.name == "at exit"


def test_an_error_that_sampling_passed_over_is_delivered_where_asked(
    run_service: Any, make_topic: Callable[..., str], delivered: Read
) -> None:
    topic = make_topic("spans")
    run_service(
        """
import tracewatch
from tracewatch.sampling import Ratio, parent_based
tracewatch.configure("sampled", sampler=parent_based(Ratio(0.0)), keep_errors=True)

@tracewatch.trace_function(name="fine")
def fine(): ...

@tracewatch.trace_function(name="fails")
def fails():
    fine()
    raise ValueError

fine()
try:
    fails()
except ValueError:
    pass
""",
        topic,
    )
    found = {each.span.name: each.span for each in delivered(topic, 2)}
    assert found["fine"].parent_span_id == found["fails"].span_id


def test_forked_workers_each_deliver_their_own(
    run_service: Any, make_topic: Callable[..., str], delivered: Read
) -> None:
    topic = make_topic("spans", partitions=2)
    run_service(
        SCRIPT
        + """
import os, sys
tracer.start_span("parent before").end()
tracewatch.flush()
tracer.start_span("parent queued").end()
children = []
for number in range(3):
    pid = os.fork()
    if pid == 0:
        tracer.start_span(f"child {number}").end()
        sys.exit()
    children.append(pid)
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
tracer.start_span("parent after").end()
""",
        topic,
    )
    names = sorted(each.span.name for each in delivered(topic, 6))
    assert names == ["child 0", "child 1", "child 2", "parent after", "parent before", "parent queued"]


@pytest.mark.parametrize("handler", ["", "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"])
def test_sigterm_flushes(kafka: KafkaServer, make_topic: Callable[..., str], delivered: Read, handler: str) -> None:
    topic = make_topic("spans")
    code = (
        "import sys\n" + handler + SCRIPT + "tracer.start_span('before the end').end()\n"
        "print('ready', flush=True)\nimport time\nwhile True: time.sleep(0.1)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=service_environment(kafka.bootstrap_servers, topic) | {"TRACEWATCH_PRODUCER_EARLY_FLUSH_INTERVAL_MS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(15) == (0 if handler else -signal.SIGTERM)
    assert delivered(topic, 1)[0].span.name == "before the end"


INSTRUMENTED_SERVICE = """
from flask import Flask
from opentelemetry import trace

app = Flask("service")

@app.get("/items/<int:number>")
def item(number):
    with trace.get_tracer("t").start_as_current_span("inside"):
        return str(number)

assert app.test_client().get("/items/7").data == b"7"
"""


def test_opentelemetry_instrument_finds_the_exporter_by_its_name(
    kafka: KafkaServer, make_topic: Callable[..., str], delivered: Read, tmp_path: Any
) -> None:
    topic = make_topic("spans")
    script = tmp_path / "service.py"
    script.write_text(INSTRUMENTED_SERVICE)
    outcome = subprocess.run(
        [Path(sys.executable).parent / "opentelemetry-instrument", sys.executable, str(script)],
        env=service_environment(kafka.bootstrap_servers, topic)
        | {
            "OTEL_TRACES_EXPORTER": "tracewatch",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_PROPAGATORS": "tracewatch",
            "OTEL_SERVICE_NAME": "auto",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    found = {each.span.name: each for each in delivered(topic, 2)}
    assert {each.service for each in found.values()} == {"auto"}
    # What OpenTelemetry's Flask package emits, and the service's own span inside it.
    assert found["inside"].span.parent_span_id == found["GET /items/<int:number>"].span.span_id
