from dataclasses import fields
from pathlib import Path

import pytest

from stream.alerting.rules import DEFAULT_RULES, MINUTE_NS, SECOND_NS
from stream.alerting.rules_file import BadRules, RuleBook, parsed_rules, read_rules
from stream.detection.knobs import Knobs

MS = 1_000_000

GOOD = """
rules:
  - name: CheckoutErrors
    kinds: [error]
    severity: critical
    match: {service: checkout}
    min_count: 3
    within: 1m
    for: 1500ms
    resolve_after: 2m
    repeat_interval: 1h
    learns: true
"""


def test_rule_is_read_with_its_times_and_the_built_in_rules_stay() -> None:
    rules = parsed_rules(GOOD).rules
    assert rules[:-1] == DEFAULT_RULES
    rule = rules[-1]
    assert (rule.name, rule.min_count, rule.within_ns, rule.for_ns) == ("CheckoutErrors", 3, MINUTE_NS, 1.5 * SECOND_NS)
    assert rule.match == (("service", "checkout"),)


def test_rule_of_the_same_name_replaces_a_built_in_one_and_defaults_can_be_left_out() -> None:
    (only,) = parsed_rules("defaults: false\nrules: [{name: ErrorSpans, kinds: [error], severity: info}]").rules
    assert only.severity == "info"
    both = parsed_rules("rules: [{name: ErrorSpans, kinds: [error], severity: info}]").rules
    assert len(both) == len(DEFAULT_RULES)


def test_empty_file_means_the_built_in_rules() -> None:
    assert parsed_rules("# nothing yet\n") == RuleBook()


KNOBS = """
detection:
  - {detector: latency, service: checkout, min_ratio: 3}
  - {detector: latency, floor: 20ms, min_surprise: 20}
  - {detector: rates, service: checkout, min_error_share: 0.2}
  - {detector: slow_spans, service: cart, min_count: 500, floor: 1s}
  - {detector: dependencies, service: cart, missed_calls: 50}
"""


def test_knobs_of_all_services_hold_for_each_and_those_of_one_over_them() -> None:
    tuning = parsed_rules(KNOBS).tuning
    checkout, cart, other = (tuning.of(service) for service in ("checkout", "cart", "other"))
    assert (checkout.latency.min_ratio, checkout.latency.floor_ns, checkout.latency.min_surprise) == (3, 20 * MS, 20)
    assert (other.latency.min_ratio, other.latency.floor_ns) == (2, 20 * MS)
    assert (checkout.rates.min_error_share, cart.rates.min_error_share) == (0.2, 0.05)
    assert (cart.slow_spans.min_count, cart.slow_spans.floor_ns, other.slow_spans.min_count) == (500, 1000 * MS, 100)
    assert (cart.dependencies.missed_calls, other.dependencies.missed_calls) == (50, 16)


def test_every_knob_can_be_set_for_one_service() -> None:
    for detector in fields(Knobs):
        for knob in fields(getattr(Knobs(), detector.name)):
            name, value = (knob.name[:-3], "7ms") if knob.name.endswith("_ns") else (knob.name, "7")
            tuning = parsed_rules(f"detection: [{{detector: {detector.name}, service: a, {name}: {value}}}]").tuning
            assert getattr(getattr(tuning.of("a"), detector.name), knob.name) in (7, 7 * MS)
            assert tuning.of("b") == Knobs()


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("rules:\n  - name: A\n    kinds: [error]\n", 2, "no severity"),
        ("rules:\n  - name: A\n    kinds: [eror]\n    severity: info\n", 3, "'eror' is none of"),
        ("rules:\n  - name: A\n    kinds: [error]\n    severity: fatal\n", 4, "'fatal' is none of"),
        ("rules:\n  - name: A\n    kinds: [error]\n    severity: info\n    within: soon\n", 5, "a duration such as"),
        ("rules:\n  - name: A\n    kinds: [error]\n    severity: info\n    min_count: -1\n", 5, "positive number"),
        ("rules:\n  - name: A\n    kind: [error]\n    severity: info\n", 3, "unknown key 'kind'"),
        ("thresholds:\n- {name: A, service: a, metric: p99}\n", 2, "either above or below"),
        ("thresholds:\n- {name: A, service: a, metric: p99, above: 3}\n", 2, "a duration such as"),
        ("objectives:\n- {name: A, service: a, target: 100}\n", 2, "below 100"),
        ("detection:\n- {detector: latency, floor: 3}\n", 2, "a duration such as"),
        ("detection:\n- {detector: latency}\n- {detector: latency, flor: 3s}\n", 3, "unknown key 'flor'"),
        ("detection:\n- {detector: speed}\n", 2, "'speed' is none of"),
        ("detection:\n- {service: a}\n", 2, "detector is missing"),
        ("rules: {}\n", 1, "expected a list"),
        ("rules: [\n", 2, "not YAML"),
        ("[" * 5000, 0, "nested too deeply"),
        (f"thresholds:\n- {{name: A, service: a, metric: p99, above: {'9' * 400}d}}\n", 2, "at most 3650d"),
        (
            "rules:\n- {name: A, kinds: [error], severity: info}\n- {name: A, kinds: [error], severity: info}\n",
            3,
            "two rules",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, line: int, reason: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(BadRules, match=reason) as caught:
        read_rules(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")


def test_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadRules, match="cannot be read"):
        read_rules(tmp_path / "none.yaml")
