"""The main job, through real processes: a service's failed span becomes an alert on a WebSocket, rows, and a page."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, set_span_in_context
from playwright.sync_api import sync_playwright
from websockets.sync.client import ClientConnection, connect

from quickstart import plan
from quickstart.databases import Databases
from quickstart.process import free_port
from tests.conftest import environment_of
from tests.services import KafkaServer, PostgresServer
from tracecore.topics import Topics
from tracewatch import KafkaSpanExporter
from tracewatch.exporter import KafkaSpanProcessor
from tracewatch.settings import KafkaSettings, ProducerSettings

MILLISECOND_NS = 1_000_000
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@dataclass
class Deployment:
    """Every room, running, on one broker and one database."""

    live_url: str
    dashboard_url: str
    database_url: str
    exporter: KafkaSpanExporter

    def tracer(self, service: str) -> Tracer:
        """A tracer of a service that is instrumented with our exporter."""
        provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
        provider.add_span_processor(KafkaSpanProcessor(self.exporter))
        return provider.get_tracer("test")


@pytest.fixture(scope="module", params=["kafka", "embedded_kafka"])
def deployment(
    request: pytest.FixtureRequest,
    postgres: PostgresServer,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    """Once on the session's broker, Apache Kafka where it can be had, and once on the embedded one."""
    kafka: KafkaServer = request.getfixturevalue(request.param)
    if request.param == "kafka" and not kafka.is_apache:
        pytest.skip(f"the same as on the embedded broker: {kafka.why_not_apache}")
    name = f"end_to_end_{uuid4().hex[:8]}"
    topics = Topics(f"{name}.", f"{name}.otlp_spans")
    database = postgres.create_database(name, template=migrated_template)
    ports = {room: free_port() for room in ("stream", "sink", "live_api", "dashboard", "gateway")}
    stream, *others = plan.rooms(
        {**environment_of(kafka, topics), "TRACEWATCH_KAFKA_PARTITIONS": "2"},
        Databases(writer=database, reader=database, shop=""),
        ports,
        tmp_path_factory.mktemp(name),
    )
    settings = ProducerSettings(kafka=KafkaSettings(bootstrap_servers=kafka.bootstrap_servers), topic=topics.spans)
    exporter = KafkaSpanExporter(settings)
    try:
        stream.start()  # it makes the topics
        for room in others:
            room.process.start()
        for room in others:
            room.start()
        yield Deployment(
            live_url=f"ws://127.0.0.1:{ports['live_api']}",
            dashboard_url=f"http://127.0.0.1:{ports['dashboard']}",
            database_url=database,
            exporter=exporter,
        )
    finally:
        exporter.shutdown()
        for room in (stream, *others):
            room.process.ask_to_stop()
        for room in (stream, *others):
            room.close()
        postgres.drop_database(name)


def test_a_failed_span_reaches_a_websocket_client_the_history_and_a_page(deployment: Deployment) -> None:
    with connect(f"{deployment.live_url}/ws/alerts") as feed:
        trace_id = failed_checkout(deployment)
        sent_s = time.monotonic()
        alert = next_alert(feed, lambda alert: alert["labels"]["service"] == "payment")
        assert time.monotonic() - sent_s < 5
    assert alert["status"] == "firing"
    assert alert["labels"]["operation"] == "POST /charge"
    assert trace_id in alert["evidence"]["sample_trace_ids"]

    rows = stored_spans(deployment.database_url, trace_id, count=3)
    assert rows == [
        ("checkout", "POST /checkout", None, "error"),
        ("checkout", "POST", "POST /checkout", "error"),
        ("payment", "POST /charge", "POST", "error"),
    ]

    page = text_of_page(f"{deployment.dashboard_url}/traces?trace={trace_id}", waits_for="POST /charge")
    assert "payment" in page
    assert "checkout" in page


def test_spans_far_slower_than_ever_before_fire_an_alert_for_the_service_that_is_slow(deployment: Deployment) -> None:
    tracer = deployment.tracer("prices")

    def quote_took(duration_ms: float, number: int) -> None:
        end_ns = time.time_ns()
        span = tracer.start_span(
            "GET /quote", kind=SpanKind.SERVER, start_time=end_ns - round(duration_ms * MILLISECOND_NS)
        )
        span.set_attribute("number", number)
        span.end(end_ns)

    with connect(f"{deployment.live_url}/ws/alerts") as feed:
        for number in range(200):
            quote_took(10 + number % 5, number)
        deployment.exporter.force_flush()
        wait_for_traces(deployment.database_url, 200)
        for number in range(10):
            quote_took(2000, number)
        alert = next_alert(feed, lambda alert: alert["labels"]["service"] == "prices")
    assert alert["status"] == "firing"
    assert alert["labels"]["operation"] == "GET /quote"
    assert alert["evidence"]["observed"] > 10 * alert["evidence"]["baseline"]


def failed_checkout(deployment: Deployment) -> str:
    """A checkout whose payment fails: two services, three spans. Returns the trace id in hex."""
    checkout, payment = deployment.tracer("checkout"), deployment.tracer("payment")
    error = Status(StatusCode.ERROR, "card declined")
    root = checkout.start_span("POST /checkout", kind=SpanKind.SERVER)
    call = checkout.start_span("POST", kind=SpanKind.CLIENT, context=set_span_in_context(root))
    charge = payment.start_span("POST /charge", kind=SpanKind.SERVER, context=set_span_in_context(call))
    charge.set_attribute("error.type", "CardDeclined")
    for span in (charge, call, root):
        span.set_status(error)
        span.end()
    return f"{root.get_span_context().trace_id:032x}"


def next_alert(feed: ClientConnection, is_wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first alert of the feed that is wanted; fails after 30 s."""
    deadline = time.monotonic() + 30
    while True:
        message = json.loads(feed.recv(timeout=deadline - time.monotonic()))
        if message["type"] == "alert" and is_wanted(message["alert"]):
            alert: dict[str, Any] = message["alert"]
            return alert


def stored_spans(url: str, trace_id: str, count: int) -> list[tuple[Any, ...]]:
    """(service, operation, operation of the parent, status) of a trace, from the root down; fails after 30 s."""
    query = """
        SELECT span.service, span.operation, parent.operation, CASE span.status WHEN 2 THEN 'error' ELSE 'ok' END
        FROM service_traces AS span
        LEFT JOIN service_traces AS parent
            ON parent.trace_id = span.trace_id AND parent.span_id = span.tree_parent_id
        WHERE span.trace_id = decode(%s, 'hex') ORDER BY span.depth
    """
    return rows_once(url, query, (trace_id,), lambda rows: len(rows) >= count)


def wait_for_traces(url: str, count: int) -> None:
    rows_once(url, "SELECT count(*) FROM traces", (), lambda rows: rows[0][0] >= count)


def rows_once(
    url: str, query: str, parameters: tuple[Any, ...], are_there: Callable[[list[tuple[Any, ...]]], bool]
) -> list[tuple[Any, ...]]:
    deadline = time.monotonic() + 30
    with psycopg.connect(url, autocommit=True) as connection:
        while True:
            rows = connection.execute(query, parameters).fetchall()
            if are_there(rows):
                return rows
            assert time.monotonic() < deadline, f"after 30 s there is only {rows}"
            time.sleep(0.1)


def text_of_page(url: str, waits_for: str) -> str:
    """What a person reads on the page, in Chromium, once ``waits_for`` has appeared."""
    if BROWSER is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=arguments)
        try:
            page = browser.new_page(viewport={"width": 1400, "height": 1200})
            page.goto(url)
            page.get_by_text(waits_for).first.wait_for(timeout=60_000)
            return page.inner_text("body")
        finally:
            browser.close()
