from pathlib import Path

import pytest

from stream.alerting.rules import DEFAULT_RULES, MINUTE_NS, SECOND_NS
from stream.alerting.rules_file import BadRules, RuleBook, parsed_rules, read_rules

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
