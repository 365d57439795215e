"""How far sending is ahead of the workers."""

from replay.backlog import Backlog


def test_what_is_committed_as_a_whole_is_no_backlog() -> None:
    backlog = Backlog()
    backlog.note({0: 10, 1: 5}, 1000)
    backlog.note({0: 20, 1: 9}, 2500)
    assert backlog.ahead_bytes({}) == 2500
    assert backlog.ahead_bytes({0: 15, 1: 4}) == 2500, "partition 1 is behind the first note"
    assert backlog.ahead_bytes({0: 15, 1: 5}) == 1500
    assert backlog.ahead_bytes({0: 20, 1: 9}) == 0
