"""What is masked before it leaves a service."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, Status, StatusCode

from tests.services import ROOT
from tracewatch.encoder import SpanEncoder
from tracewatch.ended_spans import EndedSpan, ended
from tracewatch.errors import InvalidSetting
from tracewatch.redaction import MASK, Redaction

VECTORS = json.loads((ROOT / "tests/vectors/redaction.json").read_text())
CONFIGURED = Redaction.from_environment(
    {
        "TRACEWATCH_REDACT_KEYS": VECTORS["configured"]["keys"],
        "TRACEWATCH_REDACT_PATTERNS": json.dumps(VECTORS["configured"]["patterns"]),
    }
)
WITHOUT_DEFAULTS = Redaction.from_environment(
    {"TRACEWATCH_REDACT_KEYS": VECTORS["without_defaults"]["keys"], "TRACEWATCH_REDACT_DEFAULTS": "false"}
)
CASES = [
    *((Redaction(), case) for case in VECTORS["attributes"]),
    *((CONFIGURED, case) for case in VECTORS["configured"]["attributes"]),
    *((WITHOUT_DEFAULTS, case) for case in VECTORS["without_defaults"]["attributes"]),
]

CARDS = [case["text"] for case in VECTORS["texts"] if case["masked"] != case["text"]]


@pytest.mark.parametrize(("redaction", "case"), CASES, ids=[f"{case['key']}: {case['value']}" for _, case in CASES])
def test_attributes_are_masked_as_everywhere(redaction: Redaction, case: dict[str, Any]) -> None:
    masked = MASK if redaction.is_secret(case["key"]) else redaction.value(case["value"])
    assert masked == case["masked"]


@pytest.mark.parametrize("case", VECTORS["texts"], ids=[case["text"] for case in VECTORS["texts"]])
def test_texts_are_masked_as_everywhere(case: dict[str, str]) -> None:
    assert Redaction().text(case["text"]) == case["masked"]


digits_and_separators = st.text("0123456789 -.aé", max_size=40)


@given(st.tuples(digits_and_separators, st.sampled_from([*CARDS, ""]), digits_and_separators).map("".join))
@pytest.mark.parametrize("redaction", [Redaction(), CONFIGURED, WITHOUT_DEFAULTS])
def test_where_nothing_may_be_masked_nothing_would_be(redaction: Redaction, text: str) -> None:
    assert redaction.may_mask(text.encode()) or redaction.text(text) == text


@pytest.mark.parametrize(
    ("name", "value"),
    [("PATTERNS", "["), ("PATTERNS", '["("]'), ("PATTERNS", '{"a": 1}'), ("DEFAULTS", "yes please")],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=f"TRACEWATCH_REDACT_{name}"):
        Redaction.from_environment({f"TRACEWATCH_REDACT_{name}": value})


CARD = "4111111111111111"


def leaky_span() -> EndedSpan:
    memory = InMemorySpanExporter()
    provider = TracerProvider(
        resource=Resource({"service.name": "s", "db.password": "hunter2"}), shutdown_on_exit=False
    )
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("t", attributes={"api_key": "hunter2"})
    with tracer.start_as_current_span("other") as other:
        linked = Link(other.get_span_context(), {"cookie": "s3ss10n"})
    span = tracer.start_span(f"GET /pay/{CARD}", links=[linked], attributes={"http.route": "/pay"})
    span.set_attribute("http.request.header.cookie", ["s3ss10n"])
    span.set_attribute("http.request.header.authorization", "Bearer b34r3r")
    span.set_attribute("cards", [CARD, "none"])
    span.set_attribute("card", int(CARD))
    span.set_status(Status(StatusCode.ERROR, f"declined {CARD}"))
    span.add_event(f"tried {CARD}", {"exception.message": f"no {CARD}", "password": "hunter2"})
    span.end()
    return ended(memory.get_finished_spans()[-1])


def test_no_byte_that_leaves_the_service_holds_a_secret() -> None:
    encoder = SpanEncoder()
    span = leaky_span()
    whole = [part for _ in range(2) for part in encoder.encoded(span)[1:]]  # the second time from what it has kept
    sent = repr(whole).encode() + encoder.span(span, 64) + encoder.span(span, 20)
    for secret in (CARD, CARD[:12], "s3ss10n", "b34r3r", "hunter2"):
        assert secret.encode() not in sent
    message = SpanMessage.FromString(encoder.span(span))
    attributes = {pair.key: pair.value for pair in message.attributes}
    assert message.name == "GET /pay/[redacted]"
    assert attributes["http.route"].string_value == "/pay"
    assert attributes["http.request.header.cookie"].string_value == MASK
    assert [value.string_value for value in attributes["cards"].array_value.values] == [MASK, "none"]


def test_what_is_masked_is_not_kept_in_memory() -> None:
    encoder = SpanEncoder()
    encoder.encoded(leaky_span())
    kept = {key for key, _ in encoder._of_spans}
    assert "http.route" in kept
    assert "http.request.header.authorization" not in kept
