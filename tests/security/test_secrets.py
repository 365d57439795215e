"""Rooms say nothing secret, whatever goes wrong and however much they are asked to say; and say it in JSON if told."""

import json
import time
from pathlib import Path

import pytest

from tests.security.deployment import PAGES, Room, eventually
from tests.services import run_room

#: One secret in every setting that holds one; each is a word that stands nowhere else.
SECRETS = {
    "TRACEWATCH_KAFKA_SASL_USERNAME": "someone",
    "TRACEWATCH_KAFKA_SASL_PASSWORD": "kafka-s3cret",
    "TRACEWATCH_DATABASE_URL": "postgresql://tracewatch:url-s3cret@127.0.0.1:1/tracewatch",
    "PGPASSWORD": "libpq-s3cret",
    "TRACEWATCH_LIVE_API_TOKENS": "token-s3cret",
    "TRACEWATCH_DASHBOARD_LIVE_API_TOKEN": "dashboard-s3cret",
    "TRACEWATCH_GATEWAY_TOKEN": "gateway-s3cret",
    "TRACEWATCH_STREAM_ALERT_WEBHOOK_URLS": '["http://hook:webhook-s3cret@127.0.0.1:1/hook-s3cret"]',
    "TRACEWATCH_STREAM_ALERT_ALERTMANAGER_URLS": '["http://am:alertmanager-s3cret@127.0.0.1:1"]',
    "TRACEWATCH_STREAM_ALERT_SLACK_URLS": '["http://127.0.0.1:1/services/slack-s3cret"]',
}
#: Nothing listens on port 1: every connection fails, and the rooms tell.
FAILING = {
    "TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "TRACEWATCH_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "TRACEWATCH_STREAM_BROKER_TIMEOUT_S": "2",
    "TRACEWATCH_SINK_BROKER_TIMEOUT_S": "2",
    "TRACEWATCH_LOG_LEVEL": "DEBUG",
    "TRACEWATCH_LOG_FORMAT": "json",
}
ENVIRONMENT = {**SECRETS, **FAILING}
LISTEN_S = 4.0


def secrets_in(said: str) -> list[str]:
    return [line for line in said.splitlines() if "s3cret" in line]


@pytest.mark.parametrize("room", PAGES)
def test_a_room_whose_servers_are_away_says_no_secret_and_every_line_is_json(room: str, tmp_path: Path) -> None:
    with Room(room, ENVIRONMENT, tmp_path / "room.log") as running:
        eventually(lambda: bool(running.said()) or not running.process.is_running, timeout_s=60)
        deadline = time.monotonic() + LISTEN_S
        while time.monotonic() < deadline and running.process.is_running:
            running.status()
            time.sleep(0.2)
    said = running.said()
    assert said.strip()
    assert secrets_in(said) == []
    for line in said.splitlines():
        document = json.loads(line)
        assert {"time", "level", "logger", "room", "message"} <= document.keys()
        assert document["room"] == room.rpartition(".")[2]


@pytest.mark.parametrize(
    ("room", "arguments"),
    [
        ("migrations", ["up"]),
        ("replay", ["list"]),
        ("replay", ["run", "--dry-run"]),
        ("sink", ["retention"]),
        ("sink", ["dead-letters", "list"]),
    ],
)
def test_a_command_that_fails_says_no_secret(room: str, arguments: list[str]) -> None:
    outcome = run_room(room, *arguments, environment=ENVIRONMENT)
    assert outcome.returncode == 1
    assert secrets_in(outcome.stdout + outcome.stderr) == []


@pytest.mark.parametrize(
    ("room", "variable", "value"),
    [
        # What libpq cannot read it repeats: a password with a bare % would be told.
        ("sink", "TRACEWATCH_DATABASE_URL", "postgresql://tracewatch:50%s3cret@127.0.0.1:1/tracewatch"),
        ("migrations", "TRACEWATCH_DATABASE_URL", "postgresql://tracewatch:50%s3cret@127.0.0.1:1/tracewatch"),
        ("migrations", "TRACEWATCH_DATABASE_URL", "postgresql://tracewatch:s3cret@127.0.0.1:port/tracewatch"),
        ("stream", "TRACEWATCH_STREAM_ALERT_SLACK_URLS", "http://127.0.0.1:1/s3cret"),
        ("stream", "TRACEWATCH_STREAM_ALERT_SLACK_URLS", '[{"s3cret": 1}]'),
        ("live_api", "TRACEWATCH_LIVE_API_TOKENS_FILE", "/s3cret-free/no-such-file"),
        ("tracewatch.gateway", "TRACEWATCH_KAFKA_SASL_MECHANISM", "NONE"),
    ],
)
def test_a_wrong_setting_is_named_and_not_repeated(room: str, variable: str, value: str) -> None:
    outcome = run_room(room, *(["up"] if room == "migrations" else []), environment={**ENVIRONMENT, variable: value})
    assert outcome.returncode != 0
    assert variable in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert secrets_in(outcome.stdout + outcome.stderr.replace("s3cret-free", "")) == []


@pytest.mark.parametrize("room", ["stream", "sink", "live_api", "dashboard", "tracewatch.gateway", "migrations"])
@pytest.mark.parametrize(("variable", "value"), [("TRACEWATCH_LOG_FORMAT", "xml"), ("TRACEWATCH_LOG_LEVEL", "loud")])
def test_a_wrong_way_to_log_stops_the_start(room: str, variable: str, value: str) -> None:
    outcome = run_room(room, *(["up"] if room == "migrations" else []), environment={variable: value})
    assert outcome.returncode in (1, 2)
    assert variable in outcome.stderr
