"""The alarms and the dashboard about Tracewatch itself: well formed, explained, and about figures that there are."""

import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from tests.conftest import environment_of
from tests.security.deployment import Room
from tests.services import ROOT, KafkaServer, PostgresServer, create_topic
from tracecore.topics import Topics

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "ops/prometheus/tracewatch-rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "ops/grafana/tracewatch.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [rule["expr"] for rule in RULES] + [target["expr"] for panel in PANELS for target in panel["targets"]]
_METRIC = re.compile(r"\btracewatch_[a-z_]+\b")


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alarm_is_whole_and_explained(rule: dict[str, Any]) -> None:
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"]
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
    promql_parser.parse(rule["expr"])
    assert f"| `{rule['alert']}` |" in (ROOT / "docs/operating.md").read_text(), "tell what it means in operating.md"


def test_names_of_alarms_are_unique() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


def test_the_dashboard_is_whole() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, f"{panel['title']} lies over another panel"
        assert all(x < 24 for x, _ in cells)
        taken |= cells
    for panel in PANELS:
        for target in panel["targets"]:
            promql_parser.parse(target["expr"])


def test_the_parser_refuses_what_is_no_expression() -> None:
    with pytest.raises(ValueError):
        promql_parser.parse("sum(rate(tracewatch_sink_spans_total[5m])")


@pytest.fixture(scope="module")
def exposed(
    kafka: KafkaServer, postgres: PostgresServer, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[set[str]]:
    """The names of all figures that running rooms show."""
    topics = Topics("test-ops.", "test-ops.otlp_spans")
    for spec in topics.specs():
        create_topic(kafka.bootstrap_servers, spec.name, 1, dict(spec.config))
    database = postgres.create_database("test_ops", template=migrated_template)
    logs: Path = tmp_path_factory.mktemp("ops")
    names: set[str] = set()
    environment = {**environment_of(kafka, topics), "TRACEWATCH_DATABASE_URL": database}
    with ExitStack() as stack:
        rooms = [
            stack.enter_context(Room(name, environment, logs / f"{name}.log"))
            for name in ("stream", "sink", "live_api", "tracewatch.gateway")
        ]
        for room in rooms:
            room.wait_until_well()
            with urllib.request.urlopen(f"http://127.0.0.1:{room.port}/metrics", timeout=10) as answer:
                names |= _exposed_by(answer.read().decode())
    yield names
    postgres.drop_database("test_ops")


def _exposed_by(exposition: str) -> set[str]:
    names = set()
    for line in exposition.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            names |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if kind == "histogram" else {name}
    return names


def test_every_figure_that_alarms_and_dashboard_name_is_exposed(exposed: set[str]) -> None:
    named = {name for expression in EXPRESSIONS for name in _METRIC.findall(expression)}
    assert len(named) > 30
    assert named - exposed == set()
