"""Sums over traces: the graph and the groups of errors."""

from hypothesis import given
from hypothesis import strategies as st

from sink.contributions import EdgeKey, Sums, changed, error_group_id
from sink.rows import ErrorSpan
from tests.sink.builders import NOON_NS, SECOND_NS
from tracecore.closed_trace import ServiceLink

LINK = ServiceLink("web", "db", "database", 2, 1, 300, 40, 1)


def test_calls_are_counted_by_minute_and_weighted_by_sampling() -> None:
    sums = Sums()
    sums.count_links([LINK], NOON_NS + 59 * SECOND_NS, 10_000)
    sums.count_links([LINK], NOON_NS + 61 * SECOND_NS, 1000)
    rows = dict(changed(sums.edges))
    first = rows[EdgeKey(NOON_NS, "web", "db", "database")]
    assert first == (2, 1, 20_000, 10_000, 300, 40, 1)
    assert len(rows) == 2


@given(st.lists(st.integers(0, 9), min_size=1), st.integers(1, 5000))
def test_what_is_replaced_is_taken_away_exactly(minutes: list[int], count_milli: int) -> None:
    sums = Sums()
    error = [ErrorSpan(b"1", "web", "GET /", "Timeout", "late", NOON_NS, True)]
    for sign in (1, -1):
        for minute in minutes:
            sums.count_links([LINK], NOON_NS + minute * 60 * SECOND_NS, count_milli, sign)
            sums.count_errors(error, b"t", sign)
    assert changed(sums.edges) == [] and changed(sums.errors) == []


@given(st.permutations([1, 5, 3, 5, 2]))
def test_the_newest_error_says_the_message_in_any_order(times: list[int]) -> None:
    sums = Sums()
    for time in times:
        sums.count_errors([ErrorSpan(b"1", "a", "b", "c", f"at {time}", NOON_NS + time, False)], bytes([time]))
    (group,) = sums.groups.values()
    assert (group.first_seen_ns, group.last_seen_ns, group.message) == (NOON_NS + 1, NOON_NS + 5, "at 5")
    assert group.group_id == error_group_id("a", "b", "c")


def test_a_name_with_nul_is_counted_under_a_name_that_can_be_stored() -> None:
    sums = Sums()
    sums.count_links([LINK._replace(callee="d\0b" + "x" * 5000)], NOON_NS, 1000)
    ((key, _),) = changed(sums.edges)
    assert "\0" not in key.callee and len(key.callee) <= 600
