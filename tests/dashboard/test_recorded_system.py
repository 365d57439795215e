"""A recorded system of thirty services, through Kafka, stream and sink into the pages: what a person finds there."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from playwright.sync_api import expect

from tests.dashboard.conftest import PATIENCE_MS, Dashboard, Viewer, running_dashboard
from tests.dashboard.recording import TT29, Recorded, fill
from tests.services import KafkaServer, PostgresServer


@dataclass(frozen=True)
class Seen:
    """The recording's history and a dashboard on it."""

    dashboard: Dashboard
    database: str
    recorded: Recorded

    def one(self, sql: str) -> tuple[Any, ...]:
        with psycopg.connect(self.database) as connection:
            row = connection.execute(sql).fetchone()  # type: ignore[call-overload]
        assert row is not None
        return tuple(row)


@pytest.fixture(scope="module")
def seen(
    shared_data: Path, kafka: KafkaServer, postgres: PostgresServer, migrated_template: str, server_logs: Path
) -> Iterator[Seen]:
    """Nineteen minutes of tt29 that end now, in which a service answers with errors three times."""
    name = f"test_recorded_{uuid4().hex[:8]}"
    database = postgres.create_database(name, template=migrated_template)
    recorded = fill(database, kafka, server_logs, shared_data / "tt29.otlp.zst", *TT29)
    with running_dashboard(server_logs / "recorded-dashboard.log", {"TRACEWATCH_DATABASE_URL": database}) as dashboard:
        yield Seen(dashboard, database, recorded)
    postgres.drop_database(name)


def test_every_trace_and_span_that_was_sent_is_there(seen: Seen, viewer: Viewer) -> None:
    assert seen.one("SELECT count(*), sum(span_count) FROM traces") == (seen.recorded.traces, seen.recorded.spans)
    viewer.open(seen.dashboard.address("pipeline", range="1h"))
    assert re.search(r"Spans stored\s+40\.8 k", viewer.text())
    viewer.see("How far each partition is stored")


def test_overview_begins_with_a_service_that_fails_and_leads_to_the_trace_that_says_why(
    seen: Seen, viewer: Viewer
) -> None:
    failing = {
        service for (service,) in [seen.one("SELECT error_service FROM traces WHERE error_count > 0 LIMIT 1")]
    } | {"ts-preserve-service", "ts-preserve-other-service", "ts-travel2-service"}
    page = viewer.open(seen.dashboard.address("", range="1h"))
    worst = page.locator(".card").first
    service = worst.get_attribute("data-service")
    assert service in failing
    assert page.locator(".card").count() == 12
    worst.click()
    viewer.wait_for_url(f"service={service}")
    page.get_by_role("link", name="Its failed traces").click()
    viewer.wait_for_url("status=error")
    page.locator("button.trace").first.click()
    viewer.see("Error began in")
    assert re.search(rf"Error began in\s+{service}", viewer.text())


def test_all_its_services_are_in_the_graph(seen: Seen, viewer: Viewer) -> None:
    (services,) = seen.one("SELECT count(DISTINCT service) FROM service_traces")
    page = viewer.open(seen.dashboard.address("service-flow", range="1h"))
    page.locator(".node").first.wait_for()
    assert page.locator(".node.service").count() == services
    assert page.locator(".node.database").count() == 1
    assert page.locator(".edge.bad").count() >= 3


def test_its_largest_trace_is_shown_whole_and_downloaded_as_it_was_sent(seen: Seen, viewer: Viewer) -> None:
    trace_id, spans = seen.one(
        "SELECT encode(trace_id, 'hex'), span_count FROM traces ORDER BY span_count DESC LIMIT 1"
    )
    page = viewer.open(seen.dashboard.address("traces", trace=trace_id))
    page.locator(".row").first.wait_for()
    expect(page.locator(".rows")).to_have_attribute("aria-rowcount", str(spans), timeout=PATIENCE_MS)
    page.get_by_role("button", name="Download").click()
    with page.expect_download() as otlp:
        page.get_by_role("button", name="OTLP JSON").click()
    document = json.loads(Path(otlp.value.path()).read_text())
    sent = [span for group in document["resourceSpans"] for scope in group["scopeSpans"] for span in scope["spans"]]
    assert len(sent) == spans


def test_its_errors_are_grouped_and_its_alerts_have_evidence(seen: Seen, viewer: Viewer) -> None:
    page = viewer.open(seen.dashboard.address("errors", range="1h"))
    assert re.search(r"\d+ errors, \d new kinds", viewer.text())
    page.locator(".pick").first.click()
    viewer.see("Sample traces")
    viewer.open(seen.dashboard.address("alerts", range="1h", show="history"))
    page.locator(".pick", has_text="ErrorSpans").first.click()
    viewer.see("shaded while it fired")
    page.locator(".js-plotly-plot .shapelayer path").first.wait_for(state="attached")
