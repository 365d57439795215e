"""Kafka is killed under load and comes back: nothing waits for it, memory is bounded, every span is accounted for."""

import threading
import time
from collections.abc import Callable

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from quickstart.apache_kafka import ApacheKafka
from tests.producer.conftest import read_spans
from tests.services import create_topic
from tracewatch import KafkaSpanExporter
from tracewatch.exporter import KafkaSpanProcessor
from tracewatch.settings import KafkaSettings, ProducerSettings

MAX_PENDING_BYTES = 50_000


def test_a_killed_kafka(crashable_kafka: ApacheKafka) -> None:
    create_topic(crashable_kafka.bootstrap_servers, "spans", 4, {})
    settings = ProducerSettings(
        kafka=KafkaSettings(crashable_kafka.bootstrap_servers), topic="spans", max_pending_bytes=MAX_PENDING_BYTES
    )
    exporter = KafkaSpanExporter(settings)
    provider = TracerProvider(resource=Resource({"service.name": "service"}), shutdown_on_exit=False)
    provider.add_span_processor(KafkaSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    made = 0
    slowest_s = 0.0

    def load(spans: int) -> None:
        nonlocal made, slowest_s
        for _ in range(spans):
            started = time.perf_counter()
            tracer.start_span("span", attributes={"number": made}).end()
            slowest_s = max(slowest_s, time.perf_counter() - started)
            made += 1
            time.sleep(0.002)

    load(400)
    assert provider.force_flush(10_000)
    delivered_before = exporter.counters.exported_spans_total
    assert delivered_before == made
    crashable_kafka.kill()
    load(1500)
    delivery = exporter._delivery
    assert delivery is not None
    assert 0 < delivery.pending.size_bytes <= MAX_PENDING_BYTES
    assert exporter.counters.dropped_spans_total > 0
    # No span's end waited for Kafka; the margin is the machine's.
    assert slowest_s < 1.0
    loading = threading.Thread(target=load, args=[800], daemon=True)
    loading.start()
    crashable_kafka.start()
    loading.join()
    wait_until(lambda: provider.force_flush(1_000), 30)
    load(200)
    assert provider.force_flush(10_000)
    counters = exporter.counters
    assert counters.exported_spans_total + counters.dropped_spans_total == made
    found = {
        each.span.span_id for each in read_spans(crashable_kafka.bootstrap_servers, "spans", 1, 20, until_idle=True)
    }
    assert len(found) == counters.exported_spans_total
    provider.shutdown()


def wait_until(is_so: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
