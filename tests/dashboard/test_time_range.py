"""The URL's time range, and what is said where it is none."""

import pytest

from dashboard.time_range import HOUR_NS, MINUTE_NS, SECOND_NS, TimeRange, iso_of, ns_of, range_of

NOW = 1_769_860_800 * SECOND_NS


def test_a_preset_follows_the_clock() -> None:
    span, notice = range_of({"range": "15m"}, NOW)
    assert (span.start_ns, span.end_ns, span.preset, notice) == (NOW - 15 * MINUTE_NS, NOW, "15m", "")
    assert span.as_params() == {"range": "15m"}


def test_a_fixed_range_comes_back_from_its_own_url() -> None:
    fixed = TimeRange(NOW - HOUR_NS, NOW - 500_000_000)
    assert range_of(fixed.as_params(), NOW) == (fixed, "")


@pytest.mark.parametrize(
    "params",
    [
        {"range": "3y"},
        {"from": "yesterday", "to": "today"},
        {"to": iso_of(NOW)},
        {"from": iso_of(NOW), "to": iso_of(NOW - HOUR_NS)},
    ],
)
def test_a_link_without_a_usable_range_shows_the_last_hour_and_says_so(params: dict[str, str]) -> None:
    span, notice = range_of(params, NOW)
    assert span.preset == "1h"
    assert "last hour" in notice


def test_times_are_read_as_iso_and_as_milliseconds() -> None:
    assert ns_of("2026-01-31T12:00:00Z") == ns_of("2026-01-31T13:00:00+01:00") == ns_of("1769860800000") == NOW


def test_steps_are_round_and_about_as_many_as_wanted() -> None:
    assert TimeRange(0, HOUR_NS).step_ns(60) == MINUTE_NS
    assert TimeRange(0, 7 * 24 * HOUR_NS).step_ns(100) == 2 * HOUR_NS
