"""How well alerts name labelled faults."""

import json
from pathlib import Path

import pytest

from replay.errors import SourceUnreadable
from replay.scoring import Fault, Raised, read_labels, scored

CHECKOUT = Fault("checkout", 1000, 1300)


def test_an_alert_on_the_faulty_service_recalls_the_fault_and_tells_its_delay() -> None:
    score = scored([CHECKOUT], [Raised("checkout", 1030, 1200)])
    assert (score.recalled, score.incidents, score.named, score.explained) == (1, 1, 1, 1)
    assert score.median_delay_s == 30
    assert "1 of 1 faults recalled" in score.line()


def test_an_alert_elsewhere_during_the_fault_is_explained_but_names_nothing() -> None:
    score = scored([CHECKOUT], [Raised("web", 1030, 1200)])
    assert (score.recalled, score.named, score.explained) == (0, 0, 1)
    assert score.median_delay_s is None


def test_an_alert_without_a_fault_is_false() -> None:
    score = scored([CHECKOUT], [Raised("checkout", 5000, 5100)])
    assert (score.recalled, score.named, score.explained) == (0, 0, 0)
    assert "1 are false" in score.line()


def test_episodes_close_to_each_other_are_one_incident() -> None:
    score = scored([CHECKOUT], [Raised("checkout", 1030, 1100), Raised("checkout", 1200, 1250)])
    assert score.incidents == 1
    assert scored([CHECKOUT], [Raised("checkout", 1030, 1100), Raised("checkout", 1230, 1250)]).incidents == 2


def test_labels_are_read_from_their_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    fault = {"service": "checkout", "start_unix": 1000, "end_unix": 1300, "kind": "cpu"}
    path.write_text(json.dumps({"faults": [fault]}))
    assert read_labels(path) == [CHECKOUT]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"faults": [{"service": "a"}]}'])
def test_a_file_without_labels_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(SourceUnreadable, match=r"labels\.json: no labels of faults"):
        read_labels(path)
