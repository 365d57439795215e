"""Messages are as docs/asyncapi.yaml says."""

import json
from typing import Any

import jsonschema_rs
import pytest
import yaml

from live_api.events import alert_event, trace_event
from live_api.messages import Gap, event_message, gap_message, heartbeat_message, snapshot_message
from tests.live_api.builders import alert, closed_trace
from tests.services import ROOT
from tracecore.wire import encode_alert, encode_trace

ALERT = alert_event(0, 0, encode_alert(alert())).body
TRACE = trace_event(0, 0, encode_trace(closed_trace())[0])
assert TRACE is not None

MESSAGES = {
    "AlertSnapshot": snapshot_message("alerts", "a1-1", [ALERT, ALERT]),
    "TraceSnapshot": snapshot_message("traces", "t1-1.2", []),
    "Alert": event_message("alert", "a1-1", ALERT),
    "Trace": event_message("trace", "t1-1.2", TRACE.body),
    "Heartbeat": heartbeat_message("a1-1"),
    "Gap": gap_message(Gap("a1-1", "expired", 3, "gone")),
    "Authenticate": b'{"type": "authenticate", "token": "abc"}',
}


def document() -> dict[str, Any]:
    """The AsyncAPI document."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())
    return loaded


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_message_fits_its_schema_and_no_other(name: str) -> None:
    components = document()["components"]
    assert components["messages"].keys() == MESSAGES.keys()
    said = json.loads(MESSAGES[name])
    for other, message in components["messages"].items():
        schema = {**message["payload"], "components": components}
        fits = jsonschema_rs.validator_for(schema).is_valid(said)
        assert fits == (other == name), f"{name} against {other}"
    known = components["messages"][name]["payload"]["properties"]
    assert said.keys() == known.keys()
