"""A cursor notices what did not come, asks for it once, and believes a gap that comes again."""

from stream.continuity import FIRST_LOST_AFTER_S, LOST_AFTER_S, Cursor


def test_records_in_order_are_read() -> None:
    cursor = Cursor(5, now_s=0)
    assert [cursor.judge(offset, 0) for offset in (5, 6, 7)] == ["read", "read", "read"]
    assert cursor.next_offset == 8


def test_what_was_read_before_is_passed_over() -> None:
    cursor = Cursor(5, now_s=0)
    cursor.judge(5, 0)
    assert cursor.judge(5, 0) == "pass"
    assert cursor.judge(3, 0) == "pass"


def test_a_gap_is_asked_for_once_and_what_follows_it_waits() -> None:
    cursor = Cursor(5, now_s=0)
    assert [cursor.judge(offset, 0) for offset in (8, 9, 10)] == ["missing", "pass", "pass"]
    # After the seek everything comes, in order.
    assert [cursor.judge(offset, 0) for offset in (5, 6, 7, 8, 9)] == ["read"] * 5


def test_a_gap_that_comes_again_is_in_the_topic() -> None:
    cursor = Cursor(5, now_s=0)
    assert cursor.judge(8, 0) == "missing"
    assert [cursor.judge(offset, 0) for offset in (8, 9)] == ["read", "read"]


def test_records_lost_at_the_end_of_a_partition_are_noticed_after_a_while_and_asked_for_again_after_another() -> None:
    cursor = Cursor(5, now_s=0)
    cursor.judge(5, 10)
    assert not cursor.has_lost(position=6, now_s=100)
    assert not cursor.has_lost(position=9, now_s=10 + LOST_AFTER_S / 2)
    assert cursor.has_lost(position=9, now_s=10 + LOST_AFTER_S)
    assert not cursor.has_lost(position=9, now_s=11 + LOST_AFTER_S)
    assert cursor.has_lost(position=9, now_s=10 + 2 * LOST_AFTER_S)


def test_what_was_handed_out_first_and_did_not_come_is_asked_for_soon_but_only_once() -> None:
    cursor = Cursor(start=7, now_s=10)
    assert not cursor.has_lost(position=9, now_s=10 + FIRST_LOST_AFTER_S / 2)
    assert cursor.has_lost(position=9, now_s=10 + FIRST_LOST_AFTER_S)
    assert not cursor.has_lost(position=9, now_s=10 + 2 * FIRST_LOST_AFTER_S)
    assert cursor.has_lost(position=9, now_s=10 + FIRST_LOST_AFTER_S + LOST_AFTER_S)
