"""What is masked before it leaves a service."""

import json
from typing import Any

import pytest

from tests.services import ROOT
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


@pytest.mark.parametrize(("redaction", "case"), CASES, ids=[f"{case['key']}: {case['value']}" for _, case in CASES])
def test_attributes_are_masked_as_everywhere(redaction: Redaction, case: dict[str, Any]) -> None:
    masked = MASK if redaction.is_secret(case["key"]) else redaction.value(case["value"])
    assert masked == case["masked"]


@pytest.mark.parametrize("case", VECTORS["texts"], ids=[case["text"] for case in VECTORS["texts"]])
def test_texts_are_masked_as_everywhere(case: dict[str, str]) -> None:
    assert Redaction().text(case["text"]) == case["masked"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("PATTERNS", "["), ("PATTERNS", '["("]'), ("PATTERNS", '{"a": 1}'), ("DEFAULTS", "yes please")],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=f"TRACEWATCH_REDACT_{name}"):
        Redaction.from_environment({f"TRACEWATCH_REDACT_{name}": value})
