"""Messages are as docs/asyncapi.yaml says."""

import json
from typing import Any

import jsonschema_rs
import pytest
import yaml

from live_api.errors import InvalidParameter
from live_api.events import alert_event, trace_event
from live_api.filters import alert_filter, trace_filter
from live_api.messages import VERSION, Gap, event_message, gap_message, heartbeat_message, snapshot_message
from live_api.websocket import SUBPROTOCOL
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


#: A value of each parameter of a feed.
ALERT_QUERY = {"service": "a", "severity": "info", "kind": "k", "status": "firing", "replay": "all"}
TRACE_QUERY = {"service": "a", "min_duration_ms": "1.5", "errors_only": "true", "replay": "r"}


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


def test_version_is_that_of_the_messages_and_of_the_subprotocol() -> None:
    assert document()["info"]["version"] == str(VERSION)
    assert SUBPROTOCOL.removeprefix("tracewatch.v") == str(VERSION)
    assert json.loads(MESSAGES["AlertSnapshot"])["version"] == VERSION


def test_feeds_take_the_parameters_that_are_documented_and_no_others() -> None:
    for feed, read, values in (("alerts", alert_filter, ALERT_QUERY), ("traces", trace_filter, TRACE_QUERY)):
        documented = document()["channels"][feed]["bindings"]["ws"]["query"]
        assert documented["additionalProperties"] is False
        assert documented["properties"].keys() == values.keys() | {"after"}
        read({name: [value] for name, value in values.items()})
        with pytest.raises(InvalidParameter):
            read({"colour": ["red"]})


def test_every_message_has_a_cursor_and_a_type_of_its_own() -> None:
    messages = document()["components"]["messages"]
    for name, message in messages.items():
        assert "const" in message["payload"]["properties"]["type"]
        assert ("cursor" in message["payload"]["required"]) is (name != "Authenticate")
