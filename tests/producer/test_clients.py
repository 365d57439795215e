"""Outgoing calls and Kafka messages carry the trace."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import aiokafka
import pytest
from aiokafka.errors import MessageSizeTooLargeError
from opentelemetry import trace

from tests.producer.conftest import ROOT, Delivered, Recording, service_environment
from tests.services import KafkaServer
from tracewatch import message_span, messaging

HTTP_CALLS = """
import asyncio, json, sys
import aiohttp, httpx, requests
import tracewatch
from opentelemetry import baggage, context, trace
tracewatch.configure("caller")
for _ in range(2):  # calling again changes nothing
    tracewatch.instrument_requests()
    tracewatch.instrument_httpx()
    tracewatch.instrument_aiohttp_client()
url = sys.argv[1]

async def call():
    async with httpx.AsyncClient() as client:
        await client.get(url)
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            await response.read()

context.attach(baggage.set_baggage("tier", "gold"))
with trace.get_tracer("t").start_as_current_span("caller") as span:
    requests.get(url)
    httpx.get(url)
    asyncio.run(call())
    print(f"{span.get_span_context().trace_id:032x}")
"""


@pytest.fixture
def seen_headers() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server's URL and the headers of every request that it got."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", seen
        server.shutdown()
        thread.join()


def test_every_http_client_carries_the_trace(
    kafka: KafkaServer, make_topic: Callable[..., str], delivered: Callable[..., list[Delivered]], seen_headers: Any
) -> None:
    url, seen = seen_headers
    topic = make_topic("spans")
    outcome = subprocess.run(
        [sys.executable, "-c", HTTP_CALLS, url],
        cwd=ROOT,
        env=service_environment(kafka.bootstrap_servers, topic),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    trace_id = outcome.stdout.strip()
    spans = {each.span.span_id.hex(): each.span for each in delivered(topic, 5)}
    (caller,) = [span for span in spans.values() if span.name == "caller"]
    assert len(spans) == 5
    assert len(seen) == 4
    for headers in seen:
        version, seen_trace, span_id, flags = headers["traceparent"].split("-")
        assert (version, seen_trace, flags) == ("00", trace_id, "03")
        assert (headers["x-trace-id"], headers["x-span-id"]) == (trace_id, span_id)
        assert headers["baggage"] == "tier=gold"
        client = spans[span_id]
        assert (client.kind, client.parent_span_id) == (3, caller.span_id)
        assert {a.key for a in client.attributes} >= {"http.request.method", "url.full", "server.address"}


@pytest.fixture
def instrumented_aiokafka(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messaging, "tracer", lambda: recording.provider.get_tracer("t"))
    for owner, name in (
        (aiokafka.AIOKafkaProducer, "send"),
        (aiokafka.AIOKafkaConsumer, "getone"),
        (aiokafka.AIOKafkaConsumer, "stop"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    messaging.instrument_aiokafka()
    messaging.instrument_aiokafka()


@pytest.mark.usefixtures("instrumented_aiokafka")
async def test_a_kafka_message_carries_the_trace_into_the_loop_that_reads_it(
    kafka: KafkaServer, make_topic: Callable[..., str], recording: Recording
) -> None:
    topic = make_topic("orders")
    tracer = recording.provider.get_tracer("t")
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    consumer = aiokafka.AIOKafkaConsumer(
        topic, bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest", fetch_max_wait_ms=100
    )
    await producer.start()
    await consumer.start()
    try:
        with tracer.start_as_current_span("request"):
            await producer.send_and_wait(topic, b"first", headers=[("own", b"header"), ("traceparent", b"stale")])
            await producer.send_and_wait(topic, b"second")
        read = []
        async for record in consumer:
            with tracer.start_as_current_span(f"work {record.value.decode()}"):
                read.append(dict(record.headers))
            if len(read) == 2:
                break
    finally:
        await consumer.stop()
        await producer.stop()
    assert read[0]["own"] == b"header"
    sends = [span for span in recording.spans if span.name == f"send {topic}"]
    processes = [span for span in recording.spans if span.name == f"process {topic}"]
    request = recording.named("request")
    for send, process, work in zip(sends, processes, ("work first", "work second"), strict=True):
        assert send.parent == request.context
        assert process.parent.span_id == send.context.span_id
        assert process.context.trace_id == request.context.trace_id
        assert recording.named(work).parent == process.context
        assert send.attributes["messaging.kafka.offset"] == process.attributes["messaging.kafka.offset"]
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.usefixtures("instrumented_aiokafka")
async def test_a_message_that_cannot_be_sent_is_an_error(
    recording: Recording, kafka: KafkaServer, make_topic: Callable[..., str]
) -> None:
    topic = make_topic("orders")
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, max_request_size=100)
    await producer.start()
    try:
        with pytest.raises(MessageSizeTooLargeError):
            await producer.send(topic, b"x" * 1000)
    finally:
        await producer.stop()
    assert recording.spans[0].attributes["error.type"] == "aiokafka.errors.MessageSizeTooLargeError"


def test_one_message_of_a_batch_has_its_own_span(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messaging, "tracer", lambda: recording.provider.get_tracer("t"))

    class Record:
        topic, partition, offset = "orders", 0, 7
        headers = (("traceparent", f"00-{'a' * 32}-{'b' * 16}-01".encode()), ("odd", None), ("odd", b"\xff"))

    with pytest.raises(ValueError, match="bad"), message_span(Record()):
        raise ValueError("bad order")
    (span,) = recording.spans
    assert f"{span.context.trace_id:032x}" == "a" * 32
    assert span.attributes["error.type"] == "ValueError"


def test_services_of_one_process_keep_their_names(
    kafka: KafkaServer, make_topic: Callable[..., str], delivered: Callable[..., list[Delivered]], run_service: Any
) -> None:
    topic = make_topic("spans")
    run_service(
        "import tracewatch\n"
        "@tracewatch.trace_function(name='mine')\n"
        "def mine(): theirs()\n"
        "@tracewatch.trace_function(name='theirs', service='other')\n"
        "def theirs(): pass\n"
        "provider = tracewatch.configure('main', resource_attributes={'deployment.environment.name': 'test'})\n"
        "assert tracewatch.configure('ignored') is provider\n"
        "mine()\n",
        topic,
    )
    assert {each.span.name: each.service for each in delivered(topic, 2)} == {"mine": "main", "theirs": "other"}
