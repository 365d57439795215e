"""Times as people type them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.errors import BadStretch
from replay.stretch import Stretch, parsed_time, unix_seconds

NOW_NS = 1_700_000_000_123_456_789
S = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("now", NOW_NS),
        ("90s", NOW_NS - 90 * S),
        ("2h", NOW_NS - 7200 * S),
        ("1.5m ago", NOW_NS - 90 * S),
        ("1d", NOW_NS - 86_400 * S),
        ("1700000000", 1_700_000_000 * S),
        ("1700000000.5", 1_700_000_000 * S + S // 2),
        ("1700000000.000000001", 1_700_000_000 * S + 1),
        ("2023-11-14T22:13:20", 1_700_000_000 * S),
        ("2023-11-14T22:13:20Z", 1_700_000_000 * S),
        ("2023-11-15T00:13:20+02:00", 1_700_000_000 * S),
        ("2023-11-14", 1_699_920_000 * S),
        ("2023-11-14T22:13:20.000001", 1_700_000_000 * S + 1000),
    ],
)
def test_times_are_read_as_people_write_them(text: str, expected_ns: int) -> None:
    assert parsed_time(text, NOW_NS) == expected_ns


@pytest.mark.parametrize("text", ["yesterday", "", "12", "2023-13-01", "h", "-5m"])
def test_what_is_no_time_is_told_with_an_example(text: str) -> None:
    with pytest.raises(BadStretch, match="write 2026-11-22T19:40"):
        parsed_time(text, NOW_NS)


@given(st.integers(100_000_000 * S, 9_999_999_999 * S))
def test_a_time_written_for_a_resumed_replay_is_the_same_to_the_nanosecond(time_ns: int) -> None:
    assert parsed_time(unix_seconds(time_ns), NOW_NS) == time_ns


def test_a_stretch_holds_its_beginning_and_not_its_end() -> None:
    stretch = Stretch(10, 20)
    assert [stretch.holds(at) for at in (9, 10, 19, 20)] == [False, True, True, False]
    assert [stretch.is_past(at) for at in (9, 19, 20)] == [False, False, True]
    assert Stretch().holds(0)


def test_a_stretch_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(BadStretch, match=r"ends .* before it begins"):
        Stretch(20, 20)
