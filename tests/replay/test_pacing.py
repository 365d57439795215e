"""How fast a stretch is repeated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.errors import BadStretch
from replay.pacing import MAX_SPEED, Pace, parsed_speed

S = 1_000_000_000


@pytest.mark.parametrize(("text", "speed"), [("max", MAX_SPEED), ("1x", 1), ("10x", 10), ("0.5x", 0.5), ("3", 3)])
def test_speeds_are_multiples_of_real_time(text: str, speed: float) -> None:
    assert parsed_speed(text) == speed


@pytest.mark.parametrize("text", ["0x", "fast", "-1x", "x", ""])
def test_what_is_no_speed_is_refused(text: str) -> None:
    with pytest.raises(BadStretch, match="write max, 1x"):
        parsed_speed(text)


def test_ten_times_real_time_sends_ten_seconds_in_one() -> None:
    pace = Pace(speed=10)
    assert pace.wait_s(100 * S, now_s=5.0) == 0
    assert pace.wait_s(110 * S, now_s=5.0) == pytest.approx(1.0)
    assert pace.wait_s(110 * S, now_s=6.5) == 0


def test_full_speed_never_waits_but_for_the_bound_of_the_rate() -> None:
    assert Pace().wait_s(10**18, now_s=0.0) == 0
    bounded = Pace(spans_per_s=100)
    assert bounded.wait_s(0, now_s=0.0) == 0
    bounded.sent(50)
    assert bounded.wait_s(1, now_s=0.1) == pytest.approx(0.4)


@given(st.floats(0.1, 100), st.lists(st.tuples(st.integers(0, 10 * S), st.integers(0, 500)), min_size=1))
def test_who_waits_as_told_is_never_faster_than_the_bound(rate: float, records: list[tuple[int, int]]) -> None:
    pace = Pace(spans_per_s=rate)
    now_s = 0.0
    sent = 0
    for arrival_ns, spans in records:
        now_s += pace.wait_s(arrival_ns, now_s)
        assert sent <= rate * now_s + 1e-6
        pace.sent(spans)
        sent += spans
