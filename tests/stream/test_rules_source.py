"""A rules file that changes while it is in use."""

import os
from pathlib import Path

import pytest

from stream.alerting.rules import DEFAULT_RULES
from stream.alerting.rules_file import BadRules
from stream.rules_source import RulesSource

ONE_RULE = "defaults: false\nrules: [{name: A, kinds: [error], severity: info}]\n"


def test_without_a_file_the_built_in_rules_hold() -> None:
    source = RulesSource(None)
    assert source.book.rules == DEFAULT_RULES
    assert not source.has_changed()


def test_bad_file_stops_the_start_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("rules:\n  - name: A\n    kinds: [eror]\n    severity: info\n")
    with pytest.raises(BadRules, match=r"rules\.yaml:3: 'eror'"):
        RulesSource(path)


def test_change_is_taken_up_once(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("")
    source = RulesSource(path)
    assert not source.has_changed()
    path.write_text(ONE_RULE)
    os.utime(path, (1, 1))
    assert source.has_changed()
    assert [rule.name for rule in source.book.rules] == ["A"]
    assert not source.has_changed()


def test_change_that_is_bad_or_a_file_that_is_gone_leaves_the_rules_as_they_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(ONE_RULE)
    source = RulesSource(path)
    path.write_text("rules: nothing\n")
    os.utime(path, (2, 2))
    assert not source.has_changed()
    assert "the rules stay as they were" in caplog.text
    assert f"{path}:1" in caplog.text
    path.unlink()
    assert not source.has_changed()
    assert [rule.name for rule in source.book.rules] == ["A"]
