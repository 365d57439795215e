"""What replays brought: exports of other tools, alerts of the past, back-tests; through Kafka and stream to pages."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dashboard.conftest import DAY, Viewer, running_dashboard
from tests.replay.deployment import Deployment, deployment
from tests.replay.troubled import FAULTY, write_recording
from tests.services import KafkaServer, PostgresServer
from tests.tracecore.test_jaeger_json import T0_US, jaeger, one


@pytest.fixture
def made(kafka: KafkaServer, postgres: PostgresServer, migrated_template: str, tmp_path: Path) -> Iterator[Deployment]:
    with deployment(kafka, postgres, migrated_template, tmp_path) as running:
        yield running


def test_what_jaeger_and_zipkin_exported_appears_as_traces(
    made: Deployment, shared_data: Path, tmp_path: Path, viewer: Viewer
) -> None:
    exported = tmp_path / "jaeger.json"
    exported.write_bytes(jaeger(one(operationName="GET /of-jaeger")))
    assert " 1 traces new" in made.replay("run", "--jaeger", str(exported))
    said = made.replay("run", "--zipkin", str(shared_data / "fixtures" / "zipkin" / "messaging-kafka.json"))
    assert re.search(r" [1-9]\d* traces new", said), said
    ((of_zipkin, start_ns),) = made.query(
        "SELECT encode(trace_id, 'hex'), start_ns FROM traces WHERE 'servicea' = ANY (services)"
        " ORDER BY span_count DESC LIMIT 1"
    )
    with running_dashboard(tmp_path / "dashboard.log", {"TRACEWATCH_DATABASE_URL": made.database}) as dashboard:
        for service, at_ns in (("shop", T0_US * 1000), ("servicea", int(str(start_ns)))):
            around = {"from": str((at_ns - DAY) // 10**6), "to": str((at_ns + DAY) // 10**6)}
            page = viewer.open(dashboard.address("traces", service=service, **around))
            page.locator(".trace").first.wait_for()
        viewer.open(dashboard.address("traces", trace=str(of_zipkin)))
        viewer.page.locator(".row").first.wait_for()
        assert "servicea" in viewer.text()


def test_a_replay_and_a_back_test_that_were_run_are_on_the_page_of_alerts(
    made: Deployment, tmp_path: Path, viewer: Viewer
) -> None:
    recording, rules = write_recording(tmp_path / "day.otlp"), tmp_path / "my_rules.yml"
    rules.write_text("defaults: false\nrules: [{name: AnyErrorAtOrders, kinds: [error], severity: critical}]\n")
    made.replay("run", "--name", "incident", "--otlp", str(recording))
    made.replay("backtest", "--rules", str(rules), "--otlp", str(recording))
    with running_dashboard(tmp_path / "dashboard.log", {"TRACEWATCH_DATABASE_URL": made.database}) as dashboard:
        page = viewer.open(dashboard.address("alerts", show="replays"))
        text = viewer.text()
        assert "Replay incident" in text
        assert re.search(r"New traces\s+1440", text), text
        assert "Back-test of my_rules.yml" in text
        only_these = page.locator("tr", has_text="AnyErrorAtOrders").inner_text()
        assert "only these rules" in only_these and FAULTY in only_these
        assert "only those in force" in page.locator("tr", has_text="LatencyShift").first.inner_text()
