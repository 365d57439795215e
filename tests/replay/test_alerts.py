"""Alerts of the past: those that a replay raises, and those that a back-test prints."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.replay.deployment import Deployment, deployment, lines_of
from tests.replay.troubled import FAULTY, labels, write_recording
from tests.services import KafkaServer, PostgresServer
from tests.sink.harness import eventually
from tracecore.topics import REPLAY_HEADER

TRIED = """\
defaults: false
rules:
  - {name: AnyErrorAtOrders, kinds: [error], severity: critical, match: {service: orders}}
"""


@pytest.fixture(scope="module")
def made(
    kafka: KafkaServer, postgres: PostgresServer, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    with deployment(kafka, postgres, migrated_template, tmp_path_factory.mktemp("alerts")) as running:
        yield running


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("recording") / "day.otlp")


@contextmanager
def webhook() -> Iterator[tuple[str, list[str]]]:
    """A receiver of notifications: its URL, and what it was sent."""
    bodies: list[str] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        # A daemon: a test that fails must not keep the run from its end.
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", bodies
        finally:
            server.shutdown()


def test_two_replays_raise_the_same_alerts_each_with_its_id_and_none_is_live(made: Deployment, recording: Path) -> None:
    raised = []
    # It sees the findings and alerts of replays, and is to pass them over, unless asked to tell of them.
    with (
        webhook() as (url, told),
        made.live_worker(alert_webhook_urls=json.dumps([url]), alert_group_wait_s="0"),
    ):
        for name in ("one", "other"):
            asked = ("--notify",) if name == "other" else ()
            said = made.replay("run", "--name", name, "--otlp", str(recording), *asked)
            assert ("receivers were told" if asked else "nobody was notified") in said
            raised.append(
                made.query(
                    "SELECT alertname, labels - 'replay_id', starts_at_ns, ends_at, evidence FROM alerts"
                    " JOIN replays USING (replay_id) WHERE name = %s ORDER BY alertname, starts_at_ns",
                    name,
                )
            )
            if not asked:
                assert not told
        eventually(lambda: told)
    (asked_for,) = made.query("SELECT replay_id FROM replays WHERE name = 'other'")[0]
    assert all(f'"replay_id": "{asked_for}"' in json.dumps(json.loads(body)) for body in told)
    assert {row[0] for row in raised[0]} >= {"ErrorSpans", "LatencyShift"}
    assert raised[0] == raised[1]
    assert not made.count("SELECT count(*) FROM alerts WHERE replay_id = ''")
    assert not made.count("SELECT count(*) FROM service_health WHERE replay_id = ''")
    assert all(REPLAY_HEADER in dict(record.headers) for record in made.records(made.topics.alerts, partitions=1))


def test_a_back_test_tells_what_other_rules_raise_and_scores_both(
    made: Deployment, recording: Path, tmp_path: Path
) -> None:
    rules, faults = tmp_path / "my_rules.yml", tmp_path / "labels.json"
    rules.write_text(TRIED)
    faults.write_text(json.dumps(labels()))
    before = made.derived()
    said = made.replay("backtest", "--rules", str(rules), "--otlp", str(recording), "--labels", str(faults))
    lines = lines_of(said)
    assert "my_rules.yml: 1 alerts" in lines, said
    assert "only under my_rules.yml: 1" in lines, said
    fired = next(line for line in lines if "AnyErrorAtOrders" in line)
    assert "2023-11-14 22:19" in fired and FAULTY in fired and "critical" in fired and "errors" in fired, said
    only_in_force = said[said.index("only under the rules in force:") :]
    assert "LatencyShift" in only_in_force and "AnyErrorAtOrders" not in only_in_force, said
    assert any(line.startswith("my_rules.yml: 1 of 1 faults recalled") for line in lines), said
    assert any(line.startswith("in force: 1 of 1 faults recalled") for line in lines), said
    assert made.derived() == before, "a back-test stores nothing"


def test_the_rules_in_force_differ_in_nothing_from_themselves(
    made: Deployment, recording: Path, tmp_path: Path
) -> None:
    rules = tmp_path / "same.yml"
    rules.write_text("defaults: true\n")
    said = made.replay("backtest", "--rules", str(rules), "--otlp", str(recording))
    assert "only under same.yml: 0" in said, said
    assert "only under the rules in force: 0" in said, said


def test_bad_rules_are_told_with_line_and_reason(made: Deployment, recording: Path, tmp_path: Path) -> None:
    rules = tmp_path / "bad.yml"
    rules.write_text(
        "rules:\n  - {name: One, kinds: [error], severity: info}\n  - {name: Two, kinds: [eror], severity: info}\n"
    )
    said = made.replay("backtest", "--rules", str(rules), "--otlp", str(recording), expect=1)
    assert "bad.yml:3: " in said and "eror" in said, said
    assert "Traceback" not in said, said
    assert "is no file" in made.replay("backtest", "--rules", str(tmp_path / "none.yml"), expect=1)
