"""The alert feed's messages, in the order and disorder in which they come."""

import json

import pytest

from dashboard.alert_board import AlertBoard
from tracecore.alert import Alert, AlertStatus, Evidence
from tracecore.errors import MalformedPayload
from tracecore.wire import encode_alert


def event(status: AlertStatus, starts: int = 1, updated: int = 1, replay_id: str = "") -> bytes:
    alert = Alert(
        "f" * 16,
        status,
        {"service": "a", "severity": "warning"},
        {},
        starts,
        updated,
        None,
        0,
        Evidence(1, None, "ns", 1, ()),
        replay_id,
    )
    return b'{"type":"alert","cursor":"c%d","alert":%b}' % (updated, encode_alert(alert))


def test_an_alert_fires_and_is_resolved_and_both_are_remembered_newest_first() -> None:
    board = AlertBoard(0)
    board.take(event("firing", updated=1))
    assert [alert.status for alert in board.state().firing] == ["firing"]
    board.take(event("resolved", updated=2))
    state = board.state()
    assert state.firing == ()
    assert [alert.status for alert in state.events] == ["resolved", "firing"]
    assert board.cursor == "c2"


def test_what_comes_twice_counts_once_and_a_late_end_of_an_earlier_episode_ends_no_later_one() -> None:
    board = AlertBoard(0)
    board.take(event("firing", starts=5, updated=5))
    board.take(event("firing", starts=5, updated=5))
    assert len(board.state().events) == 1
    board.take(event("firing", starts=9, updated=9))
    board.take(event("resolved", starts=5, updated=6))
    assert [alert.starts_at_ns for alert in board.state().firing] == [9]


def test_a_snapshot_replaces_what_fires_and_replays_never_fire() -> None:
    board = AlertBoard(0)
    board.take(event("firing"))
    board.take(b'{"type":"snapshot","cursor":"s","alerts":[]}')
    assert board.state().firing == ()
    board.take(event("firing", replay_id="r1"))
    assert board.state().firing == ()
    assert board.state().events[0].replay_id == "r1"


def test_a_gap_is_told_and_unknown_kinds_only_move_the_cursor() -> None:
    board = AlertBoard(0)
    board.take(json.dumps({"type": "gap", "cursor": "g", "reason": "expired", "lost": 3, "detail": "three are gone"}))
    assert board.state().gap == "three are gone"
    version = board.state().version
    board.take('{"type":"news","cursor":"n"}')
    assert (board.cursor, board.state().version) == ("n", version)


@pytest.mark.parametrize("message", ["", "[]", "{", '{"type":"alert","alert":{}}', b"\xff"])
def test_what_is_no_message_is_refused_and_changes_nothing(message: str | bytes) -> None:
    board = AlertBoard(0)
    with pytest.raises(MalformedPayload):
        board.take(message)
    assert board.state().events == ()
