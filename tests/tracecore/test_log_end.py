"""A log that ends before what was read from it is another log; one answer alone does not say so."""

from tracecore.log_end import LogEnds


def test_a_log_that_a_later_answer_still_ends_before_the_place_is_anew() -> None:
    ends = LogEnds()
    assert not ends.is_anew(0, 100, 7, answered_ms=1)
    assert not ends.is_anew(0, 100, 7, answered_ms=1)
    assert ends.is_anew(0, 100, 7, answered_ms=2)


def test_records_that_came_with_an_older_end_are_no_new_log() -> None:
    ends = LogEnds()
    assert not ends.is_anew(0, 100, 98, answered_ms=1)
    assert not ends.is_anew(0, 120, 110, answered_ms=2)  # the end has passed the first place, and so it goes on
    assert not ends.is_anew(0, 130, 121, answered_ms=3)


def test_an_end_that_catches_up_takes_the_doubt_away() -> None:
    ends = LogEnds()
    assert not ends.is_anew(0, 100, 98, answered_ms=1)
    assert not ends.is_anew(0, 100, 100, answered_ms=2)
    assert not ends.is_anew(0, 105, 104, answered_ms=3)


def test_partitions_are_doubted_apart() -> None:
    ends = LogEnds()
    assert not ends.is_anew("a", 100, 7, answered_ms=1)
    assert not ends.is_anew("b", 100, 7, answered_ms=2)
    assert ends.is_anew("a", 100, 7, answered_ms=2)
