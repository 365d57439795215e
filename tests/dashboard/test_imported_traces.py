"""What other tools exported, imported by a replay: through Kafka, stream and sink, to the pages."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dashboard.conftest import DAY, Viewer, running_dashboard
from tests.replay.deployment import Deployment, deployment
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
