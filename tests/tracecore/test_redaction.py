"""What is masked before it is stored: as the instrumentation masks it, in OTLP's messages."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from tests.services import ROOT
from tests.tracecore.builders import span
from tracecore.otlp import span_detail
from tracecore.redaction import BUILT_IN, MASK, Redaction

VECTORS = json.loads((ROOT / "tests/vectors/redaction.json").read_text())
CONFIGURED = Redaction(VECTORS["configured"]["keys"].split(","), VECTORS["configured"]["patterns"])
WITHOUT_DEFAULTS = Redaction(VECTORS["without_defaults"]["keys"].split(","), defaults=False)
CASES = [
    *((BUILT_IN, case) for case in VECTORS["attributes"]),
    *((CONFIGURED, case) for case in VECTORS["configured"]["attributes"]),
    *((WITHOUT_DEFAULTS, case) for case in VECTORS["without_defaults"]["attributes"]),
]
CARD = "4111111111111111"


def key_value(case: dict[str, Any]) -> bytes:
    raw = span(attributes={case["key"]: case["value"]}).raw
    return SpanMessage.FromString(raw).attributes[0].SerializeToString()


@pytest.mark.parametrize(("redaction", "case"), CASES, ids=[f"{case['key']}: {case['value']}" for _, case in CASES])
def test_attributes_are_masked_as_everywhere(redaction: Redaction, case: dict[str, Any]) -> None:
    raw = span(attributes={case["key"]: case["value"]}).raw
    masked = redaction.masked_span(raw)
    assert span_detail(masked).attributes == {case["key"]: case["masked"]}
    assert (masked is raw) == (case["masked"] == case["value"])
    assert redaction.touches(key_value(case)) == (case["masked"] != case["value"])
    assert redaction.masked_span(masked) is masked


@pytest.mark.parametrize("case", VECTORS["texts"], ids=[case["text"] for case in VECTORS["texts"]])
def test_texts_are_masked_as_everywhere(case: dict[str, str]) -> None:
    assert BUILT_IN.text(case["text"]) == case["masked"]


def test_every_part_of_a_span_is_masked_and_the_rest_stays() -> None:
    one = span(
        f"GET /pay/{CARD}",
        error=f"declined {CARD}",
        attributes={"http.route": "/pay", "cookie": "session=1"},
        events=[(f"tried {CARD}", 1, {"exception.message": f"no {CARD}", "n": 1})],
        links=[span()],
    )
    raw = SpanMessage.FromString(one.raw)
    raw.links[0].attributes.add(key="password").value.string_value = "hunter2"
    masked = BUILT_IN.masked_span(raw.SerializeToString())
    assert CARD.encode() not in masked
    assert b"session" not in masked and b"hunter2" not in masked
    detail, message = span_detail(masked), SpanMessage.FromString(masked)
    assert (message.name, detail.status_message) == (f"GET /pay/{MASK}", f"declined {MASK}")
    assert detail.attributes == {"http.route": "/pay", "cookie": MASK}
    assert detail.events[0].name == f"tried {MASK}"
    assert detail.events[0].attributes == {"exception.message": f"no {MASK}", "n": 1}
    assert detail.links[0].attributes == {"password": MASK}
    assert (message.trace_id, message.span_id) == (one.trace_id, one.span_id)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_attribute_have_no_secret(data: bytes) -> None:
    BUILT_IN.touches(data)
    BUILT_IN.masked_span(data)


@given(st.text(max_size=40), st.text(max_size=300), st.booleans())
def test_a_quick_no_is_what_the_whole_look_says(key: str, value: str, with_card: bool) -> None:
    text = f"{value} {CARD} {value}" if with_card else value
    pair = key_value({"key": key, "value": text})
    whole = Redaction(patterns=["(?!)"])  # with a pattern of its own it never takes the short way
    assert BUILT_IN.touches(pair) == whole.touches(pair)
