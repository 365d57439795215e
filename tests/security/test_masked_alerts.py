"""What live alerts repeat of spans is masked where the finding is made: they leave before the sink sees anything."""

import pytest

from stream.detection.error_spans import ErrorSpans
from tests.services import run_room
from tests.tracecore.builders import closed, span
from tracecore.finding import Finding
from tracecore.redaction import MASK
from tracecore.settings import RedactionSettings, read
from tracecore.span import Span, SpanKind

CARD = "4111111111111111"
NOW = 10**18


def finding_of(one: Span, hook: ErrorSpans | None = None) -> Finding:
    (finding,) = (hook or ErrorSpans()).on_spans([one], NOW, 0)
    return finding


def test_a_status_message_is_masked() -> None:
    assert finding_of(span(error=f"declined {CARD}")).message == f"declined {MASK}"


def test_an_exceptions_message_and_type_are_masked() -> None:
    event = ("exception", 1, {"exception.message": f"no {CARD}", "exception.type": f"Declined {CARD}"})
    finding = finding_of(span(error=True, events=[event]))
    assert (finding.message, finding.labels["error_type"]) == (f"no {MASK}", f"Declined {MASK}")


def test_a_call_that_nobody_answered_is_masked_too() -> None:
    trace = closed([span("POST /pay", kind=SpanKind.CLIENT, error=f"no answer for {CARD}")])
    (finding,) = ErrorSpans().on_trace(trace)
    assert finding.message == f"no answer for {MASK}"


def test_a_secret_at_the_cut_is_masked_before_the_cut() -> None:
    message = finding_of(span(error="x" * 490 + " " + CARD)).message
    assert message == ("x" * 490 + " " + MASK)[:500]


def test_a_text_without_a_secret_stays() -> None:
    assert finding_of(span(error="timeout after 3000 ms")).message == "timeout after 3000 ms"


def configured() -> ErrorSpans:
    """As ``detection_agents.attach`` makes it."""
    return ErrorSpans(redaction=read(RedactionSettings).redaction)


def test_settings_add_keys_and_patterns_as_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEWATCH_REDACT_KEYS", "exception.message")
    monkeypatch.setenv("TRACEWATCH_REDACT_PATTERNS", '["sk_live_[0-9a-z]+"]')
    assert finding_of(span(error="key sk_live_abc1 is no more"), configured()).message == f"key {MASK} is no more"
    named = span(error=True, events=[("exception", 1, {"exception.message": "for Ann"})])
    assert finding_of(named, configured()).message == MASK


def test_settings_leave_the_built_in_ones_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEWATCH_REDACT_DEFAULTS", "false")
    assert finding_of(span(error=f"declined {CARD}"), configured()).message == f"declined {CARD}"


def test_a_wrong_setting_stops_the_worker_and_is_named() -> None:
    done = run_room("stream", environment={"TRACEWATCH_REDACT_PATTERNS": '["("]'})
    assert done.returncode == 1
    assert "TRACEWATCH_REDACT_PATTERNS" in done.stderr
